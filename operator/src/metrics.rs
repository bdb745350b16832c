//! What the operator counts, in the Prometheus text form.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The operator's own metrics; other parts add theirs with [`Metrics::register`].
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Reconciliations by outcome: `done`, `conflict`, `unavailable`, `invalid`, `refused` or `taken`.
    pub reconciliations: Family<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>,
    /// 1 while this replica reconciles.
    pub leader: Gauge,
    /// CacheClusters known to the leader.
    pub clusters: Gauge,
}

/// Counted where log lines are written, for the whole process.
#[derive(Debug)]
struct LostLines;

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lost = ConstCounter::new(sidegrid_log::lost_lines());
        let help = "Log lines that nobody took in time";
        lost.encode(encoder.encode_descriptor("log_lost_lines", help, None, lost.metric_type())?)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("sidegrid_operator");
        let reconciliations = Family::default();
        let (leader, clusters) = (Gauge::default(), Gauge::default());
        registry.register("reconciliations", "Reconciliations of a CacheCluster by outcome", reconciliations.clone());
        registry.register("leader", "1 while this replica reconciles", leader.clone());
        registry.register("clusters", "CacheClusters that the leader knows", clusters.clone());
        registry.register_collector(Box::new(LostLines));
        Metrics { registry: Mutex::new(registry), reconciliations, leader, clusters }
    }
}

impl Metrics {
    /// Lets another part add its metrics below the prefix `sidegrid_operator_`.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Counts one reconciliation.
    pub fn reconciled(&self, outcome: &'static str) {
        self.reconciliations.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// If one of them can't be written.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner))?;
        Ok(text)
    }
}
