//! [`Projection`]: a whole output row computed from a batch.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{ExcludeSelectItem, Expr as SqlExpr, Ident, ObjectNamePart, SelectItem, WildcardAdditionalOptions};

use crate::check::{place, unknown_column};
use crate::compiled::CompiledExpr;
use crate::error::ExprError;
use crate::expressions::Expressions;
use crate::parse::parse_select_item;

/// A list of named expressions over one row. Plain columns are passed on without a copy. Cloning is cheap.
///
/// A column is named by, in this order: the name given beside the text, `AS name` in it, the column that it is, else the text.
#[derive(Debug, Clone)]
pub struct Projection {
    schema: SchemaRef,
    outputs: Arc<[Output]>,
}

#[derive(Debug, Clone)]
enum Output {
    /// Input column of that index.
    Column(usize),
    Computed(CompiledExpr),
}

impl Projection {
    pub(crate) fn compile<N: AsRef<str>, T: AsRef<str>>(
        expressions: &Expressions,
        items: &[(Option<N>, T)],
        input: &Schema,
    ) -> Result<Self, ExprError> {
        let mut builder = Builder { expressions, input, names: HashSet::new(), fields: Vec::new(), outputs: Vec::new() };
        for (name, text) in items {
            builder.item(name.as_ref().map(AsRef::as_ref), text.as_ref())?;
        }
        let schema = Arc::new(Schema::new_with_metadata(builder.fields, input.metadata().clone()));
        Ok(Self { schema, outputs: builder.outputs.into() })
    }

    /// The schema of what [`evaluate`](Self::evaluate) returns; metadata is the input's.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The input column that an output column is, unchanged but for its name.
    pub fn source_column(&self, output: usize) -> Option<usize> {
        match self.outputs.get(output)? {
            Output::Column(index) => Some(*index),
            Output::Computed(_) => None,
        }
    }

    /// Indices of the input columns that are read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self
            .outputs
            .iter()
            .flat_map(|output| match output {
                Output::Column(index) => std::slice::from_ref(index),
                Output::Computed(expr) => expr.columns(),
            })
            .copied()
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Whether all expressions are [deterministic](CompiledExpr::deterministic).
    pub fn deterministic(&self) -> bool {
        self.outputs.iter().all(|output| match output {
            Output::Column(_) => true,
            Output::Computed(expr) => expr.deterministic(),
        })
    }

    /// Computes the output rows, one for each input row.
    ///
    /// # Errors
    /// When any row fails; [`evaluate_rows`](crate::evaluate_rows) finds which.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<RecordBatch, ExprError> {
        let columns = self
            .outputs
            .iter()
            .map(|output| match output {
                Output::Column(index) => {
                    batch.columns().get(*index).map(Arc::clone).ok_or_else(|| ExprError::new("", format!("the batch has no column {index}")))
                }
                Output::Computed(expr) => expr.evaluate(batch),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|error| ExprError::from_arrow("", &error))
    }
}

struct Builder<'a> {
    expressions: &'a Expressions,
    input: &'a Schema,
    names: HashSet<String>,
    fields: Vec<FieldRef>,
    outputs: Vec<Output>,
}

impl Builder<'_> {
    fn item(&mut self, name: Option<&str>, text: &str) -> Result<(), ExprError> {
        let mut parsed = parse_select_item(text)?;
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = &mut parsed {
            self.expressions.planner(text, self.input)?.prefer_columns(expr);
        }
        match parsed {
            SelectItem::Wildcard(options) if name.is_none() => self.wildcard(text, &options),
            SelectItem::Wildcard(_) => Err(ExprError::new(text, "`*` stands for several columns and cannot be named")),
            SelectItem::UnnamedExpr(expr) => {
                let own = match &expr {
                    SqlExpr::Identifier(ident) => ident.value.as_str(),
                    SqlExpr::CompoundIdentifier(idents) => idents.last().map_or(text, |ident| ident.value.as_str()),
                    _ => text.trim(),
                };
                let name = name.unwrap_or(own).to_owned();
                self.computed(text, name, expr)
            }
            SelectItem::ExprWithAlias { expr, alias } => match name {
                Some(name) if name != alias.value => {
                    Err(ExprError::new(text, format!("two names for one column: `{name}` and `{}`", alias.value)).at(place(text, &alias)))
                }
                _ => self.computed(text, alias.value, expr),
            },
            SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                Err(ExprError::new(text, "only `expr`, `expr AS name`, `*` and `* EXCEPT (a, b)` are supported"))
            }
        }
    }

    fn computed(&mut self, text: &str, name: String, expr: SqlExpr) -> Result<(), ExprError> {
        let compiled = self.expressions.planner(text, self.input)?.compile_parsed(expr)?;
        match compiled.as_column() {
            Some(index) => self.column(text, name, index),
            None => self.push(text, Arc::new(compiled.field(&name)), Output::Computed(compiled)),
        }
    }

    /// An input column keeps its field, metadata included.
    fn column(&mut self, text: &str, name: String, index: usize) -> Result<(), ExprError> {
        let field = &self.input.fields()[index];
        let field = if *field.name() == name { Arc::clone(field) } else { Arc::new(field.as_ref().clone().with_name(name)) };
        self.push(text, field, Output::Column(index))
    }

    fn push(&mut self, text: &str, field: FieldRef, output: Output) -> Result<(), ExprError> {
        if !self.names.insert(field.name().clone()) {
            return Err(ExprError::new(text, format!("two output columns are named `{}`: name one with AS", field.name())));
        }
        self.fields.push(field);
        self.outputs.push(output);
        Ok(())
    }

    fn wildcard(&mut self, text: &str, options: &WildcardAdditionalOptions) -> Result<(), ExprError> {
        if options.opt_ilike.is_some() || options.opt_replace.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
            return Err(ExprError::new(text, "of the forms of `*` only `*` and `* EXCEPT (a, b)` are supported"));
        }
        let excluded = excluded(options);
        for ident in &excluded {
            if self.input.fields().iter().all(|field| *field.name() != ident.value) {
                return Err(unknown_column(text, ident, self.input));
            }
        }
        for (index, field) in self.input.fields().iter().enumerate() {
            if excluded.iter().all(|ident| ident.value != *field.name()) {
                self.column(text, field.name().clone(), index)?;
            }
        }
        Ok(())
    }
}

/// `EXCEPT (a, b)` and `EXCLUDE (a, b)` say the same.
fn excluded(options: &WildcardAdditionalOptions) -> Vec<&Ident> {
    let mut excluded = Vec::new();
    if let Some(except) = &options.opt_except {
        excluded.push(&except.first_element);
        excluded.extend(&except.additional_elements);
    }
    let names = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_ref(name),
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => &[],
    };
    excluded.extend(names.iter().filter_map(|name| match name.0.last() {
        Some(ObjectNamePart::Identifier(ident)) => Some(ident),
        _ => None,
    }));
    excluded
}
