//! `include`: from one file to all that belong to it, as one tree.
//!
//! A file is read once. What it says is put beside what the including file says; the same key or
//! name in two of them is a problem, because neither goes before the other. Routes come behind
//! those of the including file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use ringway_http::glob::Glob;

use super::environment::{self, Lookup};
use super::key::Shape;
use super::keys::{TABLES, TOP};
use super::load::Format;
use super::node::{self, Entry, Item, Node, Place};
use super::problem::{Fault, Problem, quote};
use super::source::Sources;
use super::value::{self, Value};

/// The largest configuration file. A thousand listeners are a tenth of it; a larger one is a
/// mistake, such as a log or a device.
const FILE_BYTES: u64 = 1 << 20;
/// The most that files which are included may have together.
const INCLUDED_BYTES: usize = 16 << 20;
/// How many files may be included in all, and within each other.
const FILE_COUNT: usize = 1024;
const DEPTH: usize = 16;

/// Reads a configuration with what it includes.
pub(super) struct Reader<'a> {
    pub(super) sources: Sources,
    /// Problems of the syntax.
    pub(super) syntax: Vec<Problem>,
    /// All others.
    pub(super) problems: Vec<Problem>,
    lookup: Lookup<'a>,
    /// The files that are being read, the outermost first.
    open: Vec<PathBuf>,
    /// Where each file was included.
    included: HashMap<PathBuf, Place>,
    included_bytes: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: Lookup<'a>) -> Reader<'a> {
        Reader {
            sources: Sources::default(),
            syntax: Vec::new(),
            problems: Vec::new(),
            lookup,
            open: Vec::new(),
            included: HashMap::new(),
            included_bytes: 0,
        }
    }

    /// Says which file the text of [`Reader::read`] is, so that it isn't included by itself.
    pub(super) fn begin(&mut self, file: &Path) {
        self.open.extend(file.canonicalize());
    }

    /// The tree of a text, with what it includes. `name` is what messages call it; relative paths
    /// in it start at `directory`.
    pub(super) fn read(
        &mut self,
        name: &str,
        text: &str,
        format: Format,
        directory: &Path,
    ) -> Node {
        let start = self.sources.add(name, text, directory);
        let syntax_before = self.syntax.len();
        let mut tree = match format {
            Format::Toml => node::parse_toml(text, &mut self.syntax),
            Format::Json => node::parse_json(text, &mut self.syntax),
        };
        tree.shift(start);
        for problem in &mut self.syntax[syntax_before..] {
            problem.place.shift(start);
        }
        environment::expand(&mut tree, self.lookup, &mut self.problems);
        for (pattern, place) in self.patterns(&tree) {
            match self.files(&pattern, &place) {
                Ok(files) => {
                    for file in files {
                        self.include(&file, &place, &mut tree);
                    }
                }
                Err(fault) => self.problems.push(fault.at(place)),
            }
        }
        tree
    }

    /// What the tree includes, with the places.
    fn patterns(&mut self, tree: &Node) -> Vec<(String, Place)> {
        let mut entries = tree.entries().iter();
        let Some(entry) = entries.find(|entry| entry.key == "include") else {
            return Vec::new();
        };
        let kind = &TOP
            .key("include")
            .expect("it is a key of the top level")
            .kind;
        let Some(Value::List(values)) = value::read(kind, &entry.node, &mut self.problems) else {
            return Vec::new();
        };
        let places = entry.node.elements().iter().map(|node| node.place.clone());
        values
            .into_iter()
            .map(Value::into_text)
            .zip(places)
            .collect()
    }

    /// The files that a pattern means, by name.
    fn files(&self, pattern: &str, place: &Place) -> Result<Vec<PathBuf>, Fault> {
        const EXAMPLE: &str = "such as \"sites/*.toml\" or \"upstreams.toml\"";
        let path = self.sources.resolve(Path::new(pattern), place);
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Fault::new(
                format!("{} names no file", quote(pattern)),
                EXAMPLE,
            ));
        };
        if !name.contains(['*', '?']) {
            return Ok(vec![path]);
        }
        let glob = Glob::parse(name);
        let glob =
            glob.map_err(|error| Fault::new(format!("{}: {error}", quote(pattern)), EXAMPLE))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        if directory.to_string_lossy().contains(['*', '?']) {
            let message = format!("{} has a star in a directory's name", quote(pattern));
            return Err(Fault::new(message, "only the file's name is a pattern"));
        }
        let shown = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let unreadable = |error: std::io::Error| {
            let message = format!("{} can't be listed: {error}", shown.display());
            Fault::new(
                message,
                "a pattern's directory exists, even if nothing in it does",
            )
        };
        let mut files = Vec::new();
        for entry in shown.read_dir().map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let is_meant = |name: &str| !name.starts_with('.') && glob.matches(name.as_bytes());
            if name.to_str().is_some_and(is_meant) {
                files.push(directory.join(name));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Puts what a file says into `tree`.
    fn include(&mut self, file: &Path, place: &Place, tree: &mut Node) {
        let name = file.display().to_string();
        let read = self.admit(file, &name, place).and_then(|format| {
            let text = read_file(file).map_err(|reason| {
                Fault::new(format!("{name}: {reason}"), "mend it, or leave it out")
            })?;
            self.included_bytes += text.len();
            match self.included_bytes <= INCLUDED_BYTES {
                true => Ok((format, text)),
                false => Err(Fault::new(
                    "the included files have more than 16 MiB together",
                    "so something is included that is no configuration",
                )),
            }
        });
        let (format, text) = match read {
            Ok(read) => read,
            Err(fault) => {
                self.problems.push(fault.at(place.clone()));
                return;
            }
        };
        let depth = self.open.len();
        self.begin(file);
        let directory = file.parent().unwrap_or(Path::new(""));
        let text = without_mark(&text);
        let other = self.read(&name, text, format, directory);
        self.open.truncate(depth);
        self.merge(tree, other);
    }

    /// Whether the file may be included here, and what it is written in.
    fn admit(&mut self, file: &Path, name: &str, place: &Place) -> Result<Format, Fault> {
        let format = Format::of(file).ok_or_else(|| {
            let message = format!("{name} ends in neither .toml nor .json");
            Fault::new(message, "the ending says the format")
        })?;
        let path = file.canonicalize().map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotFound => "no such file".to_owned(),
                _ => error.to_string(),
            };
            Fault::new(format!("{name}: {reason}"), "create it, or leave it out")
        })?;
        if let Some(at) = self.open.iter().position(|open| *open == path) {
            let chain: Vec<String> = self.open[at..]
                .iter()
                .chain([&path])
                .map(|path| {
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned()
                })
                .collect();
            let message = format!("{name} includes itself");
            return Err(Fault::new(message, chain.join(" includes ")));
        }
        if let Some(first) = self.included.get(&path) {
            let message = format!("{name} is included already");
            return Err(Fault::new(
                message,
                format!("at {}", self.sources.show(first)),
            ));
        }
        if self.included.len() >= FILE_COUNT || self.open.len() > DEPTH {
            let message = "too many files are included";
            let hint = format!("at most {FILE_COUNT}, and {DEPTH} within each other");
            return Err(Fault::new(message, hint));
        }
        self.included.insert(path, place.clone());
        Ok(format)
    }

    /// Puts the entries of `other` into `tree`.
    fn merge(&mut self, tree: &mut Node, other: Node) {
        let (Item::Table(entries), Item::Table(others)) = (&mut tree.item, other.item) else {
            return;
        };
        for other in others.into_iter().filter(|other| other.key != "include") {
            let known = TABLES.iter().find(|table| table.name == other.key);
            let is_key = TOP.key(&other.key).is_some();
            let Some(own) = entries.iter_mut().find(|own| own.key == other.key) else {
                entries.push(other);
                continue;
            };
            match (&mut own.node.item, other.node.item) {
                (Item::Table(own), Item::Table(others)) if known.is_some() => {
                    let table = known.map_or("", |table| table.name);
                    let is_named = known.is_some_and(|table| table.shape == Shape::Named);
                    self.merge_table(own, others, table, is_named);
                }
                (Item::Array(own), Item::Array(others)) if known.is_some() => own.extend(others),
                _ if is_key => {
                    let fault = self.there_already(&other.key, &own.place);
                    self.problems.push(fault.at(other.place));
                }
                // Of the wrong type, or unknown: that is said of each.
                (_, item) => entries.push(Entry {
                    node: Node {
                        item,
                        place: other.node.place,
                    },
                    key: other.key,
                    place: other.place,
                }),
            }
        }
    }

    fn merge_table(
        &mut self,
        own: &mut Vec<Entry>,
        others: Vec<Entry>,
        table: &str,
        is_named: bool,
    ) {
        for other in others {
            match own.iter().find(|entry| entry.key == other.key) {
                None => own.push(other),
                Some(first) => {
                    let what = match is_named {
                        true => format!("[{table}.{}]", other.key),
                        false => other.key.clone(),
                    };
                    let fault = self.there_already(&what, &first.place);
                    self.problems.push(fault.at(other.place));
                }
            }
        }
    }

    fn there_already(&self, what: &str, first: &Place) -> Fault {
        Fault::new(
            format!("{what} is there already"),
            format!("at {}", self.sources.show(first)),
        )
    }
}

/// Without a byte order mark: not white space to either format, and nothing that anyone means to
/// write.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The text of a configuration file, or why there is none.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "this user isn't permitted to read it".to_owned(),
        _ => format!("can't be opened: {error}"),
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("can't be looked at: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory; name the configuration file in it".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err("is larger than 1 MiB, so it can't be a configuration file".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("isn't UTF-8 text: the first wrong byte is on line {line}, at offset {valid}")
    })
}
