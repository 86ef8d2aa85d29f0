//! The tree of a configuration with the place of every key and value, whatever it was written
//! in: TOML, JSON, or flags.
//!
//! It knows syntax only; what the keys mean is `read.rs`'s affair.

use std::collections::HashSet;
use std::ops::Range;

use jsonc_parser::{CollectOptions, ParseOptions, ast};
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bytes of the file.
    Text(Range<usize>),
    /// A flag and its value, such as `--workers 3`; empty where the message says it all.
    Flag(String),
}

impl Place {
    /// Moves a place of a text by `bytes`.
    pub(super) fn shift(&mut self, bytes: usize) {
        if let Place::Text(span) = self {
            *span = span.start + bytes..span.end + bytes;
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) item: Item,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Table(Vec<Entry>),
    Array(Vec<Node>),
    Text(String),
    Integer(i64),
    Switch(bool),
    /// A flag's value: it takes the type of its key.
    Bare(String),
    /// What couldn't be understood, and was reported: it stands for a value of any type.
    Unknown,
    /// What no key takes (a float, a date, null): its name with an article.
    Other(&'static str),
}

/// A key of a table, where it was written, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// An empty tree, before any flag is set.
    pub(crate) fn empty() -> Node {
        Node {
            place: Place::Text(0..0),
            item: Item::Table(Vec::new()),
        }
    }

    /// The value of a flag; `flag` carries its dashes, or is empty where the value speaks for
    /// itself.
    pub(crate) fn from_flag(flag: &str, text: &str) -> Node {
        let place = match flag {
            "" => String::new(),
            _ => format!("{flag} {text}").trim().to_owned(),
        };
        Node {
            place: Place::Flag(place),
            item: Item::Bare(text.to_owned()),
        }
    }

    /// What a message calls this value.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.item {
            Item::Table(_) => "a table",
            Item::Array(_) => "an array",
            Item::Text(_) | Item::Bare(_) => "a string",
            Item::Integer(_) => "a whole number",
            Item::Switch(_) => "a boolean",
            Item::Other(noun) => noun,
            Item::Unknown => "nothing",
        }
    }

    /// Moves all places of the tree by `bytes`.
    pub(super) fn shift(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.place.shift(bytes);
        match &mut self.item {
            Item::Table(entries) => {
                for entry in entries {
                    entry.place.shift(bytes);
                    entry.node.shift(bytes);
                }
            }
            Item::Array(nodes) => nodes.iter_mut().for_each(|node| node.shift(bytes)),
            _ => {}
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.item {
            Item::Table(entries) => entries,
            _ => &[],
        }
    }

    /// Puts `node` at `path`, a dotted key, in place of what is there.
    pub(crate) fn set(&mut self, path: &[&str], node: Node) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        // What stands where a table belongs is a problem of the file, which is reported.
        let Item::Table(entries) = &mut self.item else {
            return;
        };
        let place = node.place.clone();
        let index = entries
            .iter()
            .position(|entry| entry.key == *first)
            .unwrap_or_else(|| {
                let node = Node {
                    place: place.clone(),
                    item: Item::Table(Vec::new()),
                };
                entries.push(Entry {
                    key: (*first).to_owned(),
                    place,
                    node,
                });
                entries.len() - 1
            });
        entries[index].node.set(rest, node);
    }

    /// The values of an array, or the one value that stands for an array of one.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.item {
            Item::Array(nodes) => nodes,
            _ => std::slice::from_ref(self),
        }
    }
}

/// Parses TOML as far as it can: a bad line is a problem, the rest is still read.
pub(crate) fn parse_toml(text: &str, problems: &mut Vec<Problem>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        problems.push(Problem::new(Place::Text(span), one_line(error.message())));
    }
    Node {
        place: Place::Text(table.span()),
        item: toml_table(table.get_ref()),
    }
}

fn toml_table(table: &DeTable<'_>) -> Item {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            place: Place::Text(key.span()),
            node: Node {
                place: Place::Text(value.span()),
                item: toml_item(value.get_ref()),
            },
        })
        .collect();
    // The parser sorts by name; people expect the order of the file.
    entries.sort_by_key(|entry| match &entry.place {
        Place::Text(span) => span.start,
        Place::Flag(_) => 0,
    });
    Item::Table(entries)
}

fn toml_item(value: &DeValue<'_>) -> Item {
    match value {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Boolean(switch) => Item::Switch(*switch),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Item::Other("a number out of range"), Item::Integer),
        DeValue::Float(_) => Item::Other("a decimal number"),
        DeValue::Datetime(_) => Item::Other("a date"),
        DeValue::Table(table) => toml_table(table),
        DeValue::Array(array) => Item::Array(
            array
                .iter()
                .map(|value| Node {
                    place: Place::Text(value.span()),
                    item: toml_item(value.get_ref()),
                })
                .collect(),
        ),
    }
}

/// Strict JSON (RFC 8259): none of the parser's extensions.
const STRICT_JSON: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses JSON. A syntax error is the only problem then reported: JSON has no line to resume at.
pub(crate) fn parse_json(text: &str, problems: &mut Vec<Problem>) -> Node {
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &STRICT_JSON);
    match parsed.map(|result| result.value) {
        Ok(Some(value)) => json_node(&value, problems),
        Ok(None) => {
            let problem = Problem::new(Place::Text(0..0), "an empty file isn't JSON");
            problems.push(problem.hint("the smallest configuration is `{}`"));
            Node::empty()
        }
        Err(error) => {
            let range = error.range();
            let message = one_line(&error.kind().to_string());
            problems.push(Problem::new(Place::Text(range.start..range.end), message));
            Node::empty()
        }
    }
}

fn json_node(value: &ast::Value<'_>, problems: &mut Vec<Problem>) -> Node {
    let (range, item) = match value {
        ast::Value::StringLit(text) => (text.range, Item::Text(text.value.to_string())),
        ast::Value::BooleanLit(switch) => (switch.range, Item::Switch(switch.value)),
        ast::Value::NullKeyword(null) => (null.range, Item::Other("null")),
        ast::Value::NumberLit(number) => (number.range, json_number(number.value)),
        ast::Value::Array(array) => {
            let nodes = array
                .elements
                .iter()
                .map(|value| json_node(value, problems))
                .collect();
            (array.range, Item::Array(nodes))
        }
        ast::Value::Object(object) => (object.range, json_table(object, problems)),
    };
    Node {
        place: Place::Text(range.start..range.end),
        item,
    }
}

fn json_number(text: &str) -> Item {
    match text.parse() {
        Ok(integer) => Item::Integer(integer),
        Err(_) if text.contains(['.', 'e', 'E']) => Item::Other("a decimal number"),
        Err(_) => Item::Other("a number out of range"),
    }
}

fn json_table(object: &ast::Object<'_>, problems: &mut Vec<Problem>) -> Item {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = HashSet::new();
    for property in &object.properties {
        let range = match &property.name {
            ast::ObjectPropName::String(name) => name.range,
            ast::ObjectPropName::Word(name) => name.range,
        };
        let place = Place::Text(range.start..range.end);
        let key = property.name.as_str().to_owned();
        let node = json_node(&property.value, problems);
        match seen.insert(key.clone()) {
            true => entries.push(Entry { key, place, node }),
            false => problems.push(Problem::new(place, "duplicate key")),
        }
    }
    Item::Table(entries)
}

/// A parser's message as the beginning of one of ours: one line, no capital.
fn one_line(message: &str) -> String {
    let mut line = message
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(first) = line.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    line
}
