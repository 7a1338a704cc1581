//! Messages of JSON alone: what is fed to the decoder is the message, so that nothing is done for each of them beside.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::{Error, Result};

use crate::RecordError;
use crate::json::{JsonDecoder, JsonOptions};
use crate::message::{BadMessage, Decoded, MessageDecoder, Progress};

/// Decodes messages of plain JSON.
pub(super) struct JsonMessages {
    schema: SchemaRef,
    decoder: JsonDecoder,
    fed: usize,
    errors: Vec<RecordError>,
}

impl JsonMessages {
    pub(super) fn try_new(schema: &SchemaRef, options: &JsonOptions) -> Result<Self, String> {
        let mut decoder = JsonDecoder::try_new(Arc::clone(schema), options.clone()).map_err(|e| e.to_string())?;
        decoder.track_offsets(true);
        Ok(Self { schema: Arc::clone(schema), decoder, fed: 0, errors: Vec::new() })
    }
}

impl MessageDecoder for JsonMessages {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode(&mut self, messages: &[Option<&[u8]>], max_rows: usize, bad: &mut Vec<BadMessage>) -> Progress {
        let done = self.decoder.decode_messages(messages, self.fed, max_rows, &mut self.errors);
        // Messages between two flushes are far fewer than 2³².
        bad.extend(self.errors.drain(..).map(|e| BadMessage { message: e.offset as u32, reason: e.reason }));
        self.fed += done;
        Progress { done, ..Progress::default() }
    }

    fn rows(&self) -> usize {
        self.decoder.rows()
    }

    fn bytes(&self) -> usize {
        self.decoder.bytes()
    }

    fn flush(&mut self) -> Result<Option<Decoded>> {
        self.fed = 0;
        let messages = self.decoder.take_offsets().into_iter().map(|at| at as u32).collect();
        let batch = self.decoder.flush().map_err(|e| Error::internal("rows of JSON messages").caused_by(e))?;
        Ok(batch.map(|batch| Decoded { batch, kinds: None, messages }))
    }
}
