//! What the doctor says: a verdict first, then what is wrong and what to do, the rest on demand; as
//! text for people, as JSON for programs, and as an exit code.

mod decisions;
mod guide;
mod tiers;

pub use decisions::Decision;
pub use guide::{Item, Standing};
pub use tiers::{Reach, Tier};

use crate::checks::{self, Finding, Remedy, Severity, Verdict};
use crate::facts::Facts;
use crate::intent::Intent;
use crate::placement::counted;
use crate::plan::Plan;
use serde::Serialize;
use std::fmt::Write as _;

/// The version of the report's JSON.
pub const REPORT_VERSION: u32 = 1;

/// Everything that the doctor has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub report_version: u32,
    /// The verdict's number: see [`Report::exit_code`].
    pub exit_code: u8,
    /// What the operator said.
    pub intent: Intent,
    /// The checks with what they found.
    pub findings: Vec<Finding>,
    /// The decision tree, each question with its answer from the facts.
    pub decisions: Vec<Decision>,
    /// The tuning checklist, item by item.
    pub checklist: Vec<Item>,
    /// The usual script of kernel parameters, line by line.
    pub script: Vec<Item>,
    /// The tiers that the machine reaches.
    pub tiers: Vec<Reach>,
    /// What would be changed.
    pub plan: Plan,
    /// What all of it is about.
    pub facts: Facts,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With colours, for terminals.
    pub has_colors: bool,
    /// With every check, decision, item and line.
    pub has_details: bool,
}

/// Examines a machine for what the operator wants of it.
pub fn examine(facts: Facts, intent: Intent) -> Report {
    let (findings, plan) = checks::run(&facts, &intent);
    Report {
        report_version: REPORT_VERSION,
        exit_code: exit_code(&findings),
        decisions: decisions::walk(&facts, &intent, &findings),
        checklist: guide::checklist(&facts, &findings),
        script: guide::script(&facts, &intent),
        tiers: tiers::reached(&findings),
        intent,
        findings,
        plan,
        facts,
    }
}

/// Facts without which nothing can be said.
const ESSENTIAL: &[&str] = &["kernel.version", "cpu.topology"];

fn exit_code(findings: &[Finding]) -> u8 {
    let worst = findings.iter().filter_map(Finding::badness).max();
    let is_blind = findings.iter().any(|finding| {
        ESSENTIAL.contains(&finding.id) && matches!(finding.verdict, Verdict::NotVisible(_))
    });
    match worst {
        Some(Severity::Failure) => 2,
        _ if is_blind => 3,
        Some(Severity::Warning) => 1,
        Some(Severity::Info) | None => 0,
    }
}

impl Report {
    /// 0: fine; 1: warnings; 2: failures; 3: too little is visible to tell.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: everything in it has a form in JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps have strings as keys, and no value refuses")
    }

    /// As text.
    pub fn text(&self, style: Style) -> String {
        let mut page = Page {
            text: String::new(),
            style,
        };
        self.verdict(&mut page);
        self.problems(&mut page);
        if style.has_details {
            self.all_checks(&mut page);
            self.walk(&mut page);
            items(&mut page, "The checklist", &self.checklist);
            items(&mut page, "The usual script of parameters", &self.script);
        }
        self.tiers(&mut page);
        self.rest(&mut page);
        page.text
    }

    fn count(&self, severity: Severity) -> usize {
        let bad = self
            .findings
            .iter()
            .filter(|finding| finding.badness() == Some(severity));
        bad.count()
    }

    fn verdict(&self, page: &mut Page) {
        let (failures, warnings) = (self.count(Severity::Failure), self.count(Severity::Warning));
        let verdict = match self.exit_code {
            0 => "fine: nothing stands in the way".to_owned(),
            1 => format!("works, with {}", counted(warnings, "warning")),
            3 => "too little is visible from here to tell".to_owned(),
            _ => format!(
                "{}, {}",
                counted(failures, "failure"),
                counted(warnings, "warning")
            ),
        };
        let color = match self.exit_code {
            0 => Color::Good,
            2 => Color::Failure,
            _ => Color::Warning,
        };
        page.line(color, &verdict);
        page.line(Color::Plain, &self.summary());
        match self.plan.placement.as_result() {
            Ok(placement) => {
                page.line(Color::Plain, &format!("Placement: {placement}"));
                for note in &placement.notes {
                    page.line(Color::Faint, &format!("  {note}"));
                }
            }
            Err(why) => page.line(Color::Failure, &format!("Placement: {why}")),
        }
    }

    fn summary(&self) -> String {
        let facts = &self.facts;
        let release = facts.system.kernel_release.known();
        let release = release.map_or("unknown", String::as_str);
        let cpus = facts.processors.each.len();
        let nodes = facts.known_nodes().len().max(1);
        let nic = match facts.nic(self.intent.nic.as_deref()) {
            Some(nic) => {
                let queues = counted(nic.receiving_queues(), "queue");
                let driver = nic.driver.known().map_or("unknown driver", String::as_str);
                format!("{} ({driver}, {queues})", nic.name)
            }
            None => "no physical network device".to_owned(),
        };
        let (cpus, nodes) = (counted(cpus, "CPU"), counted(nodes, "node"));
        format!("Linux {release}, {cpus} in {nodes}, {nic}")
    }

    fn problems(&self, page: &mut Page) {
        let mut bad: Vec<&Finding> = self
            .findings
            .iter()
            .filter(|finding| finding.badness().is_some())
            .collect();
        bad.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for finding in bad {
            page.line(Color::Plain, "");
            self.problem(page, finding);
        }
    }

    fn problem(&self, page: &mut Page, finding: &Finding) {
        let (mark, color) = match finding.severity {
            Severity::Failure => ("failure", Color::Failure),
            Severity::Warning => ("warning", Color::Warning),
            Severity::Info => ("advice", Color::Faint),
        };
        let found = finding.verdict.words();
        page.line(color, &format!("{mark}  {}: {found}", finding.id));
        page.line(Color::Plain, &format!("  why     {}", finding.why));
        page.line(Color::Plain, &format!("  good    {}", finding.good));
        let remedy = match finding.remedy {
            Remedy::Tune if self.plan.of(finding.id).next().is_none() => {
                "none that tune would do here; see its notes".to_owned()
            }
            Remedy::Tune => "ringway tune".to_owned(),
            Remedy::TuneWithLeave => "ringway tune --allow-disruption".to_owned(),
            Remedy::Advice(advice) => advice.to_owned(),
            Remedy::None => return,
        };
        page.line(Color::Plain, &format!("  remedy  {remedy}"));
        if finding.undo != "nothing to undo" {
            page.line(Color::Plain, &format!("  undo    {}", finding.undo));
        }
    }

    fn all_checks(&self, page: &mut Page) {
        page.heading("Every check");
        for finding in &self.findings {
            let (mark, color) = match &finding.verdict {
                Verdict::Good(_) => ("good", Color::Good),
                Verdict::Note(_) => ("note", Color::Plain),
                Verdict::NotVisible(_) => ("unseen", Color::Faint),
                Verdict::NotAsked(_) => ("open", Color::Faint),
                Verdict::Bad(_) => match finding.severity {
                    Severity::Failure => ("failure", Color::Failure),
                    Severity::Warning => ("warning", Color::Warning),
                    Severity::Info => ("advice", Color::Plain),
                },
            };
            let found = finding.verdict.words();
            page.line(color, &format!("  {mark:<8}{:<20}{found}", finding.id));
        }
    }

    fn walk(&self, page: &mut Page) {
        page.heading("The decision tree, each question for itself");
        for decision in &self.decisions {
            page.line(Color::Plain, &format!("  {}", decision.question));
            page.line(
                Color::Plain,
                &format!("    {}: {}", decision.answer, decision.because),
            );
            page.line(Color::Faint, &format!("    so: {}", decision.so));
        }
    }

    fn tiers(&self, page: &mut Page) {
        page.heading(match self.facts.server {
            Some(_) => "Tiers",
            None => "Tiers of the machine (with --server: of the server that runs, too)",
        });
        for reach in &self.tiers {
            let (word, color) = match (reach.missing.is_empty(), reach.unseen.is_empty()) {
                (true, true) => ("reached".to_owned(), Color::Good),
                (true, false) => (
                    format!(
                        "nothing against it; not visible: {}",
                        reach.unseen.join(", ")
                    ),
                    Color::Plain,
                ),
                (false, _) => (
                    format!("missing: {}", reach.missing.join(", ")),
                    Color::Warning,
                ),
            };
            page.line(color, &format!("  {:<9} {word}", reach.tier.name()));
        }
    }

    fn rest(&self, page: &mut Page) {
        let count = |is: fn(&Verdict) -> bool| {
            self.findings
                .iter()
                .filter(|finding| is(&finding.verdict))
                .count()
        };
        let good = count(|verdict| matches!(verdict, Verdict::Good(_)));
        let notes = count(|verdict| matches!(verdict, Verdict::Note(_)));
        let unseen = count(|verdict| matches!(verdict, Verdict::NotVisible(_)));
        let open = count(|verdict| matches!(verdict, Verdict::NotAsked(_)));
        page.line(Color::Plain, "");
        page.line(
            Color::Faint,
            &format!(
                "{} checks: {good} good, {notes} worth knowing, {unseen} not visible here, {open} \
                 wait for your word",
                self.findings.len()
            ),
        );
        if !page.style.has_details {
            page.line(
                Color::Faint,
                "--details shows all of them, the decision tree and the checklist",
            );
        }
    }
}

impl Verdict {
    /// What was found, in words.
    pub fn words(&self) -> &str {
        match self {
            Verdict::Good(words)
            | Verdict::Note(words)
            | Verdict::Bad(words)
            | Verdict::NotVisible(words)
            | Verdict::NotAsked(words) => words,
        }
    }
}

fn items(page: &mut Page, title: &str, items: &[Item]) {
    page.heading(title);
    for item in items {
        let color = match item.standing {
            Standing::Done => Color::Good,
            Standing::Open => Color::Warning,
            Standing::Harmful => Color::Failure,
            Standing::NotWorthIt => Color::Plain,
            Standing::NotVisible => Color::Faint,
        };
        let standing = item.standing.name();
        page.line(
            color,
            &format!("  {standing:<10} {}: {}", item.item, item.here),
        );
        page.line(Color::Faint, &format!("             {}", item.advice));
    }
}

/// The colours, by what they mean.
#[derive(Clone, Copy)]
enum Color {
    Plain,
    Faint,
    Good,
    Warning,
    Failure,
}

/// A page being written.
struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn heading(&mut self, title: &str) {
        self.line(Color::Plain, "");
        self.line(Color::Plain, title);
    }

    /// Writes a line. Texts come from files that may hold anything, so nothing in them is left to
    /// command a terminal.
    fn line(&mut self, color: Color, text: &str) {
        let shown = text
            .chars()
            .map(|letter| if letter.is_control() { '?' } else { letter });
        let shown: String = shown.collect();
        let code = match color {
            Color::Plain => "",
            Color::Faint => "2",
            Color::Good => "32",
            Color::Warning => "33",
            Color::Failure => "31",
        };
        let _ = if self.style.has_colors && !code.is_empty() {
            writeln!(self.text, "\u{1b}[{code}m{shown}\u{1b}[0m")
        } else {
            writeln!(self.text, "{shown}")
        };
    }
}
