//! Servers under measurement: starting them on a CPU, what they have used, and ending them.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The program's absolute path: as it is when it names a folder, else from `PATH` and where
/// servers are installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return std::fs::canonicalize(program).ok();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A port of loopback that nothing listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The CPUs that this process may run on, in order.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// A command that runs on `cpu` only.
pub(crate) fn on_cpu(cpu: usize, program: impl Into<OsString>) -> Command {
    on_cpus(&[cpu], program)
}

/// A command that runs on these CPUs only.
fn on_cpus(cpus: &[usize], program: impl Into<OsString>) -> Command {
    let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let mut command = Command::new("taskset");
    command
        .arg("--cpu-list")
        .arg(list.join(","))
        .arg(program.into());
    command
}

/// A running server, which ends with this value.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts the command and waits until it listens. Should this process be killed, the kernel
    /// asks the server to end too.
    pub(crate) fn start(command: &[OsString], port: u16, cpu: usize, log: &Path) -> Result<Server> {
        Server::start_on(command, port, &[cpu], log)
    }

    /// The same on several CPUs.
    pub(crate) fn start_on(
        command: &[OsString],
        port: u16,
        cpus: &[usize],
        log: &Path,
    ) -> Result<Server> {
        let output = std::fs::File::create(log).with_context(|| log.display().to_string())?;
        let child = on_cpus(cpus, "setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output)
            .spawn()
            .context("cannot run taskset and setpriv")?;
        let mut server = Server { child, port };
        let end = Instant::now() + START_TIMEOUT;
        while !server.listens() {
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = server.child.try_wait().context("cannot watch the server")? {
                bail!("the server ended at once ({status}): {}", said().trim());
            }
            ensure!(
                Instant::now() < end,
                "nothing listens on port {port}: {}",
                said().trim()
            );
            sleep(POLL_INTERVAL);
        }
        Ok(server)
    }

    fn listens(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    }

    /// The server's process and all its descendants.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(&member) = found.get(next) {
            next += 1;
            for task in tasks(member) {
                let children = std::fs::read_to_string(task.join("children")).unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .filter_map(|word| word.parse::<u32>().ok()),
                );
            }
        }
        found
    }

    /// CPU time of all the server's threads, the kernel's workers for its rings included.
    pub(crate) fn run_time(&self) -> Duration {
        let nanoseconds = |task: &Path| -> Option<u64> {
            let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        let tasks = self.members().into_iter().flat_map(tasks);
        Duration::from_nanos(tasks.filter_map(|task| nanoseconds(&task)).sum())
    }

    /// How often the server's threads gave their CPU away, willing or not.
    pub(crate) fn context_switches(&self) -> u64 {
        let count = |task: &Path| -> u64 {
            let text = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            text.lines()
                .filter(|line| line.contains("voluntary_ctxt_switches:"))
                .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
                .sum()
        };
        let tasks = self.members().into_iter().flat_map(tasks);
        tasks.map(|task| count(&task)).sum()
    }

    /// Descriptors that the server has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(self.open_files()?.len())
    }

    /// Those of them that are sockets, listeners included.
    pub(crate) fn sockets(&self) -> Result<usize> {
        let is_socket =
            |file: &&PathBuf| file.as_os_str().as_encoded_bytes().starts_with(b"socket:");
        Ok(self.open_files()?.iter().filter(is_socket).count())
    }

    /// What its descriptors are of. One that is closed meanwhile may be missing.
    fn open_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for member in self.members() {
            let folder = format!("/proc/{member}/fd");
            for entry in std::fs::read_dir(&folder).with_context(|| folder.clone())? {
                files.extend(std::fs::read_link(entry?.path()));
            }
        }
        Ok(files)
    }

    /// Threads of the server, the kernel's workers for its rings included.
    pub(crate) fn threads(&self) -> usize {
        self.members()
            .into_iter()
            .map(|member| tasks(member).len())
            .sum()
    }

    /// The server's own memory in bytes: anonymous pages, its share of them where shared.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64> {
        self.sum_kib(|member| format!("/proc/{member}/smaps_rollup"), "Pss_Anon:")
    }

    /// The server's resident memory in bytes, files mapped into it included.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.sum_kib(|member| format!("/proc/{member}/status"), "VmRSS:")
    }

    fn sum_kib(&self, path: impl Fn(u32) -> String, key: &str) -> Result<u64> {
        let mut sum = 0;
        for member in self.members() {
            let path = path(member);
            let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
            let value = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
            sum += kib.with_context(|| format!("{path} has no {key}"))? * 1024;
        }
        Ok(sum)
    }

    /// Ends the server and waits until its port is closed: a ring's listener outlives its process
    /// for a moment.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end();
        let end = Instant::now() + START_TIMEOUT;
        while self.listens() {
            ensure!(
                Instant::now() < end,
                "port {} stays open after its server",
                self.port
            );
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// First politely; what is left of its processes after a while, by force.
    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let members = self.members();
        send(self.child.id(), Signal::TERM);
        let end = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(POLL_INTERVAL);
        }
        members
            .into_iter()
            .for_each(|member| send(member, Signal::KILL));
        _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// To a process that may have ended by itself.
fn send(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let Some(process) = process {
        _ = kill_process(process, signal);
    }
}

/// The folders of a process's threads.
fn tasks(process: u32) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(format!("/proc/{process}/task"));
    folder
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}
