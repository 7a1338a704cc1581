//! [`CompiledExpr`]: one column computed from a batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use karez_core::sql_type::to_sql;

use crate::error::ExprError;

/// An expression over one row, ready to run on batches of the schema that it was compiled for. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct CompiledExpr {
    text: Arc<str>,
    physical: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    columns: Arc<[usize]>,
    deterministic: bool,
}

impl CompiledExpr {
    pub(crate) fn try_new(text: &str, physical: Arc<dyn PhysicalExpr>, input: &Schema, deterministic: bool) -> Result<Self, ExprError> {
        let fail = |error| ExprError::from_datafusion(text, &error);
        let field = physical.return_field(input).map_err(fail)?;
        // What the kernels will make, not what the plan promised of names and metadata.
        let field = Field::new(field.name(), physical.data_type(input).map_err(fail)?, physical.nullable(input).map_err(fail)?)
            .with_metadata(field.metadata().clone());
        let mut columns: Vec<usize> = collect_columns(&physical).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { text: text.into(), physical, field: Arc::new(field), columns: columns.into(), deterministic })
    }

    /// The expression as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of the result.
    pub fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    /// Whether the result may hold nulls.
    pub fn nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// The result as a column named `name`.
    pub fn field(&self, name: &str) -> Field {
        self.field.as_ref().clone().with_name(name)
    }

    /// Indices of the input columns that are read, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The input column that this is, if it is nothing else.
    pub fn as_column(&self) -> Option<usize> {
        self.physical.downcast_ref::<Column>().map(Column::index)
    }

    /// Whether the same row gives the same result whenever it is evaluated: false with `now()`, `random()`, `uuid()`, ….
    pub fn deterministic(&self) -> bool {
        self.deterministic
    }

    /// Computes the column: as many values as the batch has rows. A plain column is returned without a copy.
    ///
    /// # Errors
    /// When any row fails (a bad cast, a division by zero); [`evaluate_rows`](crate::evaluate_rows) finds which.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, ExprError> {
        self.physical
            .evaluate(batch)
            .and_then(|value| value.into_array(batch.num_rows()))
            .map_err(|error| ExprError::from_datafusion(&self.text, &error))
    }

    /// Computes a condition. No nulls are in the result: what is unknown is false, as in `WHERE`.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and when the expression is not boolean.
    pub fn evaluate_predicate(&self, batch: &RecordBatch) -> Result<BooleanArray, ExprError> {
        let values = self.evaluate(batch)?;
        if *values.data_type() == DataType::Null {
            return Ok(BooleanArray::from(vec![false; batch.num_rows()]));
        }
        let values = values
            .as_boolean_opt()
            .ok_or_else(|| ExprError::new(&*self.text, format!("a condition must be boolean, but this is {}", to_sql(values.data_type()))))?;
        Ok(if values.null_count() == 0 { values.clone() } else { prep_null_mask_filter(values) })
    }

    /// The rows of the batch for which the condition is true. A batch that passes whole is returned without a copy.
    ///
    /// # Errors
    /// As [`evaluate_predicate`](Self::evaluate_predicate).
    pub fn select(&self, batch: &RecordBatch) -> Result<RecordBatch, ExprError> {
        let selected = self.evaluate_predicate(batch)?;
        if selected.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        filter_record_batch(batch, &selected).map_err(|error| ExprError::from_arrow(&self.text, &error))
    }
}
