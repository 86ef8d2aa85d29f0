//! `ringway bench load`: its flags, and what they ask of the load generator.

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ringway_bench::load::plan::parse_mix;
use ringway_bench::load::{self, Pace, Plan, Progress, Report, Request, Talk, Target};
use ringway_runtime::{Io, process};
use ringway_server::config::{duration, size};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub(super) const LOAD_EXAMPLES: &str = "\
Examples:
  ringway bench load http://127.0.0.1:8080/
      Ten seconds from 64 connections, each asking again when it was answered.
  ringway bench load http://127.0.0.1:8080/ --rate 5000 -c 200 -d 30s
      5,000 requests a second, whatever the server does: the latency that users would see.
  ringway bench load http://127.0.0.1:8080/ --no-keep-alive
      A connection for each request.
  ringway bench load http://127.0.0.1:8080/ --mix requests.txt --json
      What requests.txt lists (`3x GET /popular`, `HEAD /other`), and the result as JSON.
  ringway bench load tcp://127.0.0.1:7000 --ping-pong 64 -c 1
      64 bytes to a server that sends them back, again and again: the latency of a relay or a TCP proxy.
  ringway bench load tcp://127.0.0.1:7000 --bulk 64KiB
      As many bytes as a server takes, 64 KiB with each send; what it sends back is read over.

A closed loop (without --rate) asks a slow server less, so its percentiles say little: they are the
length of the queue that 64 connections make. For latency, give a rate below the server's peak.";

/// What only HTTP has.
const OF_HTTP: [&str; 6] = ["pipeline", "method", "headers", "body", "body_file", "mix"];

/// Descriptors for everything but the connections: drivers, files, standard streams.
const SPARE_DESCRIPTORS: u64 = 32;

/// As many requests as can be sent together: they are in memory, once for each of a mix.
const PIPELINE_MAX: usize = 1024;

/// How often the progress is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `bench load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Whom to ask, such as http://127.0.0.1:8080/index.html or tcp://127.0.0.1:7000
    url: String,
    /// Without HTTP: send so many bytes, and again when they have come back
    #[arg(long, value_name = "SIZE", value_parser = talk_bytes, conflicts_with_all = OF_HTTP)]
    ping_pong: Option<usize>,
    /// Without HTTP: send without end, so many bytes at a time
    #[arg(long, value_name = "SIZE", value_parser = talk_bytes, conflicts_with_all = OF_HTTP,
        conflicts_with_all = ["ping_pong", "rate", "no_keep_alive"])]
    bulk: Option<usize>,
    /// Connections held open
    #[arg(short, long, default_value_t = 64, value_name = "COUNT", value_parser = count)]
    connections: usize,
    /// Threads that share them
    #[arg(short, long, default_value_t = 1, value_name = "COUNT", value_parser = count)]
    threads: usize,
    /// How long to measure, such as 10s or 500ms
    #[arg(short, long, default_value = "10s", value_parser = some_time)]
    duration: Duration,
    /// How long to run before that, unmeasured
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = duration)]
    warm_up: Duration,
    /// End after so many requests, those of the warm-up not included
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Send so many requests a second by the clock, whatever the server does
    #[arg(short, long, value_name = "PER_SECOND", conflicts_with = "pipeline", value_parser = rate)]
    rate: Option<f64>,
    /// Send so many requests before waiting for their answers
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = pipelined)]
    pipeline: usize,
    /// Open a connection for each request
    #[arg(long, conflicts_with = "pipeline")]
    no_keep_alive: bool,
    /// How long an answer may take
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = some_time)]
    timeout: Duration,
    /// The request's method
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// A header of the request, such as "Accept: text/html"; may be given several times
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    headers: Vec<String>,
    /// The request's body
    #[arg(short, long, conflicts_with = "body_file")]
    body: Option<String>,
    /// A file that is the request's body
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// A file with a method and a path on each line, asked one after the other
    #[arg(long, value_name = "FILE", conflicts_with = "method")]
    mix: Option<PathBuf>,
    /// The driver of the load generator itself
    #[arg(long, value_enum, default_value = "auto")]
    io: Driver,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Driver {
    Auto,
    Uring,
    Epoll,
}

/// `ringway bench load …`
pub(super) fn run(flags: &Load) -> Result<()> {
    let plan = Arc::new(plan(flags)?);
    let progress = Arc::new(Progress::default());
    let signals = process::Signals::block()?;
    {
        // Ctrl-C ends the run, and the report covers what was done.
        let progress = Arc::clone(&progress);
        std::thread::spawn(move || {
            signals.wait();
            progress.stop.store(true, Ordering::Relaxed);
        });
    }
    let wanted = (plan.connections as u64).saturating_add(SPARE_DESCRIPTORS);
    let limit = process::raise_descriptor_limit_to(wanted)?;
    if wanted > limit {
        bail!(
            "{} connections need as many descriptors, and this process may have {limit}: `ulimit -n` or systemd's \
             LimitNOFILE",
            plan.connections
        );
    }
    let runner = {
        let (plan, progress) = (Arc::clone(&plan), Arc::clone(&progress));
        std::thread::spawn(move || load::run(&plan, &progress))
    };
    draw(&plan, &progress, || runner.is_finished());
    let report = match runner.join() {
        Ok(report) => report.context("the load generator could not start")?,
        Err(_) => bail!("the load generator panicked"),
    };
    let is_reached = progress.connects.load(Ordering::Relaxed) > 0;
    if is_reached || flags.json {
        print(&report, flags.json)?;
    }
    match (report.has_anything(), is_reached) {
        (true, _) => Ok(()),
        (false, false) => bail!("{}: {}", plan.target.authority, worst(&report)),
        (false, true) if report.holding == Some(0) => {
            bail!("every connection was broken off: {}", worst(&report))
        }
        (false, true) if flags.bulk.is_some() => bail!("nothing was taken: {}", worst(&report)),
        (false, true) => bail!("no request was answered: {}", worst(&report)),
    }
}

fn worst(report: &Report) -> &'static str {
    let most = report.failures.iter().max_by_key(|(_, count)| *count);
    most.map_or("the run was too short", |(name, _)| *name)
}

fn print(report: &Report, json: bool) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(writeln!(out)?)
}

/// Draws how far a run is until it is over, and ends one that never reached anybody.
fn draw(plan: &Plan, progress: &Progress, is_over: impl Fn() -> bool) {
    let total = plan.warm_up + plan.duration;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(total.as_millis() as u64)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {msg}");
    bar.set_style(style.expect("the template is a constant that is right"));
    let begin = Instant::now();
    while !is_over() {
        std::thread::sleep(DRAW_INTERVAL);
        let elapsed = begin.elapsed();
        bar.set_position(elapsed.as_millis() as u64);
        let answers = progress.answers.load(Ordering::Relaxed);
        let failures = progress.failures.load(Ordering::Relaxed);
        let rate = answers as f64 / elapsed.as_secs_f64();
        bar.set_message(format!(
            "{answers} answers, {rate:.0}/s, {failures} failures"
        ));
        if failures > 0 && progress.connects.load(Ordering::Relaxed) == 0 {
            progress.stop.store(true, Ordering::Relaxed);
        }
    }
    bar.finish_and_clear();
}

fn plan(flags: &Load) -> Result<Plan> {
    let target = Target::parse(&flags.url).with_context(|| flags.url.clone())?;
    let body = match (&flags.body, &flags.body_file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(file)) => std::fs::read(file).with_context(|| file.display().to_string())?,
        (None, None) => Vec::new(),
    };
    let talk = talk(flags, &target)?;
    let keep_alive = !flags.no_keep_alive;
    let requests = match (talk, &flags.mix) {
        (Talk::PingPong(_) | Talk::Bulk(_), _) => talk.requests(),
        (Talk::Http, Some(file)) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| file.display().to_string())?;
            parse_mix(&text, &target, &flags.headers, &body, keep_alive)
                .with_context(|| file.display().to_string())?
        }
        (Talk::Http, None) => vec![Request::new(
            &flags.method,
            &target,
            &target.path,
            &flags.headers,
            &body,
            keep_alive,
        )?],
    };
    Ok(Plan {
        talk,
        requests,
        target,
        connections: flags.connections,
        threads: flags.threads.min(flags.connections),
        pace: flags.rate.map_or(Pace::Closed, Pace::Open),
        pipeline: flags.pipeline,
        keep_alive,
        duration: flags.duration,
        request_count: flags.requests,
        warm_up: flags.warm_up,
        timeout: flags.timeout,
        io: match flags.io {
            Driver::Auto => Io::Auto,
            Driver::Uring => Io::Uring,
            Driver::Epoll => Io::Epoll,
        },
    })
}

/// What the flags say on connections of the target's kind.
fn talk(flags: &Load, target: &Target) -> Result<Talk> {
    match (target.is_tcp, flags.ping_pong, flags.bulk) {
        (false, None, None) => Ok(Talk::Http),
        (true, Some(bytes), None) => Ok(Talk::PingPong(bytes)),
        (true, None, Some(bytes)) => Ok(Talk::Bulk(bytes)),
        (true, ..) => bail!(
            "{}: what is to be said there? --ping-pong SIZE or --bulk SIZE",
            flags.url
        ),
        (false, ..) => bail!(
            "{}: --ping-pong and --bulk are for tcp://{}",
            flags.url,
            target.authority
        ),
    }
}

/// So many of something that there has to be.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>();
    let number = number.map_err(|_| format!("{text:?} isn't a count, such as 64"))?;
    let out_of_range = || format!("{text:?} is out of range: from 1");
    (number > 0).then_some(number).ok_or_else(out_of_range)
}

fn pipelined(text: &str) -> Result<usize, String> {
    let number = count(text)?;
    let out_of_range = || format!("{text:?} is out of range: from 1 to {PIPELINE_MAX}");
    (number <= PIPELINE_MAX)
        .then_some(number)
        .ok_or_else(out_of_range)
}

/// A time in which something can happen.
fn some_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let out_of_range = || format!("{text:?} is out of range: from 1ms");
    (!time.is_zero()).then_some(time).ok_or_else(out_of_range)
}

/// Requests a second, few and many enough for the times at which they are due to be counted.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>();
    let number = number.map_err(|_| format!("{text:?} isn't a number, such as 5000 or 0.5"))?;
    let is_right = (0.001..=1e9).contains(&number);
    let out_of_range =
        || format!("{text:?} is out of range: from 0.001 to 1000000000 requests a second");
    is_right.then_some(number).ok_or_else(out_of_range)
}

fn talk_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let is_right = (1..=Talk::BYTES_MAX as u64).contains(&bytes);
    let out_of_range = || format!("{text:?} is out of range: from 1B to 16MiB");
    is_right.then_some(bytes as usize).ok_or_else(out_of_range)
}
