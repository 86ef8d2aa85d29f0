//! What became of a run: for people, and as JSON.

use super::plan::{Pace, Plan, Talk};
use super::tally::{Failure, Tally};
use crate::report::counted;
use serde::Serialize;
use std::fmt;

/// The percentiles that are told.
const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of this structure's fields.
    pub version: u32,
    /// The driver that the load generator ran on.
    pub driver: &'static str,
    /// What was said: `http`, `ping_pong` or `bulk`.
    pub talk: &'static str,
    /// Bytes that were sent at once, of `ping_pong` and `bulk`.
    pub talk_bytes: Option<usize>,
    /// Connections held open.
    pub connections: usize,
    /// Threads of the load generator.
    pub threads: usize,
    /// Requests sent together.
    pub pipeline: usize,
    /// Whether connections were used again.
    pub keep_alive: bool,
    /// The rate asked for, in requests a second; none in a closed loop.
    pub rate: Option<f64>,
    /// Time measured, in seconds.
    pub seconds: f64,
    /// Answers, of whatever status.
    pub answers: u64,
    /// Answers a second.
    pub answers_per_second: f64,
    /// Bytes received a second: of heads and bodies, or whatever came.
    pub bytes_per_second: f64,
    /// Bytes that this side's kernel took a second, of `bulk`.
    pub sent_bytes_per_second: Option<f64>,
    /// Connections opened, those of the warm-up included.
    pub connects: u64,
    /// Those that held to the end, of `bulk`. One that took the place of another that had failed is
    /// among them from its second second on.
    pub holding: Option<u64>,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub statuses: [u64; 5],
    /// Failures by kind; kinds that didn't happen are left out.
    pub failures: Vec<(&'static str, u64)>,
    /// Requests that were due while the one before them wasn't answered yet; their wait is part of
    /// their latency. Always 0 in a closed loop.
    pub late: u64,
    /// Of the answers, in microseconds.
    pub latency: Latency,
}

/// Latency in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean: f64,
    /// The standard deviation. Latency isn't distributed normally: read the percentiles.
    pub deviation: f64,
    /// The shortest.
    pub min: u64,
    /// The longest.
    pub max: u64,
    /// Percentile, and the latency that so many per cent of the answers didn't exceed.
    pub percentiles: Vec<(f64, u64)>,
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, driver: &'static str) -> Report {
        let seconds = tally.elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let latency = &tally.latency;
        let failures = Failure::ALL.into_iter();
        let (talk, talk_bytes) = match plan.talk {
            Talk::Http => ("http", None),
            Talk::PingPong(bytes) => ("ping_pong", Some(bytes)),
            Talk::Bulk(bytes) => ("bulk", Some(bytes)),
        };
        let is_bulk = matches!(plan.talk, Talk::Bulk(_));
        Report {
            version: 1,
            driver,
            talk,
            talk_bytes,
            connections: plan.connections,
            threads: plan.threads,
            pipeline: plan.pipeline,
            keep_alive: plan.keep_alive,
            rate: match plan.pace {
                Pace::Closed => None,
                Pace::Open(rate) => Some(rate),
            },
            seconds,
            answers: tally.answers(),
            answers_per_second: per_second(tally.answers()),
            bytes_per_second: per_second(tally.bytes),
            sent_bytes_per_second: is_bulk.then(|| per_second(tally.sent_bytes)),
            connects: tally.connects,
            holding: is_bulk.then_some(tally.holding),
            statuses: tally.statuses,
            failures: failures
                .map(|(failure, name)| (name, tally.failures[failure as usize]))
                .filter(|(_, count)| *count > 0)
                .collect(),
            late: tally.late,
            latency: Latency {
                mean: latency.mean(),
                deviation: latency.stdev(),
                min: latency.min(),
                max: latency.max(),
                percentiles: PERCENTILES
                    .iter()
                    .map(|part| (*part, latency.value_at_percentile(*part)))
                    .collect(),
            },
        }
    }

    /// Whether anything was answered or, in bulk, taken by a connection that held: what this side's kernel
    /// had taken from others need not have gone anywhere.
    pub fn has_anything(&self) -> bool {
        let is_taken = self.sent_bytes_per_second.is_some_and(|sent| sent > 0.0);
        self.answers > 0 || (is_taken && self.holding > Some(0))
    }

    /// Failures of all kinds.
    pub fn failure_count(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match (self.sent_bytes_per_second, self.rate) {
            (Some(_), _) => "bulk".to_owned(),
            (None, None) => "closed loop".to_owned(),
            (None, Some(rate)) => format!("open loop, {rate} requests/s asked for"),
        };
        let bytes = match self.talk_bytes {
            None => String::new(),
            Some(bytes) => format!(", {} at a time", counted(bytes, "byte")),
        };
        writeln!(
            out,
            "{} on {} ({}), {:.1} s, {loop_kind}{bytes}",
            counted(self.connections, "connection"),
            counted(self.threads, "thread"),
            self.driver,
            self.seconds
        )?;
        match self.sent_bytes_per_second {
            Some(sent) => {
                writeln!(out, "sent      {:>12}/s", size(sent))?;
                writeln!(out, "received  {:>12}/s", size(self.bytes_per_second))?;
            }
            None => writeln!(
                out,
                "answers   {:>12}  {:.0}/s, {}/s",
                self.answers,
                self.answers_per_second,
                size(self.bytes_per_second)
            )?,
        }
        let classes = (1..).zip(self.statuses).filter(|(_, count)| *count > 0);
        for (class, count) in classes.filter(|(class, _)| *class != 2) {
            writeln!(out, "  {class}xx     {count:>12}")?;
        }
        writeln!(out, "connects  {:>12}", self.connects)?;
        writeln!(out, "failures  {:>12}", self.failure_count())?;
        for (name, count) in &self.failures {
            writeln!(out, "  {count:>20}  {name}")?;
        }
        if self.late > 0 {
            let note = "due before the last was answered: the wait counts";
            writeln!(out, "late      {:>12}  {note}", self.late)?;
        }
        if self.answers == 0 {
            return Ok(());
        }
        write!(out, "latency   {:>12}  mean", time(self.latency.mean))?;
        for (part, micros) in &self.latency.percentiles {
            write!(out, "\n          {:>12}  p{part}", time(*micros as f64))?;
        }
        write!(
            out,
            "\n          {:>12}  max",
            time(self.latency.max as f64)
        )
    }
}

fn time(micros: f64) -> String {
    match micros {
        _ if micros < 1e3 => format!("{micros:.0} µs"),
        _ if micros < 1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

fn size(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}
