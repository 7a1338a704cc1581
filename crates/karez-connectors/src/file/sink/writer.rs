//! The writer of one subtask: routes rows to open files, ends those that are large or old, and makes all of it durable at a barrier.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::schema::visible_batch;
use karez_core::sink::WriterContext;
use karez_core::{BadRecord, Epoch, Error, Result, SinkWriter};
use karez_formats::encode::Encoder;
use karez_formats::encode::parquet::concatenate;
use serde_json::Value;

use super::disk::{blocking, create_folder, failed, sync_folder};
use super::names::{self, Names};
use super::open_file::{FinishedOutput, OpenFile, open_at};
use super::options::{IfExists, Plan};
use super::state::{FileState, FinishedFile};
use super::template::PathTemplate;
use crate::file::format::Format;

/// Bytes of unwritten Parquet row groups that all open files of a subtask hold together.
const ROW_GROUPS_BYTES: usize = 96 << 20;

pub(super) struct FileWriter {
    plan: Arc<Plan>,
    /// The template with the run's day filled in.
    places: PathTemplate,
    encoder: Option<Arc<dyn Encoder + Sync>>,
    layout: String,
    context: WriterContext,
    /// By place: the folder (or the one file) that rows are routed to.
    open: BTreeMap<PathBuf, OpenFile>,
    /// Durable length by hidden name, of open files, as of the last `prepare_commit`.
    settled: BTreeMap<PathBuf, u64>,
    /// Ended, not yet handed over.
    finished: Vec<(FinishedOutput, Vec<PathBuf>)>,
    /// Ended Parquet files that wait for the end of the input, by target.
    segments: BTreeMap<PathBuf, Vec<FinishedOutput>>,
    /// One-file targets that have been handed over.
    done: BTreeSet<PathBuf>,
    folders_to_sync: BTreeSet<PathBuf>,
    rejects: Vec<BadRecord>,
    /// Numbers the files of this subtask and generation.
    counter: u64,
    writes: u64,
}

impl FileWriter {
    pub(super) async fn open(plan: Arc<Plan>, context: WriterContext, state: Vec<Value>) -> Result<Self> {
        let encoder = plan.encoder().map_err(|e| Error::internal(e.0))?;
        let mut writer = Self {
            places: plan.template.for_run(context.run.scheduled_ms),
            layout: plan.layout(),
            encoder,
            context,
            open: BTreeMap::new(),
            settled: BTreeMap::new(),
            finished: Vec::new(),
            segments: BTreeMap::new(),
            done: BTreeSet::new(),
            folders_to_sync: BTreeSet::new(),
            rejects: Vec::new(),
            counter: 0,
            writes: 0,
            plan,
        };
        for value in &state {
            writer.restore(FileState::parse(value)?)?;
        }
        Ok(writer)
    }

    fn restore(&mut self, state: FileState) -> Result<()> {
        match state {
            FileState::Done { target } => {
                self.done.insert(target);
                Ok(())
            }
            FileState::Open { run, temporary, target, place, length, created_ms, base, layout } => {
                let Some(names) = self.adopt(&run, Names { temporary, target }, length)? else { return Ok(()) };
                let same_layout = layout == self.layout;
                if self.plan.fixed && !same_layout {
                    return Err(Error::user(format!(
                        "`{}` was begun with other columns or another format; start a new run (`--fresh`)",
                        names.target.display()
                    )));
                }
                let file = OpenFile::reopen(&self.plan, names, length, base, created_ms, &self.context.metrics)?;
                // One file per place goes on; others (parallelism shrank, columns changed) end as they are.
                if same_layout && !self.open.contains_key(&place) {
                    self.open.insert(place, file);
                } else {
                    self.finished.push((file.finish()?, Vec::new()));
                }
                Ok(())
            }
            FileState::Segment { run, temporary, target, length, .. } => {
                let Some(names) = self.adopt(&run, Names { temporary, target }, length)? else { return Ok(()) };
                let file = Arc::new(open_at(&names.temporary, length)?);
                let segment = FinishedOutput { names, base: None, saved: true, length, file };
                self.segments.entry(segment.names.target.clone()).or_default().push(segment);
                Ok(())
            }
        }
    }

    /// A file named by a checkpoint. One of another run (restored from its savepoint) is copied, since that run may go on with it.
    fn adopt(&mut self, run: &str, names: Names, length: u64) -> Result<Option<Names>> {
        if !names.temporary.exists() {
            if names.target.exists() && !self.plan.fixed {
                // A later epoch, not part of the checkpoint restored, has committed it.
                tracing::warn!(file = %names.target.display(), "is complete already; rows behind the restored checkpoint are in it too");
                return Ok(None);
            }
            return Err(Error::external(format!(
                "`{}`, which holds rows of the checkpoint, is gone: restore it, or start a new run (`--fresh`)",
                names.temporary.display()
            )));
        }
        if run == self.context.run.run.0 {
            return Ok(Some(names));
        }
        let folder = names.target.parent().unwrap_or(Path::new("/")).to_owned();
        let own = self.names(if self.plan.fixed { &names.target } else { &folder });
        let copy = std::fs::copy(&names.temporary, &own.temporary).and_then(|_| File::options().write(true).open(&own.temporary));
        copy.and_then(|f| f.set_len(length)).map_err(|e| failed("copy", &names.temporary, &e))?;
        self.folders_to_sync.insert(folder);
        Ok(Some(own))
    }

    /// Names for a new file at a place.
    fn names(&mut self, place: &Path) -> Names {
        let number = self.counter;
        self.counter += 1;
        match (self.plan.fixed, self.plan.format) {
            (true, Format::Parquet) => names::segment(place, &self.context.run, number),
            (true, _) => names::whole(place, &self.context.run),
            (false, _) => names::part(place, &self.context.run, self.context.subtask, number, &self.plan.extension()),
        }
    }

    fn begin(&mut self, place: &Path) -> Result<OpenFile> {
        let folder = if self.plan.fixed { place.parent().unwrap_or(Path::new("/")) } else { place }.to_owned();
        create_folder(&folder, &mut self.folders_to_sync)?;
        let names = self.names(place);
        let append = self.plan.fixed && self.appends(place);
        if self.plan.fixed && self.plan.if_exists == IfExists::Fail && place.exists() && !append {
            return Err(Error::user(format!("`{}` exists already; remove it, or set `ifExists: replace` or `append`", place.display())));
        }
        let now_ms = self.context.clock.now_ms();
        let file = OpenFile::create(&self.plan, self.encoder.as_deref(), names, append, now_ms, &self.context.metrics)?;
        self.folders_to_sync.insert(folder);
        Ok(file)
    }

    /// Whether rows go behind those that the target holds: as the options say, or since it has ended (letters of what the last commit of another sink
    /// refused).
    fn appends(&self, target: &Path) -> bool {
        self.plan.if_exists == IfExists::Append || self.done.contains(target)
    }

    fn write_to(&mut self, place: PathBuf, rows: &RecordBatch) -> Result<()> {
        if !self.open.contains_key(&place) {
            self.make_room(&place)?;
            let file = self.begin(&place)?;
            self.open.insert(place.clone(), file);
        }
        self.writes += 1;
        let Some(file) = self.open.get_mut(&place) else {
            return Err(Error::internal("an open file is missing"));
        };
        file.last_write = self.writes;
        let rejects = file.write(self.encoder.as_deref(), rows)?;
        self.rejects.extend(rejects);
        if !self.plan.fixed && file.bytes() >= self.plan.roll_size_bytes {
            self.finish(&place)?;
        }
        Ok(())
    }

    /// Keeps the number of open files within its limit.
    fn make_room(&mut self, place: &Path) -> Result<()> {
        if self.open.len() < self.plan.max_open_files {
            return Ok(());
        }
        if self.plan.fixed {
            return Err(Error::user(format!(
                "`{}` would be one more file than `maxOpenFiles: {}` allows; raise it, or give a folder as `path`",
                place.display(),
                self.plan.max_open_files
            )));
        }
        match self.open.iter().min_by_key(|(_, f)| f.last_write).map(|(place, _)| place.clone()) {
            Some(oldest) => self.finish(&oldest),
            None => Ok(()),
        }
    }

    /// Ends the file of a place.
    fn finish(&mut self, place: &Path) -> Result<()> {
        if let Some(file) = self.open.remove(place) {
            self.settled.remove(&file.names.temporary);
            let finished = file.finish()?;
            if self.plan.fixed && self.plan.format == Format::Parquet {
                self.segments.entry(finished.names.target.clone()).or_default().push(finished);
            } else {
                self.finished.push((finished, Vec::new()));
            }
        }
        Ok(())
    }

    fn is_due(&self, file: &OpenFile, now_ms: i64) -> bool {
        !self.plan.fixed && file.created_ms.saturating_add(self.plan.roll_interval_ms) <= now_ms
    }

    fn finish_due(&mut self) -> Result<()> {
        let now_ms = self.context.clock.now_ms();
        let due: Vec<PathBuf> = self.open.iter().filter(|(_, f)| self.is_due(f, now_ms)).map(|(p, _)| p.clone()).collect();
        due.iter().try_for_each(|place| self.finish(place))
    }

    /// Parquet has its rows in memory until a row group ends: the largest ends first when all together hold too much.
    fn bound_row_groups(&mut self) -> Result<()> {
        while self.open.values().map(OpenFile::row_group_bytes).sum::<usize>() > ROW_GROUPS_BYTES {
            let before: usize = self.open.values().map(OpenFile::row_group_bytes).sum();
            if let Some(largest) = self.open.values_mut().max_by_key(|f| f.row_group_bytes()) {
                largest.end_row_group()?;
            }
            if self.open.values().map(OpenFile::row_group_bytes).sum::<usize>() >= before {
                break;
            }
        }
        Ok(())
    }

    /// At the end of the input the one file gets its whole content: Parquet segments (and the file appended to) become one.
    async fn join_segments(&mut self) -> Result<()> {
        let targets: Vec<PathBuf> = self.segments.keys().cloned().collect();
        for target in targets {
            let parts = self.segments.get(&target).map(Vec::as_slice).unwrap_or_default();
            let append = self.appends(&target) && target.exists();
            if parts.len() == 1 && !append {
                self.finished.extend(self.segments.remove(&target).unwrap_or_default().into_iter().map(|only| (only, Vec::new())));
                continue;
            }
            let mut files: Vec<PathBuf> = parts.iter().map(|p| p.names.temporary.clone()).collect();
            let base = if append { Some(std::fs::metadata(&target).map_err(|e| failed("read", &target, &e))?.len()) } else { None };
            let names = names::whole(&target, &self.context.run);
            let path = names.temporary.clone();
            let segments = files.clone();
            if append {
                files.insert(0, target.clone());
            }
            let (file, length) = blocking(move || {
                let file = File::create(&path).map_err(|e| failed("create", &path, &e))?;
                let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                concatenate(&inputs, &file).map_err(|e| Error::external(format!("cannot write `{}`: {e}", path.display())))?;
                let length = file.metadata().map_err(|e| failed("write", &path, &e))?.len();
                Ok((file, length))
            })
            .await?;
            self.segments.remove(&target);
            self.folders_to_sync.extend(target.parent().map(Path::to_owned));
            self.finished.push((FinishedOutput { names, base, saved: true, length, file: Arc::new(file) }, segments));
        }
        Ok(())
    }

    /// Everything written so far lasts when this returns.
    async fn sync(&mut self, settled: Vec<(PathBuf, Arc<File>)>) -> Result<()> {
        let mut files = settled;
        files.extend(
            self.finished.iter().map(|(f, _)| f).chain(self.segments.values().flatten()).map(|f| (f.names.temporary.clone(), Arc::clone(&f.file))),
        );
        let folders = self.folders_to_sync.clone();
        blocking(move || {
            for (path, file) in files {
                file.sync_all().map_err(|e| failed("sync", &path, &e))?;
            }
            folders.iter().try_for_each(|folder| sync_folder(folder))
        })
        .await?;
        self.folders_to_sync.clear();
        Ok(())
    }
}

#[async_trait]
impl SinkWriter for FileWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = visible_batch(&batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.finish_due()?;
        for (place, rows) in self.places.route(&batch)? {
            self.write_to(place, &rows)?;
        }
        self.bound_row_groups()
    }

    fn flush_due_ms(&self) -> Option<i64> {
        if self.plan.fixed {
            return None;
        }
        self.open.values().map(|f| f.created_ms.saturating_add(self.plan.roll_interval_ms)).min()
    }

    async fn flush(&mut self) -> Result<()> {
        self.finish_due()?;
        self.open.values_mut().try_for_each(OpenFile::flush)
    }

    fn take_rejects(&mut self) -> Vec<BadRecord> {
        std::mem::take(&mut self.rejects)
    }

    async fn prepare_commit(&mut self, _: Epoch, end_of_input: bool) -> Result<Vec<Value>> {
        if end_of_input && self.plan.fixed {
            // One file is there at the end, also without rows.
            if let Some(place) = self.places.path() {
                let begun = self.done.contains(&place) || self.open.contains_key(&place) || self.segments.contains_key(&place);
                if !begun && self.finished.is_empty() {
                    let file = self.begin(&place)?;
                    self.open.insert(place, file);
                }
            }
        }
        self.finish_due()?;
        if end_of_input || self.plan.format == Format::Parquet {
            let all: Vec<PathBuf> = self.open.keys().cloned().collect();
            all.iter().try_for_each(|place| self.finish(place))?;
        }
        let mut to_sync = Vec::new();
        for file in self.open.values_mut() {
            let (length, handle) = file.settle()?;
            if self.settled.insert(file.names.temporary.clone(), length) != Some(length) {
                to_sync.push((file.names.temporary.clone(), handle));
            }
        }
        if end_of_input {
            self.join_segments().await?;
        }
        if let Err(e) = self.sync(to_sync).await {
            // What is durable is unknown now: the next attempt syncs all of it again.
            self.settled.clear();
            return Err(e);
        }
        let replace = self.plan.fixed && self.plan.if_exists != IfExists::Fail;
        let payloads = self
            .finished
            .iter()
            .map(|(f, segments)| {
                let (temporary, target) = (f.names.temporary.clone(), f.names.target.clone());
                let replace = replace || self.done.contains(&target);
                FinishedFile { temporary, target, length: f.length, replace, base: f.base, segments: segments.clone() }.to_value()
            })
            .collect::<Result<Vec<_>>>()?;
        let handed_over = std::mem::take(&mut self.finished);
        if self.plan.fixed {
            self.done.extend(handed_over.into_iter().map(|(f, _)| f.names.target));
        }
        Ok(payloads)
    }

    async fn snapshot(&mut self) -> Result<Vec<Value>> {
        let mut states = Vec::new();
        for (place, file) in &mut self.open {
            let Names { temporary, target } = file.names.clone();
            let Some(length) = self.settled.get(&temporary).copied() else {
                return Err(Error::internal(format!("`{}` was not made durable before the snapshot", temporary.display())));
            };
            file.saved = true;
            let run = self.context.run.run.0.clone();
            let (created_ms, base, layout) = (file.created_ms, file.base, self.layout.clone());
            states.push(FileState::Open { run, temporary, target, place: place.clone(), length, created_ms, base, layout });
        }
        for segment in self.segments.values_mut().flatten() {
            segment.saved = true;
            let Names { temporary, target } = segment.names.clone();
            let run = self.context.run.run.0.clone();
            states.push(FileState::Segment { run, temporary, target, length: segment.length, layout: self.layout.clone() });
        }
        states.extend(self.done.iter().map(|target| FileState::Done { target: target.clone() }));
        states.iter().map(FileState::to_value).collect()
    }

    async fn close(&mut self) -> Result<()> {
        // Files that a checkpoint may name stay for the next start; the others hold nothing that is not read again.
        let open = std::mem::take(&mut self.open).into_values().filter(|f| !f.saved).map(|f| f.names.temporary);
        let finished = std::mem::take(&mut self.finished).into_iter().filter(|(f, _)| !f.saved).map(|(f, _)| f.names.temporary);
        let segments = std::mem::take(&mut self.segments).into_values().flatten().filter(|f| !f.saved).map(|f| f.names.temporary);
        for path in open.chain(finished).chain(segments) {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &path, &e)),
                _ => {}
            }
        }
        Ok(())
    }
}
