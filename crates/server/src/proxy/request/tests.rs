//! The heads that servers get, written out whole: what stays behind, what is added, and that
//! nothing a client sends becomes a line of its own.

use super::*;
use crate::config::{Config, Upstream};
use proptest::prelude::*;
use ringway_http::head::{HeadLimits, HeadScan, parse_head};
use ringway_http::target::{Target, origin_form};

const CLIENT: &str = "192.0.2.7";

/// What a server of this upstream gets for a request of `peer`. `keys` are further keys of the
/// upstream, `edits` the value of the route's `request_headers`.
fn passed_on(peer: &str, keys: &str, edits: &str, request: &str) -> String {
    let text = format!(
        "[listen.main]\naddress = \":80\"\n[upstream.app]\nservers = \"a:1\"\n{keys}\n\
         [[route]]\nproxy = \"app\"\nrequest_headers = [{edits}]\n"
    );
    let config = Config::from_toml(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let Upstream { forward, .. } = &config.upstreams[0];
    let mut scan = HeadScan::default();
    let (head, length) = parse_head(request.as_bytes(), &mut scan, &HeadLimits::default())
        .unwrap_or_else(|error| panic!("{request:?}: {error}"))
        .expect("a whole head");
    assert_eq!(length, request.len());
    let target = Target::parse(head.method, head.target).unwrap();
    let peer = peer.parse().unwrap();
    let values = Values::of(&head, &target, peer);
    let hop = HopByHop::of_request(&head);
    let origin = origin_form(head.method, head.target);
    let passage = Passage {
        peer,
        target: &origin,
        host: values.host,
        forward,
        is_upgrade: asks_for_upgrade(&head, &hop),
        max_forwards: None,
        edits: &config.routes[0].rule.request_headers,
        values: &values,
    };
    let mut written = write(&head, &hop, passage);
    written.name_server(b"first:1");
    written.name_server(b"a:1");
    String::from_utf8(written.bytes).unwrap()
}

/// Of a GET with these fields behind `Host: h`, nothing is told of its client.
#[track_caller]
fn check(fields: &str, expect: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let head = passed_on(CLIENT, "forwarded = \"off\"", "", &request);
    assert_eq!(head, format!("GET / HTTP/1.1\r\nHost: h\r\n{expect}\r\n"));
}

/// The same of any request.
#[track_caller]
fn check_whole(request: &str, expect: &str) {
    assert_eq!(
        passed_on(CLIENT, "forwarded = \"off\"", "", request),
        expect
    );
}

/// What is told of the client of a GET with these fields behind `Host: h`.
#[track_caller]
fn check_told(peer: &str, keys: &str, fields: &str, expect: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let head = passed_on(peer, keys, "", &request);
    assert_eq!(head, format!("GET / HTTP/1.1\r\nHost: h\r\n{expect}\r\n"));
}

#[test]
fn fields_go_on_in_their_order_and_as_they_were_written() {
    let fields = "User-Agent: x\r\naCCEPT: */*\r\nCookie: a=1; b=2\r\nX-Empty: \r\ncookie: c=3\r\n";
    check(fields, fields);
}

#[test]
fn whitespace_around_values_is_not_passed_on() {
    check("A: \t b \t\r\nB:c\r\n", "A: b\r\nB: c\r\n");
}

#[test]
fn bytes_beyond_ascii_go_on() {
    check("X: gr\u{fc}\u{df}e\r\n", "X: gr\u{fc}\u{df}e\r\n");
}

#[test]
fn fields_of_the_connection_stay_behind() {
    for field in [
        "Connection: close",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Upgrade: websocket",
        "Proxy: http://evil",
    ] {
        check(&format!("A: b\r\n{field}\r\n"), "A: b\r\n");
    }
}

#[test]
fn fields_that_connection_names_stay_behind() {
    check(
        "X-A: 1\r\nConnection: x-a , X-B\r\nX-B: 2\r\nX-C: 3\r\n",
        "X-C: 3\r\n",
    );
    check(
        "Connection: ,,X-A,\r\nconnection: X-B\r\nX-A: 1\r\nx-b: 2\r\n",
        "",
    );
}

#[test]
fn connection_cannot_take_away_what_is_written_here() {
    check("Connection: Host, close\r\n", "");
    let post =
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\n";
    check_whole(
        post,
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
    );
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nConnection: Transfer-Encoding\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    check_whole(
        chunked,
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    check_told(
        CLIENT,
        "",
        "Connection: X-Forwarded-For, X-Forwarded-Proto\r\n",
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
    );
}

#[test]
fn content_is_framed_anew() {
    check_whole(
        "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0012\r\nA: b\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 12\r\n\r\n",
    );
    check_whole(
        "PUT /a HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\nTrailer: X\r\n\r\n",
        "PUT /a HTTP/1.1\r\nHost: h\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    // No content and content of no length are the same.
    check("Content-Length: 0\r\n", "");
}

#[test]
fn methods_that_mean_content_say_that_there_is_none() {
    for method in ["POST", "PUT", "PATCH"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        let expect = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        check_whole(&request, &expect);
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "get"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        check_whole(&request, &request);
    }
}

#[test]
fn old_clients_requests_become_new_ones() {
    check_whole(
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a:1\r\n\r\n",
    );
    check_whole(
        "GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    );
}

#[test]
fn the_authority_of_a_target_in_absolute_form_replaces_the_host() {
    check_whole(
        "GET http://b:81/x?y HTTP/1.1\r\nHost: other\r\n\r\n",
        "GET /x?y HTTP/1.1\r\nHost: b:81\r\n\r\n",
    );
    check_whole(
        "GET http://b?y HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET /?y HTTP/1.1\r\nHost: b\r\n\r\n",
    );
    check_whole(
        "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n",
    );
    // RFC 9112 §3.2.2 asks for it of any version: an old client has named its host by this.
    check_whole(
        "GET http://b/x HTTP/1.0\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: b\r\n\r\n",
    );
}

#[test]
fn the_server_as_a_whole() {
    check_whole(
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    );
}

#[test]
fn policies_of_the_host() {
    let host = |policy: &str| {
        let keys = format!("forwarded = \"off\"\nhost = {policy:?}");
        passed_on(CLIENT, &keys, "", "GET / HTTP/1.1\r\nHost: H:8\r\n\r\n")
    };
    assert_eq!(host("client"), "GET / HTTP/1.1\r\nHost: H:8\r\n\r\n");
    assert_eq!(host("upstream"), "GET / HTTP/1.1\r\nHost: a:1\r\n\r\n");
    assert_eq!(host("b.c"), "GET / HTTP/1.1\r\nHost: b.c\r\n\r\n");
}

#[test]
fn an_empty_host_stays_empty() {
    check_whole(
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
    );
}

#[test]
fn expect_goes_on_as_it_was_understood() {
    check_whole(
        "POST / HTTP/1.1\r\nHost: h\r\nexpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
    );
}

#[test]
fn upgrades_go_on_where_they_are_asked_for() {
    check(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n",
        "Sec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    );
    check("Connection: Upgrade\r\nA: b\r\n", "A: b\r\n");
    check("Upgrade: websocket\r\nA: b\r\n", "A: b\r\n");
    // HTTP/1.0 can't (RFC 9110 §7.8).
    check_whole(
        "GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    );
}

#[test]
fn requests_with_content_are_never_upgraded() {
    check_whole(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n",
    );
}

/// Behind an upgrade to HTTP/2 a client could ask for what no route lets it have.
#[test]
fn upgrades_to_another_http_stay_here() {
    for protocol in ["h2c", "H2C", "h2", "HTTP/2.0", "websocket, h2c", "HTTP/3"] {
        let fields = format!(
            "Connection: Upgrade\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAM\r\nA: b\r\n"
        );
        check(&fields, "A: b\r\n");
        let named = fields.replace("Upgrade\r\nUpgrade", "Upgrade, HTTP2-Settings\r\nUpgrade");
        check(&named, "A: b\r\n");
    }
    check(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "",
    );
}

#[test]
fn trailers_are_asked_for_where_the_client_takes_them() {
    let asked = "Connection: TE\r\nTE: trailers\r\n";
    check("Connection: TE\r\nTE: trailers\r\n", asked);
    check(
        "TE: gzip;q=0.5 , Trailers\r\nConnection: close, te\r\n",
        asked,
    );
    check("Connection: TE\r\nTE: gzip\r\n", "");
    check("TE: trailers\r\n", "");
}

#[test]
fn via_says_the_version_that_came() {
    let via =
        |request: &str| passed_on(CLIENT, "forwarded = \"off\"\nvia = \"edge-1\"", "", request);
    assert_eq!(
        via("GET / HTTP/1.0\r\nHost: h\r\nVia: 1.1 before\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 before\r\nVia: 1.0 edge-1\r\n\r\n"
    );
    assert_eq!(
        via("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 edge-1\r\n\r\n"
    );
}

/// What a client says of itself, in each way to do so.
const CLAIMS: &str = "X-Forwarded-For: 10.9.9.9\r\nx-forwarded-for: 10.9.9.8\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\
                      X-Forwarded-Port: 443\r\nX-Real-IP: 10.9.9.9\r\n\
                      Forwarded: for=10.9.9.9;proto=https\r\n";

#[test]
fn claims_of_strangers_are_removed() {
    check_told(CLIENT, "forwarded = \"off\"", CLAIMS, "");
    check_told(
        CLIENT,
        "",
        CLAIMS,
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
    );
    check_told(
        CLIENT,
        "forwarded = \"rfc7239\"\ntrusted = [\"192.0.2.8\", \"10.0.0.0/8\"]",
        CLAIMS,
        "Forwarded: for=192.0.2.7;host=\"h\";proto=http\r\n",
    );
}

#[test]
fn claims_of_the_trusted_are_added_to() {
    check_told(
        CLIENT,
        "trusted = \"192.0.2.0/24\"",
        CLAIMS,
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nX-Forwarded-Port: 443\r\n\
         X-Real-IP: 10.9.9.9\r\nX-Forwarded-For: 10.9.9.9, 10.9.9.8, 192.0.2.7\r\n",
    );
    check_told(
        CLIENT,
        "forwarded = \"rfc7239\"\ntrusted = \"192.0.2.7\"",
        CLAIMS,
        "Forwarded: for=10.9.9.9;proto=https, for=192.0.2.7;host=\"h\";proto=http\r\n",
    );
}

#[test]
fn the_trusted_who_claim_nothing_are_told_of_themselves() {
    check_told(
        CLIENT,
        "forwarded = \"both\"\ntrusted = \"192.0.2.7\"",
        "X-Forwarded-For:\r\nForwarded:\r\n",
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
         Forwarded: for=192.0.2.7;host=\"h\";proto=http\r\n",
    );
}

#[test]
fn addresses_of_ipv6() {
    check_told(
        "2001:db8::7",
        "forwarded = \"both\"\ntrusted = \"2001:db8::/64\"",
        "X-Forwarded-For: 2001:db8::1\r\nForwarded: for=\"[2001:db8::1]:80\"\r\n",
        "X-Forwarded-For: 2001:db8::1, 2001:db8::7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\n\
         Forwarded: for=\"[2001:db8::1]:80\", for=\"[2001:db8::7]\";host=\"h\";proto=http\r\n",
    );
}

/// A socket of both families shows IPv4 clients with addresses of IPv6.
#[test]
fn mapped_addresses_are_those_that_they_map() {
    check_told(
        "::ffff:192.0.2.7",
        "forwarded = \"both\"\ntrusted = \"192.0.2.7\"",
        "X-Forwarded-For: 10.0.0.1\r\n",
        "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nForwarded: for=192.0.2.7;host=\"h\";proto=http\r\n",
    );
}

#[test]
fn the_host_that_was_asked_for_is_told_whatever_the_server_is_called() {
    let request = "GET http://shop:8/ HTTP/1.1\r\nHost: other\r\n\r\n";
    let head = passed_on(
        CLIENT,
        "host = \"upstream\"\nforwarded = \"both\"",
        "",
        request,
    );
    let expect = "GET / HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-For: 192.0.2.7\r\n\
                  X-Forwarded-Proto: http\r\nX-Forwarded-Host: shop:8\r\n\
                  Forwarded: for=192.0.2.7;host=\"shop:8\";proto=http\r\n\r\n";
    assert_eq!(head, expect);
    let old = passed_on(CLIENT, "forwarded = \"both\"", "", "GET / HTTP/1.0\r\n\r\n");
    let expect = "GET / HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-For: 192.0.2.7\r\n\
                  X-Forwarded-Proto: http\r\nForwarded: for=192.0.2.7;proto=http\r\n\r\n";
    assert_eq!(old, expect);
}

/// What becomes of these fields behind `Host: h` with these edits.
#[track_caller]
fn check_edits(edits: &str, fields: &str, expect: &str) {
    let request = format!("GET /a%20b?q=1 HTTP/1.1\r\nHost: H:8\r\n{fields}\r\n");
    let head = passed_on(CLIENT, "forwarded = \"off\"", edits, &request);
    let expect = format!("GET /a%20b?q=1 HTTP/1.1\r\nHost: H:8\r\n{expect}\r\n");
    assert_eq!(head, expect);
}

#[test]
fn fields_are_set_added_and_removed() {
    check_edits(
        "\"A: new\"",
        "a: 1\r\nB: 2\r\nA: 3\r\n",
        "B: 2\r\nA: new\r\n",
    );
    check_edits("\"+A: new\"", "a: 1\r\n", "a: 1\r\nA: new\r\n");
    check_edits("\"-a\"", "A: 1\r\nB: 2\r\na: 3\r\n", "B: 2\r\n");
    check_edits(
        "\"A: one\", \"+A: two\", \"-B\"",
        "B: 1\r\n",
        "A: one\r\nA: two\r\n",
    );
}

#[test]
fn edits_know_the_request() {
    check_edits(
        "\"A: {client_ip} {method} {scheme}://{host}{path}{query} {{path}}\"",
        "",
        "A: 192.0.2.7 GET http://h/a%20b?q=1 {path}\r\n",
    );
}

/// An operator can say more about a client than this program does.
#[test]
fn what_is_told_of_the_client_can_be_set() {
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: ftp\r\n\r\n";
    let head = passed_on(CLIENT, "", "\"X-Forwarded-Proto: https\"", request);
    let told = |name: &str| head.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(told("X-Forwarded-Proto"), 1, "{head}");
    assert!(head.contains("\r\nX-Forwarded-Proto: https\r\n"), "{head}");
    let head = passed_on(
        CLIENT,
        "via = \"me\"",
        "\"-X-Forwarded-For\", \"-Via\"",
        request,
    );
    assert!(
        !head.contains("X-Forwarded-For") && !head.contains("Via"),
        "{head}"
    );
}

proptest! {
    /// Whatever a client sends that the parser takes, and whatever is done with it: what goes out
    /// is one head, with the fields that were meant and no other.
    #[test]
    fn no_line_can_be_injected(
        path in "/[!-~]{0,20}",
        name in "[A-Za-z-]{1,12}",
        value in "[ -~]{0,30}|[\\x00-\\xff]{0,8}",
    ) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{name}: {value}\r\n\r\n");
        let mut scan = HeadScan::default();
        let parsed = parse_head(request.as_bytes(), &mut scan, &HeadLimits::default());
        let Ok(Some((head, length))) = parsed else { return Ok(()) };
        prop_assume!(length == request.len() && Target::parse(head.method, head.target).is_ok());
        let edits = "\"Injected: {path} {query} {host} {method}\", \"+X-Other: {query}\"";
        let sent = passed_on(CLIENT, "forwarded = \"both\"\nvia = \"v\"", edits, &request);
        let mut scan = HeadScan::default();
        let parsed = parse_head(sent.as_bytes(), &mut scan, &HeadLimits::default());
        let (again, length) = parsed.unwrap().unwrap();
        prop_assert_eq!(length, sent.len());
        prop_assert_eq!(again.framing, head.framing);
        let names: Vec<&[u8]> = again.headers().map(|(name, _)| name).collect();
        let own: [&[u8]; 10] = [
            b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded",
            b"Via", b"Injected", b"X-Other", b"Expect", b"Content-Length",
        ];
        for sent in names {
            prop_assert!(own.contains(&sent) || sent.eq_ignore_ascii_case(name.as_bytes()));
        }
    }
}

#[test]
fn addresses_are_written_as_everybody_writes_them() {
    for byte in 0..=255 {
        for octets in [[byte, 0, 1, 255], [10, 255 - byte, byte, byte]] {
            let address = std::net::Ipv4Addr::from(octets);
            let mut out = b"before".to_vec();
            push_address(&mut out, address.into());
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{address}"));
        }
    }
}
