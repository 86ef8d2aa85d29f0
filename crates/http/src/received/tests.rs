//! Response heads, good and bad, whole and in pieces.

use super::*;
use proptest::prelude::*;

const LIMITS: ReceivedLimits = ReceivedLimits {
    head_bytes: 300,
    header_count: 4,
};

/// What became of a head, without its borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Parsed(String, usize),
    Refused(ReceivedError),
    Unfinished,
}

/// Feeds `input` in pieces that end at `cuts` and at its end.
fn feed(input: &[u8], method: Method<'_>, cuts: impl IntoIterator<Item = usize>) -> Outcome {
    let mut scan = HeadScan::default();
    for cut in cuts.into_iter().chain([input.len()]) {
        match parse_received(&input[..cut.min(input.len())], &mut scan, &LIMITS, method) {
            Ok(Some((head, bytes))) => return Outcome::Parsed(format!("{head:?}"), bytes),
            Ok(None) => {}
            Err(error) => return Outcome::Refused(error),
        }
    }
    Outcome::Unfinished
}

#[track_caller]
fn check_error(input: &str, expect: ReceivedError) {
    let bytes = input.as_bytes();
    for outcome in [
        feed(bytes, Method::Get, []),
        feed(bytes, Method::Get, 0..bytes.len()),
    ] {
        assert_eq!(outcome, Outcome::Refused(expect), "{input:?}");
    }
}

/// Parsed whole and byte by byte, and what comes behind it is left over.
#[track_caller]
fn check(input: &str, method: Method<'_>, status: u16, framing: ReceivedFraming, keep_alive: bool) {
    let mut scan = HeadScan::default();
    let (head, bytes) = parse_received(input.as_bytes(), &mut scan, &LIMITS, method)
        .unwrap()
        .unwrap();
    assert_eq!(
        (head.status, head.framing, head.keep_alive),
        (status, framing, keep_alive),
        "{input:?}"
    );
    assert!(input[..bytes].ends_with("\r\n\r\n"), "{input:?}");
    let slowly = feed(input.as_bytes(), method, 0..input.len());
    assert_eq!(slowly, Outcome::Parsed(format!("{head:?}"), bytes));
}

fn get(input: &str, status: u16, framing: ReceivedFraming, keep_alive: bool) {
    check(input, Method::Get, status, framing, keep_alive);
}

#[test]
fn content_is_framed_by_length_chunks_or_the_close() {
    use ReceivedFraming::{Chunked, Length, UntilClose};
    get(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        200,
        Length(5),
        true,
    );
    get(
        "HTTP/1.2 200 OK\r\nContent-Length: 7\r\n\r\n",
        200,
        Length(7),
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        200,
        Length(0),
        true,
    );
    get(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
        200,
        Chunked,
        true,
    );
    get("HTTP/1.1 200 OK\r\n\r\nhello", 200, UntilClose, false);
    get(
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        200,
        UntilClose,
        false,
    );
}

#[test]
fn some_responses_have_no_content_whatever_they_say() {
    use ReceivedFraming::None;
    let lengthy = "Content-Length: 5\r\n\r\n";
    check(
        &format!("HTTP/1.1 200 OK\r\n{lengthy}"),
        Method::Head,
        200,
        None,
        true,
    );
    check("HTTP/1.1 200 OK\r\n\r\n", Method::Head, 200, None, true);
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Method::Head,
        200,
        None,
        true,
    );
    check(
        "HTTP/1.1 200 Established\r\n\r\n",
        Method::Connect,
        200,
        None,
        true,
    );
    get(
        &format!("HTTP/1.1 304 Not Modified\r\n{lengthy}"),
        304,
        None,
        true,
    );
    get("HTTP/1.1 204 No Content\r\n\r\n", 204, None, true);
    get("HTTP/1.1 100 Continue\r\n\r\n", 100, None, true);
    get(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        101,
        None,
        true,
    );
}

/// Such a server may send the content, too, and that would be read as the next answer.
#[test]
fn a_204_that_announces_content_is_the_last_of_its_connection() {
    use ReceivedFraming::None;
    for (announced, keep_alive) in [
        ("Content-Length: 0", true),
        ("Content-Length: 2", false),
        ("Transfer-Encoding: chunked", false),
    ] {
        let input = |status| format!("HTTP/1.1 {status} x\r\n{announced}\r\n\r\n");
        get(&input(204), 204, None, keep_alive);
        // Of these it tells what a GET would have had, or has.
        get(&input(304), 304, None, true);
        check(&input(200), Method::Head, 200, None, true);
    }
}

#[test]
fn persistence_is_that_of_the_version_and_its_options() {
    use ReceivedFraming::Length;
    for (version, option, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        (
            "1.1",
            "Connection: foo, CLOSE\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let input = format!("HTTP/{version} 200 OK\r\n{option}Content-Length: 1\r\n\r\nx");
        get(&input, 200, Length(1), keep_alive);
    }
}

#[test]
fn reasons_may_be_empty_strange_or_missing() {
    for reason in [" OK", " ", "", " Not  at\tall", " Voil\u{e0}"] {
        let input = format!("HTTP/1.1 200{reason}\r\nContent-Length: 1\r\n\r\n");
        let mut scan = HeadScan::default();
        let (head, _) = parse_received(input.as_bytes(), &mut scan, &LIMITS, Method::Get)
            .unwrap()
            .unwrap();
        let expect = reason.strip_prefix(' ').unwrap_or_default();
        assert_eq!(head.reason, expect.as_bytes());
    }
}

#[test]
fn fields_are_found_in_their_order() {
    let input = b"HTTP/1.1 200 OK\r\nA: 1\r\nb:  2 \r\nA:\r\n\r\n";
    let mut scan = HeadScan::default();
    let (head, _) = parse_received(input, &mut scan, &LIMITS, Method::Get)
        .unwrap()
        .unwrap();
    let all: Vec<_> = head.headers().collect();
    assert_eq!(all, [(&b"A"[..], &b"1"[..]), (b"b", b"2"), (b"A", b"")]);
    assert_eq!(head.header("a").collect::<Vec<_>>(), [&b"1"[..], b""]);
}

#[test]
fn interim_responses_are_those_of_1xx_that_another_follows() {
    for (status, interim) in [
        (100, true),
        (103, true),
        (101, false),
        (200, false),
        (500, false),
    ] {
        let input = format!("HTTP/1.1 {status} x\r\n\r\n");
        let mut scan = HeadScan::default();
        let (head, _) = parse_received(input.as_bytes(), &mut scan, &LIMITS, Method::Get)
            .unwrap()
            .unwrap();
        assert_eq!(head.is_interim(), interim, "{status}");
    }
}

#[test]
fn bad_status_lines_are_refused() {
    for line in [
        "HTTP/1.1 99 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200\tOK",
        "http/1.1 200 OK",
        "ICY 200 OK again and again",
        "HTTP/1.1 200 a\0b",
        "220 smtp.example ESMTP",
    ] {
        check_error(&format!("{line}\r\n\r\n"), ReceivedError::StatusLine);
    }
    check_error("HTTP/1.1 200 OK\n\n", ReceivedError::StatusLine);
    for version in ["HTTP/2.0", "HTTP/1.x", "HTTP/0.9"] {
        check_error(&format!("{version} 200 OK\r\n\r\n"), ReceivedError::Version);
    }
}

#[test]
fn bad_fields_are_refused() {
    for field in [
        "A\r\n",
        " A: 1\r\n",
        "A : 1\r\n",
        ": 1\r\n",
        "A: 1\n",
        "A: 1\r\n B\r\n",
        "A: \0\r\n",
        "A\u{e9}: 1\r\n",
        "A: 1\rB: 2\r\n",
    ] {
        check_error(
            &format!("HTTP/1.1 200 OK\r\n{field}\r\n"),
            ReceivedError::Field,
        );
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use ReceivedError::{Coding, ContentLength, LengthAndCoding};
    for (fields, expect) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", ContentLength),
        ("Content-Length: 5, 5\r\n", ContentLength),
        ("Content-Length: -1\r\n", ContentLength),
        ("Content-Length: 99999999999999999999\r\n", ContentLength),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            LengthAndCoding,
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", Coding),
        ("Transfer-Encoding: identity\r\n", Coding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Coding,
        ),
    ] {
        check_error(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), expect);
    }
    check_error(
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Coding,
    );
}

/// A name that is none is a fault as soon as it is there, whatever comes of its value.
#[test]
fn a_bad_name_is_refused_before_its_value_has_come() {
    for input in ["HTTP/1.0 304\r\n \r\n:", "HTTP/1.1 200 OK\r\nA b: c"] {
        let outcome = feed(input.as_bytes(), Method::Get, []);
        assert_eq!(outcome, Outcome::Refused(ReceivedError::Field), "{input:?}");
    }
}

#[test]
fn the_bounds_hold() {
    let five = "A: 1\r\n".repeat(5);
    check_error(
        &format!("HTTP/1.1 200 OK\r\n{five}\r\n"),
        ReceivedError::TooLarge,
    );
    let long = "a".repeat(LIMITS.head_bytes);
    check_error(
        &format!("HTTP/1.1 200 OK\r\nA: {long}\r\n\r\n"),
        ReceivedError::TooLarge,
    );
    check_error(&format!("HTTP/1.1 200 {long}"), ReceivedError::TooLarge);
}

/// Fields of which some go on and some don't, and some aren't written as others write them.
const LINES: [&str; 16] = [
    "Server: s",
    "server:s",
    "Date: d",
    "ETag: \t\"a\"  ",
    "X-Empty:",
    "X-Space: ",
    "X-A: b: c",
    "Content-Length: 5",
    "Connection: close",
    "Connection: x-a, keep-alive",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "tea: x",
    "UPGRADE: x",
    "Proxy-Connection: close",
    "Transfer-Encoding: chunked",
];

proptest! {
    /// What is noted while a head is parsed comes to the same as a look at each of its fields.
    #[test]
    fn what_is_copied_is_what_a_walk_would_pass_on(
        lines in proptest::collection::vec(proptest::sample::select(&LINES[..]), 0..12),
    ) {
        let fields: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let (mut scan, limits) = (HeadScan::default(), ReceivedLimits::default());
        let parsed = parse_received(text.as_bytes(), &mut scan, &limits, Method::Get);
        let Ok(Some((head, _))) = parsed else { return Ok(()) };
        let mut copied = b"before".to_vec();
        let was_copied = head.copy_to(&mut copied);
        let hop = crate::hop::HopByHop::of_response(&head);
        let mut walked = b"before".to_vec();
        for (name, value) in head.headers() {
            if !hop.keeps_back(name) && !name.eq_ignore_ascii_case(b"content-length") {
                walked.extend([name, b": ", value, b"\r\n"].concat());
            }
        }
        match was_copied {
            Some(()) => prop_assert_eq!(String::from_utf8(copied), String::from_utf8(walked)),
            None => {
                prop_assert_eq!(copied, b"before");
                let usual = ["Server: s", "Date: d", "X-A: b: c", "Content-Length: 5"];
                prop_assert!(lines.iter().any(|line| !usual.contains(line)));
            }
        }
        prop_assert_eq!(head.has_date, lines.contains(&"Date: d"));
    }

    /// However a head is cut, it is accepted or refused alike, and nothing panics.
    #[test]
    fn cuts_change_nothing(
        input in proptest::collection::vec(
            prop_oneof![
                Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.0 304\r\n"), Just("A: b\r\n"), Just("\r\n"),
                Just("Content-Length: 3\r\n"), Just("Transfer-Encoding: chunked\r\n"), Just("\n"),
                Just("Connection: close\r\n"), Just(" "), Just("x"), Just("\r"), Just(":"),
            ],
            0..8,
        ),
        cuts in proptest::collection::vec(0..120usize, 0..6),
    ) {
        let input = input.concat();
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = feed(input.as_bytes(), Method::Get, []);
        let pieces = feed(input.as_bytes(), Method::Get, cuts);
        match (&whole, &pieces) {
            (Outcome::Refused(_), Outcome::Refused(_)) => {}
            // What comes in pieces is read when it has ended.
            (Outcome::Refused(_), Outcome::Unfinished) => prop_assert!(!input.contains("\n\r\n")),
            _ => prop_assert_eq!(whole, pieces),
        }
    }
}
