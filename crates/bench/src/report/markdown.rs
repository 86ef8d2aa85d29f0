//! The report as Markdown, for a repository or an issue.

use super::{Change, Report, duration, figure};
use crate::comparison::{Comparison, Row, Run};
use crate::outcome::{Outcome, times};
use crate::statistics::{Difference, Spread};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn render(report: &Report, changes: Option<&[Change]>) -> String {
    let mut out = String::new();
    // Writing into a string doesn't fail.
    _ = write_report(&mut out, report, changes);
    out
}

fn write_report(out: &mut String, report: &Report, changes: Option<&[Change]>) -> std::fmt::Result {
    writeln!(out, "# ringway bench\n\n{}\n", preamble(report))?;
    if let Some(why) = &report.partial {
        writeln!(out, "**This report is partial: {}.**\n", escape(why))?;
    }
    writeln!(out, "| the machine | |\n| --- | --- |")?;
    for (name, value) in &report.machine {
        writeln!(out, "| {} | {} |", escape(name), escape(value))?;
    }
    writeln!(out, "\nHow it was measured:\n")?;
    for sentence in &report.method {
        writeln!(out, "- {}", escape(sentence))?;
    }
    writeln!(out, "- {}", discarded(report))?;
    writeln!(out, "\n| scenario | verdict | |\n| --- | --- | --- |")?;
    for outcome in &report.outcomes {
        let (name, verdict) = (&outcome.name, outcome.verdict.words());
        writeln!(out, "| {name} | {verdict} | {} |", escape(&outcome.says))?;
    }
    write_gains(out, report)?;
    if let Some(changes) = changes {
        write_changes(out, changes)?;
    }
    report
        .outcomes
        .iter()
        .try_for_each(|outcome| write_outcome(out, outcome))
}

pub(super) fn preamble(report: &Report) -> String {
    let kind = if report.is_quick {
        ", quick: its verdicts are indications"
    } else {
        ""
    };
    format!(
        "ringway {}, {}, {:.0} s{kind}",
        report.ringway, report.begun, report.seconds
    )
}

pub(super) fn discarded(report: &Report) -> String {
    let count = match report.discarded() {
        0 => {
            return "no run was thrown away for time that the hypervisor or others took".to_owned();
        }
        1 => "1 run was".to_owned(),
        count => format!("{count} runs were"),
    };
    format!(
        "{count} thrown away and done again: the hypervisor took more than 5 % of the CPU, or other programs more than 10 %"
    )
}

fn write_gains(out: &mut String, report: &Report) -> std::fmt::Result {
    let gains = report.gains();
    if gains.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n| gain | claimed | here | |\n| --- | ---: | ---: | --- |"
    )?;
    for (outcome, gain) in gains {
        let (title, verdict) = (escape(&outcome.title), outcome.verdict.words());
        let measured = gain.measured_words();
        writeln!(
            out,
            "| {title} | {} | {measured} | {verdict} |",
            times(gain.claimed)
        )?;
    }
    Ok(())
}

fn write_changes(out: &mut String, changes: &[Change]) -> std::fmt::Result {
    writeln!(out, "\n## Since the other run\n")?;
    if changes.is_empty() {
        return writeln!(out, "Nothing is in both.");
    }
    writeln!(out, "| | then | now | |\n| --- | ---: | ---: | --- |")?;
    for change in changes {
        writeln!(
            out,
            "| {}: {}, {} | {} | {} | {} |",
            change.scenario,
            escape(&change.comparison),
            escape(&change.name),
            figure(change.before),
            figure(change.after),
            changed(change),
        )?;
    }
    Ok(())
}

/// A change in words.
pub(super) fn changed(change: &Change) -> String {
    let by = (change.after / change.before - 1.0) * 100.0;
    match change.difference {
        Difference::None => format!("{by:+.1} %: no difference"),
        Difference::More => format!("**{by:+.1} %: dearer**"),
        Difference::Less => format!("{by:+.1} %: cheaper"),
    }
}

fn write_outcome(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(out, "\n## {}\n", escape(&outcome.title))?;
    writeln!(out, "Claim: {}\n", escape(&outcome.claim))?;
    writeln!(
        out,
        "Run: {} Refuted by: {}\n",
        escape(&outcome.runs),
        escape(&outcome.refuted_by)
    )?;
    writeln!(
        out,
        "**{}**: {}",
        outcome.verdict.words(),
        escape(&outcome.says)
    )?;
    for comparison in &outcome.comparisons {
        write_comparison(out, comparison)?;
    }
    if !outcome.notes.is_empty() {
        writeln!(out)?;
    }
    outcome
        .notes
        .iter()
        .try_for_each(|note| writeln!(out, "- {}", escape(note)))
}

fn write_comparison(out: &mut String, comparison: &Comparison) -> std::fmt::Result {
    writeln!(
        out,
        "\n{}; {}\n",
        escape(&comparison.title),
        noise(comparison)
    )?;
    let has_load = comparison.rows.iter().any(has_load);
    let has_latency = comparison.rows.iter().any(|row| !latency(row).is_empty());
    write!(out, "| | {} | ratio | best |", comparison.unit)?;
    let heads = [
        (has_load, " requests/s | busy |"),
        (has_latency, " p50 | p99 | p99.9 |"),
    ];
    let rules = [
        (has_load, " ---: | ---: |"),
        (has_latency, " ---: | ---: | ---: |"),
    ];
    let join = |parts: [(bool, &str); 2]| -> String {
        parts
            .iter()
            .filter(|(is_there, _)| *is_there)
            .map(|(_, text)| *text)
            .collect()
    };
    writeln!(
        out,
        "{}\n| --- | ---: | ---: | ---: |{}",
        join(heads),
        join(rules)
    )?;
    for row in &comparison.rows {
        let name = name(row);
        let (cost, ratio) = (spread(row.cost), spread(row.ratio));
        write!(
            out,
            "| {} | {cost} | {ratio} | {:.2} |",
            escape(&name),
            row.best
        )?;
        if has_load {
            write!(out, " {} | {} |", rate(row), busy(row))?;
        }
        if has_latency {
            for part in [50.0, 99.0, 99.9] {
                let found = latency(row).into_iter().find(|(known, _)| *known == part);
                let text = found.map_or("–".to_owned(), |(_, micros)| duration(micros));
                write!(out, " {text} |")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A contestant with its version.
pub(super) fn name(row: &Row) -> String {
    match &row.version {
        Some(version) => format!("{} {version}", row.name),
        None => row.name.clone(),
    }
}

/// The noise in words.
pub(super) fn noise(comparison: &Comparison) -> String {
    match comparison.noise {
        None => "noise not measured".to_owned(),
        Some(twins) => format!(
            "the first against itself: {:.2} ({:.2} to {:.2})",
            twins.median, twins.least, twins.greatest
        ),
    }
}

/// The median, and the ends.
pub(super) fn spread(spread: Spread) -> String {
    let Spread {
        median,
        least,
        greatest,
    } = spread;
    if least == greatest {
        return figure(median);
    }
    format!(
        "{} ({}–{})",
        figure(median),
        figure(least),
        figure(greatest)
    )
}

/// Whether something was asked of it.
pub(super) fn has_load(row: &Row) -> bool {
    row.runs.iter().any(|run| run.busy > 0.0)
}

/// Requests a second, and whether the server could have answered more.
pub(super) fn rate(row: &Row) -> String {
    let rates: Vec<f64> = row.runs.iter().map(|run| run.requests_per_second).collect();
    let median = Spread::of(&rates).map_or(f64::NAN, |rates| rates.median);
    let is_bound = row.runs.iter().any(|run| run.is_client_bound);
    let is_disturbed = row.runs.iter().any(Run::is_disturbed);
    let mark = match (is_bound, is_disturbed) {
        (_, true) => " (disturbed)",
        (true, false) => " (client-bound)",
        (false, false) => "",
    };
    format!("{}{mark}{}", figure(median), failures(row))
}

/// How many requests weren't answered, and why; nothing if all were.
fn failures(row: &Row) -> String {
    let mut kinds = BTreeMap::new();
    for (kind, count) in row.runs.iter().flat_map(|run| &run.failure_kinds) {
        *kinds.entry(kind.as_str()).or_insert(0) += count;
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count): (_, u64)| format!("{count} {kind}"))
        .collect();
    let why = match kinds.is_empty() {
        true => String::new(),
        false => format!(" ({})", kinds.join(", ")),
    };
    match row.runs.iter().map(|run| run.failures).sum() {
        0 => String::new(),
        1 => format!(", 1 failure{why}"),
        count => format!(", {count} failures{why}"),
    }
}

/// How busy the server was.
pub(super) fn busy(row: &Row) -> String {
    let shares: Vec<f64> = row.runs.iter().map(|run| run.busy).collect();
    let median = Spread::of(&shares).map_or(f64::NAN, |shares| shares.median);
    format!("{:.0} %", median * 100.0)
}

/// Percentiles in microseconds: of each, the median of the runs.
pub(super) fn latency(row: &Row) -> Vec<(f64, u64)> {
    let Some(first) = row.runs.first() else {
        return Vec::new();
    };
    let median = |index: usize| {
        let all = row.runs.iter().filter_map(|run| run.latency.get(index));
        let all: Vec<f64> = all.map(|(_, micros)| *micros as f64).collect();
        Spread::of(&all).map_or(0, |all| all.median as u64)
    };
    let parts = first.latency.iter().enumerate();
    parts
        .map(|(index, (part, _))| (*part, median(index)))
        .collect()
}

/// Marks that would end a cell or begin something else.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '<' | '*' | '_' | '`' | '\\' | '[' => out.extend(['\\', letter]),
            '\n' => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}
