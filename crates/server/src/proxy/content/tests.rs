//! Content as its receiver gets it: the same bytes however it comes, and an error where it is none.

use super::*;
use proptest::prelude::*;
use ringway_http::body::LAST_CHUNK;

/// What is sent for `input` when it comes in pieces of these sizes, the last one again and again;
/// then the source ends, if `ends`. The bytes that weren't used are behind a bar.
fn passed(
    mut content: Content,
    input: &[u8],
    sizes: &[usize],
    ends: bool,
) -> Result<Vec<u8>, String> {
    let (mut sent, mut waiting) = (Vec::new(), Vec::new());
    let mut sizes = sizes
        .iter()
        .copied()
        .chain(std::iter::repeat(*sizes.last().unwrap()));
    let mut rest = input;
    loop {
        while !waiting.is_empty() && !content.is_done() {
            let mut out = Vec::new();
            let used = content
                .write(&waiting, &mut out)
                .map_err(|error| error.to_string())?;
            waiting.drain(..used);
            assert!(used > 0 || !out.is_empty(), "no progress");
            sent.extend_from_slice(&out);
        }
        if content.is_done() || rest.is_empty() {
            break;
        }
        let size = sizes.next().unwrap().clamp(1, rest.len());
        waiting.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
    }
    if !content.is_done() && ends {
        let ended = content.source_ended(&mut sent);
        ended.map_err(|_| "ended too early".to_owned())?;
    }
    sent.push(b'|');
    sent.extend_from_slice(&waiting);
    sent.extend_from_slice(rest);
    Ok(sent)
}

fn response(framing: ReceivedFraming, in_chunks: bool) -> Content {
    Content::of_response(framing, in_chunks, false)
}

fn request(framing: Framing) -> Content {
    Content::of_request(framing, &BodyLimits::default(), false).unwrap()
}

/// The same output for the input whole, byte by byte, and split in two everywhere.
#[track_caller]
fn check(make: impl Fn() -> Content, input: &str, expect: &str) {
    let input = input.as_bytes();
    let whole = passed(make(), input, &[input.len().max(1)], true);
    assert_eq!(
        whole.map(|sent| String::from_utf8(sent).unwrap()),
        Ok(expect.to_owned())
    );
    // Where the receiver gets chunks they are as they came; what they hold is the same.
    let content = decoded(expect.as_bytes());
    for sizes in [vec![1], vec![2], vec![3, 1, 7]] {
        let sent = passed(make(), input, &sizes, true).unwrap();
        assert_eq!(decoded(&sent), content, "{sizes:?}");
    }
    for at in 1..input.len() {
        let sent = passed(make(), input, &[at, input.len()], true).unwrap();
        assert_eq!(decoded(&sent), content, "split at {at}");
    }
}

#[track_caller]
fn check_refused(make: impl Fn() -> Content, input: &str) {
    let input = input.as_bytes();
    for sizes in [vec![input.len()], vec![1], vec![2, 5]] {
        let sent = passed(make(), input, &sizes, true);
        assert!(sent.is_err(), "{input:?} {sizes:?}: {sent:?}");
    }
}

/// The content of chunks, their trailers, and what is behind the bar; or the text itself.
fn decoded(sent: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &BodyLimits::default())
        .unwrap()
        .keeping_trailers();
    let (mut content, mut rest) = (Vec::new(), sent);
    loop {
        match decoder.decode(rest) {
            Ok(Step::Data { data, consumed }) => {
                content.extend_from_slice(data);
                rest = &rest[consumed..];
            }
            Ok(Step::End { consumed }) => {
                let trailers = decoder.trailers().collect::<Vec<_>>().concat();
                return (content, trailers, rest[consumed..].to_vec());
            }
            _ => return (sent.to_vec(), Vec::new(), Vec::new()),
        }
    }
}

#[test]
fn chunks_stay_chunks() {
    let make = || response(ReceivedFraming::Chunked, true);
    check(
        make,
        "3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nHTTP",
        "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n|HTTP",
    );
    check(make, "0\r\n\r\n", "0\r\n\r\n|");
}

#[test]
fn extensions_of_chunks_stay_behind() {
    let make = || response(ReceivedFraming::Chunked, true);
    check(
        make,
        "3;a=b\r\nabc\r\n0 ;c\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n|",
    );
}

#[test]
fn trailers_go_on() {
    let make = || response(ReceivedFraming::Chunked, true);
    check(
        make,
        "1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nmore",
        "1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n|more",
    );
    let make = || request(Framing::Chunked);
    check(make, "0\r\nX-Sum: 1\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n|");
}

#[test]
fn trailers_that_only_a_head_may_have_stay_behind() {
    let make = || request(Framing::Chunked);
    check(
        make,
        "0\r\nContent-Length: 9\r\nX: 1\r\nhost: evil\r\nTransfer-Encoding: chunked\r\nAuthorization: a\r\n\r\n",
        "0\r\nX: 1\r\n\r\n|",
    );
}

/// Servers that merge trailers into the head would take them for what this program says.
#[test]
fn trailers_tell_nothing_of_the_client() {
    let make = || request(Framing::Chunked);
    check(
        make,
        "0\r\nX-Forwarded-For: 10.0.0.1\r\nx-forwarded-host: a\r\nX-Forwarded-Proto: https\r\n\
         Forwarded: for=a\r\nX-Real-IP: 1\r\nProxy: a\r\n\r\n",
        "0\r\n\r\n|",
    );
}

#[test]
fn chunks_become_plain_for_old_clients() {
    let make = || response(ReceivedFraming::Chunked, false);
    check(make, "3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: 1\r\n\r\n", "abcde|");
}

#[test]
fn content_of_known_length() {
    check(
        || response(ReceivedFraming::Length(5), false),
        "abcdeHTTP",
        "abcde|HTTP",
    );
    check(|| request(Framing::Length(5)), "abcdeGET", "abcde|GET");
    check(
        || response(ReceivedFraming::Length(0), false),
        "HTTP",
        "|HTTP",
    );
    check(|| response(ReceivedFraming::None, false), "HTTP", "|HTTP");
}

#[test]
fn content_until_the_close() {
    check(
        || response(ReceivedFraming::UntilClose, false),
        "abc",
        "abc|",
    );
    check(
        || response(ReceivedFraming::UntilClose, true),
        "abc",
        "3\r\nabc\r\n0\r\n\r\n|",
    );
    check(
        || response(ReceivedFraming::UntilClose, true),
        "",
        "0\r\n\r\n|",
    );
}

#[test]
fn an_end_that_comes_too_early() {
    check_refused(|| response(ReceivedFraming::Length(5), false), "abcd");
    let chunked = b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n";
    for length in 0..chunked.len() {
        for in_chunks in [false, true] {
            let make = response(ReceivedFraming::Chunked, in_chunks);
            let sent = passed(make, &chunked[..length], &[chunked.len()], true);
            assert_eq!(sent, Err("ended too early".to_owned()), "{length}");
        }
    }
}

/// What was passed on of content that was cut never looks whole.
#[test]
fn chunks_that_are_cut_have_no_end() {
    let chunked = b"3\r\nabc\r\n0\r\nX: 1\r\n\r\n";
    for length in 0..chunked.len() {
        let make = response(ReceivedFraming::Chunked, true);
        let sent = passed(make, &chunked[..length], &[1], false).unwrap();
        assert!(!sent.ends_with(b"0\r\n\r\n|"), "{length}: {sent:?}");
        assert!(
            !sent
                .windows(LAST_CHUNK.len())
                .any(|window| window == LAST_CHUNK)
        );
    }
}

#[test]
fn malformed_chunks() {
    for input in [
        "x\r\n",
        "-1\r\na\r\n",
        "0x1\r\na\r\n",
        "+1\r\na\r\n",
        " 1\r\na\r\n",
        "1\na\r\n",
        "1\r\nab\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r\n\r\n",
        "\r\n",
        "ffffffffffffffff0\r\n",
        "1;a\rb\r\na\r\n",
        "1;\"a\r\nb\"\r\na\r\n0\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n X: 1\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\nX: 1\r\n folded\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\n\n",
    ] {
        check_refused(|| request(Framing::Chunked), input);
        check_refused(|| response(ReceivedFraming::Chunked, true), input);
        check_refused(|| response(ReceivedFraming::Chunked, false), input);
    }
}

#[test]
fn bodies_beyond_the_limit() {
    let limits = BodyLimits {
        body_bytes: 4,
        ..BodyLimits::default()
    };
    let make = |framing| Content::of_request(framing, &limits, false);
    assert!(make(Framing::Length(4)).is_ok());
    assert_eq!(make(Framing::Length(5)).err(), Some(BodyError::TooLarge));
    check_refused(
        || make(Framing::Chunked).unwrap(),
        "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    );
    check(
        || make(Framing::Chunked).unwrap(),
        "4\r\nabcd\r\n0\r\n\r\n",
        "4\r\nabcd\r\n0\r\n\r\n|",
    );
}

#[test]
fn what_was_passed_is_counted_without_its_framing() {
    let mut content = response(ReceivedFraming::Chunked, true);
    let mut out = Vec::new();
    content
        .write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", &mut out)
        .unwrap();
    assert_eq!(content.passed_bytes(), 5);
    assert!(content.is_done());
}

/// Chunks of these sizes, with an extension and a trailer, and their content.
fn chunked(sizes: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    for (number, size) in sizes.iter().enumerate() {
        let data: Vec<u8> = (0..*size).map(|at| (at * 7 + number) as u8).collect();
        wire.extend_from_slice(format!("{size:X};n={number}\r\n").as_bytes());
        wire.extend_from_slice(&data);
        wire.extend_from_slice(b"\r\n");
        plain.extend_from_slice(&data);
    }
    wire.extend_from_slice(b"0\r\nX-Sum: 7\r\n\r\nnext");
    (wire, plain)
}

proptest! {
    #[test]
    fn any_chopping_gives_the_same_content(
        chunks in prop::collection::vec(1usize..40_000, 0..6),
        pieces in prop::collection::vec(1usize..20_000, 1..20),
    ) {
        let (wire, plain) = chunked(&chunks);
        let sent = passed(response(ReceivedFraming::Chunked, true), &wire, &pieces, true).unwrap();
        let expect = (plain.clone(), b"X-Sum: 7\r\n".to_vec(), b"|next".to_vec());
        prop_assert!(decoded(&sent) == expect);
        let sent = passed(response(ReceivedFraming::Chunked, false), &wire, &pieces, true).unwrap();
        prop_assert!(sent == [&plain[..], b"|next"].concat());
        let length = ReceivedFraming::Length(plain.len() as u64);
        let input = [&plain[..], b"next"].concat();
        let sent = passed(response(length, false), &input, &pieces, true).unwrap();
        prop_assert!(sent == [&plain[..], b"|next"].concat());
        let sent = passed(response(ReceivedFraming::UntilClose, true), &plain, &pieces, true).unwrap();
        prop_assert!(decoded(&sent) == (plain, Vec::new(), b"|".to_vec()));
    }

    /// Whatever comes, what goes out is chunks or the beginning of such.
    #[test]
    fn garbage_never_gets_into_the_framing(
        input in prop::collection::vec(prop::sample::select(b"012aF;\r\nX: ".to_vec()), 0..60),
        piece in 1usize..10,
    ) {
        let content = response(ReceivedFraming::Chunked, true);
        if let Ok(sent) = passed(content, &input, &[piece], false) {
            let bar = sent.iter().position(|&byte| byte == b'|').unwrap();
            let mut decoder = BodyDecoder::new(Framing::Chunked, &BodyLimits::default()).unwrap();
            let mut rest = &sent[..bar];
            while let Step::Data { consumed, .. } = decoder.decode(rest).unwrap() {
                rest = &rest[consumed..];
            }
        }
    }
}
