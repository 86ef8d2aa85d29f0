//! `${NAME}` in strings: what the environment says there.
//!
//! `${NAME:-default}` stands for `default` where the variable isn't set or is empty, and `$${` is
//! the text `${`. It is done once for each value, before anything else is made of it; what a
//! variable says isn't looked at for more of them. A value that came so takes the type of its key,
//! so that numbers, switches and lists (with commas) can come from the environment too.

use std::ffi::OsString;

use super::key::Kind;
use super::keys::TABLES;
use super::node::{Item, Node, Place};
use super::problem::{Fault, Problem, quote};

/// What a variable is set to.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Puts in what the strings of a tree name.
pub(super) fn expand(node: &mut Node, lookup: Lookup<'_>, problems: &mut Vec<Problem>) {
    match &mut node.item {
        Item::Table(entries) => {
            for entry in entries {
                // A format's `${name}` are variables of its own.
                if !is_format(&entry.key) {
                    expand(&mut entry.node, lookup, problems);
                }
            }
        }
        Item::Array(nodes) => {
            for node in nodes {
                expand(node, lookup, problems);
            }
        }
        Item::Text(text) if text.contains("${") => match expanded(text, lookup) {
            // As a flag's value it takes the type of its key: a variable is always text.
            Ok(expanded) => node.item = Item::Bare(expanded),
            Err((fault, at)) => {
                let place = match &node.place {
                    // Quotes, and in between just what was written: then its parts can be
                    // pointed at.
                    Place::Text(span) if span.len() == text.len() + 2 => {
                        let start = span.start + 1;
                        Place::Text(start + at.start..start + at.end)
                    }
                    place => place.clone(),
                };
                problems.push(fault.at(place));
                // Whatever else would be said of it is an echo.
                node.item = Item::Unknown;
            }
        },
        _ => {}
    }
}

fn is_format(key: &str) -> bool {
    let is_format = |kind: &Kind| matches!(kind, Kind::Format);
    let mut keys = TABLES.iter().filter_map(|table| table.key(key));
    keys.any(|key| is_format(&key.kind))
}

/// The text with its variables, or what is wrong and where in the text.
fn expanded(text: &str, lookup: Lookup<'_>) -> Result<String, (Fault, std::ops::Range<usize>)> {
    let mut out = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[..start].ends_with('$') && start > at {
            // The dollar before it is the escape.
            out.push_str(&text[at..start]);
            out.push('{');
            at = start + 2;
            continue;
        }
        out.push_str(&text[at..start]);
        let Some(length) = text[start..].find('}') else {
            let fault = Fault::new("\"${\" without an end", "`$${` is the text \"${\"");
            return Err((fault, start..text.len()));
        };
        let end = start + length + 1;
        let inner = &text[start + 2..end - 1];
        out.push_str(&value(inner, lookup).map_err(|fault| (fault, start..end))?);
        at = end;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

fn value(inner: &str, lookup: Lookup<'_>) -> Result<String, Fault> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) || name.as_bytes()[0].is_ascii_digit() {
        let message = format!("{} isn't the name of a variable", quote(name));
        return Err(Fault::new(
            message,
            "`${NAME}` or `${NAME:-default}`; `$${` is the text \"${\"",
        ));
    }
    match (lookup(name), default) {
        (Some(value), None) => into_text(name, value),
        (Some(value), Some(_)) if !value.is_empty() => into_text(name, value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let hint = format!("set it in the environment, or write `${{{name}:-default}}`");
            Err(Fault::new(format!("the variable {name} isn't set"), hint))
        }
    }
}

fn into_text(name: &str, value: OsString) -> Result<String, Fault> {
    value.into_string().map_err(|_| {
        Fault::new(
            format!("the variable {name} isn't UTF-8 text"),
            "a configuration is",
        )
    })
}
