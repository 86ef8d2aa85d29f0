//! Where and how everything is measured: CPUs, network, files, and how long a run takes.
//!
//! The thread that makes a [`Setting`] is the one that measures: it enters the network namespace,
//! and the servers end with it.

use crate::comparison::Comparison;
use crate::report::{Report, counted};
use crate::statistics::Spread;
use ringway_kernel::namespace;
use ringway_runtime::{cpu, process};
use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Free space that a disk keeps: files that fill it would hurt others.
const SPARE_BYTES: u64 = 64 << 20;
/// What is written at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// Descriptors that are asked for: as many as a million connections need at one end.
const DESCRIPTORS: u64 = 1_010_000;
/// As many threads as put load on a server at most: four are more than a server with half of the CPUs
/// keeps up with.
const LOAD_THREADS: usize = 4;

/// Why something wasn't measured.
#[derive(Debug)]
pub enum Trouble {
    /// Whoever runs it wanted it to end.
    Interrupted,
    /// It went wrong, in words.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Interrupted => out.write_str("interrupted"),
            Trouble::Failed(why) => out.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Failed(error.to_string())
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Rounds over all contestants.
    pub rounds: u32,
    /// Rounds of the first against itself.
    pub noise_rounds: u32,
    /// How long a run is measured.
    pub measured: Duration,
    /// How long it runs before that.
    pub warm_up: Duration,
    /// How often a run that was disturbed is tried, at least once.
    pub tries: u32,
}

impl Lengths {
    /// For figures to rely on.
    pub const FULL: Lengths = Lengths {
        rounds: 6,
        noise_rounds: 3,
        measured: Duration::from_secs(3),
        warm_up: Duration::from_millis(500),
        tries: 3,
    };
    /// For an impression of everything in two minutes.
    pub const QUICK: Lengths = Lengths {
        rounds: 2,
        noise_rounds: 1,
        measured: Duration::from_millis(300),
        warm_up: Duration::from_millis(100),
        tries: 2,
    };
    /// For tests of everything but the figures.
    pub const TINY: Lengths = Lengths {
        rounds: 1,
        noise_rounds: 1,
        measured: Duration::from_millis(20),
        warm_up: Duration::from_millis(1),
        tries: 1,
    };

    /// The same with so many rounds.
    pub fn with_rounds(self, rounds: u32) -> Lengths {
        Lengths {
            rounds,
            noise_rounds: rounds.div_ceil(2),
            ..self
        }
    }

    /// The same with so long a run, and a warm-up that is a part of it.
    pub fn with_measured(self, measured: Duration) -> Lengths {
        Lengths {
            measured,
            warm_up: (measured / 5).min(self.warm_up),
            ..self
        }
    }
}

/// What is told while it runs.
#[derive(Clone, Debug)]
pub enum Step {
    /// A scenario begins: its title, its place, and how many there are.
    Scenario(String, usize, usize),
    /// What is measured now.
    Doing(String),
    /// How much the first contestant differs from itself.
    Noise(Spread),
    /// Something to know.
    Note(String),
}

/// What is asked for.
pub struct Options {
    /// This program, which is started as the server.
    pub program: PathBuf,
    /// Where files are made; the system's temporary folder without it.
    pub scratch: Option<PathBuf>,
    /// Whether the smaller sets of everything are measured.
    pub is_quick: bool,
    /// The peers that are to be measured, by their names; none for all.
    pub peers: Vec<String>,
    /// How long things take.
    pub lengths: Lengths,
    /// What an earlier run found: its outcomes stay beside those of this one.
    pub earlier: Option<Report>,
    /// Set to end early.
    pub stop: Arc<AtomicBool>,
    /// Told of each step.
    pub watch: Box<dyn Fn(Step) + Send>,
}

/// Where everything is measured.
pub struct Setting {
    options: Options,
    folder: tempfile::TempDir,
    /// The CPUs that servers run on.
    pub server_cpus: Vec<usize>,
    /// The CPUs of the load, and of servers behind a proxy.
    pub load_cpus: Vec<usize>,
    /// How many descriptors a process may have.
    pub descriptor_limit: u64,
    /// What was done, for the report: a sentence each.
    pub method: Vec<String>,
    /// What the scenario has measured so far, should it not come to its end.
    kept: RefCell<Vec<Comparison>>,
    /// Where servers may listen, as far as they aren't yet given to one.
    ports: RefCell<Range<u16>>,
}

impl Setting {
    /// Prepares the calling thread.
    ///
    /// # Errors
    /// Without a folder to write into. Everything else that isn't to be had is told in `method`.
    pub fn prepare(options: Options) -> Result<Setting, Trouble> {
        let place = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("ringway-bench-")
            .tempdir_in(&place);
        let folder = folder.map_err(|error| {
            Trouble::Failed(format!(
                "no folder can be made in {}: {error}",
                place.display()
            ))
        })?;
        fs::create_dir(folder.path().join("site"))?;
        let mut method = vec![network()];
        let (server_cpus, load_cpus, placed) = place_on(&cpu::allowed()?);
        method.push(placed);
        cpu::keep_current_thread_on(&load_cpus)?;
        let descriptor_limit = process::raise_descriptor_limit_to(DESCRIPTORS)?;
        method.push(format!("a process may have {descriptor_limit} descriptors"));
        let Lengths {
            rounds,
            measured,
            warm_up,
            ..
        } = options.lengths;
        let rounds = counted(rounds as usize, "round");
        method.push(format!(
            "{rounds} of {measured:?} for each contestant after a warm-up of {warm_up:?}, in turns A B C, C B A; ratios \
             are to the first one's run of the same round"
        ));
        Ok(Setting {
            options,
            folder,
            server_cpus,
            load_cpus,
            descriptor_limit,
            method,
            kept: RefCell::default(),
            ports: RefCell::new(ports_for_servers()),
        })
    }

    /// This program.
    pub fn program(&self) -> &Path {
        &self.options.program
    }

    /// How long things take.
    pub fn lengths(&self) -> Lengths {
        self.options.lengths
    }

    /// Whether the smaller sets of everything are measured.
    pub fn is_quick(&self) -> bool {
        self.options.is_quick
    }

    /// Whether this peer is to be measured.
    pub fn wants_peer(&self, name: &str) -> bool {
        self.options.peers.is_empty() || self.options.peers.iter().any(|peer| peer == name)
    }

    /// Threads of the load, for so many connections.
    pub fn load_threads(&self, connections: usize) -> usize {
        self.load_cpus
            .len()
            .min(LOAD_THREADS)
            .min(connections)
            .max(1)
    }

    /// Tells of a step.
    pub fn tell(&self, step: Step) {
        (self.options.watch)(step);
    }

    /// Goes on, or not.
    ///
    /// # Errors
    /// [`Trouble::Interrupted`] when it is to end.
    pub fn go_on(&self) -> Result<(), Trouble> {
        match self.options.stop.load(Ordering::Relaxed) {
            true => Err(Trouble::Interrupted),
            false => Ok(()),
        }
    }

    /// Keeps what was measured, should the scenario not come to its end.
    pub fn keep(&self, comparison: &Comparison) {
        self.kept.borrow_mut().push(comparison.clone());
    }

    /// What was kept since the last call.
    pub fn take_kept(&self) -> Vec<Comparison> {
        self.kept.take()
    }

    /// The folder that is served.
    pub fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// A path for something to write, outside of what is served.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of `bytes` bytes in the folder that is served.
    ///
    /// # Errors
    /// When the disk hasn't the room.
    pub fn file(&self, name: &str, bytes: u64) -> Result<PathBuf, Trouble> {
        let path = self.site().join(name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes) {
            return Ok(path);
        }
        let folder = self.folder.path();
        check_room(bytes, free_bytes(folder)?, folder)?;
        let written = write_file(&path, bytes);
        written.map_err(|error| Trouble::Failed(format!("{}: {error}", path.display())))?;
        Ok(path)
    }

    /// A port of loopback that nothing listens on, and that was not given before.
    ///
    /// It is none that the kernel gives to connections: one of the load's might have it, or have had it
    /// a minute ago, when the server starts.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn free_port(&self) -> io::Result<u16> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let mut ports = self.ports.borrow_mut();
        match ports.find(is_free) {
            Some(port) => Ok(port),
            // The kernel has all ports to give.
            None => Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()?
                .port()),
        }
    }
}

/// Refuses a file that would fill the disk.
fn check_room(bytes: u64, free: u64, folder: &Path) -> Result<(), Trouble> {
    if bytes.saturating_add(SPARE_BYTES) <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(Trouble::Failed(format!(
        "a file of {} MiB is needed, and {} has {} MiB free: name another folder with --scratch",
        mib(bytes),
        folder.display(),
        mib(free)
    )))
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

fn write_file(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let block = vec![b'.'; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(BLOCK_BYTES as u64);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    // What is still to be written to the disk would be, while something is measured.
    file.sync_all()
}

/// A network of one's own, if that can be had; what it came to.
fn network() -> String {
    if let Err(error) = namespace::enter_network() {
        return format!(
            "on the host's loopback, with its settings and beside its traffic: {error}"
        );
    }
    // BBR, which a host may have chosen, paces even on loopback and so measures its own timers. A
    // namespace may only choose what the host's tcp_allowed_congestion_control lists.
    let control = "/proc/sys/net/ipv4/tcp_congestion_control";
    let chosen = ["cubic", "reno"]
        .into_iter()
        .find(|name| fs::write(control, name).is_ok());
    match chosen {
        Some(name) => format!("in a network namespace of its own, with {name}"),
        None => "in a network namespace of its own, with the host's congestion control".to_owned(),
    }
}

/// Ports below those that the kernel gives to connections (`ip_local_port_range`, Linux' own choice if
/// it can't be read), but for those that belong to well-known services.
fn ports_for_servers() -> Range<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next();
    let first = first.and_then(|word| word.parse().ok()).unwrap_or(32_768);
    (first / 2).max(1024)..first
}

/// The server's CPUs, the load's, and how to say so. Half of them each: nothing is gained from a load
/// that disturbs what it measures.
fn place_on(allowed: &[usize]) -> (Vec<usize>, Vec<usize>, String) {
    if let [only] = allowed {
        let note = format!("server and load share CPU {only}: expect much noise");
        return (vec![*only], vec![*only], note);
    }
    let (server, load) = allowed.split_at(allowed.len() / 2);
    let note = format!(
        "servers on CPU {}, the load on CPU {}",
        list(server),
        list(load)
    );
    (server.to_vec(), load.to_vec(), note)
}

fn list(cpus: &[usize]) -> String {
    let words: Vec<String> = cpus.iter().map(usize::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(scratch: Option<PathBuf>) -> Result<Setting, Trouble> {
        let options = Options {
            program: "ringway".into(),
            scratch,
            is_quick: true,
            peers: Vec::new(),
            lengths: Lengths::TINY,
            earlier: None,
            stop: Arc::default(),
            watch: Box::new(|_| {}),
        };
        // The thread changes its network and CPUs: one of its own.
        std::thread::spawn(|| Setting::prepare(options))
            .join()
            .unwrap()
    }

    #[test]
    fn lengths_can_be_chosen_one_by_one() {
        let lengths = Lengths::FULL.with_rounds(5);
        assert_eq!((lengths.rounds, lengths.noise_rounds), (5, 3));
        let lengths = Lengths::FULL.with_measured(Duration::from_secs(1));
        assert_eq!(lengths.warm_up, Duration::from_millis(200));
        let long = Lengths::FULL.with_measured(Duration::from_secs(30));
        assert_eq!(long.warm_up, Lengths::FULL.warm_up);
        assert_eq!((long.rounds, long.tries), (6, 3));
    }

    #[test]
    fn servers_get_ports_that_no_connection_is_given() {
        let setting = setting(None).unwrap();
        let ports = ports_for_servers();
        let (first, second) = (setting.free_port().unwrap(), setting.free_port().unwrap());
        assert!(ports.contains(&first) && ports.contains(&second) && first != second);
        // Where there is none left, any will do.
        setting.ports.replace(0..0);
        assert_ne!(setting.free_port().unwrap(), 0);
    }

    #[test]
    fn a_file_is_made_once_and_goes_with_the_setting() {
        let setting = setting(None).unwrap();
        let path = setting.file("a", (1 << 20) + 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), (1 << 20) + 1);
        let made = fs::metadata(&path).unwrap().modified().unwrap();
        setting.file("a", (1 << 20) + 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made);
        drop(setting);
        assert!(!path.exists());
    }

    #[test]
    fn a_disk_that_is_too_small_is_named_with_what_is_needed() {
        let text = match setting(None).unwrap().file("a", u64::MAX) {
            Err(trouble) => trouble.to_string(),
            Ok(_) => panic!("there is no such disk"),
        };
        assert!(text.contains("MiB is needed"), "{text}");
        assert!(text.contains("--scratch"), "{text}");
        let room = |free| check_room(100 << 20, free, Path::new("/tmp"));
        assert!(room(164 << 20).is_ok());
        assert!(room((164 << 20) - 1).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let trouble = setting(Some("/no/such/folder".into())).err().unwrap();
        let text = trouble.to_string();
        assert!(
            text.starts_with("no folder can be made in /no/such/folder: "),
            "{text}"
        );
    }

    #[test]
    fn cpus_are_halved() {
        let check = |allowed: &[usize], server: &[usize], load: &[usize]| {
            let placed = place_on(allowed);
            assert_eq!((&placed.0[..], &placed.1[..]), (server, load));
        };
        check(&[3], &[3], &[3]);
        check(&[0, 1], &[0], &[1]);
        check(&[0, 2, 4, 6, 8], &[0, 2], &[4, 6, 8]);
    }

    #[test]
    fn what_is_to_end_does() {
        let setting = setting(None).unwrap();
        assert!(setting.go_on().is_ok());
        setting.options.stop.store(true, Ordering::Relaxed);
        assert!(matches!(setting.go_on(), Err(Trouble::Interrupted)));
    }
}
