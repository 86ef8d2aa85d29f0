//! One operation at a time, in worlds that are calm but for the fault in question; then, in
//! `echo`, everything at once.

mod echo;
mod files;
mod violations;

use super::{SimDescriptor, SimOptions, SimWorld};
use crate::buffers::Buffer;
use crate::driver::{Completion, Descriptor, Driver, Interest, Lane, SendParts, Token};
use crate::slots::SlotKey;
use crate::socket::{ConnectAddress, ListenOptions, SocketOptions};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1:80";

fn token(lane: Lane, index: u32) -> Token {
    Token::new(
        lane,
        SlotKey {
            index,
            generation: 0,
        },
    )
}

/// One worker and whatever it has heard.
struct Bench {
    world: SimWorld,
    driver: Box<dyn Driver>,
    heard: Vec<Completion>,
}

impl Bench {
    fn new(seed: u64, options: SimOptions) -> Bench {
        let world = SimWorld::with_options(seed, options);
        let driver = world.driver(4, 64);
        Bench {
            world,
            driver,
            heard: Vec::new(),
        }
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        loop {
            self.driver.turn(None, &mut self.heard).unwrap();
            if !self.world.advance_to_next_event() {
                return;
            }
        }
    }

    fn listen(&mut self, options: &ListenOptions) -> Descriptor {
        let listener = self
            .driver
            .listen(ADDRESS.parse().unwrap(), options)
            .unwrap();
        self.driver.adopt(&listener).unwrap();
        listener
    }

    /// A connected pair: the end that connected, the end that was accepted.
    fn pair(&mut self) -> (Descriptor, Descriptor) {
        let listener = self.listen(&ListenOptions::default());
        self.driver.accept(token(Lane::Accept, 0), &listener);
        let client = self.connect(0);
        self.settle();
        assert_eq!(self.results(token(Lane::Connect, 0)), [0]);
        let accepted = self.results(token(Lane::Accept, 0))[0];
        let accepted = descriptor(accepted);
        self.driver.adopt(&accepted).unwrap();
        self.heard.clear();
        (client, accepted)
    }

    fn connect(&mut self, index: u32) -> Descriptor {
        let destination = ADDRESS.parse::<SocketAddr>().unwrap().into();
        let client = self
            .driver
            .open_socket(&destination, &SocketOptions::default())
            .unwrap();
        self.driver.adopt(&client).unwrap();
        let address = ConnectAddress::new(&destination).unwrap();
        let address: &'static ConnectAddress = Box::leak(Box::new(address));
        // SAFETY: a leaked address stays valid.
        unsafe {
            self.driver
                .connect(token(Lane::Connect, index), &client, address)
        };
        client
    }

    fn send(&mut self, index: u32, socket: Descriptor, bytes: &'static [u8]) -> Option<i32> {
        // SAFETY: static bytes stay valid and unchanged.
        unsafe {
            self.driver
                .send(token(Lane::Send, index), &socket, parts(bytes))
        }
    }

    /// The results of one operation, in their order.
    fn results(&self, token: Token) -> Vec<i32> {
        let answers = self
            .heard
            .iter()
            .filter(|completion| completion.token == token);
        answers.map(|completion| completion.result).collect()
    }

    /// The bytes that a receive was given; its buffers go home.
    fn take_bytes(&mut self, token: Token) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pool = self.driver.buffers();
        for completion in &mut self.heard {
            let Some(buffer) = completion.buffer.take_if(|_| completion.token == token) else {
                continue;
            };
            let length = completion.result.max(0) as u32;
            pool.lend(buffer);
            bytes.extend_from_slice(&Buffer::from_lent(pool, buffer, length));
        }
        bytes
    }
}

/// A simulated descriptor by its number.
fn descriptor(number: i32) -> Descriptor {
    // SAFETY: the real kernel gives out no such number, and it goes to the simulator.
    unsafe { Descriptor::from_raw(number) }
}

fn parts(bytes: &[u8]) -> SendParts {
    SendParts {
        message: std::ptr::null(),
        first: libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        },
        second: libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        },
        more_follows: false,
        is_first: true,
    }
}

const RECEIVE: Lane = Lane::Receive;

#[test]
fn the_end_of_a_half_closed_stream_comes_after_its_bytes() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    assert_eq!(bench.send(0, client, b"question"), Some(8));
    bench.driver.shutdown(&client, Shutdown::Write).unwrap();
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.settle();
    assert_eq!(bench.results(token(RECEIVE, 1)), [8, 0]);
    assert_eq!(bench.take_bytes(token(RECEIVE, 1)), b"question");
    // The other direction is still open; this one takes no more.
    assert_eq!(bench.send(0, client, b"more"), Some(-libc::EPIPE));
    assert_eq!(bench.send(1, accepted, b"answer"), Some(6));
    bench.driver.receive(token(RECEIVE, 0), &client);
    bench.settle();
    assert_eq!(bench.take_bytes(token(RECEIVE, 0)), b"answer");
}

#[test]
fn shutting_the_read_side_completes_a_receive_in_flight() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.settle();
    assert_eq!(bench.results(token(RECEIVE, 1)), [0_i32; 0]);
    bench.driver.shutdown(&accepted, Shutdown::Both).unwrap();
    bench.settle();
    assert_eq!(bench.results(token(RECEIVE, 1)), [0]);
    bench.driver.close(accepted);
    bench.driver.receive(token(RECEIVE, 0), &client);
    bench.settle();
    assert_eq!(bench.results(token(RECEIVE, 0)), [0]);
}

#[test]
fn a_receive_without_buffers_is_parked_and_armed_again() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    static BYTES: [u8; 300] = [b'x'; 300];
    assert_eq!(bench.send(0, client, &BYTES), Some(300));
    let receive = token(RECEIVE, 1);
    let mut received = 0;
    bench.driver.receive(receive, &accepted);
    bench.settle();
    assert_eq!(bench.results(receive), [64, 64, 64, 64, -libc::ENOBUFS]);
    bench.driver.receive(receive, &accepted);
    bench.settle();
    assert_eq!(
        bench.results(receive)[5..],
        [-libc::ENOBUFS],
        "at once on an empty pool"
    );
    received += bench.take_bytes(receive).len();
    bench.driver.receive(receive, &accepted);
    bench.settle();
    received += bench.take_bytes(receive).len();
    assert_eq!(received, 300);
    assert_eq!(
        bench.world.operations_in_flight(),
        2,
        "the receive, and the accept"
    );
}

#[test]
fn a_single_receive_leaves_in_the_socket_what_fits_no_buffer() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    static BYTES: [u8; 100] = [b'x'; 100];
    assert_eq!(bench.send(0, client, &BYTES), Some(100));
    let receive = token(RECEIVE, 1);
    for results in [&[64][..], &[64, 36]] {
        bench.driver.receive_once(receive, &accepted);
        bench.settle();
        assert_eq!(bench.results(receive), results);
        assert_eq!(bench.world.operations_in_flight(), 1, "the accept");
    }
    assert_eq!(bench.take_bytes(receive), BYTES);
}

#[test]
fn an_empty_pool_fails_a_receive_that_has_nothing_to_receive() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (_, accepted) = bench.pair();
    let taken: Vec<u16> = std::iter::from_fn(|| bench.driver.buffers().take()).collect();
    assert_eq!(taken.len(), 4);
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.settle();
    assert_eq!(bench.results(token(RECEIVE, 1)), [-libc::ENOBUFS]);
}

#[test]
fn a_full_table_ends_an_accept_and_loses_no_connection() {
    let mut bench = Bench::new(
        1,
        SimOptions {
            descriptor_limit: 3,
            ..SimOptions::calm()
        },
    );
    let listener = bench.listen(&ListenOptions::default());
    let clients = [bench.connect(0), bench.connect(1)];
    let address = ADDRESS.parse::<SocketAddr>().unwrap().into();
    let refused = bench
        .driver
        .open_socket(&address, &SocketOptions::default())
        .unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
    bench.settle();
    let accept = token(Lane::Accept, 0);
    bench.driver.accept(accept, &listener);
    bench.settle();
    assert_eq!(bench.results(accept), [-libc::EMFILE]);
    bench.driver.close(clients[0]);
    bench.driver.accept(accept, &listener);
    bench.settle();
    // The number that was closed is given out at once; then the table is full again.
    assert_eq!(
        bench.results(accept)[1..],
        [clients[0].number(), -libc::EMFILE]
    );
}

#[test]
fn a_cancelled_receive_gives_what_still_comes_and_then_its_last_answer() {
    let receive = token(RECEIVE, 1);
    let mut seeds_with_late_bytes = 0;
    for seed in 0..100 {
        let late_by = Duration::from_millis(1)..=Duration::from_millis(1);
        let late = SimOptions {
            late: 1.0,
            late_by,
            ..SimOptions::calm()
        };
        let mut bench = Bench::new(
            seed,
            SimOptions {
                cancel_too_late: 0.5,
                ..late
            },
        );
        let (client, accepted) = bench.pair();
        bench.driver.receive(receive, &accepted);
        bench.settle();
        bench.driver.cancel(receive, Some(&accepted));
        bench.driver.cancel(receive, Some(&accepted));
        assert_eq!(bench.send(0, client, b"late"), Some(4));
        bench.settle();
        let lasts = bench
            .heard
            .iter()
            .filter(|it| it.token == receive && !it.more)
            .count();
        assert_eq!(lasts, 1, "seed {seed}");
        assert_eq!(bench.results(receive).last(), Some(&-libc::ECANCELED));
        seeds_with_late_bytes += usize::from(bench.take_bytes(receive) == b"late");
        bench.driver.close(accepted);
    }
    assert!(seeds_with_late_bytes > 0);
}

#[test]
fn a_cancelled_send_may_have_gone_out() {
    let send = token(Lane::Send, 0);
    let mut seen = [0; 3];
    for seed in 0..100 {
        let options = SimOptions {
            send_at_once: 0.0,
            ..SimOptions::calm()
        };
        // So slow that the cancel comes first.
        let submission = Duration::from_micros(1)..=Duration::from_micros(100);
        let mut bench = Bench::new(seed, options.clone());
        let (client, accepted) = bench.pair();
        bench.world.set_options(SimOptions {
            cancel_too_late: 0.7,
            submission,
            ..options
        });
        bench.driver.receive(token(RECEIVE, 1), &accepted);
        assert_eq!(bench.send(0, client, b"bytes"), None);
        bench.driver.cancel(send, Some(&client));
        bench.settle();
        let arrived = !bench.take_bytes(token(RECEIVE, 1)).is_empty();
        let [result] = bench.results(send)[..] else {
            panic!("seed {seed}")
        };
        assert!(
            result == 5 || result == -libc::ECANCELED,
            "seed {seed}: {result}"
        );
        assert!(arrived || result < 0, "seed {seed}");
        seen[usize::from(result < 0) + usize::from(result < 0 && arrived)] += 1;
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_send_waits_for_room_and_is_ready_when_there_is() {
    let bytes = 64..=64;
    let mut bench = Bench::new(
        1,
        SimOptions {
            socket_buffer_bytes: bytes,
            ..SimOptions::calm()
        },
    );
    let (client, accepted) = bench.pair();
    static BYTES: [u8; 200] = [b'x'; 200];
    assert_eq!(bench.send(0, client, &BYTES), Some(128));
    let full = bench.driver.send_now(&client, b"x", false).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    let ready = token(Lane::Ready, 0);
    bench.driver.ready(ready, &client, Interest::Writable);
    bench.settle();
    assert_eq!(bench.results(ready), [0_i32; 0]);
    bench.driver.receive(token(RECEIVE, 1), &accepted);
    bench.settle();
    assert_eq!(bench.take_bytes(token(RECEIVE, 1)).len(), 128);
    assert_eq!(bench.results(ready), [i32::from(libc::POLLOUT)]);
    assert_eq!(bench.driver.send_now(&client, &BYTES, false).unwrap(), 128);
}

#[test]
fn nobody_listening_refuses_and_a_full_backlog_delays() {
    let mut bench = Bench::new(1, SimOptions::calm());
    bench.connect(0);
    bench.settle();
    assert_eq!(
        bench.results(token(Lane::Connect, 0)),
        [-libc::ECONNREFUSED]
    );
    let listener = bench.listen(&ListenOptions {
        backlog: 1,
        ..ListenOptions::default()
    });
    bench.connect(1);
    bench.connect(2);
    bench
        .world
        .advance(bench.world.now() + Duration::from_millis(900));
    bench.driver.turn(None, &mut bench.heard).unwrap();
    assert_eq!(bench.results(token(Lane::Connect, 1)), [0]);
    assert_eq!(bench.results(token(Lane::Connect, 2)), [0_i32; 0]);
    bench.driver.accept(token(Lane::Accept, 0), &listener);
    bench.settle();
    assert_eq!(bench.results(token(Lane::Connect, 2)), [0]);
    assert_eq!(bench.results(token(Lane::Accept, 0)).len(), 2);
}

#[test]
fn unread_bytes_or_a_wish_make_a_close_a_reset() {
    for wishes in [false, true] {
        let mut bench = Bench::new(1, SimOptions::calm());
        let (client, accepted) = bench.pair();
        bench.driver.receive(token(RECEIVE, 0), &client);
        if wishes {
            bench.driver.reset_on_close(&accepted, true).unwrap();
        } else {
            assert_eq!(bench.send(0, client, b"never read"), Some(10));
            bench.settle();
        }
        bench.driver.close(accepted);
        bench.settle();
        assert_eq!(bench.results(token(RECEIVE, 0)), [-libc::ECONNRESET]);
        assert_eq!(bench.send(0, client, b"x"), Some(-libc::EPIPE));
    }
}

#[test]
fn bytes_to_a_closed_peer_come_back_as_a_reset() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    bench.driver.close(accepted);
    bench.settle();
    assert_eq!(bench.send(0, client, b"lost"), Some(4));
    bench.settle();
    assert_eq!(bench.send(0, client, b"lost"), Some(-libc::EPIPE));
}

#[test]
fn connections_are_spread_over_the_listeners_of_an_address() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let listeners = [0, 1].map(|index| {
        let listener = bench.listen(&ListenOptions::default());
        bench.driver.accept(token(Lane::Accept, index), &listener);
        listener
    });
    for index in 0..20 {
        bench.connect(index);
    }
    bench.settle();
    let counts = [0, 1].map(|index| bench.results(token(Lane::Accept, index)).len());
    assert_eq!(counts[0] + counts[1], 20);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert!(listeners[0].number() != listeners[1].number());
}

#[test]
fn addresses_are_those_of_the_two_sides() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    let driver = &bench.driver;
    assert_eq!(driver.peer_address(&client).unwrap().to_string(), ADDRESS);
    assert_eq!(
        driver.local_address(&accepted).unwrap().to_string(),
        ADDRESS
    );
    let source = driver.local_address(&client).unwrap();
    assert_eq!(driver.peer_address(&accepted).unwrap(), source);
    let remote = ADDRESS.parse().unwrap();
    let expected = SimDescriptor::Connection {
        local: source,
        remote,
    };
    assert!(bench.world.open_descriptors().contains(&expected));
}

#[test]
fn a_waiting_turn_moves_the_clock_and_finds_a_deadlock() {
    let mut bench = Bench::new(7, SimOptions::calm());
    bench.world.set_auto_advance(true);
    let started = bench.world.now();
    bench
        .driver
        .turn(Some(Duration::from_secs(5)), &mut bench.heard)
        .unwrap();
    let passed = bench.world.now() - started;
    assert_eq!(passed, Duration::from_secs(5) + Duration::from_micros(1));
    bench.connect(0);
    bench.driver.turn(None, &mut bench.heard).unwrap();
    assert_eq!(
        bench.results(token(Lane::Connect, 0)),
        [-libc::ECONNREFUSED]
    );
    let listener = bench.listen(&ListenOptions::default());
    bench.driver.accept(token(Lane::Accept, 3), &listener);
    let deadlock = bench.driver.turn(None, &mut bench.heard).unwrap_err();
    assert_eq!(deadlock.kind(), std::io::ErrorKind::Deadlock);
    let text = deadlock.to_string();
    assert!(
        text.contains("seed 7") && text.contains("Accept 3"),
        "{text}"
    );
}

#[test]
fn a_worker_that_insists_on_waiting_is_not_held_up() {
    let mut bench = Bench::new(1, SimOptions::calm());
    // Another worker that has something to take, and gets no turn.
    let other = bench.world.driver(4, 64);
    other.wake_handle().wake();
    bench.connect(0);
    let mut turns = 0;
    while bench.heard.is_empty() {
        bench
            .driver
            .turn(Some(Duration::from_secs(1)), &mut bench.heard)
            .unwrap();
        turns += 1;
        assert!(turns < 1000);
    }
    assert_eq!(
        bench.results(token(Lane::Connect, 0)),
        [-libc::ECONNREFUSED]
    );
    assert!(turns > 50, "a stepping harness has had its chance");
}

#[test]
fn a_wake_up_ends_a_wait_before_time_passes() {
    let mut bench = Bench::new(1, SimOptions::calm());
    bench.world.set_auto_advance(true);
    let handle = bench.driver.wake_handle();
    handle.wake();
    handle.wake();
    assert_eq!(bench.world.next_event(), Some(bench.world.now()));
    let started = bench.world.now();
    bench.driver.turn(None, &mut bench.heard).unwrap();
    assert!(bench.world.now() - started < Duration::from_millis(1));
    assert!(!handle.is_pending());
    assert_eq!(
        bench.world.next_event(),
        Some(bench.world.now()),
        "it may submit something"
    );
    bench
        .driver
        .turn(Some(Duration::ZERO), &mut bench.heard)
        .unwrap();
    assert_eq!(bench.world.next_event(), None);
}

#[test]
fn a_driver_that_goes_takes_undelivered_connections_along() {
    let mut bench = Bench::new(1, SimOptions::calm());
    let listener = bench.listen(&ListenOptions::default());
    let mut other = bench.world.driver(4, 64);
    other.adopt(&listener).unwrap();
    other.accept(token(Lane::Accept, 0), &listener);
    bench.connect(0);
    bench.settle_alone();
    assert_eq!(bench.world.open_descriptors().len(), 3);
    drop(other);
    assert_eq!(bench.world.open_descriptors().len(), 2);
    assert_eq!(bench.world.operations_in_flight(), 0);
}

impl Bench {
    /// Until only another worker has something to do.
    fn settle_alone(&mut self) {
        for _ in 0..1000 {
            self.driver.turn(None, &mut self.heard).unwrap();
            self.world
                .advance(self.world.now() + Duration::from_micros(10));
        }
    }
}
