//! Paired, interleaved rounds of wrk, and the table that comes of them.

use crate::contestants::Contestant;
use crate::process::{Server, on_cpu};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// A run is done again when the hypervisor took more than this share of the server's CPU.
const STEAL_LIMIT: f64 = 0.05;
const TRIES: u32 = 3;
const WARM_UP: Duration = Duration::from_secs(1);

/// How to measure.
pub(crate) struct Rounds {
    pub(crate) pairs: u32,
    pub(crate) measured: Duration,
    pub(crate) connections: u32,
    pub(crate) server_cpu: usize,
    pub(crate) load_cpu: usize,
    /// More arguments for wrk.
    pub(crate) load_arguments: Vec<OsString>,
    /// What the server of the moment prints.
    pub(crate) log: PathBuf,
}

/// One run of one contestant.
#[derive(Clone, Copy)]
struct Run {
    /// The server's CPU time for a request.
    cpu_us: f64,
    /// Of a closed loop, so bound by the client as often as by the server.
    requests_per_second: f64,
    /// Runs that were thrown away before this one.
    redone: u32,
    /// The share of the server's CPU that the hypervisor took.
    stolen: f64,
}

impl Rounds {
    /// Measures the yardstick against itself first, then everyone against the yardstick.
    pub(crate) fn compare(&self, title: &str, contestants: &[Contestant]) -> Result<()> {
        let yardstick = contestants
            .first()
            .context("a comparison needs its yardstick")?;
        let noise_pairs = self.pairs.div_ceil(2);
        let runs = 2 * noise_pairs + self.pairs * contestants.len() as u32;
        let seconds = u64::from(runs) * (self.measured + WARM_UP).as_secs();
        println!(
            "\n{title}: {} rounds of {} s, {} connections, at least {seconds} s in all",
            self.pairs,
            self.measured.as_secs(),
            self.connections
        );
        let twins = [yardstick.clone(), yardstick.clone()];
        let noise = self.interleave(&twins, noise_pairs)?;
        let [first, second] = &noise[..] else {
            bail!("two twins have two results")
        };
        let ratio = Spread::of(ratios(second, first));
        println!(
            "noise (the yardstick against itself): {:.3} ({:.3} to {:.3})",
            ratio.median, ratio.least, ratio.greatest
        );
        let results = self.interleave(contestants, self.pairs)?;
        print(contestants, &results);
        Ok(())
    }

    /// The runs of each contestant, in the order A B C, C B A, A B C, …
    fn interleave(&self, contestants: &[Contestant], pairs: u32) -> Result<Vec<Vec<Run>>> {
        let mut results = vec![Vec::new(); contestants.len()];
        for round in 0..pairs {
            let forwards = 0..contestants.len();
            let order: Vec<usize> = if round % 2 == 0 {
                forwards.collect()
            } else {
                forwards.rev().collect()
            };
            for index in order {
                let one = &contestants[index];
                let run = self.measure(one).with_context(|| one.name.clone())?;
                results[index].push(run);
            }
        }
        Ok(results)
    }

    fn measure(&self, one: &Contestant) -> Result<Run> {
        let mut redone = 0;
        loop {
            let run = self.measure_once(one)?;
            if run.stolen <= STEAL_LIMIT || redone + 1 == TRIES {
                return Ok(Run { redone, ..run });
            }
            redone += 1;
        }
    }

    fn measure_once(&self, one: &Contestant) -> Result<Run> {
        let server = Server::start(&one.command, one.port, self.server_cpu, &self.log)?;
        self.load(one, WARM_UP)?;
        let (spent, stolen) = (server.run_time(), stolen(self.server_cpu)?);
        let load = self.load(one, self.measured)?;
        let spent = server.run_time().saturating_sub(spent);
        let stolen = stolen_since(self.server_cpu, stolen)?;
        server.stop()?;
        Ok(Run {
            cpu_us: spent.as_secs_f64() * 1e6 / load.requests as f64,
            requests_per_second: load.requests_per_second,
            redone: 0,
            stolen: stolen.as_secs_f64() / self.measured.as_secs_f64(),
        })
    }

    fn load(&self, one: &Contestant, time: Duration) -> Result<Load> {
        let output = on_cpu(self.load_cpu, "wrk")
            .args([
                "--threads",
                "1",
                "--connections",
                &self.connections.to_string(),
            ])
            .args(["--duration", &format!("{}s", time.as_secs())])
            .args(&self.load_arguments)
            .arg(format!("http://127.0.0.1:{}/{}", one.port, one.path))
            .stdin(Stdio::null())
            .output()
            .context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            if line.contains("Socket errors") || line.contains("Non-2xx") {
                println!("{}: {}", one.name, line.trim());
            }
        }
        let load = Load::parse(&text).with_context(|| format!("wrk said: {text}"))?;
        ensure!(load.requests > 0, "no request was answered");
        Ok(load)
    }
}

/// What wrk counted.
#[derive(Debug, PartialEq)]
struct Load {
    requests: u64,
    requests_per_second: f64,
}

impl Load {
    fn parse(text: &str) -> Option<Load> {
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))?
            .0;
        let rate = text
            .lines()
            .find_map(|line| line.strip_prefix("Requests/sec:"))?;
        Some(Load {
            requests: requests.parse().ok()?,
            requests_per_second: rate.trim().parse().ok()?,
        })
    }
}

/// How long the hypervisor has kept this CPU from us, since boot: proc_stat(5), the eighth field.
fn stolen(cpu: usize) -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let name = format!("cpu{cpu} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let ticks = line.and_then(|line| line.split_whitespace().nth(7)?.parse::<u32>().ok());
    let per_second = rustix::param::clock_ticks_per_second() as u32;
    Ok(Duration::from_secs(1) * ticks.context("/proc/stat has no such CPU")? / per_second.max(1))
}

fn stolen_since(cpu: usize, before: Duration) -> Result<Duration> {
    Ok(stolen(cpu)?.saturating_sub(before))
}

/// The middle and the ends of a few figures.
#[derive(Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Spread {
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        Spread {
            median: f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]),
            least: figures[0],
            greatest: figures[last],
        }
    }
}

/// Round by round.
fn ratios(runs: &[Run], yardstick: &[Run]) -> Vec<f64> {
    runs.iter()
        .zip(yardstick)
        .map(|(run, base)| run.cpu_us / base.cpu_us)
        .collect()
}

fn print(contestants: &[Contestant], results: &[Vec<Run>]) {
    let yardstick = &results[0];
    let cpu = |runs: &[Run]| Spread::of(runs.iter().map(|run| run.cpu_us).collect());
    println!(
        "{:20}{:>11}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>10}{:>8}",
        "", "CPU us/req", "min", "max", "ratio", "min", "max", "best", "req/s", "redone"
    );
    for (one, runs) in contestants.iter().zip(results) {
        let time = cpu(runs);
        let ratio = Spread::of(ratios(runs, yardstick));
        let rate = Spread::of(runs.iter().map(|run| run.requests_per_second).collect());
        println!(
            "{:20}{:>11.2}{:>9.2}{:>9.2}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{:>10.0}{:>8}",
            one.name,
            time.median,
            time.least,
            time.greatest,
            ratio.median,
            ratio.least,
            ratio.greatest,
            time.least / cpu(yardstick).least,
            rate.median,
            runs.iter().map(|run| run.redone).sum::<u32>(),
        );
        let disturbed = runs.iter().filter(|run| run.stolen > STEAL_LIMIT).count();
        if disturbed > 0 {
            println!("  {disturbed} of its runs lost more than 5 % of the CPU all the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, Spread};

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(
            spread,
            Spread {
                median: 2.5,
                least: 1.0,
                greatest: 4.0
            }
        );
        assert_eq!(Spread::of(vec![7.0]).median, 7.0);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "Running 1s test\n  1234 requests in 1.00s, 1.50MB read\n\
                    Requests/sec:   1233.25\nTransfer/sec:      1.50MB\n";
        let expect = Load {
            requests: 1234,
            requests_per_second: 1233.25,
        };
        assert_eq!(Load::parse(text), Some(expect));
        assert_eq!(Load::parse("unable to connect"), None);
    }
}
