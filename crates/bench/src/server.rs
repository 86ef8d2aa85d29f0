//! A server under measurement: started on its CPUs, asked what it has used, and ended.
//!
//! What it has used is what the kernel says of each of its threads, those that work for its rings
//! included, and of the processes that it started.

use crate::contestant::Contestant;
use ringway_runtime::{cpu, process};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// As much as is told of what a server said when it failed.
const SAID_BYTES: usize = 400;

/// A running server, which ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it on `server_cpus` and waits until it listens; the calling thread is then kept on
    /// `own_cpus`. What it prints goes into `log`.
    ///
    /// # Errors
    /// When the program can't be started, ends at once, or doesn't listen in 20 s; with what it said.
    pub fn start(
        contestant: &Contestant,
        server_cpus: &[usize],
        own_cpus: &[usize],
        log: &Path,
    ) -> io::Result<Server> {
        let output = fs::File::create(log)?;
        let mut command = Command::new(&contestant.program);
        command
            .args(&contestant.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        cpu::keep_current_thread_on(server_cpus)?;
        let child = process::spawn_tied(&mut command);
        cpu::keep_current_thread_on(own_cpus)?;
        let program = contestant.program.display();
        let child =
            child.map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let mut server = Server {
            child,
            port: contestant.port,
        };
        server.wait_until_it_listens(log)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, log: &Path) -> io::Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        while !listens(self.port) {
            if let Some(status) = self.child.try_wait()? {
                let said = said(log);
                return Err(io::Error::other(format!(
                    "it ended at once ({status}){said}"
                )));
            }
            if Instant::now() > end {
                let (port, said) = (self.port, said(log));
                let text = format!("nothing listens on port {port} after 20 s{said}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The number of its first process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads, since they began.
    pub fn run_time(&self) -> Duration {
        self.threads().iter().map(|(_, time)| *time).sum()
    }

    /// Name and CPU time of each of its threads.
    pub fn threads(&self) -> Vec<(String, Duration)> {
        let tasks = members(self.child.id()).into_iter().flat_map(tasks);
        tasks.filter_map(|task| thread(&task)).collect()
    }

    /// Its own memory in bytes: anonymous pages, its share of them where shared.
    ///
    /// # Errors
    /// When it has ended, or the kernel doesn't tell.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        let mut sum = 0;
        for member in members(self.child.id()) {
            let text = fs::read_to_string(format!("/proc/{member}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            sum += kib.ok_or(io::ErrorKind::InvalidData)? * 1024;
        }
        Ok(sum)
    }

    /// Ends it, and waits until its port is closed: a ring's listener outlives its process for a
    /// moment.
    pub fn stop(mut self) {
        self.end();
        let end = Instant::now() + STOP_TIMEOUT;
        while listens(self.port) && Instant::now() < end {
            sleep(LOOK_INTERVAL);
        }
    }

    fn end(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // It leads a group of its own, in which its children are, too.
        let group = Pid::from_child(&self.child);
        for signal in [Signal::TERM, Signal::KILL] {
            // Without anybody left to be told, it has ended.
            _ = kill_process_group(group, signal);
            let end = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < end {
                if !self.is_running() {
                    // Whatever of the group is left has no reason to be.
                    _ = kill_process_group(group, Signal::KILL);
                    return;
                }
                sleep(LOOK_INTERVAL);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// The end of what a server printed, as the end of a message.
fn said(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SAID_BYTES)..]);
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// A process and all its descendants.
fn members(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut next = 0;
    while let Some(&member) = found.get(next) {
        next += 1;
        for task in tasks(member) {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok());
            found.extend(children);
        }
    }
    found
}

/// The folders in `/proc` of a process's threads.
fn tasks(process: u32) -> Vec<PathBuf> {
    let folder = fs::read_dir(format!("/proc/{process}/task"));
    let entries = folder.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn thread(task: &Path) -> Option<(String, Duration)> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    // The first number: nanoseconds on a CPU (Documentation/scheduler/sched-stats.rst).
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some((name.trim().to_owned(), Duration::from_nanos(nanoseconds)))
}

/// CPU time of this process's threads whose names begin with `prefix`.
pub fn own_run_time(prefix: &str) -> Duration {
    let threads = tasks(std::process::id());
    let threads = threads.iter().filter_map(|task| thread(task));
    let wanted = threads.filter(|(name, _)| name.starts_with(prefix));
    wanted.map(|(_, time)| time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, arguments: &[&str]) -> io::Result<Server> {
        let folder = tempfile::tempdir().unwrap();
        let mut contestant = Contestant::new("it", Path::new(program), 1, "/");
        contestant.arguments = arguments.iter().map(Into::into).collect();
        let cpus = cpu::allowed().unwrap();
        Server::start(&contestant, &cpus, &cpus, &folder.path().join("log"))
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_what_it_said() {
        let error = start("/bin/sh", &["-c", "echo no such directive; exit 3"]);
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "it ended at once (exit status: 3): no such directive");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let text = start("/no/such/program", &[]).unwrap_err().to_string();
        assert!(text.starts_with("/no/such/program: "), "{text}");
    }

    #[test]
    fn the_time_of_a_thread_of_this_process_is_found_by_its_name() {
        let burn = || {
            let begin = own_run_time("burning");
            while own_run_time("burning") < begin + Duration::from_millis(1) {}
        };
        let thread = std::thread::Builder::new().name("burning-1".into());
        thread.spawn(burn).unwrap().join().unwrap();
        assert_eq!(own_run_time("no such thread"), Duration::ZERO);
    }
}
