//! The report as one HTML file: no script, nothing loaded, both colour schemes, any width.

use super::chart::{Group, Lines, Scale, bars, escape, lines};
use super::markdown::{busy, discarded, has_load, latency, name, noise, preamble, rate, spread};
use super::{Change, Report, duration, figure};
use crate::comparison::Comparison;
use crate::outcome::{Outcome, Verdict, times};
use crate::statistics::Difference;
use std::fmt::Write as _;

const STYLE: &str = include_str!("report.css");

/// Longer names of comparisons are cut in charts; the table has them whole.
const NAME_LETTERS: usize = 28;

pub(super) fn render(report: &Report, changes: Option<&[Change]>) -> String {
    let mut body = String::new();
    // Writing into a string doesn't fail.
    _ = write_body(&mut body, report, changes);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>ringway bench</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn write_body(out: &mut String, report: &Report, changes: Option<&[Change]>) -> std::fmt::Result {
    writeln!(
        out,
        "<header><h1>ringway bench</h1><p>{}</p></header>",
        escape(&preamble(report))
    )?;
    writeln!(out, "<main>")?;
    if let Some(why) = &report.partial {
        let why = escape(why);
        writeln!(
            out,
            r#"<p class="partial"><strong>This report is partial:</strong> {why}.</p>"#
        )?;
    }
    write_verdicts(out, report)?;
    write_gains(out, report)?;
    if let Some(changes) = changes {
        write_changes(out, changes)?;
    }
    report
        .outcomes
        .iter()
        .try_for_each(|outcome| write_outcome(out, outcome))?;
    write_machine(out, report)?;
    writeln!(out, "</main>")
}

fn write_verdicts(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, r#"<section><h2>Verdicts</h2><ul class="verdicts">"#)?;
    for outcome in &report.outcomes {
        writeln!(
            out,
            r##"<li><a href="#{}">{}</a> {}<p>{}</p></li>"##,
            escape(&outcome.name),
            escape(&outcome.title),
            badge(outcome.verdict),
            escape(&outcome.says)
        )?;
    }
    writeln!(out, "</ul></section>")
}

fn badge(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::Confirmed => "good",
        Verdict::Refuted => "bad",
        Verdict::Failed | Verdict::NotRun => "broken",
        Verdict::NoDifference | Verdict::NotMeasurable => "open",
    };
    format!(r#"<span class="badge {class}">{}</span>"#, verdict.words())
}

fn write_gains(out: &mut String, report: &Report) -> std::fmt::Result {
    let gains = report.gains();
    if gains.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section><h2>Gains, as claimed and as measured here</h2><table class=\"gains\">"
    )?;
    writeln!(
        out,
        "<thead><tr><th></th><th>claimed</th><th>here</th></tr></thead><tbody>"
    )?;
    for (outcome, gain) in gains {
        let measured = gain.measured_words();
        writeln!(
            out,
            "<tr><th>{} {}</th><td>{}</td><td>{measured}</td></tr>",
            escape(&outcome.title),
            badge(outcome.verdict),
            times(gain.claimed)
        )?;
    }
    writeln!(out, "</tbody></table></section>")
}

fn write_changes(out: &mut String, changes: &[Change]) -> std::fmt::Result {
    writeln!(out, "<section><h2>Since the other run</h2>")?;
    if changes.is_empty() {
        return writeln!(out, "<p>Nothing is in both.</p></section>");
    }
    writeln!(
        out,
        "<div class=\"wide\"><table><thead><tr><th></th><th>then</th><th>now</th><th></th></tr></thead><tbody>"
    )?;
    for change in changes {
        let by = (change.after / change.before - 1.0) * 100.0;
        let (class, words) = match change.difference {
            Difference::None => ("open", "no difference"),
            Difference::More => ("bad", "dearer"),
            Difference::Less => ("good", "cheaper"),
        };
        writeln!(
            out,
            r#"<tr><th>{}: {}, {}</th><td>{}</td><td>{}</td><td>{by:+.1} % <span class="badge {class}">{words}</span></td></tr>"#,
            escape(&change.scenario),
            escape(&change.comparison),
            escape(&change.name),
            figure(change.before),
            figure(change.after)
        )?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

fn write_outcome(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        r#"<section id="{}"><h2>{} {}</h2>"#,
        escape(&outcome.name),
        escape(&outcome.title),
        badge(outcome.verdict)
    )?;
    writeln!(
        out,
        "<dl><dt>Claim</dt><dd>{}</dd><dt>Run</dt><dd>{}</dd><dt>Refuted by</dt><dd>{}</dd><dt>Found</dt><dd>{}</dd></dl>",
        escape(&outcome.claim),
        escape(&outcome.runs),
        escape(&outcome.refuted_by),
        escape(&outcome.says)
    )?;
    for chart in charts(outcome) {
        writeln!(out, "<figure>{chart}</figure>")?;
    }
    if !outcome.notes.is_empty() {
        let notes = outcome
            .notes
            .iter()
            .map(|note| format!("<li>{}</li>", escape(note)));
        writeln!(out, "<ul>{}</ul>", notes.collect::<String>())?;
    }
    if !outcome.comparisons.is_empty() {
        writeln!(out, "<details><summary>The figures</summary>")?;
        outcome
            .comparisons
            .iter()
            .try_for_each(|one| write_comparison(out, one))?;
        writeln!(out, "</details>")?;
    }
    writeln!(out, "</section>")
}

/// What is worth a picture: costs as bars by unit, scaling, latency, and the rate over time.
fn charts(outcome: &Outcome) -> Vec<String> {
    let mut units: Vec<&str> = Vec::new();
    for comparison in &outcome.comparisons {
        if !units.contains(&comparison.unit.as_str()) {
            units.push(&comparison.unit);
        }
    }
    let mut charts: Vec<String> = units.iter().map(|unit| cost_bars(outcome, unit)).collect();
    charts.extend(scaling(outcome));
    charts.extend(outcome.comparisons.iter().filter_map(latencies));
    charts.extend(outcome.comparisons.first().and_then(rates_over_time));
    charts
}

fn cost_bars(outcome: &Outcome, unit: &str) -> String {
    let of_unit = outcome.comparisons.iter().filter(|one| one.unit == unit);
    let groups: Vec<Group> = of_unit
        .map(|comparison| Group {
            name: format!("{}: {unit}", comparison.title),
            bars: comparison
                .rows
                .iter()
                .map(|row| (cut(&row.name), row.cost))
                .collect(),
        })
        .collect();
    bars(&format!("{}: {unit}", outcome.title), &groups)
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_LETTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Costs over the axis, where the comparisons have places on one.
fn scaling(outcome: &Outcome) -> Option<String> {
    let axis = outcome.axis.as_ref()?;
    let placed: Vec<_> = outcome
        .comparisons
        .iter()
        .filter_map(|one| Some((one.at?, one)))
        .collect();
    let (_, first) = placed.first()?;
    let series = first.rows.iter().map(|row| {
        let points = placed
            .iter()
            .filter_map(|(at, one)| Some((*at, one.row(&row.name)?.cost.median)));
        (row.name.clone(), points.collect())
    });
    lines(&Lines {
        title: format!("{}, by {axis}", first.unit),
        x_name: axis.clone(),
        y_name: first.unit.clone(),
        x_scale: Scale::Logarithmic,
        y_scale: Scale::Linear,
        x_marks: placed
            .iter()
            .map(|(at, _)| (*at, format!("{at:.0}")))
            .collect(),
        series: series.collect(),
    })
}

fn latencies(comparison: &Comparison) -> Option<String> {
    let of_rows: Vec<_> = comparison
        .rows
        .iter()
        .map(|row| (row.name.clone(), latency(row)))
        .collect();
    let (_, first) = of_rows.first()?;
    let marks = first.iter().enumerate();
    let marks = marks
        .map(|(place, (part, _))| (place as f64, format!("p{part}")))
        .collect();
    let series = of_rows.iter().map(|(name, parts)| {
        let points = parts.iter().enumerate();
        (
            name.clone(),
            points
                .map(|(place, (_, micros))| (place as f64, *micros as f64))
                .collect(),
        )
    });
    lines(&Lines {
        title: format!("Latency: {}", comparison.title),
        x_name: "percentile".to_owned(),
        y_name: format!("latency in µs, {}", comparison.title),
        x_scale: Scale::Linear,
        y_scale: Scale::Logarithmic,
        x_marks: marks,
        series: series.collect(),
    })
}

fn rates_over_time(comparison: &Comparison) -> Option<String> {
    let series = comparison.rows.iter().filter_map(|row| {
        let rates = &row.runs.last()?.over_time;
        let count = rates.len().max(1) as f64;
        let points = rates.iter().enumerate();
        let points = points.map(|(index, rate)| ((index + 1) as f64 * 100.0 / count, *rate));
        Some((row.name.clone(), points.collect()))
    });
    lines(&Lines {
        title: format!("Requests a second over a run: {}", comparison.title),
        x_name: "per cent of the last run".to_owned(),
        y_name: format!("requests a second, {}", comparison.title),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        x_marks: [25.0, 50.0, 75.0, 100.0]
            .map(|at| (at, format!("{at:.0}")))
            .into(),
        series: series.collect(),
    })
}

fn write_comparison(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    writeln!(
        out,
        "<h3>{}</h3><p>{}</p>",
        escape(&comparison.title),
        escape(&noise(comparison))
    )?;
    writeln!(
        out,
        "<div class=\"wide\"><table><thead><tr><th></th><th>{}</th><th>ratio</th><th>best</th><th>requests/s</th><th>busy</th><th>latency</th></tr></thead><tbody>",
        escape(&comparison.unit)
    )?;
    for row in &comparison.rows {
        let (rate, busy) = match has_load(row) {
            true => (rate(row), busy(row)),
            false => ("–".to_owned(), "–".to_owned()),
        };
        let parts = latency(row);
        let parts: Vec<String> = parts
            .iter()
            .map(|(part, micros)| format!("p{part} {}", duration(*micros)))
            .collect();
        writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{:.2}</td><td>{rate}</td><td>{busy}</td><td>{}</td></tr>",
            escape(&name(row)),
            spread(row.cost),
            spread(row.ratio),
            row.best,
            parts.join(", ")
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    write_counters(out, comparison)
}

/// What else the kernel counted, and who did the work, in each one's last run.
fn write_counters(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    let lasts = comparison
        .rows
        .iter()
        .filter_map(|row| Some((row, row.runs.last()?)));
    let counted: Vec<_> = lasts.filter(|(_, run)| !run.counters.is_empty()).collect();
    if counted.is_empty() {
        return Ok(());
    }
    writeln!(out, "<ul class=\"counters\">")?;
    for (row, run) in counted {
        let counters = run
            .counters
            .iter()
            .map(|(name, each)| format!("{} {name}", figure(*each)));
        let threads = run
            .threads
            .iter()
            .map(|(name, share)| format!("{name} {:.0} %", share * 100.0));
        writeln!(
            out,
            "<li>{}: for a request {}; threads: {}; the load's own CPU {} µs</li>",
            escape(&row.name),
            escape(&counters.collect::<Vec<_>>().join(", ")),
            escape(&threads.collect::<Vec<_>>().join(", ")),
            figure(run.load_cost)
        )?;
    }
    writeln!(out, "</ul>")
}

fn write_machine(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        out,
        "<section><h2>The machine, and how it was measured</h2><dl>"
    )?;
    for (name, value) in &report.machine {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value))?;
    }
    writeln!(out, "</dl><ul>")?;
    for sentence in report.method.iter().chain([&discarded(report)]) {
        writeln!(out, "<li>{}</li>", escape(sentence))?;
    }
    writeln!(out, "</ul></section>")
}
