//! Enumerated cases, and threads that fight for few places.

mod interleavings;

use super::table::Table;
use super::{Admission, Bound, Refusal, Ticket, client};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn numbered(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

/// Nobody is counted anywhere.
fn assert_empty(admission: &Admission) {
    assert_eq!(admission.total(), 0);
    if let Some(addresses) = &admission.addresses {
        assert_eq!(addresses.table.sum(), 0);
    }
}

#[test]
fn every_pair_of_small_limits_holds_exactly() {
    for total_limit in 1..=12 {
        for address_limit in 0..=5 {
            let admission = Admission::new(total_limit, address_limit);
            let mut tickets = Vec::new();
            let mut mine = [0_u32; 3];
            // Three addresses in turn, each asking more often than either limit allows.
            for turn in 0..60 {
                let who = turn % 3;
                let result = admission.admit(numbered(who));
                // Where the total is reached as soon, it is the total.
                let has_own = address_limit > 0 && address_limit < total_limit;
                let expect = if has_own && mine[who as usize] == address_limit {
                    Some(Refusal::Address)
                } else if tickets.len() as u32 == total_limit {
                    Some(Refusal::Total)
                } else {
                    None
                };
                assert_eq!(result.as_ref().err().copied(), expect);
                if let Ok(ticket) = result {
                    mine[who as usize] += 1;
                    tickets.push(ticket);
                }
            }
            assert_eq!(admission.total(), tickets.len() as u32);
            drop(tickets);
            assert_empty(&admission);
        }
    }
}

#[test]
fn a_place_given_back_can_be_taken_again() {
    let admission = Admission::new(2, 1);
    let first = admission.admit(numbered(1)).unwrap();
    let second = admission.admit(numbered(2)).unwrap();
    assert_eq!(admission.admit(numbered(3)).unwrap_err(), Refusal::Total);
    drop(first);
    assert_eq!(admission.admit(numbered(2)).unwrap_err(), Refusal::Address);
    let third = admission.admit(numbered(3)).unwrap();
    drop((second, third));
    assert_empty(&admission);
}

fn check_same_client(one: &str, other: &str, same: bool) {
    assert_eq!(client(address(one)) == client(address(other)), same);
}

#[test]
fn whom_an_address_stands_for() {
    check_same_client("192.0.2.1", "192.0.2.1", true);
    check_same_client("192.0.2.1", "192.0.2.2", false);
    check_same_client("192.0.2.1", "::ffff:192.0.2.1", true);
    check_same_client("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
    check_same_client("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true);
    check_same_client("2001:db8:1:2::1", "2001:db8:1:3::1", false);
    check_same_client("::1", "::2", true);
    // The upper half of this one is the number 0xc0000201, which is 192.0.2.1 as well.
    check_same_client("0:0:c000:201::", "192.0.2.1", false);
}

#[test]
fn a_full_set_lets_in_uncounted() {
    const LIMIT: u32 = 2;
    let table = Table::new(1);
    let tag = |number: u64| number << 32;
    let others: Vec<_> = (1..=8)
        .map(|number| table.enter(tag(number), LIMIT).unwrap().unwrap())
        .collect();
    for _ in 0..10 {
        assert!(matches!(table.enter(tag(9), LIMIT), Some(None)));
    }
    // Those who have a cell are still counted, and still limited.
    let second = table.enter(tag(8), LIMIT).unwrap().unwrap();
    assert!(table.enter(tag(8), LIMIT).is_none());
    assert_eq!(table.sum(), 9);
    table.leave(others[3]);
    assert!(table.enter(tag(9), LIMIT).unwrap().is_some());
    table.leave(second);
    assert_eq!(table.sum(), 8);
}

#[test]
fn the_tag_survives_its_count_and_a_freed_cell_takes_another() {
    let table = Table::new(1);
    let old = table.enter(0xffff_ffff << 32, 1).unwrap().unwrap();
    table.leave(old);
    let new = table.enter(1 << 32, u32::MAX).unwrap().unwrap();
    assert!(table.enter(0xffff_ffff << 32, 1).unwrap().is_some());
    table.leave(new);
    assert_eq!(table.sum(), 1);
}

#[test]
fn distinct_addresses_as_many_as_the_total_are_nearly_all_counted() {
    let admission = Admission::new(4096, 1);
    let tickets: Vec<Ticket> = (0..4096)
        .map(|number| admission.admit(numbered(number)).unwrap())
        .collect();
    let uncounted = tickets.iter().filter(|ticket| ticket.place.is_none());
    // Four in a set of eight on average: Poisson expects 0.8 % beyond the eighth.
    assert!(uncounted.count() < 4096 / 20);
    drop(tickets);
    assert_empty(&admission);
}

/// Threads that take and drop places at random, each watching that nobody is over a limit.
fn fight(total_limit: u32, address_limit: u32, addresses_count: u32) {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 20_000;
    let admission = Admission::new(total_limit, address_limit);
    // Counted up after a place is taken and down before it is given back: never above the truth.
    let total = AtomicU32::new(0);
    let counts: Vec<AtomicU32> = (0..addresses_count).map(|_| AtomicU32::new(0)).collect();
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (admission, total, counts, start) = (&admission, &total, &counts, &start);
            scope.spawn(move || {
                let mut random = thread + 1;
                let mut held: Vec<(u32, Ticket)> = Vec::new();
                let give_back = |(who, ticket): (u32, Ticket)| {
                    counts[who as usize].fetch_sub(1, Ordering::SeqCst);
                    total.fetch_sub(1, Ordering::SeqCst);
                    drop(ticket);
                };
                start.wait();
                for _ in 0..ROUNDS {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let who = (random >> 8) % addresses_count;
                    if random >> 31 == 0
                        && let Ok(ticket) = admission.admit(numbered(who))
                    {
                        assert!(total.fetch_add(1, Ordering::SeqCst) < total_limit);
                        let before = counts[who as usize].fetch_add(1, Ordering::SeqCst);
                        assert!(before < address_limit || address_limit == 0);
                        held.push((who, ticket));
                    } else if !held.is_empty() {
                        give_back(held.swap_remove(random as usize % held.len()));
                    }
                }
                held.into_iter().for_each(give_back);
            });
        }
    });
    assert_empty(&admission);
}

#[test]
fn threads_never_exceed_the_total() {
    fight(3, 0, 2);
}

#[test]
fn threads_never_exceed_an_address_limit() {
    fight(1000, 2, 3);
}

/// Seven addresses and one set: cells are freed and taken by others all the time, and an address
/// gets a second cell now and then.
#[test]
fn threads_never_exceed_an_address_limit_in_one_set() {
    fight(4, 1, 7);
}

/// `wanted` connections of a process with so many descriptors, 20 of which are its own.
fn check_bound(wanted: u32, descriptors: u64, connections: u32, advice: Option<&str>) {
    let bound = Bound::new(wanted, descriptors, 20);
    assert_eq!(bound.connections, connections, "{wanted} of {descriptors}");
    let said = bound.advice(wanted, descriptors);
    match advice {
        None => assert_eq!(said, None),
        Some(words) => assert!(
            said.as_ref().is_some_and(|said| said.contains(words)),
            "{said:?}"
        ),
    }
}

#[test]
fn by_default_each_connection_may_have_a_file_too() {
    // (20,000 - 20 - 256) / 2, and for fewer an eighth is what may be refused at once.
    check_bound(0, 20_000, 9_862, None);
    check_bound(0, 1_048_576, 524_150, None);
    check_bound(
        0,
        100,
        35,
        Some("limited to 35: this process may have 100 descriptors"),
    );
    check_bound(0, u64::MAX, u32::MAX, None);
    for few in 0..24 {
        check_bound(
            0,
            few,
            1.max((few.saturating_sub(20) / 2) as u32),
            Some("limited to"),
        );
    }
}

#[test]
fn a_bound_of_ones_own_holds_as_far_as_there_are_descriptors() {
    check_bound(9_862, 20_000, 9_862, None);
    check_bound(
        9_863,
        20_000,
        9_863,
        Some("503 when there are more than 9862 of the 9863"),
    );
    check_bound(19_724, 20_000, 19_724, Some("503"));
    check_bound(19_725, 20_000, 19_724, Some("limited to 19724, not 19725"));
    check_bound(10, 100, 10, None);
}

#[test]
fn with_the_descriptors_asked_for_nothing_is_lowered() {
    for wanted in [1, 10, 1_000, 10_000, 16_777_216] {
        let descriptors = Bound::descriptors_for(wanted, 20);
        check_bound(wanted, descriptors, wanted, None);
    }
    assert_eq!(Bound::descriptors_for(0, 20), 0);
}
