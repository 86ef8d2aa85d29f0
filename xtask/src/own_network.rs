//! A network of their own for measurements, where the host's settings and its traffic don't count.

use crate::process::{allowed_cpus, find};
use anyhow::Result;
use ringway_kernel::namespace;

/// What stands in the way of a measurement with these programs, one of which has a CPU of its own.
///
/// # Errors
/// When the kernel doesn't say which CPUs there are.
pub(crate) fn obstacle(programs: &[&str]) -> Result<Option<String>> {
    let absent = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = absent {
        return Ok(Some(format!("{program} is not installed")));
    }
    let cpus = allowed_cpus()?.len();
    Ok((cpus < 2).then(|| "load and what it is put on need a CPU each".to_owned()))
}

/// Moves this thread, and what it starts from now on, into a new network namespace; where that isn't
/// allowed it says so, and stays.
pub(crate) fn enter() {
    match namespace::enter_network() {
        Ok(()) => choose_congestion_control(),
        Err(error) => println!("no network of its own ({error}): measuring on the host's"),
    }
}

/// Leaves a host's BBR behind, which paces even on loopback and so measures its own timers.
///
/// A network namespace may only choose what the host's `tcp_allowed_congestion_control` lists.
fn choose_congestion_control() {
    let control = "/proc/sys/net/ipv4/tcp_congestion_control";
    let chosen = ["cubic", "reno"]
        .into_iter()
        .find(|name| std::fs::write(control, name).is_ok());
    match chosen {
        Some(name) => println!("a network namespace of its own, congestion control {name}"),
        None => println!("neither cubic nor reno may be chosen here: it is the host's"),
    }
}
