//! [`GroupTable`]: rows of key columns to dense group numbers.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::error::ExprError;
use crate::integer_groups::IntegerGroups;

/// Numbers the distinct rows of key columns `0, 1, 2, …` in the order of their first appearance.
///
/// Null is a key of its own; `-0.0` and `0.0` are one key, and all NaN of one bit pattern are one. Without key columns every
/// row belongs to group 0.
pub struct GroupTable {
    keys: SchemaRef,
    groups: Groups,
}

enum Groups {
    /// No key columns: whether any row was seen.
    Global(bool),
    /// One column of integers or times.
    Integer(IntegerGroups),
    Values(Box<dyn GroupValues>),
}

impl GroupTable {
    /// A table without groups for keys of these types.
    ///
    /// # Errors
    /// When a type cannot be a key.
    pub fn try_new(keys: &Schema) -> Result<Self, ExprError> {
        let keys = Arc::new(keys.clone());
        let groups = match keys.fields().as_ref() {
            [] => Groups::Global(false),
            [key] if IntegerGroups::supports(key.data_type()) => Groups::Integer(IntegerGroups::new(key.data_type().clone())),
            _ => Groups::Values(new_group_values(Arc::clone(&keys), &GroupOrdering::None).map_err(|error| fail(&error))?),
        };
        Ok(Self { keys, groups })
    }

    /// The key columns.
    pub fn keys(&self) -> &SchemaRef {
        &self.keys
    }

    /// Finds or makes the group of each row: `groups` is cleared and gets one number per row. Without key columns use
    /// [`intern_rows`](Self::intern_rows), since no column tells the number of rows.
    ///
    /// # Errors
    /// When the columns are not of the types of the keys.
    pub fn intern(&mut self, keys: &[ArrayRef], groups: &mut Vec<usize>) -> Result<(), ExprError> {
        let rows = keys.first().map_or(0, |key| key.len());
        self.intern_rows(keys, rows, groups)
    }

    /// As [`intern`](Self::intern), with the number of rows.
    ///
    /// # Errors
    /// When the columns are not `rows` long or not of the types of the keys.
    pub fn intern_rows(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<usize>) -> Result<(), ExprError> {
        self.check(keys, rows)?;
        match &mut self.groups {
            Groups::Global(any) => {
                groups.clear();
                groups.resize(rows, 0);
                *any |= rows > 0;
                Ok(())
            }
            Groups::Integer(table) => table.intern(&keys[0], groups),
            Groups::Values(values) => values.intern(keys, groups).map_err(|error| fail(&error)),
        }
    }

    fn check(&self, keys: &[ArrayRef], rows: usize) -> Result<(), ExprError> {
        let fields = self.keys.fields();
        let fits =
            keys.len() == fields.len() && keys.iter().zip(fields).all(|(key, field)| key.data_type() == field.data_type() && key.len() == rows);
        if fits {
            return Ok(());
        }
        let got: Vec<_> = keys.iter().map(|key| format!("{} x {}", key.len(), key.data_type())).collect();
        let want: Vec<_> = fields.iter().map(|field| format!("{rows} x {}", field.data_type())).collect();
        Err(ExprError::new("", format!("key columns are [{}] where [{}] is needed", got.join(", "), want.join(", "))))
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        match &self.groups {
            Groups::Global(any) => usize::from(*any),
            Groups::Integer(table) => table.len(),
            Groups::Values(values) => values.len(),
        }
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held; may take time proportional to the number of groups.
    pub fn size(&self) -> usize {
        match &self.groups {
            Groups::Global(_) => 0,
            Groups::Integer(table) => table.size(),
            Groups::Values(values) => values.size(),
        }
    }

    /// The keys of all groups in the order of their numbers, one array per key column; no group is left.
    ///
    /// # Errors
    /// When DataFusion cannot build the columns.
    pub fn emit_all(&mut self) -> Result<Vec<ArrayRef>, ExprError> {
        match &mut self.groups {
            Groups::Global(any) => {
                *any = false;
                Ok(Vec::new())
            }
            Groups::Integer(table) => table.emit_all().map(|keys| vec![keys]),
            Groups::Values(values) => {
                let keys = values.emit(EmitTo::All).map_err(|error| fail(&error))?;
                // `emit` leaves the hash map of a table of several columns as it was: it points at rows that are gone.
                values.clear_shrink(0);
                Ok(keys)
            }
        }
    }
}

fn fail(error: &datafusion::common::DataFusionError) -> ExprError {
    ExprError::from_datafusion("", error)
}
