//! The heads that clients get, written out whole, for each way that content is delimited.

use super::*;
use crate::route::emit_fields;
use ringway_http::date::HttpDate;
use ringway_http::head::{HeadScan, Method};
use ringway_http::received::{ReceivedLimits, parse_received};

const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";

/// Has a head parsed as the answer to a request with `method`.
fn with_received<T>(
    text: &str,
    method: Method<'_>,
    then: impl FnOnce(&ReceivedHead<'_>) -> T,
) -> T {
    let (mut scan, limits) = (HeadScan::default(), ReceivedLimits::default());
    let parsed = parse_received(text.as_bytes(), &mut scan, &limits, method);
    let (head, length) = parsed
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
        .expect("a whole head");
    assert_eq!(length, text.len());
    then(&head)
}

fn frame(version: Version, keep_alive: bool) -> Frame {
    Frame {
        version,
        keep_alive,
        is_head: false,
        origin: None,
    }
}

/// What a client in this frame gets of a response to a request with `method`.
fn written(frame: Frame, method: Method<'_>, text: &str) -> String {
    let date = HttpDate::from_unix_seconds(1_700_000_000);
    with_received(text, method, |head| {
        let mut out = b"before".to_vec();
        write(&mut out, head, frame, &date, None, None).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    })
}

/// A client of HTTP/1.1 whose connection persists gets this for a 200 with these fields; `Date` is
/// there on both sides.
#[track_caller]
fn check(fields: &str, expect: &str) {
    check_whole(
        Method::Get,
        &format!("HTTP/1.1 200 OK\r\n{DATE}{fields}\r\n"),
        &format!("HTTP/1.1 200 OK\r\n{DATE}{expect}\r\n"),
    );
}

#[track_caller]
fn check_whole(method: Method<'_>, text: &str, expect: &str) {
    assert_eq!(written(frame(Version::Http11, true), method, text), expect);
}

/// The same for a client of HTTP/1.0 that asked for a connection that persists, or not.
#[track_caller]
fn check_old(keep_alive: bool, fields: &str, expect: &str) {
    let text = format!("HTTP/1.1 200 OK\r\n{DATE}{fields}\r\n");
    let head = written(frame(Version::Http10, keep_alive), Method::Get, &text);
    assert_eq!(head, format!("HTTP/1.1 200 OK\r\n{DATE}{expect}\r\n"));
}

#[test]
fn fields_go_on_in_their_order_and_as_they_were_written() {
    let fields = "Server: x\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty: \r\n";
    let length = "Content-Length: 0\r\n";
    check(&format!("{fields}{length}"), &format!("{fields}{length}"));
}

#[test]
fn fields_of_the_connection_stay_behind() {
    for field in [
        "Connection: close",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Upgrade: h2c",
        "TE: trailers",
        "Connection: X-Own\r\nX-Own: 1",
    ] {
        let fields = format!("{field}\r\nContent-Length: 2\r\n");
        check(&fields, "Content-Length: 2\r\n");
    }
}

#[test]
fn connection_cannot_take_away_the_framing() {
    check(
        "Connection: Content-Length\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\n",
    );
    check(
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
    );
}

#[test]
fn content_is_delimited_by_what_the_client_can_read() {
    check("Content-Length: 007\r\n", "Content-Length: 7\r\n");
    check(
        "transfer-encoding: Chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
    );
    check("", "Transfer-Encoding: chunked\r\n");
    check(
        "Trailer: X\r\nTransfer-Encoding: chunked\r\n",
        "Trailer: X\r\nTransfer-Encoding: chunked\r\n",
    );
}

#[test]
fn old_clients_never_get_chunks() {
    let kept = "Content-Length: 7\r\nConnection: keep-alive\r\n";
    check_old(true, "Content-Length: 7\r\n", kept);
    check_old(false, "Content-Length: 7\r\n", "Content-Length: 7\r\n");
    check_old(false, "Transfer-Encoding: chunked\r\n", "");
    check_old(false, "", "");
}

#[test]
fn framings_for_each_version() {
    use ReceivedFraming::{Chunked, Length, None, UntilClose};
    use Version::{Http10, Http11};
    for (framing, version, expect) in [
        (None, Http11, Delimited::Nothing),
        (None, Http10, Delimited::Nothing),
        (Length(5), Http11, Delimited::Length(5)),
        (Length(5), Http10, Delimited::Length(5)),
        (Chunked, Http11, Delimited::Chunks),
        (Chunked, Http10, Delimited::Close),
        (UntilClose, Http11, Delimited::Chunks),
        (UntilClose, Http10, Delimited::Close),
    ] {
        assert_eq!(
            Delimited::of(framing, version),
            expect,
            "{framing:?} {version:?}"
        );
    }
}

#[test]
fn a_connection_that_ends_says_so() {
    let text = format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 0\r\n\r\n");
    let head = written(frame(Version::Http11, false), Method::Get, &text);
    let expect = format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(head, expect);
}

#[test]
fn a_server_of_http_10_is_answered_for_in_http_11() {
    let text = format!("HTTP/1.0 200 Fine\r\n{DATE}Content-Length: 1\r\n\r\n");
    let expect = format!("HTTP/1.1 200 Fine\r\n{DATE}Content-Length: 1\r\n\r\n");
    check_whole(Method::Get, &text, &expect);
    let text = format!("HTTP/1.0 200\r\n{DATE}\r\n");
    let expect = format!("HTTP/1.1 200 \r\n{DATE}Transfer-Encoding: chunked\r\n\r\n");
    check_whole(Method::Get, &text, &expect);
}

#[test]
fn what_has_no_content_keeps_the_length_that_it_would_have() {
    let text = format!("HTTP/1.1 200 OK\r\n{DATE}Content-Length: 9\r\n\r\n");
    check_whole(Method::Head, &text, &text);
    let text =
        format!("HTTP/1.1 304 Not Modified\r\n{DATE}ETag: \"a\"\r\nContent-Length: 9\r\n\r\n");
    check_whole(Method::Get, &text, &text);
    let bare = format!("HTTP/1.1 304 Not Modified\r\n{DATE}\r\n");
    check_whole(Method::Get, &bare, &bare);
}

/// RFC 9110 §8.6: a 204 has no length, and RFC 9112 §6.1 no coding either.
#[test]
fn nothing_is_said_of_content_that_cannot_be() {
    let expect = format!("HTTP/1.1 204 No Content\r\n{DATE}\r\n");
    for field in [
        "Content-Length: 0\r\n",
        "Content-Length: 9\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let text = format!("HTTP/1.1 204 No Content\r\n{DATE}{field}\r\n");
        check_whole(Method::Get, &text, &expect);
    }
    let text = format!("HTTP/1.1 200 OK\r\n{DATE}Transfer-Encoding: chunked\r\n\r\n");
    check_whole(
        Method::Head,
        &text,
        &format!("HTTP/1.1 200 OK\r\n{DATE}\r\n"),
    );
}

#[test]
fn a_date_is_added_where_there_is_none() {
    let text = "HTTP/1.1 404 Gone fishing\r\nA: b\r\nContent-Length: 0\r\n\r\n";
    let expect = format!("HTTP/1.1 404 Gone fishing\r\nA: b\r\n{DATE}Content-Length: 0\r\n\r\n");
    check_whole(Method::Get, text, &expect);
    check(
        "date-x: 1\r\nContent-Length: 0\r\n",
        "date-x: 1\r\nContent-Length: 0\r\n",
    );
}

/// What a client gets of a 200 with these fields, with the route's edits and a cookie.
#[track_caller]
fn check_edits(edits: &str, cookie: Option<&str>, fields: &str, expect: &str) {
    let text = format!(
        "[listen.main]\naddress = \":80\"\n[[route]]\nproxy = \"app\"\n\
         response_headers = [{edits}]\n[upstream.app]\nservers = \"a:1\"\n"
    );
    let config = crate::config::Config::from_toml(&text).unwrap();
    let rules = &config.routes[0].rule.response_headers;
    let values = crate::route::Values {
        client_ip: "192.0.2.7".parse().unwrap(),
        scheme: "http",
        host: b"h",
        method: "GET",
        path: b"/a",
        query: None,
        is_asterisk: false,
    };
    let mut lines = Vec::new();
    emit_fields(rules, &values, &mut lines);
    let date = HttpDate::from_unix_seconds(1_700_000_000);
    let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
    let head = with_received(&text, Method::Get, |head| {
        let mut out = Vec::new();
        let edits = Some((&rules[..], &lines[..]));
        let cookie = cookie.map(str::as_bytes);
        let frame = frame(Version::Http11, true);
        write(&mut out, head, frame, &date, edits, cookie).unwrap();
        String::from_utf8(out).unwrap()
    });
    assert_eq!(head, format!("HTTP/1.1 200 OK\r\n{expect}\r\n"));
}

#[test]
fn fields_are_set_added_and_removed() {
    let length = "Content-Length: 0\r\n";
    check_edits(
        "\"-server\"",
        None,
        &format!("Server: x\r\n{DATE}"),
        &format!("{DATE}{length}"),
    );
    check_edits(
        "\"Server: {host}\", \"+Vary: Cookie\"",
        None,
        &format!("Server: x\r\nVary: A\r\nserver: y\r\n{DATE}"),
        &format!("Vary: A\r\n{DATE}{length}Server: h\r\nVary: Cookie\r\n"),
    );
    check_edits("\"-Date\"", None, DATE, length);
    check_edits(
        "\"Date: then\"",
        None,
        "",
        &format!("{length}Date: then\r\n"),
    );
}

#[test]
fn a_cookie_of_our_own_goes_beside_the_servers() {
    check_edits(
        "",
        Some("s=1; Path=/"),
        &format!("{DATE}Set-Cookie: a=b\r\n"),
        &format!("{DATE}Set-Cookie: a=b\r\nContent-Length: 0\r\nSet-Cookie: s=1; Path=/\r\n"),
    );
}

/// What a client gets of a head of this text before the final one.
#[track_caller]
fn check_interim(text: &str, expect: &str) {
    let head = with_received(text, Method::Get, |head| {
        let mut out = Vec::new();
        write_interim(&mut out, head).unwrap();
        String::from_utf8(out).unwrap()
    });
    assert_eq!(head, expect);
}

#[test]
fn interim_heads_have_nothing_added() {
    check_interim(
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    );
    check_interim(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X\r\nX: 1\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
    );
}

#[test]
fn an_upgrade_says_to_what() {
    check_interim(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: upgrade, X\r\n\
         X: 1\r\nSec-WebSocket-Accept: k\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: k\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
    );
}
