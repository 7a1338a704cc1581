//! Partial states: what is summed up in parts and merged is what is summed up at once, for every aggregate function there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Float64Type};
use karez_expr::{AggregateExpr, FunctionKind};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::{aggregate, functions, shown};

const GROUPS: usize = 5;

/// Every function, in calls of which each form merges in its own way. `id` is unique.
const CALLS: [&str; 83] = [
    "any_value(same)",
    "array_agg(v order by id)",
    "array_agg(distinct v order by v)",
    "first_value(s order by id)",
    "last_value(s order by id desc)",
    "first_value(v) filter (where v = id)",
    "first_value(same)",
    "last_value(same)",
    "first_value(v order by id) filter (where b)",
    "covar_samp(x, y)",
    "covar_pop(x, y)",
    "covar(x, y)",
    "corr(x, y)",
    "sum(v)",
    "sum(x)",
    "sum(distinct v)",
    "sum(v) filter (where b)",
    "sum(cast(x as decimal(20, 4)))",
    "sum(cast(x as decimal(38, 4)))",
    "sum(cast(x as decimal(50, 4)))",
    "sum(distinct cast(x as decimal(38, 4)))",
    "avg(cast(x as decimal(20, 4)))",
    "avg(cast(x as decimal(38, 4)))",
    "avg(distinct cast(x as decimal(20, 4)))",
    "max(v)",
    "max(s)",
    "min(x)",
    "min(s)",
    "min(b)",
    "median(x)",
    "median(v)",
    "median(distinct v)",
    "count(*)",
    "count(x)",
    "count(distinct v)",
    "count(distinct s)",
    "count(*) filter (where x > 50)",
    "regr_slope(y, x)",
    "regr_intercept(y, x)",
    "regr_count(y, x)",
    "regr_r2(y, x)",
    "regr_avgx(y, x)",
    "regr_avgy(y, x)",
    "regr_sxx(y, x)",
    "regr_syy(y, x)",
    "regr_sxy(y, x)",
    "var(x)",
    "var_samp(x)",
    "var_pop(x)",
    "stddev(x)",
    "stddev_samp(x)",
    "stddev_pop(x)",
    "approx_median(x)",
    "approx_distinct(s)",
    "approx_distinct(v)",
    "approx_percentile_cont(0.9) within group (order by x)",
    "approx_percentile_cont(0.9) within group (order by x desc)",
    "approx_percentile_cont_with_weight(v, 0.5) within group (order by x)",
    "percentile_cont(0.9) within group (order by x)",
    "percentile_cont(0.25) within group (order by x desc)",
    "quantile_cont(0.9) within group (order by x)",
    "percentile_disc(0.9) within group (order by v)",
    "percentile_disc(distinct 0.9) within group (order by v desc)",
    "quantile_disc(0.5) within group (order by x)",
    "string_agg(s, ',' order by id)",
    "string_agg(distinct s, ',' order by s)",
    "bit_and(v)",
    "bit_or(v)",
    "bit_xor(v)",
    "bit_xor(distinct v)",
    "bool_and(b)",
    "bool_or(b)",
    "avg(x)",
    "avg(v)",
    "mean(x)",
    "avg(distinct x)",
    "var(distinct x)",
    "percentile_cont(distinct 0.5) within group (order by v)",
    "count(distinct x) filter (where b)",
    "array_agg(v order by id) filter (where b)",
    "nth_value(same, 1)",
    "nth_value(s, 3 order by id)",
    "sum(x) / count(*) + max(v)",
];

fn rows(seed: u64, n: usize) -> RecordBatch {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut some = |null: bool| !null || rng.random_bool(0.9);
    let valid: Vec<[bool; 4]> = (0..n).map(|_| [some(true), some(true), some(true), some(true)]).collect();
    let mut rng = SmallRng::seed_from_u64(seed + 1);
    let v: Int64Array = valid
        .iter()
        .map(|ok| {
            let v = rng.random_range(0..40);
            ok[0].then_some(v)
        })
        .collect();
    let x: Float64Array = valid
        .iter()
        .map(|ok| {
            let x = rng.random_range(0.0..100.0);
            ok[1].then_some(x)
        })
        .collect();
    let y: Float64Array = valid
        .iter()
        .map(|ok| {
            let y = rng.random_range(-10.0..10.0);
            ok[2].then_some(y)
        })
        .collect();
    let s: StringArray = valid
        .iter()
        .map(|ok| {
            let s = rng.random_range(0..30);
            ok[3].then_some(format!("s{s}"))
        })
        .collect();
    let b: BooleanArray = (0..n).map(|_| Some(rng.random_bool(0.7))).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("v", Arc::new(v) as ArrayRef, true),
        ("x", Arc::new(x), true),
        ("y", Arc::new(y), true),
        ("s", Arc::new(s), true),
        ("b", Arc::new(b), true),
        ("same", Arc::new(Int64Array::from(vec![7; n])), true),
        ("id", Arc::new(Int64Array::from_iter_values((0..n as i64).map(|i| i + seed as i64))), true),
    ])
    .unwrap()
}

/// As [`aggregate`], in parts whose states are merged, some in another order of groups than they were made in.
fn aggregate_in_parts(expr: &AggregateExpr, batch: &RecordBatch, groups: &[usize], cuts: &[usize]) -> ArrayRef {
    let results = expr.calls().iter().map(|call| {
        let mut merged = call.accumulator().unwrap();
        let mut part = call.accumulator().unwrap();
        // In the order in which they came.
        let mut known: Vec<usize> = Vec::new();
        let mut start = 0;
        for &end in cuts.iter().chain([&batch.num_rows()]) {
            let rows = batch.slice(start, end - start);
            // Groups of the part are numbered from the end.
            let present: Vec<usize> = groups[start..end].iter().copied().collect::<BTreeSet<_>>().into_iter().rev().collect();
            let number = |of: &[usize], group| of.iter().position(|g| *g == group);
            let local: Vec<usize> = groups[start..end].iter().filter_map(|group| number(&present, *group)).collect();
            part.update(&call.inputs(&rows).unwrap(), &local, present.len()).unwrap();
            assert!(part.size() > 0);
            let state = part.state().unwrap();
            let types: Vec<_> = state.iter().map(|column| column.data_type().clone()).collect();
            let fields: Vec<DataType> = call.state_fields().iter().map(|field| field.data_type().clone()).collect();
            assert!(
                types.iter().zip(&fields).all(|(a, b)| a.equals_datatype(b)) && types.len() == fields.len(),
                "{}: {types:?} is not {fields:?}",
                call.text()
            );
            known.extend(present.iter().copied().filter(|g| !known.contains(g)).collect::<Vec<_>>());
            let to: Vec<usize> = present.iter().filter_map(|group| number(&known, *group)).collect();
            merged.merge(&state, &to, known.len()).unwrap();
            start = end;
        }
        let by_group: UInt32Array = (0..GROUPS).map(|group| known.iter().position(|g| *g == group).map(|at| at as u32)).collect();
        assert_eq!(by_group.null_count(), 0, "every group has rows");
        take(&merged.evaluate().unwrap(), &by_group, None).unwrap()
    });
    expr.finish(results.collect()).unwrap()
}

fn assert_same(text: &str, once: &ArrayRef, merged: &ArrayRef) {
    if once.data_type() != &DataType::Float64 {
        return assert_eq!(shown(once), shown(merged), "{text}");
    }
    // Sums of floats differ in the last digits, digests within their error.
    let tolerance = if text.starts_with("approx") { 0.05 } else { 1e-9 };
    let (once, merged) = (once.as_primitive::<Float64Type>(), merged.as_primitive::<Float64Type>());
    for (a, b) in once.iter().zip(merged) {
        match (a, b) {
            (Some(a), Some(b)) => assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{text}: {a} is not {b}"),
            (a, b) => assert_eq!(a, b, "{text}"),
        }
    }
}

#[test]
fn partials_merge_to_the_result_of_one_pass() {
    let functions = functions();
    for seed in 0..4 {
        let batch = rows(seed, 400);
        let mut rng = SmallRng::seed_from_u64(seed + 2);
        // Group 4 has no rows in the first two parts, and few at all.
        let groups: Vec<usize> = (0..400).map(|row| if row >= 390 { 4 } else { rng.random_range(0..4) }).collect();
        for text in CALLS {
            let expr = functions.compile_aggregate(text, &batch.schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
            let once = aggregate(&expr, &batch, &groups);
            assert_eq!(once.len(), GROUPS, "{text}");
            assert_same(text, &once, &aggregate_in_parts(&expr, &batch, &groups, &[130, 131, 300]));
        }
    }
}

#[test]
fn every_aggregate_function_is_tested() {
    let tested: BTreeSet<&str> = CALLS.iter().filter_map(|call| call.split('(').next()).collect();
    // Aliases of one function that differ in name alone need no call of their own.
    let schema = rows(0, 1).schema();
    let functions = functions();
    let canonical: BTreeSet<String> = CALLS
        .iter()
        .flat_map(|call| functions.compile_aggregate(call, &schema).unwrap().calls().to_vec())
        .map(|call| call.function().to_owned())
        .collect();
    let aliases = ["array_agg", "approx_percentile_cont", "var_sample", "var_population"];
    for function in functions.functions().iter().filter(|function| function.kind == FunctionKind::Aggregate) {
        let name = function.name.as_str();
        assert!(
            tested.contains(name) || canonical.contains(name) || aliases.contains(&name),
            "the aggregate function `{name}` is new: add calls of it to CALLS"
        );
    }
}
