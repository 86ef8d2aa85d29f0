//! The proxy in a simulated kernel: random clients and servers of every manner, with two workers and
//! all faults of a network between them.
//!
//! A request's target says what its server does ([`plan`]); the server looks whether the request is
//! one that was sent ([`origin`]), the client whether the answer is its own, and the whole of it where
//! it seems so ([`visitor`]). Where neither network nor client does anything wrong, each request gets
//! just what `docs/proxy.md` promises. At the end nothing may be left. [`cuts`] and
//! [`tunnels`] enumerate what chance might miss, [`queue`] is a crowd, [`uploads`] are broken off.

mod cuts;
mod origin;
mod plan;
mod queue;
mod tunnels;
mod uploads;
mod visitor;
mod wire;

use crate::machine::Machine;
use crate::random::Random;
use crate::{LIMIT, SEEDS, Seed, hostile};
use origin::{Manner, Record};
use plan::{Act, Due, Plan};
use ringway_server::config::Config;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use visitor::{Got, Visit, Visited};

type Outcome = (Visit, Result<Visited, String>);
type Ended = Rc<RefCell<Vec<Outcome>>>;

/// Where the servers are.
fn servers(count: u16) -> Vec<SocketAddr> {
    (0..count)
        .map(|index| SocketAddr::from(([127, 0, 0, 1], 9_001 + index)))
        .collect()
}

/// A proxy before these, with further keys of its upstream.
fn config(servers: &[SocketAddr], keys: &str) -> Config {
    let list: Vec<String> = servers
        .iter()
        .map(|server| format!("{:?}", server.to_string()))
        .collect();
    let text = format!(
        "[listen.main]\naddress = \"127.0.0.1:80\"\nproxy = \"app\"\n\
         [upstream.app]\nservers = [{}]\nfailures = 0\n\
         connect_timeout = \"9s\"\nfirst_byte_timeout = \"3s\"\nbetween_bytes_timeout = \"3s\"\n{keys}\n",
        list.join(", ")
    );
    Config::from_toml(&text).unwrap()
}

/// A client at random; `next_id` is nobody's.
fn visit(next_id: &mut u64, random: &mut Random) -> Visit {
    let is_old = random.one_in(4);
    let count = 1 + random.below(6);
    let plans = (0..count).map(|_| {
        *next_id += 1;
        let mut plan = Plan::any(*next_id, random);
        // What has a body in chunks, or asks leave for one, isn't HTTP/1.0.
        plan.in_chunks &= !is_old;
        plan.expects &= !is_old;
        plan
    });
    Visit {
        plans: plans.collect(),
        version: if is_old { "1.0" } else { "1.1" },
        // Whoever speaks HTTP/1.0 doesn't know before an answer whether there is another.
        is_sequential: is_old || random.one_in(2),
        half_closes: random.one_in(4),
        reads_after: match random.one_in(4) {
            true => Duration::from_millis(30),
            false => Duration::ZERO,
        },
        leaves_after: random.one_in(5).then(|| {
            let most = random.pick(&[1, 30, 1_000]);
            (
                random.duration(Duration::from_millis(most)),
                random.one_in(2),
            )
        }),
    }
}

/// Runs one seed; what the simulated kernel did, if that is wanted.
fn simulate(seed: u64, is_traced: bool) -> Vec<String> {
    let _seed = Seed(seed);
    let mut random = Random::new(!seed);
    let mut options = hostile(&mut random);
    let is_calm = random.one_in(2);
    if is_calm {
        (options.reset, options.emfile, options.connect_failure) = (0.0, 0.0, 0.0);
    }
    let servers = servers(1 + random.below(3) as u16);
    let keys = random.pick(&[
        "",
        "max_connections = 1\nqueue_timeout = \"10m\"",
        "max_connections = 3\nqueue_timeout = \"10m\"",
        "splice = false",
    ]);
    let config = config(&servers, keys);
    let buffers = [
        random.pick(&[(16, 256), (64, 1024), (256, 4096)]),
        (256, 4096),
    ];
    let mut machine = Machine::new((seed, options), (&config, 2), buffers);
    if is_traced {
        machine.world.record_trace();
    }
    let record: Rc<RefCell<Record>> = Rc::default();
    for (index, server) in servers.iter().enumerate() {
        let manner = Manner {
            seed: random.next(),
            is_choppy: random.one_in(2),
        };
        let serving = origin::serve(*server, Rc::clone(&record), manner);
        drop(machine.clients[index % 2].spawn(serving));
    }
    let (ended, address, count) = (Ended::default(), machine.address, 2 + random.below(8));
    let mut next_id = 0;
    for number in 0..count {
        let visit = visit(&mut next_id, &mut random);
        let (own, ended) = (Random::new(random.next()), Rc::clone(&ended));
        drop(machine.clients[number % 2].spawn(async move {
            let got = visitor::visit(address, &visit, own).await;
            ended.borrow_mut().push((visit, got));
        }));
    }
    let is_done = machine.run(LIMIT, || ended.borrow().len() == count);
    assert!(is_done, "some clients are neither served nor cut");
    probe(&mut machine, next_id, is_calm);
    judge(&ended.take(), &record.borrow(), is_calm);
    let trace = machine.world.trace();
    machine.expect_rest();
    trace
}

/// As many clients as have to find a place at each server, however few there are: if one had been left
/// behind, some would wait for it. `next_id` and what follows is nobody's.
fn probe(machine: &mut Machine, next_id: u64, is_calm: bool) {
    const CLIENTS: u64 = 8;
    let (ended, address) = (Ended::default(), machine.address);
    for number in 1..=CLIENTS {
        let visit = cuts::plain(Plan::new(next_id + number, Act::Sized, 300));
        let (own, ended) = (Random::new(number), Rc::clone(&ended));
        drop(machine.clients[0].spawn(async move {
            let got = visitor::visit(address, &visit, own).await;
            ended.borrow_mut().push((visit, got));
        }));
    }
    let is_done = machine.run(LIMIT, || ended.borrow().len() == CLIENTS as usize);
    assert!(is_done, "a place at a server was left behind");
    for (_, visited) in ended.take() {
        let got = visited.unwrap_or_else(|what| panic!("{what}")).got;
        assert!(!is_calm || got == [Got::Whole(200)], "{got:?} for a probe");
    }
}

fn judge(ended: &[Outcome], record: &Record, is_calm: bool) {
    assert_eq!(record.faults, [""; 0], "what servers got");
    let plans = ended.iter().flat_map(|(visit, _)| &visit.plans);
    for plan in plans.clone().filter(|plan| !plan.is_idempotent()) {
        let times = record.seen.get(&plan.id).copied().unwrap_or_default();
        assert!(times <= 1, "{plan:?} was done {times} times");
    }
    // Such a connection may end just when the next request is sent on it, which nobody can tell
    // from one that was done.
    let has_stale = plans.clone().any(|plan| plan.act == Act::Stale);
    for (visit, visited) in ended {
        let visited = visited.as_ref().unwrap_or_else(|what| panic!("{what}"));
        if is_calm && visit.leaves_after.is_none() {
            judge_calm(visit, visited, has_stale);
        }
    }
}

/// Whether a request that may have been lost can be sent again: once its body is used up it can't.
fn may_repeat(plan: &Plan) -> bool {
    plan.is_idempotent() && !plan.has_body()
}

/// Each request has got just what is due to it, as far as the connection went; and that went on as far
/// as it can.
fn judge_calm(visit: &Visit, visited: &Visited, has_stale: bool) {
    let Visited { got, is_over } = visited;
    for (index, (plan, got)) in std::iter::zip(&visit.plans, got).enumerate() {
        let due = Got::from(plan.due());
        let is_due = match got {
            // A cut may overtake what was sent before, earlier answers too.
            Got::Nothing => visit.plans[index..]
                .iter()
                .any(|plan| plan.due() == Due::Cut),
            Got::Own(502) if has_stale && !may_repeat(plan) => true,
            // It may come with the head, and nothing has been promised to the client then.
            Got::Own(502) if plan.act == Act::BadChunk => true,
            got => *got == due,
        };
        assert!(is_due, "{got:?} for {plan:?} among {:?}", visit.plans);
    }
    let last = got
        .last()
        .expect("there is an answer to the first, or a cut");
    let plan = &visit.plans[got.len() - 1];
    let may_end = match last {
        Got::Cut | Got::Nothing => true,
        // It may have been refused before its body was there, so that nobody knows where the next
        // request begins.
        Got::Own(_) => plan.has_body(),
        Got::Whole(_) => plan.act == Act::Early && plan.has_body(),
    };
    let is_complete = got.len() == visit.plans.len();
    let is_old = visit.version == "1.0";
    assert!(
        is_complete || may_end || is_old,
        "the connection ends after {plan:?}"
    );
    assert!(
        !is_over || may_end || is_old,
        "said to be the last: {plan:?}"
    );
}

#[test]
fn every_request_gets_its_answer_or_a_cut_and_nothing_is_left() {
    let chosen = std::env::var("RINGWAY_SIM_SEED").ok();
    let chosen = chosen.map(|seed| seed.parse().unwrap());
    let seeds = chosen.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        simulate(seed, false);
    }
}

#[test]
fn a_seed_of_the_proxy_replays_exactly() {
    for seed in [2, 8] {
        let traces = [simulate(seed, true), simulate(seed, true)];
        assert!(!traces[0].is_empty());
        for (line, (one, other)) in traces[0].iter().zip(&traces[1]).enumerate() {
            assert_eq!(one, other, "line {line} of seed {seed}");
        }
        assert_eq!(traces[0].len(), traces[1].len());
    }
}
