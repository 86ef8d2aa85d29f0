//! Which server gets a request: the choice among those that can be used, in one worker.
//!
//! Pure logic over the servers of one upstream, without a socket, a clock or a lock. What the
//! servers' health says comes as a [`Condition`] for each; the request says what its key is, whom
//! it is bound to and who has failed it already ([`Wanted`]). Choosing allocates nothing.
//!
//! Each worker balances for itself: the requests under way and the latencies it knows are its own.
//! With as many choices as there are, that is as good as knowing all (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001), and costs no shared cache line.

mod latency;
mod random;
mod ring;
mod sticky;
#[cfg(test)]
mod tests;

use super::health::Condition;
use latency::Latency;
use random::Random;
use ring::Ring;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

pub(crate) use ring::key_of;
pub(crate) use sticky::Sticky;

/// The most servers that one request can have tried.
pub(crate) const TRIED_MAX: usize = 11;

/// One weight, in the units of effective weights.
const WEIGHT_UNIT: u64 = 1 << 10;
/// The least share of its weight that a server starts with, as a divisor: a tenth, as Envoy has it.
const START_DIVISOR: u64 = 10;

/// How a server is chosen among those that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// In turn, by weight, without giving one server several in a row where others could have them
    /// (nginx's smooth weighted round robin).
    RoundRobin,
    /// The one with the fewest requests under way, by weight.
    LeastConnections,
    /// Of two at random, the one that promises the shorter wait.
    PowerOfTwo,
    /// The same one for the same key. Requests without a key go by [`Method::PowerOfTwo`].
    Hash {
        /// The most requests that a server may have under way, in percent of its share of all that
        /// are, before the next one takes over; at least 100.
        load_percent: u32,
    },
}

/// What is known of a server beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    /// Names it to hashing, whatever its place in the list: the same in each worker and after each
    /// restart, such as [`key_of`] its address.
    pub(crate) identity: u64,
    /// Its share, in proportion to the others'; at least 1.
    pub(crate) weight: u32,
    /// Used only while no other can be.
    pub(crate) is_backup: bool,
    /// Gets nothing new but what is bound to it.
    pub(crate) is_draining: bool,
    /// For how long its share grows after it came back; zero for not at all.
    pub(crate) slow_start: Duration,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// What it is hashed by, if it has that.
    pub(crate) key: Option<u64>,
    /// The server that its cookie names.
    pub(crate) bound_to: Option<usize>,
    /// Servers that have failed it.
    pub(crate) tried: Tried,
}

/// The servers that have failed a request: a few, without allocation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tried {
    servers: [u32; TRIED_MAX],
    count: usize,
}

/// How a request to a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered, after so long.
    Answered(Duration),
    /// The server failed it.
    Failed,
    /// It was given up, which says nothing about the server.
    GivenUp,
}

/// The servers of one upstream, as one worker uses them.
#[derive(Debug)]
pub(crate) struct Balancer {
    method: Method,
    servers: Vec<Server>,
    ring: Ring,
    random: Random,
    /// Where looking for a server begins, so that equals take turns.
    start: usize,
    /// Those that a request may go to: kept from one choice to the next, so as not to allocate.
    eligible: Vec<usize>,
}

#[derive(Debug)]
struct Server {
    options: ServerOptions,
    /// Requests under way from this worker.
    active: u32,
    latency: Latency,
    /// What it is owed by its turns, in effective weights.
    credit: i64,
}

impl Tried {
    /// Adds a server. Beyond [`TRIED_MAX`] the first ones are forgotten.
    pub(crate) fn add(&mut self, server: usize) {
        self.servers[self.count % TRIED_MAX] = server as u32;
        self.count += 1;
    }

    /// Whether the server is one of them.
    pub(crate) fn has(&self, server: usize) -> bool {
        let known = &self.servers[..self.count.min(TRIED_MAX)];
        known.iter().any(|&tried| tried as usize == server)
    }
}

impl Server {
    /// Its weight now, at least 1: a part of it for a while after it came back.
    fn weight(&self, condition: Condition, now: Instant) -> u64 {
        let full = u64::from(self.options.weight) * WEIGHT_UNIT;
        let Some(since) = condition.well_since else {
            return full;
        };
        let passed = now.saturating_duration_since(since);
        if passed >= self.options.slow_start {
            return full;
        }
        let share = passed.as_secs_f64() / self.options.slow_start.as_secs_f64();
        ((full as f64 * share) as u64).max(full / START_DIVISOR)
    }
}

impl Balancer {
    /// For these servers. `seed` should differ between workers, so that they don't all begin with
    /// the same server.
    ///
    /// # Panics
    /// When there is no server, or one without weight.
    pub(crate) fn new(method: Method, servers: &[ServerOptions], seed: u64) -> Balancer {
        assert!(!servers.is_empty(), "an upstream without servers");
        let have_weight = servers.iter().all(|server| server.weight > 0);
        assert!(have_weight, "a server without weight");
        let ring = match method {
            Method::Hash { .. } => Ring::new(servers),
            _ => Ring::new(&[]),
        };
        let server = |&options| Server {
            options,
            active: 0,
            latency: Latency::default(),
            credit: 0,
        };
        let mut random = Random::new(seed);
        Balancer {
            method,
            servers: servers.iter().map(server).collect(),
            ring,
            start: random.below(servers.len()),
            random,
            eligible: Vec::with_capacity(servers.len()),
        }
    }

    /// Goes on with what is known of server `server`'s latency, which `other` calls `from`.
    pub(crate) fn carry_on(&mut self, server: usize, other: &Balancer, from: usize) {
        self.servers[server].latency = other.servers[from].latency.clone();
    }

    /// The server for a request, of those whose condition lets them be used and that haven't failed
    /// it: the one it is bound to, else one that isn't draining, else a backup. `None` when there
    /// is none of these.
    ///
    /// # Panics
    /// When there aren't as many conditions as servers.
    pub(crate) fn pick(
        &mut self,
        wanted: &Wanted,
        conditions: &[Condition],
        now: Instant,
    ) -> Option<usize> {
        assert_eq!(conditions.len(), self.servers.len(), "one for each server");
        let can_be_used = |server: usize| conditions[server].is_usable && !wanted.tried.has(server);
        let bound_to = wanted.bound_to.filter(|&bound| bound < conditions.len());
        if let Some(bound) = bound_to.filter(|&bound| can_be_used(bound)) {
            return Some(bound);
        }
        if let [only] = &self.servers[..] {
            return (can_be_used(0) && !only.options.is_draining).then_some(0);
        }
        let mut eligible = std::mem::take(&mut self.eligible);
        for is_backup in [false, true] {
            let servers = self.servers.iter().enumerate();
            eligible.clear();
            eligible.extend(servers.filter_map(|(index, server)| {
                let options = &server.options;
                let is_of_those = options.is_backup == is_backup && !options.is_draining;
                (is_of_those && can_be_used(index)).then_some(index)
            }));
            if !eligible.is_empty() {
                break;
            }
        }
        let picked = match eligible[..] {
            [] => None,
            [only] => Some(only),
            _ => Some(self.choose(&eligible, wanted.key, conditions, now)),
        };
        self.eligible = eligible;
        picked
    }

    /// One of at least two.
    fn choose(
        &mut self,
        eligible: &[usize],
        key: Option<u64>,
        conditions: &[Condition],
        now: Instant,
    ) -> usize {
        match (self.method, key) {
            (Method::RoundRobin, _) => self.in_turn(eligible, conditions, now),
            (Method::LeastConnections, _) => self.with_fewest(eligible, conditions, now),
            (Method::Hash { load_percent }, Some(key)) => {
                let weight = |server: usize| self.servers[server].weight(conditions[server], now);
                let has_room = self.load_bound(eligible, load_percent, weight);
                let takes_it =
                    |server: usize| eligible.binary_search(&server).is_ok() && has_room(server);
                // Somebody always has room: the bound is more than an equal share.
                self.ring.find(key, takes_it).unwrap_or(eligible[0])
            }
            (Method::PowerOfTwo | Method::Hash { .. }, _) => self.of_two(eligible, conditions, now),
        }
    }

    fn with_fewest(&mut self, eligible: &[usize], conditions: &[Condition], now: Instant) -> usize {
        self.start = self.start.wrapping_add(1);
        let (before, after) = eligible.split_at(self.start % eligible.len());
        let load = |index: usize| {
            let server = &self.servers[index];
            let weight = server.weight(conditions[index], now);
            (u64::from(server.active) + 1, weight)
        };
        // Requests by weight, without a division.
        let compare = |&one: &usize, &other: &usize| {
            let ((active, weight), (other_active, other_weight)) = (load(one), load(other));
            (active * other_weight).cmp(&(other_active * weight))
        };
        let in_order = after.iter().chain(before).copied();
        in_order.min_by(compare).expect("there are two")
    }

    fn of_two(&mut self, eligible: &[usize], conditions: &[Condition], now: Instant) -> usize {
        let first = self.random.below(eligible.len());
        let second = self.random.below(eligible.len() - 1);
        let second = second + usize::from(second >= first);
        let mut cost = |index: usize| {
            let server = &mut self.servers[index];
            if let Some(since) = conditions[index].well_since {
                server.latency.forget_before(since);
            }
            server.latency.cost(server.active, now) / server.weight(conditions[index], now) as f64
        };
        let [one, other] = [eligible[first], eligible[second]];
        match cost(one).total_cmp(&cost(other)) {
            Ordering::Greater => other,
            Ordering::Less | Ordering::Equal => one,
        }
    }

    /// Smooth weighted round robin: each gets its weight in credit, and who has the most pays for
    /// all.
    fn in_turn(&mut self, eligible: &[usize], conditions: &[Condition], now: Instant) -> usize {
        let mut sum = 0;
        let mut best: Option<usize> = None;
        let begin = self.start % eligible.len();
        let (before, after) = eligible.split_at(begin);
        for &index in after.iter().chain(before) {
            let weight = self.servers[index].weight(conditions[index], now) as i64;
            self.servers[index].credit += weight;
            sum += weight;
            if best.is_none_or(|best| self.servers[index].credit > self.servers[best].credit) {
                best = Some(index);
            }
        }
        let best = best.expect("there are two");
        self.servers[best].credit -= sum;
        best
    }

    /// Whether a server may take one more request, with consistent hashing's bounded loads
    /// (Mirrokni, Thorup and Zadimoghaddam, 2018).
    fn load_bound(
        &self,
        eligible: &[usize],
        load_percent: u32,
        weight: impl Fn(usize) -> u64,
    ) -> impl Fn(usize) -> bool {
        let weights: u64 = eligible.iter().map(|&server| weight(server)).sum();
        let all: u64 = eligible
            .iter()
            .map(|&server| u64::from(self.servers[server].active))
            .sum();
        let percent = u128::from(load_percent.max(100));
        move |server| {
            // active < ceil(all, this one too, × share × percent)
            let active = u128::from(self.servers[server].active);
            let share = u128::from(all + 1) * u128::from(weight(server)) * percent;
            active * u128::from(weights) * 100 < share
        }
    }

    /// A request to the server has begun.
    pub(crate) fn begin(&mut self, server: usize) {
        self.servers[server].active += 1;
    }

    /// Whether it is looked at how long servers take.
    pub(crate) fn compares_latency(&self) -> bool {
        self.method == Method::PowerOfTwo && self.servers.len() > 1
    }

    /// A request that [`Balancer::begin`] was called for is over.
    pub(crate) fn end(&mut self, server: usize, outcome: Outcome, now: Instant) {
        let compares = self.compares_latency();
        let server = &mut self.servers[server];
        server.active = server.active.saturating_sub(1);
        match outcome {
            _ if !compares => {}
            Outcome::Answered(latency) => server.latency.observe(latency, now),
            Outcome::Failed => server.latency.observe_failure(now),
            Outcome::GivenUp => {}
        }
    }

    /// Requests to the server under way from this worker.
    #[cfg(test)]
    pub(crate) fn active(&self, server: usize) -> u32 {
        self.servers[server].active
    }

    /// How long the server takes to answer, as this worker knows it at `now`.
    #[cfg(test)]
    pub(crate) fn latency(&self, server: usize, now: Instant) -> Duration {
        self.servers[server].latency.value(now)
    }
}
