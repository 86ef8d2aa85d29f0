//! The reference page and the JSON Schema, written from the tables of keys.
//!
//! Both are committed; a test fails when they are stale, and `UPDATE_EXPECT=1` rewrites them.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::key::{Absent, Flag, Key, Kind, Shape, Table};
use super::keys::TABLES;
use super::value::{show_duration, show_size};
use crate::log::FORMAT_WORDS;

const HEAD: &str = "\
# Configuration

<!-- Written from the tables of keys in crates/server/src/config/ (keys.rs, route.rs, upstream.rs)
     and crates/server/src/limits.rs. After a change there:
     UPDATE_EXPECT=1 cargo test -p ringway-server config -->

`ringway run --config site.toml` reads this file, `ringway check --config site.toml` only checks
it. TOML and JSON have the same keys; the name's ending says which it is.

```toml
workers = 2

[listen.main]
address = [\"127.0.0.1:8080\", \"[::1]:8080\"]

[files.site]
root = \"public\"

[limits]
idle_timeout = \"30s\"
```

Whole configurations to start from are in [`examples`](examples). `ringway explain METHOD URL` says what one
does with a request, and why.

Durations are strings with a unit (`\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`, `\"1d\"`), and so are sizes
(`\"512B\"`, `\"16KiB\"`, `\"64MiB\"`, `\"1GiB\"`; a bare number is bytes). Relative paths start at the
directory of the configuration file. NAME is one of your choice. A flag goes before the file.

In a string `${NAME}` stands for what the environment variable NAME says, and `${NAME:-default}` for
`default` where that isn't set or is empty; `$${` is the text `${`. So `workers = \"${WORKERS:-2}\"`
is a number, and `host = \"${HOSTS}\"` with commas in it a list. Only in `access_format` are
`${name}` variables of its own.
";

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for table in TABLES {
        let title = match table.name {
            "" => "Top level".to_owned(),
            _ => format!("`{}`", table.header()),
        };
        // Writing to a String doesn't fail.
        let _ = write!(page, "\n## {title}\n\n{}\n", unindent(table.doc));
        for key in table.keys() {
            write_key(&mut page, key);
        }
    }
    page
}

fn write_key(page: &mut String, key: &Key) {
    let _ = write!(page, "\n### `{}`\n\n", key.name);
    let _ = writeln!(page, "{}\n", unindent(key.doc));
    let _ = writeln!(page, "- Value: {}", key.kind.describe());
    match key.absent {
        Absent::Is(text) => {
            let _ = writeln!(page, "- Default: `{}`", json_value(&key.kind, text));
        }
        Absent::Means(text) => {
            let _ = writeln!(page, "- Default: {text}");
        }
        Absent::Required => page.push_str("- Required\n"),
    }
    if let Flag::Shown(_) | Flag::Hidden(_) = key.flag {
        let _ = writeln!(page, "- Flag: `{}`", key.flag_name().unwrap_or_default());
    }
    let is_format = matches!(key.kind, Kind::Format);
    let words = if is_format {
        FORMAT_WORDS
    } else {
        key.choices()
    };
    if !words.is_empty() {
        page.push('\n');
        for (word, doc) in words {
            let _ = writeln!(
                page,
                "  - `\"{word}\"`: {}",
                unindent(doc).replace('\n', " ")
            );
        }
    }
    if is_format {
        page.push_str("\nThe variables of a format:\n\n");
        for (name, doc) in crate::log::variables() {
            let _ = writeln!(page, "  - `{name}`: {doc}");
        }
    }
}

/// Doc comments carry a space at the start of each line.
fn unindent(doc: &str) -> String {
    doc.trim()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Kind {
    /// The kind of value and its range, for people.
    fn describe(&self) -> String {
        match self {
            Kind::Switch => "`true` or `false`".to_owned(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Size { min, max } => {
                format!(
                    "a size from `\"{}\"` to `\"{}\"`",
                    show_size(*min),
                    show_size(*max)
                )
            }
            Kind::Duration { min, max } => {
                let (min, max) = (show_duration(*min), show_duration(*max));
                format!("a duration from `\"{min}\"` to `\"{max}\"`")
            }
            Kind::Choice(_) => "one of the words below".to_owned(),
            Kind::Text { example, .. } | Kind::Line { example } | Kind::Prose { example } => {
                format!("a string, such as `{example:?}`")
            }
            Kind::Format => {
                "one of the words below, or a format, such as `'$peer \"$request\" $status'`"
                    .to_owned()
            }
            Kind::Address => "an address, such as `\"127.0.0.1:8080\"`".to_owned(),
            Kind::List { of, .. } => format!("{}; or an array of them", of.describe()),
        }
    }
}

/// A default as the file writes it; TOML and JSON agree on these.
fn json_value(kind: &Kind, text: &str) -> Json {
    match kind {
        Kind::Switch => Json::Bool(text == "true"),
        Kind::Integer { .. } => text.parse::<u64>().map_or(Json::Null, Json::from),
        Kind::List { of, .. } if of.splits_at_commas() => {
            text.split(',').map(|part| json_value(of, part)).collect()
        }
        Kind::List { of, .. } => json!([json_value(of, text)]),
        _ => Json::String(text.to_owned()),
    }
}

/// The JSON Schema (draft 2020-12) of the file, indented.
pub fn schema() -> String {
    let mut top = Map::new();
    for table in TABLES {
        let keys = table_schema(table);
        if table.name.is_empty() {
            top.append(&mut properties(table));
        } else if table.shape == Shape::Listed {
            let list = json!({ "type": "array", "items": keys });
            top.insert(table.name.to_owned(), list);
        } else if table.shape == Shape::Named {
            let names = json!({
                "type": "object",
                "description": unindent(table.doc),
                "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,64}$" },
                "additionalProperties": keys,
            });
            top.insert(table.name.to_owned(), names);
        } else {
            top.insert(table.name.to_owned(), keys);
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringway configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
        "$defs": { "variable": {
            "type": "string",
            "description": "A value that the environment says.",
            "pattern": "\\$\\{",
        } },
    });
    format!("{schema:#}\n")
}

fn table_schema(table: &Table) -> Json {
    let required: Vec<&str> = table
        .keys()
        .filter(|key| matches!(key.absent, Absent::Required))
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": unindent(table.doc),
        "additionalProperties": false,
        "properties": properties(table),
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn properties(table: &Table) -> Map<String, Json> {
    table
        .keys()
        .map(|key| (key.name.to_owned(), key_schema(key)))
        .collect()
}

fn key_schema(key: &Key) -> Json {
    let mut schema = kind_or_variable(&key.kind);
    schema["description"] = json!(unindent(key.doc));
    if let Absent::Is(text) = key.absent {
        schema["default"] = json_value(&key.kind, text);
    }
    schema
}

/// A value of the kind, or a text with a variable in it, which may stand for any.
fn kind_or_variable(kind: &Kind) -> Json {
    let variable = json!({ "$ref": "#/$defs/variable" });
    let mut schema = kind_schema(kind);
    match kind {
        // Any text will do there already.
        Kind::Text { .. } | Kind::Line { .. } | Kind::Prose { .. } => return schema,
        // In it `${name}` is something else.
        Kind::Format => return schema,
        _ => {}
    }
    if let Some(Json::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(variable);
        return schema;
    }
    json!({ "anyOf": [schema, variable] })
}

fn kind_schema(kind: &Kind) -> Json {
    match kind {
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Kind::Size { min, max } => json!({ "anyOf": [
            { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$" },
            { "type": "integer", "minimum": min, "maximum": max },
        ] }),
        Kind::Duration { .. } => {
            json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" })
        }
        Kind::Choice(choices) => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            json!({ "enum": words })
        }
        Kind::Line { .. } => json!({ "type": "string", "minLength": 1 }),
        Kind::Prose { .. } => json!({ "type": "string" }),
        Kind::Text { min_length, .. } => json!({ "type": "string", "minLength": min_length }),
        Kind::Format => {
            let words: Vec<&str> = FORMAT_WORDS.iter().map(|(word, _)| *word).collect();
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\$" }] })
        }
        Kind::Address => json!({ "type": "string", "pattern": ":[0-9]+$" }),
        Kind::List { of, min_count } => {
            let one = kind_or_variable(of);
            json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": min_count }] })
        }
    }
}
