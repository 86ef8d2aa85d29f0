//! Any sequence of steps in a few workers, on one thread: what is always true, and what is once the
//! keepers have done their work.

use super::{LIMITS, Plug, Request, World};
use crate::proxy::pool::{Lease, Leased, PoolLimits};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const WORKERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A request comes to a worker, and waits where it has to.
    Come(usize),
    Finish(Index),
    Drop(Index),
    /// The server closes a connection that is in use.
    Kill(Index),
    /// A connection that is in use will not be able to leave its worker.
    Pin(Index),
    /// Somebody who waits, or was just served, gives up.
    GiveUp(Index),
    /// An attempt to connect fails.
    Fail(usize),
    Pass(u64),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..WORKERS).prop_map(Step::Come),
        5 => any::<Index>().prop_map(Step::Finish),
        1 => any::<Index>().prop_map(Step::Drop),
        1 => any::<Index>().prop_map(Step::Kill),
        1 => any::<Index>().prop_map(Step::Pin),
        2 => any::<Index>().prop_map(Step::GiveUp),
        1 => (0..WORKERS).prop_map(Step::Fail),
        1 => (0_u64..40_000).prop_map(Step::Pass),
        3 => Just(Step::Settle),
    ]
}

fn limits() -> impl Strategy<Value = PoolLimits> {
    (1_u32..5, 0_usize..3, 1_usize..4, 0_u32..6).prop_map(
        |(connections, idle_per_worker, exchange, waiting)| PoolLimits {
            connections,
            idle_per_worker,
            exchange,
            waiting,
            ..LIMITS
        },
    )
}

struct Run {
    world: World,
    limits: PoolLimits,
    leases: Vec<Lease<Plug>>,
    /// Those who wait, in the order in which they came.
    requests: VecDeque<Request>,
}

impl Run {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Come(worker) => self.come(worker),
            Step::Finish(which) => {
                if let Some(lease) = self.take_lease(which) {
                    self.world.finish(lease);
                }
            }
            Step::Drop(which) => drop(self.take_lease(which)),
            Step::Kill(which) => {
                if let Some(lease) = pick(&mut self.leases, which) {
                    lease.wire.is_alive = false;
                }
            }
            Step::Pin(which) => {
                if let Some(lease) = pick(&mut self.leases, which) {
                    lease.wire.can_move = false;
                }
            }
            Step::GiveUp(which) if !self.requests.is_empty() => {
                let index = which.index(self.requests.len());
                drop(self.requests.remove(index));
            }
            Step::GiveUp(_) => {}
            Step::Fail(worker) => {
                let local = &self.world.workers[worker].local;
                match local.try_lease(self.world.now.get()) {
                    Some(Leased::Reused(lease)) => self.leases.push(lease),
                    opening => drop(opening),
                }
            }
            Step::Pass(milliseconds) => self.world.pass(Duration::from_millis(milliseconds)),
            Step::Settle => self.settle(),
        }
        self.check();
    }

    fn come(&mut self, worker: usize) {
        let mut request = self.world.request(worker);
        match self.world.poll(&mut request) {
            Some(Ok(leased)) => self.leases.push(self.world.open(leased)),
            Some(Err(_)) => {
                let waiting = self.world.shared.stats().waiting;
                assert_eq!(waiting, self.limits.waiting, "refused below the bound");
            }
            None => self.requests.push_back(request),
        }
    }

    fn take_lease(&mut self, which: Index) -> Option<Lease<Plug>> {
        let count = self.leases.len();
        (count > 0).then(|| self.leases.swap_remove(which.index(count)))
    }

    /// Keepers and those who were woken do what they can, until nothing moves any more.
    fn settle(&mut self) {
        loop {
            self.world.settle();
            // In each worker, those who were served are the first who came.
            let mut has_one_waiting = [false; WORKERS];
            for request in &self.requests {
                let waits = !self.world.is_served(request);
                assert!(
                    waits || !has_one_waiting[request.worker],
                    "served out of turn"
                );
                has_one_waiting[request.worker] |= waits;
            }
            let served = |request: &Request| request.flag.take();
            let Some(index) = self.requests.iter().position(served) else {
                break;
            };
            let mut request = self.requests.remove(index).unwrap();
            let result = self.world.poll(&mut request).expect("woken for nothing");
            self.leases.push(self.world.open(result.unwrap()));
        }
        let stats = self.world.shared.stats();
        let can_be_served = stats.open < self.limits.connections || stats.idle > 0;
        assert!(
            self.requests.is_empty() || !can_be_served,
            "somebody waits for what is there: {stats:?}"
        );
    }

    /// Always.
    fn check(&self) {
        let stats = self.world.shared.stats();
        let granted = self.requests.iter().filter(|one| self.world.is_served(one));
        let granted = granted.count();
        let open = self.world.server.open.load(SeqCst);
        assert!(open <= stats.open && stats.open <= self.limits.connections);
        assert_eq!(stats.leased, self.leases.len() as u64);
        assert_eq!(stats.waiting as usize, self.requests.len() - granted);
        assert!(stats.idle + stats.leased <= u64::from(stats.open));
        assert!(u64::from(stats.open) <= stats.idle + stats.leased + granted as u64);
    }
}

fn pick<T>(from: &mut [T], which: Index) -> Option<&mut T> {
    let count = from.len();
    (count > 0).then(|| &mut from[which.index(count)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nobody_waits_for_what_is_there(
        limits in limits(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut run = Run {
            world: World::new(limits, &[0, 0, 1]),
            limits,
            leases: Vec::new(),
            requests: VecDeque::new(),
        };
        steps.into_iter().for_each(|step| run.apply(step));
        run.settle();
        drop((run.leases, run.requests));
        run.world.end();
    }
}
