use karez_expr::ExprError;

use crate::{functions, orders};

fn error(text: &str) -> ExprError {
    functions().compile(text, &orders().schema()).unwrap_err()
}

fn aggregate_error(text: &str) -> ExprError {
    functions().compile_aggregate(text, &orders().schema()).unwrap_err()
}

fn at(error: &ExprError) -> &str {
    &error.text[error.span.clone().expect("a place").bytes]
}

#[test]
fn a_misspelt_column_gets_a_suggestion_and_its_place() {
    let error = error("1 + amout * 2");
    assert_eq!(error.to_string(), "unknown column `amout`, did you mean `amount`?");
    assert_eq!(at(&error), "amout");
    let span = error.span.unwrap();
    assert_eq!((span.line, span.column), (1, 5));
}

#[test]
fn a_column_in_the_wrong_case_gets_a_suggestion() {
    assert_eq!(error("userid = 1").suggestion.as_deref(), Some("userId"));
    assert_eq!(error("\"USERID\" = 1").suggestion.as_deref(), Some("userId"));
}

#[test]
fn a_column_like_none_lists_those_there_are() {
    let error = error("zzz = 1");
    assert_eq!(error.suggestion, None);
    assert_eq!(error.message, "unknown column `zzz` (columns: `userId`, `amount`, `name`, `ts`)");
}

#[test]
fn places_are_right_over_several_lines() {
    let error = error("amount > 0\n  and nme = 'é'");
    assert_eq!(at(&error), "nme");
    assert_eq!(error.span.unwrap().line, 2);
}

#[test]
fn a_misspelt_function_gets_a_suggestion_and_its_place() {
    let error = error("amount + uper(name)");
    assert_eq!(error.to_string(), "unknown function `uper`, did you mean `upper`?");
    assert_eq!(at(&error), "uper");
    assert_eq!(aggregate_error("summ(amount)").suggestion.as_deref(), Some("sum"));
}

#[test]
fn types_that_do_not_fit_are_refused() {
    assert!(error("name + ts").message.to_lowercase().contains("plus") || error("name + ts").message.contains('+'));
    assert!(error("upper()").message.contains("upper"));
    let not_boolean = functions().compile_predicate("amount + 1", &orders().schema()).unwrap_err();
    assert_eq!(not_boolean.message, "a condition must be boolean, but this is double");
}

#[test]
fn what_belongs_to_an_operator_is_refused_by_its_name() {
    assert!(error("row_number() over (order by amount)").message.contains("window-aggregate"));
    assert!(error("sum(amount) over ()").message.contains("window-aggregate"));
    assert!(error("lag(amount)").message.contains("window-aggregate"));
    assert!(error("sum(amount)").message.contains("aggregate operator") || error("sum(amount)").message.contains("aggregate function"));
    assert!(error("(select 1)").message.contains("subquery"));
    assert!(error("amount in (select 1)").message.contains("subquery"));
    assert!(error("exists (select 1)").message.contains("subquery"));
    assert!(error("unnest([1, 2])").message.contains("unnest operator"));
    assert!(error("amount = $1").message.contains("parameter"));
}

#[test]
fn aggregates_are_whole_and_not_nested() {
    assert!(aggregate_error("sum(amount) + userId").message.contains("`userId`"));
    assert!(aggregate_error("sum(max(amount))").message.contains("within another"));
    assert!(aggregate_error("amount + 1").message.contains("aggregate function is needed"));
    assert!(aggregate_error("grouping(amount)").message.contains("GROUPING SETS"));
}

#[test]
fn syntax_errors_have_a_place_and_say_it_once() {
    let error = error("amount > > 3");
    assert_eq!(error.span.unwrap().bytes.start, 9);
    assert!(!error.message.contains("Line"), "{}", error.message);
}

#[test]
fn what_follows_the_expression_is_refused() {
    let trailing = error("amount > 3 4");
    assert_eq!(trailing.message, "unexpected `4` after the expression");
    assert_eq!(at(&trailing), "4");
    assert_eq!(error("amount as x").message, "unexpected `as` after the expression");
}

#[test]
fn an_open_string_or_parenthesis_is_an_error() {
    assert!(error("name = 'abc").span.is_some());
    assert_eq!(error("(amount + 1").text, "(amount + 1");
    assert_eq!(error("  ").message, "the expression is empty");
}

#[test]
fn places_count_characters_and_bytes() {
    let error = error("'é' = name and\n  amöunt > 0");
    assert_eq!(at(&error), "amöunt");
    let span = error.span.unwrap();
    assert_eq!((span.line, span.column), (2, 3));
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    let text = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(error(&text).message.contains("deep"));
}
