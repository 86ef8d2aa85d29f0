//! Each rule, at its edge.

use super::{Board, Check, Health, HealthLimits, ServerHealth};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMITS: HealthLimits = HealthLimits {
    failures: 3,
    ejection_time: Duration::from_secs(10),
    max_ejected_percent: 50,
    panic_percent: 0,
};
const SECOND: Duration = Duration::from_secs(1);

fn health(limits: HealthLimits, count: usize) -> (Health, Arc<Board>) {
    let board = Board::new(count, 2);
    let health = Health::new(limits, &board, 1, &vec![false; count]);
    (health, board)
}

fn usable(health: &mut Health, now: Instant) -> Vec<bool> {
    let conditions = health.conditions(now);
    conditions.iter().map(|one| one.is_usable).collect()
}

/// Fails until it is left out; how often that took.
fn eject(health: &mut Health, server: usize, now: Instant) -> u32 {
    let mut times = 1;
    while !health.fail(server, now) {
        times += 1;
        assert!(times < 100, "it is never left out");
    }
    times
}

#[test]
fn failures_in_a_row_leave_a_server_out() {
    let now = Instant::now();
    let (mut health, _) = health(LIMITS, 2);
    assert!(!health.fail(0, now));
    assert!(!health.fail(0, now));
    health.succeed(0);
    assert_eq!(
        eject(&mut health, 0, now),
        3,
        "an answer in between forgives"
    );
    assert_eq!(usable(&mut health, now), [false, true]);
    // What was under way still fails, and changes nothing.
    assert!(!health.fail(0, now));
    assert_eq!(usable(&mut health, now + SECOND * 9), [false, true]);
    assert_eq!(usable(&mut health, now + SECOND * 10), [true, true]);
}

#[test]
fn the_time_grows_and_is_forgotten_again() {
    let mut now = Instant::now();
    let (mut health, _) = health(LIMITS, 2);
    for turn in 1..=15 {
        let failures = eject(&mut health, 0, now);
        assert_eq!(
            failures,
            if turn == 1 { 3 } else { 1 },
            "it is on probation"
        );
        let time = SECOND * 10 * turn.min(10);
        assert!(!usable(&mut health, now + time - SECOND)[0], "turn {turn}");
        assert!(usable(&mut health, now + time)[0], "turn {turn}");
        now += time;
    }
    // Each ten seconds that it is well take one turn off.
    health.succeed(0);
    for _ in 0..9 {
        now += SECOND * 10;
        usable(&mut health, now);
    }
    assert_eq!(eject(&mut health, 0, now), 3);
    assert!(!usable(&mut health, now + SECOND * 19)[0]);
    assert!(usable(&mut health, now + SECOND * 20)[0]);
}

fn check_cap(max_ejected_percent: u32, servers: usize, expect: usize) {
    let now = Instant::now();
    let limits = HealthLimits {
        max_ejected_percent,
        ..LIMITS
    };
    let (mut health, _) = health(limits, servers);
    for server in 0..servers {
        for _ in 0..10 {
            health.fail(server, now);
        }
    }
    let out = usable(&mut health, now);
    let out = out.iter().filter(|is_usable| !**is_usable).count();
    assert_eq!(out, expect, "{max_ejected_percent} % of {servers}");
}

#[test]
fn only_so_many_are_left_out_at_once() {
    check_cap(50, 1, 0);
    check_cap(100, 1, 0);
    check_cap(50, 2, 1);
    check_cap(50, 5, 2);
    check_cap(10, 5, 1);
    check_cap(100, 5, 4);
    check_cap(0, 5, 0);
}

#[test]
fn without_a_limit_none_is_left_out() {
    let now = Instant::now();
    let limits = HealthLimits {
        failures: 0,
        ..LIMITS
    };
    let (mut health, _) = health(limits, 2);
    assert!((0..1000).all(|_| !health.fail(0, now)));
    assert_eq!(usable(&mut health, now), [true, true]);
}

#[test]
fn active_checks_count_in_every_worker() {
    let now = Instant::now();
    let (mut health, board) = health(LIMITS, 3);
    for (check, expect) in [
        (Check::Unhealthy, false),
        (Check::Unknown, true),
        (Check::Unhealthy, false),
        (Check::Healthy, true),
    ] {
        board.set_check(1, check);
        assert_eq!(board.check(1), check);
        assert_eq!(usable(&mut health, now), [true, expect, true]);
    }
}

#[test]
fn whoever_comes_back_is_known_to_be_new() {
    let now = Instant::now();
    let (mut health, board) = health(LIMITS, 2);
    assert_eq!(
        health.conditions(now)[0].well_since,
        None,
        "it was never away"
    );
    board.set_check(0, Check::Unhealthy);
    assert_eq!(health.conditions(now + SECOND)[0].well_since, None);
    board.set_check(0, Check::Healthy);
    let back = now + SECOND * 2;
    assert_eq!(health.conditions(back)[0].well_since, Some(back));
    assert_eq!(health.conditions(back + SECOND)[0].well_since, Some(back));
    eject(&mut health, 1, back);
    let back = back + SECOND * 10;
    assert_eq!(health.conditions(back)[1].well_since, Some(back));
}

/// Of these servers, as many primaries and backups are down; who can be used then.
fn check_panic(percent: u32, primaries: [usize; 2], backups: [usize; 2], expect_all: bool) {
    let now = Instant::now();
    let limits = HealthLimits {
        panic_percent: percent,
        ..LIMITS
    };
    let [primaries, primaries_down] = primaries;
    let [backups, backups_down] = backups;
    let all = primaries + backups;
    let board = Board::new(all, 1);
    let is_backup: Vec<bool> = (0..all).map(|server| server >= primaries).collect();
    let mut health = Health::new(limits, &board, 0, &is_backup);
    let down = (0..primaries_down).chain(primaries..primaries + backups_down);
    down.for_each(|server| board.set_check(server, Check::Unhealthy));
    let usable = usable(&mut health, now)
        .into_iter()
        .filter(|one| *one)
        .count();
    let well = all - primaries_down - backups_down;
    assert_eq!(usable, if expect_all { all } else { well });
}

#[test]
fn when_too_few_are_well_all_are_used() {
    check_panic(50, [4, 1], [0, 0], false);
    check_panic(50, [4, 2], [0, 0], false);
    check_panic(50, [4, 3], [0, 0], true);
    check_panic(50, [4, 4], [0, 0], true);
    check_panic(0, [4, 4], [0, 0], false);
    check_panic(100, [4, 1], [0, 0], true);
    // A backup that is well is what it is for.
    check_panic(50, [2, 2], [1, 0], false);
    check_panic(50, [2, 2], [1, 1], true);
    check_panic(50, [0, 0], [2, 2], true);
}

#[test]
fn a_status_page_sees_what_every_worker_sees() {
    let now = Instant::now();
    let board = Board::new(2, 2);
    let [mut one, mut other] =
        [0, 1].map(|worker| Health::new(LIMITS, &board, worker, &[false; 2]));
    eject(&mut one, 0, now);
    other.fail(0, now);
    board.set_check(1, Check::Healthy);
    let expect = |ejected_workers, failures, ejections, check| ServerHealth {
        check,
        ejected_workers,
        failures,
        ejections,
    };
    let sound = expect(0, 0, 0, Check::Healthy);
    assert_eq!(board.snapshot(), [expect(1, 3, 1, Check::Unknown), sound]);
    one.conditions(now + SECOND * 10);
    one.succeed(0);
    other.succeed(0);
    assert_eq!(board.snapshot(), [expect(0, 0, 1, Check::Unknown), sound]);
    // A worker that starts again has nothing against anybody.
    eject(&mut one, 0, now);
    Health::new(LIMITS, &board, 0, &[false; 2]);
    assert_eq!(board.snapshot(), [expect(0, 0, 2, Check::Unknown), sound]);
}

#[test]
fn a_time_without_an_end_is_one() {
    let now = Instant::now();
    let limits = HealthLimits {
        ejection_time: Duration::MAX,
        ..LIMITS
    };
    let (mut health, _) = health(limits, 2);
    eject(&mut health, 0, now);
    assert_eq!(usable(&mut health, now + SECOND * 1_000_000), [false, true]);
}

#[test]
#[should_panic(expected = "an upstream without servers")]
fn a_board_has_servers() {
    Board::new(0, 1);
}

#[test]
#[should_panic(expected = "an upstream without workers")]
fn a_board_has_workers() {
    Board::new(1, 0);
}

#[test]
#[should_panic(expected = "no such worker")]
fn a_worker_is_one_of_the_boards() {
    Health::new(LIMITS, &Board::new(1, 2), 2, &[false]);
}

#[test]
#[should_panic(expected = "one for each server")]
fn all_servers_are_known_to_be_backups_or_not() {
    Health::new(LIMITS, &Board::new(2, 1), 0, &[false]);
}
