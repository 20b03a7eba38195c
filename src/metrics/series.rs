//! Numbers by metric and labels, on their way to the encoder.
//!
//! What has the same name and labels becomes one series, whoever counted it: a series that appears
//! twice makes Prometheus refuse the whole scrape.

use std::collections::BTreeMap;

use prometheus::proto;

use super::table::{Kind, Metric};
use crate::counters::{Histogram, LATENCY_BUCKETS};

/// The samples of one scrape.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<&'static str, Family>);

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    series: BTreeMap<Vec<String>, Value>,
}

#[derive(Clone, Debug, Default)]
struct Value {
    number: f64,
    histogram: Histogram,
}

impl Samples {
    /// Adds a number to what the series has.
    pub(super) fn add(&mut self, metric: &'static Metric, labels: &[&str], number: f64) {
        self.value(metric, labels).number += number;
    }

    /// Adds a count to what the series has.
    #[expect(clippy::cast_precision_loss, reason = "the format knows floats; exact up to 2^53")]
    pub(super) fn count(&mut self, metric: &'static Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, count as f64);
    }

    /// Raises the series to a number: for what is no amount, so that two of it are not twice it.
    pub(super) fn raise(&mut self, metric: &'static Metric, labels: &[&str], number: f64) {
        let value = self.value(metric, labels);
        value.number = value.number.max(number);
    }

    /// Adds observations to what the series has.
    pub(super) fn observe(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        histogram: &Histogram,
    ) {
        self.value(metric, labels).histogram.add(histogram);
    }

    fn value(&mut self, metric: &'static Metric, labels: &[&str]) -> &mut Value {
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {}", metric.name);
        let family = || Family { metric, series: BTreeMap::new() };
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.entry(metric.name).or_insert_with(family).series.entry(labels).or_default()
    }

    /// The samples as the encoder takes them.
    pub(super) fn into_families(self) -> Vec<proto::MetricFamily> {
        self.0.into_values().map(Family::encode).collect()
    }
}

impl Family {
    fn encode(self) -> proto::MetricFamily {
        let metric = self.metric;
        let mut family = proto::MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        let series = self.series.into_iter();
        family.set_metric(series.map(|(labels, value)| encode(metric, labels, &value)).collect());
        family
    }
}

fn encode(metric: &Metric, labels: Vec<String>, value: &Value) -> proto::Metric {
    let pairs = metric.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut encoded = proto::Metric::from_label(pairs.collect());
    match metric.kind {
        Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(value.number);
            encoded.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value.number);
            encoded.set_gauge(gauge);
        }
        Kind::Histogram => encoded.set_histogram(accumulate(&value.histogram)),
    }
    encoded
}

/// Prometheus's buckets hold all that is not above their bound; ours only what is not in a lower one.
fn accumulate(histogram: &Histogram) -> proto::Histogram {
    let mut below = 0_u64;
    let buckets = LATENCY_BUCKETS.iter().zip(histogram.buckets).map(|(bound, within)| {
        below = below.saturating_add(within);
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut encoded = proto::Histogram::default();
    encoded.set_bucket(buckets.collect());
    encoded.set_sample_count(histogram.count());
    encoded.set_sample_sum(histogram.sum);
    encoded
}
