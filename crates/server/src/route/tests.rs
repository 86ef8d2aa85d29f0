//! Which route a request gets, and what is made of it.

use std::net::IpAddr;
use std::time::Instant;

use proptest::prelude::*;
use ringway_http::head::{HeadLimits, HeadScan, RequestHead, parse_head};
use ringway_http::target::Target;

use super::rewrite;
use super::table::{Asked, HostBuffer, Table, authority_of};
use super::*;
use crate::answer::Frame;
use crate::clock::Clock;
use crate::config::{Config, Route};

mod naive;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Does something with a parsed request; `lines` are its fields.
fn with_request<T>(
    method: &str,
    target: &str,
    lines: &str,
    then: impl FnOnce(&RequestHead<'_>, &Target<'_>) -> T,
) -> T {
    let text = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n");
    let mut scan = HeadScan::default();
    let (head, _) = parse_head(text.as_bytes(), &mut scan, &HeadLimits::default())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .expect("it is complete");
    let target =
        Target::parse(head.method, head.target).unwrap_or_else(|error| panic!("{target}: {error}"));
    then(&head, &target)
}

fn config(routes: &str) -> Config {
    let tables = "[listen.main]\naddress = \":80\"\nproxy = \"app\"\n\
                  [upstream.app]\nservers = \"a:1\"\n";
    Config::from_toml(&format!("{routes}\n{tables}")).unwrap_or_else(|problems| {
        panic!("{problems}");
    })
}

/// The index of the route that a request with `Host: host` gets.
fn found(routes: &str, method: &str, host: &str, target: &str, lines: &str) -> Option<usize> {
    let table = Table::new(&config(routes), 0);
    let lines = format!("Host: {host}\r\n{lines}");
    with_request(method, target, &lines, |head, target| {
        table.find_route(head, target)
    })
}

/// Whether a route with this condition is for a request.
#[track_caller]
fn check(condition: &str, method: &str, host: &str, target: &str, lines: &str, expect: bool) {
    let routes = format!("[[route]]\n{condition}\nstatus = 404\n");
    let is_found = found(&routes, method, host, target, lines).is_some();
    assert_eq!(
        is_found, expect,
        "{condition}: {method} {host} {target} {lines}"
    );
}

#[test]
fn hosts() {
    let is = |pattern: &str, host: &str| {
        let condition = format!("[[route]]\nhost = {pattern:?}\nstatus = 404\n");
        found(&condition, "GET", host, "/", "").is_some()
    };
    for host in [
        "example.org",
        "EXAMPLE.org",
        "example.org.",
        "example.org:8080",
    ] {
        assert!(is("example.org", host), "{host}");
        assert!(!is("*.example.org", host), "{host}");
    }
    for host in ["www.example.org", "a.b.Example.Org.", "WWW.EXAMPLE.ORG:1"] {
        assert!(is("*.example.org", host), "{host}");
        assert!(!is("example.org", host), "{host}");
    }
    for host in ["xexample.org", "example.org.evil", "example.com", ""] {
        assert!(
            !is("*.example.org", host) && !is("example.org", host),
            "{host}"
        );
        assert!(is("*", host), "{host}");
    }
    for host in ["[::1]", "[::1]:80", "[0:0::0:1]", "[0000::0001]:8"] {
        assert!(is("[::1]", host), "{host}");
    }
    assert!(!is("[::1]", "[::2]") && !is("[::1]", "a"));
    let long = format!("{}.EXAMPLE.org", "a".repeat(300));
    assert!(is("*.example.org", &long), "longer than any name");
    let routes = "[[route]]\nhost = \"a\"\nstatus = 404\n";
    let absolute = found(routes, "GET", "b", "http://A:80/", "");
    assert_eq!(absolute, Some(0), "the target goes before the field");
}

#[test]
fn paths() {
    let is = |pattern: &str, target: &str, expect: bool| {
        check(
            &format!("path = {pattern:?}"),
            "GET",
            "a",
            target,
            "",
            expect,
        );
    };
    for target in [
        "/admin",
        "/%61dmin",
        "/x/../admin",
        "//admin",
        "/./admin",
        "/admin?x=1",
    ] {
        is("/admin", target, true);
        is("/admin/*", target, true);
    }
    for target in ["/admin/", "/admin/x", "/admin//x", "/x/..//admin/%2e/y"] {
        is("/admin", target, false);
        is("/admin/*", target, true);
    }
    for target in ["/administrator", "/x/admin", "/", "/Admin"] {
        is("/admin", target, false);
        is("/admin/*", target, false);
        is("/*", target, true);
    }
    is("/a b", "/a%20b", true);
    is("/\u{fc}", "/%C3%BC", true);
    is("*.php", "/deep/x.%70hp", true);
    is("/img/**/*.png", "/img/a/b/c.png", true);
    is("/img/*.png", "/img/a/c.png", false);
}

#[test]
fn a_target_without_a_path() {
    check("path = \"/*\"", "OPTIONS", "a", "*", "", false);
    check("host = \"a\"", "OPTIONS", "a", "*", "", true);
    check("method = \"CONNECT\"", "CONNECT", "a", "b:1", "", true);
    check("host = \"b\"", "CONNECT", "a", "b:1", "", true);
}

#[test]
fn methods_fields_and_parameters() {
    check("method = \"GET\"", "GET", "a", "/", "", true);
    check("method = \"GET\"", "HEAD", "a", "/", "", true);
    check("method = \"HEAD\"", "GET", "a", "/", "", false);
    check("method = [\"PUT\", \"POST\"]", "POST", "a", "/", "", true);
    let beta = "header = [\"x-beta\", \"Accept: *json*\"]";
    check(
        beta,
        "GET",
        "a",
        "/",
        "X-Beta:\r\nAccept: a/json;q=1\r\n",
        true,
    );
    check(
        beta,
        "GET",
        "a",
        "/",
        "X-Beta: 1\r\nAccept: a\r\nAccept: json\r\n",
        true,
    );
    check(beta, "GET", "a", "/", "Accept: a/json\r\n", false);
    check(beta, "GET", "a", "/", "X-Beta: 1\r\nAccept: jso\r\n", false);
    let query = "query = [\"debug\", \"v=2*3\"]";
    for target in [
        "/?debug&v=23",
        "/?v=2xx3&debug=1",
        "/?v=1&v=2+3&de%62ug",
        "/?debug&%76=%323",
    ] {
        check(query, "GET", "a", target, "", true);
    }
    for target in [
        "/",
        "/?",
        "/?debug",
        "/?v=23",
        "/?debug=v=23",
        "/?debug&v=2",
        "/debug&v=23",
    ] {
        check(query, "GET", "a", target, "", false);
    }
    check("query = \"a=\"", "GET", "a", "/?a", "", true);
    check("query = \"a b=%\"", "GET", "a", "/?a+b=%", "", true);
    check("query = \"a=?\"", "GET", "a", "/?a=%20", "", true);
}

#[test]
fn the_first_that_matches() {
    let routes = "[[route]]\nhost = [\"a\", \"b\"]\npath = \"/x/*\"\nstatus = 404\n\
                  [[route]]\nhost = \"*.a\"\nstatus = 404\n\
                  [[route]]\npath = \"/y\"\nstatus = 404\n\
                  [[route]]\nhost = \"b\"\nstatus = 404\n";
    assert_eq!(found(routes, "GET", "a", "/x/1", ""), Some(0));
    assert_eq!(found(routes, "GET", "a", "/y", ""), Some(2));
    assert_eq!(found(routes, "GET", "a", "/z", ""), None);
    assert_eq!(found(routes, "GET", "b", "/z", ""), Some(3));
    assert_eq!(found(routes, "GET", "b", "/y", ""), Some(2));
    assert_eq!(found(routes, "GET", "c.a", "/x/1", ""), Some(1));
    assert_eq!(found(routes, "GET", "c", "/x/1", ""), None);
}

#[test]
fn what_comes_last() {
    let table = Table::new(&config(""), 0);
    assert_eq!(table.only().unwrap().action, Action::Proxy(0));
    let text = "[listen.a]\naddress = \":1\"\n[[route]]\npath = \"/a\"\nstatus = 200\n";
    let table = Table::new(&Config::from_toml(text).unwrap(), 0);
    assert!(table.only().is_none());
    let rule = with_request("GET", "/b", "Host: a\r\n", |head, target| {
        table.find(head, target).action.clone()
    });
    let nothing = FixedAnswer {
        status: 404,
        body: None,
    };
    assert_eq!(rule, Action::Status(nothing));
}

/// The target that a request goes on with.
fn goes_on(rule: &str, target: &str) -> String {
    let config = config(&format!("[[route]]\nproxy = \"app\"\n{rule}\n"));
    let rule = &config.routes[0].rule;
    let method = if target == "*" { "OPTIONS" } else { "GET" };
    with_request(
        method,
        target,
        "Host: Example.org:8080\r\n",
        |head, target| {
            let mut out = Vec::new();
            rule.emit_target(&Values::of(head, target, CLIENT), &mut out);
            String::from_utf8(out).unwrap()
        },
    )
}

#[test]
fn targets() {
    assert_eq!(goes_on("", "/a%20b/%41?q=%41"), "/a%20b/A?q=%41");
    let strip = "strip_prefix = \"/api\"";
    assert_eq!(goes_on(strip, "/api/users?x=1"), "/users?x=1");
    assert_eq!(goes_on(strip, "/api"), "/");
    assert_eq!(goes_on(strip, "/api/"), "/");
    assert_eq!(goes_on(strip, "/api?x"), "/?x");
    assert_eq!(goes_on(strip, "/apis"), "/apis");
    assert_eq!(goes_on(strip, "/x/../%61pi/y"), "/y");
    assert_eq!(goes_on("rewrite = \"/v1{path}\"", "/a?b"), "/v1/a?b");
    let both = "strip_prefix = \"/api\"\nrewrite = \"/{method}/{host}{path}.json\"";
    assert_eq!(goes_on(both, "/api/a"), "/GET/example.org/a.json");
    let front = "rewrite = \"/index.php?path={path}\"";
    assert_eq!(
        goes_on(front, "/a&b=c/d?e=f"),
        "/index.php?path=/a%26b=c/d&e=f"
    );
    assert_eq!(goes_on(front, "/1+1"), "/index.php?path=/1%2B1");
    assert_eq!(goes_on("rewrite = \"/a\"", "/b"), "/a");
    assert_eq!(goes_on(both, "*"), "*");
}

/// The lines that are added to a request for `target` with `Host: host`.
fn added(edits: &str, host: &str, target: &str) -> String {
    let text = format!("[[route]]\nproxy = \"app\"\nrequest_headers = {edits}\n");
    let config = config(&text);
    with_request(
        "GET",
        target,
        &format!("Host: {host}\r\n"),
        |head, target| {
            let mut out = Vec::new();
            let edits = &config.routes[0].rule.request_headers;
            emit_fields(edits, &Values::of(head, target, CLIENT), &mut out);
            String::from_utf8(out).unwrap()
        },
    )
}

#[test]
fn fields() {
    assert_eq!(
        added(
            r#"["X-A: {client_ip} {scheme}://{host}{path}{query}", "+X-B: {{path}} {\"a\":1}", "-X-C"]"#,
            "Example.org:81",
            "/%0d%0aX-Evil:%20a?b=%0d",
        ),
        "X-A: 192.0.2.7 http://example.org/%0D%0AX-Evil:%20a?b=%0d\r\nX-B: {path} {\"a\":1}\r\n"
    );
    let edits = config(
        "[[route]]\nproxy = \"app\"\nrequest_headers = [\"X-A: 1\", \"+X-B: 2\", \"-X-C\"]\n",
    );
    let edits = &edits.routes[0].rule.request_headers;
    assert!(takes_away(edits, b"x-a") && takes_away(edits, b"X-C"));
    assert!(!takes_away(edits, b"X-B") && !takes_away(edits, b"X-D"));
}

/// The answer of a route's own to a request, without its date.
fn answered(rule: &str, method: &str, target: &str, lines: &str) -> String {
    let config = Config::from_toml(&format!("[[route]]\n{rule}\n")).unwrap();
    let rule = &config.routes[0].rule;
    let (clock, now) = (Clock::new(), Instant::now());
    with_request(method, target, lines, |head, target| {
        let (values, frame) = (Values::of(head, target, CLIENT), Frame::of(head, true));
        let answer = match &rule.action {
            Action::Redirect(to) => rewrite::redirect(to, rule, &values, frame, &clock, now),
            Action::Status(own) => rewrite::fixed(own, rule, &values, frame, &clock, now),
            other => panic!("{other:?}"),
        };
        let mut bytes = Vec::new();
        answer.message.append_to(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with("Date: ")).collect()
    })
}

#[test]
fn own_answers() {
    assert_eq!(
        answered(
            "status = 503\nbody = \"Back soon.\\n\"",
            "GET",
            "/",
            "Host: a\r\n"
        ),
        "HTTP/1.1 503 Service Unavailable\r\nServer: ringway\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\n\r\nBack soon.\n"
    );
    let edits =
        "response_headers = [\"Content-Type: text/html\", \"-Server\", \"+X-Path: {path}\"]";
    assert_eq!(
        answered(
            &format!("status = 200\nbody = \"<b>\"\n{edits}"),
            "HEAD",
            "/a",
            "Host: a\r\n"
        ),
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Path: /a\r\nContent-Length: 3\r\n\r\n"
    );
    assert_eq!(
        answered("status = 204", "GET", "/", "Host: a\r\n"),
        "HTTP/1.1 204 No Content\r\nServer: ringway\r\n\r\n"
    );
    let page = answered("status = 404", "GET", "/", "Host: a\r\n");
    assert!(
        page.contains("<h1") && page.contains("404 Not Found"),
        "{page}"
    );
}

#[test]
fn redirects() {
    let location = |rule: &str, target: &str, lines: &str| {
        let answer = answered(rule, "GET", target, lines);
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix("Location: "));
        (answer[9..12].to_owned(), line.map(str::to_owned))
    };
    let to = |status: &str, location: &str| (status.to_owned(), Some(location.to_owned()));
    let https = "redirect = \"https://{host}{path}{query}\"";
    assert_eq!(
        location(https, "/a%20b?c=d", "Host: Example.org:80\r\n"),
        to("302", "https://example.org/a%20b?c=d")
    );
    assert_eq!(
        location(https, "//evil.example", "Host: a\r\n"),
        to("302", "https://a/evil.example")
    );
    let moved = "redirect = \"/new{path}\"\nstatus = 308\nstrip_prefix = \"/old\"";
    assert_eq!(
        location(moved, "/old/x?y", "Host: a\r\n"),
        to("308", "/new/x")
    );
    assert_eq!(location(https, "/", "Host:\r\n"), ("400".to_owned(), None));
}

#[test]
fn another_target() {
    let raw = b"\r\nGET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\nbody";
    let mut scan = HeadScan::default();
    let parsed = parse_head(raw, &mut scan, &HeadLimits::default());
    let (head, _) = parsed.unwrap().unwrap();
    let other = retargeted(raw, &head, b"/x");
    assert_eq!(other, b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nbody");
}

#[test]
fn other_fields() {
    let config = config(
        "[[route]]\nproxy = \"app\"\n\
         response_headers = [\"X-A: {path}\", \"+x-b: 2\", \"-SERVER\"]\n",
    );
    let edits = &config.routes[0].rule.response_headers;
    let message = "HTTP/1.1 200 OK\r\nServer: a\r\nX-B: 1\r\nx-a: b\r\n\r\nX-A: body\r\n";
    let edited = with_request("GET", "/p", "Host: a\r\n", |head, target| {
        let mut lines = Vec::new();
        emit_fields(edits, &Values::of(head, target, CLIENT), &mut lines);
        edited(message.as_bytes(), edits, &lines)
    });
    assert_eq!(
        String::from_utf8(edited).unwrap(),
        "HTTP/1.1 200 OK\r\nX-B: 1\r\nX-A: /p\r\nx-b: 2\r\n\r\nX-A: body\r\n"
    );
}

// Properties.

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(words)
}

fn list(words: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(one_of(words), 0..3)
}

prop_compose! {
    /// The conditions of a route.
    fn conditions()(
        host in list(&["a", "b.a", "*.a", "*.b.a", "*", "c"]),
        path in list(&["/", "/x", "/x/*", "/*", "/x/y/*", "*.z", "/x/*/y"]),
        method in list(&["GET", "POST"]),
        header in list(&["X-A", "X-A: 1*"]),
        query in list(&["q", "q=1"]),
    ) -> String {
        let mut text = "[[route]]\nstatus = 404\n".to_owned();
        for (key, list) in [("host", host), ("path", path), ("method", method),
                            ("header", header), ("query", query)] {
            if !list.is_empty() {
                text += &format!("{key} = {list:?}\n");
            }
        }
        text
    }
}

/// A configuration of these routes, whether or not one hides the other: read together they would
/// be refused.
fn together(routes: &[String]) -> Config {
    let mut all = config("");
    let each = routes.iter().flat_map(|route| config(route).routes);
    all.routes.extend(each);
    all
}

proptest! {
    /// The table's lists of hosts leave out no route and add none.
    #[test]
    fn as_if_every_route_were_tried(
        routes in prop::collection::vec(conditions(), 0..6),
        host in one_of(&["a", "A.", "b.a", "c.b.a:1", "c", "d", "[::1]"]),
        path in one_of(&["/", "/x", "/%78/", "/x/y", "/x/y/z", "/x/w/y", "/v.z", "/x/../v.z"]),
        method in one_of(&["GET", "HEAD", "POST", "PUT"]),
        field in one_of(&["", "X-A: 12\r\n", "x-a: 2\r\n"]),
        query in one_of(&["", "?q", "?q=1", "?%71=%31", "?r=q"]),
    ) {
        let config = together(&routes);
        let table = Table::new(&config, 0);
        let lines = format!("Host: {host}\r\n{field}");
        with_request(method, &format!("{path}{query}"), &lines, |head, target| {
            let mut buffer = HostBuffer::new();
            let host = buffer.normal_host(authority_of(head, target));
            let asked = Asked::new(head, target, host);
            let naive = config.routes.iter().position(|route| {
                route.matcher.mismatch(&asked).is_none()
            });
            prop_assert_eq!(table.find_route(head, target), naive);
            Ok(())
        })?;
    }

    /// What another route is said to cover, it takes.
    #[test]
    fn what_is_covered_is_taken(
        routes in prop::collection::vec(conditions(), 2..12),
        host in one_of(&["a", "b.a", "c.b.a", "c"]),
        path in one_of(&["/", "/x", "/x/y", "/x/y/z", "/x/w/y", "/v.z"]),
        method in one_of(&["GET", "HEAD", "POST"]),
        field in one_of(&["", "X-A: 12\r\n", "X-A: 2\r\n"]),
        query in one_of(&["", "?q", "?q=1"]),
    ) {
        let routes = together(&routes).routes;
        let lines = format!("Host: {host}\r\n{field}");
        with_request(method, &format!("{path}{query}"), &lines, |head, target| {
            let mut buffer = HostBuffer::new();
            let host = buffer.normal_host(authority_of(head, target));
            let asked = Asked::new(head, target, host);
            let takes = |route: &Route| route.matcher.mismatch(&asked).is_none();
            for first in routes.iter().filter(|route| !takes(route)) {
                for second in routes.iter().filter(|route| takes(route)) {
                    prop_assert!(!first.matcher.covers(&second.matcher), "{first:?} {second:?}");
                }
            }
            Ok(())
        })?;
    }

    /// Whatever is asked for, what variables make of it breaks no line, no path and no URL.
    #[test]
    fn nothing_is_injected(
        path in "(/[a-z.%0-9A-F~:@&+;=\u{e4}-\u{f6}-]{0,6}){1,4}",
        query in "[a-z%0-9&=?/\u{e4}-]{0,8}",
    ) {
        let text = "[[route]]\nproxy = \"app\"\nstrip_prefix = \"/a\"\nrewrite = \"/v{path}\"\n\
                    request_headers = \"X-A: {path}{query}{host}{method}{scheme}{client_ip}\"\n";
        let rule = &config(text).routes[0].rule;
        let request = format!("GET {path}?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut scan = HeadScan::default();
        let parsed = parse_head(request.as_bytes(), &mut scan, &HeadLimits::default());
        let Ok(Some((head, _))) = parsed else {
            return Ok(());
        };
        let Ok(target) = Target::parse(head.method, head.target) else {
            return Ok(());
        };
        let values = Values::of(&head, &target, CLIENT);
        let mut line = Vec::new();
        emit_fields(&rule.request_headers, &values, &mut line);
        let breaks = line.iter().filter(|byte| byte.is_ascii_control()).count();
        prop_assert_eq!(breaks, 2, "{:?}", line);
        let mut out = Vec::new();
        rule.emit_target(&values, &mut out);
        let again = Target::parse(head.method, &out);
        let Ok(Target::Resource(again)) = again else {
            return Err(TestCaseError::fail(format!("{out:?}: {again:?}")));
        };
        let expect = [b"/v".as_slice(), rule.stripped(values.path)].concat();
        prop_assert_eq!(again.path.as_bytes(), &expect[..]);
        prop_assert_eq!(again.query, values.query);
    }
}
