//! `multipart/byteranges` (RFC 9110 §14.6): several parts of a representation in one 206.
//!
//! Only what stands between the parts is written here; the parts themselves come from wherever the
//! representation lies. The length of it all is known before the first byte is sent, so the
//! response needs no chunks, and the bytes of a file can go past this program.
//!
//! Not for a representation with a content coding: RFC 9110 doesn't say whether `Content-Encoding`
//! then speaks of the parts or of what they are parts of, and clients would decode the multipart
//! body itself. Single ranges of it are no problem: `max_ranges` of
//! [`range::resolve`](crate::range::resolve) is 1 there.

use crate::field::is_value_byte;
use crate::range::ByteRange;
use crate::response::{InvalidHeader, push_decimal};

/// What divides the parts (RFC 2046 §5.1.1), as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary([u8; Boundary::BYTES]);

impl Boundary {
    /// Hexadecimal digits of 128 bits.
    const BYTES: usize = 32;

    /// A boundary made of `bits`.
    ///
    /// They have to be as good as random to whoever can write the files: then a boundary needn't
    /// be searched for in the parts, because nobody can have put it there. A random key and a
    /// counter, hashed together, will do.
    pub fn new(bits: u128) -> Boundary {
        let mut digits = [0; Boundary::BYTES];
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(bits >> (4 * index) & 15) as usize];
        }
        Boundary(digits)
    }

    /// The boundary, without the hyphens before and behind it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A multipart body of parts of one representation.
///
/// ```
/// use ringway_http::multipart::{Boundary, Multipart};
/// use ringway_http::range::ByteRange;
///
/// let file = b"hello world";
/// let parts = [ByteRange { first: 6, last: 10 }, ByteRange { first: 0, last: 0 }];
/// let multipart = Multipart::new(Boundary::new(7), b"text/plain", file.len() as u64)?;
/// let length = multipart.body_bytes(&parts);
/// let mut body = Vec::new();
/// for part in parts {
///     multipart.push_part_head(&mut body, part);
///     body.extend_from_slice(&file[part.first as usize..=part.last as usize]);
/// }
/// multipart.push_end(&mut body);
/// assert_eq!(length, Some(body.len() as u64));
/// # Ok::<(), ringway_http::response::InvalidHeader>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Multipart<'a> {
    boundary: Boundary,
    part_type: &'a [u8],
    length: u64,
}

/// Before the boundary. RFC 2046 §5.1.1: the end of the line before belongs to the delimiter, and
/// what comes before the first one, here nothing, is ignored. So all delimiters are alike.
const DELIMITER: &[u8] = b"\r\n--";
/// Behind the last boundary.
const LAST: &[u8] = b"--\r\n";
const CONTENT_TYPE: &[u8] = b"\r\nContent-Type: ";
const CONTENT_RANGE: &[u8] = b"\r\nContent-Range: bytes ";
const MEDIA_TYPE: &[u8; 31] = b"multipart/byteranges; boundary=";

impl<'a> Multipart<'a> {
    /// Parts of a representation of `length` bytes that, whole, would be sent as `part_type`.
    ///
    /// # Errors
    ///
    /// `part_type` has a control character.
    pub fn new(
        boundary: Boundary,
        part_type: &'a [u8],
        length: u64,
    ) -> Result<Multipart<'a>, InvalidHeader> {
        if !part_type.iter().all(|&byte| is_value_byte(byte)) {
            return Err(InvalidHeader);
        }
        Ok(Multipart {
            boundary,
            part_type,
            length,
        })
    }

    /// The `Content-Type` of the response. It has no `Content-Range` (RFC 9110 §15.3.7.2).
    pub fn content_type(&self) -> [u8; MEDIA_TYPE.len() + Boundary::BYTES] {
        let mut value = [0; MEDIA_TYPE.len() + Boundary::BYTES];
        let (lead, boundary) = value.split_at_mut(MEDIA_TYPE.len());
        lead.copy_from_slice(MEDIA_TYPE);
        boundary.copy_from_slice(self.boundary.as_bytes());
        value
    }

    /// The length of the whole body, to the byte; `None` if 64 bits can't hold it, which no file
    /// comes near.
    pub fn body_bytes(&self, parts: &[ByteRange]) -> Option<u64> {
        let end = DELIMITER.len() + Boundary::BYTES + LAST.len();
        parts.iter().try_fold(end as u64, |bytes, part| {
            bytes
                .checked_add(self.head_bytes(*part))?
                .checked_add(part.last - part.first)?
                .checked_add(1)
        })
    }

    fn head_bytes(&self, part: ByteRange) -> u64 {
        let texts = DELIMITER.len() + Boundary::BYTES + CONTENT_TYPE.len() + self.part_type.len();
        let signs = CONTENT_RANGE.len() + "-/\r\n\r\n".len();
        let numbers = digits(part.first) + digits(part.last) + digits(self.length);
        (texts + signs) as u64 + u64::from(numbers)
    }

    /// Appends what goes before a part's bytes.
    pub fn push_part_head(&self, out: &mut Vec<u8>, part: ByteRange) {
        out.extend_from_slice(DELIMITER);
        out.extend_from_slice(self.boundary.as_bytes());
        // RFC 9110 §15.3.7.2: what the whole would have, in each part.
        out.extend_from_slice(CONTENT_TYPE);
        out.extend_from_slice(self.part_type);
        out.extend_from_slice(CONTENT_RANGE);
        push_decimal(out, part.first);
        out.push(b'-');
        push_decimal(out, part.last);
        out.push(b'/');
        push_decimal(out, self.length);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends what goes behind the last part's bytes.
    pub fn push_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(DELIMITER);
        out.extend_from_slice(self.boundary.as_bytes());
        out.extend_from_slice(LAST);
    }
}

/// How many digits a number has.
fn digits(number: u64) -> u32 {
    number.checked_ilog10().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::{RangeAnswer, resolve};
    use proptest::prelude::*;

    /// The body that a server sends for `parts` of `whole`.
    fn emit(multipart: &Multipart<'_>, whole: &[u8], parts: &[ByteRange]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in parts {
            multipart.push_part_head(&mut body, *part);
            body.extend_from_slice(&whole[part.first as usize..=part.last as usize]);
        }
        multipart.push_end(&mut body);
        assert_eq!(multipart.body_bytes(parts), Some(body.len() as u64));
        body
    }

    /// Reads a body by the rules of RFC 2046, written down a second time: the type, the range and
    /// the bytes of each part.
    fn read(content_type: &[u8], body: &[u8]) -> Vec<(String, String, Vec<u8>)> {
        let content_type = str::from_utf8(content_type).unwrap();
        let boundary = content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        assert!((1..=70).contains(&boundary.len()));
        let delimiter = format!("\r\n--{boundary}");
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some(at) = find(rest, delimiter.as_bytes()) {
            pieces.push(&rest[..at]);
            rest = &rest[at + delimiter.len()..];
        }
        assert_eq!(rest, b"--\r\n", "behind the last delimiter");
        assert_eq!(pieces.remove(0), b"", "before the first");
        let part = |piece: &&[u8]| {
            let (head, content) = piece.split_at(find(piece, b"\r\n\r\n").unwrap());
            let head = str::from_utf8(head).unwrap();
            let lines: Vec<&str> = head.strip_prefix("\r\n").unwrap().split("\r\n").collect();
            let [one, other] = lines[..] else {
                panic!("{lines:?}")
            };
            (
                one.strip_prefix("Content-Type: ").unwrap().to_owned(),
                other
                    .strip_prefix("Content-Range: bytes ")
                    .unwrap()
                    .to_owned(),
                content[4..].to_vec(),
            )
        };
        pieces.iter().map(part).collect()
    }

    fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
        bytes.windows(part.len()).position(|window| window == part)
    }

    #[test]
    fn to_the_byte() {
        let boundary = Boundary::new(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef);
        let multipart = Multipart::new(boundary, b"text/plain; charset=utf-8", 10).unwrap();
        let parts = [(0, 1), (9, 9)].map(|(first, last)| ByteRange { first, last });
        let body = emit(&multipart, b"0123456789", &parts);
        let expect = "\r\n--fedcba98765432100123456789abcdef\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
            \r\n--fedcba98765432100123456789abcdef\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 9-9/10\r\n\r\n9\
            \r\n--fedcba98765432100123456789abcdef--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expect);
        assert_eq!(
            &multipart.content_type()[..],
            b"multipart/byteranges; boundary=fedcba98765432100123456789abcdef"
        );
    }

    #[test]
    fn boundaries_differ_where_their_bits_do() {
        let one = Boundary::new(0);
        assert_eq!(one.as_bytes(), [b'0'; 32]);
        for bit in 0..128 {
            assert_ne!(Boundary::new(1 << bit), one);
        }
    }

    #[test]
    fn a_type_that_ends_its_line_is_refused() {
        for bad in ["a\r\nb", "a\nb", "a\0", "\x7f"] {
            let made = Multipart::new(Boundary::new(0), bad.as_bytes(), 1);
            assert!(made.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit() {
        let multipart = Multipart::new(Boundary::new(0), b"a/b", u64::MAX).unwrap();
        let whole = ByteRange {
            first: 0,
            last: u64::MAX - 1,
        };
        assert_eq!(multipart.body_bytes(&[whole]), None);
        let half = ByteRange {
            first: u64::MAX / 2,
            ..whole
        };
        assert!(multipart.body_bytes(&[half]).is_some());
        assert_eq!(multipart.body_bytes(&[half, half]), None);
    }

    #[test]
    fn digits_are_counted() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(digits(number) as usize, number.to_string().len());
        }
    }

    proptest! {
        #[test]
        fn reading_is_the_inverse_of_writing(
            whole in prop::collection::vec(any::<u8>(), 1..300),
            ranges in prop::collection::vec((0..300u64, 0..50u64), 1..6),
            bits in any::<u128>(),
        ) {
            let length = whole.len() as u64;
            let field: Vec<String> =
                ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let answer = resolve(format!("bytes={}", field.join(",")).as_bytes(), length, 6);
            let RangeAnswer::Parts(parts) = answer else { return Ok(()) };
            let multipart = Multipart::new(Boundary::new(bits), b"a/b", length).unwrap();
            let body = emit(&multipart, &whole, &parts);
            let expect: Vec<_> = parts.iter().map(|part| {
                let bytes = whole[part.first as usize..=part.last as usize].to_vec();
                ("a/b".to_owned(), format!("{}-{}/{length}", part.first, part.last), bytes)
            }).collect();
            prop_assert_eq!(read(&multipart.content_type(), &body), expect);
        }
    }
}
