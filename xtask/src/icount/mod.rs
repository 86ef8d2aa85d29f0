//! `cargo xtask icount`: instructions a request, the kernel's included, in an emulated machine.
//!
//! The count is the same on every run and every host, to about one in a thousand, so that it shows
//! what a change costs where time shows only noise. It sees neither caches nor the price of
//! entering the kernel, and it counts a copy far too dear: `bench-serve` and `bench-proxy` are for
//! those.

mod choice;
pub(crate) mod guard;

use crate::build::Programs;
use crate::contestants::{BODIES, Contestant, Driver};
use crate::guest::{self, Archive};
use crate::process::find;
use crate::skip::skip;
use anyhow::{Context, Result, bail};
use choice::Choice;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Count the instructions, kernel included, that servers execute for a request
///
/// The contestants run in QEMU with a clock that counts instructions, one CPU and wrk as the load.
/// The first one is the yardstick of the others.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Who runs: yardstick, hello, ringway, nginx; with --proxy: yardstick, ringway, nginx, haproxy.
    /// Where none is named, all that are built here
    #[arg(value_name = "CONTESTANT",
        value_parser = ["yardstick", "hello", "ringway", "nginx", "haproxy"])]
    contestants: Vec<String>,

    /// Compare the hot paths with the table in xtask/icount-ratios.txt, and fail where one costs more
    #[arg(long, exclusive = true)]
    check: bool,

    /// Write that table anew
    #[arg(long, exclusive = true)]
    update: bool,

    /// Instead of serving: pass requests on to the serving yardstick, on port 9000
    #[arg(long)]
    proxy: bool,

    /// The driver of hello and ringway
    #[arg(long, value_enum, default_value = "both")]
    driver: Driver,

    /// Another server, for example --measure old='/tmp/old serve /srv --listen 127.0.0.1:90' 90/a
    #[arg(long, num_args = 2, value_names = ["NAME=COMMAND", "PORT/PATH"])]
    measure: Vec<String>,

    /// A file or folder that such a command needs in the guest, under the same path
    #[arg(long, value_name = "PATH")]
    include: Vec<PathBuf>,

    /// Connections that wrk keeps open
    #[arg(long, default_value_t = CONNECTIONS)]
    connections: u32,

    /// Seconds of the guest's time for each run; one takes about ten
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,

    /// Runs of each contestant
    #[arg(long, default_value_t = REPEATS)]
    repeats: u32,

    /// Memory of the guest in MiB
    #[arg(long, default_value_t = MEMORY_MIB)]
    memory: u32,

    /// Give up after this many seconds; unless given, enough for what is asked on a busy machine
    #[arg(long)]
    timeout: Option<u64>,
}

/// Where the site is in the guest.
const SITE: &str = "/srv/site";
const FIRST_PORT: u16 = 8001;
const CONNECTIONS: u32 = 32;
const SECONDS: u32 = 1;
const REPEATS: u32 = 1;
const MEMORY_MIB: u32 = 2048;
/// Where the server is that proxies ask.
const UPSTREAM_PORT: u16 = 9000;

impl Options {
    /// What runs where nothing but the contestants is said.
    fn of(contestants: &[&str], proxy: bool) -> Options {
        Options {
            contestants: contestants.iter().map(|&name| name.to_owned()).collect(),
            check: false,
            update: false,
            proxy,
            driver: Driver::Both,
            measure: Vec::new(),
            include: Vec::new(),
            connections: CONNECTIONS,
            seconds: SECONDS,
            repeats: REPEATS,
            memory: MEMORY_MIB,
            timeout: None,
        }
    }
}

/// Measures, prints the table, and fails when a contestant answered nothing.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check || options.update {
        return guard::run(options.update);
    }
    let kernel = match guest::requirements(&["wrk"]) {
        Ok(kernel) => kernel,
        Err(reason) => {
            skip("icount", &format!("{reason:#}"));
            println!("1 skipped");
            return Ok(());
        }
    };
    let measured = measure(options, &Programs::build()?, &kernel)?;
    measured.results.print(&measured.names);
    if measured.skipped > 0 {
        println!("{} skipped", measured.skipped);
    }
    measured.require_all()
}

/// What came of a guest.
struct Measured {
    /// Of the contestants, in the order in which they ran.
    names: Vec<String>,
    results: Results,
    /// How many that were asked for could not be found.
    skipped: usize,
}

/// Runs the contestants that the options name in a guest of their own.
fn measure(options: &Options, programs: &Programs, kernel: &Path) -> Result<Measured> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let choice = Choice::of(options, programs, scratch.path())?;
    let (contestants, skipped) = (choice.contestants, choice.skipped);
    let archive = archive(options, programs, &contestants, scratch.path())?;
    let runs = contestants.len() as u64 * u64::from(options.repeats + 1);
    let enough = 120 + runs * 60 * u64::from(options.seconds);
    let deadline = Duration::from_secs(options.timeout.unwrap_or(enough));

    let mut results = Results::default();
    guest::boot(kernel, &archive, options.memory, deadline, |line| {
        results.add(line)
    })?;
    Ok(Measured {
        names: contestants.into_iter().map(|one| one.name).collect(),
        results,
        skipped,
    })
}

impl Measured {
    /// Fails when a contestant answered nothing, or never had its turn.
    fn require_all(&self) -> Result<()> {
        if !self.results.ended {
            bail!("the guest did not get through its contestants");
        }
        let is_silent = |name: &&String| self.results.count(name).is_none();
        let silent = self.names.iter().filter(is_silent).count();
        if silent > 0 {
            let all = self.names.len();
            bail!("{silent} of {all} contestants answered no request");
        }
        Ok(())
    }
}

/// Everything that the guest needs, with the script that runs it.
fn archive(
    options: &Options,
    programs: &Programs,
    contestants: &[Contestant],
    scratch: &Path,
) -> Result<Archive> {
    let mut archive = Archive::with_init(include_bytes!("init.sh"))?;
    let wrk = find("wrk").context("wrk is not installed")?;
    archive.copy(&wrk)?;
    archive.file(
        &Path::new(SITE).join(BODIES[0].file),
        &vec![b'.'; BODIES[0].bytes],
    );
    archive.copy(scratch)?;
    for path in &options.include {
        archive.copy(&std::path::absolute(path)?)?;
    }
    let mut script = String::new();
    if options.proxy {
        let server = programs.yardstick("yardstick_epoll");
        archive.copy(&server)?;
        let (server, bytes) = (server.display().to_string(), BODIES[0].bytes);
        script += &format!("upstream {} {UPSTREAM_PORT} {bytes}\n", quote(&server));
    }
    for one in contestants {
        archive.copy(one.program())?;
        let words = [one.name.clone(), one.port.to_string(), one.path.clone()];
        let command = one
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words
            .into_iter()
            .chain(command)
            .map(|word| quote(&word))
            .collect();
        script += &format!("contestant {}\n", words.join(" "));
    }
    archive.file(Path::new("/contestants"), script.as_bytes());
    let Options {
        connections,
        seconds,
        repeats,
        ..
    } = options;
    let parameters = format!("connections={connections}\nseconds={seconds}\nrepeats={repeats}\n");
    archive.file(Path::new("/parameters"), parameters.as_bytes());
    Ok(archive)
}

/// As one word of the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What the guest printed.
#[derive(Default)]
struct Results {
    /// Name, and instructions a request.
    runs: Vec<(String, f64)>,
    ended: bool,
}

impl Results {
    fn add(&mut self, line: &str) {
        // What the firmware prints last does not end its line.
        let mut words = line[line.find('@').unwrap_or(line.len())..].split_whitespace();
        match (words.next(), words.next()) {
            (Some("@count"), Some(name)) => {
                let mut number = || words.next()?.parse::<f64>().ok();
                if let (Some(spent), Some(requests)) = (number(), number()) {
                    eprintln!("{name}: {:.0}", spent / requests);
                    self.runs.push((name.to_owned(), spent / requests));
                }
            }
            (Some("@trouble"), Some(name)) => {
                eprintln!("{name}: {}", words.collect::<Vec<_>>().join(" "));
            }
            (Some("@end"), None) => self.ended = true,
            _ => {}
        }
    }

    /// The mean over a contestant's runs.
    fn count(&self, name: &str) -> Option<f64> {
        let runs = self.of(name);
        (!runs.is_empty()).then(|| runs.iter().sum::<f64>() / runs.len() as f64)
    }

    fn of(&self, name: &str) -> Vec<f64> {
        self.runs
            .iter()
            .filter(|(of, _)| of == name)
            .map(|(_, count)| *count)
            .collect()
    }

    fn print(&self, names: &[String]) {
        let yardstick = names.first().and_then(|name| self.count(name));
        println!(
            "{:24}{:>14}{:>9}{:>9}",
            "", "instructions", "ratio", "spread"
        );
        for name in names {
            let Some(count) = self.count(name) else {
                println!("{name:24}{:>14}", "-");
                continue;
            };
            let runs = self.of(name);
            let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
            let most = runs.iter().copied().fold(0.0, f64::max);
            let ratio = yardstick.map_or_else(|| "-".to_owned(), |of| format!("{:.3}", count / of));
            let spread = (most - least) / count;
            println!("{name:24}{count:>14.0}{ratio:>9}{spread:>9.4}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, quote};

    #[test]
    fn results_are_read_from_the_console() {
        let mut results = Results::default();
        for line in [
            "[ 0.1] boot",
            "@count a 3000 2",
            "@count a 5000 2",
            "@trouble a x",
            "@end",
        ] {
            results.add(line);
        }
        assert_eq!(results.count("a"), Some(2000.0));
        assert_eq!(results.count("b"), None);
        assert!(results.ended);
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
