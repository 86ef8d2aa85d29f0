//! Bodies: the cut of the input doesn't matter, the content is what a second decoder finds, and
//! what is behind the end is left alone.

use ringway_http::body::{BodyDecoder, BodyError, BodyLimits, LAST_CHUNK, Step, push_chunk_size};
use ringway_http::head::Framing;

const LIMITS: BodyLimits = BodyLimits {
    body_bytes: 4096,
    extension_bytes: 64,
    trailer_bytes: 256,
    trailer_count: 8,
};

/// Content, whether it ended, and the bytes that belong to it.
type Outcome = Result<(Vec<u8>, bool, usize), BodyError>;

/// Fails when the decoder breaks a promise on `data`: its first byte is the length of a sized
/// body, or zero for a chunked one.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let framing = match kind {
        0 | b'0' => Framing::Chunked,
        length => Framing::Length(u64::from(length)),
    };
    let whole = feed(framing, [data]);
    for bytes in [1, 2, 3, 7] {
        assert_eq!(feed(framing, data.chunks(bytes)), whole);
    }
    match (framing, whole) {
        (Framing::Length(length), Ok((content, ended, bytes))) => {
            let expect = &data[..data.len().min(length as usize)];
            assert_eq!(
                (&content[..], ended, bytes),
                (expect, expect.len() as u64 == length, expect.len())
            );
        }
        (Framing::Chunked, Ok((content, true, bytes))) => {
            assert_eq!(chunks(&data[..bytes]), content);
            check_written_anew(&content, &data[bytes..]);
        }
        (Framing::Chunked, Ok((_, false, bytes))) => assert_eq!(bytes, data.len()),
        _ => {}
    }
}

fn feed<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = BodyDecoder::new(framing, &LIMITS)?;
    let (mut content, mut total) = (Vec::new(), 0);
    for mut rest in pieces {
        loop {
            let consumed = match decoder.decode(rest)? {
                Step::Data { data, consumed } => {
                    assert!(!data.is_empty() && rest[..consumed].ends_with(data));
                    content.extend_from_slice(data);
                    consumed
                }
                Step::More { consumed } => {
                    assert_eq!(consumed, rest.len());
                    total += consumed;
                    break;
                }
                Step::End { consumed } => return Ok((content, true, total + consumed)),
            };
            total += consumed;
            rest = &rest[consumed..];
        }
    }
    Ok((content, decoder.is_done(), total))
}

/// A second decoder, for bodies known to be sound: line by line, with no state.
fn chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let (_, size) = match httparse::parse_chunk_size(rest).expect("is sound") {
            httparse::Status::Complete(found) => found,
            httparse::Status::Partial => panic!("is whole"),
        };
        let line = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .expect("has a line")
            + 1;
        rest = &rest[line..];
        if size == 0 {
            assert!(rest.ends_with(b"\r\n"));
            return content;
        }
        content.extend_from_slice(&rest[..size as usize]);
        rest = rest[size as usize..]
            .strip_prefix(b"\r\n")
            .expect("ends with CRLF");
    }
}

/// Encoding the content in chunks of another size gives the same content.
fn check_written_anew(content: &[u8], next: &[u8]) {
    let mut body = Vec::new();
    for chunk in content.chunks(17) {
        push_chunk_size(&mut body, chunk.len() as u64);
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(LAST_CHUNK);
    let bytes = body.len();
    body.extend_from_slice(next);
    assert_eq!(
        feed(Framing::Chunked, [&body[..]]),
        Ok((content.to_vec(), true, bytes))
    );
}
