//! What Prometheus reads: the counts of all cores, summed when it asks.
//!
//! Nothing is counted here. [`Sources`] names who counts, [`table`] what each number is called, and
//! the `prometheus` crate writes the text. What a replica has counted is gone with the replica.

pub mod table;

mod sampling;
mod series;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use self::series::Samples;
use crate::agent::Agent;
use crate::clock;
use crate::provider::Provider;
use crate::proxy::Proxy;
use crate::proxy::activity::Connections;
use crate::tls::Certificates;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The version that this program says it is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who counts what an edge tells about itself.
#[derive(Debug)]
pub struct Sources {
    /// Requests, routes and replicas.
    pub proxy: Arc<Proxy>,
    /// The connections of each listener, in the order of [`Proxy::listeners`].
    pub connections: Vec<Arc<Connections>>,
    /// What listeners with TLS serve.
    pub certificates: Arc<Certificates>,
    /// Where the inventory comes from.
    pub provider: Provider,
    /// The provider's word in the configuration: `agent`, `docker` or `file`.
    pub provider_kind: &'static str,
    /// How often the routing table was replaced; 0 while there is none.
    pub swaps: Arc<AtomicU64>,
}

/// Everything that is measured, ready to be read.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// The metrics of these sources and of the process.
    ///
    /// # Errors
    /// If two rows of the table contradict each other, which a test rules out.
    pub fn new(sources: Arc<Sources>) -> prometheus::Result<Self> {
        Self::sampled(move || sampling::sample(&sources, clock::now()))
    }

    /// The metrics of an agent and of the process.
    ///
    /// # Errors
    /// Like [`Metrics::new`].
    pub fn of_agent(agent: Arc<Agent>) -> prometheus::Result<Self> {
        Self::sampled(move || sampling::sample_agent(&agent))
    }

    fn sampled(sample: impl Fn() -> Samples + Send + Sync + 'static) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let descriptions = table::ALL.iter().map(|row| describe(row));
        let descriptions = descriptions.collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Scrape { sample: Box::new(sample), descriptions }))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self(registry))
    }

    /// All metrics in the text format 0.0.4. Takes milliseconds for hundreds of replicas: not to be
    /// called where requests are served.
    ///
    /// # Errors
    /// If the encoder refuses a metric, which it does for none of ours.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.gather())
    }
}

fn describe(row: &table::Metric) -> prometheus::Result<Desc> {
    let labels = row.labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(row.name.to_owned(), row.help.to_owned(), labels, HashMap::new())
}

/// Reads the sources whenever the registry is asked.
struct Scrape {
    sample: Box<dyn Fn() -> Samples + Send + Sync>,
    descriptions: Vec<Desc>,
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.sample)().into_families()
    }
}

/// The table of all metrics for the README, in Markdown.
pub fn reference() -> String {
    let ours = table::ALL.iter().map(|row| {
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |\n", row.name, row.kind.word(), labels.join(", "), row.help)
    });
    let process = ProcessCollector::for_self();
    let of_process = process.desc().into_iter().map(|described| {
        let Desc { fq_name, help, .. } = described;
        let kind = if fq_name.ends_with("_total") { "counter" } else { "gauge" };
        format!("| `{fq_name}` | {kind} | | {help} |\n")
    });
    let headings = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    std::iter::once(headings).chain(ours).chain(of_process).collect()
}

#[cfg(test)]
pub mod example;
#[cfg(test)]
mod tests;
