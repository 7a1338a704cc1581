//! A running look-up: the distinct keys of a batch, those the cache does not know asked for, the rows joined.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatchOptions, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use async_trait::async_trait;
use futures::future::try_join_all;
use hashbrown::HashMap;
use karez_core::async_operator::{Answer, AsyncContext};
use karez_core::lookup::{LookupReaderContext, MAX_MATCHES};
use karez_core::metrics::NodeMetrics;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::{AsyncOperator, Clock, Error, Lookup, LookupReader, Result, dead_letter};
use karez_external::ExternalCalls;
use tokio::sync::OnceCell;

use super::Plan;
use super::cache::{Cache, Limits, Matches};
use super::keys::{as_key, without_null};
use super::options::{CacheOptions, Join, OnMultiple};

pub(super) struct Running {
    plan: Arc<Plan>,
    lookup: Arc<dyn Lookup>,
    reader: OnceCell<Arc<dyn LookupReader>>,
    calls: ExternalCalls,
    key_rows: RowConverter,
    /// `None` where no column is added.
    value_rows: Option<RowConverter>,
    /// A row of nulls in the columns added.
    missing: Box<[u8]>,
    cache: Option<Mutex<Cache>>,
    metrics: Arc<NodeMetrics>,
    clock: Arc<dyn Clock>,
}

/// What the rows of a batch ask for.
struct Asked {
    keys: Vec<ArrayRef>,
    rows: Rows,
    /// Which of `distinct` each row asks for; `None` where its key is null.
    of_row: Vec<Option<usize>>,
    /// The first row of each key.
    distinct: Vec<usize>,
}

impl Running {
    pub(super) fn new(plan: Arc<Plan>, lookup: Arc<dyn Lookup>, calls: ExternalCalls, context: AsyncContext) -> Result<Self> {
        let converter = |fields: &[Arc<arrow::datatypes::Field>]| {
            RowConverter::new(fields.iter().map(|f| SortField::new(f.data_type().clone())).collect()).map_err(Error::from)
        };
        let (key, values) = plan.table.fields().split_at(plan.key.len());
        let value_rows = if values.is_empty() { None } else { Some(converter(values)?) };
        let missing = match &value_rows {
            None => Box::default(),
            Some(rows) => {
                let nulls: Vec<ArrayRef> = values.iter().map(|f| arrow::array::new_null_array(f.data_type(), 1)).collect();
                rows.convert_columns(&nulls)?.row(0).data().into()
            }
        };
        let cache = plan.cache.as_ref().map(|options| Mutex::new(Cache::new(limits(options, context.parallelism))));
        let key_rows = converter(key)?;
        Ok(Self {
            plan,
            lookup,
            reader: OnceCell::new(),
            calls,
            key_rows,
            value_rows,
            missing,
            cache,
            metrics: context.metrics,
            clock: context.clock,
        })
    }

    fn cache(&self) -> Option<MutexGuard<'_, Cache>> {
        self.cache.as_ref().map(|c| c.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn asked(&self, batch: &RecordBatch) -> Result<Asked> {
        let fields = self.plan.table.fields();
        let keys = self.plan.key.iter().zip(fields).map(|(&c, f)| as_key(batch.column(c), f.data_type())).collect::<Result<Vec<_>>>()?;
        let rows = self.key_rows.convert_columns(&keys)?;
        let mut of_row = vec![None; batch.num_rows()];
        let mut distinct = Vec::new();
        let mut seen = HashMap::new();
        for row in without_null(&keys, batch.num_rows()) {
            let next = distinct.len();
            let at = *seen.entry(rows.row(row)).or_insert(next);
            if at == next {
                distinct.push(row);
            }
            of_row[row] = Some(at);
        }
        drop(seen);
        Ok(Asked { keys, rows, of_row, distinct })
    }

    /// The rows of each distinct key: of the cache, else of the table.
    async fn answers(&self, asked: &Asked) -> Result<Vec<Matches>> {
        let key = |at: usize| asked.rows.row(asked.distinct[at]);
        let mut found: Vec<Option<Matches>> = vec![None; asked.distinct.len()];
        if let Some(mut cache) = self.cache() {
            let now_ms = self.clock.now_ms();
            for (at, answer) in found.iter_mut().enumerate() {
                *answer = cache.get(key(at).data(), now_ms);
            }
        }
        let missing: Vec<usize> = (0..found.len()).filter(|&at| found[at].is_none()).collect();
        if self.cache.is_some() {
            self.metrics.add("cache_hits", (found.len() - missing.len()) as u64);
            self.metrics.add("cache_misses", missing.len() as u64);
        }
        // What is in the cache now was true at an instant not before this one.
        let now_ms = self.clock.now_ms();
        let questions = missing.chunks(self.lookup.max_keys().max(1)).map(|part| self.ask(asked, part));
        let mut told: HashMap<Vec<u8>, Vec<Box<[u8]>>> = HashMap::with_capacity(missing.len());
        for batch in try_join_all(questions).await?.into_iter().flatten() {
            self.read(&batch, &mut told)?;
        }
        let mut cache = self.cache();
        for at in missing {
            let key = key(at).data();
            let matches: Matches = told.remove(key).unwrap_or_default().into();
            if let Some(cache) = &mut cache {
                cache.put(key, &matches, now_ms);
            }
            found[at] = Some(matches);
        }
        found.into_iter().map(|f| f.ok_or_else(|| Error::internal("a key without an answer"))).collect()
    }

    /// One question, for some of the distinct keys.
    async fn ask(&self, asked: &Asked, part: &[usize]) -> Result<Vec<RecordBatch>> {
        let rows: UInt32Array = part.iter().map(|&at| u32::try_from(asked.distinct[at]).unwrap_or(u32::MAX)).collect();
        let keys = asked.keys.iter().map(|k| take(k, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        let fields: Vec<_> = self.plan.table.fields().iter().take(keys.len()).map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let keys = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), keys)?;
        let reader = self.reader().await?;
        let what = format!("looking up {} keys", part.len());
        let answer = self.calls.call(&what, || reader.get(&keys)).await?;
        let rows: usize = answer.iter().map(RecordBatch::num_rows).sum();
        if rows > MAX_MATCHES {
            return Err(Error::user(format!(
                "{}: {} keys have more than {MAX_MATCHES} rows: more than a look-up can take",
                self.lookup.describe(),
                part.len()
            )));
        }
        Ok(answer)
    }

    async fn reader(&self) -> Result<&Arc<dyn LookupReader>> {
        let open = || {
            let context = LookupReaderContext { metrics: Arc::clone(&self.metrics), max_concurrency: self.plan.max_concurrency };
            self.lookup.open(context)
        };
        self.reader.get_or_try_init(|| self.calls.call("connecting", open)).await
    }

    /// Sorts rows of the table by their keys.
    fn read(&self, batch: &RecordBatch, told: &mut HashMap<Vec<u8>, Vec<Box<[u8]>>>) -> Result<()> {
        let (key, values) = batch.columns().split_at(self.plan.key.len());
        let keys = self.key_rows.convert_columns(key)?;
        let values = self.value_rows.as_ref().map(|c| c.convert_columns(values)).transpose()?;
        for row in 0..batch.num_rows() {
            let value = values.as_ref().map_or_else(Box::default, |v| v.row(row).data().into());
            told.entry_ref(keys.row(row).data()).or_default().push(value);
        }
        Ok(())
    }

    /// The rows of a batch with those of the table.
    fn join(&self, batch: &RecordBatch, asked: &Asked, answers: &[Matches]) -> Result<Answer> {
        let mut out = Answer::default();
        let mut rows: Vec<u32> = Vec::with_capacity(batch.num_rows());
        let mut values: Vec<&[u8]> = Vec::with_capacity(batch.num_rows());
        for (row, at) in asked.of_row.iter().enumerate() {
            let matches = at.map_or(&[][..], |at| &answers[at]);
            if matches.len() > 1 && self.plan.on_multiple == OnMultiple::Reject {
                let reason = format!("{} has {} rows for its key", self.lookup.describe(), matches.len());
                out.bad.push(dead_letter::row_record(batch, row, reason)?);
                continue;
            }
            let missing = (matches.is_empty() && self.plan.join == Join::Left).then_some(self.missing.as_ref());
            for value in matches.iter().map(AsRef::as_ref).chain(missing) {
                rows.push(u32::try_from(row).unwrap_or(u32::MAX));
                values.push(value);
                if rows.len() == MAX_BATCH_ROWS {
                    out.batches.push(self.rows(batch, std::mem::take(&mut rows), &std::mem::take(&mut values))?);
                }
            }
        }
        if !rows.is_empty() {
            out.batches.push(self.rows(batch, rows, &values)?);
        }
        Ok(out)
    }

    fn rows(&self, batch: &RecordBatch, rows: Vec<u32>, values: &[&[u8]]) -> Result<RecordBatch> {
        let count = rows.len();
        // Most look-ups find one row for each: then the batch goes on as it is.
        let same = count == batch.num_rows() && rows.iter().enumerate().all(|(i, &row)| i == row as usize);
        let taken = if same { batch.clone() } else { take_record_batch(batch, &UInt32Array::from(rows))? };
        let added = match &self.value_rows {
            None => Vec::new(),
            Some(converter) => {
                let parser = converter.parser();
                converter.convert_rows(values.iter().map(|v| parser.parse(v)))?
            }
        };
        let column = |&i: &usize| Arc::clone(taken.column(i));
        let columns: Vec<ArrayRef> = self.plan.shown.iter().map(column).chain(added).chain(self.plan.hidden.iter().map(column)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.plan.output), columns, &options)?)
    }
}

#[async_trait]
impl AsyncOperator for Running {
    async fn process(&self, batch: RecordBatch) -> Result<Answer> {
        let asked = self.asked(&batch)?;
        let answers = self.answers(&asked).await?;
        self.join(&batch, &asked, &answers)
    }

    fn memory_bytes(&self) -> usize {
        self.cache().map_or(0, |c| c.bytes())
    }
}

/// The share of one subtask.
fn limits(options: &CacheOptions, parallelism: usize) -> Limits {
    let ttl_ms = options.ttl.as_millis();
    let negative_ttl_ms = options.negative_ttl.map_or(ttl_ms.min(10_000), |t| t.as_millis());
    let bytes = usize::try_from(options.max_bytes.0).unwrap_or(usize::MAX);
    Limits { keys: (options.max_rows / parallelism).max(1), bytes: (bytes / parallelism).max(1), ttl_ms, negative_ttl_ms }
}
