//! Content that the proxy passes on: the cut of the input doesn't matter, its receiver reads the same
//! content as its sender meant, nothing of its framing goes through, and what is behind it stays.

use ringway_http::body::{BodyDecoder, BodyError, BodyLimits, Step};
use ringway_http::head::Framing;
use ringway_http::received::ReceivedFraming;
use ringway_server::fuzzed::{Passed, Way, pass_on};

const LIMITS: BodyLimits = BodyLimits {
    body_bytes: 4096,
    extension_bytes: 64,
    trailer_bytes: 256,
    trailer_count: 8,
};

/// Fails when a promise is broken on `data`: its first byte says how the rest is delimited, for whom.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let (way, in_chunks) = match kind {
        0 | b'0' => (Way::There(Framing::Chunked), true),
        1 | b'1' => (Way::Back(ReceivedFraming::Chunked, true), true),
        2 | b'2' => (Way::Back(ReceivedFraming::Chunked, false), false),
        3 | b'3' => (Way::Back(ReceivedFraming::UntilClose, true), true),
        4 | b'4' => (Way::Back(ReceivedFraming::UntilClose, false), false),
        5 | b'5' => (Way::Back(ReceivedFraming::None, false), false),
        length if length % 2 == 0 => (Way::There(Framing::Length(length.into())), false),
        length => (
            Way::Back(ReceivedFraming::Length(length.into()), false),
            false,
        ),
    };
    let whole = pass_on(way, &LIMITS, [data]);
    for bytes in [1, 2, 3, 7] {
        let cut = pass_on(way, &LIMITS, data.chunks(bytes));
        assert_eq!(outcome(&cut, in_chunks), outcome(&whole, in_chunks));
    }
    let Ok(passed) = whole else { return };
    let sent = match in_chunks {
        true => read_chunks(&passed.sent, passed.is_over).0,
        false => passed.sent.clone(),
    };
    assert_eq!(sent.len() as u64, passed.content_bytes);
    let (meant, is_over, rest) = meant(way, data);
    assert_eq!((&sent, passed.is_over), (&meant, is_over));
    assert!(
        !is_over || passed.rest == rest,
        "what is behind it was touched"
    );
}

/// What doesn't depend on the cut: content, trailers, whether it is over, and what is behind.
type Outcome<'p> = (Vec<u8>, Vec<u8>, bool, &'p [u8]);

/// That of content which was passed on; or its fault.
fn outcome(passed: &Result<Passed, BodyError>, in_chunks: bool) -> Result<Outcome<'_>, BodyError> {
    let passed = passed.as_ref().map_err(|&error| error)?;
    let (content, trailers) = match in_chunks {
        true => read_chunks(&passed.sent, passed.is_over),
        false => (passed.sent.clone(), Vec::new()),
    };
    let rest = if passed.is_over {
        &passed.rest[..]
    } else {
        &[]
    };
    Ok((content, trailers, passed.is_over, rest))
}

/// What the sender meant: the content, whether it has ended, and what is behind it.
fn meant(way: Way, data: &[u8]) -> (Vec<u8>, bool, &[u8]) {
    let framing = match way {
        Way::There(framing) => framing,
        Way::Back(ReceivedFraming::Chunked, _) => Framing::Chunked,
        Way::Back(ReceivedFraming::Length(bytes), _) => Framing::Length(bytes),
        Way::Back(ReceivedFraming::UntilClose, _) => return (data.to_vec(), true, &[]),
        Way::Back(ReceivedFraming::None, _) => return (Vec::new(), true, data),
    };
    let limits = BodyLimits {
        body_bytes: u64::MAX,
        ..BodyLimits::default()
    };
    let mut decoder = BodyDecoder::new(framing, &limits).expect("no length is too much");
    let (mut content, mut rest) = (Vec::new(), data);
    loop {
        match decoder.decode(rest).expect("it was passed on") {
            Step::Data { data, consumed } => {
                content.extend_from_slice(data);
                rest = &rest[consumed..];
            }
            Step::More { .. } => return (content, decoder.is_done(), &[]),
            Step::End { consumed } => return (content, true, &rest[consumed..]),
        }
        if decoder.is_done() {
            return (content, true, rest);
        }
    }
}

/// A reader of chunks that knows one spelling only: the content, and the trailer section. Whatever
/// else goes out is a fault.
fn read_chunks(mut sent: &[u8], is_over: bool) -> (Vec<u8>, Vec<u8>) {
    let mut content = Vec::new();
    loop {
        if sent.is_empty() && !is_over {
            return (content, Vec::new());
        }
        let end = find(sent, b"\r\n").expect("the line of a size");
        let line = std::str::from_utf8(&sent[..end]).expect("digits");
        let size = usize::from_str_radix(line, 16).expect("a size alone");
        assert_eq!(line, format!("{size:x}"), "the shortest spelling");
        sent = &sent[end + 2..];
        if size == 0 {
            break;
        }
        content.extend_from_slice(&sent[..size]);
        sent = sent[size..]
            .strip_prefix(b"\r\n")
            .expect("CRLF behind a chunk");
    }
    let trailers = sent.to_vec();
    loop {
        let end = find(sent, b"\r\n").expect("a trailer's line");
        let line = &sent[..end];
        sent = &sent[end + 2..];
        if line.is_empty() {
            break;
        }
        let colon = find(line, b":").expect("a name");
        let name = line[..colon].to_ascii_lowercase();
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        let framing: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"te"];
        assert!(
            !framing.contains(&&name[..]),
            "a trailer that frames or routes"
        );
        let is_plain = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        assert!(line.iter().all(is_plain), "a control character");
    }
    assert!(sent.is_empty(), "more behind the end");
    (content, trailers)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
