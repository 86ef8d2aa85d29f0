//! The state of the server as JSON, and whether it is ready.
//!
//! Numbers are read while workers go on counting: each is right by itself.

use super::Facts;
use super::load::Load;
use crate::config::ServerAddress;
use crate::proxy::{Check, FaultKind, ServerView, SharedUpstream};
use crate::route::Action;
use crate::stats::{Counter, Snapshot};
use crate::worker::Started;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What stands against sending clients here, one line each; none when it is ready.
pub(super) fn obstacles(facts: &Facts, upstreams: &[Arc<SharedUpstream>]) -> Vec<String> {
    let mut obstacles = Vec::new();
    if facts.is_draining() {
        obstacles.push("the server is ending".to_owned());
    }
    if (0..facts.stats.len()).all(|worker| facts.driver(worker).is_none()) {
        obstacles.push("no worker runs".to_owned());
    }
    for (config, upstream) in facts.config.upstreams.iter().zip(upstreams) {
        if !has_usable(facts, upstream) {
            let name = &config.name;
            obstacles.push(format!("upstream.{name} has no server that can be used"));
        }
    }
    obstacles
}

/// Whether some server of an upstream can be used.
pub(super) fn has_usable(facts: &Facts, upstream: &SharedUpstream) -> bool {
    upstream
        .view()
        .iter()
        .any(|server| is_usable(facts, server))
}

/// Whether a server can be used: its checks don't say otherwise, and not all workers have left it out
/// for its failures. (Where too few can be, workers use all of them: `panic_threshold`.)
pub(super) fn is_usable(facts: &Facts, server: &ServerView<'_>) -> bool {
    server.health.check != Check::Unhealthy
        && (server.health.ejected_workers as usize) < facts.stats.len()
}

/// The sum over all workers.
pub(super) fn sum(facts: &Facts) -> Snapshot {
    let mut sum = Snapshot::default();
    for stats in &facts.stats {
        sum += stats.snapshot();
    }
    sum
}

/// Everything there is to say.
pub(super) fn describe(facts: &Facts, upstreams: &[Arc<SharedUpstream>], load: &Load) -> Value {
    let obstacles = obstacles(facts, upstreams);
    let since = facts.started_at.duration_since(UNIX_EPOCH);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "process_id": std::process::id(),
        "started_unix_seconds": since.unwrap_or_default().as_secs(),
        "uptime_seconds": facts.started.elapsed().as_secs(),
        "is_ready": obstacles.is_empty(),
        "obstacles": obstacles,
        "placement": placement(facts),
        "steering": steering(facts),
        "transfer": transfer(facts),
        "workers": workers(facts, load),
        "listeners": listeners(facts),
        "upstreams": facts.config.upstreams.iter().zip(upstreams)
            .map(|(config, upstream)| describe_upstream(facts, &config.name, upstream))
            .collect::<Vec<_>>(),
        "counters": counters(&sum(facts)),
        "events_lost": crate::log::events_lost(),
    })
}

/// What the workers' places were chosen by.
fn placement(facts: &Facts) -> Value {
    let placement = &facts.placement;
    json!({
        "is_pinned": facts.config.pin,
        "nic": placement.nic,
        "receives_on_cpus": placement.arrivals.known(),
        "notes": placement.notes,
    })
}

/// How files that aren't kept in memory go: what was asked for, what is in use, and what this machine
/// refuses, with what takes its place.
fn transfer(facts: &Facts) -> Value {
    let sum = sum(facts);
    let sent = sum.iter().filter(|(_, bytes)| *bytes > 0);
    let in_use = sent.filter(|(counter, _)| counter.name() == "file_bytes");
    let refused = facts.refused.known();
    json!({
        "method": facts.config.transfer.method.name(),
        "in_use": in_use
            .filter_map(|(counter, _)| Some(counter.label()?.1))
            .collect::<Vec<_>>(),
        "refused": refused
            .map(|(method, instead)| (method.name().to_owned(), json!(instead.name())))
            .collect::<Map<_, _>>(),
    })
}

/// How connections find their worker, and how many came in where it is.
fn steering(facts: &Facts) -> Value {
    let choice = facts.steering();
    json!({
        "kind": choice.kind.name(),
        "reason": choice.reason,
        "live": live_share(&sum(facts)),
    })
}

/// The share of connections that came in on the CPU of the worker that accepted them, of those of
/// workers that are bound to one; `None` before the first.
pub(super) fn live_share(sum: &Snapshot) -> Option<f64> {
    let own = sum.value(Counter::ArrivedOwn);
    let all = own + sum.value(Counter::ArrivedOther);
    // Exact up to 2^53 connections.
    (all > 0).then(|| own as f64 / all as f64)
}

fn workers(facts: &Facts, load: &Load) -> Vec<Value> {
    let worker = |index: usize| {
        let (stats, load) = (facts.stats[index].snapshot(), load.worker(index));
        let (started, place) = (facts.started(index), facts.place(index));
        let driver = started.as_ref().map(|started| &started.driver);
        json!({
            "is_running": driver.is_some(),
            "driver": driver.map(|driver| driver.to_string()),
            "cpu": facts.cpu(index),
            "node": place.and_then(|place| place.node),
            "memory_node": place.and_then(|place| place.memory_node),
            "queue": place.and_then(|place| place.queue),
            "memory": started.as_ref().map(memory),
            "cpu_seconds": load.cpu_seconds,
            "busy": (load.busy * 1000.0).round() / 1000.0,
            "connections": stats.value(Counter::Open),
            "requests": stats.value(Counter::Requests),
            "restarts": stats.value(Counter::Restarts),
        })
    };
    (0..facts.stats.len()).map(worker).collect()
}

/// Where a worker's receive buffers were when it started, as the kernel said.
fn memory(started: &Started) -> Value {
    let memory = &started.memory;
    json!({
        "bytes": memory.bytes,
        "policy": memory.policy.to_string(),
        "heap_policy": started.heap.to_string(),
        "is_on_its_node": memory.is_on_its_node(),
        "pages_by_node": memory.pages.as_ref().ok(),
        "has_reserved_huge_pages": memory.is_huge,
    })
}

fn listeners(facts: &Facts) -> Vec<Value> {
    let config = &facts.config;
    let listener = |(index, listener): (usize, &crate::config::Listener)| {
        let bound = facts.bound.iter().filter(|(_, of)| *of == index);
        let addresses: Vec<String> = bound.map(|(address, _)| address.to_string()).collect();
        let rest = match &listener.catch_all {
            Some(Action::Files(root)) => Some(format!("files.{}", config.roots[*root].name)),
            Some(Action::Proxy(upstream)) => {
                Some(format!("upstream.{}", config.upstreams[*upstream].name))
            }
            _ => None,
        };
        let routes = config.routes.iter();
        json!({
            "name": listener.name,
            "addresses": addresses,
            "routes": routes.filter(|route| route.listeners.contains(&index)).count(),
            "catch_all": rest,
        })
    };
    config.listeners.iter().enumerate().map(listener).collect()
}

fn describe_upstream(facts: &Facts, name: &str, upstream: &SharedUpstream) -> Value {
    let config = facts.config.upstreams.iter().find(|one| one.name == name);
    let view = upstream.view();
    let servers = view.iter().map(|server| {
        let address = config.map(|config| &config.servers[server.known.configured].address);
        describe_server(facts, address, server)
    });
    json!({
        "name": name,
        "has_usable": view.iter().any(|server| is_usable(facts, server)),
        "servers": servers.collect::<Vec<_>>(),
        "unanswered": faults(&upstream.unanswered()),
    })
}

fn describe_server(
    facts: &Facts,
    configured: Option<&ServerAddress>,
    server: &ServerView<'_>,
) -> Value {
    let ServerView {
        known,
        health,
        pool,
        ..
    } = server;
    json!({
        "server": configured.map(ToString::to_string),
        "address": known.label,
        "weight": known.weight,
        "is_backup": known.is_backup,
        "is_usable": is_usable(facts, server),
        "check": match health.check {
            Check::Unknown => "unknown",
            Check::Healthy => "healthy",
            Check::Unhealthy => "unhealthy",
        },
        "failures_in_a_row": health.failures,
        "ejections": health.ejections,
        "ejected_workers": health.ejected_workers,
        "pool": {
            "open": pool.open,
            "idle": pool.idle,
            "leased": pool.leased,
            "waiting": pool.waiting,
            "created": pool.created,
            "failed": pool.failed,
            "reused_local": pool.reused_local,
            "reused_exchange": pool.reused_exchange,
            "given": pool.given,
            "dead": pool.dead,
            "expired": pool.expired,
            "surplus": pool.surplus,
            "refused": pool.refused,
            "reuse_ratio": pool.reuse_ratio(),
        },
        "faults": faults(&server.faults),
    })
}

/// Those that have been, by kind.
fn faults(counts: &[u64]) -> Value {
    let kinds = FaultKind::ALL.iter().zip(counts);
    let been = kinds.filter(|(_, count)| **count > 0);
    been.map(|(kind, count)| (kind.word().to_owned(), json!(count)))
        .collect::<Map<_, _>>()
        .into()
}

/// Every counter by its name; those that share one in an object by their label.
fn counters(sum: &Snapshot) -> Value {
    let mut all = Map::new();
    for (counter, value) in sum.iter() {
        match counter.label() {
            None => {
                all.insert(counter.name().to_owned(), json!(value));
            }
            Some((_, label)) => {
                let group = all.entry(counter.name()).or_insert_with(|| json!({}));
                group[label] = json!(value);
            }
        }
    }
    all.into()
}
