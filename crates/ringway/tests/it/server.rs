//! The program under test: started on a port of the kernel's choice, watched, and stopped.
//!
//! What it prints is kept and shown when the test fails. Nothing here waits without a deadline,
//! and a server whose test ends early is killed with it.

use std::ffi::OsStr;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Response, request};
use crate::tree::Tree;

/// How long a test waits for what has to happen: far longer than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The driver that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    Uring,
    Epoll,
    /// What `auto` makes of a kernel that refuses io_uring.
    Refused,
}

impl Io {
    /// As `--io` has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Io::Uring => "uring",
            Io::Epoll => "epoll",
            Io::Refused => "auto",
        }
    }

    /// Why this driver can't be tested here, if it can't.
    pub(crate) fn missing(self) -> Option<&'static str> {
        static REFUSED: OnceLock<Option<String>> = OnceLock::new();
        match self {
            Io::Epoll | Io::Refused => None,
            Io::Uring => REFUSED
                .get_or_init(crate::peers::io_uring_refused)
                .as_deref(),
        }
    }
}

/// Makes two tests of each function, which takes the driver.
macro_rules! on_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { $crate::server::on_driver($crate::server::Io::Uring, super::$name) })+
        }
        mod epoll {
            $(#[test] fn $name() { $crate::server::on_driver($crate::server::Io::Epoll, super::$name) })+
        }
    };
}
pub(crate) use on_both_drivers;

/// The same, and a third test where the kernel refuses io_uring.
macro_rules! on_every_driver {
    ($($name:ident),+ $(,)?) => {
        $crate::server::on_both_drivers!($($name),+);
        mod refused {
            $(#[test] fn $name() { $crate::server::on_driver($crate::server::Io::Refused, super::$name) })+
        }
    };
}
pub(crate) use on_every_driver;

/// Runs a test, or says why it can't run here.
pub(crate) fn on_driver(io: Io, test: fn(Io)) {
    match io.missing() {
        Some(reason) => crate::peers::skip(reason),
        None => test(io),
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    addresses: Vec<SocketAddr>,
    stdout: Captured,
    stderr: Captured,
}

/// What a program printed that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `ringway serve ROOT` on a free port with two workers, unless `flags` have another number.
pub(crate) fn command(io: Io, root: &Path, flags: &[&str]) -> Command {
    command_on(io, root, "127.0.0.1:0", flags)
}

/// The same on `address`.
pub(crate) fn command_on(io: Io, root: &Path, address: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("serve").arg(root);
    command.args(["--io", io.word(), "--listen", address]);
    if !flags.contains(&"--workers") {
        command.args(["--workers", "2"]);
    }
    command.args(flags);
    match io {
        Io::Refused => run_by(crate::peers::refuse_calls(), &["io_uring"], &command),
        Io::Uring | Io::Epoll => command,
    }
}

/// `ringway run` with a configuration, which is written beside the root of `tree`; paths in it are
/// relative to that. Its first lines are `io` and two workers.
pub(crate) fn configured(io: Io, tree: &Tree, tables: &str) -> Command {
    let file = tree.outside().join("ringway.toml");
    let text = format!("io = \"{}\"\nworkers = 2\n{tables}", io.word());
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "--config"]).arg(&file);
    match io {
        Io::Refused => run_by(crate::peers::refuse_calls(), &["io_uring"], &command),
        Io::Uring | Io::Epoll => command,
    }
}

/// `command`, run by `program` with `arguments` before it. The program has to end in an exec, so
/// that the process is the server's.
pub(crate) fn run_by(program: impl AsRef<OsStr>, arguments: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program());
    outer.args(command.get_args());
    outer
}

/// `command` as a user who lacks these rights of root's, or `None` when root can't drop them: then
/// the test is skipped. The user reads what root's program and files are in all the same.
pub(crate) fn without(capabilities: &[&str], command: Command) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(command);
    }
    if crate::peers::find("setpriv").is_none() {
        crate::peers::skip("setpriv isn't installed, and this is root");
        return None;
    }
    let set: Vec<String> = capabilities.iter().map(|one| format!("-{one}")).collect();
    let drop = ["--bounding-set", &set.join(","), "--inh-caps", "-all"];
    Some(run_by("setpriv", &drop, &command))
}

/// `command` within a limit of the shell's `ulimit`, such as `-n 64`.
pub(crate) fn limited(limit: &str, command: &Command) -> Command {
    let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
    run_by("sh", &["-c", &script], command)
}

impl Server {
    /// Serves `root` on `io`.
    #[track_caller]
    pub(crate) fn serve(io: Io, root: &Path, flags: &[&str]) -> Server {
        Server::start(command(io, root, flags))
    }

    /// Starts the program and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn start(command: Command) -> Server {
        match Server::try_start(command) {
            Ok(server) => server,
            Err(ended) => panic!("the server didn't start: {ended:#?}"),
        }
    }

    /// The same, for a program that may refuse to.
    pub(crate) fn try_start(mut command: Command) -> Result<Server, Ended> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut server = Server {
            stdout: Captured::of(child.stdout.take().unwrap()),
            stderr: Captured::of(child.stderr.take().unwrap()),
            child,
            addresses: Vec::new(),
        };
        let started = server.said_addresses(1);
        server.addresses = started.expect("the server says within the deadline that it is ready");
        if server.addresses.is_empty() {
            let code = server.wait().code();
            return Err(server.ended(code));
        }
        Ok(server)
    }

    /// The addresses that it says it listens on, when there are `count`.
    pub(crate) fn addresses(&self, count: usize) -> Vec<SocketAddr> {
        let all = self.said_addresses(count).unwrap_or_default();
        assert!(all.len() >= count, "less than {count} addresses: {all:?}");
        all
    }

    /// The same, wherever it says them: the access log may have standard output. What there is when
    /// there won't be more; `None` when there might be, but not within the deadline.
    fn said_addresses(&self, count: usize) -> Option<Vec<SocketAddr>> {
        within(PATIENCE, || {
            let (output, output_over) = self.stdout.lines();
            let (errors, errors_over) = self.stderr.lines();
            let mut all = addresses(&output);
            if all.is_empty() {
                all = addresses(&errors);
            }
            let over = output_over && errors_over;
            (over || all.len() >= count).then_some(all)
        })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// For a server that may refuse.
    pub(crate) fn try_connect(&self) -> std::io::Result<Client> {
        Client::try_connect(self.address())
    }

    /// The answer to a GET on a connection of its own, which ends with it.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        client.send(request("GET", path, &["Connection: close"]));
        let response = client.response();
        client.expect_end();
        response
    }

    /// Checks that it still answers, whatever was done to it.
    #[track_caller]
    pub(crate) fn expect_alive(&self, path: &str, body: &[u8]) {
        let response = self.get(path);
        assert_eq!(response.status, 200);
        assert!(response.body == body, "{path} has another body");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the server ends", || self.child.try_wait().unwrap())
    }

    /// How it ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Stops it in good order and says what it printed.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ended {
        self.signal(Signal::TERM);
        let code = self.wait().code();
        let ended = self.ended(code);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn ended(&self, code: Option<i32>) -> Ended {
        let whole = |captured: &Captured| {
            captured.wait(|_, over| over.then_some(()));
            captured.text()
        };
        Ended {
            code,
            stdout: whole(&self.stdout),
            stderr: whole(&self.stderr),
        }
    }

    /// Standard error of a server that has ended.
    pub(crate) fn all_errors(&self) -> String {
        self.ended(None).stderr
    }

    /// Standard output of a server that has ended.
    pub(crate) fn all_output(&self) -> String {
        self.ended(None).stdout
    }

    /// Standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.stderr.text()
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> String {
        self.stdout.text()
    }

    /// The mappings of the process, with the policy and the nodes of each (numa_maps, proc(5)); empty
    /// on a kernel without NUMA.
    pub(crate) fn memory_maps(&self) -> String {
        let path = format!("/proc/{}/numa_maps", self.child.id());
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// Open files of the process that have no name any more.
    pub(crate) fn nameless_files(&self) -> usize {
        self.count_open(|link| link.ends_with(" (deleted)"))
    }

    /// Open sockets of the process.
    pub(crate) fn sockets(&self) -> usize {
        self.count_open(|link| link.starts_with("socket:"))
    }

    fn count_open(&self, is_such: impl Fn(&str) -> bool) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let entries = std::fs::read_dir(folder).unwrap();
        // It may have been closed meanwhile.
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links
            .filter(|link| link.to_str().is_some_and(&is_such))
            .count()
    }

    /// Memory that is the process's own: resident, not from files.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let number = line.unwrap().split_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    }

    /// CPU time that it has used, in user mode and in the kernel, over all its threads.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        // Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms; here the third is the first.
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Checks that it comes to rest: that it isn't awake for nothing, over and over.
    ///
    /// What is still to be done, and whoever else is on the machine, makes that later and not false.
    #[track_caller]
    pub(crate) fn expect_rest(&self) {
        const WINDOW: Duration = Duration::from_millis(500);
        eventually("half a second with next to no work", || {
            let before = self.cpu_time();
            within::<()>(WINDOW, || None);
            (self.cpu_time() - before <= WINDOW / 20).then_some(())
        });
    }

    /// Bytes that the kernel still has to send for it over IPv4, also on connections that it has
    /// closed.
    pub(crate) fn queued_bytes(&self) -> u64 {
        // proc_net_tcp(5): the address, the peer, the state, and the lengths of the queues.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ours = format!(":{:04X}", self.address().port());
        let queue = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let unsent = fields[4].split(':').next().unwrap();
            fields[1]
                .ends_with(&ours)
                .then(|| u64::from_str_radix(unsent, 16).unwrap())
        };
        table.lines().skip(1).filter_map(queue).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Its output is complete only when it has ended.
            _ = self.child.kill();
            _ = self.child.wait();
        }
        if std::thread::panicking() {
            let ended = self.ended(None);
            eprintln!(
                "-- the server's output\n{}\n-- its errors\n{}",
                ended.stdout, ended.stderr
            );
        }
    }
}

/// Every `http://ADDRESS/` in `text`. Every address of the machine is shown as `localhost`.
fn addresses(text: &str) -> Vec<SocketAddr> {
    let text = text.replace("//localhost:", "//127.0.0.1:");
    let urls = text.split("http://").skip(1);
    urls.filter_map(|rest| rest.split_once('/')?.0.parse().ok())
        .collect()
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, ask) {
        Some(answer) => answer,
        None => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Within which a change of files has to be seen.
pub(crate) const PROMISE: Duration = Duration::from_secs(1);

/// Asks again and again until there is an answer, at most for a second: the first question that is
/// asked after it has to be answered. Each question counts for as long as the fastest took, so a
/// machine that is busy with other things, which makes the others slower, makes it a longer second.
#[track_caller]
pub(crate) fn promptly<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let (mut fastest, start) = (PROMISE, Instant::now());
    for before in 0.. {
        let begun = Instant::now();
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::park_timeout(Duration::from_millis(3));
        fastest = fastest.min(begun.elapsed());
        assert!(
            fastest * before <= PROMISE,
            "not within a second, and not after {:?} and {before} questions: {what}",
            start.elapsed()
        );
    }
    unreachable!("it has failed before")
}

/// Asks again and again until there is an answer, or `time` has passed.
pub(crate) fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let late = Instant::now() >= deadline;
        let answer = ask();
        if answer.is_some() || late {
            return answer;
        }
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

/// What a pipe has said so far, read by a thread so that the program never blocks on it.
#[derive(Clone)]
struct Captured(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    over: bool,
}

impl Output {
    /// A line that isn't complete says nothing yet.
    fn lines(&self) -> String {
        let mut bytes = self.bytes.iter();
        let end = bytes
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let end = if self.over { self.bytes.len() } else { end };
        String::from_utf8_lossy(&self.bytes[..end]).into_owned()
    }
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Captured {
        let captured = Captured(Arc::default());
        let ours = captured.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let (output, changed) = &*ours.0;
                let mut output = output.lock().unwrap();
                output.bytes.extend_from_slice(&buffer[..count]);
                output.over = count == 0;
                changed.notify_all();
                if output.over {
                    break;
                }
            }
        });
        captured
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// The lines so far that are complete, and whether these are all.
    fn lines(&self) -> (String, bool) {
        let output = self.0.0.lock().unwrap();
        (output.lines(), output.over)
    }

    /// Waits until `find` has found something; it is told whether this is all.
    fn wait<T>(&self, mut find: impl FnMut(&str, bool) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let (output, changed) = &*self.0;
        let mut output = output.lock().unwrap();
        loop {
            let found = find(&output.lines(), output.over);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || output.over || left.is_zero() {
                return found;
            }
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }
}
