//! From the tree of nodes to settings structures: finds keys, fills in defaults, and reports
//! keys and tables that don't exist with the nearest that does.

use super::key::{Absent, FromValue, Key, Kind, Shape, Table};
use super::keys::{TABLES, TOP};
use super::node::{Entry, Item, Node, Place};
use super::problem::{Problem, SHOWN_COUNT, quote};
use super::unknown;
use super::value::{self, Value};

/// The longest NAME of a table.
const NAME_LENGTH: usize = 64;

/// One table of the file while it is read.
pub(crate) struct Section<'a> {
    table: &'static Table,
    name: &'a str,
    /// Where the header is; keys that are missing are reported there.
    place: Place,
    node: Option<&'a Node>,
    /// Keys that were written and had a problem.
    faulty: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// The NAME of `[listen.NAME]`; empty for a table that has none.
    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// The value of the key `name`: what is written, or what its absence stands for. After a
    /// problem it is a value that only lets the reading go on.
    pub(crate) fn take<T: FromValue>(&mut self, name: &'static str) -> T {
        let key = self
            .table
            .key(name)
            .expect("a field and its key are one row");
        if let Some(entry) = self.entry(name) {
            let before = self.problems.len();
            let value = value::read(&key.kind, &entry.node, self.problems);
            if self.problems.len() > before || value.is_none() {
                self.faulty.push(name);
            }
            if let Some(value) = value {
                return T::from_value(value);
            }
        } else if matches!(key.absent, Absent::Required) {
            self.missing(key);
        }
        match key.absent {
            Absent::Is(text) => T::from_value(default_value(key, text)),
            Absent::Means(_) => T::absent(),
            Absent::Required => T::from_value(stand_in(&key.kind)),
        }
    }

    fn missing(&mut self, key: &'static Key) {
        let what = format!("{} needs {:?}", self.title(), key.name);
        let problem = Problem::new(self.place.clone(), what);
        let example = format!("such as {} = {}", key.name, key.kind.example());
        self.problems.push(problem.hint(example));
    }

    /// How a message calls this table.
    fn title(&self) -> String {
        match (self.table.name, self.name) {
            ("", _) => "the top level".to_owned(),
            (_, "") => self.table.header(),
            (table, name) => format!("[{table}.{name}]"),
        }
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.node?.entries().iter().find(|entry| entry.key == name)
    }

    /// Whether the key is written, rightly or not.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Where the value of `name` is written, if it is and was read without a problem: what
    /// further checks may build on.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        match self.faulty.contains(&name) {
            true => None,
            false => self.entry(name).map(|entry| entry.node.place.clone()),
        }
    }

    /// As [`Section::place`], for each element of a list.
    pub(super) fn places(&self, name: &str) -> Vec<Place> {
        match (self.faulty.contains(&name), self.entry(name)) {
            (false, Some(entry)) => entry
                .node
                .elements()
                .iter()
                .map(|node| node.place.clone())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Where the table's header is.
    pub(super) fn header(&self) -> Place {
        self.place.clone()
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// What `read` makes of a table in which nothing is written.
pub(crate) fn defaults<T>(table: &'static Table, read: fn(&mut Section<'_>) -> T) -> T {
    read(&mut Section {
        table,
        name: "",
        place: Place::Text(0..0),
        node: None,
        faulty: Vec::new(),
        problems: &mut Vec::new(),
    })
}

/// The value of a default; a test reads every one.
fn default_value(key: &Key, text: &str) -> Value {
    let mut problems = Vec::new();
    value::read(&key.kind, &Node::from_flag("", text), &mut problems)
        .expect("the defaults of all keys are valid: a test reads them")
}

/// A value of `kind` that lets the reading go on where a required key is missing.
fn stand_in(kind: &Kind) -> Value {
    match kind {
        Kind::List { .. } => Value::List(Vec::new()),
        _ => Value::Text(String::new()),
    }
}

/// The tree of a configuration, table by table.
pub(super) struct Document<'a> {
    tree: &'a Node,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Document<'a> {
    /// `problems` are those of the syntax.
    pub(super) fn new(tree: &'a Node, problems: Vec<Problem>) -> Document<'a> {
        Document { tree, problems }
    }

    /// The one section of a table without names.
    pub(super) fn section(&mut self, table: &'static Table) -> Section<'_> {
        let entry = self
            .tree
            .entries()
            .iter()
            .find(|entry| entry.key == table.name);
        let node = match table.name {
            "" => Some(self.tree),
            _ => entry.map(|entry| &entry.node),
        };
        let place = entry.map_or(Place::Text(0..0), |entry| entry.place.clone());
        Section {
            table,
            name: "",
            place,
            node,
            faulty: Vec::new(),
            problems: &mut self.problems,
        }
    }

    /// The NAMEs of a table with names, in the order of the file, with their nodes.
    pub(super) fn named(&self, table: &'static Table) -> Vec<&'a Entry> {
        let entry = self
            .tree
            .entries()
            .iter()
            .find(|entry| entry.key == table.name);
        entry
            .map_or(&[][..], |entry| entry.node.entries())
            .iter()
            .filter(|entry| matches!(entry.node.item, Item::Table(_)))
            .collect()
    }

    /// The tables of a list, in the order of the file.
    pub(super) fn listed(&self, table: &'static Table) -> Vec<&'a Node> {
        let entry = self
            .tree
            .entries()
            .iter()
            .find(|entry| entry.key == table.name);
        match entry.map(|entry| &entry.node.item) {
            Some(Item::Array(nodes)) => nodes
                .iter()
                .filter(|node| matches!(node.item, Item::Table(_)))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The section of one table of a list.
    pub(super) fn listed_section<'b>(
        &'b mut self,
        table: &'static Table,
        node: &'b Node,
    ) -> Section<'b> {
        Section {
            table,
            name: "",
            place: node.place.clone(),
            node: Some(node),
            faulty: Vec::new(),
            problems: &mut self.problems,
        }
    }

    /// The section of one NAME.
    pub(super) fn named_section<'b>(
        &'b mut self,
        table: &'static Table,
        entry: &'b Entry,
    ) -> Section<'b> {
        Section {
            table,
            name: &entry.key,
            place: entry.place.clone(),
            node: Some(&entry.node),
            faulty: Vec::new(),
            problems: &mut self.problems,
        }
    }

    /// Reports every key and table that doesn't exist.
    pub(super) fn check_names(&mut self) {
        if !matches!(self.tree.item, Item::Table(_)) {
            let message = format!("expected an object, found {}", self.tree.noun());
            self.problems
                .push(Problem::new(self.tree.place.clone(), message));
        }
        for entry in self.tree.entries() {
            match TABLES.iter().find(|table| table.name == entry.key) {
                Some(table) => self.check_table(table, entry),
                None if TOP.key(&entry.key).is_some() => {}
                None => self.unknown(&TOP, entry),
            }
        }
    }

    fn check_table(&mut self, table: &'static Table, entry: &Entry) {
        if table.shape == Shape::Listed {
            self.check_list(table, entry);
            return;
        }
        if !matches!(entry.node.item, Item::Table(_)) {
            let found = entry.node.noun();
            let message = format!("expected the table {}, found {found}", table.header());
            self.problems
                .push(Problem::new(entry.node.place.clone(), message));
            return;
        }
        if table.shape == Shape::Once {
            self.check_keys(table, &entry.node);
            return;
        }
        for named in entry.node.entries() {
            if !matches!(named.node.item, Item::Table(_)) {
                let message = format!(
                    "{} stands where a table with a name is expected",
                    quote(&named.key)
                );
                let header = format!("[{}.main]", table.name);
                let hint = format!("give the table a name of your choice: {header}");
                self.problems
                    .push(Problem::new(named.place.clone(), message).hint(hint));
                continue;
            }
            if !is_name(&named.key) {
                let message = format!("{} isn't a name", quote(&named.key));
                let hint = format!("letters, digits, `-` and `_`, at most {NAME_LENGTH}");
                self.problems
                    .push(Problem::new(named.place.clone(), message).hint(hint));
            }
            self.check_keys(table, &named.node);
        }
    }

    fn check_list(&mut self, table: &'static Table, entry: &Entry) {
        let nodes = match &entry.node.item {
            Item::Array(nodes) => &nodes[..],
            _ => std::slice::from_ref(&entry.node),
        };
        let is_list = matches!(entry.node.item, Item::Array(_));
        for node in nodes {
            if is_list && matches!(node.item, Item::Table(_)) {
                self.check_keys(table, node);
                continue;
            }
            let header = table.header();
            let message = format!("expected the tables {header}, found {}", node.noun());
            let mut problem = Problem::new(node.place.clone(), message);
            if matches!(node.item, Item::Table(_)) {
                problem = problem.hint(format!("with two brackets, each time: {header}"));
            }
            self.problems.push(problem);
        }
    }

    fn check_keys(&mut self, table: &'static Table, node: &Node) {
        for entry in node.entries() {
            if table.key(&entry.key).is_none() {
                self.unknown(table, entry);
            }
        }
    }

    fn unknown(&mut self, table: &'static Table, entry: &Entry) {
        let noun = match entry.node.item {
            Item::Table(_) => "table",
            _ => "key",
        };
        let place = match table.name {
            "" => String::new(),
            _ => format!(" in {}", table.header()),
        };
        let mut problem = match unknown::missing(table, &entry.key) {
            Some((message, hint)) => Problem::new(entry.place.clone(), message).hint(hint),
            None => {
                let message = format!("unknown {noun} {}{place}", quote(&entry.key));
                Problem::new(entry.place.clone(), message)
            }
        };
        // Hints are looked for only as long as they will be seen.
        if problem.hint.is_none() && self.problems.len() < SHOWN_COUNT {
            problem = problem.hint(unknown::hint(table, &entry.key));
        }
        self.problems.push(problem);
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(allowed)
}
