//! Where a reader stands: the key of the last row, as the database stores it.

use std::collections::{BTreeMap, BTreeSet};

use karez_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::rows::hex;

/// The most keys (or runs of adjacent integer keys) of one instant that are remembered.
const MAX_SEEN: usize = 100_000;

/// A value of a key, as JSON that gives back the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum KeyValue {
    Integer(i64),
    RealBits(u64),
    Text(String),
    Blob(Vec<u8>),
    Null,
}

impl std::fmt::Display for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Integer(i) => i.fmt(f),
            Self::RealBits(r) => f64::from_bits(*r).fmt(f),
            Self::Text(t) => t.fmt(f),
            Self::Blob(b) => f.write_str(&hex(b)),
        }
    }
}

/// A reader's position.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Position {
    /// The key of the last row of the scan under way; `None` at the start of a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Vec<KeyValue>>,
    /// Mode `timestamp`: the latest instant, from which the next scan starts, and which rows of that instant have been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latest: Option<Latest>,
    /// A part of a table: the keys of its partition column, first and last; `None` without a limit at that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<(Option<i64>, Option<i64>)>,
    /// Queries without a key: rows read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) rows: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Position {
    pub(super) fn parse(value: &serde_json::Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(value).map_err(|e| Error::internal("the position of a jdbc source cannot be read").caused_by(e))
    }

    /// Mode `timestamp`: whether the row of this key (its instant first) has not been read at its instant; notes that it has.
    pub(super) fn is_new(&mut self, key: &[KeyValue]) -> Result<bool> {
        let Some((instant, rest)) = key.split_first() else { return Ok(true) };
        let latest = match &mut self.latest {
            Some(latest) if latest.instant == *instant => latest,
            other => other.insert(Latest::new(instant.clone())),
        };
        latest.add(rest)
    }

    pub(super) fn to_value(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the position of a jdbc source").caused_by(e))
    }
}

/// The latest instant of a mode `timestamp` source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Latest {
    pub(super) instant: KeyValue,
    /// Runs of integer keys, first to last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    runs: BTreeMap<i64, i64>,
    /// Other keys, as JSON.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    keys: BTreeSet<String>,
}

impl Latest {
    pub(super) const fn new(instant: KeyValue) -> Self {
        Self { instant, runs: BTreeMap::new(), keys: BTreeSet::new() }
    }

    /// How many keys have been noted.
    pub(super) fn rows(&self) -> u64 {
        // Both ends belong to a run; the difference of two numbers always fits.
        let runs: u64 = self.runs.iter().map(|(first, last)| last.abs_diff(*first).saturating_add(1)).sum();
        runs + self.keys.len() as u64
    }

    /// Notes a key of this instant; whether it is new.
    pub(super) fn add(&mut self, key: &[KeyValue]) -> Result<bool> {
        let new = match key {
            [KeyValue::Integer(k)] => self.add_integer(*k),
            other => self.keys.insert(serde_json::to_string(other).map_err(|e| Error::internal("a key").caused_by(e))?),
        };
        if self.runs.len() + self.keys.len() > MAX_SEEN {
            return Err(Error::user(format!(
                "more than {MAX_SEEN} rows have the instant {}: too many to remember which have been read; use `mode: timestamp+incrementing`",
                self.instant
            )));
        }
        Ok(new)
    }

    fn add_integer(&mut self, k: i64) -> bool {
        let before = self.runs.range(..=k).next_back().map(|(f, l)| (*f, *l));
        if before.is_some_and(|(_, last)| k <= last) {
            return false;
        }
        let mut first = k;
        if let Some((f, last)) = before
            && last.checked_add(1) == Some(k)
        {
            first = f;
        }
        let last = k.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(k);
        self.runs.insert(first, last);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_integer_keys_are_one_run() {
        let mut latest = Latest::new(KeyValue::Text("t".into()));
        for k in [1, 2, 3, 7, 5, 6, i64::MAX] {
            assert!(latest.add(&[KeyValue::Integer(k)]).unwrap());
        }
        assert!(!latest.add(&[KeyValue::Integer(6)]).unwrap());
        assert_eq!(latest.runs, BTreeMap::from([(1, 3), (5, 7), (i64::MAX, i64::MAX)]));
    }

    #[test]
    fn a_position_comes_back_with_the_same_bits() {
        let reals = [0.1 + 0.2, -0.0, f64::MIN_POSITIVE];
        let mut values = vec![KeyValue::Null, KeyValue::Integer(i64::MIN), KeyValue::Text("坎".into()), KeyValue::Blob(vec![0, 255])];
        values.extend(reals.iter().map(|r| KeyValue::RealBits(r.to_bits())));
        let position = Position { after: Some(values), rows: 7, ..Position::default() };
        let text = position.to_value().unwrap().to_string();
        assert_eq!(Position::parse(&serde_json::from_str(&text).unwrap()).unwrap(), position);
    }
}
