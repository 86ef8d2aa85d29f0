//! What a configuration means, and what is said about a wrong one.

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::key::{Absent, Kind};
use super::*;

mod admin;
mod flags;
mod includes;
mod keys;
mod limits;
mod listeners;
mod log;
mod notes;
mod roots;
mod routes;
mod syntax;
mod upstreams;
mod values;
mod workers;
mod write;

/// Of the password "secret", by crypt(3).
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// A password file with the user carol.
const USERS_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/users.txt");

/// The report on `text`; the paths in it start at the file system's root.
fn report(name: &str, text: &str, format: Format, flags: &Flags) -> String {
    match Config::parse(name, text, format, Path::new("/"), flags) {
        Ok(config) => panic!("the configuration is fine: {config:#?}"),
        Err(problems) => format!("{problems}\n"),
    }
}

fn check(toml: &str, expected: Expect) {
    expected.assert_eq(&report("site.toml", toml, Format::Toml, &Flags::new()));
}

fn check_json(json: &str, expected: Expect) {
    expected.assert_eq(&report("site.json", json, Format::Json, &Flags::new()));
}

/// The report on lines added to a configuration that is otherwise fine.
fn check_added(lines: &str, expected: Expect) {
    check(&format!("[files.site]\nroot = \"/\"\n{lines}"), expected);
}

fn parse(toml: &str) -> Config {
    Config::parse(
        "site.toml",
        toml,
        Format::Toml,
        Path::new("/"),
        &Flags::new(),
    )
    .unwrap()
}

#[test]
fn smallest() {
    let config = parse("[files.site]\nroot = \"/\"\n");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(
        config.listeners[0].addresses[0].to_string(),
        "127.0.0.1:8080"
    );
    assert_eq!(config.roots[0].name, "site");
    assert_eq!(config.roots[0].root, Path::new("/"));
    assert_eq!(config.roots[0].index, ["index.html"]);
    assert_eq!(config.roots[0].symlinks, Symlinks::Beneath);
    assert!(!config.roots[0].show_dotfiles);
    assert_eq!(config.io, Io::Auto);
    assert!(config.workers >= 1);
    assert_eq!(config.limits.head_bytes, 16 * 1024);
    assert_eq!(config.limits.head_deadline, Duration::from_secs(10));
    assert_eq!(config.log.access, AccessLog::Off);
    assert!(config.listeners[0].socket.nodelay);
    assert_eq!(config.listeners[0].socket.send_buffer, None);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(parse("\u{feff}[files.site]\nroot = \"/\"").roots.len(), 1);
}

#[test]
fn the_reference_page_is_current() {
    expect_file!["../../../../docs/configuration.md"].assert_eq(&reference());
}

#[test]
fn the_schema_is_current() {
    expect_file!["schema.json"].assert_eq(&schema());
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,8}"
}

prop_compose! {
    /// A configuration as JSON, right or wrong.
    fn configuration()(
        workers in prop::option::of(1..1100_u32),
        io in prop::sample::select(vec!["auto", "uring", "epoll", "epoll", "poll"]),
        pin in any::<bool>(),
        listeners in prop::collection::btree_map(word(), (0..9_u16, any::<bool>(), 1..127_u32), 0..3),
        roots in prop::collection::btree_map(
            word(),
            prop::collection::vec("[\\PC&&[^/]]{1,6}", 0..3),
            1..3,
        ),
        head in 100..20_000_u32,
        idle in 0..100_u32,
        routes in prop::collection::vec(
            (prop::sample::select(vec!["/a", "/a/*", "/b", "b"]), 198..600_u16),
            0..3,
        ),
        servers in prop::collection::vec(
            prop::sample::select(vec!["a:1", "b:2 weight=3", "unix:/s", "c"]),
            0..3,
        ),
        unknown in prop::option::weighted(0.1, word()),
    ) -> serde_json::Value {
        let mut top = serde_json::json!({
            "pin": pin,
            "limits": { "head_bytes": head, "idle_timeout": format!("{idle}s") },
        });
        if let Some(workers) = workers { top["workers"] = workers.into(); }
        top["io"] = io.into();
        for (name, (port, nodelay, count)) in listeners {
            top["listen"][name] = serde_json::json!({
                "address": [format!("127.0.0.1:{port}")],
                "files": roots.keys().next(), "nodelay": nodelay, "keepalive": true,
                "keepalive_count": count,
            });
        }
        for (name, index) in roots {
            top["files"][name] = serde_json::json!({ "root": "/", "index": index });
        }
        if !servers.is_empty() {
            top["upstream"]["app"] = serde_json::json!({ "servers": servers, "splice": pin });
        }
        for (path, status) in routes {
            let route = serde_json::json!({ "path": path, "status": status, "body": "a\nb" });
            match &mut top["route"] {
                serde_json::Value::Array(list) => list.push(route),
                other => *other = serde_json::json!([route]),
            }
        }
        if let Some(name) = unknown { top[name] = 1.into(); }
        top
    }
}

/// What a table needs beside `key` for that to be looked at.
fn rest_of(table: &Table, key: &Key) -> &'static str {
    match (table.name, key.name) {
        ("files", _) => "root = \"/\"",
        ("upstream", "servers") => "balance = \"hash\"",
        ("upstream", "hash_by") => "servers = \"a:1\"\nbalance = \"hash\"",
        ("upstream", "health_status") => "servers = \"a:1\"\nhealth = \"/\"",
        ("upstream", _) => "servers = \"a:1\"",
        ("listen", "address") => "backlog = 3\n[[route]]\nstatus = 404",
        ("route", "files" | "redirect") => "strip_prefix = \"/a\"",
        ("route", "body") => "status = 200",
        ("route", "proxy" | "listen") => "response_headers = \"A: b\"",
        ("route", _) => "proxy = \"app\"\n[upstream.app]\nservers = \"a:1\"",
        _ => "",
    }
}

proptest! {
    /// The same configuration in TOML and in JSON is the same `Config`, or has the same number of
    /// problems.
    #[test]
    fn toml_and_json_agree(value in configuration()) {
        let json = value.to_string();
        let toml = toml::to_string(&value).unwrap();
        let flags = Flags::new();
        let from_json = Config::parse("f", &json, Format::Json, Path::new("/"), &flags);
        let from_toml = Config::parse("f", &toml, Format::Toml, Path::new("/"), &flags);
        match (from_json, from_toml) {
            (Ok(json), Ok(toml)) => prop_assert_eq!(json, toml),
            (Err(json), Err(toml)) => prop_assert_eq!(json.count(), toml.count()),
            (json, toml) => prop_assert!(false, "{:?} but {:?}", json, toml),
        }
    }

    /// Whatever the text, there is an answer and no panic, and every place is in the text.
    #[test]
    fn any_text_has_an_answer(text in "[\\PC\n\t\\[\\]=\"{},.#a-z]{0,200}") {
        for format in [Format::Toml, Format::Json] {
            if let Err(problems) =
                Config::parse("f", &text, format, Path::new("/"), &Flags::new())
            {
                prop_assert!(problems.count() > 0);
                prop_assert!(!problems.to_string().is_empty());
            }
        }
    }

    /// What the reference shows of a number of bytes or a time reads back as the same.
    #[test]
    fn shown_sizes_and_durations_read_back(number in 0..(1_u64 << 40)) {
        let size = value::show_size(number);
        let key = Kind::Size { min: number, max: number };
        let mut problems = Vec::new();
        value::read(&key, &node::Node::from_flag("", &size), &mut problems);
        let time = Duration::from_millis(number);
        let key = Kind::Duration { min: time, max: time };
        let shown = value::show_duration(time);
        value::read(&key, &node::Node::from_flag("", &shown), &mut problems);
        prop_assert!(problems.is_empty(), "{} {}: {:?}", size, shown, problems);
    }
}

proptest! {
    // Each case reads every key of every table twice.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever stands in the place of a text that means something, there is an answer and no
    /// panic, and what is taken can be written out.
    #[test]
    fn any_text_of_a_key_has_an_answer(
        text in "[-+a-z0-9:/.*?={}\\[\\]$ %\u{e4}\u{1f980}]{0,12}",
        line in "(unix:|srv:|http://|http |header |cookie |-|\\+)?[a-z\u{e4}{}:/*. =0-9-]{0,10}",
    ) {
        for table in tables() {
            for key in table.keys() {
                if !matches!(
                    key.kind,
                    Kind::Text { .. } | Kind::Line { .. } | Kind::Prose { .. } | Kind::List { .. }
                ) || ["include", "root", "users_file", "access"].contains(&key.name)
                {
                    continue;
                }
                for text in [&text, &line] {
                    let header = table.header().replace("NAME", "name");
                    let toml = format!("{header}\n{} = {text:?}\n{}\n", key.name, rest_of(table, key));
                    let parsed = Config::parse(
                        "f", &toml, Format::Toml, Path::new("/"), &Flags::new(),
                    );
                    match parsed {
                        Ok(config) => prop_assert_eq!(parse(&config.to_toml()), config),
                        Err(problems) => prop_assert!(!problems.to_string().is_empty()),
                    }
                }
            }
        }
    }
}
