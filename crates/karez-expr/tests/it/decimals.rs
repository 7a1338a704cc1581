//! Sums and averages of decimals: exact, or an error of the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, i256};
use karez_expr::{AggregateExpr, evaluate_rows};
use proptest::prelude::*;

use crate::{functions, shown};

/// The greatest decimal of 38 digits.
const MOST: i128 = 10_i128.pow(38) - 1;

fn decimal128(precision: u8, scale: i8, values: &[i128]) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
}

fn decimal256(precision: u8, values: &[i256]) -> ArrayRef {
    Arc::new(Decimal256Array::from(values.to_vec()).with_precision_and_scale(precision, 0).unwrap())
}

fn rows(values: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([("v", values)]).unwrap()
}

/// `text` over parts whose states are merged; the parts count as one group.
fn of_parts(text: &str, parts: &[ArrayRef]) -> (DataType, Result<String, String>) {
    let expr = functions().compile_aggregate(text, &rows(Arc::clone(&parts[0])).schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let results = expr.calls().iter().map(|call| {
        let mut merged = call.accumulator().unwrap();
        for part in parts {
            let mut of_part = call.accumulator().unwrap();
            of_part.update(&call.inputs(&rows(Arc::clone(part))).unwrap(), &vec![0; part.len()], 1).unwrap();
            merged.merge(&of_part.state().unwrap(), &[0], 1).unwrap();
        }
        merged.evaluate().unwrap()
    });
    finished(&expr, results.collect())
}

fn finished(expr: &AggregateExpr, results: Vec<ArrayRef>) -> (DataType, Result<String, String>) {
    let names = (0..results.len()).map(|i| format!("#{i}"));
    let batch = RecordBatch::try_from_iter(names.zip(results)).unwrap();
    let evaluated = evaluate_rows(&batch, |rows| expr.finish(rows.columns().to_vec())).unwrap();
    assert_eq!(evaluated.value.data_type(), expr.data_type());
    let result = match evaluated.failures.into_iter().next() {
        Some(failure) => Err(failure.reason.strip_suffix(&format!(" (in `{}`)", expr.text())).unwrap().to_owned()),
        None => Ok(shown(&evaluated.value).remove(0)),
    };
    (expr.data_type().clone(), result)
}

/// `text` over one batch.
fn of(text: &str, values: ArrayRef) -> (DataType, Result<String, String>) {
    of_parts(text, &[values])
}

#[test]
fn a_sum_beyond_the_digits_of_its_type_is_an_error_of_its_result() {
    let (data_type, sum) = of("sum(v)", decimal128(38, 2, &[MOST, MOST]));
    assert_eq!(data_type, DataType::Decimal128(38, 2));
    let reason = "sum(v) is 1999999999999999999999999999999999999.98, which has more than the 38 digits of decimal(38, 2)";
    assert_eq!(sum, Err(reason.into()));
    assert!(of("sum(v)", decimal128(38, 0, &[-MOST, -1])).1.is_err(), "38 digits and one");
    assert_eq!(of("sum(v)", decimal128(38, 0, &[MOST - 1, 1])).1, Ok(MOST.to_string()));
    assert_eq!(of("sum(v)", decimal128(38, 0, &[-MOST + 1, -1])).1, Ok((-MOST).to_string()));
}

#[test]
fn a_total_that_comes_back_is_exact_again() {
    let (there, back) = (decimal128(38, 0, &[MOST, MOST, MOST, MOST]), decimal128(38, 0, &[-MOST, -MOST, -MOST, -7]));
    assert!(of("sum(v)", Arc::clone(&there)).1.is_err());
    assert_eq!(of_parts("sum(v)", &[there, back]).1, Ok((MOST - 7).to_string()));
}

#[test]
fn a_failing_sum_fails_its_own_row_alone() {
    let expr = functions().compile_aggregate("sum(v)", &rows(decimal128(38, 0, &[0])).schema()).unwrap();
    let call = &expr.calls()[0];
    let mut groups = call.accumulator().unwrap();
    groups.update(&call.inputs(&rows(decimal128(38, 0, &[1, MOST, 3, 1, 4]))).unwrap(), &[0, 1, 0, 1, 2], 3).unwrap();
    let batch = RecordBatch::try_from_iter([("#0", groups.evaluate().unwrap())]).unwrap();
    let evaluated = evaluate_rows(&batch, |rows| expr.finish(rows.columns().to_vec())).unwrap();
    assert_eq!((shown(&evaluated.value), evaluated.failures.len(), evaluated.failures[0].row), (vec!["4".into(), "4".into()], 1, 1));
}

#[test]
fn sums_of_narrow_decimals_have_their_type_and_no_wrong_number() {
    let of_32: ArrayRef = Arc::new(Decimal32Array::from(vec![999_999_999, 999_999_999, 999_999_999]).with_precision_and_scale(9, 0).unwrap());
    let of_64: ArrayRef = Arc::new(Decimal64Array::from(vec![999_999_999_999_999_999; 10]).with_precision_and_scale(18, 0).unwrap());
    let (data_type, sum) = of("sum(v)", of_32);
    assert_eq!((data_type, sum), (DataType::Decimal32(9, 0), Err("sum(v) is 2999999997, which has more than the 9 digits of decimal(9, 0)".into())));
    let (data_type, sum) = of("sum(v)", Arc::clone(&of_64));
    assert_eq!(data_type, DataType::Decimal64(18, 0));
    assert_eq!(sum, Err("sum(v) is 9999999999999999990, which has more than the 18 digits of decimal(18, 0)".into()));
    assert_eq!(of("sum(distinct v)", of_64).1, Ok("999999999999999999".into()));
    assert_eq!(of("sum(v)", decimal128(10, 2, &[150, 275])), (DataType::Decimal128(20, 2), Ok("4.25".into())));
}

#[test]
fn a_sum_of_76_digits_is_exact_or_an_error() {
    let most = i256::from_string(&"9".repeat(76)).unwrap();
    let sum = |values: &[i256]| of("sum(v)", decimal256(76, values)).1;
    assert_eq!(sum(&[most - i256::ONE, i256::ONE]), Ok("9".repeat(76)));
    assert_eq!(sum(&[most, i256::ONE]), Err("sum(v) is more than the 76 digits of decimal(76, 0)".into()));
    assert_eq!(sum(&[most, most, most, -most, -most]), Ok("9".repeat(76)), "five times is within 256 bits");
    // Twelve times is beyond 256 bits, and would be within 76 digits if it wrapped around.
    for value in [most, -most] {
        assert!(sum(&[value; 12]).is_err());
        let parts = [decimal256(76, &[value; 6]), decimal256(76, &[value; 6]), decimal256(76, &[-value; 12])];
        assert!(of_parts("sum(v)", &parts).1.is_err(), "a total that is lost stays so");
        assert!(of_parts("avg(v)", &parts).1.is_err());
    }
}

#[test]
fn sums_of_distinct_decimals_are_exact_or_an_error() {
    assert_eq!(of("sum(distinct v)", decimal128(38, 0, &[MOST, MOST, MOST])).1, Ok(MOST.to_string()));
    let reason = "sum(DISTINCT v) is 199999999999999999999999999999999999997, which has more than the 38 digits of decimal(38, 0)";
    assert_eq!(of("sum(distinct v)", decimal128(38, 0, &[MOST, MOST - 1])).1, Err(reason.into()));
    let parts = [decimal128(38, 0, &[MOST, MOST - 1]), decimal128(38, 0, &[MOST, -MOST, 5])];
    assert_eq!(
        of_parts("sum(distinct v)", &parts).1,
        Err("sum(DISTINCT v) is 100000000000000000000000000000000000003, which has more than the 38 digits of decimal(38, 0)".into())
    );
    let parts = [decimal128(38, 0, &[MOST, MOST - 1]), decimal128(38, 0, &[MOST, -MOST, -5])];
    assert_eq!(of_parts("sum(distinct v)", &parts).1, Ok((MOST - 6).to_string()));
}

#[test]
fn a_number_beside_a_decimal_is_the_decimal_that_is_written() {
    let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(16, 2), true), Field::new("f", DataType::Float64, true)]);
    let batch = |cents: i128| {
        let d = Decimal128Array::from(vec![cents]).with_precision_and_scale(16, 2).unwrap();
        RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(d), Arc::new(Float64Array::from(vec![0.5]))]).unwrap()
    };
    let eval = |text: &str, cents: i128| {
        let compiled = functions().compile(text, &schema).unwrap_or_else(|e| panic!("{text}: {e}"));
        (shown(&compiled.evaluate(&batch(cents)).unwrap()).remove(0), compiled.data_type().clone())
    };
    for cents in (0..40_i128).map(|n| 7_032 + n * 2_999_999_999_981) {
        let written = format!("{}.{:02}", cents / 100, cents % 100);
        for text in [
            "d = N",
            "N = d",
            "d >= N",
            "d <= N",
            "not d <> N",
            "d in (N, 1)",
            "d between N and N",
            "case d when N then true else false end",
            "nullif(d, N) is null",
        ] {
            assert_eq!(eval(&text.replace('N', &written), cents).0, "true", "{text} {written}");
        }
        assert_eq!(eval(&format!("d = -{written}"), -cents).0, "true");
        assert_eq!(eval(&format!("d > {written}"), cents).0, "false");
    }
    assert_eq!(eval("d * 1.19", 1_000), ("11.9000".into(), DataType::Decimal128(20, 4)));
    assert_eq!(eval("d - 0.01", 1_000), ("9.99".into(), DataType::Decimal128(17, 2)));
    assert_eq!(eval("coalesce(d, 0.0)", 1_000), ("10.00".into(), DataType::Decimal128(16, 2)));
    assert_eq!(eval("case when d > 5.0 then d else -0.5 end", 100), ("-0.50".into(), DataType::Decimal128(16, 2)));
    assert_eq!(eval("sqrt(d) > 1.5 and f * 1.5 = 0.75 and f = 0.5", 1_000).0, "true", "beside others it is a double");
    let error = functions().compile("d = 0.1234567890123456", &schema).unwrap_err().to_string();
    assert!(error.contains("0.1234567890123456 has more digits than a double keeps") && error.contains("cast('…' as decimal(p, s))"), "{error}");
}

#[test]
fn averages_whose_sum_has_more_digits_than_a_decimal_are_exact() {
    let digits_34 = 10_i128.pow(34) - 1;
    let (data_type, mean) = of("avg(v)", decimal128(38, 0, &vec![digits_34; 20_000]));
    assert_eq!((data_type, mean), (DataType::Decimal128(38, 4), Ok(format!("{digits_34}.0000"))));
    assert_eq!(of("avg(v)", decimal128(10, 2, &[100, 201, -1])), (DataType::Decimal128(14, 6), Ok("1.000000".into())));
    assert_eq!(of("avg(v)", decimal128(10, 2, &[1, 1, -4])).1, Ok("-0.006666".into()), "cut off, not rounded");
    assert_eq!(
        of("avg(distinct v)", decimal128(38, 4, &[10_i128.pow(37), 10_i128.pow(37), 2])).1,
        Err("avg(DISTINCT v) is 500000000000000000000000000000000.00010000, which has more than the 38 digits of decimal(38, 8)".into())
    );
}

#[test]
fn an_average_with_more_digits_than_its_type_is_an_error_of_its_result() {
    let reason = format!("avg(v) is {MOST}.0000, which has more than the 38 digits of decimal(38, 4)");
    assert_eq!(of("avg(v)", decimal128(38, 0, &[MOST, MOST])).1, Err(reason));
    let most = i256::from_string(&"9".repeat(76)).unwrap();
    let (data_type, mean) = of("mean(v)", decimal256(76, &[most, -most, i256::ONE]));
    assert_eq!((data_type, mean), (DataType::Decimal256(76, 4), Ok("0.3333".into())));
    assert!(of("mean(v)", decimal256(76, &[most, most])).1.is_err());
}

#[test]
fn nothing_is_null_and_a_filter_is_obeyed() {
    let nulls: ArrayRef = Arc::new(Decimal128Array::from(vec![None, Some(MOST), Some(1)]).with_precision_and_scale(38, 0).unwrap());
    assert_eq!(of("sum(v) filter (where v < 2)", Arc::clone(&nulls)).1, Ok("1".into()));
    for call in ["sum(v)", "avg(v)", "sum(distinct v)", "avg(distinct v)"] {
        assert_eq!(of(&format!("{call} filter (where v < 0)"), Arc::clone(&nulls)).1, Ok("-".into()), "{call}");
    }
}

#[test]
fn the_types_of_a_state_are_told() {
    let states = |text: &str, values: ArrayRef| functions().compile_aggregate(text, &rows(values).schema()).unwrap().calls()[0].state_types();
    assert_eq!(states("sum(v)", decimal128(28, 2, &[])), "Decimal128(38, 2)");
    assert_eq!(states("sum(v)", decimal128(29, 2, &[])), "Decimal256(76, 2)");
    assert_eq!(states("max(v)", decimal128(10, 3, &[])), "Decimal128(10, 3)");
    assert_eq!(states("count(v)", decimal128(10, 3, &[])), "Int64");
    assert_eq!(states("approx_distinct(v)", decimal128(10, 3, &[])), "Binary of Decimal128(10, 3)");
}

proptest! {
    #[test]
    fn sums_in_parts_are_the_exact_sum(
        values in prop::collection::vec(prop_oneof![-MOST..=MOST, (MOST - 1000)..=MOST, -MOST..=(1000 - MOST)], 1..40),
        part in 1_usize..8,
    ) {
        let exact = values.iter().fold(i256::ZERO, |sum, &value| sum + i256::from_i128(value));
        let parts: Vec<ArrayRef> = values.chunks(part).map(|values| decimal128(38, 0, values)).collect();
        let expected = exact.to_i128().filter(|sum| (-MOST..=MOST).contains(sum)).map(|sum| sum.to_string());
        prop_assert_eq!(of_parts("sum(v)", &parts).1.ok(), expected);
    }
}
