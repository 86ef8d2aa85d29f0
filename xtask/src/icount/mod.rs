//! `cargo xtask icount`: instructions a request, the kernel's included, in an emulated machine.
//!
//! The count is the same on every run and every host, to about one in a thousand, so that it shows
//! what a change costs where time shows only noise. It sees neither caches nor the price of
//! entering the kernel, and it counts a copy far too dear: `bench-serve` is for those.

use crate::build::Programs;
use crate::contestants::{BODIES, Contestant, Driver, nginx, ringway};
use crate::guest::{self, Archive};
use crate::process::find;
use crate::skip::skip;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Count the instructions, kernel included, that servers execute for a request
///
/// The contestants run in QEMU with a clock that counts instructions, one CPU and wrk as the load.
/// The first one is the yardstick of the others.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Who runs: yardstick, hello, ringway, nginx; all but nginx when none is named
    #[arg(value_name = "CONTESTANT", value_parser = ["yardstick", "hello", "ringway", "nginx"])]
    contestants: Vec<String>,

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
    #[arg(long, default_value_t = 32)]
    connections: u32,

    /// Seconds of the guest's time for each run; one takes about ten
    #[arg(long, default_value_t = 1)]
    seconds: u32,

    /// Runs of each contestant
    #[arg(long, default_value_t = 1)]
    repeats: u32,

    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,

    /// Give up after this many seconds; unless given, enough for what is asked on a busy machine
    #[arg(long)]
    timeout: Option<u64>,
}

/// Where the site is in the guest.
const SITE: &str = "/srv/site";
const FIRST_PORT: u16 = 8001;

/// Measures, prints the table, and fails when a contestant answered nothing.
pub(crate) fn run(options: &Options) -> Result<()> {
    let kernel = match guest::requirements(&["wrk"]) {
        Ok(kernel) => kernel,
        Err(reason) => {
            skip("icount", &format!("{reason:#}"));
            println!("1 skipped");
            return Ok(());
        }
    };
    let programs = Programs::build()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (contestants, skipped) = choose(options, &programs, scratch.path())?;
    if contestants.is_empty() {
        bail!("no contestant is left");
    }
    let archive = archive(options, &contestants, scratch.path())?;
    let runs = contestants.len() as u64 * u64::from(options.repeats + 1);
    let enough = 120 + runs * 60 * u64::from(options.seconds);
    let deadline = Duration::from_secs(options.timeout.unwrap_or(enough));

    let mut results = Results::default();
    guest::boot(&kernel, &archive, options.memory, deadline, |line| {
        results.add(line)
    })?;
    results.print(&contestants);
    if skipped > 0 {
        println!("{skipped} skipped");
    }
    if !results.ended {
        bail!("the guest did not get through its contestants");
    }
    let silent = contestants
        .iter()
        .filter(|one| results.count(&one.name).is_none())
        .count();
    if silent > 0 {
        bail!(
            "{silent} of {} contestants answered no request",
            contestants.len()
        );
    }
    Ok(())
}

/// The contestants, and how many that were asked for could not be found.
fn choose(
    options: &Options,
    programs: &Programs,
    scratch: &Path,
) -> Result<(Vec<Contestant>, usize)> {
    let body = BODIES[0];
    let mut ports = FIRST_PORT..;
    let mut port = move || ports.next().expect("there are ports enough");
    let by_name = |name: &str| options.contestants.iter().any(|chosen| chosen == name);
    let by_default = options.contestants.is_empty();
    let mut chosen = Vec::new();
    let mut skipped = 0;
    let mut absent = |name: &str, reason: &str| {
        skip(&format!("icount {name}"), reason);
        skipped += 1;
    };
    if by_default || by_name("yardstick") {
        for driver in ["uring", "epoll"] {
            let program = programs.yardstick(&format!("yardstick_{driver}"));
            let port = port();
            let name = format!("yardstick-{driver}");
            let one = Contestant::new(&name, &program, port, "");
            chosen.push(
                one.argument(port.to_string())
                    .argument(body.bytes.to_string()),
            );
        }
    }
    for driver in options.driver.names() {
        if !by_default && !by_name("hello") {
            continue;
        }
        let Some(program) = programs.hello() else {
            absent(
                &format!("hello-{driver}"),
                "the runtime has no example hello_http",
            );
            continue;
        };
        let port = port();
        let one = Contestant::new(&format!("hello-{driver}"), &program, port, "");
        let address = format!("127.0.0.1:{port}");
        chosen.push(
            one.argument("--listen")
                .argument(address)
                .argument("--io")
                .argument(*driver),
        );
    }
    for driver in options.driver.names() {
        if !by_default && !by_name("ringway") {
            continue;
        }
        match ringway(programs, driver, Path::new(SITE), port(), body.file) {
            Some(one) => chosen.push(one),
            None => absent(&format!("ringway-{driver}"), "the program cannot serve yet"),
        }
    }
    if by_name("nginx") {
        match nginx(scratch, Path::new(SITE), port(), body.file, 1024)? {
            Some(one) => chosen.push(one),
            None => absent("nginx", "nginx is not installed"),
        }
    }
    for pair in options.measure.chunks(2) {
        chosen.push(parse_measure(pair)?);
    }
    Ok((chosen, skipped))
}

/// `NAME=COMMAND` and `PORT` or `PORT/PATH`.
fn parse_measure(pair: &[String]) -> Result<Contestant> {
    let [what, target] = pair else {
        bail!("--measure takes NAME=COMMAND and PORT/PATH")
    };
    let (name, command) = what
        .split_once('=')
        .context("--measure: NAME=COMMAND expected")?;
    let (port, path) = target.split_once('/').unwrap_or((target, ""));
    let port = port
        .parse()
        .with_context(|| format!("--measure: {port} is no port"))?;
    let mut words = command.split_whitespace();
    let program = words.next().context("--measure: the command is empty")?;
    let program = find(program).with_context(|| format!("--measure: no program {program}"))?;
    let one = Contestant::new(name, &program, port, path);
    Ok(words.fold(one, |one, word| one.argument(word)))
}

/// Everything that the guest needs, with the script that runs it.
fn archive(options: &Options, contestants: &[Contestant], scratch: &Path) -> Result<Archive> {
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

    fn print(&self, contestants: &[Contestant]) {
        let yardstick = contestants.first().and_then(|one| self.count(&one.name));
        println!(
            "{:24}{:>14}{:>9}{:>9}",
            "", "instructions", "ratio", "spread"
        );
        for one in contestants {
            let Some(count) = self.count(&one.name) else {
                println!("{:24}{:>14}", one.name, "-");
                continue;
            };
            let runs = self.of(&one.name);
            let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
            let most = runs.iter().copied().fold(0.0, f64::max);
            let ratio = yardstick.map_or_else(|| "-".to_owned(), |of| format!("{:.3}", count / of));
            let spread = (most - least) / count;
            println!("{:24}{count:>14.0}{ratio:>9}{spread:>9.4}", one.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, parse_measure, quote};

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
    fn a_contestant_of_ones_own_is_read() {
        let pair = ["x=sh -c true".to_owned(), "80/a/b".to_owned()];
        let one = parse_measure(&pair).expect("valid");
        assert_eq!(
            (one.name.as_str(), one.port, one.path.as_str()),
            ("x", 80, "a/b")
        );
        assert_eq!(one.command[1..], ["-c", "true"]);
        assert!(parse_measure(&["x".to_owned(), "80".to_owned()]).is_err());
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
