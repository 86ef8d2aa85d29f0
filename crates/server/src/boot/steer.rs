//! Whether each connection is left to the worker on whose CPU it came in.
//!
//! That is worth it where a network device brings packets in on every worker's CPU: then a
//! connection's packets, its socket and its worker share caches. Elsewhere it would do harm: with one
//! queue, or one client on loopback, a single worker would get everything. So it is done by itself
//! only where it suits the placement, and never on loopback addresses.

use super::ServerError;
use crate::config::{Config, Steer};
use ringway_host::placement::Placement;
use ringway_runtime::{ListenSocket, ProgramGroup, Steering, SteeringChoice};
use std::net::SocketAddr;

/// How the connections of this configuration are to find their workers.
pub(super) fn choose(config: &Config, placement: &Placement) -> SteeringChoice {
    if let Some(why) = obstacle(config, placement) {
        return SteeringChoice::hash(why);
    }
    SteeringChoice::by_self_test(&cpus(placement))
}

/// Why it is not even tried.
fn obstacle(config: &Config, placement: &Placement) -> Option<String> {
    let reason = match config.steer {
        Steer::Off => "asked for",
        _ if config.workers == 1 => "there is one worker",
        _ if !config.pin => "workers aren't bound to CPUs",
        _ if !placement.is_one_to_one() => "workers share CPUs",
        Steer::On => return None,
        Steer::Auto if !addresses(config).any(|address| is_steered(config, address)) => {
            "nothing but loopback is listened on"
        }
        Steer::Auto => return placement.feeds_every_worker().err(),
    };
    Some(reason.to_owned())
}

fn addresses(config: &Config) -> impl Iterator<Item = SocketAddr> + '_ {
    let listeners = config.listeners.iter();
    listeners.flat_map(|listener| listener.addresses.iter().map(|address| address.socket))
}

/// Whether it is done at this address, if it is done at all.
pub(super) fn is_steered(config: &Config, address: SocketAddr) -> bool {
    config.steer == Steer::On || !address.ip().to_canonical().is_loopback()
}

fn cpus(placement: &Placement) -> Vec<usize> {
    let workers = placement.workers.iter();
    workers.map(|worker| worker.cpu as usize).collect()
}

/// How the connections of one address go on finding the worker of their CPU.
#[derive(Debug)]
pub(super) enum Group {
    /// They are spread by the hash.
    Hashed,
    /// Each listener names its own CPU.
    Named,
    /// A program knows the places of all.
    Program(ProgramGroup),
}

impl Group {
    /// Steers the connections of one address to the group's listeners, one for each worker.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub(super) fn steer(
        group: &[ListenSocket],
        placement: &Placement,
        choice: &SteeringChoice,
        address: SocketAddr,
    ) -> Result<Group, ServerError> {
        let cpus = cpus(placement);
        let steered = match choice.kind {
            Steering::Hash => Ok(Group::Hashed),
            Steering::Program => ProgramGroup::new(group, &cpus).map(Group::Program),
            Steering::IncomingCpu => {
                let listeners: Vec<&ListenSocket> = group.iter().collect();
                let steered = ListenSocket::steer_group(&listeners, &cpus, choice.kind);
                steered.map(|()| Group::Named)
            }
        };
        steered.map_err(|error| ServerError::Listen { address, error })
    }

    /// A worker is down. Its listener has to go at once where the others' places depend on it.
    pub(super) fn remove(&mut self, cpu: Option<usize>) {
        if let (Group::Program(program), Some(cpu)) = (self, cpu)
            && let Err(error) = program.remove(cpu)
        {
            tracing::warn!(%error, "until the worker is back, connections may go to other CPUs");
        }
    }

    /// A worker has a new listener in a group whose others are in use. Whether connections are
    /// steered as before; where not, the hash decides from now on.
    pub(super) fn add(&mut self, listener: &ListenSocket, cpu: Option<usize>) -> bool {
        let Some(cpu) = cpu else { return true };
        let added = match self {
            Group::Hashed => Ok(()),
            Group::Named => listener.prefer_cpu(cpu),
            Group::Program(program) => program.add(listener, cpu),
        };
        if added.is_err() && matches!(self, Group::Program(_)) {
            // Refused where the group is a new one: that has no program.
            let _ = listener.detach_program();
            *self = Group::Hashed;
        }
        added.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, choose, is_steered};
    use crate::config::{Config, CpuList};
    use crate::placement;
    use ringway_host::intent::Intent;
    use ringway_host::placement::Placement;
    use ringway_runtime::{ListenOptions, ListenSocket, Steering, SteeringChoice};
    use std::net::SocketAddr;

    /// Workers on these CPUs, of which `fed` receive.
    fn placed(cpus: &[u32], fed: &[u32]) -> Placement {
        let mut placement = Placement::without_facts(cpus, &Intent::default(), "made up");
        placement.nic = Some("eth0".to_owned());
        let arrivals: CpuList = fed.iter().copied().collect();
        placement.arrivals = Ok(arrivals).into();
        placement
    }

    fn config(lines: &str, address: &str) -> Config {
        let text = format!(
            "{lines}\n[listen.main]\naddress = \"{address}\"\n[files.site]\nroot = \"/\"\n"
        );
        Config::from_toml(&text).unwrap()
    }

    fn check_hash(lines: &str, address: &str, placement: &Placement, expect: &str) {
        let choice = choose(&config(lines, address), placement);
        assert_eq!(choice.to_string(), format!("hash: {expect}"), "{lines}");
    }

    #[test]
    fn it_is_left_alone_where_it_would_do_harm() {
        let everywhere = ":0";
        let fed = placed(&[0, 1], &[0, 1]);
        check_hash(
            "workers = 2\nsteer = \"off\"",
            everywhere,
            &fed,
            "asked for",
        );
        check_hash("workers = 1", everywhere, &fed, "there is one worker");
        let unbound = "workers = 2\npin = false\nsteer = \"on\"";
        check_hash(unbound, everywhere, &fed, "workers aren't bound to CPUs");
        let shared = placed(&[0, 0], &[0]);
        check_hash(
            "workers = 2\nsteer = \"on\"",
            everywhere,
            &shared,
            "workers share CPUs",
        );
        let hungry = placed(&[0, 1], &[1]);
        let why = "eth0 receives on CPU 1, and nothing on CPU 0";
        check_hash("workers = 2", everywhere, &hungry, why);
        let loopback = "nothing but loopback is listened on";
        check_hash("workers = 2", "127.0.0.1:0", &fed, loopback);
        check_hash("workers = 2", "[::1]:0", &fed, loopback);
    }

    #[test]
    fn it_is_done_where_every_worker_is_fed_or_when_asked_for() {
        let cpus: Vec<u32> = placement::usable_cpus().iter().take(2).collect();
        if cpus.len() < 2 {
            println!("SKIP it_is_done_where_every_worker_is_fed_or_when_asked_for: one CPU");
            return;
        }
        for (lines, address, fed) in [
            ("workers = 2", ":0", &cpus[..]),
            ("workers = 2\nsteer = \"on\"", "127.0.0.1:0", &[]),
        ] {
            let choice = choose(&config(lines, address), &placed(&cpus, fed));
            assert_ne!(choice.kind, Steering::Hash, "{choice}");
        }
    }

    #[test]
    fn loopback_is_steered_only_when_asked_for() {
        let check = |lines: &str, address: &str, expect| {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(
                is_steered(&config(lines, ":0"), address),
                expect,
                "{address}"
            );
        };
        for loopback in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            check("", loopback, false);
            check("steer = \"on\"", loopback, true);
        }
        for other in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
            check("", other, true);
        }
    }

    #[test]
    fn a_group_is_steered_on_when_a_worker_comes_again() {
        let any = "127.0.0.1:0".parse().unwrap();
        let placement = placed(&[0, 1], &[0, 1]);
        for kind in [Steering::Program, Steering::IncomingCpu, Steering::Hash] {
            let mut sockets = ListenSocket::bind_group(any, 2, &ListenOptions::default()).unwrap();
            let address = sockets[0].local_address().unwrap();
            let reason = "made up".to_owned();
            let choice = SteeringChoice { kind, reason };
            let mut group = Group::steer(&sockets, &placement, &choice, address).unwrap();
            group.remove(Some(1));
            drop(sockets.remove(1));
            let again = ListenSocket::bind_sibling(address, &ListenOptions::default()).unwrap();
            assert!(group.add(&again, Some(1)), "{kind:?}");
            let has_program = sockets[0].detach_program().is_ok();
            assert_eq!(has_program, kind == Steering::Program);
        }
    }
}
