//! Response heads: the cut of the input doesn't matter, `httparse` agrees with whatever is accepted,
//! and the framing is one of those that the status and the method allow.

use ringway_http::head::{HeadScan, Method, Version};
use ringway_http::received::{
    ReceivedError, ReceivedFraming, ReceivedHead, ReceivedLimits, parse_received,
};

const LIMITS: ReceivedLimits = ReceivedLimits {
    head_bytes: 2048,
    header_count: 16,
};

/// What became of an input, and after how many of its bytes.
type Outcome<'a> = Result<Option<(ReceivedHead<'a>, usize)>, ReceivedError>;

/// Fails when the parser breaks a promise on `data`.
pub(crate) fn run(data: &[u8]) {
    // The last byte decides about the request, so that the fuzzer can.
    let method = match data.last() {
        Some(byte) if byte % 8 == 0 => Method::Head,
        Some(byte) if byte % 8 == 1 => Method::Connect,
        _ => Method::Get,
    };
    let whole = feed(data, [data.len()], method);
    let step = 1 + usize::from(data.first().copied().unwrap_or_default() % 7);
    for cuts in [1, step] {
        let ends = (cuts..data.len()).step_by(cuts).chain([data.len()]);
        match (&feed(data, ends, method), &whole) {
            // What comes in pieces is read when it has ended.
            (Ok(None), Err(_)) => assert!(!data.windows(4).any(|four| four == b"\r\n\r\n")),
            // Of several faults, another may be met first.
            (Err(_), Err(_)) => {}
            (chopped, whole) => assert_eq!(chopped, whole),
        }
    }
    if let Ok(Some((head, bytes))) = whole {
        check_framing(&head, method);
        check_against_httparse(&head, &data[..bytes]);
    }
}

fn feed<'a>(
    data: &'a [u8],
    ends: impl IntoIterator<Item = usize>,
    method: Method<'_>,
) -> Outcome<'a> {
    let mut scan = HeadScan::default();
    for end in ends {
        let outcome = parse_received(&data[..end], &mut scan, &LIMITS, method);
        if !matches!(outcome, Ok(None)) {
            return outcome;
        }
    }
    Ok(None)
}

fn check_framing(head: &ReceivedHead<'_>, method: Method<'_>) {
    let lacks_content = head.status < 200 || [204, 304].contains(&head.status);
    if lacks_content || method == Method::Head {
        assert_eq!(head.framing, ReceivedFraming::None);
    }
    assert!(!head.keep_alive || head.framing != ReceivedFraming::UntilClose);
    assert!((100..600).contains(&head.status));
}

/// What is accepted here is accepted by a second parser, with the same fields.
fn check_against_httparse(head: &ReceivedHead<'_>, bytes: &[u8]) {
    let mut slots = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut slots);
    let mut known = bytes.to_vec();
    if head.version == Version::Http11 {
        // It may be a later one, which `httparse` doesn't know.
        known["HTTP/1.".len()] = b'1';
    }
    assert_eq!(
        response.parse(&known),
        Ok(httparse::Status::Complete(bytes.len()))
    );
    assert_eq!(response.code, Some(head.status));
    let fields = response
        .headers
        .iter()
        .map(|header| (header.name.as_bytes(), header.value));
    assert!(head.headers().eq(fields));
}
