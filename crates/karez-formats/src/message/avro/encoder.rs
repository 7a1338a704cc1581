//! Batches to Avro messages, on `arrow-avro`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_avro::schema::SCHEMA_METADATA_KEY;
use arrow_avro::writer::format::AvroBinaryFormat;
use arrow_avro::writer::{EncodedRows, Encoder, WriterBuilder};
use karez_core::{Error, Result};

use super::schema::RecordSchema;
use crate::message::conform::Conform;
use crate::message::{AvroFraming, MessageEncoder, Payloads, RegisteredSchema, Registration, SchemaId, SchemaKind, framing};

/// Writes rows with one schema.
pub(super) struct AvroEncoder {
    writing: Writing,
    /// The columns that come.
    input: SchemaRef,
    registration: Option<Registration>,
    /// What stands before each datum; `None` while the schema's id is not known.
    header: Option<Vec<u8>>,
}

/// A schema, and how rows are written with it.
struct Writing {
    conform: Conform,
    encoder: Encoder,
}

impl Writing {
    fn try_new(schema: &RecordSchema, input: &SchemaRef) -> Result<Self, String> {
        let arrow = schema.arrow()?;
        if let Some(column) = input.fields().iter().find(|f| arrow.column_with_name(f.name()).is_none()) {
            return Err(format!("the Avro schema has no field for the column `{}`", column.name()));
        }
        let conform = Conform::by_name(input.fields(), &arrow)?;
        let metadata = [(SCHEMA_METADATA_KEY.to_owned(), schema.avro().json_string)].into();
        let arrow = Schema::new_with_metadata(arrow.fields().clone(), metadata);
        let encoder = WriterBuilder::new(arrow).build_encoder::<AvroBinaryFormat>().map_err(|e| e.to_string())?;
        Ok(Self { conform, encoder })
    }

    /// Encodes all rows, or says why one of them cannot be.
    fn encode(&mut self, batch: &RecordBatch) -> Result<EncodedRows, String> {
        let batch = self.conform.apply(batch)?;
        let encoded = self.encoder.encode(&batch);
        let rows = self.encoder.flush();
        encoded.map_err(|e| e.to_string())?;
        if rows.len() == batch.num_rows() { Ok(rows) } else { Err("the encoder lost a row".to_owned()) }
    }
}

impl AvroEncoder {
    pub(super) fn try_new(schema: &RecordSchema, input: &SchemaRef, framing: AvroFraming) -> Result<Self, String> {
        let (header, registration) = match framing {
            AvroFraming::None => (Some(Vec::new()), None),
            AvroFraming::SingleObject => {
                let fingerprint = schema.fingerprint()?.to_le_bytes();
                (Some([0xC3, 0x01].into_iter().chain(fingerprint).collect()), None)
            }
            AvroFraming::Confluent => {
                let registration = Registration { kind: SchemaKind::Avro, text: schema.text(), record_name: schema.full_name() };
                (None, Some(registration))
            }
        };
        Ok(Self { writing: Writing::try_new(schema, input)?, input: Arc::clone(input), registration, header })
    }
}

impl MessageEncoder for AvroEncoder {
    fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    fn registered(&mut self, id: SchemaId, schema: Option<RegisteredSchema>) -> Result<()> {
        if let Some(schema) = schema {
            let only = self.input.fields().first().map(|f| f.name().as_str());
            let writing = RecordSchema::of(&schema, only).and_then(|schema| Writing::try_new(&schema, &self.input));
            self.writing = writing.map_err(|e| Error::user(format!("schema {id} of the registry does not fit the rows: {e}")))?;
        }
        self.header = Some(framing::header(id).to_vec());
        Ok(())
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Payloads) -> Result<()> {
        let Some(header) = &self.header else {
            return Err(Error::internal("rows are to be written with a schema whose id in the registry is not known"));
        };
        let mut write = |encoded: std::result::Result<&[u8], String>| {
            out.write(|to| {
                let datum = encoded?;
                to.extend_from_slice(header);
                to.extend_from_slice(datum);
                Ok(())
            });
        };
        if let Ok(rows) = self.writing.encode(batch) {
            for range in rows.offsets().windows(2) {
                write(Ok(&rows.bytes()[range[0]..range[1]]));
            }
            return Ok(());
        }
        // One at a time, to tell the bad from the good.
        for row in 0..batch.num_rows() {
            match self.writing.encode(&batch.slice(row, 1)) {
                Ok(rows) => write(Ok(rows.bytes())),
                Err(reason) => write(Err(reason)),
            }
        }
        Ok(())
    }
}
