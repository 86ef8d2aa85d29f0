//! What is written out reads back as the same, and nothing of it is a secret of another file.

use std::fmt::Write as _;
use std::path::Path;

use expect_test::expect;
use proptest::prelude::*;

use super::super::key::{Key, Kind, Shape};
use super::super::*;
use super::{HASH, USERS_FILE, parse};

#[test]
fn everything_that_holds() {
    let config = parse(
        "[listen.main]\naddress = [\":80\", \"[::1]:81\"]\n[[route]]\nhost = \"*.a.example\"\n\
         path = \"/api/*\"\nproxy = \"app\"\nstrip_prefix = \"/api\"\n\
         request_headers = [\"X-A: {client_ip} $${path}\", \"-Cookie\"]\n[[route]]\n\
         redirect = \"https://{host}{path}{query}\"\n\
         [upstream.app]\nservers = [\"a:1 weight=3\", \"unix:/a\"]\nmax_connections = 3\n",
    );
    let text = config.to_toml();
    // What follows is long, and all alike.
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("workers"))
        .take(38)
        .collect();
    expect![[r#"
        io = "auto"
        pin = true
        steer = "auto"
        huge_pages = "transparent"
        shutdown_timeout = "25s"

        [listen.main]
        address = [":80", "[::1]:81"]
        backlog = 4096
        ipv6_only = false
        nodelay = true
        keepalive = false

        [[route]]
        listen = ["main"]
        host = ["*.a.example"]
        path = ["/api/*"]
        proxy = "app"
        strip_prefix = "/api"
        request_headers = ["X-A: {client_ip} $${path}", "-Cookie"]

        [[route]]
        listen = ["main"]
        redirect = "https://{host}{path}{query}"
        status = 302

        [upstream.app]
        servers = ["a:1 weight=3", "unix:/a"]
        balance = "p2c"
        max_connections = 3
        queue = 1024
        queue_timeout = "5s"
        idle_connections = 1024
        idle_timeout = "30s"
        lifetime = "1h"
        connect_timeout = "5s"
        first_byte_timeout = "1m"
        between_bytes_timeout = "1m""#]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(Config::from_toml(&text).unwrap(), config);
}

#[test]
fn hashes_of_another_file_stay_there() {
    let config = parse(&format!(
        "[files.site]\nroot = \"/usr\"\nusers = \"alice:{HASH}\"\nusers_file = {USERS_FILE:?}\n"
    ));
    let text = config.to_toml();
    assert!(text.contains(HASH) && text.contains(USERS_FILE));
    assert!(!text.contains("carol"), "{text}");
    assert_eq!(parse(&text), config);
}

#[test]
fn formats_of_log_lines() {
    for format in [
        "combined",
        "json",
        "$peer $$5 ${status}x",
        "$$$header_x_forwarded_for\\t${user_agent}",
        r#"$peer - $user [$time] \"$request\" $status $body_bytes \"$referer\" \"$user_agent\""#,
    ] {
        let config = parse(&format!(
            "[files.a]\nroot = \"/\"\n[log]\naccess_format = \"{format}\"\n"
        ));
        assert_eq!(parse(&config.to_toml()), config, "{format}");
    }
}

// Any configuration at all.

/// Decisions, in turn.
struct Tape(std::vec::IntoIter<u32>);

impl Tape {
    fn below(&mut self, count: u64) -> u64 {
        u64::from(self.0.next().unwrap_or_default()) % count.max(1)
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// Right texts for the keys that take some.
fn texts(key: &str) -> &'static [&'static str] {
    match key {
        "servers" => &[
            "a:1",
            "b:2 weight=7",
            "[::1]:3 drain",
            "unix:/s backup slow_start=3s",
        ],
        "hash_by" => &["path", "address", "header X-A", "cookie c"],
        "sticky_cookie" | "via" => &["a", "edge-1"],
        "health" => &["off", "tcp", "http /h?x=1", "/h"],
        "health_status" => &["2xx", "200", "300-305"],
        "trusted" => &["10.0.0.0/8", "::1", "fd00::/8"],
        "listen" => &["a", "b"],
        "host" => &["client", "upstream", "a.example", "*.b.example", "[::1]"],
        "path" => &["/a", "/a/*", "/*", "/x y", "*.php", "/a/**/b"],
        "method" => &["GET", "POST"],
        "header" => &["X-A", "X-A: a*b"],
        "query" => &["a", "a=b", "a="],
        "files" | "proxy" => &["x"],
        "redirect" => &["/a", "https://{host}{path}{query}"],
        "strip_prefix" => &["/a", "/a/b"],
        "rewrite" => &["{path}", "/v1{path}?a=1"],
        "request_headers" | "response_headers" => &["X-A: {path}", "+X-B: {{path}}", "-X-C"],
        "address" => &["127.0.0.1:0", "[::1]:0", ":0"],
        "root" => &["/", "usr"],
        "index" => &["index.html", "a"],
        "charset" => &["", "utf-8"],
        "error_pages" => &["404 /404.html", "5xx /e.html"],
        "headers" => &["X-A: b", "/a/** X-A: $${b}"],
        "cache_control" => &["*.png max-age=1", "* none"],
        "cors" => &["https://a.example", "null"],
        "cors_expose" => &["ETag", "X-A"],
        "compress_types" => &["text/*", "a/b"],
        "realm" => &["Some \\\"where\\\""],
        "congestion" => &["cubic"],
        "access" => &["-", "off"],
        "access_format" => &["json", "$peer ${status}"],
        "try_files" => &["{path}", "/a"],
        _ => &[],
    }
}

fn value(kind: &Kind, name: &str, tape: &mut Tape) -> Option<String> {
    Some(match kind {
        Kind::Switch => tape.one_of(&["true", "false"]).to_owned(),
        Kind::Integer { min, max } | Kind::Size { min, max } => {
            (min + tape.below((max - min).min(5000) + 1)).to_string()
        }
        Kind::Duration { min, max } => {
            let (min, max) = (min.as_millis() as u64, max.as_millis() as u64);
            format!("\"{}ms\"", min + tape.below(max - min + 1))
        }
        Kind::Choice(words) => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("{:?}", tape.one_of(&words))
        }
        Kind::Prose { .. } => "\"a\\n\\tb\\\"\\u0000${\\u007f\"".replace("${", "$${"),
        Kind::List { of, .. } => {
            let count = 1 + tape.below(2);
            let list: Vec<String> = (0..count).filter_map(|_| value(of, name, tape)).collect();
            format!("[{}]", list.join(", "))
        }
        Kind::Text { .. } | Kind::Line { .. } | Kind::Format | Kind::Address => match texts(name) {
            [] => return None,
            texts => format!("\"{}\"", tape.one_of(texts)),
        },
    })
}

fn some_keys<'a>(text: &mut String, keys: impl Iterator<Item = &'a Key>, tape: &mut Tape) {
    for key in keys {
        let is_needed = matches!(key.absent, Absent::Required);
        if (is_needed || tape.below(3) == 0)
            && let Some(value) = value(&key.kind, key.name, tape)
        {
            let _ = writeln!(text, "{} = {value}", key.name);
        }
    }
}

/// A configuration of random keys and values, most of them right.
fn random(tape: &mut Tape) -> String {
    let mut text = String::new();
    for table in tables() {
        let names: &[&str] = match (table.shape, table.name) {
            (Shape::Once, _) => &[""],
            (Shape::Named, "listen") => &["a", "b"],
            (Shape::Named, _) => &["x", "y"],
            (Shape::Listed, _) => &["", "", ""],
        };
        for name in names {
            let _ = writeln!(text, "{}", table.header().replace("NAME", name));
            some_keys(&mut text, table.keys(), tape);
        }
    }
    text
}

/// What remains of a text without the lines that have problems.
fn mended(mut text: String) -> Option<Config> {
    for _ in 0..20 {
        let problems = match Config::parse("f", &text, Format::Toml, Path::new("/"), &Flags::new())
        {
            Ok(config) => return Some(config),
            Err(problems) => problems.to_string(),
        };
        let wrong: Vec<usize> = problems
            .lines()
            .filter_map(|line| line.strip_prefix("f:")?.split(':').next()?.parse().ok())
            .collect();
        text = text
            .lines()
            .enumerate()
            .filter(|(index, _)| !wrong.contains(&(index + 1)))
            .fold(String::new(), |text, (_, line)| text + line + "\n");
    }
    None
}

proptest! {
    #[test]
    fn what_is_written_reads_back(decisions in prop::collection::vec(any::<u32>(), 900)) {
        let Some(config) = mended(random(&mut Tape(decisions.into_iter()))) else {
            return Err(TestCaseError::reject("nothing right is left of it"));
        };
        let text = config.to_toml();
        match Config::from_toml(&text) {
            Ok(again) => prop_assert_eq!(again, config),
            Err(problems) => prop_assert!(false, "{}\n{}", problems, text),
        }
    }
}
