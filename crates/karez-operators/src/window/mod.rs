//! `window-aggregate`: aggregates per key and window.
//!
//! - [`panes`] runs tumbling and sliding windows: rows are aggregated by slice of time ([`slices`]), windows are merged of slices when the
//!   watermark passes their end ([`firing`]), late updates of results are computed in [`revision`].
//! - [`session`] and [`count`] keep their state by key.

use std::sync::Arc;

use arrow::datatypes::DataType;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::operator::Determinism;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::schema::is_event_time_type;
use karez_core::{Distribution, Operator, OperatorContext, OperatorFactory, OperatorSpec, PlanContext, Result, StreamSchema};
use serde_json::Value;

use crate::aggregates::Aggregates;
use crate::results::{Results, WindowColumns};
use crate::{inputs, keyed};

mod compaction;
mod count;
mod cut;
mod firing;
mod options;
mod panes;
mod revision;
mod session;
mod session_runs;
mod session_value;
mod slices;
mod times;

use options::{TimeKind, WindowAggregateOptions, WindowOptions};
use slices::Slices;

pub(crate) use panes::TimeWindows;
pub(crate) use revision::Revision;

/// The factory of `window-aggregate`.
pub(crate) struct WindowAggregate;

impl OperatorFactory for WindowAggregate {
    fn name(&self) -> &'static str {
        "window-aggregate"
    }

    fn description(&self) -> &'static str {
        "Aggregates rows per key and window of time.\n\n```yaml\n- name: per-user\n  type: window-aggregate\n  keyBy: [user_id]\n  \
         window: { type: tumbling, size: 5m }\n  aggregates: { orders: \"count(*)\", spend: \"sum(amount)\" }\n```\n\n\
         Windows are `tumbling`, `sliding`, `session` or `count`. The output has the key columns, `window_start` and `window_end` (exclusive), and the \
         aggregates. A window gives its results when the watermark passes its end. Rows that come later go to the output `late`, or, within \
         `allowedLateness`, update the results: the output is then a changelog. All aggregate functions of DataFusion are known, with `distinct`, \
         `filter (where …)` and `order by`."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(WindowAggregateOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<WindowAggregateOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        inputs::append_only(self.name(), input)?;
        let options: WindowAggregateOptions = config::parse(context.config)?;
        Ok(Arc::new(WindowSpec::plan(context, input, options)?))
    }
}

/// What the running operators share: a planned `window-aggregate`.
pub(crate) struct WindowSpec {
    aggregates: Arc<Aggregates>,
    results: Results,
    outputs: Vec<OutputPort>,
    window: Window,
    /// The index of the event-time column; `None` for processing time and for counts.
    event_time: Option<usize>,
    /// How long results may be updated, milliseconds.
    lateness_ms: i64,
    /// What the state depends on of the window.
    window_text: String,
}

#[derive(Clone, Debug)]
enum Window {
    Sliced(Slices),
    Session { gap_ms: i64 },
    Count { size: u64 },
}

impl WindowSpec {
    fn plan(context: PlanContext<'_>, input: &StreamSchema, options: WindowAggregateOptions) -> Result<Self, ConfigErrors> {
        let visible = input.visible();
        let keys = inputs::columns("keyBy", &options.key_by, &visible)?;
        let aggregates = Arc::new(Aggregates::compile(options.aggregates, keys, &visible)?);
        let (window, time) = plan_window(&options.window)?;
        if matches!(window, Window::Session { .. } | Window::Count { .. }) {
            keyed::check_types("aggregates", aggregates.partial_schema.fields().iter().map(|f| f.data_type()))?;
        }
        let event_time = match time {
            Some(TimeKind::Event) => Some(event_time_column(input)?),
            _ => None,
        };
        let lateness_ms = options.allowed_lateness.as_millis();
        if lateness_ms > 0 && event_time.is_none() {
            return Err(ConfigError::new("allowedLateness", "only windows of event time have late rows").into());
        }
        let columns = match (time, event_time.map(|i| visible.field(i).data_type())) {
            (None, _) if options.window_time => return Err(ConfigError::new("windowTime", "a count window has no time").into()),
            (None, _) => WindowColumns::None,
            (_, Some(DataType::Timestamp(_, zone))) => WindowColumns::Bounds { zone: zone.clone(), with_time: options.window_time },
            _ => WindowColumns::Bounds { zone: Some("UTC".into()), with_time: options.window_time },
        };
        let results = Results::new(context.node, Arc::clone(&aggregates), columns, lateness_ms > 0 && !context.batch)?;
        let mut outputs = vec![OutputPort { name: MAIN.into(), schema: results.stream_schema() }];
        if event_time.is_some() {
            if options.late_output == MAIN || options.late_output == "errors" || options.late_output.is_empty() {
                return Err(ConfigError::new("lateOutput", format!("`{}` is no name for the output of late rows", options.late_output)).into());
            }
            outputs.push(OutputPort { name: options.late_output, schema: input.clone() });
        }
        let lateness_ms = if context.batch { 0 } else { lateness_ms };
        let window_text = options.window.to_string();
        Ok(Self { aggregates, results, outputs, window, event_time, lateness_ms, window_text })
    }
}

fn plan_window(options: &WindowOptions) -> Result<(Window, Option<TimeKind>), ConfigErrors> {
    Ok(match options {
        WindowOptions::Tumbling { size, offset, time_zone, time } => {
            (Window::Sliced(options::slices(*size, None, *offset, time_zone.as_deref())?), Some(*time))
        }
        WindowOptions::Sliding { size, slide, offset, time_zone, time } => {
            (Window::Sliced(options::slices(*size, Some(*slide), *offset, time_zone.as_deref())?), Some(*time))
        }
        WindowOptions::Session { gap, .. } if gap.as_millis() == 0 => {
            return Err(ConfigError::new("window.gap", "a gap has at least one millisecond").into());
        }
        WindowOptions::Session { gap, time } => (Window::Session { gap_ms: gap.as_millis() }, Some(*time)),
        WindowOptions::Count { size: 0 } => return Err(ConfigError::new("window.size", "a window has at least one row").into()),
        WindowOptions::Count { size } => (Window::Count { size: *size }, None),
    })
}

fn event_time_column(input: &StreamSchema) -> Result<usize, ConfigError> {
    let Some(name) = &input.event_time else {
        return Err(ConfigError::new("window.time", "the input has no event time").hint(
            "declare `eventTime` on the source and keep its column through `map`; behind another window set `windowTime: true` there; or use `time: processing`",
        ));
    };
    match input.arrow.index_of(name) {
        Ok(index) if is_event_time_type(input.arrow.field(index).data_type()) => Ok(index),
        _ => Err(ConfigError::new("window.time", format!("the event-time column `{name}` is not a timestamp of the input"))),
    }
}

impl OperatorSpec for WindowSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn distribution(&self, _: usize) -> Distribution {
        self.aggregates.distribution()
    }

    fn is_stateful(&self) -> bool {
        true
    }

    fn determinism(&self) -> Determinism {
        match &self.window {
            Window::Count { .. } => Determinism::No("which rows share a count window hangs on the order in which they arrive".into()),
            _ if self.event_time.is_none() => Determinism::No("windows of processing time hang on when a row is processed".into()),
            _ => self.aggregates.determinism(),
        }
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        let mut columns = self.aggregates.columns();
        if let Some(time) = self.event_time
            && let Err(at) = columns.binary_search(&time)
        {
            columns.insert(at, time);
        }
        Some(columns)
    }

    fn passes_columns(&self) -> bool {
        // Late rows do.
        self.outputs.len() > 1
    }

    fn identity(&self) -> String {
        format!("{} window {}", self.aggregates.identity(), self.window_text)
    }

    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        match &self.window {
            Window::Sliced(slices) => Ok(Box::new(TimeWindows::open(self, slices.clone(), context)?)),
            Window::Session { gap_ms } => Ok(Box::new(session::SessionWindows::open(self, *gap_ms, context)?)),
            Window::Count { size } => Ok(Box::new(count::CountWindows::open(self, *size, context)?)),
        }
    }
}
