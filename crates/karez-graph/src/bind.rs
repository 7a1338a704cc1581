//! Binds nodes to what makes them: connectors and operator types by name, in topological order, each against the schemas before it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use karez_core::error::did_you_mean;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::schema::{CHANGE_COLUMN, change_field, is_event_time_type, is_hidden};
use karez_core::source::with_origin;
use karez_core::{Boundedness, ChangeMode, OperatorSpec, PlanContext, Registry, Sink, SinkContext, Source, SourceContext, StreamSchema};
use karez_core::{dead_letter, sql_type};

use crate::job_graph::PushedDown;
use crate::plan::{Errors, PlanError};
use crate::settings::{Delivery, JobType};
use crate::stream_graph::{ERRORS_PORT, EventTime, Implementation, NodeKind, OnError, Order};
use crate::validate::{Topology, input_name};

/// Sources that have taken something over, by node name.
#[derive(Default)]
pub(crate) struct Overrides(pub(crate) HashMap<String, (Arc<dyn Source>, PushedDown)>);

/// What a node is bound to.
pub(crate) enum Bound {
    Source { source: Arc<dyn Source>, event_time: Option<EventTime>, with_origin: bool, pushed: PushedDown },
    Operator { spec: Arc<dyn OperatorSpec>, inputs: Vec<StreamSchema> },
    Sink { sink: Arc<dyn Sink>, input: StreamSchema },
}

pub(crate) struct BoundNode {
    pub(crate) bound: Bound,
    /// The outputs but `errors`. A sink has none.
    pub(crate) outputs: Vec<OutputPort>,
    /// Whether every source before it ends.
    pub(crate) bounded: bool,
}

/// All nodes, bound where nothing stood in the way.
pub(crate) struct Binding {
    nodes: Vec<Option<BoundNode>>,
    /// The outputs of nodes that could not be bound, where they are known all the same: what reads them can be checked.
    told: Vec<Option<Vec<OutputPort>>>,
}

impl Binding {
    pub(crate) fn of(topology: &Topology<'_>, registry: &Registry, overrides: &Overrides, errors: &mut Errors) -> Self {
        let nodes = topology.graph.nodes.len();
        let mut binding = Self { nodes: (0..nodes).map(|_| None).collect(), told: vec![None; nodes] };
        let mut binder = Binder { topology, registry, overrides, errors, origins: origins(topology), told: None };
        for &n in &topology.order {
            binding.nodes[n] = binder.bind(n, &binding);
            binding.told[n] = binder.told.take();
        }
        for n in 0..nodes {
            if binding.nodes[n].is_none() {
                binder.look_at(n);
            }
        }
        binding
    }

    pub(crate) fn get(&self, node: usize) -> Option<&BoundNode> {
        self.nodes[node].as_ref()
    }

    pub(crate) fn take(&mut self, node: usize) -> Option<BoundNode> {
        self.nodes[node].take()
    }

    /// The outputs of a node, bound or not, but `errors`.
    fn outputs(&self, node: usize) -> Option<&[OutputPort]> {
        self.get(node).map(|bound| &bound.outputs).or(self.told[node].as_ref()).map(Vec::as_slice)
    }

    /// The rows of an output of a node; the index of the output, `None` for `errors`.
    pub(crate) fn output(&self, node: usize, port: &str) -> Option<(Option<usize>, StreamSchema)> {
        if port == ERRORS_PORT {
            return Some((None, dead_letter::stream_schema()));
        }
        let outputs = self.outputs(node)?;
        outputs.iter().position(|o| o.name == port).map(|i| (Some(i), outputs[i].schema.clone()))
    }
}

/// The sources whose rows must carry their origin: those with a node that writes dead letters at or behind them. Letters themselves have no origin column.
fn origins(topology: &Topology<'_>) -> HashSet<usize> {
    let mut needs = HashSet::new();
    for &n in topology.order.iter().rev() {
        let behind = topology.outputs[n].iter().any(|&l| !topology.links[l].is_errors() && needs.contains(&topology.links[l].to));
        if behind || topology.node(n).on_error == OnError::DeadLetter {
            needs.insert(n);
        }
    }
    needs
}

struct Binder<'a, 'g> {
    topology: &'a Topology<'g>,
    registry: &'a Registry,
    overrides: &'a Overrides,
    errors: &'a mut Errors,
    origins: HashSet<usize>,
    /// The outputs of the node in hand, if it cannot be bound.
    told: Option<Vec<OutputPort>>,
}

impl<'a> Binder<'a, '_> {
    fn bind(&mut self, n: usize, binding: &Binding) -> Option<BoundNode> {
        match &self.topology.node(n).kind {
            NodeKind::Source { .. } => self.source(n),
            NodeKind::Operator(implementation) => self.operator(n, implementation, binding),
            NodeKind::Sink(implementation) => self.sink(n, implementation, binding),
        }
    }

    /// What can be said about a node that could not be bound: its type, and the options that no rows would make right.
    fn look_at(&mut self, n: usize) {
        let node = self.topology.node(n);
        let (checked, prefix) = match &node.kind {
            NodeKind::Source { connector: Implementation::Named { name, config }, .. } => {
                (self.registry.connector(name).map(|c| c.check_source(config)), "config")
            }
            NodeKind::Operator(Implementation::Named { name, config }) => (self.registry.operator(name).map(|o| o.check(config)), ""),
            NodeKind::Sink(Implementation::Named { name, config }) => (self.registry.connector(name).map(|c| c.check_sink(config)), "config"),
            _ => return,
        };
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(errors)) => self.errors.config(&node.name, prefix, errors),
            Err(unknown) => self.errors.push(PlanError::of_config(&node.name, "", unknown)),
        }
    }

    fn source(&mut self, n: usize) -> Option<BoundNode> {
        let node = self.topology.node(n);
        let NodeKind::Source { connector, schema, event_time, .. } = &node.kind else { return None };
        let batch = self.topology.graph.settings.job_type == JobType::Batch;
        let declared = match schema {
            Some(columns) => Some(self.declared(&node.name, columns)?),
            None => None,
        };
        let (source, pushed) = if let Some((source, pushed)) = self.overrides.0.get(&node.name) {
            (Arc::clone(source), pushed.clone())
        } else {
            let source = match connector {
                Implementation::InCode(source) => Arc::clone(source),
                Implementation::Named { name, config } => {
                    let context = SourceContext { node: &node.name, config, schema: declared.as_ref(), batch };
                    match self.named_source(name, context) {
                        Some(source) => source,
                        None => {
                            // The rows are known by what the user says of them.
                            let schema = StreamSchema::append_only(declared?);
                            self.told = self.stream(n, event_time.as_ref(), schema, batch).map(|(_, output)| vec![output]);
                            return None;
                        }
                    }
                }
            };
            (source, PushedDown::default())
        };
        let bounded = source.boundedness() == Boundedness::Bounded;
        if batch && !bounded {
            self.errors.push(
                PlanError::at(&node.name, "connector", format!("the job is `type: batch`, but source `{}` never ends", node.name))
                    .hint("make the source bounded, or the job `type: streaming`"),
            );
        }
        let (event_time, output) = self.stream(n, event_time.as_ref(), source.schema(), batch)?;
        let with_origin = self.origins.contains(&n);
        Some(BoundNode { bound: Bound::Source { source, event_time, with_origin, pushed }, outputs: vec![output], bounded })
    }

    fn named_source(&mut self, name: &str, context: SourceContext<'_>) -> Option<Arc<dyn Source>> {
        let connector = self.connector(context.node, name)?;
        if connector.source_options().is_none() {
            self.errors.push(
                PlanError::at(context.node, "connector", format!("connector `{name}` has no source"))
                    .hint(format!("connectors with one: {}", self.connectors(|c| c.source_options().is_some()))),
            );
            return None;
        }
        connector.source(context).map_err(|e| self.errors.config(context.node, "config", e)).ok()
    }

    /// The stream that a source of this schema gives: with event time, and the origin where it is needed.
    fn stream(&mut self, n: usize, event_time: Option<&EventTime>, schema: StreamSchema, batch: bool) -> Option<(Option<EventTime>, OutputPort)> {
        let node = self.topology.node(n);
        let changes = schema.change_mode == ChangeMode::Changelog;
        if let Some(hidden) = schema.arrow.fields().iter().find(|f| is_hidden(f) && !(changes && f.name() == CHANGE_COLUMN)) {
            self.errors.push(PlanError::at(&node.name, "schema", format!("the name of column `{}` is reserved", hidden.name())));
            return None;
        }
        let event_time = match event_time {
            None => None,
            Some(time) => Some(self.event_time(&node.name, time, &schema.arrow, batch)?),
        };
        let schema = StreamSchema {
            arrow: if self.origins.contains(&n) { with_origin(&schema.arrow) } else { Arc::clone(&schema.arrow) },
            event_time: event_time.as_ref().map(|t| t.column.clone()),
            ..schema
        };
        Some((event_time, OutputPort { name: MAIN.into(), schema }))
    }

    fn declared(&mut self, node: &str, columns: &[(String, String)]) -> Option<SchemaRef> {
        let mut fields: Vec<Field> = Vec::new();
        let mut good = true;
        for (name, text) in columns {
            let path = format!("schema.{name}");
            if fields.iter().any(|f| f.name() == name) {
                self.errors.push(PlanError::at(node, &path, format!("column `{name}` is declared twice")));
                good = false;
            }
            match sql_type::parse_column(text) {
                Ok((data_type, nullable)) => fields.push(Field::new(name, data_type, nullable)),
                Err(e) => {
                    good = false;
                    self.errors.push(PlanError { node: Some(node.into()), path, message: e.message, hint: e.hint });
                }
            }
        }
        if columns.is_empty() {
            self.errors.push(PlanError::at(node, "schema", "declares no column").hint("list the columns, or leave `schema` out to have it inferred"));
            good = false;
        }
        good.then(|| Arc::new(Schema::new(fields)) as SchemaRef)
    }

    fn event_time(&mut self, node: &str, time: &EventTime, arrow: &SchemaRef, batch: bool) -> Option<EventTime> {
        let Ok(field) = arrow.field_with_name(&time.column) else {
            let columns = || arrow.fields().iter().map(|f| f.name().as_str());
            let error = PlanError::at(node, "eventTime.column", format!("there is no column `{}`", time.column));
            self.errors.push(match did_you_mean(&time.column, columns()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("columns: {}", columns().collect::<Vec<_>>().join(", "))),
            });
            return None;
        };
        if !is_event_time_type(field.data_type()) {
            self.errors.push(
                PlanError::at(
                    node,
                    "eventTime.column",
                    format!("column `{}` is of type {}, event time is a timestamp", time.column, sql_type::to_sql(field.data_type())),
                )
                .hint(format!("declare `{}` as `timestamp(3)` in `schema`", time.column)),
            );
            return None;
        }
        let mut time = time.clone();
        if batch {
            // A bounded job gives final rows only: its watermark comes at the end, whatever the order of the rows.
            time.order = Order::None;
        }
        Some(time)
    }

    fn operator(&mut self, n: usize, implementation: &Implementation<dyn OperatorSpec>, binding: &Binding) -> Option<BoundNode> {
        let node = self.topology.node(n);
        let inputs = self.inputs(n, binding)?;
        if !self.follows_bound(n, binding) {
            self.told = self.outputs_either_way(n, implementation, &inputs);
            return None;
        }
        let bounded = self.bounded(n, binding);
        let spec = match implementation {
            Implementation::InCode(spec) => Arc::clone(spec),
            Implementation::Named { name, config } => {
                let factory = match self.registry.operator(name) {
                    Ok(factory) => factory,
                    Err(e) => {
                        self.errors.push(PlanError::of_config(&node.name, "", e));
                        return None;
                    }
                };
                let batch = self.topology.graph.settings.job_type == JobType::Batch;
                match factory.plan(PlanContext {
                    node: &node.name,
                    config,
                    inputs: &inputs,
                    bounded: bounded || batch,
                    batch,
                    registry: self.registry,
                }) {
                    Ok(spec) => spec,
                    Err(e) => {
                        self.errors.config(&node.name, "", e);
                        return None;
                    }
                }
            }
        };
        let outputs = spec.outputs().to_vec();
        Some(BoundNode { bound: Bound::Operator { spec, inputs }, outputs, bounded })
    }

    /// The outputs of an operator of which the inputs are known, but not whether they end. Only errors that there are in both cases are told.
    fn outputs_either_way(
        &mut self,
        n: usize,
        implementation: &Implementation<dyn OperatorSpec>,
        inputs: &[StreamSchema],
    ) -> Option<Vec<OutputPort>> {
        let node = self.topology.node(n);
        let (name, config) = match implementation {
            Implementation::InCode(spec) => return Some(spec.outputs().to_vec()),
            Implementation::Named { name, config } => (name, config),
        };
        let factory = self.registry.operator(name).map_err(|e| self.errors.push(PlanError::of_config(&node.name, "", e))).ok()?;
        let batch = self.topology.graph.settings.job_type == JobType::Batch;
        let plan =
            |bounded| factory.plan(PlanContext { node: &node.name, config, inputs, bounded: bounded || batch, batch, registry: self.registry });
        match (plan(true), plan(false)) {
            (Ok(one), Ok(other)) => (one.outputs() == other.outputs()).then(|| one.outputs().to_vec()),
            (Err(mut one), Err(other)) => {
                one.0.retain(|e| other.0.contains(e));
                self.errors.config(&node.name, "", one);
                None
            }
            _ => None,
        }
    }

    /// Whether all that a node reads is bound.
    fn follows_bound(&self, n: usize, binding: &Binding) -> bool {
        self.topology.inputs[n].iter().all(|&l| binding.get(self.topology.links[l].from).is_some())
    }

    fn sink(&mut self, n: usize, implementation: &Implementation<dyn Sink>, binding: &Binding) -> Option<BoundNode> {
        let node = self.topology.node(n);
        let inputs = self.inputs(n, binding)?;
        let input = self.one_schema(n, &inputs)?;
        let sink = match implementation {
            Implementation::InCode(sink) => Arc::clone(sink),
            Implementation::Named { name, config } => {
                let connector = self.connector(&node.name, name)?;
                if connector.sink_options().is_none() {
                    self.errors.push(
                        PlanError::at(&node.name, "connector", format!("connector `{name}` has no sink"))
                            .hint(format!("connectors with one: {}", self.connectors(|c| c.sink_options().is_some()))),
                    );
                    return None;
                }
                let exactly_once = self.topology.graph.settings.delivery == Delivery::ExactlyOnce;
                match connector.sink(SinkContext { node: &node.name, config, input: &input, exactly_once }) {
                    Ok(sink) => sink,
                    Err(e) => {
                        self.errors.config(&node.name, "config", e);
                        return None;
                    }
                }
            }
        };
        if !self.follows_bound(n, binding) {
            return None;
        }
        let bounded = self.bounded(n, binding);
        Some(BoundNode { bound: Bound::Sink { sink, input }, outputs: Vec::new(), bounded })
    }

    fn connector(&mut self, node: &str, name: &str) -> Option<&'a Arc<dyn karez_core::Connector>> {
        match self.registry.connector(name) {
            Ok(connector) => Some(connector),
            Err(e) => {
                self.errors.push(PlanError::of_config(node, "", e));
                None
            }
        }
    }

    fn connectors(&self, has: impl Fn(&dyn karez_core::Connector) -> bool) -> String {
        self.registry.connectors().filter(|c| has(c.as_ref())).map(|c| c.name()).collect::<Vec<_>>().join(", ")
    }

    fn bounded(&self, n: usize, binding: &Binding) -> bool {
        self.topology.inputs[n].iter().all(|&l| binding.get(self.topology.links[l].from).is_some_and(|b| b.bounded))
    }

    /// The rows of every edge into a node, in order; `None` where one of them is not known.
    fn inputs(&mut self, n: usize, binding: &Binding) -> Option<Vec<StreamSchema>> {
        if self.topology.broken[n] || self.topology.inputs[n].is_empty() {
            return None;
        }
        let mut schemas = Vec::new();
        let mut good = true;
        for &l in &self.topology.inputs[n] {
            let link = &self.topology.links[l];
            let edge = link.edge;
            if let Some((_, schema)) = binding.output(link.from, &edge.port) {
                schemas.push(schema);
                continue;
            }
            good = false;
            // A node of which nothing is known has been complained about already.
            let Some(outputs) = binding.outputs(link.from) else { continue };
            let mut ports: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
            ports.push(ERRORS_PORT);
            let error = PlanError::at(&edge.to, link.path(), format!("`{}` has no output `{}`; outputs: {}", edge.from, edge.port, ports.join(", ")));
            self.errors.push(match did_you_mean(&edge.port, ports.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{}.{near}`?", edge.from)),
                None => error,
            });
        }
        good.then_some(schemas)
    }

    /// What a sink gets: the one schema of all its inputs, without the engine's columns but the change kind.
    fn one_schema(&mut self, n: usize, inputs: &[StreamSchema]) -> Option<StreamSchema> {
        let mut one = written(&inputs[0]);
        for (other, &l) in inputs.iter().zip(&self.topology.inputs[n]).skip(1) {
            let first = input_name(self.topology.links[self.topology.inputs[n][0]].edge);
            let link = &self.topology.links[l];
            let other = written(other);
            if let Some(difference) = difference(&one, &other) {
                self.errors.push(
                    PlanError::at(&link.edge.to, link.path(), format!("`{}` and `{first}` give different rows: {difference}", input_name(link.edge)))
                        .hint("bring them into one form with a `map`, or write them to two sinks"),
                );
                return None;
            }
            let fields = one.arrow.fields().iter().zip(other.arrow.fields());
            let fields: Vec<Field> = fields.map(|(a, b)| a.as_ref().clone().with_nullable(a.is_nullable() || b.is_nullable())).collect();
            one.arrow = Arc::new(Schema::new(fields));
            if one.event_time != other.event_time {
                one.event_time = None;
            }
        }
        Some(one)
    }
}

fn written(schema: &StreamSchema) -> StreamSchema {
    let mut fields: Vec<Arc<Field>> = schema.visible().fields().iter().cloned().collect();
    if schema.change_mode == ChangeMode::Changelog {
        fields.push(Arc::new(change_field()));
    }
    StreamSchema { arrow: Arc::new(Schema::new(fields)), ..schema.clone() }
}

fn difference(a: &StreamSchema, b: &StreamSchema) -> Option<String> {
    if a.change_mode != b.change_mode {
        return Some("one is a changelog, the other only appends".into());
    }
    if a.key != b.key && a.change_mode == ChangeMode::Changelog {
        return Some(format!("their rows are identified by ({}) and ({})", b.key.join(", "), a.key.join(", ")));
    }
    let (x, y) = (a.visible(), b.visible());
    if x.fields().len() != y.fields().len() {
        let names = |s: &SchemaRef| s.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(", ");
        return Some(format!("columns ({}) and ({})", names(&y), names(&x)));
    }
    x.fields().iter().zip(y.fields()).enumerate().find_map(|(i, (x, y))| {
        let column = |f: &Field| format!("`{} {}`", f.name(), sql_type::to_sql(f.data_type()));
        (x.name() != y.name() || x.data_type() != y.data_type()).then(|| format!("column {} is {} and {}", i + 1, column(y), column(x)))
    })
}
