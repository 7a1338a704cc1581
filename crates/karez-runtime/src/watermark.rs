//! Watermarks: the minimum over inputs that are neither idle nor ended, and a split's own from the event times it has seen.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType};
use arrow::record_batch::RecordBatch;
use karez_core::{Error, Result, Watermark};

/// The minimum watermark over several inputs.
///
/// An idle input does not hold it back, an ended one counts as [`Watermark::MAX`]; when all are idle it goes to their maximum. It never falls.
#[derive(Debug)]
pub struct WatermarkTracker {
    inputs: Vec<Input>,
    current: Watermark,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    watermark: Watermark,
    idle: bool,
}

impl WatermarkTracker {
    /// For so many inputs, none of which has said anything.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        Self { inputs: vec![Input { watermark: Watermark::MIN, idle: false }; inputs], current: Watermark::MIN }
    }

    /// An input has reached a watermark, and is not idle. Answers the new minimum if it has risen.
    pub fn advance(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        let i = &mut self.inputs[input];
        i.idle = false;
        i.watermark = i.watermark.max(watermark);
        self.rise()
    }

    /// An input has rows again.
    pub fn active(&mut self, input: usize) {
        self.inputs[input].idle = false;
    }

    /// An input has nothing at present.
    pub fn idle(&mut self, input: usize) -> Option<Watermark> {
        self.inputs[input].idle = true;
        self.rise()
    }

    /// Whether every input that has not ended is idle, and one is.
    #[must_use]
    pub fn all_idle(&self) -> bool {
        self.inputs.iter().any(|i| i.idle) && self.inputs.iter().all(|i| i.idle || i.watermark == Watermark::MAX)
    }

    fn rise(&mut self) -> Option<Watermark> {
        let live = self.inputs.iter().filter(|i| !i.idle).map(|i| i.watermark).min();
        // The maximum of the idle ones, where only idle and ended ones are left: an ended one must not close what an idle one may still fill.
        let idle = self.inputs.iter().filter(|i| i.idle).map(|i| i.watermark).max();
        let new = match (live, idle) {
            (Some(Watermark::MAX), Some(idle)) => idle,
            (Some(live), _) => live,
            (None, Some(idle)) => idle,
            (None, None) => return None,
        };
        (new > self.current).then(|| {
            self.current = new;
            new
        })
    }
}

/// The greatest event time of a batch in milliseconds, and whether a row has none.
pub fn max_event_time(batch: &RecordBatch, column: usize) -> Result<(Option<i64>, bool)> {
    let array = batch.column(column);
    let max = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => arrow::compute::max(array.as_primitive::<TimestampSecondType>()).map(|v| v.saturating_mul(1_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => arrow::compute::max(array.as_primitive::<TimestampMillisecondType>()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            arrow::compute::max(array.as_primitive::<TimestampMicrosecondType>()).map(|v| v.div_euclid(1_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            arrow::compute::max(array.as_primitive::<TimestampNanosecondType>()).map(|v| v.div_euclid(1_000_000))
        }
        other => return Err(Error::internal(format!("event time of type {other}"))),
    };
    Ok((max, array.null_count() > 0))
}

/// The watermark of one split: the greatest event time seen, less the bound, less one millisecond (Flink's `BoundedOutOfOrdernessWatermarks`).
#[derive(Clone, Copy, Debug)]
pub struct SplitWatermark {
    max_ms: Option<i64>,
    bound_ms: i64,
}

impl SplitWatermark {
    /// Of a split that has given nothing.
    #[must_use]
    pub const fn new(bound_ms: i64) -> Self {
        Self { max_ms: None, bound_ms }
    }

    /// Of a split whose watermark was this at the restored checkpoint.
    #[must_use]
    pub fn restored(bound_ms: i64, watermark_ms: Option<i64>) -> Self {
        Self { max_ms: watermark_ms.map(|w| w.saturating_add(bound_ms).saturating_add(1)), bound_ms }
    }

    /// Takes an event time in.
    pub fn observe(&mut self, max_ms: Option<i64>) {
        self.max_ms = self.max_ms.max(max_ms);
    }

    /// The watermark; [`Watermark::MIN`] before the first row.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.max_ms.map_or(Watermark::MIN, |ms| Watermark(ms.saturating_sub(self.bound_ms).saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_over_live_inputs_rises_and_never_falls() {
        let mut t = WatermarkTracker::new(2);
        assert_eq!(t.advance(0, Watermark(5)), None);
        assert_eq!(t.advance(1, Watermark(3)), Some(Watermark(3)));
        assert_eq!(t.advance(1, Watermark(9)), Some(Watermark(5)));
        assert_eq!(t.advance(0, Watermark(1)), None);
    }

    #[test]
    fn an_idle_input_does_not_hold_it_back_and_a_returning_one_does_not_pull_it_down() {
        let mut t = WatermarkTracker::new(2);
        t.advance(0, Watermark(5));
        assert_eq!(t.idle(1), Some(Watermark(5)));
        t.active(1);
        assert_eq!(t.advance(0, Watermark(8)), None);
        assert_eq!(t.advance(1, Watermark(7)), Some(Watermark(7)));
    }

    #[test]
    fn when_all_are_idle_it_goes_to_their_maximum() {
        let mut t = WatermarkTracker::new(2);
        t.advance(0, Watermark(5));
        t.advance(1, Watermark(2));
        assert_eq!(t.idle(1), Some(Watermark(5)));
        assert_eq!(t.idle(0), None);
        assert!(t.all_idle());
    }

    #[test]
    fn an_ended_input_beside_an_idle_one_does_not_end_event_time() {
        let mut t = WatermarkTracker::new(2);
        t.advance(1, Watermark(2));
        assert_eq!(t.advance(0, Watermark::MAX), Some(Watermark(2)));
        assert_eq!(t.idle(1), None);
        assert_eq!(t.advance(1, Watermark::MAX), Some(Watermark::MAX));
    }
}
