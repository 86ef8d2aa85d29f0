//! Heads: the cut of the input doesn't matter, `httparse` agrees with whatever is accepted, and a
//! head written anew from its parts is the same head.

use ringway_http::head::{HeadError, HeadLimits, HeadScan, RequestHead, parse_head};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 2048,
    header_count: 16,
    target_bytes: 256,
};

/// What became of an input, and after how many of its bytes.
type Outcome<'a> = Result<Option<(RequestHead<'a>, usize)>, HeadError>;

/// Fails when the parser breaks a promise on `data`.
pub(crate) fn run(data: &[u8]) {
    let whole = feed(data, [data.len()]);
    // The first byte decides about the cuts, so that the fuzzer can.
    let step = 1 + usize::from(data.first().copied().unwrap_or_default() % 7);
    for cuts in [1, step] {
        let chopped = feed(data, (cuts..data.len()).step_by(cuts).chain([data.len()]));
        match &chopped {
            // A fault in a head that doesn't end may not have been looked for yet.
            Ok(None) if whole.is_err() => assert!(!has_end(data)),
            _ => assert_eq!(chopped, whole),
        }
    }
    if let Ok(Some((head, bytes))) = whole {
        assert!(bytes <= data.len());
        check_bytes(&data[..bytes]);
        check_against_httparse(&head, &data[..bytes]);
        check_written_anew(&head);
    }
}

fn feed(data: &[u8], ends: impl IntoIterator<Item = usize>) -> Outcome<'_> {
    let mut scan = HeadScan::default();
    for end in ends {
        let outcome = parse_head(&data[..end], &mut scan, &LIMITS);
        if !matches!(outcome, Ok(None)) {
            return outcome;
        }
    }
    Ok(None)
}

/// No control byte, no LF without CR, and nothing behind the empty line.
fn check_bytes(head: &[u8]) {
    let control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    assert!(!head.iter().any(control));
    for (at, &byte) in head.iter().enumerate() {
        assert!(byte != b'\n' || head[at - 1] == b'\r');
        assert!(byte != b'\r' || head[at + 1] == b'\n');
    }
    assert!(head.ends_with(b"\r\n\r\n"));
}

/// What is accepted here is accepted by a second parser, with the same fields.
fn check_against_httparse(head: &RequestHead<'_>, bytes: &[u8]) {
    if str::from_utf8(head.target).is_err() {
        return; // it wants UTF-8
    }
    let mut slots = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut slots);
    let known = in_known_version(head, bytes);
    assert_eq!(
        request.parse(&known),
        Ok(httparse::Status::Complete(bytes.len()))
    );
    assert_eq!(request.method, Some(head.method.as_str()));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target));
    assert_eq!(
        request.version,
        Some(u8::from(head.version.as_str() == "HTTP/1.1"))
    );
    let fields = request
        .headers
        .iter()
        .map(|header| (header.name.as_bytes(), header.value));
    assert!(head.headers().eq(fields));
}

/// The same head in HTTP/1.1 if it is in a later version, which `httparse` doesn't know.
fn in_known_version(head: &RequestHead<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut known = bytes.to_vec();
    if head.version.as_str() == "HTTP/1.1" {
        let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
        let line = &bytes[start.expect("a head has a method")..];
        let after = line.windows(2).skip_while(|pair| pair != b"\r\n").count() + 1;
        let line_end = bytes.len() - after;
        known[line_end - 1] = b'1';
    }
    known
}

/// What the parts say makes the same head.
fn check_written_anew(head: &RequestHead<'_>) {
    let mut anew = [head.method.as_str().as_bytes(), b" ", head.target, b" "].concat();
    anew.extend_from_slice(head.version.as_str().as_bytes());
    anew.extend_from_slice(b"\r\n");
    for (name, value) in head.headers() {
        anew.extend_from_slice(&[name, b":", value, b"\r\n"].concat());
    }
    anew.extend_from_slice(b"\r\n");
    let (again, bytes) = feed(&anew, [anew.len()])
        .expect("is sound")
        .expect("is whole");
    assert_eq!(bytes, anew.len());
    let strip = |head: &RequestHead<'_>| {
        let fields: Vec<_> = head
            .headers()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        (
            format!("{:?} {:?} {:?}", head.method, head.target, head.version),
            (head.framing, head.keep_alive, head.expect_continue),
            fields,
        )
    };
    assert_eq!(strip(&again), strip(head));
    assert_eq!(again.preconditions(), head.preconditions());
    assert_eq!(again.accept_encoding(), head.accept_encoding());
    let well_known = |head: &RequestHead<'_>| {
        [head.host, head.range, head.if_range, head.authorization]
            .map(|value| value.map(<[u8]>::to_vec))
    };
    assert_eq!(well_known(&again), well_known(head));
}

/// Whether there is an empty line, but for those that may come first.
fn has_end(mut data: &[u8]) -> bool {
    while let [b'\r', b'\n', rest @ ..] = data {
        data = rest;
    }
    data.windows(4).any(|window| window == b"\r\n\r\n")
}
