//! The rules one by one, and what bad input gets.

use super::{LIMITS, Plug, World};
use crate::proxy::pool::local::Refused;
use crate::proxy::pool::{Leased, Local, PoolLimits, PoolStats, Shared};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const ONE: PoolLimits = PoolLimits {
    connections: 1,
    ..LIMITS
};
const NONE_KEPT: PoolLimits = PoolLimits {
    idle_per_worker: 0,
    ..LIMITS
};
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_connection_used_last_is_used_first() {
    let world = World::new(LIMITS, &[0]);
    let (one, first) = world.lease_numbered(0);
    let (other, second) = world.lease_numbered(0);
    world.finish(one);
    world.finish(other);
    let (one, number) = world.lease_numbered(0);
    assert_eq!(number, second);
    let (other, number) = world.lease_numbered(0);
    assert_eq!(number, first);
    drop((one, other));
    world.end();
}

#[test]
fn what_is_dropped_is_closed_and_its_place_free() {
    let world = World::new(ONE, &[0]);
    for number in 0..10 {
        let (lease, got) = world.lease_numbered(0);
        assert_eq!(got, number, "a new one each time");
        assert!(world.lease(0).is_none());
        drop(lease);
    }
    assert_eq!(world.server.most.load(SeqCst), 1);
    world.end();
}

#[test]
fn a_pool_that_keeps_nothing_has_nothing_idle() {
    let limits = PoolLimits {
        exchange: 0,
        ..NONE_KEPT
    };
    let world = World::new(limits, &[0]);
    for number in 0..10 {
        let (lease, got) = world.lease_numbered(0);
        assert_eq!(got, number, "a new one each time");
        world.finish(lease);
        let stats = world.shared.stats();
        assert_eq!((stats.open, stats.idle), (0, 0));
    }
    world.end();
}

#[test]
fn an_attempt_that_fails_gives_its_place_back() {
    let world = World::new(ONE, &[0]);
    for _ in 0..10 {
        let leased = world.workers[0].local.try_lease(world.now.get()).unwrap();
        assert!(matches!(leased, Leased::Open(_)));
        assert_eq!(world.shared.stats().open, 1);
        drop(leased);
    }
    let stats = world.shared.stats();
    assert_eq!((stats.open, stats.failed, stats.created), (0, 10, 0));
    world.end();
}

#[test]
fn a_panic_gives_back_what_the_request_had() {
    let world = World::new(ONE, &[0]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _lease = world.lease(0).unwrap();
        let _waits = world.wait(0);
        std::panic::resume_unwind(Box::new("injected"));
    }));
    assert!(panicked.is_err());
    let stats = world.shared.stats();
    assert_eq!((stats.open, stats.leased, stats.waiting), (0, 0, 0));
    assert!(world.lease(0).is_some());
    world.end();
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let world = World::new(ONE, &[0]);
    let mut lease = world.lease(0).unwrap();
    let mut requests: Vec<_> = (0..5).map(|_| world.wait(0)).collect();
    for index in 0..5 {
        world.finish(lease);
        let served: Vec<bool> = requests.iter().map(|one| world.is_served(one)).collect();
        let expect: Vec<bool> = (0..5).map(|other| other == index).collect();
        assert_eq!(served, expect);
        lease = world.served(&mut requests[index]);
    }
    assert_eq!(world.server.made.load(SeqCst), 1);
    drop((lease, requests));
    world.end();
}

#[test]
fn nobody_gets_before_those_who_wait() {
    let world = World::new(ONE, &[0]);
    let lease = world.lease(0).unwrap();
    let mut request = world.wait(0);
    world.finish(lease);
    assert!(world.lease(0).is_none(), "it is the other's");
    drop(world.served(&mut request));
    world.end();
}

#[test]
fn a_place_that_becomes_free_serves_who_waits() {
    let mut world = World::new(ONE, &[0]);
    let lease = world.lease(0).unwrap();
    let mut request = world.wait(0);
    drop(lease);
    world.settle();
    let lease = world.served(&mut request);
    assert!(!lease.is_reused());
    drop((lease, request));
    world.end();
}

#[test]
fn too_many_are_refused_at_once() {
    for waiting in 0..4 {
        let limits = PoolLimits { waiting, ..ONE };
        let world = World::new(limits, &[0, 0]);
        let lease = world.lease(0).unwrap();
        // The bound is for all workers.
        let mut requests: Vec<_> = (0..waiting)
            .map(|turn| world.wait(turn as usize % 2))
            .collect();
        for worker in 0..2 {
            let mut late = world.request(worker);
            assert!(matches!(world.poll(&mut late), Some(Err(Refused))));
        }
        assert_eq!(world.shared.stats().refused, 2);
        if requests.pop().is_some() {
            drop(world.wait(0));
        }
        drop((lease, requests));
        world.end();
    }
}

#[test]
fn who_gives_up_leaves_nothing_behind() {
    let mut world = World::new(ONE, &[0]);
    let lease = world.lease(0).unwrap();
    for _ in 0..10 {
        drop(world.wait(0));
    }
    assert_eq!(world.shared.stats().waiting, 0);
    world.finish(lease);
    world.settle();
    assert_eq!(world.shared.stats().idle, 1, "nobody had it");
    world.end();
}

#[test]
fn who_gives_up_when_served_hands_it_on() {
    let mut world = World::new(ONE, &[0, 0]);
    let lease = world.lease(0).unwrap();
    let requests = [world.wait(0), world.wait(0)];
    let [first, mut second] = requests;
    let mut elsewhere = world.wait(1);
    world.finish(lease);
    assert!(world.is_served(&first) && !world.is_served(&second));
    drop(first);
    let lease = world.served(&mut second);
    world.finish(lease);
    world.settle();
    drop(world.served(&mut elsewhere));
    world.end();
}

#[test]
fn a_place_that_was_granted_is_handed_on_too() {
    let mut world = World::new(ONE, &[0, 0]);
    let lease = world.lease(0).unwrap();
    let first = world.wait(0);
    let mut elsewhere = world.wait(1);
    drop(lease);
    world.settle();
    assert!(world.is_served(&first) && !world.is_served(&elsewhere));
    drop(first);
    world.settle();
    drop(world.served(&mut elsewhere));
    world.end();
}

#[test]
fn another_worker_gets_what_is_beyond_the_bound() {
    let mut world = World::new(NONE_KEPT, &[0, 0]);
    let (lease, number) = world.lease_numbered(0);
    world.finish(lease);
    world.settle();
    let (lease, got) = world.lease_numbered(1);
    assert_eq!(got, number);
    let stats = world.shared.stats();
    assert_eq!((stats.given, stats.reused_exchange), (1, 1));
    drop(lease);
    world.end();
}

/// The only connection is in the other worker, in use or idle, when somebody waits here.
fn check_reaches_another(is_idle: bool) {
    let mut world = World::new(ONE, &[0, 0]);
    let (lease, number) = world.lease_numbered(0);
    let mut lease = Some(lease);
    if is_idle {
        lease
            .take()
            .into_iter()
            .for_each(|lease| world.finish(lease));
        world.settle();
    }
    let mut request = world.wait(1);
    lease.into_iter().for_each(|lease| world.finish(lease));
    world.settle();
    let lease = world.served(&mut request);
    assert_eq!(lease.wire.number, number);
    drop(lease);
    world.end();
}

#[test]
fn what_another_waits_for_is_not_kept() {
    check_reaches_another(false);
}

#[test]
fn what_another_has_idle_is_asked_for() {
    check_reaches_another(true);
}

#[test]
fn what_cannot_be_moved_is_closed_for_who_needs_its_place() {
    let mut world = World::new(ONE, &[0, 0]);
    let mut lease = world.lease(0).unwrap();
    lease.wire.can_move = false;
    world.finish(lease);
    world.settle();
    let mut request = world.wait(1);
    world.settle();
    assert!(!world.served(&mut request).is_reused());
    drop(request);
    world.end();
}

#[test]
fn other_nodes_are_asked_after_the_own_one() {
    let world = World::new(NONE_KEPT, &[0, 1, 2]);
    let leases: Vec<_> = (0..3).map(|worker| world.lease(worker).unwrap()).collect();
    leases.into_iter().for_each(|lease| world.finish(lease));
    let (own, number) = world.lease_numbered(1);
    assert_eq!(number, 1);
    let (next, number) = world.lease_numbered(1);
    assert_eq!(number, 2);
    let (last, number) = world.lease_numbered(1);
    assert_eq!(number, 0);
    drop((own, next, last));
    world.end();
}

/// One connection, and somebody waiting in either worker: it goes to whoever has waited longer, when
/// the other has waited for half a second.
fn check_turn(waited_elsewhere: Duration, goes_elsewhere: bool) {
    let mut world = World::new(ONE, &[0, 0]);
    let lease = world.lease(0).unwrap();
    let half = Duration::from_millis(500);
    let mut elsewhere = None;
    if waited_elsewhere > half {
        elsewhere = Some(world.wait(1));
        world.pass(waited_elsewhere - half);
    }
    let here = world.wait(0);
    if waited_elsewhere <= half {
        world.pass(half - waited_elsewhere);
        elsewhere = Some(world.wait(1));
    }
    world.pass(half.min(waited_elsewhere));
    world.finish(lease);
    world.settle();
    let elsewhere = elsewhere.unwrap();
    assert_eq!(world.is_served(&here), !goes_elsewhere);
    assert_eq!(world.is_served(&elsewhere), goes_elsewhere);
    drop((here, elsewhere));
    world.end();
}

#[test]
fn whoever_has_waited_much_longer_is_first_in_any_worker() {
    check_turn(Duration::from_millis(10), false);
    check_turn(Duration::from_millis(500), false);
    check_turn(Duration::from_millis(620), false);
    check_turn(Duration::from_millis(630), true);
    check_turn(Duration::from_secs(10), true);
}

#[test]
fn a_dead_connection_is_not_used_again() {
    let world = World::new(LIMITS, &[0]);
    let leases: Vec<_> = (0..3).map(|_| world.lease(0).unwrap()).collect();
    for mut lease in leases {
        lease.wire.is_alive = lease.wire.number == 0;
        world.finish(lease);
    }
    let (lease, number) = world.lease_numbered(0);
    assert_eq!(number, 0);
    let stats = world.shared.stats();
    assert_eq!((stats.dead, stats.open), (2, 1));
    drop(lease);
    world.end();
}

#[test]
fn one_that_died_in_the_exchange_is_not_used_again() {
    let mut world = World::new(NONE_KEPT, &[0]);
    let mut lease = world.lease(0).unwrap();
    lease.wire.is_alive = false;
    world.finish(lease);
    world.settle();
    assert!(!world.lease(0).unwrap().is_reused());
    assert_eq!(world.shared.stats().dead, 1);
    world.end();
}

/// A connection that was opened `age` ago, and given back `idle` ago.
fn check_reuse(limits: PoolLimits, age: Duration, idle: Duration, is_reused: bool) {
    let mut world = World::new(limits, &[0]);
    let lease = world.lease(0).unwrap();
    world.pass(age - idle);
    world.finish(lease);
    world.pass(idle);
    assert_eq!(world.lease(0).unwrap().is_reused(), is_reused);
    world.settle();
    assert_eq!(world.shared.stats().expired, u64::from(!is_reused));
    world.end();
}

#[test]
fn what_was_idle_or_there_for_too_long_is_not_used_again() {
    for limits in [LIMITS, NONE_KEPT] {
        check_reuse(limits, SECOND * 60, SECOND * 59, true);
        check_reuse(limits, SECOND * 61, SECOND * 60, false);
        check_reuse(limits, SECOND * 3599, SECOND, true);
        check_reuse(limits, SECOND * 3600, SECOND, false);
        check_reuse(limits, SECOND * 3700, SECOND, false);
    }
}

#[test]
fn the_keeper_closes_what_nobody_asks_for() {
    for limits in [LIMITS, NONE_KEPT] {
        let mut world = World::new(limits, &[0]);
        let lease = world.lease(0).unwrap();
        world.finish(lease);
        // Nobody calls it but its own waker and the time it asked for.
        world.settle();
        let mut passed = Duration::ZERO;
        while let Some(timer) = world.workers[0].timer {
            let step = timer - world.now.get();
            assert!(step > Duration::ZERO, "it spins");
            world.pass(step);
            passed += step;
            world.settle();
        }
        assert_eq!(world.server.open.load(SeqCst), 0);
        assert!((SECOND * 60..SECOND * 91).contains(&passed), "{passed:?}");
        assert_eq!(world.shared.stats().expired, 1);
        world.end();
    }
}

#[test]
fn endless_times_are_no_times() {
    let limits = PoolLimits {
        idle_timeout: Duration::MAX,
        lifetime: Duration::MAX,
        ..LIMITS
    };
    check_reuse(limits, SECOND * 1_000_000, SECOND * 999_999, true);
}

#[test]
fn what_has_no_room_is_closed() {
    let limits = PoolLimits {
        exchange: 1,
        ..NONE_KEPT
    };
    let world = World::new(limits, &[0]);
    let leases: Vec<_> = (0..3).map(|_| world.lease(0).unwrap()).collect();
    leases.into_iter().for_each(|lease| world.finish(lease));
    let stats = world.shared.stats();
    assert_eq!((stats.surplus, stats.idle, stats.open), (2, 1, 1));
    world.end();
}

#[test]
fn a_worker_that_does_not_answer_keeps_nobody_waiting() {
    let mut world = World::new(ONE, &[0, 0]);
    let lease = world.lease(0).unwrap();
    let stuck = world.wait(1);
    drop(lease); // rings worker 1, which is busy for ever
    let mut request = world.request(0);
    assert!(world.poll(&mut request).is_none());
    world.workers[1].flag.take();
    world.settle();
    drop(world.served(&mut request));
    drop(stuck);
    world.end();
}

#[test]
fn the_numbers_say_what_happened() {
    let mut world = World::new(LIMITS, &[0, 0]);
    let stats = world.shared.stats();
    assert_eq!((stats, stats.reuse_ratio()), (PoolStats::default(), None));
    for _ in 0..3 {
        let lease = world.lease(0).unwrap();
        assert_eq!(world.shared.stats().leased, 1);
        world.finish(lease);
    }
    world.settle();
    let stats = world.shared.stats();
    let expect = PoolStats {
        open: 1,
        idle: 1,
        created: 1,
        reused_local: 2,
        ..PoolStats::default()
    };
    assert_eq!(stats, expect);
    assert!((stats.reuse_ratio().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    world.end();
}

fn check_refused_limits(limits: PoolLimits, nodes: &[usize], complains_of: &str) {
    let made = catch_unwind(|| Shared::<super::Wire>::new(limits, nodes, Instant::now()));
    let complaint = made.unwrap_err();
    let complaint = complaint.downcast_ref::<&str>().map(ToString::to_string);
    assert_eq!(complaint.as_deref(), Some(complains_of));
}

#[test]
fn limits_without_a_meaning_are_refused() {
    let connections = PoolLimits {
        connections: 0,
        ..LIMITS
    };
    check_refused_limits(connections, &[0], "a server without connections");
}

#[test]
#[should_panic(expected = "a pool without workers")]
fn a_pool_needs_workers() {
    Shared::<super::Wire>::new(LIMITS, &[], Instant::now());
}

#[test]
#[should_panic(expected = "no such worker")]
fn a_worker_has_to_be_one_of_the_pools() {
    let shared = Shared::new(LIMITS, &[0], Instant::now());
    let _ = Local::<Plug>::new(&shared, 1);
}
