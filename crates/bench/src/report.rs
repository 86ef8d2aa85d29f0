//! What came of a run, written down three times: JSON for programs, Markdown for a repository, and one
//! HTML file that needs nothing else.

mod changes;
mod chart;
mod html;
mod markdown;

pub use changes::{Change, changes};

use crate::outcome::{Gain, Outcome};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The version of the JSON: it grows when something changes its meaning or goes.
pub const REPORT_VERSION: u32 = 1;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// The program's version.
    pub ringway: String,
    /// When it began.
    pub begun: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was too short to rely on.
    pub is_quick: bool,
    /// Why it doesn't say all that was asked for; none when it does.
    pub partial: Option<String>,
    /// Names and values of what figures depend on.
    pub machine: Vec<(String, String)>,
    /// How it was measured: a sentence each.
    pub method: Vec<String>,
    /// The scenarios.
    pub outcomes: Vec<Outcome>,
}

/// Why a report can't be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file can't be read.
    Unreadable(io::Error),
    /// It isn't a report.
    Malformed(serde_json::Error),
    /// It is one of another version of the program.
    Version(u32),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Unreadable(error) => write!(out, "{error}"),
            ReadError::Malformed(error) => write!(out, "not a report of ringway bench: {error}"),
            ReadError::Version(version) => write!(
                out,
                "a report of version {version}, and this program reads version {REPORT_VERSION}"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// The names of the three files in their folder.
pub const FILES: [&str; 3] = ["report.json", "report.md", "report.html"];

impl Report {
    /// Reads what [`Report::save`] has written.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Report, ReadError> {
        /// What tells a report of another version from something else.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let text = fs::read(path).map_err(ReadError::Unreadable)?;
        let Version { version } = serde_json::from_slice(&text).map_err(ReadError::Malformed)?;
        if version != REPORT_VERSION {
            return Err(ReadError::Version(version));
        }
        serde_json::from_slice(&text).map_err(ReadError::Malformed)
    }

    /// Writes all three files into a folder, which is made where it isn't there. `old` is a report to
    /// compare with.
    ///
    /// Each file is replaced at once, so that whoever reads it meanwhile sees a whole one.
    ///
    /// # Errors
    /// As writing a file.
    pub fn save(&self, folder: &Path, old: Option<&Report>) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let changes = old.map(|old| changes(old, self));
        let changes = changes.as_deref();
        let json = serde_json::to_string_pretty(self)?;
        let texts = [
            json,
            markdown::render(self, changes),
            html::render(self, changes),
        ];
        for (name, text) in FILES.iter().zip(texts) {
            let path = folder.join(name);
            let mut new = path.clone().into_os_string();
            new.push(".new");
            let new = PathBuf::from(new);
            fs::write(&new, text)?;
            fs::rename(&new, &path)?;
        }
        Ok(())
    }

    /// The outcomes for which a gain is claimed as a number.
    fn gains(&self) -> Vec<(&Outcome, Gain)> {
        let gains = self.outcomes.iter();
        gains.filter_map(|one| Some((one, one.gain?))).collect()
    }

    /// Runs that were thrown away because the hypervisor or other programs took the CPU.
    pub fn discarded(&self) -> u32 {
        let all = self
            .outcomes
            .iter()
            .flat_map(|outcome| &outcome.comparisons);
        all.map(crate::comparison::Comparison::discarded).sum()
    }
}

/// A figure with three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number with what it counts: "1 thread", "2 threads".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Microseconds in words.
fn duration(micros: u64) -> String {
    match micros as f64 {
        micros if micros < 1e3 => format!("{micros:.0} µs"),
        micros if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests;
