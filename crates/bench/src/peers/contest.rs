//! What is measured of the peers: CPU for a request, and latency at a rate that all of them keep up with.

use super::{Front, PEERS, Version};
use crate::comparison::{Comparison, Shape, compare};
use crate::contestant::{Contestant, DRIVERS};
use crate::load::Pace;
use crate::outcome::{Findings, Verdict};
use crate::scenarios::Scenario;
use crate::scenarios::{Body, LARGE, MIDDLE, SMALL, proxies_to, ringway};
use crate::server::Server;
use crate::setting::{Setting, Trouble};
use crate::statistics::{Difference, difference};

const CONNECTIONS: usize = 64;
/// Of what the slowest answers at most: above that, latency is the length of a line.
const RATE: f64 = 0.6;
const CLAIM: &str =
    "This program takes less CPU for a request than each of the servers that are installed.";
const REFUTED_BY: &str = "One that takes less, by more than twice the noise.";

/// A contest for each size of static files, and one of proxies.
pub const CONTESTS: [Scenario; 4] = [
    Scenario {
        name: "peers-1k",
        title: "Static files of 1 KB, beside other servers",
        claim: CLAIM,
        runs: "1 KB from 64 connections, as fast as each can, and at a rate that all of them keep up with.",
        refuted_by: REFUTED_BY,
        axis: None,
        find: |setting| files(setting, SMALL),
    },
    Scenario {
        name: "peers-100k",
        title: "Static files of 100 KB, beside other servers",
        claim: CLAIM,
        runs: "100 KB from 64 connections, as fast as each can, and at a rate that all of them keep up with.",
        refuted_by: REFUTED_BY,
        axis: None,
        find: |setting| files(setting, MIDDLE),
    },
    Scenario {
        name: "peers-10m",
        title: "Static files of 10 MB, beside other servers",
        claim: CLAIM,
        runs: "10 MB from 64 connections, as fast as each can, and at a rate that all of them keep up with.",
        refuted_by: REFUTED_BY,
        axis: None,
        find: |setting| files(setting, LARGE),
    },
    Scenario {
        name: "peers-proxy",
        title: "A proxy in front of one server, beside other proxies",
        claim: CLAIM,
        runs: "1 KB passed on from 64 connections, as fast as each can, and at a rate that all of them keep up with.",
        refuted_by: REFUTED_BY,
        axis: None,
        find: proxies,
    },
];

fn files(setting: &mut Setting, body: Body) -> Result<Findings, Trouble> {
    let path = format!("/{}", body.file);
    let mut contestants = Vec::new();
    for (_, driver) in DRIVERS {
        contestants.push(ringway(setting, driver, body, CONNECTIONS)?);
    }
    let notes = add_peers(setting, &mut contestants, Front::Files, &path)?;
    contest(setting, body, &contestants, notes)
}

fn proxies(setting: &mut Setting) -> Result<Findings, Trouble> {
    // A yardstick takes no notice of `Connection: close`, which some of them send.
    let behind = ringway(setting, DRIVERS[0].1, SMALL, CONNECTIONS)?;
    let log = setting.scratch("upstream.log");
    let server = Server::start(&behind, &setting.load_cpus, &setting.load_cpus, &log)?;
    let mut contestants = proxies_to(setting, &behind)?;
    let front = Front::Proxy {
        upstream: behind.port,
    };
    let notes = add_peers(setting, &mut contestants, front, &behind.path)?;
    let findings = contest(setting, SMALL, &contestants, notes);
    server.stop();
    findings
}

/// Adds those that are wanted and installed; what is to be said of the others, and of their versions.
fn add_peers(
    setting: &Setting,
    contestants: &mut Vec<Contestant>,
    front: Front,
    path: &str,
) -> Result<Vec<String>, Trouble> {
    let mut notes = Vec::new();
    for peer in PEERS.iter().filter(|peer| setting.wants_peer(peer.name)) {
        let Some(program) = peer.find() else {
            notes.push(format!("{} is not installed", peer.name));
            continue;
        };
        match peer.contestant(setting, front, path, CONNECTIONS)? {
            None => notes.push(format!("{} serves no files", peer.name)),
            Some(one) => contestants.push(one),
        }
        let known = format!("its configuration is written for {}", peer.known);
        match peer.version(&program) {
            Version::Known(_) => {}
            Version::Other(version) => notes.push(format!("{} is {version}; {known}", peer.name)),
            Version::Unknown => {
                notes.push(format!("{} doesn't tell its version; {known}", peer.name))
            }
        }
    }
    Ok(notes)
}

fn contest(
    setting: &Setting,
    body: Body,
    contestants: &[Contestant],
    notes: Vec<String>,
) -> Result<Findings, Trouble> {
    if contestants.len() == DRIVERS.len() {
        let why = "none of them is installed and does this";
        return Ok(Findings {
            notes,
            ..Findings::not_measurable(why, None)
        });
    }
    let title = format!("{}, {CONNECTIONS} connections", body.name);
    let shape = Shape::closed(CONNECTIONS, body.bytes);
    let fastest = compare(setting, &title, &shape, contestants)?;
    let rate = slowest(&fastest) * RATE;
    let title = format!(
        "{}, {CONNECTIONS} connections, {rate:.0} requests a second",
        body.name
    );
    let shape = Shape {
        pace: Pace::Open(rate),
        ..shape
    };
    let steady = compare(setting, &title, &shape, contestants)?;
    let (verdict, says) = judge(&fastest);
    Ok(Findings {
        verdict,
        says,
        gain: None,
        comparisons: vec![fastest, steady],
        notes,
    })
}

/// What the slowest of them answers in a second.
fn slowest(comparison: &Comparison) -> f64 {
    let runs = comparison.rows.iter().flat_map(|row| &row.runs);
    let rates = runs.map(|run| run.requests_per_second);
    rates.fold(f64::INFINITY, f64::min)
}

/// By the rows behind those of this program.
fn judge(comparison: &Comparison) -> (Verdict, String) {
    let noise = comparison.noise_width();
    let peers = comparison.rows.iter().skip(DRIVERS.len());
    let judged: Vec<_> = peers
        .map(|row| {
            let text = format!("{} takes {:.2} times as much", row.name, row.ratio.median);
            (difference(row.ratio, noise), text)
        })
        .collect();
    let is = |wanted: Difference| judged.iter().any(|(found, _)| *found == wanted);
    let verdict = if is(Difference::Less) {
        Verdict::Refuted
    } else if is(Difference::None) {
        Verdict::NoDifference
    } else {
        Verdict::Confirmed
    };
    let texts: Vec<String> = judged.into_iter().map(|(_, text)| text).collect();
    (
        verdict,
        format!(
            "{}, with a noise of {:.0} %",
            texts.join("; "),
            noise * 100.0
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Run;
    use crate::statistics::Spread;

    fn check(costs: &[f64], expect: Verdict) {
        let names = ["ringway, uring", "ringway, epoll", "nginx", "caddy"];
        let run = |cost: f64| Run {
            cost,
            requests_per_second: 1e6 / cost,
            ..Run::default()
        };
        let rows = names.iter().zip(costs);
        let rows = rows.map(|(name, cost)| ((*name).to_owned(), None, vec![run(*cost)]));
        let twins = Spread::of(&[1.05]);
        let comparison = Comparison::new("t", "u", twins, rows.collect()).unwrap();
        let (verdict, says) = judge(&comparison);
        assert_eq!(verdict, expect, "{says}");
        let most = costs.iter().copied().fold(0.0, f64::max);
        assert_eq!(slowest(&comparison), 1e6 / most);
    }

    #[test]
    fn one_that_takes_less_refutes_the_claim() {
        check(&[10.0, 11.0, 20.0, 80.0], Verdict::Confirmed);
        check(&[10.0, 11.0, 8.0, 80.0], Verdict::Refuted);
        check(&[10.0, 11.0, 10.5, 80.0], Verdict::NoDifference);
    }
}
