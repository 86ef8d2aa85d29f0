//! A cluster that is made up: time is virtual, and one seed decides which servers fail, are slow,
//! come and go, and when requests come. Balancing, health and retries work together as they do for
//! a real request.

use super::super::random::Random;
use super::{Balancer, METHODS, Method, Outcome, Wanted, server};
use crate::proxy::balance::key_of;
use crate::proxy::health::{Board, Check, Health, HealthLimits};
use crate::proxy::retry::{Budget, Failed, Progress, Verdict, judge};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

const SEEDS: u64 = 100;
const SERVERS: usize = 6;
/// Virtual seconds of each run.
const SECONDS: u64 = 120;
const REQUESTS_PER_SECOND: u64 = 80;
const RETRIES: u32 = 2;
const PERCENT: u32 = 20;
const PER_SECOND: u32 = 3;

const LIMITS: HealthLimits = HealthLimits {
    failures: 5,
    ejection_time: Duration::from_secs(5),
    max_ejected_percent: 50,
    panic_percent: 30,
};

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    Sound,
    /// Answers in ten times the time.
    Slow,
    /// Fails every request.
    Dead,
    /// Is dead for ten seconds, and sound for ten.
    Flapping,
}

impl Nature {
    fn latency(self, random: &mut Random) -> Duration {
        let spread = Duration::from_millis(20 + random.below(20) as u64);
        if self == Nature::Slow {
            spread * 10
        } else {
            spread
        }
    }

    fn fails_at(self, second: u64) -> bool {
        match self {
            Nature::Sound | Nature::Slow => false,
            Nature::Dead => true,
            Nature::Flapping => second % 20 < 10,
        }
    }
}

/// What became of a run.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    failed: u64,
    retries: u64,
    answered_by: [u64; SERVERS],
}

struct Cluster {
    natures: [Nature; SERVERS],
    balancer: Balancer,
    health: Health,
    budget: Budget,
    random: Random,
    begin: Instant,
    /// When requests end, and at which server, in nanoseconds from the beginning.
    under_way: BinaryHeap<Reverse<(u64, usize, u64)>>,
    tally: Tally,
}

impl Cluster {
    fn new(method: Method, natures: [Nature; SERVERS], seed: u64) -> Cluster {
        let begin = Instant::now();
        let servers: Vec<_> = (0..SERVERS).map(|index| server(index, 1)).collect();
        let board = Board::new(SERVERS, 1);
        board.set_check(0, Check::Healthy);
        Cluster {
            natures,
            balancer: Balancer::new(method, &servers, seed),
            health: Health::new(LIMITS, &board, 0, &[false; SERVERS]),
            budget: Budget::new(PERCENT, PER_SECOND, begin),
            random: Random::new(seed),
            begin,
            under_way: BinaryHeap::new(),
            tally: Tally::default(),
        }
    }

    fn run(mut self) -> Tally {
        let mut time = Duration::ZERO;
        let mean = Duration::from_secs(1) / REQUESTS_PER_SECOND as u32;
        while time < Duration::from_secs(SECONDS) {
            // Anywhere from none to twice the mean.
            time += mean * self.random.below(200) as u32 / 100;
            self.end_until(time);
            self.request(time);
        }
        self.tally
    }

    /// Requests that are over by `time`.
    fn end_until(&mut self, time: Duration) {
        while let Some(&Reverse((end, server, took))) = self.under_way.peek() {
            if u128::from(end) > time.as_nanos() {
                return;
            }
            self.under_way.pop();
            let now = self.begin + Duration::from_nanos(end);
            let latency = Duration::from_nanos(took);
            self.balancer.end(server, Outcome::Answered(latency), now);
            self.health.succeed(server);
        }
    }

    fn request(&mut self, time: Duration) {
        let now = self.begin + time;
        self.tally.requests += 1;
        self.budget.earn(now);
        let key = self.random.next() % 1000;
        let mut wanted = Wanted {
            key: Some(key_of(&key.to_be_bytes())),
            ..Wanted::default()
        };
        for attempts in 1.. {
            let conditions = self.health.conditions(now);
            let picked = self.balancer.pick(&wanted, conditions, now);
            let Some(picked) = picked else { break };
            self.balancer.begin(picked);
            let nature = self.natures[picked];
            if !nature.fails_at(time.as_secs()) {
                let latency = nature.latency(&mut self.random);
                let end = (time + latency).as_nanos() as u64;
                let took = latency.as_nanos() as u64;
                self.under_way.push(Reverse((end, picked, took)));
                self.tally.answered_by[picked] += 1;
                return;
            }
            self.balancer.end(picked, Outcome::Failed, now);
            self.health.fail(picked, now);
            wanted.tried.add(picked);
            let failed = Failed {
                is_idempotent: true,
                progress: Progress::NothingSent,
                has_body: true,
                is_reused: false,
                attempts,
                stale_before: 0,
            };
            match judge(&failed, RETRIES, &mut self.budget, now) {
                Verdict::Elsewhere => self.tally.retries += 1,
                Verdict::Again => unreachable!("it is no connection from the pool"),
                Verdict::No(_) => break,
            }
        }
        self.tally.failed += 1;
    }
}

/// One or two servers with something wrong, by the seed.
fn natures(random: &mut Random) -> [Nature; SERVERS] {
    let mut natures = [Nature::Sound; SERVERS];
    for _ in 0..1 + random.below(2) {
        let what = [Nature::Slow, Nature::Dead, Nature::Flapping];
        natures[random.below(SERVERS)] = what[random.below(what.len())];
    }
    natures
}

#[test]
fn a_cluster_with_bad_servers_serves_on() {
    for seed in 0..SEEDS {
        let natures = natures(&mut Random::new(seed));
        let method = METHODS[seed as usize % METHODS.len()];
        let tally = Cluster::new(method, natures, seed).run();
        let context = || format!("seed {seed}, {method:?}, {natures:?}: {tally:?}");
        // Never a storm, whatever fails.
        let most = tally.requests * u64::from(PERCENT) / 100 + SECONDS * u64::from(PER_SECOND) + 30;
        assert!(tally.retries <= most, "{}", context());
        // Half of the servers and more are sound: hardly anybody notices the others.
        assert!(tally.failed * 200 <= tally.requests, "{}", context());
        let sound = |&(_, nature): &(u64, Nature)| nature == Nature::Sound;
        let pairs = || tally.answered_by.into_iter().zip(natures);
        let answered: Vec<u64> = pairs().filter(sound).map(|(count, _)| count).collect();
        let average = answered.iter().sum::<u64>() / answered.len() as u64;
        for count in answered {
            // Those that are sound share alike; by hash as evenly as the ring is.
            let spread = if matches!(method, Method::Hash { .. }) {
                2
            } else {
                5
            };
            let off = count.abs_diff(average) * spread;
            assert!(off <= average, "{}", context());
        }
        for (count, nature) in pairs() {
            match nature {
                Nature::Dead => assert_eq!(count, 0),
                // What came back is used again.
                Nature::Flapping => assert!(count * 20 > average, "{}", context()),
                Nature::Slow => assert!(count > 0, "nobody is forgotten: {}", context()),
                Nature::Sound => {}
            }
        }
    }
}

#[test]
fn who_is_slow_gets_less_where_latency_counts() {
    for seed in 0..SEEDS / 10 {
        let mut natures = [Nature::Sound; SERVERS];
        natures[seed as usize % SERVERS] = Nature::Slow;
        for (method, least, most) in [
            (Method::RoundRobin, 0.95, 1.05),
            (Method::PowerOfTwo, 0.000_1, 0.6),
            (Method::LeastConnections, 0.05, 0.8),
        ] {
            let tally = Cluster::new(method, natures, seed).run();
            let slow = tally.answered_by[seed as usize % SERVERS] as f64;
            let all: u64 = tally.answered_by.iter().sum();
            let ratio = slow / (all as f64 / SERVERS as f64);
            assert!(
                (least..=most).contains(&ratio),
                "{method:?}: {ratio}, {tally:?}"
            );
        }
    }
}

#[test]
fn when_all_are_dead_retries_stay_within_their_budget() {
    for seed in 0..SEEDS {
        let method = METHODS[seed as usize % METHODS.len()];
        let tally = Cluster::new(method, [Nature::Dead; SERVERS], seed).run();
        assert_eq!(tally.failed, tally.requests);
        let most = tally.requests * u64::from(PERCENT) / 100 + SECONDS * u64::from(PER_SECOND) + 30;
        assert!(tally.retries <= most, "seed {seed}: {tally:?}");
        assert!(tally.retries > 0);
    }
}

#[test]
fn when_all_flap_together_the_cluster_recovers_alone() {
    for seed in 0..SEEDS {
        let method = METHODS[seed as usize % METHODS.len()];
        let tally = Cluster::new(method, [Nature::Flapping; SERVERS], seed).run();
        let answered: u64 = tally.answered_by.iter().sum();
        // They are sound for half of the time.
        assert!(
            answered * 100 >= tally.requests * 48,
            "seed {seed}: {tally:?}"
        );
    }
}
