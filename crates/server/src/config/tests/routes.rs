//! `[[route]]` and what listeners answer: what is right, and what is said about what isn't.

use expect_test::{Expect, expect};

use super::super::*;
use super::parse;
use crate::route::{FixedAnswer, Operation};

const TABLES: &str = "[files.site]\nroot = \"/\"\n[upstream.app]\nservers = \"a:1\"\n";

/// The route with these lines in its table.
fn route(lines: &str) -> Route {
    let config = parse(&format!("[[route]]\n{lines}\n{TABLES}"));
    config.routes.into_iter().next().unwrap()
}

/// The report on a route with these lines, whose first is the second of the file.
fn check(lines: &str, expected: Expect) {
    super::check(&format!("[[route]]\n{lines}\n{TABLES}"), expected);
}

fn shown<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn conditions() {
    let route = route(
        r#"
        host = ["Example.org", "*.example.org.", "*", "[2001:DB8::0:1]"]
        path = ["/about", "/api/*", "/*", "/img/**/*.png", "*.php", "/a?"]
        method = ["GET", "PROPFIND"]
        header = ["X-Beta", "Accept:  *json* "]
        query = ["debug", "version=2", "q="]
        proxy = "app"
        "#,
    );
    let matcher = &route.matcher;
    let hosts = ["example.org", "*.example.org", "*", "[2001:db8::1]"];
    assert_eq!(shown(&matcher.hosts), hosts);
    let paths = ["/about", "/api/*", "/*", "/img/**/*.png", "*.php", "/a?"];
    assert_eq!(shown(&matcher.paths), paths);
    assert_eq!(shown(&matcher.methods), ["GET", "PROPFIND"]);
    assert_eq!(shown(&matcher.headers), ["X-Beta", "Accept: *json*"]);
    assert_eq!(shown(&matcher.query), ["debug", "version=2", "q="]);
    assert_eq!(route.rule.action, Action::Proxy(0));
    assert_eq!(route.listeners, [0]);
}

#[test]
fn actions() {
    assert_eq!(route("files = \"site\"").rule.action, Action::Files(0));
    assert_eq!(route("proxy = \"app\"").rule.action, Action::Proxy(0));
    let Action::Redirect(redirect) = route("redirect = \"https://{host}{path}{query}\"")
        .rule
        .action
    else {
        panic!("a redirect")
    };
    assert_eq!(redirect.status, 302);
    assert_eq!(redirect.to.as_str(), "https://{host}{path}{query}");
    let Action::Redirect(redirect) = route("redirect = \"/new\"\nstatus = 308").rule.action else {
        panic!("a redirect")
    };
    assert_eq!(redirect.status, 308);
    let status = FixedAnswer {
        status: 503,
        body: Some("Back\nsoon".into()),
    };
    assert_eq!(
        route("status = 503\nbody = \"Back\\nsoon\"").rule.action,
        Action::Status(status)
    );
}

#[test]
fn rewriting() {
    let rule = route(
        r#"
        proxy = "app"
        strip_prefix = "/api"
        rewrite = "/v1{path}"
        request_headers = ["X-Client: {client_ip}", "+X-Tag: a: b", "-Cookie"]
        response_headers = ["-Server", "Report-To: {\"group\":\"a\"}"]
        "#,
    )
    .rule;
    assert_eq!(rule.strip_prefix.as_deref(), Some("/api"));
    assert_eq!(rule.rewrite.unwrap().as_str(), "/v1{path}");
    let edits = ["X-Client: {client_ip}", "+X-Tag: a: b", "-Cookie"];
    assert_eq!(shown(&rule.request_headers), edits);
    assert_eq!(rule.response_headers[0].operation, Operation::Remove);
    assert_eq!(&*rule.response_headers[1].name, "Report-To");
}

#[test]
fn what_a_listener_answers() {
    let answers = |text: &str| -> Vec<Option<Action>> {
        let config = parse(text);
        config
            .listeners
            .into_iter()
            .map(|one| one.catch_all)
            .collect()
    };
    let two = "[listen.a]\naddress = \":1\"\n[listen.b]\naddress = \":2\"\nproxy = \"app\"\n";
    let route = "[[route]]\npath = \"/x\"\nstatus = 404\n";
    let only = "[upstream.app]\nservers = \"a:1\"\n";
    // The only table, where no route is for the listener.
    let app = Some(Action::Proxy(0));
    assert_eq!(answers(&format!("{two}{only}")), [app.clone(), app.clone()]);
    assert_eq!(answers(&format!("{two}{route}{only}")), [None, app.clone()]);
    let elsewhere = format!("{two}{route}listen = \"b\"\n{only}");
    assert_eq!(answers(&elsewhere), [app.clone(), app]);
    assert_eq!(answers(&format!("{route}{only}")), [None]);
    assert_eq!(answers(route), [None]);
}

#[test]
fn which_listeners() {
    let listeners = "[listen.a]\naddress = \":1\"\n[listen.b]\naddress = \":2\"\n\
                     [listen.c]\naddress = \":3\"\n";
    let config = parse(&format!(
        "{listeners}[[route]]\nlisten = [\"c\", \"a\"]\nstatus = 404\n[[route]]\nstatus = 404\n"
    ));
    assert_eq!(config.routes[0].listeners, [0, 2]);
    assert_eq!(config.routes[1].listeners, [0, 1, 2]);
    check(
        "listen = [\"man\", \"other\"]\nstatus = 404",
        expect![[r#"
        site.toml:2:11: there is no [listen.man]
          2 | listen = ["man", "other"]
            |           ^^^^^
            = did you mean "main"?
        site.toml:2:18: there is no [listen.other]
          2 | listen = ["man", "other"]
            |                  ^^^^^^^
            = there are main
    "#]],
    );
    check(
        "listen = [\"main\", \"main\"]\nstatus = 404",
        expect![[r#"
        site.toml:2:19: main twice
          2 | listen = ["main", "main"]
            |                   ^^^^^^
            = once is enough
    "#]],
    );
    check(
        "listen = []\nstatus = 404",
        expect![[r#"
        site.toml:2:10: the list is empty
          2 | listen = []
            |          ^^
            = at least 1, such as "main"
    "#]],
    );
}

#[test]
fn names_without_a_table() {
    check(
        "proxy = \"apq\"",
        expect![[r#"
        site.toml:2:9: there is no [upstream.apq]
          2 | proxy = "apq"
            |         ^^^^^
            = did you mean "app"?
    "#]],
    );
    check(
        "files = \"app\"",
        expect![[r#"
        site.toml:2:9: there is no [files.app]
          2 | files = "app"
            |         ^^^^^
            = there are "site"
    "#]],
    );
    super::check(
        "[listen.main]\naddress = \":80\"\nproxy = \"app\"\n",
        expect![[r#"
            site.toml:3:9: there is no [upstream.app]
              3 | proxy = "app"
                |         ^^^^^
                = add it, with servers = ["127.0.0.1:3000"]
        "#]],
    );
    super::check(
        &format!("[listen.main]\naddress = \":80\"\n{TABLES}"),
        expect![[r#"
            site.toml:1:9: [listen.main] needs "files" or "proxy"
              1 | [listen.main]
                |         ^^^^
                = there are several to choose from: files = "site", proxy = "app"
        "#]],
    );
    super::check(
        TABLES,
        expect![[r#"
        site.toml:1:1: several [files.NAME] and [upstream.NAME] tables, and no listener to say which is served
          1 | [files.site]
            | ^
            = add a table: [listen.main] with address and files or proxy
    "#]],
    );
    super::check(
        &format!("[listen.main]\naddress = \":80\"\nfiles = \"site\"\nproxy = \"app\"\n{TABLES}"),
        expect![[r#"
            site.toml:4:9: files and proxy both say what answers where no route does
              4 | proxy = "app"
                |         ^^^^^
                = leave one of them out
        "#]],
    );
}

#[test]
fn one_action() {
    check(
        "path = \"/a\"",
        expect![[r#"
            site.toml:1:1: a route that does nothing
              1 | [[route]]
                | ^^^^^^^^^
                = add one of files, proxy, redirect, status and service
        "#]],
    );
    check(
        "files = \"site\"\nproxy = \"app\"",
        expect![[r#"
        site.toml:3:9: files and proxy both say what is done
          3 | proxy = "app"
            |         ^^^^^
            = a route has one action
    "#]],
    );
    check(
        "proxy = \"app\"\nstatus = 404",
        expect![[r#"
        site.toml:3:10: proxy and status both say what is done
          3 | status = 404
            |          ^^^
            = a route has one action
    "#]],
    );
    check(
        "redirect = \"/a\"\nstatus = 404",
        expect![[r#"
        site.toml:3:10: 404 sends nobody elsewhere
          3 | status = 404
            |          ^^^
            = 301, 302, 303, 307 or 308
    "#]],
    );
    check(
        "status = 301",
        expect![[r#"
        site.toml:2:10: a redirect that leads nowhere
          2 | status = 301
            |          ^^^
            = add redirect = "https://…"
    "#]],
    );
    check(
        "status = 304",
        expect![[r#"
        site.toml:2:10: 304 is the answer to a question that isn't asked here
          2 | status = 304
            |          ^^^
            = such as 404
    "#]],
    );
    check(
        "status = 204\nbody = \"x\"",
        expect![[r#"
        site.toml:3:8: 204 has no body
          3 | body = "x"
            |        ^^^
            = leave it out
    "#]],
    );
    check(
        "status = 199",
        expect![[r#"
        site.toml:2:10: 199 is out of range
          2 | status = 199
            |          ^^^
            = a whole number from 200 to 599
    "#]],
    );
}

#[test]
fn conditions_that_never_hold() {
    check(
        "host = [\"http://a\", \"a:80\", \"\u{fc}.example\", \"a*.b\", \"*.*.b\", \"a..b\", \"[::g]\"]\n\
         status = 404",
        expect![[r#"
            site.toml:2:9: "http://a" is a URL, not a host
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |         ^^^^^^^^^^
                = such as "example.org" or "*.example.org"
            site.toml:2:21: "a:80" has a port
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                     ^^^^^^
                = a listener has ports: `listen` names it
            site.toml:2:29: "ü.example" has letters that no request has
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                             ^^^^^^^^^^^
                = write the name as DNS has it: "xn--…"
            site.toml:2:42: "a*.b" isn't a host
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                                          ^^^^^^
                = a star stands at the front, with a dot behind it: "*.example.org"
            site.toml:2:50: "*.*.b" isn't a host
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                                                  ^^^^^^^
                = a star stands at the front, with a dot behind it: "*.example.org"
            site.toml:2:59: "a..b" isn't a host
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                                                           ^^^^^^
                = such as "example.org" or "*.example.org"
            site.toml:2:67: "[::g]" isn't an address in brackets
              2 | host = ["http://a", "a:80", "ü.example", "a*.b", "*.*.b", "a..b", "[::g]"]
                |                                                                   ^^^^^^^
                = such as "example.org" or "*.example.org"
        "#]],
    );
    check(
        "path = [\"api\", \"/a%20b\", \"/a//b\", \"/a/../b\", \"/a/./*\", \"/a\\\\b\", \"/a**\", \"/[a]*\"]\n\
         status = 404",
        expect![[r#"
            site.toml:2:9: "api" doesn't begin with a slash
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |         ^^^^^
                = such as "/about", "/api/*" or "/media/**/*.png"
            site.toml:2:16: "/a%20b" is percent-encoded
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                ^^^^^^^^
                = write it decoded: requests are decoded before they are compared
            site.toml:2:26: "/a//b" is a path that no request has
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                          ^^^^^^^
                = without `//`, `/./`, `/../` and backslashes
            site.toml:2:35: "/a/../b" is a path that no request has
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                                   ^^^^^^^^^
                = without `//`, `/./`, `/../` and backslashes
            site.toml:2:46: "/a/./*" is a path that no request has
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                                              ^^^^^^^^
                = without `//`, `/./`, `/../` and backslashes
            site.toml:2:56: "/a\\b" is a path that no request has
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                                                        ^^^^^^^
                = without `//`, `/./`, `/../` and backslashes
            site.toml:2:65: "/a**": `**` stands alone between slashes: `**/name` or `folder/**`
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                                                                 ^^^^^^
                = such as "/about", "/api/*" or "/media/**/*.png"
            site.toml:2:73: "/[a]*": a pattern can't have brackets, braces, backslashes or control characters
              2 | path = ["api", "/a%20b", "/a//b", "/a/../b", "/a/./*", "/a\\b", "/a**", "/[a]*"]
                |                                                                         ^^^^^^^
                = such as "/about", "/api/*" or "/media/**/*.png"
        "#]],
    );
    check(
        "method = [\"get\", \"GET POST\"]\nstatus = 404",
        expect![[r#"
            site.toml:2:11: "get" is a method that nobody uses
              2 | method = ["get", "GET POST"]
                |           ^^^^^
                = did you mean "GET"?
            site.toml:2:18: "GET POST" isn't a method
              2 | method = ["get", "GET POST"]
                |                  ^^^^^^^^^^
                = such as "GET" or "POST"
        "#]],
    );
    check(
        "header = [\"X Beta\", \"Host: a\", \"X-A:\", \": a\"]\nstatus = 404",
        expect![[r#"
            site.toml:2:11: "X Beta" isn't a header name
              2 | header = ["X Beta", "Host: a", "X-A:", ": a"]
                |           ^^^^^^^^
                = such as "X-Beta" or "Accept: *json*"
            site.toml:2:21: Host has a key of its own
              2 | header = ["X Beta", "Host: a", "X-A:", ": a"]
                |                     ^^^^^^^^^
                = `host`, which a target in absolute form goes before as well
            site.toml:2:32: "X-A:" asks for an empty value
              2 | header = ["X Beta", "Host: a", "X-A:", ": a"]
                |                                ^^^^^^
                = "X-A" alone asks for any value
            site.toml:2:40: "" isn't a header name
              2 | header = ["X Beta", "Host: a", "X-A:", ": a"]
                |                                        ^^^^^
                = such as "X-Beta" or "Accept: *json*"
        "#]],
    );
    check(
        "query = [\"=a\", \"a&b\", \"a=%20\"]\nstatus = 404",
        expect![[r#"
            site.toml:2:10: "" isn't the name of a parameter
              2 | query = ["=a", "a&b", "a=%20"]
                |          ^^^^
                = such as "debug" or "version=2"
            site.toml:2:16: "a&b" isn't the name of a parameter
              2 | query = ["=a", "a&b", "a=%20"]
                |                ^^^^^
                = such as "debug" or "version=2"
            site.toml:2:23: "a=%20" is percent-encoded
              2 | query = ["=a", "a&b", "a=%20"]
                |                       ^^^^^^^
                = write it decoded: requests are decoded before they are compared
        "#]],
    );
}

#[test]
fn redirects_to_nowhere() {
    for to in [
        "example.org{path}",
        "https:///a",
        "https://{path}",
        "//example.org{path}",
        "/{path}",
        "https://{host}/{path}",
        "javascript:alert(1)",
        "/a b",
        "{query}",
    ] {
        let toml = format!("[[route]]\nredirect = {to:?}\n");
        assert!(Config::from_toml(&toml).is_err(), "{to}");
    }
    check(
        "redirect = \"https://{host}/{path}\"",
        expect![[r#"
        site.toml:2:12: a slash before {path}, which begins with one
          2 | redirect = "https://{host}/{path}"
            |            ^^^^^^^^^^^^^^^^^^^^^^^
            = leave the slash out
    "#]],
    );
    check(
        "redirect = \"https://{hots}{path}\"",
        expect![[r#"
        site.toml:2:12: unknown variable "hots"
          2 | redirect = "https://{hots}{path}"
            |            ^^^^^^^^^^^^^^^^^^^^^^
            = did you mean {host}?
    "#]],
    );
    check(
        "redirect = \"https://{xyz}{path}\"",
        expect![[r#"
        site.toml:2:12: unknown variable "xyz"
          2 | redirect = "https://{xyz}{path}"
            |            ^^^^^^^^^^^^^^^^^^^^^
            = there are {client_ip}, {host}, {method}, {path}, {query}, {scheme}; the text itself is {{xyz}}
    "#]],
    );
    check(
        "redirect = \"example.org\"",
        expect![[r#"
        site.toml:2:12: "example.org" is nowhere to go
          2 | redirect = "example.org"
            |            ^^^^^^^^^^^^^
            = such as "https://{host}{path}{query}" or "/new{path}"
    "#]],
    );
}

#[test]
fn rewriting_that_cannot_be() {
    check(
        "proxy = \"app\"\nstrip_prefix = \"/api/\"",
        expect![[r#"
        site.toml:3:16: "/api/" isn't the beginning of a path
          3 | strip_prefix = "/api/"
            |                ^^^^^^^
            = such as "/api": without a slash at the end, and decoded
    "#]],
    );
    check(
        "proxy = \"app\"\nstrip_prefix = \"/\"",
        expect![[r#"
        site.toml:3:16: the slash alone can't be taken off
          3 | strip_prefix = "/"
            |                ^^^
            = leave it out
    "#]],
    );
    check(
        "proxy = \"app\"\nstrip_prefix = \"api\"",
        expect![[r#"
        site.toml:3:16: "api" isn't the beginning of a path
          3 | strip_prefix = "api"
            |                ^^^^^
            = such as "/api": without a slash at the end, and decoded
    "#]],
    );
    check(
        "proxy = \"app\"\nrewrite = \"v1{path}\"",
        expect![[r#"
        site.toml:3:11: "v1{path}" doesn't begin with a slash
          3 | rewrite = "v1{path}"
            |           ^^^^^^^^^^
            = such as "/v1{path}"
    "#]],
    );
    check(
        "proxy = \"app\"\nrewrite = \"/v1{path}{query}\"",
        expect![[r#"
            site.toml:3:11: {query} can't stand here
              3 | rewrite = "/v1{path}{query}"
                |           ^^^^^^^^^^^^^^^^^^
                = the query follows by itself
        "#]],
    );
    check(
        "proxy = \"app\"\nrewrite = \"/v1/{path}\"",
        expect![[r#"
        site.toml:3:11: a slash before {path}, which begins with one
          3 | rewrite = "/v1/{path}"
            |           ^^^^^^^^^^^^
            = leave the slash out
    "#]],
    );
    check(
        "proxy = \"app\"\nrewrite = \"/a b\"",
        expect![[r#"
        site.toml:3:11: "/a b" has characters that a target doesn't
          3 | rewrite = "/a b"
            |           ^^^^^^
            = write them as %HH
    "#]],
    );
}

#[test]
fn headers_that_cannot_be_changed() {
    check(
        "proxy = \"app\"\nrequest_headers = [\"X-A\", \"X A: b\", \"-X-A: b\", \"Host: a\", \
         \"-connection\", \"+Transfer-Encoding: chunked\", \"X-B: {cleint_ip}\", \"Expect: x\"]",
        expect![[r#"
            site.toml:3:20: "X-A" has no value
              3 | request_headers = ["X-A", "X A: b", "-X-A: b", "Host: a", "-connection", "+Transfer-Encoding: ch
                |                    ^^^^^
                = such as "X-Client: {client_ip}", "+Via: x" or "-Cookie"
            site.toml:3:27: "X A" isn't a header name
              3 | request_headers = ["X-A", "X A: b", "-X-A: b", "Host: a", "-connection", "+Transfer-Encoding: ch
                |                           ^^^^^^^^
                = such as "X-Client: {client_ip}", "+Via: x" or "-Cookie"
            site.toml:3:37: -X-A removes whatever value there is
              3 | request_headers = ["X-A", "X A: b", "-X-A: b", "Host: a", "-connection", "+Transfer-Encoding: ch
                |                                     ^^^^^^^^^
                = write "-X-A"
            site.toml:3:48: Host has a key of its own
              3 | request_headers = ["X-A", "X A: b", "-X-A: b", "Host: a", "-connection", "+Transfer-Encoding: ch
                |                                                ^^^^^^^^^
                = `host` in [upstream.NAME]
            site.toml:3:59: connection says how the message is sent, which isn't yours to change
              3 | request_headers = ["X-A", "X A: b", "-X-A: b", "Host: a", "-connection", "+Transfer-Encoding: ch
                |                                                           ^^^^^^^^^^^^^
                = leave it out
            site.toml:3:74: Transfer-Encoding says how the message is sent, which isn't yours to change
              3 | …ost: a", "-connection", "+Transfer-Encoding: chunked", "X-B: {cleint_ip}", "Expect: x"]
                |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = leave it out
            site.toml:3:105: unknown variable "cleint_ip"
              3 | …fer-Encoding: chunked", "X-B: {cleint_ip}", "Expect: x"]
                |                          ^^^^^^^^^^^^^^^^^^
                = did you mean {client_ip}?
            site.toml:3:125: Expect is answered before the request goes on
              3 | …d", "X-B: {cleint_ip}", "Expect: x"]
                |                          ^^^^^^^^^^^
                = leave it out
        "#]],
    );
    check(
        "proxy = \"app\"\nresponse_headers = [\"Content-Length: 3\", \"Content-Range: a\"]",
        expect![[r#"
            site.toml:3:21: Content-Length says how the message is sent, which isn't yours to change
              3 | response_headers = ["Content-Length: 3", "Content-Range: a"]
                |                     ^^^^^^^^^^^^^^^^^^^
                = leave it out
            site.toml:3:42: Content-Range says what the body is, which stays as it is
              3 | response_headers = ["Content-Length: 3", "Content-Range: a"]
                |                                          ^^^^^^^^^^^^^^^^^^
                = leave it out
        "#]],
    );
    check(
        "proxy = \"app\"\nrequest_headers = [\"X-A: b\\r\\nX-B: c\"]",
        expect![[r#"
            site.toml:3:20: control characters aren't allowed here
              3 | request_headers = ["X-A: b\r\nX-B: c"]
                |                    ^^^^^^^^^^^^^^^^^^
                = such as "X-Client: {client_ip}"
        "#]],
    );
    check(
        "proxy = \"app\"\nrequest_headers = [\"X-A: b\", \"x-a: c\"]",
        expect![[r#"
            site.toml:3:30: x-a is said twice
              3 | request_headers = ["X-A: b", "x-a: c"]
                |                              ^^^^^^^^
                = "+x-a: value" adds one
        "#]],
    );
}

#[test]
fn keys_without_effect() {
    check(
        "files = \"site\"\nbody = \"x\"\nrequest_headers = \"X-A: b\"",
        expect![[r#"
            site.toml:3:8: body has no effect without a status
              3 | body = "x"
                |        ^^^
                = add status = 200
            site.toml:4:19: request_headers has no effect where the request isn't passed on
              4 | request_headers = "X-A: b"
                |                   ^^^^^^^^
                = it is for routes with proxy
        "#]],
    );
    check(
        "status = 404\nstrip_prefix = \"/a\"\nrewrite = \"/b\"\nrequest_headers = \"X-A: b\"",
        expect![[r#"
            site.toml:3:16: strip_prefix has no effect on a fixed answer
              3 | strip_prefix = "/a"
                |                ^^^^
                = it is for routes that pass on or redirect
            site.toml:4:11: rewrite has no effect where the request isn't passed on
              4 | rewrite = "/b"
                |           ^^^^
                = it is for routes with proxy
            site.toml:5:19: request_headers has no effect where the request isn't passed on
              5 | request_headers = "X-A: b"
                |                   ^^^^^^^^
                = it is for routes with proxy
        "#]],
    );
}

#[test]
fn routes_that_nothing_gets_to() {
    let check = |first: &str, second: &str, expected: Expect| {
        let text = format!(
            "[[route]]\n{first}\nproxy = \"app\"\n[[route]]\n{second}\nstatus = 404\n{TABLES}"
        );
        super::check(&text, expected);
    };
    check(
        "path = \"/api/*\"",
        "path = \"/api/admin/*\"",
        expect![[r#"
            site.toml:4:1: a route that no request gets to
              4 | [[route]]
                | ^^^^^^^^^
                = the one at site.toml:1 takes all of them: put this before it, or leave it out
        "#]],
    );
    check(
        "",
        "host = \"a\"",
        expect![[r#"
            site.toml:4:1: a route that no request gets to
              4 | [[route]]
                | ^^^^^^^^^
                = the one at site.toml:1 takes all of them: put this before it, or leave it out
        "#]],
    );
    // Each of these can be reached.
    for (first, second) in [
        ("path = \"/api/*\"", "path = \"/apis\""),
        ("path = \"/api\"", "path = \"/api/*\""),
        ("host = \"*.a\"", "host = \"a\""),
        ("host = \"*.b.a\"", "host = \"*.a\""),
        ("method = \"GET\"", ""),
        ("path = [\"/a\", \"/b\"]", "path = [\"/b\", \"/c\"]"),
        ("header = [\"A\", \"B\"]", "header = \"A\""),
        ("query = \"a=1\"", "query = \"a\""),
    ] {
        parse(&format!(
            "[[route]]\n{first}\nproxy = \"app\"\n[[route]]\n{second}\nstatus = 404\n{TABLES}"
        ));
    }
}

#[test]
fn tables_that_are_no_list() {
    super::check(
        &format!("[route]\nproxy = \"app\"\n{TABLES}"),
        expect![[r#"
        site.toml:1:1: expected the tables [[route]], found a table
          1 | [route]
            | ^^^^^^^
            = with two brackets, each time: [[route]]
    "#]],
    );
    super::check(
        &format!("route = 3\n{TABLES}"),
        expect![[r#"
        site.toml:1:9: expected the tables [[route]], found a whole number
          1 | route = 3
            |         ^
    "#]],
    );
    super::check(
        &format!("route = [3]\n{TABLES}"),
        expect![[r#"
        site.toml:1:10: expected the tables [[route]], found a whole number
          1 | route = [3]
            |          ^
    "#]],
    );
    check(
        "hots = \"a\"\nproxy = \"app\"",
        expect![[r#"
        site.toml:2:1: unknown key "hots" in [[route]]
          2 | hots = "a"
            | ^^^^
            = did you mean "host"?
    "#]],
    );
}
