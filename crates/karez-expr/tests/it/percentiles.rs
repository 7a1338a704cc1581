//! Exact percentiles: what sorting all values gives, to the last bit, however they are cut into parts.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use proptest::prelude::*;

use crate::{aggregate, functions, shown};

fn rows(values: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("v", values, true)]).unwrap()
}

fn of(text: &str, values: ArrayRef) -> (DataType, String) {
    let batch = rows(values);
    let expr = functions().compile_aggregate(text, &batch.schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let result = aggregate(&expr, &batch, &vec![0; batch.num_rows()]);
    (result.data_type().clone(), shown(&result).remove(0))
}

fn refused(text: &str, values: ArrayRef) -> String {
    functions().compile_aggregate(text, &rows(values).schema()).unwrap_err().to_string()
}

/// As [`of`] for some whole numbers.
fn ints(text: &str, values: &[i64]) -> (DataType, String) {
    of(text, Arc::new(Int64Array::from(values.to_vec())))
}

#[test]
fn the_weight_of_interpolation_is_not_cut_off() {
    // The place is 0.9 × 3 = 2.7: DataFusion's own gives 7 decimals at most of what follows.
    let third = 1e9 / 3.0;
    let values: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 0.0, 0.0, third]));
    assert_eq!(of("percentile_cont(0.777777777) within group (order by v)", values).1, (third * (0.777_777_777_f64 * 3.0).fract()).to_string());
}

#[test]
fn of_integers_and_decimals_the_continuous_percentile_is_a_double() {
    assert_eq!(ints("percentile_cont(0.5) within group (order by v)", &[1, 2]), (DataType::Float64, "1.5".into()));
    let decimals = Decimal128Array::from(vec![150, 275]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(of("percentile_cont(0.5) within group (order by v)", Arc::new(decimals)), (DataType::Float64, "2.125".into()));
    assert_eq!(of("percentile_cont(0.5) within group (order by v)", Arc::new(Float32Array::from(vec![1.0, 2.0]))).0, DataType::Float32);
}

#[test]
fn the_discrete_percentile_is_one_of_the_values() {
    let of_ints = |p: &str| ints(&format!("percentile_disc({p}) within group (order by v)"), &[4, 1, 3, 2]).1;
    assert_eq!(["0", "0.25", "0.26", "0.5", "0.51", "1"].map(of_ints), ["1", "1", "2", "2", "3", "4"]);
    assert_eq!(ints("percentile_disc(0.25) within group (order by v desc)", &[4, 1, 3, 2]).1, "4");
    assert_eq!(
        of("percentile_disc(0.5) within group (order by v)", Arc::new(Date32Array::from(vec![1, 0]))),
        (DataType::Date32, "1970-01-01".into())
    );
    let decimals = Decimal128Array::from(vec![110, 220]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(of("quantile_disc(0.9) within group (order by v)", Arc::new(decimals)), (DataType::Decimal128(10, 2), "2.20".into()));
}

#[test]
fn all_ways_to_write_a_percentile_say_the_same() {
    for text in [
        "percentile_cont(0.25) within group (order by v)",
        "PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY v ASC)",
        "quantile_cont(0.25) within group (order by v)",
        "percentile_cont(v, 0.25)",
        "quantile_cont(v, 0.25 order by v)",
        "percentile_cont(1 - 0.75) within group (order by v)",
        "percentile_cont(0.75) within group (order by v desc)",
        "percentile_cont(0.25) within group (order by v) filter (where v < 100)",
    ] {
        let values = if text.contains("filter") { &[10, 20, 30, 40, 1000][..] } else { &[40, 10, 30, 20] };
        assert_eq!(ints(text, values).1, "17.5", "{text}");
    }
}

#[test]
fn nulls_are_ignored_and_of_nothing_there_is_none() {
    let some: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), None, Some(3)]));
    let none: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    for (text, middle) in [("percentile_cont(0.5) within group (order by v)", "2.0"), ("percentile_disc(0.5) within group (order by v)", "1")] {
        assert_eq!(of(text, Arc::clone(&some)).1, middle);
        assert_eq!(of(text, Arc::clone(&none)).1, "-");
    }
}

#[test]
fn values_at_the_ends_of_floats_do_not_overflow() {
    let of = |values: [f64; 2]| of("percentile_cont(0.5) within group (order by v)", Arc::new(Float64Array::from(values.to_vec()))).1;
    assert_eq!(of([f64::MIN, f64::MAX]), "0.0");
    assert_eq!(of([f64::INFINITY, f64::INFINITY]), "inf");
    assert_eq!(of([f64::NEG_INFINITY, 5.0]), "-inf");
    assert_eq!(of([1.0, f64::NAN]), "NaN");
}

#[test]
fn what_is_no_percentile_is_refused() {
    let v: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (text, why) in [
        ("percentile_cont(1.5) within group (order by v)", "a number from 0 to 1, not 1.5"),
        ("percentile_disc(-0.1) within group (order by v)", "a number from 0 to 1, not -0.1"),
        ("percentile_cont(v) within group (order by v)", "a constant from 0 to 1"),
        ("percentile_cont(null) within group (order by v)", "a number from 0 to 1, not NULL"),
    ] {
        let error = refused(text, Arc::clone(&v));
        assert!(error.contains(why), "{text}: {error}");
    }
    let error = refused("percentile_disc(0.5) within group (order by v)", Arc::new(StringArray::from(vec!["a"])));
    assert!(error.contains("`percentile_disc` takes numbers, dates and times, but this is string"), "{error}");
}

/// What sorting gives.
fn reference(values: &[f64], share: f64, descending: bool, distinct: bool) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    if distinct {
        values.dedup_by(|a, b| a.total_cmp(b).is_eq());
    }
    if descending {
        values.reverse();
    }
    let place = share * values.len().checked_sub(1)? as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    Some(if place.fract() == 0.0 { below } else { below + (above - below) * place.fract() })
}

proptest! {
    #[test]
    fn parts_merged_in_any_order_give_the_bits_that_sorting_all_gives(
        values in prop::collection::vec(prop_oneof![Just(None), (-9i32..9).prop_map(|v| Some(f64::from(v))), any::<i32>().prop_map(|v| Some(f64::from(v) / 7.0))], 1..300),
        order in any::<prop::sample::Index>(),
        parts in 1usize..6,
        share in prop_oneof![Just(0.0), Just(1.0), Just(0.9), Just(0.5), 0.0..1.0f64],
        (descending, distinct) in any::<(bool, bool)>(),
    ) {
        let batch = rows(Arc::new(Float64Array::from(values.clone())));
        let text = format!(
            "percentile_cont({}{share:?}) within group (order by v {})",
            if distinct { "distinct " } else { "" },
            if descending { "desc" } else { "asc" },
        );
        let call = functions().compile_aggregate(&text, &batch.schema()).unwrap().calls()[0].clone();
        let size = values.len().div_ceil(parts).max(1);
        let mut states = Vec::new();
        for start in (0..values.len()).step_by(size) {
            let part = batch.slice(start, size.min(values.len() - start));
            let mut state = call.accumulator().unwrap();
            state.update(&call.inputs(&part).unwrap(), &vec![0; part.num_rows()], 1).unwrap();
            states.push(state.state().unwrap());
        }
        let first = order.index(states.len());
        states.rotate_left(first);
        let mut merged = call.accumulator().unwrap();
        for state in states {
            merged.merge(&state, &[0], 1).unwrap();
        }
        let result = merged.evaluate().unwrap();
        let result = result.as_primitive::<Float64Type>().iter().next().unwrap();
        let plain: Vec<f64> = values.into_iter().flatten().collect();
        prop_assert_eq!(result.map(f64::to_bits), reference(&plain, share, descending, distinct).map(f64::to_bits), "{}", text);
    }
}
