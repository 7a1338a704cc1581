use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use karez_expr::GroupTable;
use proptest::prelude::*;

use crate::shown;

fn table(types: &[DataType]) -> GroupTable {
    let fields: Vec<_> = types.iter().enumerate().map(|(i, t)| Field::new(format!("k{i}"), t.clone(), true)).collect();
    GroupTable::try_new(&Schema::new(fields)).unwrap()
}

fn intern(table: &mut GroupTable, keys: &[ArrayRef]) -> Vec<usize> {
    let mut groups = vec![99];
    table.intern(keys, &mut groups).unwrap();
    groups
}

#[test]
fn groups_are_numbered_by_first_appearance_and_null_is_a_key() {
    let keys: [ArrayRef; 4] = [
        Arc::new(Int64Array::from(vec![Some(7), None, Some(0), Some(7), None])),
        Arc::new(Int32Array::from(vec![Some(-7), None, Some(0), Some(-7), None])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(7), None, Some(0), Some(7), None]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some("x"), None, Some(""), Some("x"), None])),
    ];
    for key in keys {
        let mut table = table(&[key.data_type().clone()]);
        assert_eq!(intern(&mut table, std::slice::from_ref(&key)), [0, 1, 2, 0, 1]);
        assert_eq!(table.len(), 3);
        assert!(table.size() > 0);
        let emitted = table.emit_all().unwrap();
        assert_eq!(emitted[0].data_type(), key.data_type());
        assert_eq!(shown(&emitted[0]), shown(&key.slice(0, 3)));
        assert!(table.is_empty());
        assert_eq!(intern(&mut table, &[key.slice(1, 2)]), [0, 1], "numbers start again");
    }
}

#[test]
fn several_columns_are_one_key() {
    let mut table = table(&[DataType::Int64, DataType::Utf8]);
    let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), None, Some(1), None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("y"), None, Some("x"), None]));
    assert_eq!(intern(&mut table, &[a, b]), [0, 1, 2, 0, 2]);
    let keys = table.emit_all().unwrap();
    assert_eq!(shown(&keys[0]), ["1", "1", "-"]);
    assert_eq!(shown(&keys[1]), ["x", "y", "-"]);
}

#[test]
fn without_keys_all_rows_are_one_group() {
    let mut table = table(&[]);
    let mut groups = Vec::new();
    assert_eq!(table.len(), 0);
    table.intern_rows(&[], 3, &mut groups).unwrap();
    assert_eq!((groups, table.len()), (vec![0, 0, 0], 1));
    assert!(table.emit_all().unwrap().is_empty());
    assert_eq!(table.len(), 0);
}

#[test]
fn keys_of_other_types_are_an_error() {
    let key: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
    let error = table(&[DataType::Int64]).intern(&[key], &mut Vec::new()).unwrap_err();
    assert!(error.message.contains("1 x UInt64"), "{error}");
}

proptest! {
    #[test]
    fn integers_are_grouped_as_by_a_map(batches in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.95, -300_i64..300), 0..500), 0..6)) {
        let mut table = table(&[DataType::Int64]);
        let mut expected: HashMap<Option<i64>, usize> = HashMap::new();
        for batch in &batches {
            let next: Vec<usize> = batch.iter().map(|key| { let n = expected.len(); *expected.entry(*key).or_insert(n) }).collect();
            prop_assert_eq!(intern(&mut table, &[Arc::new(Int64Array::from(batch.clone()))]), next);
        }
        prop_assert_eq!(table.len(), expected.len());
    }
}

#[test]
fn a_table_of_several_columns_is_empty_after_its_keys_were_taken() {
    let mut table = table(&[DataType::Utf8, DataType::Utf8]);
    let keys = |rows: &[(&str, &str)]| -> [ArrayRef; 2] {
        let (a, b): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        [Arc::new(StringArray::from(a)), Arc::new(StringArray::from(b))]
    };
    assert_eq!(intern(&mut table, &keys(&[("EWR", "UA"), ("LGA", "UA"), ("JFK", "AA")])), [0, 1, 2]);
    table.emit_all().unwrap();
    // The same keys come back with other numbers: what was known of them is gone.
    assert_eq!(intern(&mut table, &keys(&[("JFK", "AA"), ("EWR", "UA"), ("JFK", "AA")])), [0, 1, 0]);
    assert_eq!(table.len(), 2);
}
