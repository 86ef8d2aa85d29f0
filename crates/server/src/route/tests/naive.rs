//! Routes against a matcher that is written down a second time, in the plainest words, and that
//! never sees how a request is spelt: it gets what is meant, the table gets some spelling of it.

use proptest::prelude::*;

use super::{Table, list, one_of, together, with_request};

/// The conditions of a route.
#[derive(Debug, Clone)]
struct Wanted {
    hosts: Vec<&'static str>,
    paths: Vec<&'static str>,
    methods: Vec<&'static str>,
    headers: Vec<&'static str>,
    query: Vec<&'static str>,
}

/// What a client means.
#[derive(Debug, Clone)]
struct Meant {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    /// The value of `X-A`.
    field: Option<&'static str>,
    /// The value of the parameter `q`.
    parameter: Option<&'static str>,
}

impl Wanted {
    fn text(&self) -> String {
        let mut text = "[[route]]\nstatus = 404\n".to_owned();
        for (key, list) in [
            ("host", &self.hosts),
            ("path", &self.paths),
            ("method", &self.methods),
            ("header", &self.headers),
            ("query", &self.query),
        ] {
            if !list.is_empty() {
                text += &format!("{key} = {list:?}\n");
            }
        }
        text
    }

    fn is_for(&self, meant: &Meant) -> bool {
        let any = |list: &[&str], is_it: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|one| is_it(one))
        };
        let value = |wanted: &str, name: &str, given: Option<&str>| match (wanted, given) {
            (_, None) => false,
            (wanted, Some(_)) if wanted == name => true,
            (wanted, Some(given)) => match wanted
                .trim_start_matches(name)
                .trim_start_matches([':', '=', ' '])
            {
                "1*" => given.starts_with('1'),
                "?2" => given.len() == 2 && given.ends_with('2'),
                exact => given == exact,
            },
        };
        any(&self.hosts, &|wanted| has_host(wanted, meant.host))
            && any(&self.paths, &|wanted| has_path(wanted, meant.path))
            && any(&self.methods, &|wanted| {
                wanted == meant.method || (wanted, meant.method) == ("GET", "HEAD")
            })
            && self
                .headers
                .iter()
                .all(|one| value(one, "X-A", meant.field))
            && self
                .query
                .iter()
                .all(|one| value(one, "q", meant.parameter))
    }
}

fn has_host(wanted: &str, host: &str) -> bool {
    match wanted.split_once('*') {
        None => host == wanted,
        Some((_, end)) => host.ends_with(end) && host != end,
    }
}

/// Knows the patterns of [`wanted`] and no others.
fn has_path(wanted: &str, path: &str) -> bool {
    match wanted {
        "/x/*" => path == "/x" || path.starts_with("/x/"),
        "/x/y/*" => path == "/x/y" || path.starts_with("/x/y/"),
        "/*" => true,
        "*.z" => path.ends_with(".z"),
        "/x/*/y" => path.split('/').count() == 4 && path.starts_with("/x/") && path.ends_with("/y"),
        "/x/**/y" => path.starts_with("/x/") && path.ends_with("/y"),
        exact => path == exact,
    }
}

prop_compose! {
    fn wanted()(
        hosts in list(&["a", "b.a", "*.a", "*.b.a", "*", "c"]),
        paths in list(&["/", "/x", "/x y", "/x/*", "/*", "/x/y/*", "*.z", "/x/*/y", "/x/**/y"]),
        methods in list(&["GET", "POST"]),
        headers in list(&["X-A", "X-A: 1*", "X-A: ?2"]),
        query in list(&["q", "q=1", "q=1*", "q=a b"]),
    ) -> Wanted {
        Wanted { hosts, paths, methods, headers, query }
    }
}

prop_compose! {
    fn meant()(
        host in one_of(&["a", "b.a", "c.b.a", "c", "d", "ba", "localhost"]),
        path in one_of(&["/", "/x", "/x/", "/x y", "/x/y", "/x/y/z", "/x/w/y", "/x/w/v/y", "/v.z",
                         "/xy", "/a/v.z"]),
        method in one_of(&["GET", "HEAD", "POST", "PUT"]),
        field in prop::option::of(one_of(&["1", "12", "32", "2", "312"])),
        parameter in prop::option::of(one_of(&["1", "12", "a b", "2"])),
    ) -> Meant {
        Meant { host, path, method, field, parameter }
    }
}

/// Decides how things are spelt.
struct Hand(Vec<u8>);

impl Hand {
    fn next(&mut self) -> u8 {
        self.0.pop().unwrap_or_default()
    }

    /// A text with some of its bytes as `%HH`; a space always, unless it becomes something else.
    fn encoded(&mut self, text: &str, space: &str) -> String {
        let mut out = String::new();
        for byte in text.bytes() {
            match (byte, self.next() % 4) {
                (b'/', _) => out.push('/'),
                (b' ', 0..=1) => out += space,
                (b' ', _) | (_, 0) => out += &format!("%{byte:02X}"),
                (_, 1) => out += &format!("%{byte:02x}"),
                _ => out.push(char::from(byte)),
            }
        }
        out
    }

    /// A path with detours that lead nowhere.
    fn path(&mut self, path: &str) -> String {
        let mut out = String::new();
        let names: Vec<&str> = path[1..].split('/').collect();
        for name in names {
            out += match self.next() % 8 {
                0 => "/.",
                1 => "/",
                2 => "/w/..",
                3 => "/%2e",
                4 => "/v/%2E.",
                _ => "",
            };
            out.push('/');
            out += &self.encoded(name, "%20");
        }
        out
    }

    fn host(&mut self, host: &str) -> String {
        let mut out: String = host
            .chars()
            .map(|letter| match self.next() % 2 {
                0 => letter,
                _ => letter.to_ascii_uppercase(),
            })
            .collect();
        out += ["", ".", ":80", ".:8080", "", ":"][usize::from(self.next() % 6)];
        out
    }
}

proptest! {
    #[test]
    fn no_spelling_gets_past_a_route(
        routes in prop::collection::vec(wanted(), 0..6),
        meant in meant(),
        decisions in prop::collection::vec(any::<u8>(), 80),
        is_absolute in any::<bool>(),
    ) {
        let texts: Vec<String> = routes.iter().map(Wanted::text).collect();
        let table = Table::new(&together(&texts), 0);
        let mut hand = Hand(decisions);
        let (path, host) = (hand.path(meant.path), hand.host(meant.host));
        let query = match meant.parameter {
            None => String::new(),
            Some(value) => format!("?p&{}={}", hand.encoded("q", ""), hand.encoded(value, "+")),
        };
        // A target in absolute form goes before the field (RFC 9112 §3.2.2).
        let (target, host) = match is_absolute {
            true => (format!("HTTP://{host}{path}{query}"), "d".to_owned()),
            false => (format!("{path}{query}"), host),
        };
        let field = meant.field.map_or(String::new(), |value| format!("x-a:\t{value} \r\n"));
        let lines = format!("Host: {host}\r\n{field}");
        let found = with_request(meant.method, &target, &lines, |head, target| {
            table.find_route(head, target)
        });
        let expect = routes.iter().position(|route| route.is_for(&meant));
        prop_assert_eq!(found, expect, "{} {}", target, lines);
    }
}
