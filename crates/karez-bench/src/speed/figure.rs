//! What a measurement gives: one line for a person, or one of JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// A measured figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub bench: String,
    /// What it is compared with.
    pub against: Option<String>,
    /// How many times as fast as that: the median over the rounds.
    pub ratio: Option<f64>,
    /// Rows of input per second of CPU time: the median over the rounds.
    pub rows_per_cpu_second: Option<f64>,
    /// The most memory (resident) the process had, MiB.
    pub peak_mb: Option<f64>,
    /// What is measured besides, by name with its unit.
    #[serde(flatten)]
    pub more: BTreeMap<String, f64>,
}

impl Figure {
    /// A figure without values yet.
    #[must_use]
    pub fn new(bench: impl Into<String>) -> Self {
        Self { bench: bench.into(), ..Self::default() }
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    /// Held against another: the median of the ratios of the rounds, the least and the largest.
    #[must_use]
    pub(super) fn with_ratios(mut self, other: &str, ratios: Vec<f64>) -> Self {
        self.against = Some(other.to_owned());
        let (least, largest) = ratios.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), r| (a.min(*r), b.max(*r)));
        self.ratio = Some(median(ratios));
        self.with("ratio_least", least).with("ratio_largest", largest)
    }

    /// For a person.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{:<14}", self.bench);
        line.push_str(&self.against.as_ref().map_or_else(|| " ".repeat(22), |a| format!(" against {a:<13}")));
        line.push_str(&self.ratio.map_or_else(|| " ".repeat(9), |r| format!(" × {r:<6.2}")));
        if let Some(rows) = self.rows_per_cpu_second {
            line.push_str(&format!(" {:8.2} M rows per CPU second", rows / 1e6));
        }
        if let Some(peak) = self.peak_mb {
            line.push_str(&format!("  {peak:6.1} MiB"));
        }
        for (name, value) in &self.more {
            line.push_str(&format!("  {name} {value:.3}"));
        }
        line
    }
}

/// The middle one; of an even number the mean of the middle two. NaN for none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => values[n / 2],
        _ => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// The least and the greatest.
pub(super) fn spread(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}
