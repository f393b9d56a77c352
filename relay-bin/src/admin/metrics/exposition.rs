//! Families of metrics as text, by `OpenMetrics` 1.0.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use relay_core::gateway::Durations;

use super::names::Metric;

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A metric with all its values. No two have the same labels.
#[derive(Debug)]
pub(super) struct Family {
    metric: &'static Metric,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counters(BTreeMap<Labels, u64>),
    /// Counters of what is no whole number.
    Times(BTreeMap<Labels, f64>),
    Gauges(BTreeMap<Labels, f64>),
    Histograms(BTreeMap<Labels, Durations>),
    Info(Labels),
}

impl Family {
    /// Counters; those with the same labels count as one.
    pub(super) fn counters(
        metric: &'static Metric,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Self {
        Self { metric, values: Values::Counters(summed(values)) }
    }

    /// Counters of time, in seconds; those with the same labels count as one.
    pub(super) fn times(
        metric: &'static Metric,
        values: impl IntoIterator<Item = (Labels, Duration)>,
    ) -> Self {
        let seconds = values.into_iter().map(|(labels, time)| (labels, time.as_secs_f64()));
        Self { metric, values: Values::Times(summed(seconds)) }
    }

    /// Gauges; those with the same labels count as one.
    pub(super) fn gauges(
        metric: &'static Metric,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        Self { metric, values: Values::Gauges(summed(values)) }
    }

    /// A gauge that stands alone.
    pub(super) fn gauge(metric: &'static Metric, value: f64) -> Self {
        Self::gauges(metric, [(Labels::new(), value)])
    }

    /// Histograms, each with labels of its own.
    pub(super) fn histograms(
        metric: &'static Metric,
        values: impl IntoIterator<Item = (Labels, Durations)>,
    ) -> Self {
        Self { metric, values: Values::Histograms(values.into_iter().collect()) }
    }

    /// What never changes while the process runs.
    pub(super) fn info(metric: &'static Metric, labels: Labels) -> Self {
        Self { metric, values: Values::Info(labels) }
    }
}

fn summed<T: AddAssign + Default>(
    values: impl IntoIterator<Item = (Labels, T)>,
) -> BTreeMap<Labels, T> {
    let mut all = BTreeMap::<_, T>::new();
    for (labels, value) in values {
        *all.entry(labels).or_default() += value;
    }
    all
}

/// What is told at one moment.
#[derive(Debug)]
struct Moment(Vec<Family>);

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { metric, values } in &self.0 {
            let unit = metric.unit();
            let of = metric.metric_type();
            let told = encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), of)?;
            encode(values, told)?;
        }
        Ok(())
    }
}

fn encode(values: &Values, mut told: MetricEncoder<'_>) -> fmt::Result {
    match values {
        Values::Counters(counters) => counters.iter().try_for_each(|(labels, count)| {
            let exemplar = None::<&Exemplar<NoLabelSet, f64>>;
            told.encode_family(labels)?.encode_counter(count, exemplar)
        }),
        Values::Times(counters) => counters.iter().try_for_each(|(labels, time)| {
            let exemplar = None::<&Exemplar<NoLabelSet, f64>>;
            told.encode_family(labels)?.encode_counter(time, exemplar)
        }),
        Values::Gauges(gauges) => gauges
            .iter()
            .try_for_each(|(labels, value)| told.encode_family(labels)?.encode_gauge(value)),
        Values::Histograms(histograms) => histograms.iter().try_for_each(|(labels, of)| {
            let counts = of.counts.iter();
            let buckets: Vec<_> = counts
                .map(|(bound, count)| (bound.map_or(f64::INFINITY, |it| it.as_secs_f64()), *count))
                .collect();
            let all = of.counts.iter().map(|(_, count)| count).sum();
            let sum = of.sum.as_secs_f64();
            told.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)
        }),
        Values::Info(labels) => told.encode_info(labels),
    }
}

/// All of it as text.
pub(super) fn text(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Moment(families)));
    let mut told = String::new();
    text::encode(&mut told, &registry).expect("writing to a String does not fail");
    told
}
