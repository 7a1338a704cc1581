use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use karez_expr::FunctionKind;

use crate::{aggregate, functions, orders, shown, total};

#[test]
fn plain_calls() {
    assert_eq!(total("count(*)"), "4");
    assert_eq!(total("COUNT(userId)"), "3");
    assert_eq!(total("sum(userId)"), "4");
    assert_eq!(total("avg(amount)"), "2.8333333333333335");
    assert_eq!(total("min(name)"), "12");
}

#[test]
fn distinct_and_filter() {
    assert_eq!(total("count(distinct userId)"), "2");
    assert_eq!(total("sum(distinct userId)"), "3");
    assert_eq!(total("count(*) filter (where amount > 0)"), "2");
    assert_eq!(total("sum(amount) filter (where name <> 'ann')"), "-1.5");
}

#[test]
fn distinct_is_honoured_or_refused_by_every_function() {
    let of = |values: Vec<i64>| RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap();
    let (twice, once) = (of(vec![1, 2, 2, 6, 6, 6]), of(vec![1, 2, 6]));
    let functions = functions();
    for function in functions.functions().iter().filter(|function| function.kind == FunctionKind::Aggregate) {
        let name = &function.name;
        for (args, order) in [("v", ""), ("v, v", ""), ("v::varchar, ','", ""), ("v", " order by v"), ("0.3", ") within group (order by v")] {
            let call = |distinct: &str| functions.compile_aggregate(&format!("{name}({distinct}{args}{order})"), &once.schema());
            let (Ok(distinct), Ok(plain)) = (call("distinct "), call("")) else { continue };
            let distinct = shown(&aggregate(&distinct, &twice, &[0; 6])).remove(0);
            let plain = shown(&aggregate(&plain, &once, &[0; 3])).remove(0);
            let sorted = |text: &str| {
                let mut parts: Vec<String> = text.trim_matches(['[', ']']).split(',').map(|part| part.trim().to_owned()).collect();
                parts.sort();
                parts
            };
            assert_eq!(sorted(&distinct), sorted(&plain), "{name}({args}{order})");
        }
    }
}

#[test]
fn order_within_a_call() {
    assert_eq!(total("array_agg(name order by amount desc nulls last)"), "[ann, bob, 12, -]");
    assert_eq!(total("first_value(name order by ts)"), "12");
    assert_eq!(total("last_value(name order by amount nulls first)"), "ann");
    assert_eq!(total("nth_value(name, 2 order by amount)"), "bob");
    assert_eq!(total("string_agg(name, ',' order by name)"), "12,ann,bob");
    assert_eq!(total("sum(userId order by ts)"), "4");
}

#[test]
fn ordered_sets() {
    assert_eq!(total("percentile_cont(0.5) within group (order by amount)"), "2.5");
    assert_eq!(total("approx_percentile_cont(0.5) within group (order by amount)"), "2.5");
    assert_eq!(total("median(amount)"), "2.5");
}

#[test]
fn expressions_over_calls() {
    assert_eq!(total("sum(amount) / count(*)"), "2.125");
    assert_eq!(total("avg(case when amount > 0 then 1 else 0 end)"), "0.5");
    assert_eq!(total("max(userId) - min(userId) + 10"), "11");
    assert_eq!(total("round(sum(amount) * 100 / sum(userId), 1)"), "212.5");
    let expr = functions().compile_aggregate("sum(amount) + sum(amount) * count(*)", &orders().schema()).unwrap();
    assert_eq!(expr.calls().len(), 2, "a call that stands twice is made once");
    let single = functions().compile_aggregate("sum(amount)", &orders().schema()).unwrap();
    assert_eq!(single.finish_expr().as_column(), Some(0));
}

#[test]
fn groups_are_apart_and_may_come_later() {
    let batch = orders();
    let expr = functions().compile_aggregate("sum(amount)", &batch.schema()).unwrap();
    assert_eq!(shown(&aggregate(&expr, &batch, &[0, 1, 0, 2])), ["6.0", "2.5", "-"]);
}

#[test]
fn evaluate_leaves_no_group() {
    let batch = orders();
    let call = functions().compile_aggregate("count(*)", &batch.schema()).unwrap().calls()[0].clone();
    let mut state = call.accumulator().unwrap();
    for _ in 0..2 {
        state.update(&call.inputs(&batch).unwrap(), &[0; 4], 1).unwrap();
        assert_eq!(shown(&state.evaluate().unwrap()), ["4"]);
    }
    assert_eq!(state.evaluate().unwrap().len(), 0);
}

#[test]
fn a_state_without_groups_is_empty_columns() {
    for text in ["first_value(name order by ts)", "sum(amount)", "count(distinct name)", "median(amount)"] {
        let call = functions().compile_aggregate(text, &orders().schema()).unwrap().calls()[0].clone();
        let state = call.accumulator().unwrap().state().unwrap();
        assert_eq!(state.len(), call.state_fields().len(), "{text}");
        assert!(state.iter().all(|column| column.is_empty()), "{text}");
    }
}

#[test]
fn columns_are_those_of_arguments_filter_and_order() {
    let expr = functions().compile_aggregate("first_value(name order by ts) filter (where amount > 0)", &orders().schema()).unwrap();
    assert_eq!(expr.columns(), [1, 2, 3]);
    assert_eq!(expr.calls()[0].columns(), [1, 2, 3]);
    assert!(functions().compile_aggregate("count(*)", &orders().schema()).unwrap().columns().is_empty());
}

#[test]
fn determinism_and_exactness() {
    let of = |text: &str| functions().compile_aggregate(text, &orders().schema()).unwrap();
    for text in ["sum(amount)", "count(distinct name)", "array_agg(name order by ts)", "first_value(name order by ts)", "approx_distinct(name)"] {
        assert!(of(text).deterministic(), "{text}");
    }
    for text in [
        "first_value(name)",
        "last_value(name)",
        "nth_value(name, 2)",
        "array_agg(name)",
        "string_agg(name, ',')",
        "any_value(name)",
        "sum(amount + random())",
        "max(ts - now()::timestamp)",
        "count(*) filter (where ts > localtimestamp())",
        "sum(amount) + random()",
    ] {
        assert!(!of(text).deterministic(), "{text}");
    }
    assert!(of("median(amount)").exact());
    assert!(!of("approx_median(amount) + 1").exact());
}

#[test]
fn result_fields() {
    let expr = functions().compile_aggregate("count(*)", &orders().schema()).unwrap();
    assert_eq!(expr.field("orders"), Field::new("orders", DataType::Int64, false));
    let expr = functions().compile_aggregate("sum(amount)", &orders().schema()).unwrap();
    assert_eq!(expr.field("spend"), Field::new("spend", DataType::Float64, true));
}

#[test]
fn a_zero_divisor_among_results_fails() {
    let input = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
    let expr = functions().compile_aggregate("sum(v) / (count(*) - 1)", &input).unwrap();
    let results = vec![Arc::new(Int64Array::from(vec![5])) as _, Arc::new(Int64Array::from(vec![1])) as _];
    assert_eq!(expr.finish(results).unwrap_err().message, "division by zero");
}
