//! Where the types named in a job are looked up. Filled by the binary (or by Rust code that embeds Karez); the engine has no list of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{self, ConfigError, ConfigErrors};
use crate::error::did_you_mean;
use crate::{Connector, OperatorSpec, StreamSchema};

/// Makes the spec of an operator type from its options.
pub trait OperatorFactory: Send + Sync + 'static {
    /// The name in `type: NAME`.
    fn name(&self) -> &'static str;

    /// What it is, in Markdown, with an example.
    fn description(&self) -> &'static str;

    /// Its options as a JSON Schema.
    fn options(&self) -> schemars::Schema;

    /// What can be said about the options while the inputs are not known, as when the node before has errors of its own. Here: keys it does not know;
    /// those that parse them say more.
    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::check_keys(config, &self.options())
    }

    /// Validates the options against the inputs.
    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors>;
}

/// What an operator is planned of.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its options.
    pub config: &'a Value,
    /// The schemas of its inputs, in order.
    pub inputs: &'a [StreamSchema],
    /// Every input ends (so in every batch job): what can wait for the end gives final results there, and needs no changelog.
    pub bounded: bool,
    /// `type: batch`: the watermark comes at the end, so no row is late and no window fires before.
    pub batch: bool,
    /// Where the connectors are that it asks by name.
    pub registry: &'a Registry,
}

/// Connectors and operators by name.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Arc<dyn Connector>>,
    operators: BTreeMap<&'static str, Arc<dyn OperatorFactory>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("connectors", &self.connectors.keys()).field("operators", &self.operators.keys()).finish()
    }
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector; one of the same name is replaced.
    #[must_use]
    pub fn with_connector(mut self, connector: impl Connector) -> Self {
        self.connectors.insert(connector.name(), Arc::new(connector));
        self
    }

    /// Adds an operator type; one of the same name is replaced.
    #[must_use]
    pub fn with_operator(mut self, factory: impl OperatorFactory) -> Self {
        self.operators.insert(factory.name(), Arc::new(factory));
        self
    }

    /// The connector of a name, or an error that suggests one.
    pub fn connector(&self, name: &str) -> Result<&Arc<dyn Connector>, ConfigError> {
        self.connectors.get(name).ok_or_else(|| unknown("connector", name, "connector", self.connectors.keys().copied()))
    }

    /// The operator type of a name, or an error that suggests one.
    pub fn operator(&self, name: &str) -> Result<&Arc<dyn OperatorFactory>, ConfigError> {
        self.operators.get(name).ok_or_else(|| unknown("operator type", name, "type", self.operators.keys().copied()))
    }

    /// All connectors, by name.
    pub fn connectors(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.values()
    }

    /// All operator types, by name.
    pub fn operators(&self) -> impl Iterator<Item = &Arc<dyn OperatorFactory>> {
        self.operators.values()
    }
}

fn unknown(what: &str, name: &str, path: &str, known: impl Iterator<Item = &'static str> + Clone) -> ConfigError {
    let e = ConfigError::new(path, format!("unknown {what} `{name}`"));
    match did_you_mean(name, known.clone()) {
        Some(near) => e.hint(format!("did you mean `{near}`?")),
        None => e.hint(format!("known: {}", known.collect::<Vec<_>>().join(", "))),
    }
}
