//! The runtime on the simulated kernel: several workers on one thread, under one seed.
//!
//! Each seed makes a hostile world, servers that echo and send files, clients that do everything
//! wrong, and ends some of them in the middle. Whatever happens: bytes are exact, or the connection
//! is honestly cut; every task ends; nothing is left at rest; the same seed runs the same again.
//!
//! `cargo xtask sim SEED` replays one seed; with `RINGWAY_SIM_TRACE` in the environment it tells
//! what happens.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

use ringway_runtime::{
    Buffer, Directory, File, FileTransfer, JoinHandle, ListenOptions, Outgoing, Runtime,
    RuntimeOptions, SimOptions, SimWorld, SocketOptions, Step, Symlinks, TcpListener, TcpStream,
    TransferError, TransferMethod, TransferOptions, TransferThresholds, now, sleep, spawn, timeout,
    wall_clock,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

const SEEDS: u64 = 100;
const SERVERS: usize = 2;
const CLIENTS: usize = 2;
const CONNECTIONS: usize = 5;
const FILE_BYTES: usize = 30_000;
/// Far more than any run takes.
const STEPS: usize = 300_000;

/// In virtual time, so it costs nothing: only what hangs lasts so long.
const HANG: Duration = Duration::from_secs(600);

/// Without a byte of progress; far longer than anything that is only slow.
const STALL: Duration = Duration::from_secs(60);

#[test]
fn seeds() {
    let one = std::env::var("RINGWAY_SIM_SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("RINGWAY_SIM_SEED: a number"));
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    let folder = Folder::new();
    let mut all = Tally::default();
    for seed in seeds.clone() {
        let run = || Run::new(seed, &folder, false).run().tally;
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(tally) => all.add(&tally),
            Err(cause) => {
                eprintln!("seed {seed} fails; to replay it: cargo xtask sim {seed}");
                resume_unwind(cause);
            }
        }
    }
    println!("{all:?}");
    if one.is_none() {
        // A world where nothing goes wrong, or nothing goes well, tests nothing.
        assert!(all.exact > 300 && all.cut > 50, "{all:?}");
        assert!(
            all.panics > 5 && all.cancelled > 20 && all.torn_down > 10,
            "{all:?}"
        );
        assert!(all.timed_out > 100 && all.refused > 5, "{all:?}");
        // Every one but those that another stands for.
        assert_eq!(all.methods.len(), TransferMethod::ALL.len() - 2, "{all:?}");
    }
}

#[test]
fn a_seed_replays_identically() {
    let one = std::env::var("RINGWAY_SIM_SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("RINGWAY_SIM_SEED: a number"));
    let seeds = one.map_or(0..5, |seed| seed..seed + 1);
    let folder = Folder::new();
    for seed in seeds {
        let first = Run::new(seed, &folder, true).run();
        let second = Run::new(seed, &folder, true).run();
        assert!(first.world.trace().len() > 100);
        assert_eq!(first.tally, second.tally, "seed {seed}");
        assert!(
            first.world.trace() == second.world.trace(),
            "seed {seed} runs differently"
        );
    }
}

/// On the kernel's drivers this is `streams::our_half_close_follows_what_is_under_way`.
#[test]
fn a_half_close_follows_what_is_under_way() {
    for send_at_once in [0.0, 1.0] {
        let mut options = SimOptions::calm();
        options.send_at_once = send_at_once;
        options.socket_buffer_bytes = 512..=512;
        let world = SimWorld::with_options(0, options);
        world.set_auto_advance(true);
        let mut runtime = Runtime::simulated(&world, &RuntimeOptions::default());
        let received = runtime.block_on(async {
            let address: SocketAddr = "10.0.0.1:7000".parse().unwrap();
            let listener = TcpListener::bind(address, &ListenOptions::default()).unwrap();
            let mut client = TcpStream::connect(address, &SocketOptions::default())
                .await
                .unwrap();
            let mut server = listener.accept().await.unwrap();
            client.send(Random(1).bytes(20_000)).await.unwrap();
            client.shutdown_write().unwrap();
            assert!(client.is_sending(), "too little for this test");
            let mut received = Vec::new();
            while let Some(buffer) = server.receive().await.unwrap() {
                received.extend_from_slice(&buffer);
            }
            received
        });
        assert!(received.unwrap() == Random(1).bytes(20_000));
    }
}

/// On the kernel's drivers this is `handover::a_detached_connection_that_is_dropped_is_closed`.
#[test]
fn a_connection_that_is_dropped_between_workers_is_closed() {
    let world = SimWorld::with_options(0, SimOptions::calm());
    world.set_auto_advance(true);
    let mut runtime = Runtime::simulated(&world, &RuntimeOptions::default());
    let ended = runtime.block_on(async {
        let address: SocketAddr = "10.0.0.1:7000".parse().unwrap();
        let listener = TcpListener::bind(address, &ListenOptions::default()).unwrap();
        let client = TcpStream::connect(address, &SocketOptions::default())
            .await
            .unwrap();
        let mut server = listener.accept().await.unwrap();
        drop(client.detach().await.unwrap());
        timeout(Duration::from_secs(1), server.receive()).await
    });
    assert!(matches!(ended, Ok(Ok(Ok(None)))), "{ended:?}");
    drop(runtime);
    assert_eq!(world.open_descriptors(), []);
}

#[test]
fn the_wall_clock_is_the_world_s() {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let world = SimWorld::with_options(0, SimOptions::calm());
    world.set_auto_advance(true);
    let mut runtime = Runtime::simulated(&world, &RuntimeOptions::default());
    let clock = world.clone();
    let ran = runtime.block_on(async move {
        let (wall, begin) = (wall_clock(), now());
        sleep(second).await;
        assert_eq!(wall_clock() - (now() - begin), wall);
        clock.set_wall_clock(wall - hour);
        assert_eq!(wall_clock(), wall - hour);
        let (wall, begin) = (wall_clock(), now());
        sleep(second).await;
        assert!(now() - begin < 2 * second, "a jump changes no wait");
        assert_eq!(wall_clock(), wall + (now() - begin));
    });
    ran.unwrap();
}

/// Numbers from a seed (SplitMix64; Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn milliseconds(&mut self, limit: usize) -> Duration {
        Duration::from_millis(self.below(limit) as u64)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// One of its own for a task, so that tasks don't depend on each other's turns.
    fn fork(&mut self) -> Random {
        Random(self.next())
    }
}

/// Where the servers' one file is.
struct Folder {
    root: Directory,
    bytes: Rc<[u8]>,
    _folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let bytes = Random(0).bytes(FILE_BYTES);
        std::fs::write(folder.path().join("file"), &bytes).unwrap();
        Folder {
            root: Directory::open(folder.path()).unwrap(),
            bytes: bytes.into(),
            _folder: folder,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    /// Connections whose bytes were all there.
    exact: usize,
    /// Connections that ended early, by somebody's will or a fault.
    cut: usize,
    refused: usize,
    cancelled: usize,
    timed_out: usize,
    panics: usize,
    torn_down: usize,
    received_bytes: usize,
    /// Files that were sent to their end, by the last method.
    methods: BTreeMap<TransferMethod, usize>,
}

impl Tally {
    fn note_method(&mut self, method: TransferMethod) {
        *self.methods.entry(method).or_default() += 1;
    }

    fn add(&mut self, other: &Tally) {
        self.exact += other.exact;
        self.cut += other.cut;
        self.refused += other.refused;
        self.cancelled += other.cancelled;
        self.timed_out += other.timed_out;
        self.panics += other.panics;
        self.torn_down += other.torn_down;
        self.received_bytes += other.received_bytes;
        for (method, count) in &other.methods {
            *self.methods.entry(*method).or_default() += count;
        }
    }
}

/// What all tasks of a run share.
struct Shared {
    /// Nobody resets, cancels or panics on the server's side: what clients ask for must come whole.
    is_gentle: bool,
    address: SocketAddr,
    root: Directory,
    file: Rc<[u8]>,
    tally: RefCell<Tally>,
    /// Tasks that were started and have not ended.
    tasks: Cell<usize>,
    clients: Cell<usize>,
}

/// Counts a task in, and out when it is dropped.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: &Rc<Shared>) -> Counted {
        shared.tasks.set(shared.tasks.get() + 1);
        Counted(Rc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
    }
}

struct Worker {
    runtime: Option<Runtime>,
    buffers: u16,
    acceptor: Option<JoinHandle<()>>,
}

struct Run {
    seed: u64,
    world: SimWorld,
    random: Random,
    shared: Rc<Shared>,
    workers: Vec<Worker>,
}

struct Done {
    world: SimWorld,
    tally: Tally,
}

fn options(random: &mut Random, is_gentle: bool) -> SimOptions {
    let mut options = SimOptions::default();
    if is_gentle {
        (options.reset, options.connect_failure, options.eio) = (0.0, 0.0, 0.0);
    } else {
        options.reset = [0.0, 0.001, 0.01][random.below(3)];
        options.withheld_notice = [0.0, 0.1][random.below(2)];
        options.enobufs = [0.0, 0.02, 0.3][random.below(3)];
        options.late = [0.0, 0.1, 0.9][random.below(3)];
        options.multishot_end = [0.0, 0.1, 0.9][random.below(3)];
        options.descriptor_limit = [65_536, 24][random.below(2)];
        options.spurious_ready = [0.0, 0.1, 0.5][random.below(3)];
    }
    options.cold = [0.0, 0.2, 1.0][random.below(3)];
    options.untold = [0.0, 0.05, 1.0][random.below(3)];
    options.denies_transfers = random.one_in(5);
    options.has_zero_copy_operation = !random.one_in(3);
    options.notice_shortage = [0.0, 0.05, 0.5][random.below(3)];
    options.short_read = [0.0, 0.2, 0.9][random.below(3)];
    options.short_write = [0.0, 0.2, 0.9][random.below(3)];
    options.send_at_once = [0.0, 0.5, 1.0][random.below(3)];
    options.segment_bytes = [1..=16_384, 1..=100, 1448..=1448][random.below(3)].clone();
    options
}

impl Run {
    fn new(seed: u64, folder: &Folder, is_recorded: bool) -> Run {
        let mut random = Random(seed);
        let is_gentle = seed.is_multiple_of(2);
        let world = SimWorld::with_options(seed, options(&mut random, is_gentle));
        if is_recorded {
            world.record_trace();
        }
        let shared = Rc::new(Shared {
            is_gentle,
            address: "10.0.0.1:7000".parse().unwrap(),
            root: folder.root.clone(),
            file: Rc::clone(&folder.bytes),
            tally: RefCell::default(),
            tasks: Cell::new(0),
            clients: Cell::new(0),
        });
        let mut run = Run {
            seed,
            world,
            random,
            shared,
            workers: Vec::new(),
        };
        for number in 0..SERVERS + CLIENTS {
            let worker = run.worker(number < SERVERS);
            run.workers.push(worker);
        }
        run
    }

    fn worker(&mut self, is_server: bool) -> Worker {
        let options = RuntimeOptions {
            receive_buffers: 4 << self.random.below(4),
            receive_buffer_bytes: 64 << self.random.below(5),
            ..RuntimeOptions::default()
        };
        let runtime = Runtime::simulated(&self.world, &options);
        let mut acceptor = None;
        if is_server {
            let task = accept(
                Rc::clone(&self.shared),
                self.random.fork(),
                Counted::new(&self.shared),
            );
            acceptor = Some(runtime.spawn(task));
        } else {
            for _ in 0..CONNECTIONS {
                let random = self.random.fork();
                runtime.spawn(ask(
                    Rc::clone(&self.shared),
                    random,
                    Ending::new(&self.shared),
                ));
            }
        }
        Worker {
            runtime: Some(runtime),
            buffers: options.receive_buffers,
            acceptor,
        }
    }

    /// Runs until every client has ended, stops the servers, and looks at what is left.
    fn run(mut self) -> Done {
        let end_of_one = (!self.shared.is_gentle && self.random.one_in(2)).then(|| {
            (
                self.random.below(self.workers.len()),
                self.random.below(1000),
            )
        });
        let mut steps = 0;
        while self.shared.clients.get() > 0 {
            assert!(steps < STEPS, "seed {}: no end in sight", self.seed);
            let goes_on = self.step() || self.shared.clients.get() == 0;
            assert!(
                goes_on,
                "seed {}: nothing will ever happen again",
                self.seed
            );
            steps += 1;
            if let Some((worker, at)) = end_of_one
                && at == steps
            {
                self.workers[worker].runtime = None;
                self.shared.tally.borrow_mut().torn_down += 1;
            }
        }
        for worker in &mut self.workers {
            worker
                .acceptor
                .take()
                .into_iter()
                .for_each(JoinHandle::cancel);
        }
        while self.step() {
            assert!(
                steps < 2 * STEPS,
                "seed {}: it doesn't come to rest",
                self.seed
            );
            steps += 1;
        }
        self.check_rest();
        Done {
            tally: self.shared.tally.borrow().clone(),
            world: self.world.clone(),
        }
    }

    /// Lets every worker do what it can now, then moves the clock; false when nothing will happen.
    fn step(&mut self) -> bool {
        loop {
            for runtime in self
                .workers
                .iter_mut()
                .filter_map(|worker| worker.runtime.as_mut())
            {
                runtime.turn(Some(Duration::ZERO)).unwrap();
            }
            let runtimes = self
                .workers
                .iter()
                .filter_map(|worker| worker.runtime.as_ref());
            let is_idle = !runtimes.clone().any(Runtime::has_ready);
            let next = runtimes
                .filter_map(Runtime::next_expiry)
                .chain(self.world.next_event())
                .min();
            match next {
                Some(next) if next > self.world.now() && is_idle => {
                    self.world.advance(next);
                    return true;
                }
                None if is_idle => return false,
                _ => {}
            }
        }
    }

    fn check_rest(&mut self) {
        let seed = self.seed;
        let mut panics = 0;
        for (number, worker) in self.workers.iter().enumerate() {
            let Some(runtime) = &worker.runtime else {
                continue;
            };
            let left = (runtime.live_count(), runtime.timer_count());
            assert_eq!(
                left,
                (0, 0),
                "seed {seed}: slots and timers of worker {number}"
            );
            let free = runtime.free_buffer_count();
            assert_eq!(
                free, worker.buffers,
                "seed {seed}: free buffers of worker {number}"
            );
            panics += runtime.panic_count();
        }
        let tally = self.shared.tally.borrow();
        let is_whole = tally.torn_down == 0;
        assert!(
            panics == tally.panics as u64 || !is_whole,
            "seed {seed}: a task failed"
        );
        assert!(panics <= tally.panics as u64, "seed {seed}: a task failed");
        assert_eq!(self.shared.tasks.get(), 0, "seed {seed}: tasks left");
        assert_eq!(
            self.world.operations_in_flight(),
            0,
            "seed {seed}: operations left"
        );
        assert_eq!(
            self.world.open_descriptors(),
            [],
            "seed {seed}: descriptors left"
        );
        assert!(
            !self.shared.is_gentle || tally.exact + tally.cut > 0,
            "seed {seed}"
        );
    }
}

/// A server: one listener of the group, a task for each connection.
async fn accept(shared: Rc<Shared>, mut random: Random, _counted: Counted) {
    let listener = loop {
        match TcpListener::bind(shared.address, &ListenOptions::default()) {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    };
    loop {
        let Ok(stream) = listener.accept().await else {
            sleep(Duration::from_millis(1 + random.below(5) as u64)).await;
            continue;
        };
        let task = serve(
            stream,
            Rc::clone(&shared),
            random.fork(),
            Counted::new(&shared),
        );
        let handle = spawn(task);
        if !shared.is_gentle && random.one_in(10) {
            let (after, counted) = (random.milliseconds(50), Counted::new(&shared));
            spawn(async move {
                let counted = counted;
                sleep(after).await;
                counted.0.tally.borrow_mut().cancelled += 1;
                handle.cancel();
            });
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Rc<Shared>, random: Random, _counted: Counted) {
    stream.set_deadline(Some(now() + HANG));
    let Ok(Some(mut first)) = stream.receive().await else {
        return;
    };
    let mode = first[0];
    first.advance(1);
    // What goes wrong ends the connection, and is the client's to notice.
    let _ = match mode {
        b'f' => {
            drop(first);
            send_file(stream, &shared, random).await
        }
        b'p' => {
            shared.tally.borrow_mut().panics += 1;
            resume_unwind(Box::new("injected"));
        }
        b'd' => drop_early(stream, first, random).await,
        _ => echo(stream, first, random).await,
    };
}

async fn echo(mut stream: TcpStream, first: Buffer, mut random: Random) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(buffer) = next {
        let middle = random.below(buffer.len() + 1);
        match random.below(4) {
            0 => stream.send(buffer.to_vec()).await?,
            1 => {
                let head = buffer[..middle].to_vec();
                let mut tail = buffer;
                tail.advance(middle);
                stream.send(Outgoing::gathered(head, tail)).await?;
            }
            2 => {
                let sent = stream.send_now(&buffer, false);
                let sent = sent.or_else(|error| match error.kind() {
                    ErrorKind::WouldBlock => Ok(0),
                    _ => Err(error),
                })?;
                let mut rest = buffer;
                rest.advance(sent);
                stream.send(rest).await?;
            }
            _ => stream.send(buffer).await?,
        }
        next = stream.receive().await?;
    }
    stream.flush().await?;
    if random.one_in(2) {
        stream.shutdown_write()?;
        stream.receive().await?;
    }
    Ok(())
}

/// Ends a connection with whatever is under way.
async fn drop_early(mut stream: TcpStream, first: Buffer, mut random: Random) -> io::Result<()> {
    stream.send(first).await?;
    for _ in 0..random.below(5) {
        if let Some(buffer) = stream.receive().await? {
            stream.send(buffer).await?;
        }
    }
    let _ = timeout(random.milliseconds(5), stream.receive()).await;
    if random.one_in(3) {
        stream.reset();
    }
    Ok(())
}

/// Sends the file by any method, in steps that are given up now and then.
async fn send_file(mut stream: TcpStream, shared: &Shared, mut random: Random) -> io::Result<()> {
    let file = open_patiently(shared).await?;
    let (bytes, count) = read_patiently(&file, shared).await?;
    stream.send(bytes[..count].to_vec()).await?;
    stream.flush().await?;
    let method = TransferMethod::ALL[random.below(TransferMethod::ALL.len())];
    let thresholds = TransferThresholds {
        copy_max_bytes: [0, 100_000][random.below(2)],
        zero_copy_min_bytes: 0,
        zero_copy_in_flight: 1 + random.below(3),
        step_bytes: 1 + random.below(20_000) as u64,
        turn_bytes: 1 + random.below(20_000) as u64,
        look_ahead_bytes: 1 + random.below(20_000) as u64,
    };
    let options = TransferOptions {
        method,
        thresholds,
        ..TransferOptions::default()
    };
    let mut transfer = FileTransfer::new(&file, count as u64..FILE_BYTES as u64, options);
    while transfer.left() > 0 {
        let patience = Duration::from_millis(1 + random.below(100) as u64);
        let step = async {
            let step = transfer.step(&mut stream).await?;
            if step == Step::Full {
                transfer.wait(&mut stream).await?;
            }
            Ok::<_, TransferError>(step)
        };
        match timeout(patience, step).await {
            // A client that acknowledges nothing more is given up.
            Ok(step) => {
                step?;
                stream.set_deadline(Some(now() + STALL));
            }
            Err(_) => shared.tally.borrow_mut().timed_out += 1,
        }
    }
    let report = transfer.report();
    assert_eq!(report.bytes as usize, FILE_BYTES - count);
    shared.tally.borrow_mut().note_method(report.method);
    drop(transfer);
    stream.shutdown_write()?;
    while stream.receive().await?.is_some() {}
    Ok(())
}

/// Descriptors run out now and then: they come back.
async fn open_patiently(shared: &Shared) -> io::Result<File> {
    loop {
        match shared.root.open_beneath(b"file", Symlinks::Deny).await {
            Err(error) if error.raw_os_error() == Some(24) => sleep(Duration::from_millis(1)).await,
            other => return other,
        }
    }
}

/// A beginning of the file, read with impatience: some reads are given up.
async fn read_patiently(file: &File, shared: &Shared) -> io::Result<(Vec<u8>, usize)> {
    for patience in 1..20 {
        let read = file.read_at(vec![0; 700], 0);
        match timeout(Duration::from_millis(patience), read).await {
            Ok(read) => return read,
            Err(_) => shared.tally.borrow_mut().timed_out += 1,
        }
    }
    file.read_at(vec![0; 700], 0).await
}

/// A client that has not ended; tells when it has.
struct Ending {
    shared: Rc<Shared>,
    _counted: Counted,
}

impl Ending {
    fn new(shared: &Rc<Shared>) -> Ending {
        shared.clients.set(shared.clients.get() + 1);
        Ending {
            shared: Rc::clone(shared),
            _counted: Counted::new(shared),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.clients.set(self.shared.clients.get() - 1);
    }
}

/// One client: a few connections, one after the other.
async fn ask(shared: Rc<Shared>, mut random: Random, _ending: Ending) {
    sleep(random.milliseconds(20)).await;
    for _ in 0..1 + random.below(3) {
        let exchange = exchange(Rc::clone(&shared), random.fork(), Counted::new(&shared));
        if random.one_in(8) {
            // Given up somewhere.
            let task = spawn(exchange);
            sleep(random.milliseconds(30)).await;
            task.cancel();
            shared.tally.borrow_mut().cancelled += 1;
        } else {
            exchange.await;
        }
    }
}

async fn connect(shared: &Shared, random: &mut Random) -> Option<TcpStream> {
    for _ in 0..30 {
        let options = SocketOptions::default();
        let connect = TcpStream::connect(shared.address, &options);
        if random.one_in(8) {
            match timeout(random.milliseconds(4), connect).await {
                Ok(Ok(stream)) => return Some(stream),
                _ => shared.tally.borrow_mut().timed_out += 1,
            }
        } else {
            match connect.await {
                Ok(stream) => return Some(stream),
                Err(_) => shared.tally.borrow_mut().refused += 1,
            }
        }
        sleep(random.milliseconds(10)).await;
    }
    None
}

async fn exchange(shared: Rc<Shared>, mut random: Random, _counted: Counted) {
    let Some(mut stream) = connect(&shared, &mut random).await else {
        shared.tally.borrow_mut().cut += 1;
        return;
    };
    stream.set_deadline(Some(now() + HANG));
    let modes: &[u8] = if shared.is_gentle {
        b"eeef"
    } else {
        b"eeeefdp"
    };
    let mode = modes[random.below(modes.len())];
    let limit = [10, 1000, 12_000][random.below(3)];
    let payload = [vec![mode], random.bytes(limit)].concat();
    let stop_after = random.one_in(6).then(|| random.below(payload.len()));
    let mut client = Client {
        stream,
        expect: if mode == b'f' {
            Rc::clone(&shared.file)
        } else {
            payload[1..].into()
        },
        payload,
        is_echo: mode != b'f',
        submitted: 0,
        next: None,
        is_out: false,
        half_closes: mode == b'f' || random.one_in(2),
        held: None,
        received: 0,
        stop_after,
        random: random.fork(),
    };
    // Its futures are dropped again and again, and it goes on.
    let result = loop {
        let patience = if random.one_in(2) {
            HANG * 2
        } else {
            random.milliseconds(8)
        };
        match timeout(patience, poll_fn(|context| client.poll(context))).await {
            Ok(result) => break result,
            Err(_) => shared.tally.borrow_mut().timed_out += 1,
        }
    };
    let mut tally = shared.tally.borrow_mut();
    tally.received_bytes += client.received;
    let is_whole = client.received == client.expect.len();
    let was_asked_for = stop_after.is_none() && b"ef".contains(&mode);
    if shared.is_gentle && was_asked_for {
        assert!(
            is_whole && result.is_ok(),
            "{} bytes, {result:?}",
            client.received
        );
    }
    let hung = matches!(&result, Err(error) if error.kind() == ErrorKind::TimedOut);
    assert!(!hung, "a connection hangs: {client:?}");
    if is_whole {
        tally.exact += 1;
    } else {
        tally.cut += 1;
    }
    drop(tally);
    if random.one_in(5) {
        client.stream.reset();
    }
}

/// Sends while it receives.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    payload: Vec<u8>,
    expect: Rc<[u8]>,
    is_echo: bool,
    submitted: usize,
    next: Option<Outgoing>,
    is_out: bool,
    half_closes: bool,
    /// Kept for a while, so that buffers get scarce.
    held: Option<Buffer>,
    received: usize,
    stop_after: Option<usize>,
    random: Random,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Random")
    }
}

impl Client {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_out {
            match self.poll_out(context)? {
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
        }
        loop {
            if self.stop_after.is_some_and(|limit| self.received > limit) {
                return Poll::Ready(Ok(()));
            }
            if self.is_out && !self.half_closes && self.received == self.expect.len() {
                return Poll::Ready(Ok(()));
            }
            let Some(buffer) = ready!(self.stream.poll_receive(context))? else {
                return Poll::Ready(Ok(()));
            };
            let end = self.received + buffer.len();
            let expected = self.expect.get(self.received..end);
            assert!(
                expected == Some(&buffer[..]),
                "wrong bytes after {}",
                self.received
            );
            assert!(
                !self.is_echo || end < self.submitted,
                "an echo of what was not sent"
            );
            self.received = end;
            self.held = self.random.one_in(4).then_some(buffer);
        }
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.next.is_none() && self.submitted < self.payload.len() {
            let rest = &self.payload[self.submitted..];
            let count = (1 + self.random.below(3000)).min(rest.len());
            let middle = self.random.below(count + 1);
            self.next = Some(if self.random.one_in(2) {
                rest[..count].to_vec().into()
            } else {
                Outgoing::gathered(rest[..middle].to_vec(), rest[middle..count].to_vec())
            });
            self.submitted += count;
        }
        if self.next.is_some() {
            return self.stream.poll_send(&mut self.next, context);
        }
        ready!(self.stream.poll_flush(context))?;
        if self.half_closes {
            self.stream.shutdown_write()?;
        }
        self.is_out = true;
        Poll::Ready(Ok(()))
    }
}
