//! Problems of a configuration: what is wrong, where, and what to write instead.
//!
//! A problem only knows its place; [`Problems`] holds the file's text and shows the line with a
//! caret under the place.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::ops::Range;

use super::masked::masked;
use super::node::Place;
use super::source::{Source, Sources};

/// How much of a long line (a minified JSON file is one) is shown around a problem, in
/// characters.
const SHOWN_WIDTH: usize = 96;

/// How many problems are shown: a log that was taken for a configuration has thousands.
pub(super) const SHOWN_COUNT: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// What is written there may be a password, and isn't shown.
    is_secret: bool,
}

impl Problem {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Problem {
        Problem {
            place,
            message: message.into(),
            hint: None,
            is_secret: false,
        }
    }

    /// Doesn't show the line in the file: reports are kept in logs and sent around.
    pub(crate) fn secret(self) -> Problem {
        Problem {
            is_secret: true,
            ..self
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Why a text is refused: for a place that whoever read the text doesn't know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The problem at the place where the text is written.
    pub(super) fn at(self, place: Place) -> Problem {
        Problem::new(place, self.message).hint(self.hint)
    }
}

/// Everything that is wrong with a configuration; there is at least one problem.
///
/// Its `Display` is what a terminal shows: for each problem of a file
/// `FILE:LINE:COLUMN: what is wrong`, the line, a caret, a hint; for each problem of a flag one
/// line. No newline at the end. Beyond the first hundred it only says how many there are.
#[derive(Debug, Clone)]
pub struct Problems {
    sources: Sources,
    list: Vec<Problem>,
}

impl Problems {
    /// `list` in the order of the file, each place and message once. The first `syntax_count`
    /// are those of the syntax: what else is said about their lines is only their echo.
    pub(super) fn new(sources: Sources, syntax_count: usize, mut list: Vec<Problem>) -> Problems {
        let meaning = list.split_off(syntax_count);
        let line_starts = sources.line_starts();
        let line_of = |problem: &Problem| match &problem.place {
            Place::Text(span) => Some(line_starts.partition_point(|start| *start <= span.start)),
            Place::Flag(_) => None,
        };
        let broken_lines: HashSet<usize> = list.iter().filter_map(line_of).collect();
        list.extend(
            meaning.into_iter().filter(|problem| {
                line_of(problem).is_none_or(|line| !broken_lines.contains(&line))
            }),
        );
        list.sort_by_key(|problem| match &problem.place {
            Place::Text(span) => (1, span.start),
            Place::Flag(_) => (0, 0),
        });
        list.dedup();
        Problems { sources, list }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether any of them is in a file, so that the report has source lines in it; otherwise
    /// each is one line about a flag.
    pub fn in_file(&self) -> bool {
        self.list
            .iter()
            .any(|problem| matches!(problem.place, Place::Text(_)))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for problem in self.list.iter().take(SHOWN_COUNT) {
            out.write_str(separator)?;
            match &problem.place {
                Place::Flag(flag) => write_flag_problem(out, flag, problem)?,
                Place::Text(span) => {
                    let (source, span) = self.sources.at(span.clone());
                    write_file_problem(out, source, span, problem)?;
                }
            }
            separator = "\n";
        }
        match self.list.len().saturating_sub(SHOWN_COUNT) {
            0 => Ok(()),
            more => write!(out, "\n... and {more} more"),
        }
    }
}

fn write_flag_problem(out: &mut fmt::Formatter<'_>, flag: &str, problem: &Problem) -> fmt::Result {
    if !flag.is_empty() {
        write!(out, "{}: ", masked(flag))?;
    }
    write!(out, "{}", problem.message)?;
    match &problem.hint {
        Some(hint) => write!(out, ": {hint}"),
        None => Ok(()),
    }
}

fn write_file_problem(
    out: &mut fmt::Formatter<'_>,
    source: &Source,
    span: Range<usize>,
    problem: &Problem,
) -> fmt::Result {
    let Source { name, text, .. } = source;
    let excerpt = Excerpt::new(text, span);
    let Excerpt { line, column, .. } = excerpt;
    writeln!(out, "{name}:{line}:{column}: {}", problem.message)?;
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    if problem.is_secret {
        return match &problem.hint {
            Some(hint) => write!(out, "  {margin} = {hint}"),
            None => Ok(()),
        };
    }
    writeln!(
        out,
        "{}",
        format!("  {number} | {}", excerpt.source).trim_end()
    )?;
    let caret = format!(
        "{}{}",
        " ".repeat(excerpt.indent),
        "^".repeat(excerpt.width)
    );
    write!(out, "  {margin} | {caret}")?;
    match &problem.hint {
        Some(hint) => write!(out, "\n  {margin} = {hint}"),
        None => Ok(()),
    }
}

/// What someone wrote, as a message repeats it: in quotes, escaped, without passwords, and not at
/// length.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN_LENGTH: usize = 48;
    let text = masked(text);
    match text.char_indices().nth(SHOWN_LENGTH) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The line of a problem, cut to what fits, and where the caret goes.
struct Excerpt {
    /// Line, from 1.
    line: usize,
    /// Column in characters, from 1.
    column: usize,
    source: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    fn new(text: &str, span: Range<usize>) -> Excerpt {
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let line = text[..start].matches('\n').count() + 1;
        let before = text[line_start..start].chars().count();
        let marked = text[start..end.min(line_end)]
            .trim_end()
            .chars()
            .count()
            .max(1);

        // A window on the line that has the place in it.
        let skipped = if before + marked <= SHOWN_WIDTH {
            0
        } else {
            before.saturating_sub(24)
        };
        let mut source = String::new();
        let mut indent = 0;
        let mut width = 0;
        if skipped > 0 {
            source.push('…');
            indent += 1;
        }
        let line_text = masked(&text[line_start..line_end]);
        let shown = line_text.chars().enumerate().skip(skipped);
        for (index, character) in shown.take(SHOWN_WIDTH) {
            let cells = push_visible(&mut source, character);
            if index < before {
                indent += cells;
            } else if index < before + marked {
                width += cells;
            }
        }
        Excerpt {
            line,
            column: before + 1,
            source,
            indent,
            width: width.max(1),
        }
    }
}

/// Appends `character` as a terminal may show it, and says how many cells that took: a
/// configuration file must not be able to send escape sequences to whoever checks it.
fn push_visible(source: &mut String, character: char) -> usize {
    match character {
        '\t' => {
            source.push_str("    ");
            4
        }
        '\r' => 0,
        _ if character.is_control() => {
            let before = source.len();
            // Writing to a String doesn't fail.
            let _ = write!(source, "{}", character.escape_default());
            source.len() - before
        }
        _ => {
            source.push(character);
            1
        }
    }
}
