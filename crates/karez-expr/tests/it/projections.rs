use std::sync::Arc;

use karez_expr::{ExprError, Projection};

use crate::{functions, int_column, orders, shown};

fn project(items: &[(Option<&str>, &str)]) -> Result<Projection, ExprError> {
    functions().compile_projection(items, &orders().schema())
}

fn names(projection: &Projection) -> Vec<&str> {
    projection.schema().fields().iter().map(|field| field.name().as_str()).collect()
}

#[test]
fn columns_are_named_by_item_alias_column_or_text() {
    let projection =
        project(&[(Some("id"), "userId"), (None, "amount * 2 as twice"), (None, "name"), (None, "amount + 1"), (None, "upper(name) loud")]).unwrap();
    assert_eq!(names(&projection), ["id", "twice", "name", "amount + 1", "loud"]);
    let out = projection.evaluate(&orders()).unwrap();
    assert_eq!(shown(out.column(1)), ["20.0", "5.0", "-8.0", "-"]);
    assert_eq!(projection.columns(), [0, 1, 2]);
    assert!(projection.deterministic());
}

#[test]
fn star_is_all_columns_and_except_leaves_some_out() {
    assert_eq!(names(&project(&[(None, "*")]).unwrap()), ["userId", "amount", "name", "ts"]);
    let projection = project(&[(None, "* except (userId, ts)"), (Some("userId"), "userId + 1")]).unwrap();
    assert_eq!(names(&projection), ["amount", "name", "userId"]);
    assert_eq!(int_column(&projection.evaluate(&orders()).unwrap().slice(0, 3), 2), [2, 3, 2]);
    let typo = project(&[(None, "* except (nam)")]).unwrap_err();
    assert_eq!(typo.to_string(), "unknown column `nam`, did you mean `name`?");
    assert!(typo.span.is_some());
}

#[test]
fn plain_columns_are_not_copied() {
    let batch = orders();
    let projection = project(&[(None, "name as who"), (None, "ts")]).unwrap();
    let out = projection.evaluate(&batch).unwrap();
    assert!(Arc::ptr_eq(out.column(0), batch.column(2)));
    assert!(Arc::ptr_eq(out.column(1), batch.column(3)));
    assert_eq!((projection.source_column(0), projection.source_column(5)), (Some(2), None));
}

#[test]
fn two_columns_of_one_name_are_refused() {
    assert!(project(&[(None, "*"), (None, "amount")]).unwrap_err().message.contains("`amount`"));
    assert!(project(&[(Some("x"), "*")]).is_err());
    assert!(project(&[(Some("x"), "amount as y")]).is_err());
}

#[test]
fn no_column_at_all_keeps_the_number_of_rows() {
    assert_eq!(project(&[]).unwrap().evaluate(&orders()).unwrap().num_rows(), 4);
}

#[test]
fn an_error_names_the_text_of_its_item() {
    let error = project(&[(None, "name"), (Some("x"), "amout + 1")]).unwrap_err();
    assert_eq!(error.text, "amout + 1");
}
