//! The server in a simulated kernel: random clients against two workers, under every fault.
//!
//! Each seed is a world of its own ([`machine`]) in which clients follow random scripts
//! ([`script`]) while their answers are compared byte for byte as they come ([`answers`]). At the
//! end nothing may be left. `cargo xtask sim SEED` replays one seed; with `RINGWAY_SIM_TRACE=1`
//! the simulated kernel tells what it does. [`splits`] enumerates what chance might miss,
//! [`waits`] holds single cases of waiting, some of them found here, and [`faults`] what is counted.
//! [`proxied`] is the same for what is passed on, with servers that are played, too.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod answers;
mod client;
mod faults;
mod machine;
mod proxied;
mod random;
mod request;
mod script;
mod site;
mod splits;
mod waits;

use client::Outcome;
use machine::Machine;
use random::Random;
use ringway_runtime::SimOptions;
use script::{Conditions, Verdict};
use site::Site;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const SEEDS: u64 = 100;
/// Of one client after the other, together, in virtual time.
const LIMIT: Duration = Duration::from_secs(1_000);

/// Says how to see it again, if the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0} fails; see it again by: cargo xtask sim {0}",
                self.0
            );
        }
    }
}

type Ended = Rc<RefCell<Vec<(usize, Verdict, Result<Outcome, String>)>>>;

/// Runs one seed; what the simulated kernel did, if that is wanted.
fn simulate(seed: u64, is_traced: bool) -> Vec<String> {
    let _seed = Seed(seed);
    let mut random = Random::new(seed);
    let site = Site::new();
    let requests_limit = random.pick(&[0, 0, 3]);
    let options = hostile(&mut random);
    let conditions = Conditions {
        files_fail: options.eio > 0.0 || options.emfile > 0.0,
        network_resets: options.reset > 0.0,
        requests_limit,
    };
    let cache_entries = random.pick(&[0, 8, 65_536]);
    let limits =
        format!("requests_per_connection = {requests_limit}\ncache_entries = {cache_entries}\n");
    let config = site.config("", &limits);
    let buffers = [
        random.pick(&[(4, 64), (16, 256), (256, 4096)]),
        random.pick(&[(16, 64), (256, 4096)]),
    ];
    let mut machine = Machine::new((seed, options), (&config, 2), buffers);
    if is_traced {
        machine.world.record_trace();
    }
    let ended = Ended::default();
    let count = 2 + random.below(12);
    for number in 0..count {
        let (script, verdict) = script::write(&site, conditions, &mut random);
        let (own, address) = (Random::new(random.next()), machine.address);
        let ended = Rc::clone(&ended);
        drop(machine.clients[number % 2].spawn(async move {
            let outcome = client::converse(address, script, own).await;
            ended.borrow_mut().push((number, verdict, outcome));
        }));
    }
    let is_done = machine.run(LIMIT, || ended.borrow().len() == count);
    for (number, verdict, outcome) in ended.take() {
        let judged = outcome.and_then(|outcome| verdict.judge(&outcome));
        judged.unwrap_or_else(|what| panic!("client {number}: {what}"));
    }
    assert!(is_done, "some clients are neither served nor cut");
    let trace = machine.world.trace();
    machine.expect_rest();
    trace
}

/// A world with most of the faults that there are, and often one kind of them is left out.
fn hostile(random: &mut Random) -> SimOptions {
    let mut options = SimOptions::default();
    if random.one_in(2) {
        options.reset = 0.0;
    }
    if random.one_in(2) {
        (options.emfile, options.eio) = (0.0, 0.0);
    }
    if random.one_in(3) {
        options.socket_buffer_bytes = 512..=2_048;
    }
    if random.one_in(3) {
        options.segment_bytes = 1..=600;
    }
    if random.one_in(4) {
        options.enobufs = 0.3;
    }
    options
}

#[test]
fn every_request_is_answered_once_and_nothing_is_left() {
    let chosen = std::env::var("RINGWAY_SIM_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let seeds = chosen.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        simulate(seed, false);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 7, 42] {
        let traces = [simulate(seed, true), simulate(seed, true)];
        assert!(!traces[0].is_empty());
        for (line, (one, other)) in traces[0].iter().zip(&traces[1]).enumerate() {
            assert_eq!(one, other, "line {line} of seed {seed}");
        }
        assert_eq!(traces[0].len(), traces[1].len());
    }
}
