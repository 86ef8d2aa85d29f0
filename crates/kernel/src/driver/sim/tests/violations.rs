//! What breaks the contract of drivers is found by a panic.

use super::{Bench, RECEIVE, parts, token};
use crate::driver::Lane;
use crate::driver::sim::SimOptions;
use crate::socket::SocketOptions;

#[test]
#[should_panic(expected = "which worker 0 Receive 1.0 names")]
fn closing_a_descriptor_that_an_operation_names() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (_, accepted) = bench.pair();
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.driver.close(accepted);
}

#[test]
#[should_panic(expected = "which worker 0 Receive 1.0 names")]
fn closing_before_a_cancel_was_answered() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (_, accepted) = bench.pair();
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.settle();
    bench.driver.cancel(token(RECEIVE, 1), Some(&accepted));
    bench.driver.close(accepted);
}

#[test]
#[should_panic(expected = "two operations in flight are worker 0 Receive 1.0")]
fn two_operations_under_one_token() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.driver.receive(token(RECEIVE, 1), &client);
}

#[test]
#[should_panic(expected = "is not an open socket")]
fn an_operation_on_a_closed_descriptor() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (_, accepted) = bench.pair();
    bench.driver.close(accepted);
    bench.driver.receive(token(RECEIVE, 1), &accepted);
}

#[test]
#[should_panic(expected = "is not an open socket")]
fn closing_twice() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (_, accepted) = bench.pair();
    bench.driver.close(accepted);
    bench.driver.close(accepted);
}

#[test]
#[should_panic(expected = "while worker 0 Send 0.0 is in flight")]
fn a_second_send_on_a_socket() {
    let mut bench = Bench::new(
        1,
        SimOptions {
            send_at_once: 0.0,
            ..SimOptions::calm()
        },
    );
    let (client, _) = bench.pair();
    assert_eq!(bench.send(0, client, b"one"), None);
    bench.send(1, client, b"two");
}

#[test]
#[should_panic(expected = "while a send is in flight")]
fn a_direct_send_beside_one_in_flight() {
    let mut bench = Bench::new(
        1,
        SimOptions {
            send_at_once: 0.0,
            ..SimOptions::calm()
        },
    );
    let (client, _) = bench.pair();
    assert_eq!(bench.send(0, client, b"one"), None);
    let _ = bench.driver.send_now(&client, b"two", false);
}

#[test]
#[should_panic(expected = "the bytes of worker 0 Send 0.0 changed")]
fn bytes_that_change_while_they_are_sent() {
    let mut bench = Bench::new(
        1,
        SimOptions {
            send_at_once: 0.0,
            ..SimOptions::calm()
        },
    );
    let (client, _) = bench.pair();
    let start = Box::into_raw(Box::new([b'x'; 8])).cast::<u8>();
    let mut parts = parts(b"12345678");
    parts.first.iov_base = start.cast();
    // SAFETY: the eight bytes are never freed. That they change is for the simulator to find out.
    unsafe { bench.driver.send(token(Lane::Send, 0), &client, parts) };
    // SAFETY: they were allocated above, and nothing borrows them outside a turn.
    unsafe { start.write(b'y') };
    bench.settle();
}

#[test]
#[should_panic(expected = "never adopted")]
fn an_operation_before_the_adoption() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let address = super::ADDRESS
        .parse::<std::net::SocketAddr>()
        .unwrap()
        .into();
    let socket = bench
        .driver
        .open_socket(&address, &SocketOptions::default())
        .unwrap();
    bench.driver.receive(token(RECEIVE, 0), &socket);
}
