//! Bodies, whole and in pieces.

use super::*;
use proptest::prelude::*;

const LIMITS: BodyLimits = BodyLimits {
    body_bytes: 100,
    extension_bytes: 20,
    trailer_bytes: 40,
    trailer_count: 3,
};

/// What becomes of a body that arrives in pieces: its content, whether it ended, and how many
/// bytes of all of them belong to it.
fn decode<'a>(
    framing: Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, bool, usize), BodyError> {
    let mut decoder = BodyDecoder::new(framing, &LIMITS)?;
    let (mut content, mut total) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece;
        loop {
            let consumed = match decoder.decode(rest)? {
                Step::Data { data, consumed } => {
                    assert!(!data.is_empty());
                    assert!(rest[..consumed].ends_with(data));
                    content.extend_from_slice(data);
                    consumed
                }
                Step::More { consumed } => {
                    assert_eq!(consumed, rest.len());
                    total += consumed;
                    break;
                }
                Step::End { consumed } => {
                    assert!(decoder.is_done());
                    return Ok((content, true, total + consumed));
                }
            };
            rest = &rest[consumed..];
            total += consumed;
        }
    }
    assert_eq!(
        decoder
            .decode(b"")
            .is_ok_and(|step| matches!(step, Step::End { .. })),
        decoder.is_done()
    );
    Ok((content, decoder.is_done(), total))
}

/// A chunked body, then the beginning of another request.
#[track_caller]
fn check(body: &str, expect: &str) {
    let input = format!("{body}GET / HTTP/1.1\r\n");
    let expect = Ok((expect.as_bytes().to_vec(), true, body.len()));
    assert_eq!(
        decode(Framing::Chunked, [input.as_bytes()]),
        expect,
        "{body:?}"
    );
    assert_eq!(
        decode(Framing::Chunked, input.as_bytes().chunks(1)),
        expect,
        "{body:?} bytewise"
    );
}

#[track_caller]
fn check_error(body: &str, expect: BodyError) {
    assert_eq!(
        decode(Framing::Chunked, [body.as_bytes()]),
        Err(expect),
        "{body:?}"
    );
    assert_eq!(
        decode(Framing::Chunked, body.as_bytes().chunks(1)),
        Err(expect),
        "{body:?} bytewise"
    );
}

#[test]
fn no_body() {
    assert_eq!(decode(Framing::None, [&b"GET"[..]]), Ok((vec![], true, 0)));
    assert_eq!(
        decode(Framing::Length(0), [&b"GET"[..]]),
        Ok((vec![], true, 0))
    );
}

#[test]
fn sized_bodies() {
    let all = b"hello, GET".as_slice();
    assert_eq!(
        decode(Framing::Length(5), [all]),
        Ok((b"hello".to_vec(), true, 5))
    );
    assert_eq!(
        decode(Framing::Length(5), all.chunks(2)),
        Ok((b"hello".to_vec(), true, 5))
    );
    assert_eq!(
        decode(Framing::Length(11), [all]),
        Ok((all.to_vec(), false, 10))
    );
    assert_eq!(
        decode(Framing::Length(101), [all]),
        Err(BodyError::TooLarge)
    );
    let mut decoder = BodyDecoder::new(Framing::Length(5), &LIMITS).unwrap();
    decoder.decode(b"he").unwrap();
    assert_eq!(decoder.expected_bytes(), 3);
    assert_eq!(decoder.remaining_bytes(), Some(3));
    let mut decoder = BodyDecoder::new(Framing::Chunked, &LIMITS).unwrap();
    decoder.decode(b"5\r\nhe").unwrap();
    assert_eq!(decoder.expected_bytes(), 3);
    assert_eq!(decoder.remaining_bytes(), None, "more chunks may come");
}

#[test]
fn chunked_bodies() {
    check("0\r\n\r\n", "");
    check("5\r\nhello\r\n0\r\n\r\n", "hello");
    check(
        "5\r\nhello\r\n2\r\n, \r\n05\r\nworld\r\n000\r\n\r\n",
        "hello, world",
    );
    check(
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        "01234567890123456789",
    );
    check("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n");
}

#[test]
fn extensions_are_skipped() {
    check("1;a=b\r\nx\r\n0;c\r\n\r\n", "x");
    check("1 ;a\r\nx\r\n0\r\n\r\n", "x");
    check("1;a=\"1;\\\"\"\r\nx\r\n0\r\n\r\n", "x");
    check_error("1;a\nb\r\nx\r\n0\r\n\r\n", BodyError::LineEnd);
    check_error("1;a\rb\r\nx\r\n0\r\n\r\n", BodyError::LineEnd);
    check_error("1;a\0\r\nx\r\n0\r\n\r\n", BodyError::Extension);
    check_error("1 \r\nx\r\n0\r\n\r\n", BodyError::ChunkSize);
    check_error("1 2\r\nx\r\n0\r\n\r\n", BodyError::ChunkSize);
}

#[test]
fn extensions_are_bounded_in_sum() {
    check("1;23456789\r\nx\r\n1;23456789\r\nx\r\n0\r\n\r\n", "xx");
    check_error("1;234567890123456789012\r\n", BodyError::ExtensionsTooLarge);
    check_error(
        "1;234567890\r\nx\r\n1;2345678901\r\n",
        BodyError::ExtensionsTooLarge,
    );
    check_error("1                     ;\r\n", BodyError::ExtensionsTooLarge);
}

#[test]
fn sizes_are_hexadecimal_and_fit() {
    for size in [
        "",
        "x",
        "-1",
        "+1",
        "0x1",
        " 1",
        "1x",
        "1,",
        "\u{663}",
        "00000000000000001",
    ] {
        check_error(&format!("{size}\r\nx\r\n0\r\n\r\n"), BodyError::ChunkSize);
    }
    check("0000000000000001\r\nx\r\n0\r\n\r\n", "x");
    check_error("ffffffffffffffff\r\n", BodyError::TooLarge);
    check_error("1ffffffffffffffff\r\n", BodyError::ChunkSize);
}

#[test]
fn line_ends_are_strict() {
    check_error("1\nx\r\n0\r\n\r\n", BodyError::LineEnd);
    check_error("1\rx\r\n0\r\n\r\n", BodyError::LineEnd);
    check_error("1\r\nx\n0\r\n\r\n", BodyError::ChunkEnd);
    check_error("1\r\nxy\r\n0\r\n\r\n", BodyError::ChunkEnd);
    check_error("1\r\nx\r0\r\n\r\n", BodyError::ChunkEnd);
    check_error("0\r\n\n", BodyError::LineEnd);
    check_error("0\r\n\rx", BodyError::LineEnd);
    check_error("0\n\r\n", BodyError::LineEnd);
}

#[test]
fn content_is_bounded_in_sum() {
    let fifty = "x".repeat(50);
    let chunk = format!("32\r\n{fifty}\r\n");
    check(&format!("{chunk}{chunk}0\r\n\r\n"), &fifty.repeat(2));
    check_error(&format!("{chunk}{chunk}1\r\n"), BodyError::TooLarge);
    check_error("65\r\n", BodyError::TooLarge);
}

#[test]
fn trailers_are_checked_and_dropped() {
    check("0\r\nA: b\r\n\r\n", "");
    check("1\r\nx\r\n0\r\nA:\r\nB: \tc d\r\n\r\n", "x");
    check("0\r\nContent-Length: 5\r\n\r\n", "");
    for trailer in [": b", "A : b", " A: b", "A", "A: \0", "A: b\r\n c: d", "\0"] {
        check_error(&format!("0\r\n{trailer}\r\n\r\n"), BodyError::Trailer);
    }
    check_error("0\r\nA: b\n\r\n", BodyError::LineEnd);
    check_error("0\r\nA: b\rc\r\n\r\n", BodyError::LineEnd);
}

#[test]
fn trailers_are_bounded() {
    check("0\r\nA:b\r\nA:b\r\nA:b\r\n\r\n", "");
    check_error(
        "0\r\nA:b\r\nA:b\r\nA:b\r\nA:b\r\n\r\n",
        BodyError::TrailersTooLarge,
    );
    check(&format!("0\r\nA:{}\r\n\r\n", "b".repeat(36)), "");
    check_error(
        &format!("0\r\nA:{}\r\n\r\n", "b".repeat(37)),
        BodyError::TrailersTooLarge,
    );
}

#[test]
fn after_the_end_nothing_is_consumed() {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &LIMITS).unwrap();
    assert_eq!(
        decoder.decode(b"0\r\n\r\nGET"),
        Ok(Step::End { consumed: 5 })
    );
    assert_eq!(decoder.decode(b"GET"), Ok(Step::End { consumed: 0 }));
}

#[test]
fn every_byte_at_every_place_of_the_framing_is_handled() {
    let body = b"3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for at in 0..body.len() {
        for byte in 0..=255u8 {
            let mut body = body.to_vec();
            body[at] = byte;
            let whole = decode(Framing::Chunked, [&body[..]]);
            assert_eq!(decode(Framing::Chunked, body.chunks(1)), whole, "{body:?}");
            let in_content = (7..10).contains(&at);
            if let Ok((_, true, consumed)) = whole
                && !in_content
            {
                let bare = (0..consumed).any(|at| body[at] == b'\n' && body[at - 1] != b'\r');
                assert!(!bare && !body[..consumed].contains(&0), "{body:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn decoding_is_the_inverse_of_encoding(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5),
        rest in any::<Vec<u8>>(),
        cuts in prop::collection::vec(1usize..9, 1..9),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            push_chunk_size(&mut body, chunk.len() as u64);
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(LAST_CHUNK);
        let body_bytes = body.len();
        body.extend_from_slice(&rest);
        let mut left = &body[..];
        let mut cut = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let bytes = (*cut.next()?).min(left.len());
            let (piece, rest) = left.split_at(bytes);
            left = rest;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(decode(Framing::Chunked, pieces), Ok((chunks.concat(), true, body_bytes)));
    }

    #[test]
    fn any_chopping_gives_the_same(
        body in "([0-3][;a ]{0,2}\r\n[x\r\n]{0,3}\r\n){0,3}0\r\n([AB]: ?[ab]{0,2}\r\n){0,2}\r?\n?",
        cut in 0usize..40,
    ) {
        let (left, right) = body.as_bytes().split_at(cut.min(body.len()));
        let whole = decode(Framing::Chunked, [body.as_bytes()]);
        prop_assert_eq!(decode(Framing::Chunked, [left, right]), whole.clone());
        prop_assert_eq!(decode(Framing::Chunked, body.as_bytes().chunks(1)), whole);
    }
}

#[test]
fn chunk_sizes_are_written_in_hexadecimal() {
    for bytes in [1, 15, 16, 255, 256, 0xabc_def, u64::MAX] {
        let mut out = Vec::new();
        push_chunk_size(&mut out, bytes);
        assert_eq!(out, format!("{bytes:x}\r\n").as_bytes());
    }
}

#[test]
fn trailers_are_kept_where_they_are_wanted() {
    let body = b"1\r\nx\r\n0\r\nDigest: a b\r\nContent-Length: 5\r\nX-Sum:\t1\r\n\r\nnext";
    for cut in 1..body.len() {
        let limits = BodyLimits::default();
        let decoder = BodyDecoder::new(Framing::Chunked, &limits).unwrap();
        let mut decoder = decoder.keeping_trailers();
        for part in [&body[..cut], &body[cut..]] {
            let mut rest = part;
            while !rest.is_empty() && !decoder.is_done() {
                let (Step::Data { consumed, .. }
                | Step::More { consumed }
                | Step::End { consumed }) = decoder.decode(rest).unwrap();
                rest = &rest[consumed..];
            }
        }
        let kept: Vec<_> = decoder.trailers().collect();
        assert_eq!(kept, [&b"Digest: a b\r\n"[..], b"X-Sum:\t1\r\n"], "{cut}");
    }
}
