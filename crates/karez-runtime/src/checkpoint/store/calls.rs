//! How object stores are called: their clients retry by themselves, so they are given their settings and counted, not wrapped (design, decision 21).

use std::sync::Arc;

use karez_core::metrics::NodeMetrics;
use karez_external::{ClientMeter, ClientOptions};

/// How the object stores of a job are called, and who counts it. Folders have no use for it.
#[derive(Clone, Debug)]
pub struct StoreCalls {
    /// `checkpoint.external`; without it the client's own settings hold.
    pub options: Option<ClientOptions>,
    /// Counts the requests.
    pub meter: Arc<ClientMeter>,
}

impl StoreCalls {
    /// With these options, counted in these figures.
    #[must_use]
    pub fn new(options: Option<ClientOptions>, metrics: Arc<NodeMetrics>) -> Self {
        Self { options, meter: Arc::new(ClientMeter::new(metrics)) }
    }
}

impl Default for StoreCalls {
    /// With the client's own settings, counted for nobody.
    fn default() -> Self {
        Self::new(None, Arc::default())
    }
}
