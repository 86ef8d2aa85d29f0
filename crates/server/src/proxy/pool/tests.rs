//! The pool with connections that are made up: what happens step by step, on one thread.

mod interleavings;
mod rules;
mod sequences;
mod threads;

use super::local::{Refused, Wait};
use super::{Connection, Keeper, Lease, Leased, Local, PoolLimits, Shared};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const LIMITS: PoolLimits = PoolLimits {
    connections: 4,
    idle_per_worker: 4,
    exchange: 4,
    idle_timeout: Duration::from_secs(60),
    lifetime: Duration::from_secs(3600),
    waiting: 100,
};

/// What the server sees: how many connections there are, and were at most.
#[derive(Debug, Default)]
struct Server {
    open: AtomicU32,
    most: AtomicU32,
    made: AtomicU32,
}

/// A connection wherever it is; the server sees it go when this is dropped.
#[derive(Debug)]
struct Wire {
    number: u32,
    is_alive: bool,
    can_move: bool,
    server: Arc<Server>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, SeqCst);
    }
}

impl Server {
    fn connect(self: &Arc<Server>) -> Plug {
        let open = self.open.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(open, SeqCst);
        Plug {
            wire: Wire {
                number: self.made.fetch_add(1, SeqCst),
                is_alive: true,
                can_move: true,
                server: Arc::clone(self),
            },
            _stays_here: PhantomData,
        }
    }
}

/// A connection in its worker, which it can't leave as it is.
#[derive(Debug)]
struct Plug {
    wire: Wire,
    _stays_here: PhantomData<Rc<()>>,
}

impl Connection for Plug {
    type Detached = Wire;

    fn detach(self, then: impl FnOnce(io::Result<Wire>) + 'static) {
        let wire = self.wire;
        if wire.can_move {
            return then(Ok(wire));
        }
        // Closed before its place is free.
        drop(wire);
        then(Err(io::ErrorKind::Unsupported.into()));
    }

    fn attach(wire: Wire) -> io::Result<Plug> {
        if !wire.is_alive {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Plug {
            wire,
            _stays_here: PhantomData,
        })
    }

    fn is_alive(&mut self) -> bool {
        self.wire.is_alive
    }
}

/// Remembers that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, SeqCst);
    }
}

impl Flag {
    fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

/// Some workers on one thread, and the time.
struct World {
    server: Arc<Server>,
    shared: Arc<Shared<Wire>>,
    workers: Vec<Worker>,
    now: Cell<Instant>,
}

struct Worker {
    local: Local<Plug>,
    keeper: Keeper<Plug>,
    flag: Arc<Flag>,
    timer: Option<Instant>,
}

/// A request that waits.
struct Request {
    wait: Wait<Plug>,
    worker: usize,
    flag: Arc<Flag>,
}

impl World {
    /// As many workers as `nodes` has entries, each on the node it names.
    fn new(limits: PoolLimits, nodes: &[usize]) -> World {
        let now = Instant::now();
        let shared = Shared::new(limits, nodes, now);
        let worker = |index| {
            let (local, keeper) = Local::new(&shared, index);
            let flag = Arc::new(Flag(AtomicBool::new(true)));
            Worker {
                local,
                keeper,
                flag,
                timer: None,
            }
        };
        let workers = (0..nodes.len()).map(worker).collect();
        let mut world = World {
            server: Arc::default(),
            shared,
            workers,
            now: Cell::new(now),
        };
        world.settle();
        world
    }

    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// Lets the keepers do what they were woken for, or what it is time for.
    fn settle(&mut self) {
        let now = self.now.get();
        let mut turns = 0;
        loop {
            let is_due = |worker: &&mut Worker| {
                worker.flag.take() || worker.timer.is_some_and(|at| at <= now)
            };
            let Some(worker) = self.workers.iter_mut().find(is_due) else {
                return;
            };
            let waker = Waker::from(Arc::clone(&worker.flag));
            worker.timer = worker
                .keeper
                .poll_keep(&mut Context::from_waker(&waker), now);
            turns += 1;
            assert!(turns < 10_000, "the keepers wake each other for ever");
        }
    }

    /// A connection at once: an idle one, else a new one.
    fn lease(&self, worker: usize) -> Option<Lease<Plug>> {
        let now = self.now.get();
        let leased = self.workers[worker].local.try_lease(now)?;
        Some(self.open(leased))
    }

    /// As [`World::lease`], with the number of the connection.
    fn lease_numbered(&self, worker: usize) -> (Lease<Plug>, u32) {
        let lease = self.lease(worker).unwrap();
        let number = lease.wire.number;
        (lease, number)
    }

    fn open(&self, leased: Leased<Plug>) -> Lease<Plug> {
        match leased {
            Leased::Reused(lease) => {
                assert!(lease.is_reused());
                lease
            }
            Leased::Open(opening) => {
                let lease = opening.opened(self.server.connect(), self.now.get());
                assert!(!lease.is_reused());
                lease
            }
        }
    }

    fn finish(&self, lease: Lease<Plug>) {
        lease.finish(self.now.get());
    }

    /// A request that finds nothing, and so waits.
    fn wait(&self, worker: usize) -> Request {
        let mut request = self.request(worker);
        assert!(self.poll(&mut request).is_none(), "it doesn't have to wait");
        request
    }

    fn request(&self, worker: usize) -> Request {
        Request {
            wait: self.workers[worker].local.wait(),
            worker,
            flag: Arc::default(),
        }
    }

    fn poll(&self, request: &mut Request) -> Option<Result<Leased<Plug>, Refused>> {
        let waker = Waker::from(Arc::clone(&request.flag));
        let mut context = Context::from_waker(&waker);
        let local = &self.workers[request.worker].local;
        match local.poll_lease(&mut request.wait, &mut context, self.now.get()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// What a request that was woken has got.
    fn served(&self, request: &mut Request) -> Lease<Plug> {
        assert!(request.flag.take(), "it wasn't woken");
        let result = self.poll(request).expect("woken for nothing");
        self.open(result.unwrap())
    }

    fn is_served(&self, request: &Request) -> bool {
        request.flag.0.load(SeqCst)
    }

    /// Everything is dropped: nothing may be left anywhere.
    fn end(self) {
        let World {
            server,
            shared,
            workers,
            ..
        } = self;
        drop(workers);
        let stats = shared.stats();
        assert_eq!((stats.waiting, stats.leased), (0, 0));
        let demand = Arc::clone(&shared.demand);
        drop(shared); // and with it what is in the exchange
        assert_eq!(demand.places.count(), 0, "a place is lost");
        assert_eq!(server.open.load(SeqCst), 0, "a connection is lost");
    }
}
