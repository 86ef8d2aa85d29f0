//! Everything at once: two workers, an echo server and its clients, under every fault.

use super::{ADDRESS, SimOptions, SimWorld, descriptor, token};
use crate::buffers::Buffer;
use crate::driver::sim::random::Random;
use crate::driver::{Completion, Descriptor, Driver, Lane, SendParts};
use crate::socket::{ConnectAddress, ListenOptions, SocketOptions};
use std::collections::{BTreeMap, VecDeque};
use std::net::Shutdown;

const CLIENTS: usize = 6;
/// With more than this to send, a stream stops receiving.
const BACKLOG_BYTES: usize = 1_000;
const STEPS: usize = 200_000;

/// A send in flight, with all that the kernel reads.
struct Sending {
    runs: [Box<[u8]>; 2],
    _iovecs: Box<[libc::iovec; 2]>,
    message: Box<libc::msghdr>,
}

impl Sending {
    fn new(bytes: &[u8], split: usize) -> Sending {
        let runs: [Box<[u8]>; 2] = [bytes[..split].into(), bytes[split..].into()];
        let mut iovecs = Box::new([iovec(&runs[0]), iovec(&runs[1])]);
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_iov = iovecs.as_mut_ptr();
        message.msg_iovlen = 2;
        Sending {
            runs,
            _iovecs: iovecs,
            message,
        }
    }

    fn parts(&self) -> SendParts {
        SendParts {
            message: &raw const *self.message,
            first: iovec(&self.runs[0]),
            second: iovec(&self.runs[1]),
            more_follows: false,
            is_first: true,
        }
    }
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// One end of a connection.
struct Stream {
    descriptor: Descriptor,
    /// Of a client: which payload it sends.
    payload: Option<usize>,
    connecting: Option<Box<ConnectAddress>>,
    unsent: VecDeque<u8>,
    sending: Option<Sending>,
    arrived: Vec<u8>,
    is_receiving: bool,
    is_cancelled: bool,
    has_ended: bool,
    is_shut: bool,
    has_failed: bool,
}

impl Stream {
    fn new(descriptor: Descriptor, payload: Option<usize>) -> Stream {
        Stream {
            descriptor,
            payload,
            connecting: None,
            unsent: VecDeque::new(),
            sending: None,
            arrived: Vec::new(),
            is_receiving: false,
            is_cancelled: false,
            has_ended: false,
            is_shut: false,
            has_failed: false,
        }
    }

    fn has_sent(&mut self, result: i32) {
        if result < 0 {
            self.has_failed = true;
            self.unsent.clear();
        } else if !self.has_failed {
            self.unsent.drain(..result as usize);
        }
    }
}

/// One worker.
struct Side {
    driver: Box<dyn Driver>,
    random: Random,
    streams: BTreeMap<u32, Stream>,
    last_index: u32,
    /// Kept for a while, so that the pool runs dry.
    held: VecDeque<Buffer>,
    listener: Option<Descriptor>,
    is_accepting: bool,
    /// Payloads to be sent.
    waiting: Vec<usize>,
    payloads: Vec<Vec<u8>>,
    /// By payload: what came back, and whether the stream ended well.
    finished: Vec<Option<(Vec<u8>, bool)>>,
}

impl Side {
    fn new(world: &SimWorld, seed: u64) -> Side {
        Side {
            driver: world.driver(8, 300),
            random: Random::new(!seed),
            streams: BTreeMap::new(),
            last_index: 0,
            held: VecDeque::new(),
            listener: None,
            is_accepting: false,
            waiting: Vec::new(),
            payloads: Vec::new(),
            finished: Vec::new(),
        }
    }

    fn server(world: &SimWorld, seed: u64) -> Side {
        let mut side = Side::new(world, seed);
        let address = ADDRESS.parse().unwrap();
        let listener = side
            .driver
            .listen(address, &ListenOptions::default())
            .unwrap();
        side.driver.adopt(&listener).unwrap();
        side.listener = Some(listener);
        side
    }

    fn client(world: &SimWorld, seed: u64) -> Side {
        let mut side = Side::new(world, seed ^ 1);
        for _ in 0..CLIENTS {
            let bytes = side.random.below(8_000);
            let payload = (0..bytes).map(|_| side.random.next() as u8).collect();
            side.payloads.push(payload);
        }
        side.waiting = (0..CLIENTS).collect();
        side.finished = vec![None; CLIENTS];
        side
    }

    /// One turn; false when nothing came of it.
    fn step(&mut self) -> bool {
        let mut completions = Vec::new();
        self.driver.turn(None, &mut completions).unwrap();
        let mut is_busy = !completions.is_empty();
        for completion in completions {
            self.hear(completion);
        }
        is_busy |= self.held.pop_front().is_some();
        while let Some(payload) = self.waiting.pop() {
            self.connect(payload);
        }
        if let Some(listener) = self.listener
            && !self.is_accepting
        {
            self.driver.accept(token(Lane::Accept, 0), &listener);
            self.is_accepting = true;
        }
        let indices: Vec<u32> = self.streams.keys().copied().collect();
        for index in indices {
            self.go_on(index);
        }
        is_busy
    }

    fn connect(&mut self, payload: usize) {
        let destination = ADDRESS.parse::<std::net::SocketAddr>().unwrap().into();
        let opened = self
            .driver
            .open_socket(&destination, &SocketOptions::default());
        let Ok(descriptor) = opened else {
            self.waiting.insert(0, payload);
            return;
        };
        let index = self.add(Stream::new(descriptor, Some(payload)));
        let stream = self.streams.get_mut(&index).unwrap();
        stream.unsent.extend(&self.payloads[payload]);
        let address = stream
            .connecting
            .insert(Box::new(ConnectAddress::new(&destination).unwrap()));
        let connect = token(Lane::Connect, index);
        // SAFETY: the stream keeps the boxed address until the last completion.
        unsafe {
            self.driver
                .connect(connect, &descriptor, &raw const **address)
        };
    }

    fn add(&mut self, stream: Stream) -> u32 {
        self.driver.adopt(&stream.descriptor).unwrap();
        self.last_index += 1;
        self.streams.insert(self.last_index, stream);
        self.last_index
    }

    fn hear(&mut self, completion: Completion) {
        let lane = completion.token.lane();
        if lane == Lane::Accept {
            self.is_accepting = completion.more;
            if completion.result >= 0 {
                self.add(Stream::new(descriptor(completion.result), None));
            }
            return;
        }
        let pool = self.driver.buffers();
        let length = completion.result.max(0) as u32;
        let buffer = completion.buffer.map(|id| {
            pool.lend(id);
            Buffer::from_lent(pool, id, length)
        });
        let index = completion.token.key().index;
        let stream = self
            .streams
            .get_mut(&index)
            .expect("closed after its last completion");
        match lane {
            Lane::Connect => {
                stream.connecting = None;
                if completion.result < 0 {
                    self.driver.close(stream.descriptor);
                    self.waiting.extend(stream.payload);
                    self.streams.remove(&index);
                }
            }
            Lane::Send => {
                stream.sending = None;
                stream.has_sent(completion.result);
            }
            _ => {
                stream.is_receiving = completion.more;
                match completion.result {
                    1.. => {
                        let buffer = buffer.expect("bytes come in a buffer");
                        stream.arrived.extend_from_slice(&buffer);
                        if stream.payload.is_none() && !stream.has_failed {
                            stream.unsent.extend(buffer.iter());
                        }
                        if self.random.chance(0.5) {
                            self.held.push_back(buffer);
                        }
                    }
                    0 => stream.has_ended = true,
                    errno if errno == -libc::ENOBUFS || errno == -libc::ECANCELED => {}
                    _ => stream.has_failed = true,
                }
            }
        }
    }

    /// Whatever a stream can do next.
    fn go_on(&mut self, index: u32) {
        let stream = self
            .streams
            .get_mut(&index)
            .expect("only this one removes it");
        if stream.connecting.is_some() {
            return;
        }
        let descriptor = stream.descriptor;
        if stream.has_failed {
            stream.unsent.clear();
            if !stream.is_shut {
                // What the reset of a connection has done already.
                let _ = self.driver.shutdown(&descriptor, Shutdown::Both);
                self.driver
                    .cancel(token(Lane::Send, index), Some(&descriptor));
                self.driver
                    .cancel(token(Lane::Receive, index), Some(&descriptor));
            }
            stream.is_shut = true;
        }
        while !stream.unsent.is_empty() && stream.sending.is_none() {
            let count = 1 + self.random.below(stream.unsent.len().min(2_000) as u64) as usize;
            let bytes: Vec<u8> = stream.unsent.range(..count).copied().collect();
            let split = 1 + self.random.below(count as u64) as usize;
            let sending = stream.sending.insert(Sending::new(&bytes, split));
            let send = token(Lane::Send, index);
            // SAFETY: the stream keeps the bytes and the header, unchanged, until the completion.
            if let Some(result) = unsafe { self.driver.send(send, &descriptor, sending.parts()) } {
                stream.sending = None;
                stream.has_sent(result);
            }
        }
        let is_backlogged = stream.payload.is_none() && stream.unsent.len() > BACKLOG_BYTES;
        let has_buffers = self.driver.buffers().free_count() > 0;
        let wants_more = !stream.has_ended && !stream.has_failed && !is_backlogged;
        if stream.is_receiving && is_backlogged && !stream.is_cancelled {
            self.driver
                .cancel(token(Lane::Receive, index), Some(&descriptor));
            stream.is_cancelled = true;
        } else if !stream.is_receiving && wants_more && has_buffers {
            self.driver
                .receive(token(Lane::Receive, index), &descriptor);
            stream.is_receiving = true;
            stream.is_cancelled = false;
        }
        self.end(index);
    }

    /// Shuts what has nothing more to send, and closes what is over.
    fn end(&mut self, index: u32) {
        let stream = self.streams.get_mut(&index).expect("go_on has it");
        let is_idle = stream.unsent.is_empty() && stream.sending.is_none();
        let is_last_word = stream.payload.is_some() || stream.has_ended;
        if is_idle && is_last_word && !stream.is_shut {
            stream.has_failed |= self
                .driver
                .shutdown(&stream.descriptor, Shutdown::Write)
                .is_err();
            stream.is_shut = true;
        }
        let is_over = stream.has_ended || stream.has_failed;
        if is_idle && stream.is_shut && is_over && !stream.is_receiving {
            let stream = self.streams.remove(&index).unwrap();
            self.driver.close(stream.descriptor);
            if let Some(payload) = stream.payload {
                self.finished[payload] = Some((stream.arrived, !stream.has_failed));
            }
        }
    }
}

/// Echoes every payload; returns for each what was sent, what came back, and whether it ended
/// well.
fn run(world: &SimWorld) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let seed = world.seed();
    let mut server = Side::server(world, seed);
    let mut client = Side::client(world, seed);
    for step in 0.. {
        assert!(step < STEPS, "seed {seed} doesn't come to an end");
        let is_busy = server.step() | client.step();
        if client.finished.iter().all(Option::is_some) && server.streams.is_empty() {
            break;
        }
        let goes_on = is_busy || world.advance_to_next_event() || !client.waiting.is_empty();
        assert!(goes_on, "seed {seed} is stuck");
    }
    let listener = server.listener.take().unwrap();
    server
        .driver
        .cancel(token(Lane::Accept, 0), Some(&listener));
    while server.is_accepting {
        server.step();
        client.step();
        world.advance_to_next_event();
    }
    server.driver.close(listener);
    assert_eq!(world.operations_in_flight(), 0, "seed {seed}");
    assert_eq!(world.open_descriptors(), [], "seed {seed}");
    for side in [&mut server, &mut client] {
        side.held.clear();
        assert_eq!(side.driver.buffers().free_count(), 8, "seed {seed}");
    }
    let outcomes = client.payloads.into_iter().zip(client.finished);
    outcomes
        .map(|(sent, outcome)| {
            let (back, ended_well) = outcome.unwrap();
            (sent, back, ended_well)
        })
        .collect()
}

#[test]
fn bytes_are_exact_under_every_fault_but_resets() {
    for seed in 0..100 {
        let options = SimOptions {
            reset: 0.0,
            ..SimOptions::default()
        };
        for (sent, back, ended_well) in run(&SimWorld::with_options(seed, options)) {
            assert!(ended_well && sent == back, "seed {seed}");
        }
    }
}

#[test]
fn after_a_reset_there_is_a_prefix() {
    let mut cut = 0;
    for seed in 0..100 {
        let options = SimOptions {
            reset: 0.01,
            ..SimOptions::default()
        };
        for (sent, back, ended_well) in run(&SimWorld::with_options(seed, options)) {
            assert!(sent.starts_with(&back), "seed {seed}");
            assert!(sent == back || !ended_well, "seed {seed}");
            cut += usize::from(!ended_well);
        }
    }
    assert!(
        cut > 0 && cut < 100 * CLIENTS,
        "{cut} connections were reset"
    );
}

#[test]
fn every_fault_of_the_default_happens() {
    let mut lines = Vec::new();
    for seed in 0..50 {
        let world = SimWorld::new(seed);
        world.record_trace();
        run(&world);
        lines.extend(world.trace());
    }
    let count = |parts: &[&str]| {
        lines
            .iter()
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .count()
    };
    for errno in [libc::ENOBUFS, libc::ECANCELED, libc::ECONNRESET] {
        assert!(
            count(&["Receive", &format!("delivers -{errno},")]) > 0,
            "receive: {errno}"
        );
    }
    assert!(count(&["Accept", &format!("delivers -{}", libc::EMFILE)]) > 0);
    assert!(
        count(&["Accept 0.0 delivers 1", "more false"]) > 0,
        "a good accept ends"
    );
    assert!(count(&["Receive", "delivers 300, buffer Some", "more false"]) > 0);
    assert!(
        count(&["Receive", "delivers 0, buffer Some"]) > 0,
        "an empty buffer"
    );
    assert!(count(&["Receive", "delivers 0, buffer None"]) > 0);
    assert!(count(&["Connect", &format!("delivers -{}", libc::ETIMEDOUT)]) > 0);
    assert!(count(&["sends at once"]) > 0);
    assert!(count(&["is reset"]) > 0);
}

#[test]
fn a_seed_replays_exactly() {
    let trace = |seed| {
        let world = SimWorld::new(seed);
        world.record_trace();
        run(&world);
        world.trace()
    };
    for seed in 0..10 {
        let first = trace(seed);
        assert!(first.len() > 100, "{}", first.len());
        assert!(first == trace(seed), "seed {seed}");
        assert!(first != trace(seed + 1000));
    }
}
