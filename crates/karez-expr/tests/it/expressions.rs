use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use karez_expr::{ExprError, evaluate_rows};

use crate::{eval, functions, orders, total};

#[test]
fn arithmetic_coerces_integers_to_doubles() {
    assert_eq!(eval("userId + amount"), ["11.0", "4.5", "-3.0", "-"]);
    assert_eq!(eval("userId * 2 + 1"), ["3", "5", "3", "-"]);
    assert_eq!(eval("abs(amount)"), ["10.0", "2.5", "4.0", "-"]);
}

#[test]
fn conditions_know_null() {
    assert_eq!(eval("amount > 0"), ["true", "true", "false", "-"]);
    assert_eq!(eval("amount is null or userId in (2, 3)"), ["false", "true", "false", "true"]);
    assert_eq!(eval("amount between 0 and 5"), ["false", "true", "false", "-"]);
    assert_eq!(eval("name like 'a%'"), ["true", "false", "false", "-"]);
    assert_eq!(eval("coalesce(name, 'none') = 'none'"), ["false", "false", "false", "true"]);
}

#[test]
fn case_and_casts() {
    assert_eq!(eval("case when amount > 5 then 'big' when amount > 0 then 'small' else 'none' end"), ["big", "small", "none", "none"]);
    assert_eq!(eval("cast(userId as varchar) || '!'"), ["1!", "2!", "1!", "-"]);
    assert_eq!(eval("try_cast(name as bigint)"), ["-", "-", "12", "-"]);
    assert_eq!(functions().compile("cast(userId as varchar)", &orders().schema()).unwrap().data_type(), &DataType::Utf8);
}

#[test]
fn time_functions() {
    assert_eq!(eval("date_trunc('hour', ts)")[0], "2024-03-01T12:00:00");
    assert_eq!(eval("extract(year from ts)")[0], "2024");
    assert_eq!(eval("date_part('minute', ts)")[0], "30");
    assert_eq!(eval("ts + interval '1' day")[0], "2024-03-02T12:30:00");
    assert_eq!(eval("ts >= '2024-03-01 12:00:00'"), ["true", "false", "false", "-"]);
    assert_eq!(eval("ts >= timestamp '2024-03-01 12:00:00'"), ["true", "false", "false", "-"]);
}

#[test]
fn the_clock_is_read_when_a_batch_is_evaluated() {
    assert_eq!(eval("now()")[0], "2024-03-01T12:30:00Z");
    assert_eq!(eval("CURRENT_TIMESTAMP")[0], "2024-03-01T12:30:00Z");
    assert_eq!(eval("localtimestamp()")[3], "2024-03-01T12:30:00");
    assert_eq!(eval("current_date")[0], "2024-03-01");
    assert_eq!(eval("current_time()")[0], "12:30:00");
    assert_eq!(eval("ts >= now() - interval '2' hour"), ["true", "true", "false", "-"]);
}

#[test]
fn names_are_matched_as_written_and_quoted_either_way() {
    assert_eq!(eval("\"userId\" + 1"), ["2", "3", "2", "-"]);
    assert_eq!(eval("`userId` + 1"), ["2", "3", "2", "-"]);
    let two = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("ID", DataType::Int64, true)]);
    assert_eq!(functions().compile("ID", &two).unwrap().as_column(), Some(1));
    assert_eq!(functions().compile("id", &two).unwrap().as_column(), Some(0));
}

#[test]
fn function_names_are_known_in_any_case() {
    assert_eq!(eval("UPPER(name)")[0], "ANN");
    assert_eq!(eval("Upper(name)")[1], "BOB");
}

#[test]
fn nested_values() {
    assert_eq!(eval("struct(userId, name)['c0']")[0], "1");
    assert_eq!(eval("named_struct('a', userId)['a']")[1], "2");
    assert_eq!(eval("array_length(make_array(userId, 7))")[0], "2");
    assert_eq!(eval("[userId, 7][2]")[0], "7");
    let point = DataType::Struct(vec![Field::new("xPos", DataType::Int64, true)].into());
    let input = Schema::new(vec![Field::new("pt", point, true)]);
    assert_eq!(functions().compile("pt.xPos + 1", &input).unwrap().data_type(), &DataType::Int64);
    assert_eq!(functions().compile("pt['xPos'] + 1", &input).unwrap().columns(), [0]);
}

#[test]
fn lambdas() {
    assert_eq!(eval("array_transform([userId, 7], x -> x + 1)")[0], "[2, 8]");
}

#[test]
fn columns_are_those_that_are_read() {
    let schema = orders().schema();
    assert_eq!(functions().compile("amount + userId + amount", &schema).unwrap().columns(), [0, 1]);
    assert!(functions().compile("1 + 1", &schema).unwrap().columns().is_empty());
}

#[test]
fn clocks_and_dice_are_not_deterministic() {
    let schema = orders().schema();
    for text in ["now()", "current_date", "localtimestamp()", "current_time", "random()", "uuid()", "amount + random()"] {
        assert!(!functions().compile(text, &schema).unwrap().deterministic(), "{text}");
    }
    for text in ["amount", "upper(name)", "date_trunc('day', ts)", "1 + 1"] {
        assert!(functions().compile(text, &schema).unwrap().deterministic(), "{text}");
    }
}

#[test]
fn constants_are_folded_and_literals_cast_when_compiled() {
    let narrow =
        Schema::new(vec![Field::new("small", DataType::Int32, true), Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true)]);
    for text in ["small > 10", "small = 1 + 2", "ts > '2024-01-01'", "ts >= timestamp '2024-01-01 00:00:00'"] {
        let plan = format!("{:?}", functions().compile(text, &narrow).unwrap());
        assert!(!plan.contains("CastExpr"), "{text}: the column is cast for each batch: {plan}");
    }
}

#[test]
fn a_plain_column_is_not_copied() {
    let batch = orders();
    let values = functions().compile("amount", &batch.schema()).unwrap().evaluate(&batch).unwrap();
    assert!(std::sync::Arc::ptr_eq(&values, batch.column(1)));
}

#[test]
fn a_predicate_takes_unknown_as_false() {
    let batch = orders();
    let predicate = functions().compile_predicate("amount > 0", &batch.schema()).unwrap();
    let selected = predicate.evaluate_predicate(&batch).unwrap();
    assert_eq!(selected.iter().map(Option::unwrap).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!(predicate.select(&batch).unwrap().num_rows(), 2);
    let never = functions().compile_predicate("null", &batch.schema()).unwrap();
    assert_eq!(never.select(&batch).unwrap().num_rows(), 0);
}

#[test]
fn a_bad_cast_is_narrowed_to_its_rows() {
    let batch = orders();
    let cast = functions().compile("cast(name as bigint)", &batch.schema()).unwrap();
    let result = evaluate_rows(&batch, |batch| cast.evaluate(batch)).unwrap();
    assert_eq!(result.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [0, 1]);
    assert!(result.failures[0].reason.contains("'ann'"), "{}", result.failures[0].reason);
    assert_eq!(crate::shown(&result.value), ["12", "-"]);
    assert_eq!(result.good.num_rows(), 2);
}

#[test]
fn a_division_by_zero_is_narrowed_to_its_rows() {
    let batch = orders();
    let filter = functions().compile_predicate("10 / (userId - 2) < 0", &batch.schema()).unwrap();
    let result = evaluate_rows(&batch, |batch| filter.select(batch)).unwrap();
    assert_eq!(result.failures.len(), 1);
    assert_eq!((result.failures[0].row, result.failures[0].reason.as_str()), (1, "division by zero (in `10 / (userId - 2) < 0`)"));
    assert_eq!(result.value.num_rows(), 2);
}

#[test]
fn a_constant_that_fails_is_an_error_when_it_runs_or_compiles() {
    let batch = orders();
    let error: Result<_, ExprError> = functions().compile("1 / 0", &batch.schema()).and_then(|e| e.evaluate(&batch));
    assert!(error.is_err());
}

#[test]
fn all_functions_are_listed() {
    let names = functions().functions();
    for name in ["upper", "sum", "now", "proctime", "array_transform", "sqrt", "date_bin", "md5", "regexp_like"] {
        assert!(names.iter().any(|known| known.name == name), "{name}");
    }
    assert!(names.is_sorted());
}

#[test]
fn whole_numbers_wrap_around_at_the_end_of_their_type() {
    assert_eq!(eval("userId + 9223372036854775807"), ["-9223372036854775808", "-9223372036854775807", "-9223372036854775808", "-"]);
    assert_eq!(eval("(userId - 1) * 4611686018427387904 * 2"), ["0", "-9223372036854775808", "0", "-"]);
    assert_eq!(total("sum(9223372036854775806 + userId)"), "9223372036854775806");
}

#[test]
fn whole_numbers_are_divided_to_whole_numbers_and_not_by_zero() {
    assert_eq!(eval("7 / userId"), ["7", "3", "7", "-"]);
    let batch = orders();
    for text in ["userId / (userId - userId)", "cast(userId as decimal(10, 2)) / (userId - userId)", "cast(name as bigint)"] {
        assert!(functions().compile(text, &batch.schema()).unwrap().evaluate(&batch).is_err(), "{text}");
    }
    assert_eq!(eval("try_cast(name as bigint)"), ["-", "-", "12", "-"]);
}
