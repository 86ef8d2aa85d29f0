//! Contestants compared by what a request costs their CPUs, in paired rounds.
//!
//! They run in turns, forwards and backwards, and each is compared with the first one's run of the same
//! round: what disturbs a machine for minutes disturbs both. Before that the first is compared with
//! itself, which is the noise. A run during which the hypervisor or other programs took much of the
//! server's CPU is thrown away, counted, and done again.
//!
//! The load is in this process (`load`), on other CPUs than the server. Its rate in a closed loop is
//! as often its own limit as the server's, and then the run is marked so.

use crate::contestant::Contestant;
use crate::load::{self, Pace, Plan, Progress, Request, Talk, Target};
use crate::server::{Server, own_run_time};
use crate::setting::{Setting, Step, Trouble};
use crate::statistics::{Spread, noise, ratios};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

mod sample;

use sample::Sample;

/// A run is done again when the hypervisor took more than this share of the server's CPUs.
const STEAL_LIMIT: f64 = 0.05;
/// The same for other programs; the kernel counts in hundredths of a second, so a short run can't tell
/// less.
const OTHERS_LIMIT: f64 = 0.1;
/// A server that is busy for less than this share of its CPUs could have answered more.
const BUSY: f64 = 0.95;
/// For all connections to be opened.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether all are.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// An answer that takes longer is a failure.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Parts of a run whose rates are kept apart.
const SLICES: u32 = 20;
/// Bodies from here on are told by the gigabyte: a request may take longer than a run.
const LARGE_BYTES: u64 = 1 << 20;

/// What is asked of every contestant.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Connections held open.
    pub connections: usize,
    /// Requests sent together.
    pub pipeline: usize,
    /// Whether a connection is used again.
    pub keep_alive: bool,
    /// When requests are sent.
    pub pace: Pace,
    /// Bytes of the body that is asked for.
    pub body_bytes: u64,
}

impl Shape {
    /// Keep-alive, one request at a time, as fast as the server is.
    pub fn closed(connections: usize, body_bytes: u64) -> Shape {
        Shape {
            connections,
            pipeline: 1,
            keep_alive: true,
            pace: Pace::Closed,
            body_bytes,
        }
    }

    /// What costs are counted by.
    pub fn unit(&self) -> &'static str {
        if self.body_bytes >= LARGE_BYTES {
            "ms of CPU for a GB"
        } else {
            "µs of CPU for a request"
        }
    }
}

/// One run of one contestant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What it cost, in the comparison's unit.
    pub cost: f64,
    /// Answers a second.
    pub requests_per_second: f64,
    /// Bytes received a second.
    pub bytes_per_second: f64,
    /// The share of its CPUs' time that the server was busy.
    pub busy: f64,
    /// Whether the server could have answered more.
    pub is_client_bound: bool,
    /// The load's own CPU for a request, in microseconds.
    pub load_cost: f64,
    /// The share of the server's CPUs that the hypervisor took.
    pub stolen: f64,
    /// The share of the server's CPUs that other programs took.
    pub others: f64,
    /// Runs that were thrown away before this one.
    pub discarded: u32,
    /// Requests that weren't answered.
    pub failures: u64,
    /// Why: how many of each kind. Reports of before there were kinds have none.
    #[serde(default)]
    pub failure_kinds: BTreeMap<String, u64>,
    /// In an open loop, percentiles of the latency: the percentile, and microseconds.
    pub latency: Vec<(f64, u64)>,
    /// Answers a second, part after part of the run.
    pub over_time: Vec<f64>,
    /// The busiest of the server's threads, and the share of one CPU that each had.
    pub threads: Vec<(String, f64)>,
    /// What else the kernel counted, for each request.
    pub counters: BTreeMap<String, f64>,
}

impl Run {
    /// Whether others had so much of the server's CPUs that its figures are theirs, too.
    pub fn is_disturbed(&self) -> bool {
        self.stolen > STEAL_LIMIT || self.others > OTHERS_LIMIT
    }
}

/// One contestant's runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its version, where it is a program of its own.
    pub version: Option<String>,
    /// What a request cost.
    pub cost: Spread,
    /// That, as a ratio to the first contestant's, round by round.
    pub ratio: Spread,
    /// The ratio of the cheapest runs: what disturbs only ever adds, so with many rounds this is the
    /// steadier figure.
    pub best: f64,
    /// The runs, in their order.
    pub runs: Vec<Run>,
}

/// What was compared, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was asked of them.
    pub title: String,
    /// Its place on the axis, where it is one of several: connections, bytes, threads.
    pub at: Option<f64>,
    /// What costs are counted by.
    pub unit: String,
    /// The ratios of the first contestant to itself.
    pub noise: Option<Spread>,
    /// The contestants; the first is what the others are compared with.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// From the runs of each contestant. `None` when one of them has none.
    pub fn new(
        title: &str,
        unit: &str,
        noise: Option<Spread>,
        runs: Vec<(String, Option<String>, Vec<Run>)>,
    ) -> Option<Comparison> {
        let costs = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.cost).collect() };
        let base = costs(&runs.first()?.2);
        let cheapest = Spread::of(&base)?.least;
        let mut rows = Vec::new();
        for (name, version, runs) in runs {
            let own = costs(&runs);
            let cost = Spread::of(&own)?;
            rows.push(Row {
                name,
                version,
                cost,
                ratio: Spread::of(&ratios(&own, &base))?,
                best: cost.least / cheapest,
                runs,
            });
        }
        let (title, unit) = (title.to_owned(), unit.to_owned());
        Some(Comparison {
            title,
            at: None,
            unit,
            noise,
            rows,
        })
    }

    /// The same at a place on an axis.
    #[must_use]
    pub fn at(mut self, place: f64) -> Comparison {
        self.at = Some(place);
        self
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How far apart two runs of the same thing are here, as a part of 1.
    pub fn noise_width(&self) -> f64 {
        noise(self.noise)
    }

    /// Runs that were thrown away.
    pub fn discarded(&self) -> u32 {
        self.all_runs().map(|run| run.discarded).sum()
    }

    fn all_runs(&self) -> impl Iterator<Item = &Run> {
        self.rows.iter().flat_map(|row| &row.runs)
    }
}

/// Measures the first contestant against itself, and then all in turns.
///
/// # Errors
/// When a server can't be started, ends, or answers nothing; when it is to end.
pub fn compare(
    setting: &Setting,
    title: &str,
    shape: &Shape,
    contestants: &[Contestant],
) -> Result<Comparison, Trouble> {
    let lengths = setting.lengths();
    let Some(first) = contestants.first() else {
        return Err(Trouble::Failed("there is nothing to compare".to_owned()));
    };
    let bench = Bench {
        setting,
        title,
        shape,
    };
    let twins = [first.clone(), first.clone()];
    let twins = bench.take_turns(&twins, lengths.noise_rounds)?;
    let costs = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.cost).collect() };
    let twins = Spread::of(&ratios(&costs(&twins[1]), &costs(&twins[0])));
    if let Some(twins) = twins {
        setting.tell(Step::Noise(twins));
    }
    let runs = bench.take_turns(contestants, lengths.rounds)?;
    let named = contestants
        .iter()
        .zip(runs)
        .map(|(one, runs)| (one.name.clone(), one.version.clone(), runs));
    let comparison = Comparison::new(title, shape.unit(), twins, named.collect())
        .ok_or_else(|| Trouble::Failed(format!("{title}: nothing was measured")))?;
    setting.keep(&comparison);
    Ok(comparison)
}

struct Bench<'a> {
    setting: &'a Setting,
    title: &'a str,
    shape: &'a Shape,
}

impl Bench<'_> {
    /// The runs of each contestant, in the order A B C, C B A, A B C, …
    fn take_turns(&self, all: &[Contestant], rounds: u32) -> Result<Vec<Vec<Run>>, Trouble> {
        let mut runs = vec![Vec::new(); all.len()];
        for round in 0..rounds {
            for place in 0..all.len() {
                let index = if round % 2 == 0 {
                    place
                } else {
                    all.len() - 1 - place
                };
                let one = &all[index];
                self.setting.go_on()?;
                let doing = format!("{}: {}, {} of {rounds}", self.title, one.name, round + 1);
                self.setting.tell(Step::Doing(doing));
                let run = self.measure(one).map_err(|trouble| match trouble {
                    Trouble::Failed(why) => Trouble::Failed(format!("{}: {why}", one.name)),
                    Trouble::Interrupted => trouble,
                })?;
                runs[index].push(run);
            }
        }
        Ok(runs)
    }

    fn measure(&self, one: &Contestant) -> Result<Run, Trouble> {
        let mut discarded = 0;
        loop {
            let run = self.measure_once(one)?;
            if !run.is_disturbed() || discarded + 1 >= self.setting.lengths().tries {
                return Ok(Run { discarded, ..run });
            }
            discarded += 1;
        }
    }

    fn measure_once(&self, one: &Contestant) -> Result<Run, Trouble> {
        let setting = self.setting;
        let log = setting.scratch("server.log");
        let server = Server::start(one, &setting.server_cpus, &setting.load_cpus, &log)?;
        let run = self.load(one, server)?;
        setting.go_on()?;
        Ok(run)
    }

    /// Puts load on the server, and sees what both used meanwhile.
    fn load(&self, one: &Contestant, mut server: Server) -> Result<Run, Trouble> {
        let plan = Arc::new(self.plan(one)?);
        let progress = Arc::new(Progress::default());
        let loading = {
            let (plan, progress) = (Arc::clone(&plan), Arc::clone(&progress));
            thread::Builder::new()
                .name("bench-load".to_owned())
                .spawn(move || load::run(&plan, &progress))?
        };
        let watched = self.watch(&progress, &server);
        progress.stop.store(true, Ordering::Relaxed);
        let report = loading
            .join()
            .map_err(|_| Trouble::Failed("the load generator panicked".to_owned()))??;
        let mut run = watched?;
        if !server.is_running() {
            return Err(Trouble::Failed("it ended while it was measured".to_owned()));
        }
        server.stop();
        if run.requests_per_second == 0.0 && run.bytes_per_second == 0.0 {
            let worst = report.failures.iter().max_by_key(|(_, count)| *count);
            let why = worst.map_or("nothing came", |(name, _)| name);
            return Err(Trouble::Failed(format!("no request was answered: {why}")));
        }
        let refused: u64 = report.statuses[3..].iter().sum();
        if refused > 0 {
            let text = format!(
                "{refused} of {} answers were errors (4xx, 5xx)",
                report.answers
            );
            return Err(Trouble::Failed(text));
        }
        run.failures = report.failure_count();
        let kinds = report.failures.iter();
        run.failure_kinds = kinds
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        if self.shape.pace != Pace::Closed {
            run.latency = report.latency.percentiles;
        }
        Ok(run)
    }

    fn plan(&self, one: &Contestant) -> Result<Plan, Trouble> {
        let url = format!("http://127.0.0.1:{}{}", one.port, one.path);
        let failed = |why: String| Trouble::Failed(why);
        let target = Target::parse(&url).map_err(|error| failed(error.to_string()))?;
        let keep_alive = self.shape.keep_alive;
        let request = Request::new("GET", &target, &target.path, &[], b"", keep_alive)
            .map_err(|error| failed(error.to_string()))?;
        let lengths = self.setting.lengths();
        Ok(Plan {
            talk: Talk::Http,
            requests: vec![request],
            target,
            connections: self.shape.connections,
            threads: self.setting.load_threads(self.shape.connections),
            pace: self.shape.pace,
            pipeline: self.shape.pipeline,
            keep_alive,
            // It is ended when it was watched for long enough.
            duration: CONNECT_TIMEOUT + 100 * lengths.measured,
            request_count: None,
            warm_up: lengths.warm_up,
            timeout: ANSWER_TIMEOUT,
            io: ringway_runtime::Io::Auto,
        })
    }

    /// Waits for the connections, lets the server warm up, and looks at it for as long as a run takes.
    fn watch(&self, progress: &Progress, server: &Server) -> Result<Run, Trouble> {
        let lengths = self.setting.lengths();
        let end = Instant::now() + CONNECT_TIMEOUT;
        let wanted = self.shape.connections as u64;
        while progress.connects.load(Ordering::Relaxed) < wanted && Instant::now() < end {
            self.setting.go_on()?;
            if progress.failures.load(Ordering::Relaxed) > wanted {
                break; // what failed so often is told by the load's report
            }
            sleep(LOOK_INTERVAL);
        }
        sleep(lengths.warm_up);
        let take = || Sample::take(progress, server, &self.setting.server_cpus);
        let (first, threads) = (take()?, server.threads());
        let mut over_time = Vec::new();
        let mut last = (first.at, self.requests(first.answers, first.bytes));
        for _ in 0..SLICES {
            self.setting.go_on()?;
            sleep(lengths.measured / SLICES);
            let answers = progress.answers.load(Ordering::Relaxed);
            let bytes = progress.bytes.load(Ordering::Relaxed);
            let now = (Instant::now(), self.requests(answers, bytes));
            over_time.push((now.1 - last.1) / (now.0 - last.0).as_secs_f64());
            last = now;
        }
        // A run that is short, or a server that is slow: without an answer there is nothing to tell.
        let is_nothing = || {
            let has_failed = progress.failures.load(Ordering::Relaxed) > wanted;
            progress.bytes.load(Ordering::Relaxed) == first.bytes && !has_failed
        };
        while is_nothing() && Instant::now() < end {
            self.setting.go_on()?;
            sleep(LOOK_INTERVAL);
        }
        let mut run = self.run_between(&first, &take()?);
        run.threads = sample::busiest(&threads, &server.threads(), last.0 - first.at);
        run.over_time = over_time;
        Ok(run)
    }

    /// So many requests were answered. A large answer is seldom whole when a run ends: its bytes tell
    /// how far it is.
    fn requests(&self, answers: u64, bytes: u64) -> f64 {
        match self.shape.body_bytes >= LARGE_BYTES {
            true => bytes as f64 / self.shape.body_bytes as f64,
            false => answers as f64,
        }
    }

    /// Seconds of the server's CPUs that went to neither the server nor idleness. Where the load has to
    /// share them, it can't be told from others.
    fn taken_by_others(&self, first: &Sample, last: &Sample) -> f64 {
        let shares = |cpu| self.setting.load_cpus.contains(cpu);
        if self.setting.server_cpus.iter().any(shares) {
            return 0.0;
        }
        let taken = last.taken.saturating_sub(first.taken);
        let own = last.run_time.saturating_sub(first.run_time);
        taken.saturating_sub(own).as_secs_f64()
    }

    fn run_between(&self, first: &Sample, last: &Sample) -> Run {
        let seconds = (last.at - first.at).as_secs_f64();
        let cpus = self.setting.server_cpus.len() as f64;
        let bytes = (last.bytes - first.bytes) as f64;
        let cpu = (last.run_time.saturating_sub(first.run_time)).as_secs_f64();
        let busy = cpu / (seconds * cpus);
        let is_large = self.shape.body_bytes >= LARGE_BYTES;
        let requests = self.requests(last.answers - first.answers, last.bytes - first.bytes);
        let each = |amount: f64| {
            if requests > 0.0 {
                amount / requests
            } else {
                f64::NAN
            }
        };
        let load_cpu = last.load_time.saturating_sub(first.load_time).as_secs_f64();
        Run {
            cost: if is_large {
                cpu * 1e12 / bytes
            } else {
                each(cpu * 1e6)
            },
            requests_per_second: requests / seconds,
            bytes_per_second: bytes / seconds,
            busy,
            is_client_bound: self.shape.pace == Pace::Closed && busy < BUSY,
            load_cost: each(load_cpu * 1e6),
            stolen: last.stolen.saturating_sub(first.stolen).as_secs_f64() / (seconds * cpus),
            others: self.taken_by_others(first, last) / (seconds * cpus),
            counters: last.counted_since(first, requests),
            ..Run::default()
        }
    }
}

#[cfg(test)]
mod tests;
