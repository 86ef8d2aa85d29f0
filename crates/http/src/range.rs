//! `Range` (RFC 9110 §14.2): which part of a representation of known length is wanted.
//!
//! A server may ignore any range (§14.2), and that is what happens to whatever isn't exactly one
//! sound range of bytes.

use crate::field::{decimal, elements};

/// More ranges than this in one field are an attack (CVE-2011-3192), not a wish.
const MAX_RANGES: usize = 16;

/// What a `Range` field means for a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeAnswer {
    /// Ignore it: the whole representation, 200.
    Whole,
    /// 206 with these bytes.
    Part(ByteRange),
    /// 416 with `Content-Range: bytes */length`.
    Unsatisfiable,
}

/// A part of a representation, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, included.
    pub last: u64,
}

impl ByteRange {
    /// Bytes in the part, at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }
}

/// A range as written (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last` or `first-`
    From(u64, Option<u64>),
    /// `-count`
    Suffix(u64),
}

/// Applies a `Range` field to a representation of `length` bytes. Whether `If-Range` lets it apply
/// at all is for [`range_applies`](crate::condition::range_applies) to say.
pub fn resolve(value: &[u8], length: u64) -> RangeAnswer {
    // §14.1: range units are compared without regard to case; unknown ones are ignored.
    let Some((unit, set)) = value.split_at_checked(b"bytes=".len()) else {
        return RangeAnswer::Whole;
    };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return RangeAnswer::Whole;
    }
    let mut only = None;
    // §5.6.1.2: empty elements of a list don't count, but they do cost.
    for (index, element) in elements(set).enumerate() {
        if index == MAX_RANGES {
            return RangeAnswer::Whole;
        }
        if element.is_empty() {
            continue;
        }
        let Some(spec) = Spec::parse(element) else {
            return RangeAnswer::Whole;
        };
        if only.replace(spec).is_some() {
            return RangeAnswer::Whole; // several parts: not offered
        }
    }
    only.map_or(RangeAnswer::Whole, |spec| spec.resolve(length))
}

impl Spec {
    fn parse(element: &[u8]) -> Option<Spec> {
        let dash = memchr::memchr(b'-', element)?;
        let (first, last) = (&element[..dash], &element[dash + 1..]);
        if first.is_empty() {
            return position(last).map(Spec::Suffix);
        }
        let first = position(first)?;
        if last.is_empty() {
            return Some(Spec::From(first, None));
        }
        let last = position(last)?;
        // §14.1.1: an int-range whose last position is less than its first is invalid.
        (first <= last).then_some(Spec::From(first, Some(last)))
    }

    fn resolve(self, length: u64) -> RangeAnswer {
        match self {
            Spec::From(first, _) if first >= length => RangeAnswer::Unsatisfiable,
            Spec::From(first, last) => {
                let last = last.map_or(length - 1, |last| last.min(length - 1));
                RangeAnswer::Part(ByteRange { first, last })
            }
            Spec::Suffix(0) => RangeAnswer::Unsatisfiable,
            // §14.1.2: satisfiable, but no Content-Range can say so of nothing.
            Spec::Suffix(_) if length == 0 => RangeAnswer::Whole,
            Spec::Suffix(count) => RangeAnswer::Part(ByteRange {
                first: length.saturating_sub(count),
                last: length - 1,
            }),
        }
    }
}

/// A position too large for 64 bits lies behind any end, as the largest one does.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal(digits).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RangeAnswer::{Unsatisfiable, Whole};

    #[track_caller]
    fn check(value: &str, length: u64, expect: RangeAnswer) {
        assert_eq!(
            resolve(value.as_bytes(), length),
            expect,
            "{value:?} of {length}"
        );
    }

    fn part(first: u64, last: u64) -> RangeAnswer {
        RangeAnswer::Part(ByteRange { first, last })
    }

    #[test]
    fn closed_ranges() {
        check("bytes=0-0", 10, part(0, 0));
        check("bytes=2-5", 10, part(2, 5));
        check("bytes=9-9", 10, part(9, 9));
        check("bytes=2-500", 10, part(2, 9));
        check("BYTES=2-5", 10, part(2, 5));
        check("bytes= 2-5 ", 10, part(2, 5));
    }

    #[test]
    fn open_ranges() {
        check("bytes=0-", 10, part(0, 9));
        check("bytes=9-", 10, part(9, 9));
        check("bytes=10-", 10, Unsatisfiable);
        check("bytes=0-", 0, Unsatisfiable);
    }

    #[test]
    fn suffixes() {
        check("bytes=-1", 10, part(9, 9));
        check("bytes=-10", 10, part(0, 9));
        check("bytes=-11", 10, part(0, 9));
        check("bytes=-0", 10, Unsatisfiable);
        check("bytes=-0", 0, Unsatisfiable);
        check("bytes=-5", 0, Whole);
    }

    #[test]
    fn unsatisfiable() {
        check("bytes=10-10", 10, Unsatisfiable);
        check("bytes=10-20", 10, Unsatisfiable);
        check("bytes=0-0", 0, Unsatisfiable);
    }

    #[test]
    fn numbers_that_do_not_fit() {
        let huge = "99999999999999999999999999";
        check(&format!("bytes={huge}-"), u64::MAX, Unsatisfiable);
        check(&format!("bytes=1-{huge}"), 10, part(1, 9));
        check(&format!("bytes=-{huge}"), 10, part(0, 9));
        check(
            "bytes=18446744073709551614-18446744073709551615",
            u64::MAX,
            part(u64::MAX - 1, u64::MAX - 1),
        );
    }

    #[test]
    fn malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes =1-2",
            "items=1-2",
            "bytes:1-2",
            "bytes=0x1-2",
            "bytes=1-2;q=1",
        ] {
            check(value, 10, Whole);
        }
    }

    #[test]
    fn lists() {
        check("bytes=,2-5,,", 10, part(2, 5));
        check("bytes=0-1,3-4", 10, Whole);
        check("bytes=90-,91-", 10, Whole);
        check(&format!("bytes={}0-1", ",".repeat(100)), 10, Whole);
    }

    /// All ranges of one digit against all short lengths, by counting the bytes one by one.
    #[test]
    fn small_space_whole() {
        for length in 0..12u64 {
            for first in 0..10u64 {
                for last in first..10 {
                    let wanted = (0..length).filter(|at| (first..=last).contains(at));
                    let expect = match (wanted.clone().min(), wanted.max()) {
                        (Some(first), Some(last)) => part(first, last),
                        _ => Unsatisfiable,
                    };
                    check(&format!("bytes={first}-{last}"), length, expect);
                }
                let wanted = (0..length).rev().take(first as usize);
                let expect = match (wanted.clone().min(), wanted.max()) {
                    (Some(first), Some(last)) => part(first, last),
                    _ if first > 0 => Whole,
                    _ => Unsatisfiable,
                };
                check(&format!("bytes=-{first}"), length, expect);
            }
        }
    }
}
