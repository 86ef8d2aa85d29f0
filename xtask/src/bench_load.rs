//! `cargo xtask bench-load`: whether `ringway bench load` counts what wrk and h2load count of the same
//! server, and what it takes itself.
//!
//! The three run in turns, with a thread of their own on one CPU and the server on another. None warms
//! up within its run, so that all that the server used belongs to the requests that are told.

use crate::build::Programs;
use crate::contestants::{BODIES, Body, ringway};
use crate::own_network;
use crate::process::{Server, allowed_cpus, find, free_port, on_cpu};
use crate::rounds::Spread;
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

/// Compare `ringway bench load` with wrk and h2load on the same server
///
/// Prints, for each, requests a second, the server's CPU time for a request, and its own.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds over all three
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Seconds of each run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// Connections that each keeps open
    #[arg(long, default_value_t = 64)]
    connections: u32,

    /// The file's size
    #[arg(long, default_value = "1k", value_parser = ["1k", "100k"])]
    body: String,
}

/// The load generators, in the order of the table; the first one is what the others are compared with.
const GENERATORS: [Generator; 3] = [
    Generator {
        name: "wrk",
        parse: parse_wrk,
    },
    Generator {
        name: "h2load",
        parse: parse_h2load,
    },
    Generator {
        name: "ringway",
        parse: parse_ringway,
    },
];

struct Generator {
    name: &'static str,
    /// Answers, and answers a second, of what it prints.
    parse: fn(&str) -> Option<(u64, f64)>,
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    requests_per_second: f64,
    /// CPU time for a request, in µs.
    server: f64,
    own: f64,
}

/// Builds, enters a network namespace and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(why) = own_network::obstacle(&["wrk", "h2load", "taskset", "setpriv"])? {
        skip("bench-load", &why);
        println!("1 skipped");
        return Ok(());
    }
    Programs::build()?;
    own_network::enter();
    let body = BODIES.into_iter().find(|body| body.name == options.body);
    measure(options, body.context("no such size")?)
}

fn measure(options: &Options, body: Body) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    body.write(scratch.path())?;
    let programs = Programs::built()?;
    let port = free_port()?;
    let server = ringway(&programs, "uring", scratch.path(), port, body.file);
    let server = server.context("the program cannot serve")?;
    let cpus = allowed_cpus()?;
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let log = scratch.path().join("server.log");
    let server = Server::start(&server.command, port, first, &log)?;
    let url = format!("http://127.0.0.1:{port}/{}", body.file);
    println!(
        "{}: {} rounds of {} s, {} connections",
        body.name, options.rounds, options.seconds, options.connections
    );
    let mut runs = [const { Vec::new() }; GENERATORS.len()];
    // The first round fills caches.
    for round in 0..=options.rounds {
        for (one, runs) in GENERATORS.iter().zip(&mut runs) {
            let command = command(one, &programs, options, &url)?;
            let run = measure_once(one, &command, &server, last);
            let run = run.with_context(|| one.name.to_owned())?;
            if round > 0 {
                runs.push(run);
            }
        }
    }
    server.stop()?;
    print(&runs);
    Ok(())
}

fn command(
    one: &Generator,
    programs: &Programs,
    options: &Options,
    url: &str,
) -> Result<Vec<OsString>> {
    let (connections, seconds) = (options.connections.to_string(), options.seconds.to_string());
    let words: Vec<String> = match one.name {
        "wrk" => format!("--threads 1 --connections {connections} --duration {seconds}s"),
        "h2load" => format!("--h1 --threads 1 --clients {connections} --duration {seconds}"),
        _ => format!(
            "bench load --threads 1 --connections {connections} --duration {seconds}s --warm-up 0s --json"
        ),
    }
    .split(' ')
    .map(str::to_owned)
    .collect();
    let program = match one.name {
        "ringway" => programs.ringway().context("the program is not built")?,
        other => find(other).with_context(|| format!("{other} is not installed"))?,
    };
    let arguments = words.into_iter().map(OsString::from);
    let all = std::iter::once(program.into()).chain(arguments);
    Ok(all.chain([url.into()]).collect())
}

fn measure_once(one: &Generator, command: &[OsString], server: &Server, cpu: usize) -> Result<Run> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let before = (server.run_time(), children_time()?);
    let output = on_cpu(cpu, program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run it")?;
    let own = children_time()? - before.1;
    let spent = server.run_time().saturating_sub(before.0).as_secs_f64();
    let text = String::from_utf8_lossy(&output.stdout);
    let Some((requests, requests_per_second)) = (one.parse)(&text) else {
        bail!("it said: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    ensure!(requests > 0, "no request was answered: {text}");
    Ok(Run {
        requests_per_second,
        server: spent * 1e6 / requests as f64,
        own: own * 1e6 / requests as f64,
    })
}

/// CPU time of every child that has ended, in seconds: proc_pid_stat(5), `cutime` and `cstime`, whose
/// ticks are a three-hundredth of a run.
fn children_time() -> Result<f64> {
    let text = std::fs::read_to_string(Path::new("/proc/self/stat")).context("/proc/self/stat")?;
    let ticks = children_ticks(&text).context("/proc/self/stat has no times")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn children_ticks(text: &str) -> Option<u64> {
    // The second field is a name in brackets, which may have spaces.
    let (_, fields) = text.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(13).take(2);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

fn parse_wrk(text: &str) -> Option<(u64, f64)> {
    let mut lines = text.lines();
    let requests = lines.find_map(|line| line.trim().split_once(" requests in "))?;
    let rate = lines.find_map(|line| line.strip_prefix("Requests/sec:"))?;
    Some((requests.0.parse().ok()?, rate.trim().parse().ok()?))
}

fn parse_h2load(text: &str) -> Option<(u64, f64)> {
    let finished = text.lines().find(|line| line.starts_with("finished in "))?;
    let rate = finished.split(", ").nth(1)?.strip_suffix(" req/s")?;
    let requests = text.lines().find(|line| line.starts_with("requests: "))?;
    let done = requests
        .split(", ")
        .find_map(|part| part.strip_suffix(" succeeded"))?;
    Some((done.parse().ok()?, rate.parse().ok()?))
}

fn parse_ringway(text: &str) -> Option<(u64, f64)> {
    let report: serde_json::Value = serde_json::from_str(text).ok()?;
    Some((
        report["answers"].as_u64()?,
        report["answers_per_second"].as_f64()?,
    ))
}

fn print(runs: &[Vec<Run>]) {
    println!(
        "{:10}{:>10}{:>9}{:>9}{:>8}{:>14}{:>8}{:>12}{:>8}",
        "", "req/s", "min", "max", "ratio", "server us/req", "ratio", "own us/req", "ratio"
    );
    let spread = |runs: &[Run], of: fn(&Run) -> f64| Spread::of(runs.iter().map(of).collect());
    let ratio = |own: &[Run], of: fn(&Run) -> f64| {
        let pairs = own.iter().zip(&runs[0]);
        Spread::of(pairs.map(|(run, base)| of(run) / of(base)).collect()).median
    };
    let columns: [fn(&Run) -> f64; 3] = [
        |run| run.requests_per_second,
        |run| run.server,
        |run| run.own,
    ];
    for (one, runs) in GENERATORS.iter().zip(runs) {
        let [rate, server, own] = columns.map(|of| spread(runs, of));
        let [rate_ratio, server_ratio, own_ratio] = columns.map(|of| ratio(runs, of));
        println!(
            "{:10}{:>10.0}{:>9.0}{:>9.0}{rate_ratio:>8.3}{:>14.2}{server_ratio:>8.3}{:>12.2}{own_ratio:>8.3}",
            one.name, rate.median, rate.least, rate.greatest, server.median, own.median
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{children_ticks, parse_h2load, parse_ringway, parse_wrk};

    #[test]
    fn what_each_generator_prints_is_read() {
        let wrk = "Running 1s test\n  1234 requests in 1.00s, 1.50MB read\n\
                   Requests/sec:   1233.25\nTransfer/sec:      1.50MB\n";
        assert_eq!(parse_wrk(wrk), Some((1234, 1233.25)));
        let h2load = "starting benchmark...\n\nfinished in 3.00s, 23456.33 req/s, 27.52MB/s\n\
                      requests: 70400 total, 70433 started, 70369 done, 70369 succeeded, 0 failed\n";
        assert_eq!(parse_h2load(h2load), Some((70369, 23456.33)));
        let ringway = "{\"answers\": 9, \"answers_per_second\": 4.5}";
        assert_eq!(parse_ringway(ringway), Some((9, 4.5)));
        for parse in [parse_wrk, parse_h2load, parse_ringway] {
            assert_eq!(parse("unable to connect"), None);
        }
    }

    #[test]
    fn times_of_children_are_found_behind_any_name() {
        let text = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 130 14 15 16";
        assert_eq!(children_ticks(text), Some(130 + 14));
        assert_eq!(children_ticks("12 (a"), None);
    }
}
