//! `flat-map`: one row for each element of a list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::operator::{MAIN, MAX_BATCH_ROWS, OutputPort};
use karez_core::sql_type::to_sql;
use karez_core::{Error, Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::inputs;

/// Options of `flat-map`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FlatMapOptions {
    /// The column to unnest: a list (or a map, as a list of `key` and `value`).
    unnest: String,
    /// The name of the element's column, which stands in the list's place. Default: the list's name.
    #[serde(default, rename = "as")]
    alias: Option<String>,
    /// Whether the fields of an element that is a struct become columns, in place of one column. Default: false.
    #[serde(default)]
    flatten: bool,
    /// Whether a row with an empty or null list is kept, with null for the element. Default: false, it gives no row.
    #[serde(default)]
    keep_empty: bool,
}

/// The factory of `flat-map`.
pub(crate) struct FlatMap;

impl OperatorFactory for FlatMap {
    fn name(&self) -> &'static str {
        "flat-map"
    }

    fn description(&self) -> &'static str {
        "Gives one row for each element of a list column; the other columns are repeated.\n\n```yaml\n\
         - { name: lines, type: flat-map, unnest: items, as: item }\n```\n\nA list of any length goes through in batches of bounded size."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(FlatMapOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<FlatMapOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        let options: FlatMapOptions = config::parse(context.config)?;
        let list = inputs::column("unnest", &options.unnest, &input.visible())?;
        let element = element_field(input.arrow.field(list))?;
        let name = options.alias.unwrap_or_else(|| options.unnest.clone());
        let elements: Vec<FieldRef> = match element.data_type() {
            // A null struct has null fields, and `keepEmpty` adds nulls.
            DataType::Struct(fields) if options.flatten => fields.iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect(),
            other if options.flatten => {
                return Err(
                    ConfigError::new("flatten", format!("an element of `{}` is {}, which has no fields", options.unnest, to_sql(other))).into()
                );
            }
            other => vec![Arc::new(Field::new(name, other.clone(), element.is_nullable() || options.keep_empty))],
        };
        let mut fields: Vec<FieldRef> = input.arrow.fields().iter().cloned().collect();
        fields.splice(list..=list, elements.iter().cloned());
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|f| f.name() == field.name()) {
                return Err(ConfigError::new("as", format!("two output columns are named `{}`", field.name()))
                    .hint("name the element with `as`, or rename the other with a `map` in front")
                    .into());
            }
        }
        let mut schema = input.clone();
        schema.arrow = Arc::new(Schema::new(fields));
        // Several rows come of one: its key does not tell them apart.
        schema.key = Vec::new();
        let unnest = Unnest { list, flatten: options.flatten, keep_empty: options.keep_empty, schema: Arc::clone(&schema.arrow) };
        Ok(Arc::new(FlatMapSpec { unnest, outputs: [OutputPort { name: MAIN.into(), schema }] }))
    }
}

fn element_field(list: &Field) -> Result<FieldRef, ConfigError> {
    match list.data_type() {
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => Ok(Arc::clone(f)),
        other => Err(ConfigError::new("unnest", format!("`{}` is {}, not a list", list.name(), to_sql(other)))),
    }
}

struct FlatMapSpec {
    unnest: Unnest,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for FlatMapSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningFlatMap { unnest: self.unnest.clone(), rest: None }))
    }
}

#[derive(Clone)]
struct Unnest {
    /// The list's index in the input.
    list: usize,
    flatten: bool,
    keep_empty: bool,
    schema: SchemaRef,
}

/// A batch that is unnested in parts: where the next one begins.
struct Rest {
    batch: RecordBatch,
    row: usize,
    element: usize,
}

struct RunningFlatMap {
    unnest: Unnest,
    rest: Option<Rest>,
}

impl RunningFlatMap {
    fn work(&mut self, out: &mut dyn Output) -> Result<Progress> {
        while let Some(rest) = &mut self.rest {
            let part = self.unnest.next(rest)?;
            if rest.row == rest.batch.num_rows() {
                self.rest = None;
            }
            if part.num_rows() > 0 {
                out.emit(0, part);
                if self.rest.is_some() && out.is_full() {
                    return Ok(Progress::More);
                }
            }
        }
        Ok(Progress::Done)
    }
}

impl Operator for RunningFlatMap {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        self.rest = Some(Rest { batch, row: 0, element: 0 });
        self.work(out)
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        self.work(out)
    }
}

impl Unnest {
    /// The next rows of a batch, at most [`MAX_BATCH_ROWS`].
    fn next(&self, rest: &mut Rest) -> Result<RecordBatch> {
        let lists = Lists::of(rest.batch.column(self.list))?;
        let mut rows: Vec<u32> = Vec::new();
        let mut elements: Vec<Option<u64>> = Vec::new();
        while rest.row < rest.batch.num_rows() && rows.len() < MAX_BATCH_ROWS {
            let (start, length) = lists.range(rest.row);
            if length == 0 && self.keep_empty {
                rows.push(rest.row as u32);
                elements.push(None);
            }
            let taken = (length - rest.element).min(MAX_BATCH_ROWS - rows.len());
            rows.extend(std::iter::repeat_n(rest.row as u32, taken));
            elements.extend((start + rest.element..start + rest.element + taken).map(|i| Some(i as u64)));
            rest.element += taken;
            if rest.element == length {
                (rest.row, rest.element) = (rest.row + 1, 0);
            }
        }
        self.rows(&rest.batch, &UInt32Array::from(rows), take(&lists.elements, &UInt64Array::from(elements), None)?)
    }

    fn rows(&self, batch: &RecordBatch, rows: &UInt32Array, elements: ArrayRef) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (i, column) in batch.columns().iter().enumerate() {
            if i != self.list {
                columns.push(take(column, rows, None)?);
            } else if self.flatten {
                columns.extend(fields_of(&elements)?);
            } else {
                columns.push(Arc::clone(&elements));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The fields of a struct; where the struct is null they are.
fn fields_of(elements: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let structs = elements.as_struct();
    let Some(nulls) = structs.nulls() else {
        return Ok(structs.columns().to_vec());
    };
    let index: UInt32Array = (0..structs.len()).map(|i| nulls.is_valid(i).then_some(i as u32)).collect();
    Ok(structs.columns().iter().map(|c| take(c, &index, None)).collect::<Result<_, _>>()?)
}

/// Lists of any layout: the elements of all, and where each list's are.
struct Lists<'a> {
    elements: ArrayRef,
    list: &'a ArrayRef,
    layout: Layout<'a>,
}

enum Layout<'a> {
    Offsets32(&'a [i32]),
    Offsets64(&'a [i64]),
    Fixed(&'a FixedSizeListArray),
}

impl<'a> Lists<'a> {
    fn of(list: &'a ArrayRef) -> Result<Self> {
        let (elements, layout) = match list.data_type() {
            DataType::List(_) => (Arc::clone(list.as_list::<i32>().values()), Layout::Offsets32(list.as_list::<i32>().value_offsets())),
            DataType::LargeList(_) => (Arc::clone(list.as_list::<i64>().values()), Layout::Offsets64(list.as_list::<i64>().value_offsets())),
            DataType::Map(..) => (Arc::new(list.as_map().entries().clone()) as ArrayRef, Layout::Offsets32(list.as_map().value_offsets())),
            DataType::FixedSizeList(..) => (Arc::clone(list.as_fixed_size_list().values()), Layout::Fixed(list.as_fixed_size_list())),
            other => return Err(Error::internal(format!("{other} is not a list"))),
        };
        Ok(Self { elements, list, layout })
    }

    /// Where the elements of a row's list begin, and how many there are.
    fn range(&self, row: usize) -> (usize, usize) {
        if self.list.is_null(row) {
            return (0, 0);
        }
        match self.layout {
            Layout::Offsets32(o) => (o[row] as usize, (o[row + 1] - o[row]) as usize),
            Layout::Offsets64(o) => (o[row] as usize, (o[row + 1] - o[row]) as usize),
            Layout::Fixed(a) => (a.value_offset(row) as usize, a.value_length() as usize),
        }
    }
}
