//! What the tests share: a case for each driver, bounded waits, streams, known bytes.

use ringway_runtime::{
    Buffer, DriverKind, Io, ListenOptions, Runtime, RuntimeOptions, SocketOptions, TcpListener,
    TcpStream, timeout,
};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitStatus, Output};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// The bound of every wait: only a hang takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Set in a process that runs one test alone.
const CHILD_VARIABLE: &str = "RINGWAY_TEST_ALONE";

/// For each test function, a module of its name with the two tests `uring` and `epoll`.
macro_rules! on_both_drivers {
    ($($name:ident,)*) => {$(
        mod $name {
            #[test]
            fn uring() {
                let name = concat!(module_path!(), "::uring");
                crate::harness::run(name, ringway_runtime::Io::Uring, super::$name);
            }

            #[test]
            fn epoll() {
                let name = concat!(module_path!(), "::epoll");
                crate::harness::run(name, ringway_runtime::Io::Epoll, super::$name);
            }
        }
    )*};
}

/// One test on one driver.
pub(crate) struct Case {
    name: &'static str,
    io: Io,
}

/// Runs a test on one driver, or says why it can't.
pub(crate) fn run(name: &'static str, io: Io, test: fn(&Case)) {
    let case = Case { name, io };
    match Runtime::new(&case.options()) {
        Ok(runtime) => drop(runtime),
        Err(error) if io == Io::Uring => return skip(name, &error.to_string()),
        Err(error) => panic!("no driver: {error}"),
    }
    test(&case);
}

/// Says that `name` does not run here, on standard error and in the log where there is one.
pub(crate) fn skip(name: &str, reason: &str) {
    let line = format!("SKIP {name}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("RINGWAY_SKIP_LOG") {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        log.and_then(|mut log| writeln!(log, "{line}")).unwrap();
    }
}

impl Case {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Which driver it is.
    pub(crate) fn kind(&self) -> DriverKind {
        match self.io {
            Io::Epoll => DriverKind::Epoll,
            _ => DriverKind::Uring,
        }
    }

    pub(crate) fn options(&self) -> RuntimeOptions {
        RuntimeOptions {
            io: self.io,
            ..RuntimeOptions::default()
        }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(&self.options()).unwrap()
    }

    /// A worker with so few receive buffers, of 1 KiB.
    pub(crate) fn runtime_with_buffers(&self, count: u16) -> Runtime {
        let mut options = self.options();
        (options.receive_buffers, options.receive_buffer_bytes) = (count, 1024);
        Runtime::new(&options).unwrap()
    }

    /// Runs `body` on a worker of a thread of its own.
    pub(crate) fn on_worker<T, F>(
        &self,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> thread::JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let options = self.options();
        thread::spawn(move || {
            let mut runtime = Runtime::new(&options).unwrap();
            let output = complete(&mut runtime, body());
            settle(&mut runtime, options.receive_buffers);
            output
        })
    }

    /// Runs `body` in a process where no other test runs.
    pub(crate) fn alone(&self, body: impl FnOnce()) {
        if let Some(output) = self.output_alone(body) {
            self.check_alone(&output);
        }
    }

    fn check_alone(&self, output: &Output) {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{} alone: {}\n{text}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The same where a seccomp filter refuses `sendfile`, `splice` and `SO_ZEROCOPY`.
    pub(crate) fn alone_without_transfer_calls(&self, body: impl FnOnce()) {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "refuse_calls.{}.{}",
            std::process::id(),
            self.name.replace("::", ".")
        ));
        let mut command = Command::new(&program);
        command.arg(std::env::current_exe().unwrap());
        let output = self.output_alone_by(&mut command, body, || {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/refuse_calls.c");
            let mut compiler = Command::new("cc");
            compiler.args(["-Wall", "-Werror", "-o"]).arg(&program);
            assert!(compiler.arg(source).status().unwrap().success());
        });
        let Some(output) = output else { return };
        std::fs::remove_file(&program).unwrap();
        if output.status.code() == Some(77) {
            return skip(self.name, "seccomp filters aren't allowed");
        }
        self.check_alone(&output);
    }

    /// The same for a `body` that ends its process: how it does.
    pub(crate) fn alone_until_it_ends(&self, body: impl FnOnce()) -> ExitStatus {
        let output = self.output_alone(body);
        output.expect("the process goes on").status
    }

    fn output_alone(&self, body: impl FnOnce()) -> Option<Output> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        self.output_alone_by(&mut command, body, || ())
    }

    /// Runs this test by `command`, which `prepare` has made ready; `body`, when that is this process.
    fn output_alone_by(
        &self,
        command: &mut Command,
        body: impl FnOnce(),
        prepare: impl FnOnce(),
    ) -> Option<Output> {
        if std::env::var_os(CHILD_VARIABLE).is_some() {
            body();
            return None;
        }
        let (_, test) = self.name.split_once("::").unwrap();
        prepare();
        let output = command
            .args([test, "--exact", "--nocapture"])
            .env(CHILD_VARIABLE, "1")
            .output();
        Some(output.unwrap())
    }
}

/// Runs a worker until `future` is done; a hang is a failure.
pub(crate) fn complete<F>(runtime: &mut Runtime, future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    runtime
        .block_on(async move { within(future).await })
        .unwrap()
}

/// The output of `future`; a hang is a failure.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("hangs")
}

/// Gives a worker turns until nothing is left in it.
pub(crate) fn settle(runtime: &mut Runtime, all_buffers: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = (
            runtime.live_count(),
            runtime.timer_count(),
            runtime.has_ready(),
        );
        if left == (0, 0, false) && runtime.free_buffer_count() == all_buffers {
            return;
        }
        let free = runtime.free_buffer_count();
        assert!(
            Instant::now() < deadline,
            "at rest there are (slots, timers, ready tasks) {left:?}, and {free} free buffers"
        );
        runtime.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

/// Lets the worker have a turn.
pub(crate) async fn yield_now() {
    let mut is_first = true;
    poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Lets the worker have several turns, so that what was submitted is in the kernel.
pub(crate) async fn yield_often() {
    for _ in 0..5 {
        yield_now().await;
    }
}

/// Polls `future` once in each of `turns` turns, and drops it when it isn't done then.
pub(crate) async fn give_up<F: Future>(turns: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..turns {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// A listener on a free port of the loopback.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    listen_with(&ListenOptions::default())
}

pub(crate) fn listen_with(options: &ListenOptions) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let address = listener.local_address().unwrap();
    (listener, address)
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address, &SocketOptions::default())
        .await
        .unwrap()
}

/// Two ends of one connection, both on this worker.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = connect(address).await;
    (listener.accept().await.unwrap(), client)
}

/// A stream of this worker, and its blocking peer, whose waits are bounded.
pub(crate) async fn pair_with_std() -> (TcpStream, std::net::TcpStream) {
    let (listener, address) = listen();
    let peer = std_connect(address);
    (listener.accept().await.unwrap(), peer)
}

pub(crate) fn std_connect(address: SocketAddr) -> std::net::TcpStream {
    let peer = std::net::TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// Sends back what comes, until the end of the stream.
pub(crate) async fn echo(mut stream: TcpStream) -> io::Result<()> {
    while let Some(buffer) = stream.receive().await? {
        stream.send(buffer).await?;
    }
    stream.flush().await
}

pub(crate) async fn receive_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let buffer = stream
            .receive()
            .await
            .unwrap()
            .expect("an early end of the stream");
        bytes.extend_from_slice(&buffer);
    }
    assert_eq!(bytes.len(), count);
    bytes
}

pub(crate) async fn receive_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(buffer) = stream.receive().await? {
        bytes.extend_from_slice(&buffer);
    }
    Ok(bytes)
}

/// As many of a worker's buffers as `count`, each kept with one byte in it.
pub(crate) async fn hold_buffers(count: usize) -> (Vec<Buffer>, TcpStream, TcpStream) {
    let (mut reader, mut writer) = pair().await;
    let mut held = Vec::new();
    for _ in 0..count {
        writer.send(b"x".as_slice()).await.unwrap();
        held.push(reader.receive().await.unwrap().unwrap());
    }
    (held, reader, writer)
}

/// Numbers that look random, from a seed (SplitMix64; Steele, Lea and Flood, 2014).
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `limit` - 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .collect();
        bytes.truncate(count);
        bytes
    }
}

/// An endless stream of known bytes: a random block of prime length, again and again, so that
/// anything lost, doubled or moved shows.
pub(crate) struct Pattern {
    block: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Pattern {
        Pattern {
            block: Random(seed).bytes(262_139),
        }
    }

    pub(crate) fn chunk(&self, offset: usize, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let start = (offset + bytes.len()) % self.block.len();
            let end = self.block.len().min(start + count - bytes.len());
            bytes.extend_from_slice(&self.block[start..end]);
        }
        bytes
    }

    pub(crate) fn check(&self, offset: usize, bytes: &[u8]) {
        assert!(
            self.chunk(offset, bytes.len()) == bytes,
            "wrong bytes from {offset}"
        );
    }
}
