//! Values that become others exactly, or not at all: no digit is cut off, nothing is rounded, nothing overflows in silence.
//!
//! arrow's casts and parsers round, cut off and take what is too large for infinite or null (59.3).

mod cast;
pub mod decimal;
pub mod json;
pub mod text;

use std::fmt;

use arrow::datatypes::{DataType, TimeUnit};

use crate::sql_type::to_sql;

pub use cast::{can_cast, cast, cast_rows};

/// Why a text has no value in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is none of the type at all.
    Form,
    /// It has digits behind the point that the type has no room for.
    Fraction,
    /// It is beyond the type's range.
    Size,
    /// It has a time of day, which a date has no room for.
    TimeOfDay,
}

impl Misfit {
    /// What is wrong with `value`, for a person.
    #[must_use]
    pub fn of(self, value: impl fmt::Display, data_type: &DataType) -> String {
        format!("`{value}` {}", self.says(data_type))
    }

    /// The same, behind the value.
    #[must_use]
    pub fn says(self, data_type: &DataType) -> String {
        let name = to_sql(data_type);
        let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
        match self {
            Self::Form => format!("is not {article} {name}"),
            Self::Fraction => format!("has more digits behind the point than {name} keeps"),
            Self::Size => format!("is out of the range of {name}"),
            Self::TimeOfDay => format!("has a time of day, which a {name} does not keep"),
        }
    }
}

/// How many units make a second.
#[must_use]
pub const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Whether a time, in units of which `per_second` make a second, is one of a day: nothing is before midnight, and 24:00:00 is of the next.
#[must_use]
pub const fn is_of_day(time: i64, per_second: i64) -> bool {
    0 <= time && time < 86_400 * per_second
}
