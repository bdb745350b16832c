//! Metrics: one table of names, kinds and readings. Values are read from where they are kept when somebody asks, so
//! that counting costs nothing twice.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use sidegrid_core::snapshot::Snapshot;
use sidegrid_net::counters::{Dropped, PlaneFigures};
use sidegrid_net::{Counters, Plane};

use super::process::ProcessFigures;
use crate::grid::counters::GridCounters;
use crate::grid::{CacheFigures, Grid};
use crate::http::OpenConnections;
use crate::memory::MemoryStats;

/// Registers everything that this process tells.
pub(crate) fn register(
    registry: &mut Registry,
    grid: Grid,
    net: Arc<Counters>,
    http: OpenConnections,
    memory: MemoryStats,
) {
    registry.register_collector(Box::new(Sources { grid, net, http, memory }));
}

/// Where values are kept.
#[derive(Debug)]
struct Sources {
    grid: Grid,
    net: Arc<Counters>,
    http: OpenConnections,
    memory: MemoryStats,
}

/// All values at one moment.
struct Reading<'a> {
    ready: bool,
    snapshot: Arc<Snapshot>,
    counters: &'a GridCounters,
    caches: Vec<(&'a str, CacheFigures)>,
    net: &'a Counters,
    planes: Vec<(Plane, PlaneFigures)>,
    http_connections: usize,
    process: ProcessFigures,
    memory: &'a MemoryStats,
}

/// A metric.
struct Metric {
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    read: fn(&Reading<'_>, &mut Samples),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetricKind {
    Gauge,
    Counter,
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// The values of one metric, each with its labels.
#[derive(Debug, Default)]
struct Samples(Vec<(Vec<(&'static str, String)>, Value)>);

impl Samples {
    fn whole(&mut self, value: impl TryInto<u64>) {
        self.0.push((Vec::new(), Value::Whole(value.try_into().unwrap_or(u64::MAX))));
    }

    fn real(&mut self, value: f64) {
        self.0.push((Vec::new(), Value::Real(value)));
    }

    fn labelled(&mut self, labels: &[(&'static str, &str)], value: impl TryInto<u64>) {
        let labels = labels.iter().map(|(name, label)| (*name, (*label).to_owned())).collect();
        self.0.push((labels, Value::Whole(value.try_into().unwrap_or(u64::MAX))));
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Reading<'_>, &mut Samples)) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help, read }
}

/// Its name is shown with `_total` at its end.
const fn counter(name: &'static str, help: &'static str, read: fn(&Reading<'_>, &mut Samples)) -> Metric {
    Metric { name, kind: MetricKind::Counter, help, read }
}

fn members(reading: &Reading<'_>) -> usize {
    reading.snapshot.view.as_ref().map_or(0, |view| view.members.len())
}

fn of_caches(reading: &Reading<'_>, samples: &mut Samples, figure: fn(&CacheFigures) -> u64) {
    for (cache, figures) in &reading.caches {
        samples.labelled(&[("cache", cache)], figure(figures));
    }
}

fn of_planes(
    reading: &Reading<'_>,
    samples: &mut Samples,
    inward: fn(&PlaneFigures) -> u64,
    outward: fn(&PlaneFigures) -> u64,
) {
    for (plane, figures) in &reading.planes {
        samples.labelled(&[("plane", plane.label()), ("direction", "in")], inward(figures));
        samples.labelled(&[("plane", plane.label()), ("direction", "out")], outward(figures));
    }
}

/// Every metric. Names and labels are part of the contract; a test freezes them.
const METRICS: &[Metric] = &[
    // The cluster.
    gauge("sidegrid_cluster_size", "Members of the installed view", |r, s| s.whole(members(r))),
    gauge("vendor_cluster_size", "The same under the name that dashboards of others know", |r, s| s.whole(members(r))),
    gauge("sidegrid_ready", "1 when apps should be sent here", |r, s| s.whole(u64::from(r.ready))),
    gauge("sidegrid_view_number", "Number of the installed view; 0 while there is none", |r, s| {
        s.whole(r.snapshot.view.as_ref().map_or(0, |view| view.number.0));
    }),
    gauge("sidegrid_members", "Members of the installed view as this member sees them", |r, s| {
        let suspected = r.snapshot.suspected.len();
        s.labelled(&[("state", "trusted")], members(r).saturating_sub(suspected));
        s.labelled(&[("state", "suspected")], suspected);
    }),
    gauge("sidegrid_lease_margin_seconds", "Time of lease that is left; 0: no service", |r, s| {
        // The lease of a view of one never ends.
        s.real(r.snapshot.lease_left.as_secs_f64().min(3_600.0));
    }),
    gauge("sidegrid_unsealed_views", "Older views in which somebody might still hold a lease", |r, s| {
        s.whole(r.snapshot.unsealed);
    }),
    gauge("sidegrid_exclusion_waits", "1 while a needed exclusion can't go on", |r, s| {
        s.whole(u64::from(r.snapshot.waits_for.is_some()));
    }),
    counter("sidegrid_views_installed", "Views installed", |r, s| s.whole(r.counters.views_installed.get())),
    counter("sidegrid_suspicions", "Suspicions that began", |r, s| s.whole(r.counters.suspicions.get())),
    counter("sidegrid_exclusions", "Members excluded in views installed here", |r, s| {
        s.whole(r.counters.exclusions.get());
    }),
    counter("sidegrid_votes", "Votes given to exclude members", |r, s| s.whole(r.counters.votes.get())),
    counter("sidegrid_leases_lost", "Times the lease ran out", |r, s| s.whole(r.counters.leases_lost.get())),
    counter("sidegrid_superseded", "Incarnations of this process that were put out of the view", |r, s| {
        s.whole(r.counters.superseded.get());
    }),
    // Groups: a segment of the caches with one number of owners.
    gauge("sidegrid_groups", "Groups by this member's part in them", |r, s| {
        let groups = r.snapshot.groups;
        s.labelled(&[("state", "primary")], groups.primary);
        s.labelled(&[("state", "promoting")], groups.promoting);
        s.labelled(&[("state", "owner")], groups.owner);
        s.labelled(&[("state", "incoming")], groups.incoming);
    }),
    gauge("sidegrid_groups_under_replicated", "Groups of the view with copies still being filled", |r, s| {
        s.whole(r.snapshot.under_replicated);
    }),
    counter("sidegrid_groups_lost", "Groups that started empty because every copy was lost", |r, s| {
        s.whole(r.counters.groups_lost.get());
    }),
    counter("sidegrid_promotions", "Groups that this member became primary of", |r, s| {
        s.whole(r.counters.promotions.get());
    }),
    counter("sidegrid_transfers", "Copies filled at this member", |r, s| s.whole(r.counters.transfers.get())),
    counter("sidegrid_transfer_bytes", "Bytes received to fill them", |r, s| s.whole(r.counters.transfer_bytes.get())),
    // The registry.
    gauge("sidegrid_registry_up", "1 when the registry answered last time", |r, s| {
        s.whole(u64::from(r.snapshot.registry_ok));
    }),
    counter("sidegrid_registry_calls", "Registry calls made", |r, s| s.whole(r.counters.registry_calls.get())),
    counter("sidegrid_registry_errors", "Registry calls that failed or got no answer", |r, s| {
        s.whole(r.counters.registry_errors.get());
    }),
    counter("sidegrid_certificate_rotations", "Times this member's certificate was renewed", |r, s| {
        s.whole(r.counters.certificate_rotations.get());
    }),
    // Operations.
    counter("sidegrid_forwarded_operations", "Operations of this member's app that another member decided", |r, s| {
        s.whole(r.counters.forwarded.get());
    }),
    counter("sidegrid_own_copy_reads", "Reads answered from this member's own clean copy", |r, s| {
        s.whole(r.counters.gate_reads.get());
    }),
    counter("sidegrid_refusals", "Operations refused, by reason", |r, s| {
        for (reason, count) in r.counters.refusals.counts() {
            s.labelled(&[("reason", reason.reason())], count);
        }
    }),
    gauge("sidegrid_operations_in_flight", "Operations of this member's app under way", |r, s| {
        s.whole(r.snapshot.operations_in_flight);
    }),
    gauge("sidegrid_pending_writes", "Writes ordered by this member and not stable yet", |r, s| {
        s.whole(r.snapshot.pending_writes);
    }),
    gauge("sidegrid_pending_write_bytes", "Their bytes", |r, s| s.whole(r.snapshot.pending_bytes)),
    gauge("sidegrid_http_connections", "Open connections of the cache API", |r, s| s.whole(r.http_connections)),
    // Caches.
    gauge("sidegrid_cache_entries", "Entries held here", |r, s| of_caches(r, s, |f| f.entries)),
    gauge("sidegrid_cache_bytes", "Bytes that they take: keys, values and true overhead", |r, s| {
        of_caches(r, s, |f| f.bytes);
    }),
    counter("sidegrid_cache_hits", "Reads through this member that found an entry", |r, s| of_caches(r, s, |f| f.hits)),
    counter("sidegrid_cache_misses", "Reads through this member that found none", |r, s| of_caches(r, s, |f| f.misses)),
    counter("sidegrid_cache_stores", "Values stored through this member", |r, s| of_caches(r, s, |f| f.stores)),
    counter("sidegrid_cache_removes", "Entries removed through this member", |r, s| of_caches(r, s, |f| f.removes)),
    counter("sidegrid_cache_evictions", "Entries evicted by this member", |r, s| of_caches(r, s, |f| f.evictions)),
    counter("sidegrid_cache_expirations", "Entries expired at this member", |r, s| of_caches(r, s, |f| f.expirations)),
    // Between members.
    counter("sidegrid_net_frames", "Frames between members, by port and direction", |r, s| {
        of_planes(r, s, |f| f.frames_in, |f| f.frames_out);
    }),
    counter("sidegrid_net_bytes", "Their bytes, without TLS", |r, s| of_planes(r, s, |f| f.bytes_in, |f| f.bytes_out)),
    counter("sidegrid_net_connections", "Connections between members that were established", |r, s| {
        of_planes(r, s, |f| f.accepted, |f| f.dialed);
    }),
    counter("sidegrid_net_failures", "Dials, handshakes and connections that failed, by reason", |r, s| {
        for (plane, figures) in &r.planes {
            for (reason, count) in &figures.failures {
                s.labelled(&[("plane", plane.label()), ("reason", reason)], *count);
            }
        }
    }),
    counter("sidegrid_net_dropped_frames", "Frames that were not sent, by reason", |r, s| {
        for reason in Dropped::ALL {
            s.labelled(&[("reason", reason.reason())], r.net.dropped(reason));
        }
    }),
    // The process.
    gauge("sidegrid_memory_budget_bytes", "The memory limit, and the parts that it is divided into", |r, s| {
        for (part, bytes) in r.memory.shares() {
            s.labelled(&[("part", part)], bytes);
        }
    }),
    gauge("sidegrid_memory_used_bytes", "Memory in use of the control group that has least left", |r, s| {
        if let Some(found) = r.memory.cgroup.tightest() {
            s.whole(found.used);
        }
    }),
    counter("sidegrid_memory_kills", "Processes of the control group that were killed for want of memory", |r, s| {
        if let Some(kills) = r.memory.cgroup.kills() {
            s.whole(kills);
        }
    }),
    counter("sidegrid_log_lost_lines", "Log lines that nobody took in time", |_, s| {
        s.whole(sidegrid_log::lost_lines());
    }),
    gauge("process_resident_memory_bytes", "Resident memory", |r, s| s.whole(r.process.resident_bytes)),
    counter("process_cpu_seconds", "Processor time in user and system mode", |r, s| s.real(r.process.cpu_seconds)),
    gauge("process_open_fds", "Open file descriptors", |r, s| s.whole(r.process.open_fds)),
    gauge("process_threads", "Threads", |r, s| s.whole(r.process.threads)),
];

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let grid = &self.grid;
        let reading = Reading {
            ready: grid.is_ready(),
            snapshot: grid.snapshot(),
            counters: grid.counters(),
            caches: grid.caches().iter().map(|cache| (cache.name.as_str(), grid.figures(cache))).collect(),
            net: &self.net,
            planes: Plane::ALL.into_iter().map(|plane| (plane, self.net.figures(plane))).collect(),
            http_connections: self.http.count(),
            process: ProcessFigures::read(),
            memory: &self.memory,
        };
        for metric in METRICS {
            let mut samples = Samples::default();
            (metric.read)(&reading, &mut samples);
            let kind = match metric.kind {
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Counter => MetricType::Counter,
            };
            let mut described = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (labels, value) in &samples.0 {
                if labels.is_empty() {
                    write_sample(&mut described, metric.kind, *value)?;
                } else {
                    write_sample(&mut described.encode_family(labels)?, metric.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn write_sample(encoder: &mut MetricEncoder<'_>, kind: MetricKind, value: Value) -> Result<(), fmt::Error> {
    type NoExemplar<'a> = Option<&'a prometheus_client::metrics::exemplar::Exemplar<[(String, String); 0], f64>>;
    match (kind, value) {
        (MetricKind::Gauge, Value::Whole(value)) => encoder.encode_gauge(&value),
        (MetricKind::Gauge, Value::Real(value)) => encoder.encode_gauge(&value),
        (MetricKind::Counter, Value::Whole(value)) => encoder.encode_counter(&value, NoExemplar::None),
        (MetricKind::Counter, Value::Real(value)) => encoder.encode_counter(&value, NoExemplar::None),
    }
}

/// The table of metrics for the user documentation, in Markdown.
#[cfg(test)]
pub(crate) fn reference() -> String {
    let mut table = String::from("| metric | kind | what it tells |\n| --- | --- | --- |\n");
    for metric in METRICS {
        let (name, kind) = match metric.kind {
            MetricKind::Gauge => (metric.name.to_owned(), "gauge"),
            MetricKind::Counter => (format!("{}_total", metric.name), "counter"),
        };
        table.push_str(&format!("| `{name}` | {kind} | {} |\n", metric.help));
    }
    table
}
