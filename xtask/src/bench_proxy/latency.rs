//! Latency in an open loop: everyone is asked at the same rate, half of what the slowest can do.
//!
//! Where everyone is asked as fast as they answer, percentiles are lengths of queues. The rate is
//! found first, by a closed loop; then the contestants run in turns.

use super::Setting;
use crate::contestants::{BODIES, Contestant};
use crate::process::{Server, on_cpu};
use crate::rounds::Spread;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The percentiles that are shown.
const PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];

/// What `ringway bench load --json` says, as far as it is needed.
#[derive(Deserialize)]
struct Report {
    answers_per_second: f64,
    failures: Vec<(String, u64)>,
    latency: Latency,
}

#[derive(Deserialize)]
struct Latency {
    /// Percentile, and microseconds.
    percentiles: Vec<(f64, u64)>,
}

impl Report {
    fn percentile(&self, wanted: f64) -> Result<f64> {
        let found = self.latency.percentiles.iter();
        let found = found.copied().find(|(percentile, _)| *percentile == wanted);
        let (_, microseconds) = found.with_context(|| format!("no percentile {wanted}"))?;
        Ok(microseconds as f64)
    }
}

/// Measures everyone.
pub(super) fn run(setting: &Setting<'_>) -> Result<()> {
    let upstream = setting.start_downloads(BODIES[0])?;
    let contestants = setting.proxies(&upstream, BODIES[0].file)?;
    let (rounds, seconds) = match setting.options.quick {
        true => (1, 1),
        false => (5, 4),
    };
    let mut slowest = f64::INFINITY;
    for one in &contestants {
        let report = load(setting, one, None, 2)?;
        println!(
            "{:20}{:>10.0} requests/s at most",
            one.name, report.answers_per_second
        );
        slowest = slowest.min(report.answers_per_second);
    }
    let rate = (slowest / 2.0).round();
    println!(
        "\nlatency in us: {rate} requests/s, {} connections, {rounds} rounds of {seconds} s; \
         median (least to greatest)",
        setting.options.connections
    );
    println!("{:20}{:>24}{:>24}{:>24}", "", "p50", "p99", "p99.9");
    let mut figures = vec![[const { Vec::new() }; PERCENTILES.len()]; contestants.len()];
    for round in 0..rounds {
        for step in 0..contestants.len() {
            let index = match round % 2 {
                0 => step,
                _ => contestants.len() - 1 - step,
            };
            let report = load(setting, &contestants[index], Some(rate), seconds)?;
            for (figures, percentile) in figures[index].iter_mut().zip(PERCENTILES) {
                figures.push(report.percentile(percentile)?);
            }
        }
    }
    for (one, figures) in contestants.iter().zip(figures) {
        let cells = figures.map(|figures| {
            let Spread {
                median,
                least,
                greatest,
            } = Spread::of(figures);
            format!("{median:.0} ({least:.0} to {greatest:.0})")
        });
        println!(
            "{:20}{:>24}{:>24}{:>24}",
            one.name, cells[0], cells[1], cells[2]
        );
    }
    upstream.server.stop()
}

/// One run of one contestant, at a rate or as fast as it answers.
fn load(
    setting: &Setting<'_>,
    one: &Contestant,
    rate: Option<f64>,
    seconds: u32,
) -> Result<Report> {
    let log = setting.scratch.join("proxy.log");
    let server = Server::start(&one.command, one.port, setting.proxy_cpu, &log)?;
    let program = setting.programs.ringway().context("no program")?;
    let mut command = on_cpu(setting.load_cpu, program);
    command
        .args(["bench", "load", "--json", "--threads", "1"])
        .args(["--connections", &setting.options.connections.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg(format!("http://127.0.0.1:{}/{}", one.port, one.path));
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let output = command.output().context("cannot run ringway bench load")?;
    server.stop()?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {problem}", one.name);
    let report: Report = serde_json::from_slice(&output.stdout).context("a report")?;
    for (failure, count) in &report.failures {
        println!("{}: {failure}, {count} times", one.name);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_report_is_read_as_far_as_it_is_needed() {
        let text = r#"{"version": 1, "answers_per_second": 2.5, "failures": [["timeout", 1]],
                       "latency": {"mean": 1.0, "percentiles": [[50.0, 7], [99.9, 9]]}}"#;
        let report: Report = serde_json::from_str(text).expect("valid");
        assert_eq!(report.answers_per_second, 2.5);
        assert_eq!(report.percentile(99.9).expect("there"), 9.0);
        assert!(report.percentile(99.0).is_err());
    }
}
