//! Reports made from figures that are known.

use super::*;
use crate::comparison::{Comparison, Run};
use crate::outcome::{Gain, Verdict};
use crate::statistics::{Difference, Spread};

fn run(cost: f64) -> Run {
    Run {
        cost,
        requests_per_second: 1000.0 * cost,
        busy: 0.8,
        is_client_bound: true,
        latency: vec![(50.0, 90), (99.0, 1500), (99.9, 2_500_000)],
        over_time: vec![1.0, 2.0],
        threads: vec![("w<0>".to_owned(), 0.8)],
        counters: [("interrupts".to_owned(), 0.5)].into(),
        ..Run::default()
    }
}

fn comparison(ours: f64) -> Comparison {
    let rows = vec![
        ("yardstick".to_owned(), None, vec![run(10.0), run(12.0)]),
        (
            "ringway <&> | \"x\"".to_owned(),
            Some("9.9".to_owned()),
            vec![run(ours), run(ours)],
        ),
    ];
    Comparison::new("1 KB", "µs", Spread::of(&[1.0, 1.04]), rows).unwrap()
}

fn report(ours: f64) -> Report {
    let gain = Gain {
        claimed: 2.49,
        measured: Spread::of(&[1.1]),
    };
    Report {
        version: REPORT_VERSION,
        ringway: "0.1.0".to_owned(),
        begun: "Fri, 27 Nov 2026 00:00:00 GMT".to_owned(),
        seconds: 61.0,
        is_quick: true,
        partial: Some("it was interrupted: 1 of the scenarios were not run".to_owned()),
        machine: vec![("kernel".to_owned(), "6.18".to_owned())],
        method: vec!["in a network namespace of its own".to_owned()],
        outcomes: vec![Outcome {
            name: "drivers".to_owned(),
            title: "io_uring against epoll".to_owned(),
            claim: "faster".to_owned(),
            runs: "both".to_owned(),
            refuted_by: "less".to_owned(),
            verdict: Verdict::Refuted,
            says: "a gain, but of 1.10 times".to_owned(),
            gain: Some(gain),
            axis: Some("connections".to_owned()),
            comparisons: vec![comparison(ours).at(64.0), comparison(2.0 * ours).at(512.0)],
            notes: vec!["a note".to_owned()],
            seconds: 1.0,
        }],
    }
}

fn saved(report: &Report, old: Option<&Report>) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    report.save(folder.path(), old).unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (markdown, html) = (read("report.md"), read("report.html"));
    (folder, markdown, html)
}

#[test]
fn a_report_that_was_written_is_read_as_it_was() {
    // Numbers that are exact in binary: reading a decimal one may miss its last bit.
    let mut report = report(15.0);
    report.outcomes[0].gain = None;
    let (folder, ..) = saved(&report, None);
    assert_eq!(
        Report::read(&folder.path().join("report.json")).unwrap(),
        report
    );
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = files.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(names, ["report.html", "report.json", "report.md"]);
}

#[test]
fn a_partial_report_says_so_in_every_form() {
    let (_folder, markdown, html) = saved(&report(11.0), None);
    for text in [markdown, html] {
        assert!(text.contains("This report is partial"), "{text}");
        assert!(text.contains("it was interrupted"), "{text}");
        assert!(
            text.contains("quick: its verdicts are indications"),
            "{text}"
        );
    }
}

#[test]
fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
    let (_folder, markdown, html) = saved(&report(11.0), None);
    for outside in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(
        html.contains("ringway &lt;&amp;&gt; | &quot;x&quot; 9.9"),
        "{html}"
    );
    assert!(!html.contains("<&>"), "{html}");
    assert!(
        markdown.contains(r#"ringway \<&> \| "x" 9.9"#),
        "{markdown}"
    );
    assert!(html.contains("prefers-color-scheme: dark"));
    // Bars, scaling, latency of both comparisons, and the rate over time.
    assert_eq!(html.matches("<svg ").count(), 5);
    assert_eq!(
        html.matches("<svg ").count(),
        html.matches("</svg>").count()
    );
}

#[test]
fn what_was_not_answered_is_told_by_kind() {
    let mut report = report(11.0);
    let row = &mut report.outcomes[0].comparisons[0].rows[0];
    for run in &mut row.runs {
        run.failures = 4;
        run.failure_kinds = [("not answered".to_owned(), 1), ("reset".to_owned(), 3)].into();
    }
    let (_folder, markdown, html) = saved(&report, None);
    for text in [markdown, html] {
        let told = "8 failures (2 not answered, 6 reset)";
        assert_eq!(text.matches(told).count(), 1, "{text}");
    }
}

#[test]
fn figures_come_with_their_spread_and_the_noise() {
    let (_folder, markdown, _) = saved(&report(11.0), None);
    assert!(
        markdown.contains("the first against itself: 1.02 (1.00 to 1.04)"),
        "{markdown}"
    );
    assert!(
        markdown.contains("| yardstick | 11.0 (10.0–12.0) | 1.00 | 1.00 |"),
        "{markdown}"
    );
    assert!(markdown.contains("(client-bound)"), "{markdown}");
    assert!(
        markdown.contains("| 90 µs | 1.5 ms | 2.50 s |"),
        "{markdown}"
    );
    assert!(
        markdown.contains("| 2.49 times | 1.10 times | refuted |"),
        "{markdown}"
    );
}

#[test]
fn two_runs_differ_by_more_than_the_noise_or_not() {
    let judged = |then: f64, now: f64| {
        let changes = changes(&report(then), &report(now));
        assert_eq!(changes.len(), 4);
        changes[1].difference
    };
    assert_eq!(judged(11.0, 11.5), Difference::None);
    assert_eq!(judged(11.0, 13.0), Difference::More);
    assert_eq!(judged(13.0, 11.0), Difference::Less);
    let (old, new) = (report(11.0), report(13.0));
    let (_folder, markdown, html) = saved(&new, Some(&old));
    assert!(markdown.contains("+18.2 %: dearer"), "{markdown}");
    assert!(html.contains("+18.2 %"), "{html}");
}

#[test]
fn runs_with_nothing_in_common_say_so() {
    let mut other = report(11.0);
    other.outcomes[0].name = "pool".to_owned();
    let (_folder, markdown, html) = saved(&report(11.0), Some(&other));
    assert!(markdown.contains("Nothing is in both.") && html.contains("Nothing is in both."));
}

#[test]
fn what_is_no_report_is_refused_with_a_reason() {
    let check = |text: &str, expect: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        fs::write(&path, text).unwrap();
        let said = Report::read(&path).unwrap_err().to_string();
        assert!(said.contains(expect), "{said}");
    };
    check("{}", "not a report of ringway bench");
    check("not JSON", "not a report of ringway bench");
    check(r#"{"version": 1}"#, "not a report of ringway bench");
    check(r#"{"version": 7}"#, "a report of version 7");
    let missing = Report::read(Path::new("/no/such/report.json"));
    assert!(missing.unwrap_err().to_string().contains("No such file"));
}
