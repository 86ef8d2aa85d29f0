//! The metrics in Prometheus' text format (OpenMetrics 1.0, which Prometheus and others read).
//!
//! Labels are bounded: they name what the configuration names, servers that are known now, and words of
//! ours. Nothing that a client sends becomes one. Nothing is kept between two requests.

use super::Facts;
use super::load::Load;
use super::status::{has_usable, is_usable, live_share, sum};
use crate::proxy::{Check, FaultKind, ServerView, SharedUpstream};
use crate::stats::{Counter, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as they are now.
pub(super) fn encode(
    facts: &Arc<Facts>,
    upstreams: &[Arc<SharedUpstream>],
    load: &Load,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(Collected {
        families: [
            of_process(facts),
            of_workers(facts, load),
            of_counters(facts),
            of_upstreams(facts, upstreams),
        ]
        .concat(),
    }));
    let mut text = String::new();
    encode_text(&mut text, &registry)?;
    Ok(text)
}

/// Metrics of one name.
#[derive(Debug, Clone)]
struct Family {
    name: String,
    help: &'static str,
    is_total: bool,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    labels: Vec<(&'static str, String)>,
    value: Number,
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Count(u64),
    Real(f64),
}

/// What was collected for one request.
#[derive(Debug)]
struct Collected {
    families: Vec<Family>,
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self
            .families
            .iter()
            .filter(|family| !family.rows.is_empty())
        {
            let kind = match family.is_total {
                true => MetricType::Counter,
                false => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(&family.name, family.help, None, kind)?;
            for row in &family.rows {
                if row.labels.is_empty() {
                    emit(&mut metric, family.is_total, row.value)?;
                } else {
                    let mut labelled = metric.encode_family(&row.labels)?;
                    emit(&mut labelled, family.is_total, row.value)?;
                }
            }
        }
        Ok(())
    }
}

fn emit(metric: &mut MetricEncoder<'_>, is_total: bool, value: Number) -> fmt::Result {
    match (is_total, value) {
        (true, Number::Count(count)) => metric.encode_counter::<NoLabelSet, _, u64>(&count, None),
        (true, Number::Real(real)) => metric.encode_counter::<NoLabelSet, _, u64>(&real, None),
        (false, Number::Count(count)) => metric.encode_gauge(&count),
        (false, Number::Real(real)) => metric.encode_gauge(&real),
    }
}

impl Family {
    fn total(name: &str, help: &'static str) -> Family {
        Family {
            name: name.to_owned(),
            help,
            is_total: true,
            rows: Vec::new(),
        }
    }

    fn level(name: &str, help: &'static str) -> Family {
        Family {
            is_total: false,
            ..Family::total(name, help)
        }
    }

    fn count(&mut self, labels: &[(&'static str, &str)], count: impl Into<u64>) {
        self.push(labels, Number::Count(count.into()));
    }

    fn real(&mut self, labels: &[(&'static str, &str)], real: f64) {
        self.push(labels, Number::Real(real));
    }

    fn push(&mut self, labels: &[(&'static str, &str)], value: Number) {
        let labels = labels.iter();
        self.rows.push(Row {
            labels: labels
                .map(|(name, text)| (*name, (*text).to_owned()))
                .collect(),
            value,
        });
    }
}

fn of_process(facts: &Facts) -> Vec<Family> {
    let mut build = Family::level("build_info", "Always 1; the labels say what runs.");
    build.count(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    let mut start = Family::level(
        "start_time_seconds",
        "When it started, since the Unix epoch.",
    );
    let since = facts.started_at.duration_since(UNIX_EPOCH);
    start.real(&[], since.unwrap_or_default().as_secs_f64());
    let mut lost = Family::total("events_lost", "Lines of the event log that nobody took.");
    lost.count(&[], crate::log::events_lost());
    let mut live = Family::level(
        "steer_live",
        "The share of connections that came in on the CPU of the worker that accepted them.",
    );
    if let Some(share) = live_share(&sum(facts)) {
        live.real(&[], share);
    }
    let mut refused = Family::level(
        "transfer_refused",
        "Always 1: a way to send that this machine refuses, and what takes its place.",
    );
    for (method, instead) in facts.refused.known() {
        let labels = [("method", method.name()), ("instead", instead.name())];
        refused.count(&labels, 1_u64);
    }
    vec![build, start, lost, live, refused]
}

fn of_workers(facts: &Facts, load: &Load) -> Vec<Family> {
    let mut running = Family::level("worker_running", "Whether the worker runs.");
    let mut seconds = Family::total("worker_cpu_seconds", "CPU time that the worker has used.");
    let mut open = Family::level("worker_connections_open", "Connections of the worker now.");
    for (index, stats) in facts.stats.iter().enumerate() {
        let worker = index.to_string();
        let labels = [("worker", &*worker)];
        running.count(&labels, facts.driver(index).is_some());
        seconds.real(&labels, load.worker(index).cpu_seconds);
        open.count(&labels, stats.snapshot().value(Counter::Open));
    }
    vec![running, seconds, open]
}

/// What the workers count, in sum.
fn of_counters(facts: &Facts) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for (counter, value) in sum(facts).iter() {
        if families
            .last()
            .is_none_or(|last| last.name != counter.name())
        {
            families.push(Family {
                is_total: counter.kind() == Kind::Total,
                ..Family::total(counter.name(), family_help(counter))
            });
        }
        let family = families.last_mut().expect("it was just made");
        match counter.label() {
            None => family.count(&[], value),
            Some(label) => family.count(&[label], value),
        }
    }
    families
}

/// What a name's numbers are. Those that share one say by their labels which they are.
fn family_help(counter: Counter) -> &'static str {
    match counter.name() {
        "connections_refused" => "Connections refused, by the limit that was reached.",
        "connections_closed" => "Connections that ended, by whose fault; none is in good order.",
        "connections_arrived" => {
            "Connections accepted by a worker that is bound to a CPU, by whether they came in there."
        }
        "answers" => "Final answers, by the class of their status.",
        "timeouts" => "Connections that a deadline ended, by what was waited for.",
        "file_bytes" => "Bytes of files that weren't kept in memory, by the way they were sent.",
        _ => counter.help().trim(),
    }
}

fn of_upstreams(facts: &Facts, upstreams: &[Arc<SharedUpstream>]) -> Vec<Family> {
    let mut usable = Family::level(
        "upstream_usable",
        "Whether some server of the upstream can be used.",
    );
    let mut unanswered = Family::total(
        "upstream_unanswered",
        "Requests that no server of the upstream answered, by why.",
    );
    let mut servers = ServerFamilies::new();
    for (config, upstream) in facts.config.upstreams.iter().zip(upstreams) {
        let name = &*config.name;
        usable.count(&[("upstream", name)], has_usable(facts, upstream));
        for (kind, count) in FaultKind::ALL.iter().zip(upstream.unanswered()) {
            unanswered.count(&[("upstream", name), ("fault", kind.word())], count);
        }
        for server in upstream.view() {
            servers.add(facts, name, &server);
        }
    }
    let mut families = vec![usable, unanswered];
    families.extend(servers.into_families());
    families
}

/// The metrics of servers.
struct ServerFamilies {
    usable: Family,
    healthy: Family,
    ejected: Family,
    ejections: Family,
    faults: Family,
    connections: Family,
    waiting: Family,
    refused: Family,
    created: Family,
    failed: Family,
    reused: Family,
    closed: Family,
    ratio: Family,
}

impl ServerFamilies {
    fn new() -> ServerFamilies {
        ServerFamilies {
            usable: Family::level("upstream_server_usable", "Whether the server can be used."),
            healthy: Family::level(
                "upstream_server_healthy",
                "What active checks say, where there are some and they have said it.",
            ),
            ejected: Family::level(
                "upstream_server_ejected_workers",
                "Workers that have left the server out for its failures.",
            ),
            ejections: Family::total(
                "upstream_server_ejections",
                "How often a worker has left the server out for its failures.",
            ),
            faults: Family::total(
                "upstream_server_faults",
                "Attempts that the server failed, by how; of those that have been.",
            ),
            connections: Family::level(
                "upstream_connections",
                "Connections to the server: open at all, idle, and in use by a request.",
            ),
            waiting: Family::level(
                "upstream_requests_waiting",
                "Requests that wait for a connection to the server.",
            ),
            refused: Family::total(
                "upstream_requests_refused",
                "Requests refused because too many were waiting.",
            ),
            created: Family::total(
                "upstream_connections_created",
                "Connections that were opened for a request.",
            ),
            failed: Family::total(
                "upstream_connections_failed",
                "Attempts to open a connection that failed or were given up.",
            ),
            reused: Family::total(
                "upstream_connections_reused",
                "Requests that got a connection which was there: of their worker, or another.",
            ),
            closed: Family::total(
                "upstream_connections_closed",
                "Idle connections closed: found dead, kept for long enough, without room.",
            ),
            ratio: Family::level(
                "upstream_reuse_ratio",
                "The part of requests since the start that needed no new connection.",
            ),
        }
    }

    fn add(&mut self, facts: &Facts, upstream: &str, server: &ServerView<'_>) {
        let own = [("upstream", upstream), ("server", &*server.known.label)];
        let with = |name: &'static str, word: &'static str| [own[0], own[1], (name, word)];
        let (health, pool) = (&server.health, &server.pool);
        self.usable.count(&own, is_usable(facts, server));
        if health.check != Check::Unknown {
            self.healthy.count(&own, health.check == Check::Healthy);
        }
        self.ejected.count(&own, health.ejected_workers);
        self.ejections.count(&own, health.ejections);
        for (kind, count) in FaultKind::ALL.iter().zip(server.faults) {
            if count > 0 {
                self.faults.count(&with("fault", kind.word()), count);
            }
        }
        for (state, count) in [
            ("open", u64::from(pool.open)),
            ("idle", pool.idle),
            ("in_use", pool.leased),
        ] {
            self.connections.count(&with("state", state), count);
        }
        self.waiting.count(&own, pool.waiting);
        self.refused.count(&own, pool.refused);
        self.created.count(&own, pool.created);
        self.failed.count(&own, pool.failed);
        self.reused
            .count(&with("from", "worker"), pool.reused_local);
        self.reused
            .count(&with("from", "exchange"), pool.reused_exchange);
        for (why, count) in [
            ("dead", pool.dead),
            ("expired", pool.expired),
            ("surplus", pool.surplus),
        ] {
            self.closed.count(&with("why", why), count);
        }
        if let Some(ratio) = pool.reuse_ratio() {
            self.ratio.real(&own, ratio);
        }
    }

    fn into_families(self) -> [Family; 13] {
        [
            self.usable,
            self.healthy,
            self.ejected,
            self.ejections,
            self.faults,
            self.connections,
            self.waiting,
            self.refused,
            self.created,
            self.failed,
            self.reused,
            self.closed,
            self.ratio,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_shared_have_a_help_of_their_own() {
        for &counter in Counter::ALL {
            let is_own = family_help(counter) == counter.help().trim();
            assert_eq!(is_own, counter.label().is_none(), "{counter:?}");
            assert!(!family_help(counter).contains('\n'), "{counter:?}");
        }
    }

    #[test]
    fn labels_are_escaped_and_totals_say_so() {
        let mut total = Family::total("things", "Things.");
        total.count(&[("name", "a\"b\\c")], 3_u64);
        let mut level = Family::level("level", "A level.");
        level.real(&[], 0.5);
        let mut registry = Registry::with_prefix("ringway");
        registry.register_collector(Box::new(Collected {
            families: vec![total, level, Family::total("nothing", "Nothing.")],
        }));
        let mut text = String::new();
        encode_text(&mut text, &registry).unwrap();
        let expect = "# HELP ringway_things Things.\n# TYPE ringway_things counter\n\
                      ringway_things_total{name=\"a\\\"b\\\\c\"} 3\n\
                      # HELP ringway_level A level.\n# TYPE ringway_level gauge\n\
                      ringway_level 0.5\n# EOF\n";
        assert_eq!(text, expect);
    }
}
