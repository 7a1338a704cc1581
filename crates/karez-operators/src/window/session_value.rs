//! The sessions of a key, as the keyed table holds them.
//!
//! ```text
//! format (1 byte) │ start i64 │ end i64 │ fired u8 │ length u32 │ states │ start …
//! ```
//!
//! Numbers are little-endian, times milliseconds; `states` is a row of all calls' states ([`crate::keyed`]). Sessions stand in the
//! order of their starts and do not touch.

use bytes::Bytes;
use karez_core::{Error, Result};

use crate::keyed;

const HEADER: usize = 8 + 8 + 1 + 4;

/// A session of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The time of its first row.
    pub(crate) start_ms: i64,
    /// The time of its last row plus the gap.
    pub(crate) end_ms: i64,
    /// Whether its result has been given; it is kept for rows within the allowed lateness.
    pub(crate) fired: bool,
    /// The states of all calls.
    pub(crate) states: Bytes,
}

impl Session {
    /// Whether two sessions are one. As in Flink, sessions that touch are.
    pub(crate) const fn meets(&self, start_ms: i64, end_ms: i64) -> bool {
        self.start_ms <= end_ms && start_ms <= self.end_ms
    }
}

/// The sessions in a value.
pub(crate) fn read(value: &Bytes) -> Result<Vec<Session>> {
    let mut rest = value.slice_ref(keyed::body(value)?);
    let mut sessions = Vec::with_capacity(1);
    while !rest.is_empty() {
        let cut = || Error::internal("a session's state is cut off");
        let (start, tail) = rest.split_first_chunk().ok_or_else(cut)?;
        let (end, tail) = tail.split_first_chunk().ok_or_else(cut)?;
        let (fired, tail) = tail.split_first().ok_or_else(cut)?;
        let (length, tail) = tail.split_first_chunk().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length) as usize;
        if tail.len() < length {
            return Err(cut());
        }
        let states = rest.slice(HEADER..HEADER + length);
        sessions.push(Session { start_ms: i64::from_le_bytes(*start), end_ms: i64::from_le_bytes(*end), fired: *fired != 0, states });
        rest = rest.slice(HEADER + length..);
    }
    Ok(sessions)
}

/// The value of sessions.
pub(crate) fn write(sessions: &[Session]) -> Result<Bytes> {
    let mut value = Vec::with_capacity(1 + sessions.iter().map(|s| HEADER + s.states.len()).sum::<usize>());
    value.push(keyed::FORMAT);
    for session in sessions {
        let length = u32::try_from(session.states.len()).map_err(|_| Error::user("the state of one session is larger than 4 GiB"))?;
        value.extend(session.start_ms.to_le_bytes());
        value.extend(session.end_ms.to_le_bytes());
        value.push(u8::from(session.fired));
        value.extend(length.to_le_bytes());
        value.extend_from_slice(&session.states);
    }
    Ok(Bytes::from(value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_as_they_were_written_and_a_cut_value_is_refused() {
        let session =
            |start_ms, states: &'static [u8]| Session { start_ms, end_ms: start_ms + 5, fired: start_ms > 3, states: Bytes::from_static(states) };
        let sessions = [session(-7, b"abc"), session(9, b"")];
        let value = write(&sessions).unwrap();
        assert_eq!(value.len(), 1 + 2 * HEADER + 3);
        assert_eq!(read(&value).unwrap(), sessions);
        assert!(read(&value.slice(..value.len() - 1)).is_err());
        assert!(read(&Bytes::from_static(&[9])).unwrap_err().to_string().contains("format 9"));
    }
}
