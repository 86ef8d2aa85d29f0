//! What a configuration means, and what is said about a wrong one.

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::key::{Absent, Kind};
use super::*;

mod admin;
mod includes;
mod routes;
mod upstreams;
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

// What is right.

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
fn thresholds_of_the_transfer() {
    let config = parse(
        r#"
        [files.site]
        root = "/"
        [transfer]
        copy_max_bytes = "64KiB"
        step_bytes = "256KiB"
        turn_bytes = "512KiB"
        look_ahead_bytes = "1MiB"
        [limits]
        file_timeout = "5s"
        "#,
    );
    let thresholds = config.transfer.thresholds;
    assert_eq!(thresholds.copy_max_bytes, 64 << 10);
    assert_eq!(thresholds.step_bytes, 256 << 10);
    assert_eq!(thresholds.turn_bytes, 512 << 10);
    assert_eq!(thresholds.look_ahead_bytes, 1 << 20);
    assert_eq!(config.transfer.source_timeout, Duration::from_secs(5));
    // What holds otherwise is what the library has.
    let config = parse("[files.site]\nroot = \"/\"\n");
    assert_eq!(config.transfer, TransferOptions::default());
}

#[test]
fn thresholds_out_of_range() {
    check_added(
        "[transfer]\ncopy_max_bytes = \"1MiB\"\nlook_ahead_bytes = 0\nstep = 1\n",
        expect![[r#"
            site.toml:4:18: "1MiB" is out of range
              4 | copy_max_bytes = "1MiB"
                |                  ^^^^^^
                = from 0B to 256KiB
            site.toml:5:20: "0" is out of range
              5 | look_ahead_bytes = 0
                |                    ^
                = from 256KiB to 1GiB
            site.toml:6:1: unknown key "step" in [transfer]
              6 | step = 1
                | ^^^^
                = known are copy_max_bytes, step_bytes, turn_bytes, look_ahead_bytes
        "#]],
    );
}

#[test]
fn every_kind_of_value() {
    let config = parse(
        r#"
        workers = 3
        io = "epoll"
        pin = false
        shutdown_timeout = "1m"

        [listen.public]
        address = ["127.0.0.1:0", "[::1]:8443"]
        files = "b"
        notsent_lowat = "16KiB"
        keepalive = true
        keepalive_idle = "2h"
        congestion = "bbr"
        [listen.all]
        address = ":9000"
        files = "a"
        backlog = 7

        [files.a]
        root = "/"
        index = []
        charset = ""
        [files.b]
        root = "usr"
        index = "home.html"
        symlinks = "deny"

        [limits]
        body_bytes = 12
        idle_timeout = "500ms"
        [log]
        access = "-"
        format = "json"
        "#,
    );
    assert_eq!(config.workers, 3);
    assert_eq!(config.io, Io::Epoll);
    assert!(!config.pin);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(60));
    let [public, all] = &config.listeners[..] else {
        panic!("two listeners")
    };
    assert_eq!((public.name.as_str(), all.name.as_str()), ("public", "all"));
    assert_eq!(public.addresses[0].socket, "127.0.0.1:0".parse().unwrap());
    assert_eq!(public.addresses[1].socket, "[::1]:8443".parse().unwrap());
    assert_eq!(public.catch_all, Some(Action::Files(1)));
    assert_eq!(all.catch_all, Some(Action::Files(0)));
    assert_eq!(public.socket.notsent_lowat, Some(16 * 1024));
    assert_eq!(public.socket.keepalive_idle, Duration::from_secs(7200));
    assert_eq!(public.socket.congestion.as_deref(), Some("bbr"));
    assert!(all.addresses[0].every_family && all.options.backlog == 7);
    assert_eq!(all.addresses[0].socket, "[::]:9000".parse().unwrap());
    assert_eq!(config.roots[1].root, Path::new("/usr"));
    assert_eq!(config.roots[1].index, ["home.html"]);
    assert!(config.roots[0].index.is_empty() && config.roots[0].charset.is_empty());
    assert_eq!(config.roots[1].symlinks, Symlinks::Deny);
    assert_eq!(config.limits.body_bytes, 12);
    assert_eq!(config.limits.idle_timeout, Duration::from_millis(500));
    assert_eq!(config.log.access, AccessLog::Stdout);
    assert_eq!(config.log.events, EventFormat::Json);
}

#[test]
fn flags_go_before_the_file() {
    let flags = Flags::new()
        .set("workers", "--workers", "2")
        .set("limits.head_bytes", "--head-bytes", "1KiB")
        .set("limits.target_bytes", "--target-bytes", "512")
        .set_list(
            "listen.main.address",
            "--listen",
            &["127.0.0.1:1".into(), "[::1]:1".into()],
        );
    let text = "workers = 7\n[files.site]\nroot = \"/\"\n[limits]\nheader_count = 9\n";
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &flags).unwrap();
    assert_eq!(config.workers, 2);
    assert_eq!(config.limits.head_bytes, 1024);
    assert_eq!(config.limits.target_bytes, 512);
    assert_eq!(config.limits.header_count, 9);
    assert_eq!(config.listeners[0].addresses.len(), 2);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(parse("\u{feff}[files.site]\nroot = \"/\"").roots.len(), 1);
}

/// Every default and both ends of every range are values that the field can hold.
#[test]
fn the_tables_agree_with_their_fields() {
    let mut tables = 0;
    for table in super::tables() {
        tables += 1;
        for key in table.keys() {
            if let Absent::Is(text) = key.absent {
                assert_eq!(key.validate(text), Ok(()), "the default of {}", key.name);
            }
            assert!(key.summary().len() > 10, "{} isn't explained", key.name);
        }
    }
    assert_eq!(tables, 9);
    for end in [|min: u64, _max: u64| min, |_min: u64, max: u64| max] {
        let mut text = String::new();
        for table in super::tables() {
            text += &table.header().replace("NAME", "name");
            text += "\n";
            for key in table.keys().filter(|key| !is_another_choice(table, key)) {
                text += &extreme(key, end);
            }
        }
        parse(&text);
    }
}

/// Whether the key excludes another of its table, which is written, or needs other files.
fn is_another_choice(table: &Table, key: &Key) -> bool {
    match table.name {
        "" => key.name == "include",
        "listen" => key.name == "proxy",
        "admin" => key.name == "allow_remote",
        "route" => ["files", "redirect", "status", "body"].contains(&key.name),
        _ => false,
    }
}

/// A line that gives `key` one end of its range, within what other keys leave it.
fn extreme(key: &Key, end: fn(u64, u64) -> u64) -> String {
    let value = match key.kind {
        Kind::Size { min, .. } if key.name == "target_bytes" => min.to_string(),
        Kind::Size { .. } if key.name == "cache_file_bytes" => "0".to_owned(),
        Kind::Size { min, max } | Kind::Integer { min, max } => end(min, max).to_string(),
        Kind::Duration { min, max } => {
            let millis = end(min.as_millis() as u64, max.as_millis() as u64);
            format!("\"{millis}ms\"")
        }
        Kind::Choice(choices) => format!("{:?}", choices.last().unwrap().0),
        Kind::Switch if ["ipv6_only", "clean_urls", "spa"].contains(&key.name) => {
            "false".to_owned()
        }
        Kind::Switch => "true".to_owned(),
        Kind::Address => panic!("only lists of addresses"),
        Kind::Prose { .. } => panic!("goes with a status"),
        Kind::Text { .. } | Kind::Line { .. } | Kind::Format | Kind::List { .. } => {
            match key.name {
                "listen" | "proxy" => "\"name\"".to_owned(),
                "root" => "\"/usr\"".to_owned(),
                "users" => format!("\"alice:{HASH}\""),
                "users_file" => format!("{USERS_FILE:?}"),
                "files" => "\"name\"".to_owned(),
                "access" => "\"-\"".to_owned(),
                // The example's directory is made by who starts it.
                "address" if matches!(key.kind, Kind::Text { .. }) => "\"unix:/a.sock\"".to_owned(),
                _ => key.kind.example(),
            }
        }
    };
    format!("{} = {value}\n", key.name)
}

// One thing wrong.

#[test]
fn unknown_key() {
    check_added(
        "[limits]\nhead_byts = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head_byts" in [limits]
          4 | head_byts = 1
            | ^^^^^^^^^
            = did you mean "head_bytes"?
    "#]],
    );
    check_added(
        "[limits]\nhead-bytes = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head-bytes" in [limits]
          4 | head-bytes = 1
            | ^^^^^^^^^^
            = did you mean "head_bytes"?
    "#]],
    );
}

#[test]
fn unknown_key_at_the_top() {
    check(
        "wrkers = 1\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:1: unknown key "wrkers"
          1 | wrkers = 1
            | ^^^^^^
            = did you mean "workers"?
    "#]],
    );
}

#[test]
fn key_of_another_table() {
    check_added(
        "idle_timeout = \"1s\"\n",
        expect![[r#"
            site.toml:3:1: unknown key "idle_timeout" in [files.NAME]
              3 | idle_timeout = "1s"
                | ^^^^^^^^^^^^
                = "idle_timeout" belongs in [upstream.NAME] or in [limits]
        "#]],
    );
    check_added(
        "workers = 1\n",
        expect![[r#"
        site.toml:3:1: unknown key "workers" in [files.NAME]
          3 | workers = 1
            | ^^^^^^^
            = "workers" belongs above the first table
    "#]],
    );
    check_added(
        "[log]\nhead_byte = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "head_byte" in [log]
          4 | head_byte = 1
            | ^^^^^^^^^
            = did you mean "head_bytes", in [limits]?
    "#]],
    );
}

#[test]
fn unknown_key_like_no_other() {
    check_added(
        "[log]\nzzz = 1\n",
        expect![[r#"
        site.toml:4:1: unknown key "zzz" in [log]
          4 | zzz = 1
            | ^^^
            = known are access, access_format, format
    "#]],
    );
}

#[test]
fn unknown_table() {
    check_added(
        "[listn.main]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:3:2: unknown table "listn"
          3 | [listn.main]
            |  ^^^^^
            = did you mean "listen"?
    "#]],
    );
}

#[test]
fn a_table_without_a_name() {
    check_added(
        "[listen]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:4:1: "address" stands where a table with a name is expected
          4 | address = ":80"
            | ^^^^^^^
            = give the table a name of your choice: [listen.main]
    "#]],
    );
}

#[test]
fn a_name_that_is_none() {
    check_added(
        "[listen.\"a b\"]\naddress = \":80\"\n",
        expect![[r#"
        site.toml:3:9: "a b" isn't a name
          3 | [listen."a b"]
            |         ^^^^^
            = letters, digits, `-` and `_`, at most 64
    "#]],
    );
}

#[test]
fn a_table_that_is_a_value() {
    check(
        "listen = \":80\"\nlimits = 3\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:10: expected the table [listen.NAME], found a string
          1 | listen = ":80"
            |          ^^^^^
        site.toml:2:10: expected the table [limits], found a whole number
          2 | limits = 3
            |          ^
    "#]],
    );
    check_added(
        "[[limits]]\n",
        expect![[r#"
        site.toml:3:1: expected the table [limits], found an array
          3 | [[limits]]
            | ^^^^^^^^^^
    "#]],
    );
}

#[test]
fn wrong_type() {
    check_added(
        "[limits]\nhead_bytes = true\n",
        expect![[r#"
        site.toml:4:14: expected a size, found a boolean
          4 | head_bytes = true
            |              ^^^^
            = such as "16KiB"
    "#]],
    );
    check_added(
        "[limits]\nheader_count = \"64\"\n",
        expect![[r#"
        site.toml:4:16: expected a whole number, found a string
          4 | header_count = "64"
            |                ^^^^
            = without quotes: 64
    "#]],
    );
    check_added(
        "[limits]\nheader_count = 1.5\n",
        expect![[r#"
        site.toml:4:16: expected a whole number, found a decimal number
          4 | header_count = 1.5
            |                ^^^
            = such as 1
    "#]],
    );
    check_added(
        "show_dotfiles = \"true\"\n",
        expect![[r#"
        site.toml:3:17: expected true or false, found a string
          3 | show_dotfiles = "true"
            |                 ^^^^^^
            = without quotes: true
    "#]],
    );
    check_added(
        "[listen.main]\naddress = 8080\n",
        expect![[r#"
        site.toml:4:11: expected an address, found a whole number
          4 | address = 8080
            |           ^^^^
            = such as "127.0.0.1:8080"
    "#]],
    );
    check_added(
        "index = [1, \"ok\", 1979-05-27]\n",
        expect![[r#"
        site.toml:3:10: expected a string, found a whole number
          3 | index = [1, "ok", 1979-05-27]
            |          ^
            = such as "index.html"
        site.toml:3:19: expected a string, found a date
          3 | index = [1, "ok", 1979-05-27]
            |                   ^^^^^^^^^^
            = such as "index.html"
    "#]],
    );
}

#[test]
fn durations() {
    check_added(
        "[limits]\nidle_timeout = 30\n",
        expect![[r#"
        site.toml:4:16: expected a duration, found a whole number
          4 | idle_timeout = 30
            |                ^^
            = with its unit: "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"30\"\n",
        expect![[r#"
        site.toml:4:16: "30" has no unit
          4 | idle_timeout = "30"
            |                ^^^^
            = such as "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"30 seconds\"\n",
        expect![[r#"
        site.toml:4:16: unknown unit "seconds"
          4 | idle_timeout = "30 seconds"
            |                ^^^^^^^^^^^^
            = ms, s, m, h or d, such as "30s"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"soon\"\n",
        expect![[r#"
        site.toml:4:16: "soon" isn't a duration
          4 | idle_timeout = "soon"
            |                ^^^^^^
            = such as "500ms", "30s", "5m"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"0s\"\n",
        expect![[r#"
            site.toml:4:16: "0s" is out of range
              4 | idle_timeout = "0s"
                |                ^^^^
                = from 10ms to 1d
        "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"99999999999999999999d\"\n",
        expect![[r#"
        site.toml:4:16: "99999999999999999999d" isn't a duration
          4 | idle_timeout = "99999999999999999999d"
            |                ^^^^^^^^^^^^^^^^^^^^^^^
            = such as "500ms", "30s", "5m"
    "#]],
    );
    check_added(
        "[limits]\nidle_timeout = \"9999999999999999999d\"\n",
        expect![[r#"
            site.toml:4:16: "9999999999999999999d" is out of range
              4 | idle_timeout = "9999999999999999999d"
                |                ^^^^^^^^^^^^^^^^^^^^^^
                = from 10ms to 1d
        "#]],
    );
}

#[test]
fn sizes() {
    check_added(
        "[limits]\nhead_bytes = \"16k\"\n",
        expect![[r#"
        site.toml:4:14: unknown unit "k"
          4 | head_bytes = "16k"
            |              ^^^^^
            = "16KiB" (units are powers of 1024)
    "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"16 parsecs\"\n",
        expect![[r#"
        site.toml:4:14: unknown unit "parsecs"
          4 | head_bytes = "16 parsecs"
            |              ^^^^^^^^^^^^
            = B, KiB, MiB or GiB
    "#]],
    );
    check_added(
        "[limits]\nhead_bytes = -1\n",
        expect![[r#"
            site.toml:4:14: "-1" is out of range
              4 | head_bytes = -1
                |              ^^
                = from 128B to 1MiB
        "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"1GiB\"\n",
        expect![[r#"
            site.toml:4:14: "1GiB" is out of range
              4 | head_bytes = "1GiB"
                |              ^^^^^^
                = from 128B to 1MiB
        "#]],
    );
    check_added(
        "[limits]\nhead_bytes = \"KiB\"\n",
        expect![[r#"
        site.toml:4:14: "KiB" isn't a size
          4 | head_bytes = "KiB"
            |              ^^^^^
            = such as "512B", "16KiB", "64MiB"
    "#]],
    );
}

#[test]
fn numbers() {
    check(
        "workers = 0\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: 0 is out of range
          1 | workers = 0
            |           ^
            = a whole number from 1 to 1024
    "#]],
    );
    check(
        "workers = 1025\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: 1025 is out of range
          1 | workers = 1025
            |           ^^^^
            = a whole number from 1 to 1024
    "#]],
    );
    check(
        "workers = 99999999999999999999\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:11: expected a whole number, found a number out of range
          1 | workers = 99999999999999999999
            |           ^^^^^^^^^^^^^^^^^^^^
            = such as 1
    "#]],
    );
}

#[test]
fn words() {
    check(
        "io = \"iouring\"\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
            site.toml:1:6: unknown word "iouring"
              1 | io = "iouring"
                |      ^^^^^^^^^
                = did you mean "uring"?
        "#]],
    );
    check(
        "io = \"kqueue\"\n[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:1:6: unknown word "kqueue"
          1 | io = "kqueue"
            |      ^^^^^^^^
            = one of "auto", "uring", "epoll"
    "#]],
    );
}

#[test]
fn addresses() {
    let address = |text: &str, expected: Expect| {
        check_added(&format!("[listen.main]\naddress = {text}\n"), expected);
    };
    address(
        "\"8080\"",
        expect![[r#"
        site.toml:4:11: "8080" is a port, not an address
          4 | address = "8080"
            |           ^^^^^^
            = "127.0.0.1:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "\"127.0.0.1\"",
        expect![[r#"
        site.toml:4:11: "127.0.0.1" has no port
          4 | address = "127.0.0.1"
            |           ^^^^^^^^^^^
            = such as "127.0.0.1:8080"
    "#]],
    );
    address(
        "\"::1\"",
        expect![[r#"
        site.toml:4:11: "::1" has no port
          4 | address = "::1"
            |           ^^^^^
            = such as "[::1]:8080"
    "#]],
    );
    address(
        "\"127.0.0.1:http\"",
        expect![[r#"
        site.toml:4:11: "http" isn't a port
          4 | address = "127.0.0.1:http"
            |           ^^^^^^^^^^^^^^^^
            = a port is a number from 0 to 65535
    "#]],
    );
    address(
        "\"127.0.0.1:65536\"",
        expect![[r#"
        site.toml:4:11: "65536" isn't a port
          4 | address = "127.0.0.1:65536"
            |           ^^^^^^^^^^^^^^^^^
            = a port is a number from 0 to 65535
    "#]],
    );
    address(
        "\"example.org:80\"",
        expect![[r#"
        site.toml:4:11: "example.org" isn't an IP address
          4 | address = "example.org:80"
            |           ^^^^^^^^^^^^^^^^
            = such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "\"\"",
        expect![[r#"
        site.toml:4:11: "" isn't an address
          4 | address = ""
            |           ^^
            = such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for every address of the machine
    "#]],
    );
    address(
        "[]",
        expect![[r#"
        site.toml:4:11: the list is empty
          4 | address = []
            |           ^^
            = at least 1, such as "127.0.0.1:8080"
    "#]],
    );
}

#[test]
fn addresses_twice() {
    check_added(
        "[listen.a]\naddress = [\"127.0.0.1:80\", \"127.0.0.1:80\"]\n\
         [listen.b]\naddress = \"0.0.0.0:80\"\n",
        expect![[r#"
            site.toml:4:28: 127.0.0.1:80 is already listened on
              4 | address = ["127.0.0.1:80", "127.0.0.1:80"]
                |                            ^^^^^^^^^^^^^^
                = [listen.a] has 127.0.0.1:80
            site.toml:6:11: 0.0.0.0:80 is already listened on
              6 | address = "0.0.0.0:80"
                |           ^^^^^^^^^^^^
                = [listen.a] has 127.0.0.1:80
        "#]],
    );
    check_added(
        "[listen.a]\naddress = [\":80\", \"127.0.0.1:80\"]\n",
        expect![[r#"
            site.toml:4:19: 127.0.0.1:80 is already listened on
              4 | address = [":80", "127.0.0.1:80"]
                |                   ^^^^^^^^^^^^^^
                = [listen.a] has :80
        "#]],
    );
}

#[test]
fn addresses_beside_each_other() {
    parse(
        "[files.site]\nroot = \"/\"\n[listen.six]\naddress = \"[::]:80\"\nipv6_only = true\n\
         [listen.four]\naddress = [\"0.0.0.0:80\", \"127.0.0.1:0\", \"127.0.0.1:0\"]\n",
    );
}

#[test]
fn every_family_and_ipv6_only() {
    check_added(
        "[listen.main]\naddress = \":80\"\nipv6_only = true\n",
        expect![[r#"
            site.toml:4:11: :80 is for IPv4 as well, but ipv6_only is on
              4 | address = ":80"
                |           ^^^^^
                = write "[::]:80", or leave ipv6_only out
        "#]],
    );
}

#[test]
fn roots() {
    check(
        "[files.site]\nroot = \"/no/such/place\"\n",
        expect![[r#"
        site.toml:2:8: /no/such/place doesn't exist
          2 | root = "/no/such/place"
            |        ^^^^^^^^^^^^^^^^
            = create it, or name a directory that does
    "#]],
    );
    check(
        "[files.site]\nroot = \"/proc/self/stat\"\n",
        expect![[r#"
        site.toml:2:8: /proc/self/stat isn't a directory
          2 | root = "/proc/self/stat"
            |        ^^^^^^^^^^^^^^^^^
            = name the directory that it is in
    "#]],
    );
    check(
        "[files.site]\nroot = \"/proc/self/stat/x\"\n",
        expect![[r#"
        site.toml:2:8: /proc/self/stat/x leads through a file
          2 | root = "/proc/self/stat/x"
            |        ^^^^^^^^^^^^^^^^^^^
            = name a directory that exists
    "#]],
    );
    check(
        "[files.site]\nroot = \"\"\n",
        expect![[r#"
        site.toml:2:8: an empty string isn't allowed here
          2 | root = ""
            |        ^^
            = such as "/var/www"
    "#]],
    );
    check(
        "[files.site]\n",
        expect![[r#"
        site.toml:1:8: [files.site] needs "root"
          1 | [files.site]
            |        ^^^^
            = such as root = "/var/www"
    "#]],
    );
    check(
        "",
        expect![[r#"
            site.toml:1:1: nothing to serve
              1 |
                | ^
                = add a directory: [files.site] with root = "/var/www"
        "#]],
    );
}

#[test]
fn options_of_a_root() {
    check_added(
        "index = [\"index.html\", \"a/b\"]\ncharset = \"utf 8\"\n",
        expect![[r#"
        site.toml:3:24: "a/b" isn't the name of a file
          3 | index = ["index.html", "a/b"]
            |                        ^^^^^
            = a name within the directory, such as "index.html"
        site.toml:4:11: "utf 8" isn't a charset
          4 | charset = "utf 8"
            |           ^^^^^^^
            = such as "utf-8", or "" for none
    "#]],
    );
}

#[test]
fn users() {
    let config = parse(&format!(
        "[files.a]\nroot = \"/usr\"\nusers = [\"alice:{HASH}\"]\nusers_file = {USERS_FILE:?}\n\
         [files.b]\nroot = \"/usr\"\n[listen.a]\naddress = \":0\"\nfiles = \"a\"\n"
    ));
    assert!(config.roots[0].has_users() && !config.roots[1].has_users());
    assert_eq!(config.roots[0].password_cache, Duration::from_secs(60));
    let lines = format!(
        "users = [\"alice:{HASH}\", \"alice:{HASH}\", \"bob:hunter2\", \"hunter2\", \"carol:$apr1$8ckXc2eO$\"]\n"
    );
    check_added(
        &lines,
        expect![[r#"
        site.toml:3:80: user "alice" is there twice
            = leave one of them out
        site.toml:3:150: user "bob": no hash: a password as it is is never kept
            = make a new one: ringway hash-password --user bob
        site.toml:3:165: no user and hash: there is no colon
            = write "user:hash"; ringway hash-password --user NAME makes it
        site.toml:3:176: user "carol": an MD5 hash ($apr1$), which is too weak
            = make a new one: ringway hash-password --user carol
    "#]],
    );
    check_added(
        "users = []\nrealm = \"G\u{e4}ste\"\n",
        expect![[r#"
        site.toml:3:9: the list is empty
          3 | users = []
            |         ^^
            = at least 1, such as "alice:$argon2id$..."
        site.toml:4:9: a realm has printable ASCII characters only
          4 | realm = "Gäste"
            |         ^^^^^^^
            = HTTP has no way to say in which characters the others are
        site.toml:4:9: realm has no effect where nobody is asked for a password
          4 | realm = "Gäste"
            |         ^^^^^^^
            = add users or users_file
    "#]],
    );
    check_added(
        "realm = \"Members\"\n",
        expect![[r#"
        site.toml:3:9: realm has no effect where nobody is asked for a password
          3 | realm = "Members"
            |         ^^^^^^^^^
            = add users or users_file
    "#]],
    );
    check_added(
        "users_file = \"no/such/file\"\n",
        expect![[r#"
        site.toml:3:14: /no/such/file can't be read: No such file or directory (os error 2)
          3 | users_file = "no/such/file"
            |              ^^^^^^^^^^^^^^
            = make it with ringway hash-password --user alice >> FILE
    "#]],
    );
}

/// A file's faults are told with their lines; what may be passwords isn't.
#[test]
fn users_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        std::fs::write(folder.path().join("users"), text).unwrap();
        std::fs::create_dir_all(folder.path().join("site")).unwrap();
    };
    let report = |root: &str| {
        let text = format!("[files.site]\nroot = \"{root}\"\nusers_file = \"users\"\n");
        let parsed = Config::parse(
            "site.toml",
            &text,
            Format::Toml,
            folder.path(),
            &Flags::new(),
        );
        let report = parsed.unwrap_err().to_string();
        report.replace(folder.path().to_str().unwrap(), "HERE")
    };
    write(&format!(
        "alice:{HASH}\n\nbob:hunter2\nalice:{HASH}\nhunter2\ndave:{{SHA}}x\n"
    ));
    expect![[r#"
        site.toml:3:14: HERE/users:3: user "bob": no hash: a password as it is is never kept
          3 | users_file = "users"
            |              ^^^^^^^
            = make a new one: ringway hash-password --user bob
        site.toml:3:14: HERE/users:4: user "alice" is there twice
          3 | users_file = "users"
            |              ^^^^^^^
            = leave one of them out
        site.toml:3:14: HERE/users:5: no user and hash: there is no colon
          3 | users_file = "users"
            |              ^^^^^^^
            = write "user:hash"; ringway hash-password --user NAME makes it
        site.toml:3:14: HERE/users:6: user "dave": a SHA-1 hash without salt ({SHA}), which is too weak
          3 | users_file = "users"
            |              ^^^^^^^
            = make a new one: ringway hash-password --user dave"#]].assert_eq(&report("site"));
    write("# nobody yet\n");
    expect![[r#"
        site.toml:3:14: HERE/users has no user in it
          3 | users_file = "users"
            |              ^^^^^^^
            = add one with ringway hash-password --user alice >> FILE"#]]
    .assert_eq(&report("site"));
    write(&format!("alice:{HASH}\n"));
    expect![[r#"
        site.toml:3:14: the password file lies in what [files.site] serves
          3 | users_file = "users"
            |              ^^^^^^^
            = keep it outside of every root"#]]
    .assert_eq(&report("."));
}

#[test]
fn which_root() {
    let two = "[files.site]\nroot = \"/\"\n[files.docs]\nroot = \"/\"\n";
    check(
        &format!("{two}[listen.main]\naddress = \":80\"\n"),
        expect![[r#"
        site.toml:5:9: [listen.main] needs "files"
          5 | [listen.main]
            |         ^^^^
            = there are several to choose from: files = "site", files = "docs"
    "#]],
    );
    check(
        &format!("{two}[listen.main]\naddress = \":80\"\nfiles = \"dox\"\n"),
        expect![[r#"
        site.toml:7:9: there is no [files.dox]
          7 | files = "dox"
            |         ^^^^^
            = there are "site", "docs"
    "#]],
    );
    check(
        two,
        expect![[r#"
            site.toml:1:1: several [files.NAME] tables, and no listener to say which is served
              1 | [files.site]
                | ^
                = add a table: [listen.main] with address and files or proxy
        "#]],
    );
}

#[test]
fn contradictions() {
    check_added(
        "[limits]\nhead_bytes = 1024\ntarget_bytes = 2048\nconnections = 10\n\
         connections_per_address = 11\ncache_bytes = \"1KiB\"\ncache_file_bytes = \"2KiB\"\n",
        expect![[r#"
            site.toml:5:16: target_bytes is larger than head_bytes, which the target is part of
              5 | target_bytes = 2048
                |                ^^^^
                = head_bytes is 1KiB
            site.toml:7:27: connections_per_address is larger than connections
              7 | connections_per_address = 11
                |                           ^^
                = connections is 10
            site.toml:9:20: the largest cached file doesn't fit a worker's share of the cache
              9 | cache_file_bytes = "2KiB"
                |                    ^^^^^^
                = cache_bytes is 1KiB, for 2 workers
        "#]],
    );
    check_added(
        "[limits]\nreceive_buffers = 3\nring_entries = 8192\ncompletion_entries = 4096\n",
        expect![[r#"
            site.toml:4:19: receive_buffers has to be a power of two
              4 | receive_buffers = 3
                |                   ^
                = such as 4
            site.toml:6:22: completion_entries is smaller than ring_entries
              6 | completion_entries = 4096
                |                      ^^^^
                = at least 8192
        "#]],
    );
    check_added(
        "[listen.main]\naddress = \":80\"\nkeepalive_idle = \"3s\"\n",
        expect![[r#"
        site.toml:5:18: keepalive_idle has no effect while keepalive is off
          5 | keepalive_idle = "3s"
            |                  ^^^^
            = add keepalive = true
    "#]],
    );
}

#[test]
fn a_default_gives_way_to_what_is_written() {
    let config = parse(
        "workers = 4\n[files.site]\nroot = \"/\"\n[limits]\nhead_bytes = \"1KiB\"\n\
         connections = 5\ncache_bytes = \"64KiB\"\nring_entries = 8192\n",
    );
    assert_eq!(config.limits.target_bytes, 1024);
    assert_eq!(config.limits.connections_per_address, 5);
    assert_eq!(config.limits.cache_file_bytes, 16 * 1024);
    assert_eq!(config.limits.completion_entries, 16_384);
}

#[test]
fn access_log() {
    check_added(
        "[log]\naccess = \"/no/such/directory/log\"\n",
        expect![[r#"
        site.toml:4:10: the directory /no/such/directory doesn't exist
          4 | access = "/no/such/directory/log"
            |          ^^^^^^^^^^^^^^^^^^^^^^^^
            = create it, or choose another place for the access log
    "#]],
    );
    check_added(
        "[log]\naccess = \"/\"\n",
        expect![[r#"
        site.toml:4:10: / is a directory
          4 | access = "/"
            |          ^^^
            = name the file in it
    "#]],
    );
}

#[test]
fn access_formats() {
    // A tab may be written as itself or as TOML's escape.
    for format in ["'json'", "'$peer \t$status'", r#""$peer\t$status""#] {
        parse(&format!(
            "[files.site]\nroot = \"/\"\n[log]\naccess_format = {format}\n"
        ));
    }
    check_added(
        "[log]\naccess_format = '$peer $stauts'\n",
        expect![[r#"
        site.toml:4:24: unknown variable $stauts
          4 | access_format = '$peer $stauts'
            |                        ^^^^^^^
            = did you mean $status?
    "#]],
    );
    check_added(
        "[log]\naccess_format = \"$peer \\\"$remote_addr\\\"\"\n",
        expect![[r#"
            site.toml:4:17: unknown variable $remote_addr
              4 | access_format = "$peer \"$remote_addr\""
                |                 ^^^^^^^^^^^^^^^^^^^^^^^^
                = did you mean $peer?
        "#]],
    );
    check_added(
        "[log]\naccess_format = \"jsn\"\n",
        expect![[r#"
        site.toml:4:18: neither a format's name nor a variable in it
          4 | access_format = "jsn"
            |                  ^^^
            = did you mean "json"?
    "#]],
    );
    check_added(
        "[log]\naccess_format = \"$peer\\n$status\"\n",
        expect![[r#"
        site.toml:4:17: a log line has no control characters but tabs
          4 | access_format = "$peer\n$status"
            |                 ^^^^^^^^^^^^^^^^
            = leave it out
    "#]],
    );
}

// Several things wrong, and bad syntax.

#[test]
fn all_problems_at_once() {
    check(
        "wrkers = 2\nio = \"poll\"\n\n[listen.main]\nadress = \"127.0.0.1:80\"\nbacklog = 0\n\n\
         [files.site]\nroot = \"/no/such/place\"\n\n[limits]\nidle_timeout = 5\n",
        expect![[r#"
            site.toml:1:1: unknown key "wrkers"
              1 | wrkers = 2
                | ^^^^^^
                = did you mean "workers"?
            site.toml:2:6: unknown word "poll"
              2 | io = "poll"
                |      ^^^^^^
                = did you mean "epoll"?
            site.toml:4:9: [listen.main] needs "address"
              4 | [listen.main]
                |         ^^^^
                = such as address = ["127.0.0.1:8080"]
            site.toml:5:1: unknown key "adress" in [listen.NAME]
              5 | adress = "127.0.0.1:80"
                | ^^^^^^
                = did you mean "address"?
            site.toml:6:11: 0 is out of range
              6 | backlog = 0
                |           ^
                = a whole number from 1 to 65535
            site.toml:9:8: /no/such/place doesn't exist
              9 | root = "/no/such/place"
                |        ^^^^^^^^^^^^^^^^
                = create it, or name a directory that does
            site.toml:12:16: expected a duration, found a whole number
              12 | idle_timeout = 5
                 |                ^
                 = with its unit: "5s"
        "#]],
    );
}

#[test]
fn bad_syntax_and_what_follows_it() {
    check(
        "workers = \n[files.site]\nroot = \"/\nindex = \"a\"\n[limits]\nhead_byts = 1\n",
        expect![[r#"
            site.toml:1:11: string values must be quoted, expected literal string
              1 | workers =
                |           ^
            site.toml:3:10: invalid basic string, expected `"`
              3 | root = "/
                |          ^
            site.toml:6:1: unknown key "head_byts" in [limits]
              6 | head_byts = 1
                | ^^^^^^^^^
                = did you mean "head_bytes"?
        "#]],
    );
}

#[test]
fn duplicates() {
    check_added(
        "root = \"/\"\n",
        expect![[r#"
        site.toml:3:1: duplicate key
          3 | root = "/"
            | ^^^^
    "#]],
    );
    check_added(
        "[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:3:8: duplicate key
          3 | [files.site]
            |        ^^^^
        site.toml:4:1: duplicate key
          4 | root = "/"
            | ^^^^
    "#]],
    );
}

#[test]
fn json() {
    check_json(
        r#"{
  "wrkers": 2,
  "files": { "site": { "root": "/no/such/place", "index": null } },
  "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
  "limits": {}
}"#,
        expect![[r#"
            site.json:2:3: unknown key "wrkers"
              2 |   "wrkers": 2,
                |   ^^^^^^^^
                = did you mean "workers"?
            site.json:3:32: /no/such/place doesn't exist
              3 |   "files": { "site": { "root": "/no/such/place", "index": null } },
                |                                ^^^^^^^^^^^^^^^^
                = create it, or name a directory that does
            site.json:3:59: expected a string, found null
              3 |   "files": { "site": { "root": "/no/such/place", "index": null } },
                |                                                           ^^^^
                = such as "index.html"
            site.json:4:31: expected a duration, found a whole number
              4 |   "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
                |                               ^
                = with its unit: "5s"
            site.json:4:48: expected a size, found a decimal number
              4 |   "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
                |                                                ^^^
                = such as "16KiB"
            site.json:5:3: duplicate key
              5 |   "limits": {}
                |   ^^^^^^^^
        "#]],
    );
    check_json(
        "{ \"workers\": 1,\n  // why\n}",
        expect![[r#"
        site.json:2:3: comments are not allowed
          2 |   // why
            |   ^^^^^^
    "#]],
    );
    check_json(
        "{ \"workers\": 1 \"pin\": true }",
        expect![[r#"
        site.json:1:15: expected comma
          1 | { "workers": 1 "pin": true }
            |               ^
    "#]],
    );
    check_json(
        "[]",
        expect![[r#"
        site.json:1:1: expected an object, found an array
          1 | []
            | ^^
    "#]],
    );
    check_json(
        "",
        expect![[r#"
            site.json:1:1: an empty file isn't JSON
              1 |
                | ^
                = the smallest configuration is `{}`
        "#]],
    );
    check_json(
        "{ \"workers\": 1",
        expect![[r#"
        site.json:1:1: unterminated object
          1 | { "workers": 1
            | ^^^^^^^^^^^^^^
    "#]],
    );
}

#[test]
fn deep_nesting_is_refused() {
    check_json(
        &"[".repeat(100_000),
        expect![[r#"
        site.json:1:513: maximum nesting depth exceeded
          1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
            |                          ^^
    "#]],
    );
    let toml = format!("workers = {}", "[".repeat(100_000));
    let toml = report("deep.toml", &toml, Format::Toml, &Flags::new());
    expect!["deep.toml:1:91: cannot recurse further; max recursion depth met"]
        .assert_eq(toml.lines().next().unwrap());
}

/// A log or a binary that was taken for a configuration: an answer, soon, of readable length.
#[test]
fn a_large_file_of_nonsense() {
    let lines = [
        "[warn] worker 3: nothing\n",
        "a = 1\n",
        "=\n",
        "[files.a]\nroot = 1\n",
    ];
    for line in lines {
        let text = report(
            "log.toml",
            &line.repeat(20_000),
            Format::Toml,
            &Flags::new(),
        );
        assert!(text.lines().count() <= 401, "{}", text.lines().count());
        assert!(text.ends_with(" more\n"), "{text}");
    }
    let keys: String = (0..50_000)
        .map(|index| format!("\"k{index}\":1,"))
        .collect();
    let text = report(
        "a.json",
        &format!("{{{keys}\"workers\":1}}"),
        Format::Json,
        &Flags::new(),
    );
    assert!(text.ends_with("... and 49900 more\n"), "{text}");
}

/// A flag doesn't hide that the file has something else where the flag's table belongs.
#[test]
fn a_flag_into_what_is_no_table() {
    let flags = Flags::new().set("limits.head_bytes", "--head-bytes", "1KiB");
    let text = "limits = 3\n[files.site]\nroot = \"/\"\n";
    expect![[r#"
        site.toml:1:10: expected the table [limits], found a whole number
          1 | limits = 3
            |          ^
    "#]]
    .assert_eq(&report("site.toml", text, Format::Toml, &flags));
}

#[test]
fn a_long_line_is_cut_around_the_problem() {
    let padding = "x".repeat(300);
    check_json(
        &format!("{{\"files\":{{\"{padding}\":{{\"root\":\"/\"}}}},\"wrkers\":2,\"pin\":true}}"),
        expect![[r#"
            site.json:1:11: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… isn't a name
              1 | {"files":{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
                |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = letters, digits, `-` and `_`, at most 64
            site.json:1:328: unknown key "wrkers"
              1 | …xxxxxxxx":{"root":"/"}},"wrkers":2,"pin":true}
                |                          ^^^^^^^^
                = did you mean "workers"?
        "#]],
    );
}

#[test]
fn tabs_wide_characters_and_escapes_are_shown_safely() {
    check_added(
        "\tindx = \"ö\" # \u{1b}[31m\n",
        expect![[r#"
            site.toml:3:15: invalid comment character, expected printable characters
              3 |     indx = "ö" # \u{1b}[31m
                |                  ^^^^^^
        "#]],
    );
    check_added(
        "charset = \"ö\u{7}\"\n",
        expect![[r#"
            site.toml:3:13: invalid basic string, expected non-double-quote visible characters, `\`
              3 | charset = "ö\u{7}"
                |             ^^^^^
        "#]],
    );
}

#[test]
fn headers_that_cannot_be_sent() {
    check_added(
        "headers = [\"X-A: b\", \"Connection: close\", \"*.js X B: c\"]\ncache_control = \"*.js\"\n",
        expect![[r#"
            site.toml:3:22: Connection is for the server to say
              3 | headers = ["X-A: b", "Connection: close", "*.js X B: c"]
                |                      ^^^^^^^^^^^^^^^^^^^
                = leave it out
            site.toml:3:43: "X B" isn't a header name
              3 | headers = ["X-A: b", "Connection: close", "*.js X B: c"]
                |                                           ^^^^^^^^^^^^^
                = such as "X-Robots-Tag: noindex"
            site.toml:4:17: "*.js" needs a pattern and a value
              4 | cache_control = "*.js"
                |                 ^^^^^^
                = such as "/images/** max-age=86400", or "*.zip none"
        "#]],
    );
    check_added(
        "cors = [\"https://a.example\", \"https://b.example/\"]\ncors_expose = [\"a b\"]\n",
        expect![[r#"
            site.toml:3:30: "https://b.example/" isn't an origin
              3 | cors = ["https://a.example", "https://b.example/"]
                |                              ^^^^^^^^^^^^^^^^^^^^
                = such as "https://app.example": in lower case, without a path
            site.toml:4:16: "a b" isn't a header name
              4 | cors_expose = ["a b"]
                |                ^^^^^
                = such as "ETag"
        "#]],
    );
    check_added(
        "cors = [\"*\"]\ncors_credentials = true\n",
        expect![[r#"
        site.toml:4:20: cors_credentials needs the origins by name
          4 | cors_credentials = true
            |                    ^^^^
            = such as cors = ["https://app.example"]
    "#]],
    );
    check_added(
        "cors = [\"*\", \"null\"]\n",
        expect![[r#"
        site.toml:3:8: "*" and other origins
          3 | cors = ["*", "null"]
            |        ^^^^^^^^^^^^^
            = "*" alone allows all of them
    "#]],
    );
}

#[test]
fn paths_that_cannot_be_tried() {
    check_added(
        "try_files = [\"{path}\", \"=404\", \"../x\"]\nerror_pages = [\"404 404.html\"]\n",
        expect![[r#"
            site.toml:3:13: a status ends the list, but something follows
              3 | try_files = ["{path}", "=404", "../x"]
                |             ^^^^^^^^^^^^^^^^^^^^^^^^^^
                = put it last
            site.toml:3:32: "../x" is nothing that can be tried
              3 | try_files = ["{path}", "=404", "../x"]
                |                                ^^^^^^
                = such as "{path}", "{path}.html", "/index.html" or "=404"
            site.toml:4:16: "404.html" isn't the path of a file
              4 | error_pages = ["404 404.html"]
                |                ^^^^^^^^^^^^^^
                = such as "404 /404.html" or "5xx /error.html"
        "#]],
    );
    check_added(
        "spa = true\nclean_urls = true\ntry_files = \"{path}\"\n",
        expect![[r#"
            site.toml:3:7: spa and try_files both say what is tried
              3 | spa = true
                |       ^^^^
                = leave one of them out
            site.toml:4:14: clean_urls and try_files both say what is tried
              4 | clean_urls = true
                |              ^^^^
                = leave one of them out
        "#]],
    );
    let index: Vec<String> = (0..9).map(|number| format!("\"{number}.html\"")).collect();
    check_added(
        &format!("index = [{}]\n", index.join(", ")),
        expect![[r#"
        site.toml:3:9: 9 names would be tried for one request
          3 | index = ["0.html", "1.html", "2.html", "3.html", "4.html", "5.html", "6.html", "7.html", "8.html
            |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = at most 8
    "#]],
    );
}

/// The second value of one flag is checked as the first is; a line has commas of its own.
#[test]
fn flags_with_several_values() {
    let text = "[files.site]\nroot = \"/\"\n";
    let flags = |path: &str, flag: &str, texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Flags::new().set_list(path, flag, &texts)
    };
    let index = flags("files.site.index", "--index", &["a.html", "../b.html"]);
    expect![[r#"
        --index ../b.html: "../b.html" isn't the name of a file: a name within the directory, such as "index.html"
    "#]].assert_eq(&report("site.toml", text, Format::Toml, &index));
    let lines = flags("files.site.headers", "--header", &["X-A: b, c", "X-D: e"]);
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &lines).unwrap();
    assert_eq!(config.roots[0].headers, ["X-A: b, c", "X-D: e"]);
    let single = Flags::new().set("files.site.headers", "--header", "X-A: b, c");
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &single).unwrap();
    assert_eq!(config.roots[0].headers, ["X-A: b, c"]);
}

#[test]
fn problems_of_flags_are_one_line() {
    let flags = Flags::new()
        .set("files.site.root", "", "/no/such/place")
        .set("limits.target_bytes", "--target-bytes", "1MiB")
        .set_list(
            "listen.main.address",
            "--listen",
            &[":80".into(), "127.0.0.1:80".into()],
        );
    let problems = Config::from_flags(&flags).unwrap_err();
    assert!(!problems.in_file());
    assert_eq!(problems.count(), 3);
    expect![[r#"
        --target-bytes 1MiB: target_bytes is larger than head_bytes, which the target is part of: head_bytes is 16KiB
        /no/such/place doesn't exist: create it, or name a directory that does
        --listen 127.0.0.1:80: 127.0.0.1:80 is already listened on: [listen.main] has :80"#]].assert_eq(&problems.to_string());
}

// Files that can't be read.

#[test]
fn unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let error = |name: &str, content: Option<&[u8]>| {
        let path = directory.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = Config::load(&path, &Flags::new()).unwrap_err().to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    };
    std::fs::create_dir(directory.path().join("d.toml")).unwrap();
    let list = [
        error("missing.toml", None),
        error("d.toml", None),
        error("a.yaml", Some(b"")),
        error("bytes.toml", Some(b"workers = 1\n# \xff\n")),
        error("large.toml", Some(&vec![b'\n'; (1 << 20) + 1])),
    ];
    expect![[r#"
        DIR/missing.toml: no such file
        DIR/d.toml: is a directory; name the configuration file in it
        DIR/a.yaml: the name has to end in .toml or .json, which says the format
        DIR/bytes.toml: isn't UTF-8 text: the first wrong byte is on line 2, at offset 14
        DIR/large.toml: is larger than 1 MiB, so it can't be a configuration file"#]]
    .assert_eq(&list.join("\n"));
}

#[test]
fn relative_paths_start_at_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("public")).unwrap();
    let path = directory.path().join("site.toml");
    std::fs::write(
        &path,
        "[files.site]\nroot = \"public\"\n[log]\naccess = \"a.log\"\n",
    )
    .unwrap();
    let config = Config::load(&path, &Flags::new()).unwrap();
    assert_eq!(config.roots[0].root, directory.path().join("public"));
    assert_eq!(
        config.log.access,
        AccessLog::File(directory.path().join("a.log"))
    );
}

// What is generated.

#[test]
fn the_reference_page_is_current() {
    expect_file!["../../../../docs/configuration.md"].assert_eq(&reference());
}

#[test]
fn the_schema_is_current() {
    expect_file!["schema.json"].assert_eq(&schema());
}

// Properties.

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
