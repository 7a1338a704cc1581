//! Numbers with a point beside decimals.
//!
//! The planner reads `70.32` as a double, and compares a double and a decimal in a decimal type to which both are cast: the double is then some
//! 70.31999…, and no amount equals it. So a number that stands beside a decimal is read as the decimal that is written, as Flink's SQL does; beside
//! anything else it stays a double.

use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, Operator};

/// Digits of a decimal that a double keeps, whatever they are.
const DOUBLE_DIGITS: usize = 15;

/// Functions that give one of their arguments, or compare them.
const OF_ALIKE: [&str; 7] = ["coalesce", "nvl", "ifnull", "nullif", "greatest", "least", "nvl2"];

/// The expression, whose types are not coerced yet, with decimals in the place of numbers beside decimals.
pub(crate) fn exact(expr: Expr, input: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_up(|node| {
        Ok(match node {
            Expr::BinaryExpr(mut binary) if is_of_numbers(&binary) => {
                let changed = alike(vec![&mut *binary.left, &mut *binary.right], input)?;
                transformed(Expr::BinaryExpr(binary), changed)
            }
            Expr::Between(mut between) => {
                let Between { expr, low, high, .. } = &mut between;
                let changed = alike(vec![&mut **expr, &mut **low, &mut **high], input)?;
                transformed(Expr::Between(between), changed)
            }
            Expr::InList(mut list) => {
                let InList { expr, list: values, .. } = &mut list;
                let changed = alike(std::iter::once(&mut **expr).chain(values.iter_mut()).collect(), input)?;
                transformed(Expr::InList(list), changed)
            }
            Expr::Case(mut case) => {
                let Case { expr, when_then_expr, else_expr } = &mut case;
                let (whens, thens): (Vec<_>, Vec<_>) = when_then_expr.iter_mut().map(|(when, then)| (&mut **when, &mut **then)).unzip();
                let mut changed = false;
                if let Some(expr) = expr {
                    changed |= alike(std::iter::once(&mut **expr).chain(whens).collect(), input)?;
                }
                changed |= alike(thens.into_iter().chain(else_expr.as_deref_mut()).collect(), input)?;
                transformed(Expr::Case(case), changed)
            }
            Expr::ScalarFunction(mut call) if OF_ALIKE.contains(&call.func.name()) => {
                let changed = alike(call.args.iter_mut().collect(), input)?;
                transformed(Expr::ScalarFunction(call), changed)
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(rewritten.data)
}

fn transformed(expr: Expr, changed: bool) -> Transformed<Expr> {
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn is_of_numbers(binary: &BinaryExpr) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    binary.op.is_numerical_operators() || matches!(binary.op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Makes decimals of the numbers among `operands` if one of the others is a decimal; whether there was one.
fn alike(operands: Vec<&mut Expr>, input: &DFSchema) -> Result<bool> {
    // An operand without a type, as of a column that is not there, is for the planner to refuse.
    if !operands.iter().any(|operand| operand.get_type(input).is_ok_and(|kind| kind.is_decimal())) {
        return Ok(false);
    }
    let mut changed = false;
    for operand in operands {
        let number = match operand {
            Expr::Negative(inner) => &mut **inner,
            operand => operand,
        };
        if let Expr::Literal(ScalarValue::Float64(Some(double)), metadata) = number
            && let Some(decimal) = decimal(*double)?
        {
            *number = Expr::Literal(decimal, metadata.take());
            changed = true;
        }
    }
    Ok(changed)
}

/// The decimal that has been written; `None` where it has more digits than decimals have.
fn decimal(double: f64) -> Result<Option<ScalarValue>> {
    // The shortest digits that stand for this double: those that were written, as long as it keeps all of them.
    let text = format!("{double}");
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    if all.trim_matches('0').len() > DOUBLE_DIGITS {
        return plan_err!("the number {text} has more digits than a double keeps: beside a decimal write it as cast('…' as decimal(p, s))");
    }
    let precision = all.trim_start_matches('0').len().max(fraction.len()).max(1);
    let (Ok(precision), Ok(scale)) = (u8::try_from(precision), i8::try_from(fraction.len())) else { return Ok(None) };
    if precision > DECIMAL128_MAX_PRECISION {
        return Ok(None);
    }
    let unscaled: Option<i128> = format!("{}{all}", if double < 0.0 { "-" } else { "" }).parse().ok();
    Ok(unscaled.map(|unscaled| ScalarValue::Decimal128(Some(unscaled), precision, scale)))
}
