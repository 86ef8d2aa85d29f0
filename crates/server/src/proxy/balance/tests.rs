//! Each way to choose, by counts that are known beforehand, and the rules that hold for all.

mod simulation;

use super::{Balancer, Method, Outcome, ServerOptions, TRIED_MAX, Tried, Wanted, key_of};
use crate::proxy::health::Condition;
use proptest::prelude::*;
use std::time::{Duration, Instant};

const METHODS: [Method; 4] = [
    Method::RoundRobin,
    Method::LeastConnections,
    Method::PowerOfTwo,
    HASH,
];
const HASH: Method = Method::Hash { load_percent: 125 };
const USABLE: Condition = Condition {
    is_usable: true,
    well_since: None,
};
const DOWN: Condition = Condition {
    is_usable: false,
    well_since: None,
};

fn server(index: usize, weight: u32) -> ServerOptions {
    ServerOptions {
        identity: key_of(format!("10.0.0.{index}:80").as_bytes()),
        weight,
        is_backup: false,
        is_draining: false,
        slow_start: Duration::ZERO,
    }
}

fn servers(weights: &[u32]) -> Vec<ServerOptions> {
    let weights = weights.iter().enumerate();
    weights
        .map(|(index, &weight)| server(index, weight))
        .collect()
}

fn keyed(key: u64) -> Wanted {
    Wanted {
        key: Some(key),
        ..Wanted::default()
    }
}

/// How often each is chosen, when every request stays under way.
fn shares(balancer: &mut Balancer, conditions: &[Condition], requests: u64) -> Vec<u32> {
    let now = Instant::now();
    let mut counts = vec![0; conditions.len()];
    for key in 0..requests {
        let wanted = keyed(key_of(&key.to_be_bytes()));
        let picked = balancer.pick(&wanted, conditions, now).unwrap();
        balancer.begin(picked);
        counts[picked] += 1;
    }
    counts
}

fn check_in_turn(weights: &[u32], expect: &[usize]) {
    let mut balancer = Balancer::new(Method::RoundRobin, &servers(weights), 0);
    balancer.start = 0;
    let conditions = vec![USABLE; weights.len()];
    let wanted = Wanted::default();
    let now = Instant::now();
    let picked: Vec<usize> = (0..expect.len())
        .map(|_| balancer.pick(&wanted, &conditions, now).unwrap())
        .collect();
    assert_eq!(picked, expect);
}

#[test]
fn in_turn_is_smooth() {
    check_in_turn(&[1, 1, 1], &[0, 1, 2, 0, 1, 2]);
    check_in_turn(&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0, 0, 0, 1]);
    check_in_turn(&[2, 1], &[0, 1, 0, 0, 1, 0]);
    check_in_turn(&[7], &[0, 0, 0]);
}

#[test]
fn workers_begin_with_different_servers() {
    let first = |seed| {
        let mut balancer = Balancer::new(Method::RoundRobin, &servers(&[1; 8]), seed);
        let picked = balancer.pick(&Wanted::default(), &[USABLE; 8], Instant::now());
        picked.unwrap()
    };
    let firsts: std::collections::HashSet<usize> = (0..64).map(first).collect();
    assert_eq!(firsts.len(), 8);
}

#[test]
fn the_fewest_requests_are_in_proportion_to_the_weights() {
    let mut balancer = Balancer::new(Method::LeastConnections, &servers(&[3, 1]), 1);
    assert_eq!(shares(&mut balancer, &[USABLE; 2], 400), [300, 100]);
    let mut balancer = Balancer::new(Method::LeastConnections, &servers(&[1; 4]), 1);
    assert_eq!(shares(&mut balancer, &[USABLE; 4], 40), [10; 4]);
    // Whoever is done with all of it gets what comes next.
    for _ in 0..10 {
        balancer.end(2, Outcome::GivenUp, Instant::now());
    }
    assert_eq!(shares(&mut balancer, &[USABLE; 4], 10), [0, 0, 10, 0]);
}

#[test]
fn of_two_the_faster_one_is_better() {
    let now = Instant::now();
    let mut balancer = Balancer::new(Method::PowerOfTwo, &servers(&[1; 2]), 1);
    for (server, milliseconds) in [(0, 10), (1, 100)] {
        balancer.begin(server);
        let latency = Duration::from_millis(milliseconds);
        balancer.end(server, Outcome::Answered(latency), now);
    }
    let pick = |balancer: &mut Balancer, now| {
        balancer
            .pick(&Wanted::default(), &[USABLE; 2], now)
            .unwrap()
    };
    // Ten requests at a tenth of the time are as good as one.
    for _ in 0..9 {
        assert_eq!(pick(&mut balancer, now), 0);
        balancer.begin(0);
    }
    balancer.begin(0);
    assert_eq!(pick(&mut balancer, now), 1);
    // A failure isn't fast.
    (0..9).for_each(|_| balancer.end(0, Outcome::GivenUp, now));
    balancer.end(0, Outcome::Failed, now);
    assert_eq!(pick(&mut balancer, now), 1);
    assert_eq!(balancer.latency(0, now), Duration::from_millis(10));
}

#[test]
fn of_two_the_heavier_one_gets_more() {
    let now = Instant::now();
    let mut balancer = Balancer::new(Method::PowerOfTwo, &servers(&[3, 1]), 1);
    for server in 0..2 {
        balancer.begin(server);
        balancer.end(server, Outcome::Answered(Duration::from_millis(10)), now);
    }
    let counts = shares(&mut balancer, &[USABLE; 2], 400);
    assert!((298..=302).contains(&counts[0]), "{counts:?}");
}

#[test]
fn hashing_spreads_by_weight() {
    let endless = Method::Hash {
        load_percent: 10_000,
    };
    for weights in [vec![1; 10], vec![1, 2, 3, 4]] {
        let mut balancer = Balancer::new(endless, &servers(&weights), 1);
        let counts = shares(&mut balancer, &vec![USABLE; weights.len()], 20_000);
        let all: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let ratio = f64::from(*count) / (20_000.0 * f64::from(*weight) / f64::from(all));
            assert!((0.7..1.35).contains(&ratio), "{counts:?}");
        }
    }
}

#[test]
fn a_key_keeps_its_server_when_others_come_and_go() {
    let now = Instant::now();
    let all = servers(&[1; 10]);
    let mut reversed: Vec<_> = all.clone();
    reversed.reverse();
    let [mut balancer, mut other] =
        [(all, 1), (reversed, 7)].map(|(servers, seed)| Balancer::new(HASH, &servers, seed));
    let mut moved = 0;
    for key in 0..2_000_u64 {
        let wanted = keyed(key_of(&key.to_be_bytes()));
        let home = balancer.pick(&wanted, &[USABLE; 10], now).unwrap();
        // In every worker, whatever the order of the list.
        let elsewhere = other.pick(&wanted, &[USABLE; 10], now).unwrap();
        assert_eq!(home, 9 - elsewhere);
        let mut conditions = [USABLE; 10];
        conditions[3] = DOWN;
        let without = balancer.pick(&wanted, &conditions, now).unwrap();
        assert_ne!(without, 3);
        if without != home {
            assert_eq!(home, 3, "only its keys move");
            moved += 1;
        }
    }
    assert!((100..320).contains(&moved), "a tenth moves: {moved}");
}

#[test]
fn one_key_does_not_take_its_server_down() {
    let now = Instant::now();
    let mut balancer = Balancer::new(HASH, &servers(&[1; 4]), 1);
    let mut counts = [0_u32; 4];
    for request in 1..=1000_u32 {
        let picked = balancer.pick(&keyed(42), &[USABLE; 4], now).unwrap();
        balancer.begin(picked);
        counts[picked] += 1;
        let bound = (f64::from(request) / 4.0 * 1.25).ceil();
        assert!(f64::from(counts[picked]) <= bound, "{counts:?}");
    }
}

#[test]
fn a_request_without_a_key_is_balanced_too() {
    let now = Instant::now();
    let mut balancer = Balancer::new(HASH, &servers(&[1; 4]), 1);
    for _ in 0..100 {
        let picked = balancer.pick(&Wanted::default(), &[USABLE; 4], now);
        balancer.begin(picked.unwrap());
    }
    let most = (0..4).map(|server| balancer.active(server)).max();
    assert!(most.unwrap() < 40);
}

#[test]
fn a_server_that_came_back_starts_slowly() {
    let begin = Instant::now();
    let mut two = servers(&[1, 1]);
    two[1].slow_start = Duration::from_secs(10);
    let back = Condition {
        well_since: Some(begin),
        ..USABLE
    };
    // At the start a tenth of its weight, then what has passed of the time.
    for (seconds, expect) in [(0, 10), (5, 50), (9, 90), (10, 100), (1000, 100)] {
        let now = begin + Duration::from_secs(seconds);
        let mut balancer = Balancer::new(Method::RoundRobin, &two, 1);
        let mut count = 0;
        for _ in 0..100 + expect {
            let picked = balancer.pick(&Wanted::default(), &[USABLE, back], now);
            count += i32::from(picked == Some(1));
        }
        assert!((count - expect).abs() <= 1, "{count} after {seconds} s");
    }
}

#[test]
fn backups_wait_until_no_other_can_be_used() {
    let now = Instant::now();
    let mut three = servers(&[1, 1, 1]);
    three[2].is_backup = true;
    for method in METHODS {
        let mut balancer = Balancer::new(method, &three, 1);
        let mut pick =
            |conditions: [Condition; 3], wanted: Wanted| balancer.pick(&wanted, &conditions, now);
        for key in 0..50 {
            assert_ne!(pick([USABLE; 3], keyed(key)), Some(2));
        }
        assert_eq!(pick([DOWN, DOWN, USABLE], keyed(1)), Some(2));
        assert_eq!(pick([DOWN, USABLE, USABLE], keyed(1)), Some(1));
        assert_eq!(pick([DOWN; 3], keyed(1)), None);
        let mut wanted = keyed(1);
        wanted.tried.add(0);
        wanted.tried.add(1);
        assert_eq!(pick([USABLE; 3], wanted), Some(2));
    }
}

#[test]
fn a_draining_server_keeps_who_is_bound_to_it() {
    let now = Instant::now();
    let mut two = servers(&[1, 1]);
    two[0].is_draining = true;
    for method in METHODS {
        let mut balancer = Balancer::new(method, &two, 1);
        let mut wanted = keyed(1);
        for key in 0..50 {
            assert_eq!(balancer.pick(&keyed(key), &[USABLE; 2], now), Some(1));
        }
        wanted.bound_to = Some(0);
        assert_eq!(balancer.pick(&wanted, &[USABLE; 2], now), Some(0));
        assert_eq!(balancer.pick(&wanted, &[DOWN, USABLE], now), Some(1));
        wanted.tried.add(0);
        assert_eq!(balancer.pick(&wanted, &[USABLE; 2], now), Some(1));
        wanted.tried.add(1);
        assert_eq!(balancer.pick(&wanted, &[USABLE; 2], now), None);
        wanted.bound_to = Some(99); // there were more servers once
        assert_eq!(balancer.pick(&wanted, &[USABLE; 2], now), None);
    }
}

#[test]
fn only_so_many_tried_servers_are_remembered() {
    let mut tried = Tried::default();
    for server in 0..=TRIED_MAX {
        assert!(!tried.has(server));
        tried.add(server);
        assert!(tried.has(server));
    }
    assert!(!tried.has(0));
    assert!(tried.has(1));
}

#[test]
#[should_panic(expected = "an upstream without servers")]
fn an_upstream_has_servers() {
    Balancer::new(HASH, &[], 0);
}

#[test]
#[should_panic(expected = "a server without weight")]
fn a_server_has_weight() {
    Balancer::new(HASH, &servers(&[1, 0]), 0);
}

#[test]
#[should_panic(expected = "one for each server")]
fn each_server_has_its_condition() {
    let mut balancer = Balancer::new(HASH, &servers(&[1, 1]), 0);
    balancer.pick(&Wanted::default(), &[USABLE], Instant::now());
}

proptest! {
    /// Whatever the servers and their conditions: who is chosen may be, and somebody is where
    /// anybody can be.
    #[test]
    fn who_is_chosen_may_be(
        method in prop::sample::select(&METHODS[..]),
        shapes in prop::collection::vec((1_u32..=256, any::<[bool; 4]>()), 1..8),
        key in any::<Option<u64>>(),
        bound_to in prop::option::of(0_usize..9),
        load in prop::collection::vec(0_usize..8, 0..60),
    ) {
        let now = Instant::now();
        let options: Vec<ServerOptions> = shapes
            .iter()
            .enumerate()
            .map(|(index, (weight, [is_backup, is_draining, ..]))| ServerOptions {
                is_backup: *is_backup,
                is_draining: *is_draining,
                ..server(index, *weight)
            })
            .collect();
        let conditions: Vec<Condition> =
            shapes.iter().map(|(_, [.., down, _])| if *down { DOWN } else { USABLE }).collect();
        let mut wanted = Wanted { key, bound_to, tried: Tried::default() };
        for (index, (_, [.., was_tried])) in shapes.iter().enumerate() {
            if *was_tried {
                wanted.tried.add(index);
            }
        }
        let mut balancer = Balancer::new(method, &options, 1);
        load.into_iter().filter(|&one| one < options.len()).for_each(|one| balancer.begin(one));
        let open = |index: usize| conditions[index].is_usable && !wanted.tried.has(index);
        let fresh = |index: usize| open(index) && !options[index].is_draining;
        let all = || 0..options.len();
        let expect: Vec<usize> = match bound_to.filter(|&one| one < options.len() && open(one)) {
            Some(bound) => vec![bound],
            None => {
                let primaries = all().filter(|&one| fresh(one) && !options[one].is_backup);
                let primaries: Vec<usize> = primaries.collect();
                if primaries.is_empty() { all().filter(|&one| fresh(one)).collect() } else { primaries }
            }
        };
        for _ in 0..20 {
            match balancer.pick(&wanted, &conditions, now) {
                Some(picked) => {
                    prop_assert!(expect.contains(&picked));
                    balancer.begin(picked);
                }
                None => prop_assert!(expect.is_empty()),
            }
        }
    }
}
