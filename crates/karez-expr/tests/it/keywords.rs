//! Columns named like functions that SQL calls without parentheses.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};

use crate::{aggregate, functions, shown};

/// `user, User, current_date, who (user, current_date)`.
fn rows() -> RecordBatch {
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let field = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let who = StructArray::from(vec![(field("user"), text(["eve", "kim"])), (field("current_date"), text(["x", "y"]))]);
    RecordBatch::try_from_iter([
        ("user", text(["ann", "bob"])),
        ("User", text(["Ann", "Bob"])),
        ("current_date", Arc::new(Int64Array::from(vec![1, 2]))),
        ("who", Arc::new(who)),
    ])
    .unwrap()
}

fn eval(text: &str) -> Vec<String> {
    let batch = rows();
    let compiled = functions().compile(text, &batch.schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    shown(&compiled.evaluate(&batch).unwrap())
}

#[test]
fn a_column_wins_over_the_keyword() {
    assert_eq!(eval("user"), ["ann", "bob"]);
    assert_eq!(eval("upper(User) || user"), ["ANNann", "BOBbob"]);
    assert_eq!(eval("current_date + 1"), ["2", "3"]);
    assert_eq!(eval("case when user = 'ann' then current_date end"), ["1", "-"]);
    assert_eq!(eval("who.user || who.current_date"), ["evex", "kimy"]);
}

#[test]
fn with_parentheses_it_is_the_function() {
    assert_eq!(eval("current_date()"), ["2024-03-01", "2024-03-01"]);
    let none = arrow::datatypes::Schema::empty();
    assert_eq!(functions().compile("current_date", &none).unwrap().data_type(), &DataType::Date32);
}

#[test]
fn a_keyword_that_is_neither_function_nor_column_is_a_missing_column() {
    let error = functions().compile("session_user = 'x'", &rows().schema()).unwrap_err();
    assert!(error.message.starts_with("unknown column `session_user`"), "{error}");
    assert_eq!(&error.text[error.span.unwrap().bytes], "session_user");
}

#[test]
fn in_projections_and_aggregates_too() {
    let projection = functions().compile_projection(&[(None::<&str>, "user"), (None, "who.user"), (None, "user as u")], &rows().schema());
    let projection = projection.map_err(|e| e.to_string());
    assert!(projection.as_ref().err().is_some_and(|e| e.contains("two output columns are named `user`")), "{projection:?}");
    let projection = functions().compile_projection(&[(None::<&str>, "user"), (None, "user as u")], &rows().schema()).unwrap();
    assert_eq!((projection.source_column(0), projection.source_column(1)), (Some(0), Some(0)));
    let batch = rows();
    let expr = functions().compile_aggregate("max(user)", &batch.schema()).unwrap();
    assert_eq!(shown(&aggregate(&expr, &batch, &[0, 0])), ["bob"]);
}
