//! Real workers on real threads, each with as much of an executor as it takes to wait.

use super::{Flag, LIMITS, Plug, Server, Wire};
use crate::proxy::pool::local::Wait;
use crate::proxy::pool::{Keeper, Lease, Leased, Local, PoolLimits, Shared};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a worker sleeps before the test says that it was forgotten.
const PATIENCE: Duration = Duration::from_secs(60);

/// Wakes a worker's thread, and tells it what for.
struct Alarm {
    flag: Flag,
    thread: Thread,
}

impl Wake for Alarm {
    fn wake(self: Arc<Alarm>) {
        self.flag.0.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Alarm {
    fn new() -> Arc<Alarm> {
        Arc::new(Alarm {
            flag: Flag(AtomicBool::new(true)),
            thread: std::thread::current(),
        })
    }
}

/// What happens to requests besides being answered, in a hundred.
#[derive(Clone, Copy, Default)]
struct Trouble {
    closed: u64,
    dead: u64,
    gives_up: u64,
    fails: u64,
    stays: u64,
}

/// A client that sends one request after the other.
struct Client {
    state: State,
    alarm: Arc<Alarm>,
    requests_left: u32,
}

enum State {
    Waits(Wait<Plug>),
    /// The answer takes so many turns.
    Answered(Lease<Plug>, u64),
    Done,
}

struct Worker {
    server: Arc<Server>,
    local: Local<Plug>,
    keeper: Keeper<Plug>,
    alarm: Arc<Alarm>,
    trouble: Trouble,
    random: u64,
}

impl Worker {
    /// Up to `below`, of a xorshift generator (Marsaglia, 2003).
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn happens(&mut self, in_a_hundred: u64) -> bool {
        in_a_hundred > 0 && self.random(100) < in_a_hundred
    }

    fn run(&mut self, clients_count: u32, requests: u32, working: &AtomicU32) {
        let mut clients: Vec<Client> = (0..clients_count)
            .map(|_| Client {
                state: State::Waits(self.local.wait()),
                alarm: Alarm::new(),
                requests_left: requests,
            })
            .collect();
        let mut is_working = true;
        while working.load(SeqCst) > 0 {
            let mut is_busy = false;
            if self.alarm.flag.take() {
                let waker = Waker::from(Arc::clone(&self.alarm));
                self.keeper
                    .poll_keep(&mut Context::from_waker(&waker), Instant::now());
                is_busy = true;
            }
            for client in &mut clients {
                is_busy |= self.turn(client);
            }
            let are_done = |client: &Client| matches!(client.state, State::Done);
            if is_working && clients.iter().all(are_done) {
                is_working = false;
                working.fetch_sub(1, SeqCst);
            } else if !is_busy && is_working {
                let asleep = Instant::now();
                std::thread::park_timeout(PATIENCE);
                assert!(asleep.elapsed() < PATIENCE, "nobody woke the worker");
            } else if !is_busy {
                std::thread::yield_now();
            }
        }
    }

    /// Whether there was anything to do for the client.
    fn turn(&mut self, client: &mut Client) -> bool {
        let state = std::mem::replace(&mut client.state, State::Done);
        client.state = match state {
            State::Done => return false,
            State::Answered(lease, turns) if turns > 0 => State::Answered(lease, turns - 1),
            State::Answered(lease, _) => {
                self.end(lease);
                self.next(client)
            }
            State::Waits(wait) if !client.alarm.flag.take() => {
                if self.happens(self.trouble.gives_up) {
                    drop(wait);
                    client.alarm.flag.0.store(true, SeqCst);
                    client.state = State::Waits(self.local.wait());
                    return true;
                }
                client.state = State::Waits(wait);
                return false;
            }
            State::Waits(mut wait) => {
                let waker = Waker::from(Arc::clone(&client.alarm));
                let mut context = Context::from_waker(&waker);
                let now = Instant::now();
                match self.local.poll_lease(&mut wait, &mut context, now) {
                    Poll::Pending => State::Waits(wait),
                    Poll::Ready(leased) => self.begin(client, leased.expect("all may wait")),
                }
            }
        };
        true
    }

    fn begin(&mut self, client: &Client, leased: Leased<Plug>) -> State {
        let lease = match leased {
            Leased::Reused(lease) => lease,
            Leased::Open(opening) if self.happens(self.trouble.fails) => {
                drop(opening);
                client.alarm.flag.0.store(true, SeqCst);
                return State::Waits(self.local.wait());
            }
            Leased::Open(opening) => opening.opened(self.server.connect(), Instant::now()),
        };
        State::Answered(lease, self.random(4))
    }

    fn end(&mut self, mut lease: Lease<Plug>) {
        if self.happens(self.trouble.closed) {
            return drop(lease);
        }
        lease.wire.is_alive = !self.happens(self.trouble.dead);
        lease.wire.can_move = !self.happens(self.trouble.stays);
        lease.finish(Instant::now());
    }

    fn next(&mut self, client: &mut Client) -> State {
        client.requests_left -= 1;
        if client.requests_left == 0 {
            return State::Done;
        }
        client.alarm.flag.0.store(true, SeqCst);
        State::Waits(self.local.wait())
    }
}

/// Lets the clients of all workers send their requests, and returns the pool and its server.
fn load(
    limits: PoolLimits,
    clients: &[u32],
    requests: u32,
    trouble: Trouble,
) -> (Arc<Shared<Wire>>, Arc<Server>) {
    let nodes: Vec<usize> = (0..clients.len()).map(|worker| worker % 2).collect();
    let shared = Shared::new(limits, &nodes, Instant::now());
    let server = Arc::new(Server::default());
    let working = AtomicU32::new(clients.len() as u32);
    std::thread::scope(|scope| {
        for (index, &clients) in clients.iter().enumerate() {
            let (shared, server, working) = (&shared, &server, &working);
            scope.spawn(move || {
                let (local, keeper) = Local::new(shared, index);
                let mut worker = Worker {
                    server: Arc::clone(server),
                    local,
                    keeper,
                    alarm: Alarm::new(),
                    trouble,
                    random: 0x9e37_79b9 + index as u64,
                };
                worker.run(clients, requests, working);
            });
        }
    });
    (shared, server)
}

#[test]
fn two_workers_share_32_connections_among_256_clients() {
    let limits = PoolLimits {
        connections: 32,
        idle_per_worker: 32,
        exchange: 32,
        waiting: 256,
        ..LIMITS
    };
    // Whichever way the kernel has spread the clients.
    for clients in [[128, 128], [200, 56], [255, 1]] {
        let (shared, server) = load(limits, &clients, 200, Trouble::default());
        let stats = shared.stats();
        let ratio = stats.reuse_ratio().unwrap();
        assert!(ratio >= 0.999, "{ratio}: {stats:?}");
        assert!(server.most.load(SeqCst) <= 32);
        assert_eq!(
            stats.created + stats.reused_local + stats.reused_exchange,
            256 * 200
        );
        assert_eq!((stats.waiting, stats.leased, stats.refused), (0, 0, 0));
    }
}

#[test]
fn whatever_happens_no_place_is_lost_and_nobody_waits_for_ever() {
    let trouble = Trouble {
        closed: 5,
        dead: 5,
        gives_up: 1,
        fails: 20,
        stays: 20,
    };
    for (connections, idle_per_worker) in [(1, 1), (3, 0), (5, 2)] {
        let limits = PoolLimits {
            connections,
            idle_per_worker,
            exchange: 2,
            waiting: 64,
            ..LIMITS
        };
        let (shared, server) = load(limits, &[16, 8, 1, 4], 300, trouble);
        assert!(server.most.load(SeqCst) <= connections);
        let stats = shared.stats();
        assert_eq!((stats.waiting, stats.leased), (0, 0));
        assert_eq!(
            u64::from(stats.open),
            stats.idle,
            "only the exchange has any"
        );
        drop(shared);
        assert_eq!(server.open.load(SeqCst), 0);
    }
}
