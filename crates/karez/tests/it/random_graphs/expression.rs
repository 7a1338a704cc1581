//! SQL expressions: their text, and what they are of a row.

use super::dice::Dice;
use super::value::{Column, Kind, Value};

#[derive(Clone, Debug)]
pub enum Expression {
    /// Its place and name in the input.
    Column(usize, String),
    Int(i64),
    Text(&'static str),
    Arithmetic(Box<Self>, Operator, Box<Self>),
    Coalesce(Box<Self>, i64),
    Case(Box<Predicate>, Box<Self>, Box<Self>),
    Upper(Box<Self>),
    Concat(Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug)]
pub enum Operator {
    Plus,
    Minus,
    Times,
    Remainder,
    Divide,
}

#[derive(Clone, Debug)]
pub enum Predicate {
    Compare(Expression, Comparison, Expression),
    IsNull(Expression),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

#[derive(Clone, Copy, Debug)]
pub enum Comparison {
    Less,
    Equal,
    Unequal,
}

/// The row is at fault.
#[derive(Clone, Copy, Debug)]
pub struct DividedByZero;

impl Expression {
    pub fn column(columns: &[Column], at: usize) -> Self {
        Self::Column(at, columns[at].name.clone())
    }

    /// Of integers; divides never.
    pub fn int(dice: &mut Dice<'_>, columns: &[Column], depth: usize) -> Self {
        let column = dice.pick(&of_kind(columns, Kind::Int)).map(|at| Self::column(columns, at));
        let sides = if depth == 0 { 2 } else { 7 };
        match (dice.roll(sides), column) {
            (0, Some(column)) => column,
            (2, _) => Self::arithmetic(dice, Operator::Plus, columns, depth),
            (3, _) => Self::arithmetic(dice, Operator::Minus, columns, depth),
            // By little, so that sums of columns of columns stay far from overflow.
            (4, _) => Self::with_literal(dice, Operator::Times, columns, depth, 3),
            (5, _) => Self::with_literal(dice, Operator::Remainder, columns, depth, 5),
            (6, _) if dice.chance(2) => Self::Coalesce(Box::new(Self::int(dice, columns, depth - 1)), dice.int(9)),
            (6, _) => Self::Case(
                Box::new(Predicate::any(dice, columns, depth - 1)),
                Box::new(Self::int(dice, columns, depth - 1)),
                Box::new(Self::int(dice, columns, depth - 1)),
            ),
            _ => Self::Int(dice.int(9)),
        }
    }

    fn arithmetic(dice: &mut Dice<'_>, operator: Operator, columns: &[Column], depth: usize) -> Self {
        Self::Arithmetic(Box::new(Self::int(dice, columns, depth - 1)), operator, Box::new(Self::int(dice, columns, depth - 1)))
    }

    fn with_literal(dice: &mut Dice<'_>, operator: Operator, columns: &[Column], depth: usize, up_to: i64) -> Self {
        Self::Arithmetic(Box::new(Self::int(dice, columns, depth - 1)), operator, Box::new(Self::Int(1 + dice.int(up_to))))
    }

    /// A quotient of columns; rows whose divisor is 0 are at fault.
    pub fn quotient(dice: &mut Dice<'_>, columns: &[Column]) -> Option<Self> {
        let ints = of_kind(columns, Kind::Int);
        let mut side = || dice.pick(&ints).map(|at| Box::new(Self::column(columns, at)));
        Some(Self::Arithmetic(side()?, Operator::Divide, side()?))
    }

    pub fn text(dice: &mut Dice<'_>, columns: &[Column], depth: usize) -> Self {
        let column = dice.pick(&of_kind(columns, Kind::Text)).map(|at| Self::column(columns, at));
        let sides = if depth == 0 { 2 } else { 4 };
        match (dice.roll(sides), column) {
            (0, Some(column)) => column,
            (2, _) => Self::Upper(Box::new(Self::text(dice, columns, depth - 1))),
            (3, _) => Self::Concat(Box::new(Self::text(dice, columns, depth - 1)), Box::new(Self::text(dice, columns, depth - 1))),
            _ => Self::Text(["x", "A", ""][dice.roll(3)]),
        }
    }

    pub fn kind(&self, columns: &[Column]) -> Kind {
        match self {
            Self::Column(at, _) => columns[*at].kind,
            Self::Text(_) | Self::Upper(_) | Self::Concat(..) => Kind::Text,
            _ => Kind::Int,
        }
    }

    pub fn sql(&self) -> String {
        match self {
            Self::Column(_, name) => name.clone(),
            Self::Int(i) if *i < 0 => format!("({i})"),
            Self::Int(i) => i.to_string(),
            Self::Text(t) => format!("'{t}'"),
            Self::Arithmetic(a, operator, b) => {
                let symbol = match operator {
                    Operator::Plus => '+',
                    Operator::Minus => '-',
                    Operator::Times => '*',
                    Operator::Remainder => '%',
                    Operator::Divide => '/',
                };
                format!("({} {symbol} {})", a.sql(), b.sql())
            }
            Self::Coalesce(a, or) => format!("coalesce({}, {or})", a.sql()),
            Self::Case(condition, then, otherwise) => format!("(CASE WHEN {} THEN {} ELSE {} END)", condition.sql(), then.sql(), otherwise.sql()),
            Self::Upper(a) => format!("upper({})", a.sql()),
            Self::Concat(a, b) => format!("({} || {})", a.sql(), b.sql()),
        }
    }

    pub fn of(&self, row: &[Value]) -> Result<Value, DividedByZero> {
        Ok(match self {
            Self::Column(at, _) => row[*at].clone(),
            Self::Int(i) => Value::Int(*i),
            Self::Text(t) => Value::Text((*t).to_owned()),
            Self::Arithmetic(a, operator, b) => match (a.of(row)?, operator, b.of(row)?) {
                (Value::Int(_), Operator::Divide, Value::Int(0)) => return Err(DividedByZero),
                (Value::Int(a), Operator::Plus, Value::Int(b)) => Value::Int(a + b),
                (Value::Int(a), Operator::Minus, Value::Int(b)) => Value::Int(a - b),
                (Value::Int(a), Operator::Times, Value::Int(b)) => Value::Int(a * b),
                (Value::Int(a), Operator::Remainder, Value::Int(b)) => Value::Int(a % b),
                (Value::Int(a), Operator::Divide, Value::Int(b)) => Value::Int(a / b),
                _ => Value::Null,
            },
            Self::Coalesce(a, or) => match a.of(row)? {
                Value::Null => Value::Int(*or),
                value => value,
            },
            Self::Case(condition, then, otherwise) if condition.of(row)? == Some(true) => then.of(row)?,
            Self::Case(_, _, otherwise) => otherwise.of(row)?,
            Self::Upper(a) => match a.of(row)? {
                Value::Text(t) => Value::Text(t.to_uppercase()),
                _ => Value::Null,
            },
            Self::Concat(a, b) => match (a.of(row)?, b.of(row)?) {
                (Value::Text(a), Value::Text(b)) => Value::Text(a + &b),
                _ => Value::Null,
            },
        })
    }
}

impl Predicate {
    pub fn any(dice: &mut Dice<'_>, columns: &[Column], depth: usize) -> Self {
        let sides = if depth == 0 { 3 } else { 6 };
        match dice.roll(sides) {
            0 => Self::Compare(Expression::int(dice, columns, depth), Comparison::any(dice), Expression::int(dice, columns, depth)),
            1 => Self::IsNull(Expression::column(columns, dice.roll(columns.len()))),
            2 => Self::Compare(Expression::text(dice, columns, depth), Comparison::any(dice), Expression::text(dice, columns, depth)),
            3 => Self::And(Box::new(Self::any(dice, columns, depth - 1)), Box::new(Self::any(dice, columns, depth - 1))),
            4 => Self::Or(Box::new(Self::any(dice, columns, depth - 1)), Box::new(Self::any(dice, columns, depth - 1))),
            _ => Self::Not(Box::new(Self::any(dice, columns, depth - 1))),
        }
    }

    pub fn sql(&self) -> String {
        match self {
            Self::Compare(a, comparison, b) => {
                let symbol = match comparison {
                    Comparison::Less => "<",
                    Comparison::Equal => "=",
                    Comparison::Unequal => "<>",
                };
                format!("{} {symbol} {}", a.sql(), b.sql())
            }
            Self::IsNull(a) => format!("{} IS NULL", a.sql()),
            Self::And(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Self::Or(a, b) => format!("({} OR {})", a.sql(), b.sql()),
            Self::Not(a) => format!("(NOT {})", a.sql()),
        }
    }

    /// True, false or unknown.
    pub fn of(&self, row: &[Value]) -> Result<Option<bool>, DividedByZero> {
        Ok(match self {
            Self::Compare(a, comparison, b) => match (a.of(row)?, b.of(row)?) {
                (Value::Null, _) | (_, Value::Null) => None,
                (a, b) => Some(match comparison {
                    Comparison::Less => a < b,
                    Comparison::Equal => a == b,
                    Comparison::Unequal => a != b,
                }),
            },
            Self::IsNull(a) => Some(a.of(row)? == Value::Null),
            Self::And(a, b) => match (a.of(row)?, b.of(row)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.of(row)?, b.of(row)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(a) => a.of(row)?.map(|truth| !truth),
        })
    }

    /// Whether it is true; it divides never.
    pub fn holds(&self, row: &[Value]) -> bool {
        matches!(self.of(row), Ok(Some(true)))
    }
}

impl Comparison {
    fn any(dice: &mut Dice<'_>) -> Self {
        [Self::Less, Self::Equal, Self::Unequal][dice.roll(3)]
    }
}

/// The places of the columns of a kind.
pub fn of_kind(columns: &[Column], kind: Kind) -> Vec<usize> {
    (0..columns.len()).filter(|&i| columns[i].kind == kind).collect()
}
