//! Static files of three sizes from three numbers of connections, beside the yardstick.

use crate::comparison::{Comparison, Shape, compare};
use crate::contestant::{Contestant, DRIVERS, Yardstick, serve};
use crate::outcome::{Findings, Verdict, judge_bound};
use crate::setting::{Setting, Step, Trouble};

/// A file that is served.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    /// For people.
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) bytes: u64,
}

pub(crate) const SMALL: Body = Body {
    name: "1 KB",
    file: "1k.html",
    bytes: 1024,
};
pub(crate) const MIDDLE: Body = Body {
    name: "100 KB",
    file: "100k.html",
    bytes: 100 * 1024,
};
pub(crate) const LARGE: Body = Body {
    name: "10 MB",
    file: "10m.bin",
    bytes: 10 << 20,
};

/// As many connections as ask for something large: more would only wait in line, with ten megabytes of
/// each under way.
const LARGE_CONNECTIONS: usize = 64;
/// What a small request may cost, and a large one, in those of the yardstick.
const SMALL_BOUND: f64 = 1.25;
const LARGE_BOUND: f64 = 1.10;

/// One row of the suite.
struct Case {
    body: Body,
    connections: usize,
    keep_alive: bool,
}

impl Case {
    fn title(&self) -> String {
        let how = if self.keep_alive {
            ""
        } else {
            ", one for each request"
        };
        format!("{}, {} connections{how}", self.body.name, self.connections)
    }
}

/// A quick run leaves out what takes longest: ten thousand connections, and a connection for each request
/// of a large file.
fn cases(body: Body, is_quick: bool) -> Vec<Case> {
    let kept_alive: &[usize] = match (body.bytes == LARGE.bytes, is_quick) {
        (true, _) => &[LARGE_CONNECTIONS],
        (false, true) => &[400, 1000],
        (false, false) => &[400, 1000, 10_000],
    };
    let case = |connections: usize, keep_alive: bool| Case {
        body,
        connections,
        keep_alive,
    };
    let mut cases: Vec<Case> = kept_alive.iter().map(|count| case(*count, true)).collect();
    if !is_quick || body.bytes == SMALL.bytes {
        cases.push(case(kept_alive[0], false));
    }
    cases
}

/// The least that serving this body costs: a send from memory, or sendfile where that is cheaper.
pub(super) fn yardstick(setting: &Setting, body: Body) -> Result<Contestant, Trouble> {
    let file = setting.file(body.file, body.bytes)?;
    let yardstick = match body.bytes == LARGE.bytes {
        true => Yardstick::File(file),
        false => Yardstick::Memory("uring", body.bytes as usize),
    };
    let path = format!("/{}", body.file);
    Ok(yardstick.contestant(setting.program(), setting.free_port()?, &path))
}

/// This program with one worker, on this driver.
pub(crate) fn ringway(
    setting: &Setting,
    driver: &str,
    body: Body,
    connections: usize,
) -> Result<Contestant, Trouble> {
    setting.file(body.file, body.bytes)?;
    let path = format!("/{}", body.file);
    let (site, port) = (setting.site(), setting.free_port()?);
    let one = serve(setting.program(), driver, &site, port, &path, 1);
    // Without a number it keeps a descriptor free for a file of each connection.
    Ok(one.with(["--connections".to_owned(), (connections + 256).to_string()]))
}

pub(super) fn small(setting: &mut Setting) -> Result<Findings, Trouble> {
    find(setting, SMALL, SMALL_BOUND)
}

pub(super) fn middle(setting: &mut Setting) -> Result<Findings, Trouble> {
    find(setting, MIDDLE, SMALL_BOUND)
}

pub(super) fn large(setting: &mut Setting) -> Result<Findings, Trouble> {
    let mut findings = find(setting, LARGE, LARGE_BOUND)?;
    findings.notes.push(format!(
        "asked for by {LARGE_CONNECTIONS} connections: more would wait in line with ten megabytes each"
    ));
    Ok(findings)
}

/// Compares each case of this body, and judges those that are kept alive by the bound.
fn find(setting: &Setting, body: Body, bound: f64) -> Result<Findings, Trouble> {
    let (mut comparisons, mut notes) = (Vec::new(), Vec::new());
    let mut broken = Vec::new();
    let mut highest = (0.0, String::new());
    for case in cases(body, setting.is_quick()) {
        let comparison = match compare_case(setting, &case) {
            // A case that this machine hasn't the descriptors or ports for doesn't spoil the others.
            Err(Trouble::Failed(why)) => {
                let note = format!("{}: {why}", case.title());
                setting.tell(Step::Note(format!("  {note}")));
                notes.push(note);
                continue;
            }
            other => other?,
        };
        for row in comparison.rows.iter().skip(1).filter(|_| case.keep_alive) {
            let text = format!(
                "{:.2} ({}, {})",
                row.ratio.median, comparison.title, row.name
            );
            if row.ratio.median > highest.0 {
                highest = (row.ratio.median, text.clone());
            }
            if judge_bound(bound, row.ratio) == Verdict::Refuted {
                broken.push(text);
            }
        }
        comparisons.push(comparison);
    }
    if comparisons.is_empty() {
        return Err(Trouble::Failed(notes.join("; ")));
    }
    let (verdict, says) = match broken.is_empty() {
        true => (Verdict::Confirmed, format!("at most {}", highest.1)),
        false => (
            Verdict::Refuted,
            format!("above the bound: {}", broken.join("; ")),
        ),
    };
    Ok(Findings {
        verdict,
        says,
        gain: None,
        comparisons,
        notes,
    })
}

fn compare_case(setting: &Setting, case: &Case) -> Result<Comparison, Trouble> {
    let Case {
        body,
        connections,
        keep_alive,
    } = *case;
    // The load opens its next connection before the server has seen the end of the last one.
    let places = match keep_alive {
        true => connections,
        false => 2 * connections,
    };
    let mut contestants = vec![yardstick(setting, body)?];
    for (_, driver) in DRIVERS {
        contestants.push(ringway(setting, driver, body, places)?);
    }
    let shape = Shape {
        keep_alive,
        ..Shape::closed(connections, body.bytes)
    };
    compare(setting, &case.title(), &shape, &contestants)
}
