//! [`Aggregates`]: the keys and named aggregates of a node, validated against its input.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::{AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::operator::{Determinism, Distribution, IDENTITY_DETAIL};
use karez_core::schema::is_hidden;
use karez_core::{Output, Result};
use karez_expr::{Aggregate, AggregateExpr, AggregateInput, ExprError, GroupTable};

use crate::keyed::normalised;
use crate::named::Named;
use crate::{expressions, rejects};

/// Key columns and named aggregate expressions over one input.
#[derive(Debug)]
pub(crate) struct Aggregates {
    /// Indices of the key columns in the input.
    pub(crate) keys: Vec<usize>,
    /// The key columns.
    pub(crate) key_schema: SchemaRef,
    /// Key columns, then the state columns of all calls: what partial aggregates look like.
    pub(crate) partial_schema: SchemaRef,
    /// By name, not as written: state and identity are the same in whatever order a job names its aggregates.
    named: Vec<(String, AggregateExpr)>,
    /// The result columns as written: indices into `named`.
    written: Vec<usize>,
}

impl Aggregates {
    /// Compiles what stands at `aggregates` of the options; without it, `count(*)` as `count`.
    pub(crate) fn compile(named: Option<Named>, keys: Vec<usize>, input: &Schema) -> Result<Self, ConfigErrors> {
        let Named(named) = named.unwrap_or_else(|| Named(vec![("count".into(), "count(*)".into())]));
        if named.is_empty() {
            return Err(ConfigError::new("aggregates", "no aggregate is given").hint("leave it out to count rows").into());
        }
        let key_schema = input.project(&keys).map_err(|e| ConfigError::new("keyBy", e.to_string()))?;
        GroupTable::try_new(&key_schema).map_err(|e| ConfigError::new("keyBy", e.to_string()))?;
        let mut errors = Vec::new();
        let mut compiled = Vec::with_capacity(named.len());
        for (name, text) in named {
            let path = format!("aggregates.{name}");
            match expressions::expressions().compile_aggregate(&text, input) {
                _ if key_schema.index_of(&name).is_ok() => errors.push(ConfigError::new(path, format!("`{name}` is a key column already"))),
                Ok(expr) if is_hidden(&expr.field(&name)) => errors.push(ConfigError::new(path, "the name is the engine's; choose another")),
                Ok(expr) => compiled.push((name, expr)),
                Err(e) => errors.push(expressions::config_error(path, &e)),
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let mut by_name: Vec<usize> = (0..compiled.len()).collect();
        by_name.sort_by_key(|&i| &compiled[i].0);
        let mut written = vec![0; compiled.len()];
        for (place, &i) in by_name.iter().enumerate() {
            written[i] = place;
        }
        compiled.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut aggregates = Self { keys, key_schema: Arc::new(key_schema), partial_schema: Arc::new(Schema::empty()), named: compiled, written };
        aggregates.partial_schema = Arc::new(aggregates.make_partial_schema());
        Ok(aggregates)
    }

    /// State columns are named by call and field: `0.sum`, `1.count`; names of keys may repeat them, positions are what counts.
    fn make_partial_schema(&self) -> Schema {
        let keys = self.key_schema.fields().iter().cloned();
        let states = self.calls().enumerate().flat_map(|(i, call)| {
            let field = move |f: &FieldRef| Arc::new(f.as_ref().clone().with_name(format!("{i}.{}", f.name())).with_nullable(true));
            call.state_fields().iter().map(field).collect::<Vec<_>>()
        });
        Schema::new(keys.chain(states).collect::<Vec<_>>())
    }

    /// All aggregate calls, in the order of the state columns.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Aggregate> {
        self.named.iter().flat_map(|(_, expr)| expr.calls())
    }

    /// The result columns, as written.
    pub(crate) fn result_fields(&self) -> impl Iterator<Item = Field> {
        self.written.iter().map(|&i| self.named[i].1.field(&self.named[i].0))
    }

    /// Indices of the input columns that keys and aggregates read, ascending.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.named.iter().flat_map(|(_, e)| e.columns()).chain(self.keys.iter().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Rows of one key meet in one subtask; without keys all rows do.
    pub(crate) fn distribution(&self) -> Distribution {
        if self.keys.is_empty() { Distribution::Global } else { Distribution::Hash(self.keys.clone()) }
    }

    /// Whether the results hang on anything but the rows.
    pub(crate) fn determinism(&self) -> Determinism {
        match self.named.iter().find(|(_, e)| !e.deterministic()) {
            Some((name, e)) => Determinism::No(format!("`{name}: {}` hangs on the order of rows or on the clock", e.text())),
            None => Determinism::Deterministic,
        }
    }

    /// Keys with their types and the texts of the aggregates, for [`karez_core::OperatorSpec::identity`]; behind a sum of decimals that is kept in more
    /// bits than its values, the type in which it is.
    pub(crate) fn identity(&self) -> String {
        let keys: Vec<String> = self.key_schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        let widened = |e: &AggregateExpr| e.calls().iter().filter_map(Aggregate::widened).map(|t| format!(" in {t}")).collect::<String>();
        let named: Vec<String> = self.named.iter().map(|(name, e)| format!("{name} = {}{}", e.text(), widened(e))).collect();
        format!("keyBy [{}] aggregates [{}]", keys.join(", "), named.join(", "))
    }

    /// The types of the states, for an identity whose state does not say them itself.
    pub(crate) fn states(&self) -> String {
        format!("{IDENTITY_DETAIL}[{}]", self.calls().map(Aggregate::state_types).collect::<Vec<_>>().join("; "))
    }

    /// Computes keys and arguments of a batch. Rows on which an argument fails are rejected; the good rows come second.
    pub(crate) fn rows(&self, batch: &RecordBatch, out: &mut dyn Output) -> Result<(AggregateRows, RecordBatch)> {
        let inputs = |rows: &RecordBatch| self.calls().map(|call| call.inputs(rows)).collect::<Result<Vec<_>, ExprError>>();
        let (inputs, good) = rejects::evaluate(batch, inputs, out)?;
        let keys = self.keys.iter().map(|&k| normalised(good.column(k))).collect();
        Ok((AggregateRows { rows: good.num_rows(), keys, inputs }, good))
    }

    /// Computes the result columns, as written, of the calls' results, one array per call.
    pub(crate) fn finish(&self, calls: &[ArrayRef]) -> Result<Vec<ArrayRef>, ExprError> {
        self.finish_each(calls).collect()
    }

    /// The same, each column for itself.
    pub(crate) fn finish_each(&self, calls: &[ArrayRef]) -> impl Iterator<Item = Result<ArrayRef, ExprError>> {
        self.written.iter().map(|&i| {
            let before: usize = self.named[..i].iter().map(|(_, expr)| expr.calls().len()).sum();
            let expr = &self.named[i].1;
            expr.finish(calls[before..before + expr.calls().len()].to_vec())
        })
    }
}

/// Rows reduced to what an aggregation needs of them: keys and arguments, as long as each other.
#[derive(Clone, Debug)]
pub(crate) struct AggregateRows {
    /// How many.
    pub(crate) rows: usize,
    /// The key columns.
    pub(crate) keys: Vec<ArrayRef>,
    /// The arguments of each call.
    pub(crate) inputs: Vec<AggregateInput>,
}

impl AggregateRows {
    /// Some rows in a line, without a copy.
    pub(crate) fn slice(&self, offset: usize, rows: usize) -> Self {
        let slice = |a: &ArrayRef| a.slice(offset, rows);
        let inputs = self
            .inputs
            .iter()
            .map(|i| AggregateInput { values: i.values.iter().map(slice).collect(), filter: i.filter.as_ref().map(|f| f.slice(offset, rows)) });
        Self { rows, keys: self.keys.iter().map(slice).collect(), inputs: inputs.collect() }
    }

    /// The rows of these indices.
    pub(crate) fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let all = |arrays: &[ArrayRef]| arrays.iter().map(|a| take(a, indices, None)).collect::<Result<Vec<_>, _>>();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let filter = input.filter.as_ref().map(|f| take(f, indices, None)).transpose()?;
            inputs.push(AggregateInput { values: all(&input.values)?, filter: filter.map(|f| f.as_boolean().clone()) });
        }
        Ok(Self { rows: indices.len(), keys: all(&self.keys)?, inputs })
    }
}
