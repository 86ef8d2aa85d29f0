//! Scenario after scenario, with a report that is valid after each.

use crate::outcome::Verdict;
use crate::peers::contest::CONTESTS;
use crate::report::{REPORT_VERSION, Report};
use crate::scenarios::{SCENARIOS, Scenario};
use crate::setting::{Options, Setting, Step, Trouble};
use ringway_host::facts::{Fact, Facts};
use ringway_host::machine::Tree;
use ringway_http::date::HttpDate;
use std::io;
use std::time::{Instant, SystemTime};

/// Runs them, and has `save` called with what is known after each. The calling thread is given up to
/// it: it changes its network and its CPUs.
///
/// The outcomes of an earlier report, where the options have one, stay beside these, in the order of all
/// that can be measured. What goes wrong in a scenario is in its outcome. Ended early, the report says so, and what was not
/// run is in it as such.
///
/// # Errors
/// When nothing can be measured at all, the earlier report is of another machine or method, or `save`
/// fails.
pub fn run(
    mut options: Options,
    scenarios: &[&Scenario],
    mut save: impl FnMut(&Report) -> io::Result<()>,
) -> Result<Report, Trouble> {
    let begin = Instant::now();
    let facts = Facts::gather(&Tree::live());
    let earlier = options.earlier.take();
    let mut setting = Setting::prepare(options)?;
    for sentence in &setting.method {
        setting.tell(Step::Note(sentence.clone()));
    }
    let mut report = Report {
        version: REPORT_VERSION,
        ringway: env!("CARGO_PKG_VERSION").to_owned(),
        begun: now(),
        seconds: 0.0,
        is_quick: setting.is_quick(),
        partial: Some("it was not ended".to_owned()),
        machine: machine(&facts),
        method: setting.method.clone(),
        outcomes: Vec::new(),
    };
    let mut before = 0.0;
    if let Some(earlier) = earlier {
        before = earlier.seconds;
        take_over(&mut report, earlier, scenarios)?;
    }
    for (place, scenario) in scenarios.iter().enumerate() {
        let outcome = match setting.go_on() {
            Ok(()) => scenario.run(&mut setting, place, scenarios.len()),
            Err(_) => scenario.not_run(),
        };
        report.outcomes.push(outcome);
        report.outcomes.sort_by_key(|one| rank(&one.name));
        report.seconds = before + begin.elapsed().as_secs_f64();
        save(&report)?;
    }
    report.partial = why_partial(&report);
    save(&report)?;
    Ok(report)
}

/// Begins a report with what an earlier one says of other scenarios than these.
///
/// Figures of another machine, program or method don't belong beside each other.
fn take_over(report: &mut Report, earlier: Report, scenarios: &[&Scenario]) -> Result<(), Trouble> {
    let differs = [
        ("machine", earlier.machine != report.machine),
        ("method", earlier.method != report.method),
        ("version", earlier.ringway != report.ringway),
        ("selection (--quick)", earlier.is_quick != report.is_quick),
    ];
    if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
        let text = format!("the report that is to be kept is of another {what}");
        return Err(Trouble::Failed(text));
    }
    let is_other = |name: &str| scenarios.iter().all(|one| one.name != name);
    report.begun = earlier.begun;
    report.outcomes = earlier.outcomes;
    report.outcomes.retain(|one| is_other(&one.name));
    Ok(())
}

/// The place of a scenario among all that there are.
fn rank(name: &str) -> usize {
    let mut all = SCENARIOS.iter().chain(&CONTESTS);
    all.position(|one| one.name == name).unwrap_or(usize::MAX)
}

/// Why a report doesn't say all that was asked for.
fn why_partial(report: &Report) -> Option<String> {
    let count = |verdict: Verdict| {
        let all = report.outcomes.iter();
        all.filter(|outcome| outcome.verdict == verdict).count()
    };
    match (count(Verdict::NotRun), count(Verdict::Failed)) {
        (0, 0) => None,
        (0, failed) => Some(format!("{failed} of the scenarios failed")),
        (missing, _) => Some(format!(
            "it was interrupted: {missing} of the scenarios were not run"
        )),
    }
}

fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let date = HttpDate::from_unix_seconds(since.map_or(0, |since| since.as_secs()));
    String::from_utf8_lossy(date.as_bytes()).into_owned()
}

/// The machine in a few lines: what a figure depends on.
fn machine(facts: &Facts) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| lines.push((name.to_owned(), value));
    add("kernel", words(&facts.system.kernel_release));
    add(
        "processor",
        processor_model().unwrap_or_else(|| "unknown".to_owned()),
    );
    let allowed = facts
        .processors
        .affinity
        .known()
        .map(|list| list.iter().count());
    let allowed = allowed.map_or("unknown".to_owned(), |count| count.to_string());
    add(
        "CPUs",
        format!("{allowed} of {}", facts.processors.each.len()),
    );
    add("memory nodes", facts.known_nodes().len().to_string());
    let memory = facts
        .system
        .memory_bytes
        .known()
        .map(|bytes| format!("{} MiB", bytes >> 20));
    add("memory", memory.unwrap_or_else(|| "unknown".to_owned()));
    let is_virtual = facts.environment.is_virtual.known();
    let below = match is_virtual {
        Some(true) => "a hypervisor",
        Some(false) => "hardware",
        None => "unknown",
    };
    add("below", below.to_owned());
    let io_uring = match &facts.io_uring {
        Fact::Known(_) => "works".to_owned(),
        Fact::Unknown(why) => why.clone(),
    };
    add("io_uring", io_uring);
    lines
}

fn words(fact: &Fact<String>) -> String {
    match fact {
        Fact::Known(text) => text.clone(),
        Fact::Unknown(why) => why.clone(),
    }
}

fn processor_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Comparison, Run};
    use crate::outcome::Findings;
    use crate::setting::Lengths;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    static STOP_LATER: AtomicBool = AtomicBool::new(false);

    fn scenario(
        name: &'static str,
        find: fn(&mut Setting) -> Result<Findings, Trouble>,
    ) -> Scenario {
        Scenario {
            name,
            title: "",
            claim: "",
            runs: "",
            refuted_by: "",
            axis: None,
            find,
        }
    }

    fn run_all(scenarios: &[&Scenario], stop: Arc<AtomicBool>) -> (Report, usize) {
        run_beside(None, scenarios, stop).unwrap()
    }

    fn run_beside(
        earlier: Option<Report>,
        scenarios: &[&Scenario],
        stop: Arc<AtomicBool>,
    ) -> Result<(Report, usize), Trouble> {
        let options = Options {
            program: "ringway".into(),
            scratch: None,
            is_quick: true,
            peers: Vec::new(),
            lengths: Lengths::TINY,
            earlier,
            stop,
            watch: Box::new(|_| {}),
        };
        let mut saved = 0;
        let report = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                run(options, scenarios, |_| {
                    saved += 1;
                    Ok(())
                })
            });
            running.join().unwrap()
        });
        Ok((report?, saved))
    }

    #[test]
    fn what_an_earlier_run_found_stays_beside_what_is_found_now() {
        let queues = scenario("queues", |_| Ok(Findings::not_measurable("first", None)));
        let numa = scenario("numa", |_| Ok(Findings::not_measurable("first", None)));
        let again = scenario("queues", |_| Ok(Findings::not_measurable("again", None)));
        let (first, _) = run_all(&[&queues], Arc::default());
        let (both, _) = run_beside(Some(first.clone()), &[&numa], Arc::default()).unwrap();
        // In the table's order, whatever was run first.
        let says = |report: &Report| -> Vec<_> {
            let all = report.outcomes.iter();
            all.map(|one| (one.name.clone(), one.says.clone()))
                .collect()
        };
        let pair = |name: &str, says: &str| (name.to_owned(), says.to_owned());
        let expect = [pair("numa", "first"), pair("queues", "first")];
        assert_eq!(
            (says(&both), both.partial.as_deref()),
            (expect.into(), None)
        );
        assert_eq!(both.begun, first.begun);
        let (third, _) = run_beside(Some(both), &[&again], Arc::default()).unwrap();
        assert_eq!(says(&third)[1], pair("queues", "again"));
        assert_eq!(third.outcomes.len(), 2);
    }

    #[test]
    fn figures_of_another_machine_or_method_are_not_kept() {
        let works = scenario("works", |_| Ok(Findings::not_measurable("one node", None)));
        let (report, _) = run_all(&[&works], Arc::default());
        let check = |earlier: Report, expect: &str| {
            let trouble = run_beside(Some(earlier), &[&works], Arc::default()).unwrap_err();
            assert_eq!(trouble.to_string(), expect);
        };
        let mut other = report.clone();
        other.method.push("by hand".to_owned());
        check(other, "the report that is to be kept is of another method");
        let mut other = report.clone();
        other.machine.clear();
        check(other, "the report that is to be kept is of another machine");
        let other = Report {
            is_quick: !report.is_quick,
            ..report
        };
        let expect = "the report that is to be kept is of another selection (--quick)";
        check(other, expect);
    }

    #[test]
    fn a_scenario_that_fails_is_told_and_the_next_one_runs() {
        let fails = scenario("fails", |_| Err(Trouble::Failed("no room".to_owned())));
        let works = scenario("works", |_| Ok(Findings::not_measurable("one node", None)));
        let (report, saved) = run_all(&[&fails, &works], Arc::default());
        let verdicts: Vec<_> = report.outcomes.iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts, [Verdict::Failed, Verdict::NotMeasurable]);
        assert_eq!(report.outcomes[0].says, "no room");
        assert_eq!(report.partial.as_deref(), Some("1 of the scenarios failed"));
        assert_eq!(saved, 3);
    }

    #[test]
    fn what_is_interrupted_has_all_scenarios_in_its_report_and_says_that_it_is_partial() {
        let works = scenario("works", |_| Ok(Findings::not_measurable("one node", None)));
        let stops = scenario("stops", |_| {
            STOP_LATER.store(true, Ordering::Relaxed);
            Err(Trouble::Interrupted)
        });
        let stop = Arc::new(AtomicBool::new(false));
        let never = scenario("never", |_| panic!("it is never begun"));
        // The scenario ends as one does that was told to; from then on the campaign is told, too.
        let (report, _) = std::thread::scope(|scope| {
            let stop = Arc::clone(&stop);
            let telling = Arc::clone(&stop);
            scope.spawn(move || {
                while !STOP_LATER.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                telling.store(true, Ordering::Relaxed);
            });
            run_all(&[&works, &stops], stop)
        });
        assert_eq!(report.outcomes[1].verdict, Verdict::NotRun);
        assert!(
            report
                .partial
                .unwrap()
                .starts_with("it was interrupted: 1 ")
        );
        stop.store(true, Ordering::Relaxed);
        let (report, _) = run_all(&[&never, &works], stop);
        assert!(
            report
                .outcomes
                .iter()
                .all(|one| one.verdict == Verdict::NotRun)
        );
        assert!(
            report
                .partial
                .unwrap()
                .starts_with("it was interrupted: 2 ")
        );
    }

    #[test]
    fn what_was_measured_before_it_went_wrong_is_in_the_report() {
        let fails = scenario("fails", |setting| {
            let runs = vec![("a".to_owned(), None, vec![Run::default()])];
            setting.keep(&Comparison::new("t", "u", None, runs).unwrap());
            Err(Trouble::Failed("no room".to_owned()))
        });
        let works = scenario("works", |_| Ok(Findings::not_measurable("one node", None)));
        let (report, _) = run_all(&[&fails, &works], Arc::default());
        let counts: Vec<_> = report
            .outcomes
            .iter()
            .map(|one| one.comparisons.len())
            .collect();
        assert_eq!(counts, [1, 0]);
    }

    #[test]
    fn a_report_that_is_whole_is_not_partial() {
        let works = scenario("works", |_| Ok(Findings::not_measurable("one node", None)));
        let (report, _) = run_all(&[&works], Arc::default());
        assert_eq!(report.partial, None);
        assert!(report.machine.iter().any(|(name, _)| name == "kernel"));
        assert!(report.begun.ends_with(" GMT"), "{}", report.begun);
    }
}
