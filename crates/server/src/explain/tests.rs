//! What is said about requests, and that it is what is done with them.

use std::net::{IpAddr, Ipv4Addr};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

mod examples;
mod looked;

const CONFIG: &str = r#"
[listen.public]
address = ["127.0.0.1:80", "[::1]:80"]
files = "site"
[listen.admin]
address = "127.0.0.1:9000"
proxy = "app"

[[route]]
listen = "public"
host = "old.example"
redirect = "https://new.example{path}{query}"
status = 308

[[route]]
host = ["api.example", "*.api.example"]
path = "/v2/*"
method = ["GET", "POST"]
header = "X-Key"
query = "token"
proxy = "app"
strip_prefix = "/v2"
request_headers = ["X-Client: {client_ip}", "-Cookie"]
response_headers = ["-Server", "X-Served-By: edge"]

[[route]]
path = "/teapot"
status = 418
body = "short and stout"

[files.site]
root = "/proc/sys"
headers = ["X-Site: a", "/img/** X-Image: b"]
cache_control = "/img/** max-age=60"

[upstream.app]
servers = ["10.0.0.1:8080 weight=2", "10.0.0.2:8080"]
balance = "round_robin"
"#;

fn question(method: &str, url: &str, headers: &[&str]) -> Question {
    Question {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.iter().map(|line| (*line).to_owned()).collect(),
        listener: None,
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    }
}

fn ask(method: &str, url: &str, headers: &[&str]) -> Result<Explanation, BadQuestion> {
    let config = Config::from_toml(CONFIG).unwrap();
    explain(&config, &question(method, url, headers))
}

fn check(method: &str, url: &str, headers: &[&str], expected: Expect) {
    expected.assert_eq(&ask(method, url, headers).unwrap().to_string());
}

fn check_bad(method: &str, url: &str, headers: &[&str], expected: Expect) {
    expected.assert_eq(&ask(method, url, headers).unwrap_err().to_string());
}

#[test]
fn files() {
    check(
        "GET",
        "http://example.org/img/%61.png",
        &[],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            asked     host example.org, path /img/a.png
            route 1   host old.example: the host "example.org" isn't old.example
            route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the host "example.org" isn't api.example or *.api.example
            route 3   path /teapot: the path "/img/a.png" isn't /teapot
            no route  what the listener names answers
            files     files.site: /img/a.png in /proc/sys
            tried     /img/a.png: not there
            tried     nothing is there: 404
            response  X-Site: a
        "#]],
    );
    let escape = ask("GET", "http://example.org/%1b[2J", &[]).unwrap();
    assert!(
        escape.to_string().contains("path /\\u{1b}[2J\n"),
        "{escape}"
    );
    check(
        "GET",
        "http://example.org",
        &[],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            asked     host example.org, path /
            route 1   host old.example: the host "example.org" isn't old.example
            route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the host "example.org" isn't api.example or *.api.example
            route 3   path /teapot: the path "/" isn't /teapot
            no route  what the listener names answers
            files     files.site: / in /proc/sys
            tried     /index.html: not there
            tried     nothing is there: 404
            response  X-Site: a
        "#]],
    );
}

#[test]
fn a_route_to_an_upstream() {
    check(
        "POST",
        "http://EU.api.example/x/../v2/users%20?token=1",
        &["X-Key: 1", "Cookie: a=b"],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            asked     host eu.api.example, path /v2/users 
            route 1   host old.example: the host "eu.api.example" isn't old.example
            route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: matches
            proxy     upstream.app, round_robin of 10.0.0.1:8080 weight=2, 10.0.0.2:8080
            request   POST /users%20?token=1 HTTP/1.1
            request   Host: EU.api.example
            request   X-Key: 1
            request   Content-Length: 0
            request   X-Forwarded-For: 192.0.2.7
            request   X-Forwarded-Proto: http
            request   X-Forwarded-Host: EU.api.example
            request   X-Client: 192.0.2.7
            response  X-Served-By: edge
            response  -Server
        "#]],
    );
}

/// The line of a request that names the host, for an upstream of these servers that are to hear
/// their own names.
fn host_line(servers: &str) -> String {
    let text = format!("[upstream.app]\nservers = [{servers}]\nhost = \"upstream\"");
    let config = Config::from_toml(&text).unwrap();
    let said = explain(&config, &question("GET", "http://example.org/", &[])).unwrap();
    let Answered::Proxy { request, .. } = said.answer else {
        panic!("not passed on: {said}");
    };
    request[1].clone()
}

#[test]
fn a_server_that_hears_its_own_name_is_named() {
    for (servers, expected) in [
        ("'127.0.0.1:3000'", "Host: 127.0.0.1:3000"),
        ("'app.internal:80'", "Host: app.internal"),
        ("'app.internal:81'", "Host: app.internal:81"),
        ("'unix:/run/a', 'unix:/run/b'", "Host: localhost"),
        ("'a:81', '[::1]:82'", "Host: a:81 or [::1]:82"),
        (
            "'srv:_http._tcp.app'",
            "Host: what DNS lists for srv:_http._tcp.app",
        ),
    ] {
        assert_eq!(host_line(servers), expected, "{servers}");
    }
}

/// RFC 9110 §7.6.2.
#[test]
fn how_often_a_request_may_go_on() {
    let request = |method, count: &str| {
        let field = format!("Max-Forwards: {count}");
        ask(method, "http://h:9000/", &[&field]).unwrap()
    };
    for method in ["OPTIONS", "TRACE"] {
        let shown = request(method, "3").to_string();
        assert!(shown.contains("request   Max-Forwards: 2\n"), "{shown}");
    }
    assert!(matches!(
        request("OPTIONS", "0").answer,
        Answered::Status { status: 204, .. }
    ));
    assert!(matches!(
        request("TRACE", "0").answer,
        Answered::Refused { status: 405, .. }
    ));
    assert!(matches!(request("GET", "0").answer, Answered::Proxy { .. }));
}

#[test]
fn what_is_passed_on_whole() {
    check(
        "GET",
        "http://a:9000/b%2fc?d",
        &["Connection: x-a", "X-A: 1"],
        expect![[r#"
            listener  admin (127.0.0.1:9000)
            refused   404: encoded slash in the path
        "#]],
    );
    check(
        "OPTIONS",
        "http://a:9000",
        &[],
        expect![[r#"
        listener  admin (127.0.0.1:9000)
        asked     host a, path /
        route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the host "a" isn't api.example or *.api.example
        route 3   path /teapot: the path "/" isn't /teapot
        no route  what the listener names answers
        proxy     upstream.app, round_robin of 10.0.0.1:8080 weight=2, 10.0.0.2:8080
        request   OPTIONS / HTTP/1.1
        request   Host: a:9000
        request   X-Forwarded-For: 192.0.2.7
        request   X-Forwarded-Proto: http
        request   X-Forwarded-Host: a:9000
    "#]],
    );
}

/// Checks why the second route isn't for a request.
#[track_caller]
fn check_second(method: &str, url: &str, headers: &[&str], expected: &str) {
    let said = ask(method, url, headers).unwrap();
    let second = said.considered.iter().find(|one| one.number == 2);
    let second = second.expect("the second route is for every listener");
    assert_eq!(second.mismatch.as_deref(), Some(expected), "{said}");
}

#[test]
fn why_not() {
    let url = "http://api.example/v2?token";
    check(
        "GET",
        "http://api.example/v3",
        &[],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            asked     host api.example, path /v3
            route 1   host old.example: the host "api.example" isn't old.example
            route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the path "/v3" isn't /v2/*
            route 3   path /teapot: the path "/v3" isn't /teapot
            no route  what the listener names answers
            files     files.site: /v3 in /proc/sys
            tried     /v3: not there
            tried     nothing is there: 404
            response  X-Site: a
        "#]],
    );
    check_second(
        "PUT",
        url,
        &["X-Key: 1"],
        "the method PUT isn't GET or POST",
    );
    check_second("GET", url, &[], "no field is \"X-Key\"");
    check_second(
        "GET",
        "http://api.example/v2",
        &["X-Key:"],
        "nothing in the query is \"token\"",
    );
}

#[test]
fn a_method_that_a_root_does_not_have() {
    check(
        "PUT",
        "http://a/v2",
        &[],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            asked     host a, path /v2
            route 1   host old.example: the host "a" isn't old.example
            route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the host "a" isn't api.example or *.api.example
            route 3   path /teapot: the path "/v2" isn't /teapot
            no route  what the listener names answers
            files     files.site: /v2 in /proc/sys
            tried     no file: 405, a root answers GET, HEAD and OPTIONS
            response  Allow: GET, HEAD, OPTIONS
            response  X-Site: a
        "#]],
    );
}

#[test]
fn own_answers() {
    check(
        "GET",
        "http://old.example/a?b",
        &[],
        expect![[r#"
        listener  public (127.0.0.1:80, [::1]:80)
        asked     host old.example, path /a
        route 1   host old.example: matches
        redirect  308 to https://new.example/a?b
    "#]],
    );
    check(
        "GET",
        "http://x.example:9000/teapot",
        &[],
        expect![[r#"
        listener  admin (127.0.0.1:9000)
        asked     host x.example, path /teapot
        route 2   host api.example or *.api.example, path /v2/*, method GET or POST, header X-Key, query token: the host "x.example" isn't api.example or *.api.example
        route 3   path /teapot: matches
        status    418: "short and stout"
    "#]],
    );
}

#[test]
fn requests_that_are_refused() {
    check(
        "GET",
        "http://example.org/%zz",
        &[],
        expect![[r#"
        listener  public (127.0.0.1:80, [::1]:80)
        refused   400: malformed percent-encoding in the path
    "#]],
    );
    check(
        "GET",
        "http://example.org/../..",
        &[],
        expect![[r#"
        listener  public (127.0.0.1:80, [::1]:80)
        refused   403: path leads above the root
    "#]],
    );
    check(
        "GET",
        "http://example.org/a b",
        &[],
        expect![[r#"
        listener  public (127.0.0.1:80, [::1]:80)
        refused   400: malformed request line
    "#]],
    );
    check(
        "G(T",
        "http://example.org/",
        &[],
        expect![[r#"
        listener  public (127.0.0.1:80, [::1]:80)
        refused   400: malformed request line
    "#]],
    );
    check(
        "GET",
        "http://example.org/",
        &["Host: a", "Host: b"],
        expect![[r#"
            listener  public (127.0.0.1:80, [::1]:80)
            refused   400: more than one Host
        "#]],
    );
}

#[test]
fn questions_that_are_none() {
    check_bad(
        "GET",
        "example.org",
        &[],
        expect![[r#""example.org" isn't a URL: such as http://example.org/path, or /path"#]],
    );
    check_bad(
        "GET",
        "https://example.org/",
        &[],
        expect![[
            r#""https://example.org/" is for a TLS proxy before Ringway, which speaks http to it: ask with http:// and the port of a listener, or a path alone"#
        ]],
    );
    for port in ["0", "65536", "x"] {
        let url = format!("http://a:{port}/");
        let fault = "has a port that is none: it is a number from 1 to 65535";
        let said = ask("GET", &url, &[]).unwrap_err().to_string();
        assert_eq!(said, format!("{url:?} {fault}"));
    }
    check_bad(
        "http://a/",
        "GET",
        &[],
        expect![[
            r#""http://a/" isn't a method, which comes first: such as GET http://example.org/path"#
        ]],
    );
    check_bad(
        "GET",
        "http:///a",
        &[],
        expect![[r#""http:///a" has no host"#]],
    );
    check_bad(
        "GET",
        "http://example.org:81/",
        &[],
        expect![
            "nothing listens on port 81: choose one with --listener, of public (127.0.0.1:80, [::1]:80), admin (127.0.0.1:9000)"
        ],
    );
    check_bad(
        "GET",
        "/a",
        &[],
        expect![
            "several listeners could be meant: choose one with --listener, of public (127.0.0.1:80, [::1]:80), admin (127.0.0.1:9000)"
        ],
    );
    check_bad(
        "GET",
        "http://a/",
        &["X-A"],
        expect![[r#""X-A" isn't a field: such as "Accept: text/html""#]],
    );
    check_bad(
        "GET",
        "http://a/",
        &["X-A: b\r\nX-B: c"],
        expect![[r#"a control character in "X-A: b\r\nX-B: c""#]],
    );
    check_bad(
        "GET",
        "http://a/\n",
        &[],
        expect![[r#"a control character in "/\n""#]],
    );
    let question = Question {
        listener: Some("pubic".to_owned()),
        ..question("GET", "/", &[])
    };
    let config = Config::from_toml(CONFIG).unwrap();
    expect!["there is no [listen.pubic]: there are public (127.0.0.1:80, [::1]:80), admin (127.0.0.1:9000)"]
        .assert_eq(&explain(&config, &question).unwrap_err().to_string());
}

/// What is noted where a URL is asked of the one listener, at `address`.
fn noted(address: &str, url: &str) -> Option<String> {
    let text = format!("[listen.a]\naddress = {address:?}\n[[route]]\nstatus = 404\n");
    let config = Config::from_toml(&text).unwrap();
    let said = explain(&config, &question("GET", url, &[])).unwrap();
    if let Some(note) = &said.note {
        assert!(said.to_string().contains(&format!("\nnote      {note}\n")));
    }
    said.note
}

#[test]
fn another_port_than_the_only_listener_has_is_noted() {
    let note = |port| format!("nothing listens on port {port}: this is the only listener");
    assert_eq!(noted("127.0.0.1:8080", "http://a:81/"), Some(note(81)));
    assert_eq!(noted("127.0.0.1:8080", "http://a/"), Some(note(80)));
    for (address, url) in [
        ("127.0.0.1:8080", "http://a:8080/"),
        ("127.0.0.1:8080", "/"),
        ("127.0.0.1:80", "http://a/"),
        ("[::1]:80", "http://[::1]:/"),
        ("127.0.0.1:0", "http://a:81/"),
    ] {
        assert_eq!(noted(address, url), None, "{address} {url}");
    }
}

#[test]
fn as_json() {
    let json = ask("GET", "http://old.example/a?b", &[]).unwrap().to_json();
    expect![[r#"
        {
          "addresses": [
            "127.0.0.1:80",
            "[::1]:80"
          ],
          "answer": {
            "by": "redirect",
            "location": "https://new.example/a?b",
            "status": 308
          },
          "host": "old.example",
          "listener": "public",
          "note": null,
          "path": "/a",
          "response_headers": [],
          "routes": [
            {
              "conditions": "host old.example",
              "matches": true,
              "reason": null,
              "route": 1
            }
          ]
        }"#]]
    .assert_eq(&format!("{json:#}"));
}

proptest! {
    /// The route that is said to match is the one that the table finds.
    #[test]
    fn it_is_what_is_done(
        host in prop::sample::select(vec!["old.example", "api.example", "a.API.example.", "b"]),
        path in prop::sample::select(vec!["/", "/v2", "/v%32/x", "/teapot", "/v2/../teapot"]),
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        key in any::<bool>(),
        token in any::<bool>(),
    ) {
        let query = if token { "?token=a" } else { "" };
        let headers: &[&str] = if key { &["X-Key: 1"] } else { &[] };
        let said = ask(method, &format!("http://{host}{path}{query}"), headers).unwrap();
        let matching = said.considered.iter().find(|one| one.mismatch.is_none());
        let config = Config::from_toml(CONFIG).unwrap();
        let table = Table::new(&config, 0);
        let key = if key { "X-Key: 1\r\n" } else { "" };
        let text = format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n{key}\r\n");
        let mut scan = HeadScan::default();
        let parsed = parse_head(text.as_bytes(), &mut scan, &HeadLimits::default());
        let (head, _) = parsed.unwrap().unwrap();
        let target = Target::parse(head.method, head.target).unwrap();
        let found = table.find_route(&head, &target).map(|index| index + 1);
        prop_assert_eq!(matching.map(|one| one.number), found);
    }
}
