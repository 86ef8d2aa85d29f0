//! The proxy beside a relay that looks at nothing, and beside nginx.

use super::suite::{Body, LARGE, MIDDLE, SMALL, yardstick};
use crate::comparison::{Comparison, Shape, compare};
use crate::contestant::{Contestant, DRIVERS, Yardstick};
use crate::outcome::{Findings, Gain, Verdict, judge_gain, times};
use crate::peers::{self, Front};
use crate::server::Server;
use crate::setting::{Setting, Trouble};

const CLAIMED: f64 = 4.72;
const CONNECTIONS: usize = 64;
/// The peer that the claim is about.
const NGINX: &str = "nginx";

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let mut comparisons = Vec::new();
    for body in [SMALL, MIDDLE, LARGE] {
        comparisons.push(passed_on(setting, body)?);
    }
    let small = &comparisons[0];
    let ours = small.row("ringway, uring");
    let nginx = small.rows.iter().find(|row| row.name.starts_with(NGINX));
    let beside_relay = ours.map_or(String::new(), |row| times(row.ratio.median));
    let notes = vec![format!("1 KB costs {beside_relay} what the relay does")];
    let (Some(ours), Some(nginx)) = (ours, nginx) else {
        let text = "nginx isn't installed, and the claim is about it";
        return Ok(Findings {
            comparisons,
            notes,
            ..Findings::not_measurable(text, Some(CLAIMED))
        });
    };
    let gains = ours
        .runs
        .iter()
        .zip(&nginx.runs)
        .map(|(ours, nginx)| nginx.cost / ours.cost);
    let gain = crate::statistics::Spread::of(&gains.collect::<Vec<_>>());
    let gain = gain.ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    let (verdict, says): (Verdict, String) = judge_gain(CLAIMED, gain, small.noise_width());
    Ok(Findings {
        verdict,
        says: format!("nginx against the proxy on io_uring, 1 KB: {says}"),
        gain: Some(Gain {
            claimed: CLAIMED,
            measured: Some(gain),
        }),
        comparisons,
        notes,
    })
}

/// A server for proxies to pass on to, on the load's CPUs.
fn upstream(setting: &Setting, body: Body) -> Result<(Server, Contestant), Trouble> {
    let one = yardstick(setting, body)?;
    let log = setting.scratch("upstream.log");
    let server = Server::start(&one, &setting.load_cpus, &setting.load_cpus, &log)?;
    Ok((server, one))
}

/// `ringway proxy` in front of a server, with one worker, on each driver.
pub(crate) fn proxies_to(
    setting: &Setting,
    behind: &Contestant,
) -> Result<Vec<Contestant>, Trouble> {
    let one = |driver| {
        let port = setting.free_port()?;
        let name = format!("ringway, {driver}");
        let upstream = format!("127.0.0.1:{}", behind.port);
        let address = format!("127.0.0.1:{port}");
        Ok(
            Contestant::new(&name, setting.program(), port, &behind.path)
                .with(["proxy", "--to", &upstream, "--listen", &address])
                .with(["--io", driver, "--workers", "1"]),
        )
    };
    DRIVERS.iter().map(|(_, driver)| one(*driver)).collect()
}

fn passed_on(setting: &Setting, body: Body) -> Result<Comparison, Trouble> {
    let (server, behind) = upstream(setting, body)?;
    let way = if body.bytes == LARGE.bytes {
        "splice"
    } else {
        "uring"
    };
    let relay = Yardstick::Relay(way, behind.port);
    let mut contestants =
        vec![relay.contestant(setting.program(), setting.free_port()?, &behind.path)];
    contestants.extend(proxies_to(setting, &behind)?);
    if let Some(peer) = peers::PEERS.iter().find(|peer| peer.name == NGINX) {
        let front = Front::Proxy {
            upstream: behind.port,
        };
        contestants.extend(peer.contestant(setting, front, &behind.path, CONNECTIONS)?);
    }
    let title = format!("{} passed on, {CONNECTIONS} connections", body.name);
    let compared = compare(
        setting,
        &title,
        &Shape::closed(CONNECTIONS, body.bytes),
        &contestants,
    );
    server.stop();
    compared
}
