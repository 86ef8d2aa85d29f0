//! `Range` (RFC 9110 §14.2): which parts of a representation of known length are wanted.
//!
//! A server may ignore any range (§14.2), and that is what happens to whatever isn't a sound set of
//! a bounded number of byte ranges. Parts never overlap, so all of them together are never more
//! than the representation: a request can't make the answer larger than the file by more than a
//! few lines a part. [`multipart`](crate::multipart) writes those.
//!
//! The length is that of the selected representation, as it is in its content coding if it has one.

use crate::field::{decimal, elements};

/// The most ranges that are answered in one response, unless somebody knows better.
///
/// Beyond it the field is ignored, which the client has to be prepared for. Readers of documents
/// ask for a dozen at once, and downloaders of differences for some dozens. Apache takes 200, nginx
/// any number; the attack of CVE-2011-3192 used 1,300. There the copies cost, which overlaps don't
/// make here, but each part is still a few calls to the kernel for as little as a byte.
pub const DEFAULT_MAX_RANGES: usize = 64;

/// Empty elements of a list that are put up with (RFC 9110 §5.6.1.2: a reasonable number).
const MAX_EMPTY_ELEMENTS: usize = 16;

/// What a `Range` field means for a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeAnswer {
    /// Ignore it: the whole representation, 200.
    Whole,
    /// 206 with these bytes.
    Part(ByteRange),
    /// 206 with these parts, in this order: at least two, of which no two overlap.
    Parts(Vec<ByteRange>),
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

/// Applies a `Range` field to a representation of `length` bytes. A set of more than `max_ranges`
/// ranges is ignored, so that 1 means single ranges only, and 0 none. Whether `If-Range` lets it
/// apply at all is for [`range_applies`](crate::condition::range_applies) to say.
///
/// Allocates for several ranges only. The field is walked twice at most, and no more than
/// `max_ranges` ranges are sorted.
pub fn resolve(value: &[u8], length: u64, max_ranges: usize) -> RangeAnswer {
    // §14.1: range units are compared without regard to case; unknown ones are ignored.
    let set = match value.split_at_checked(b"bytes=".len()) {
        Some((unit, set)) if unit.eq_ignore_ascii_case(b"bytes=") => set,
        _ => return RangeAnswer::Whole,
    };
    match parse(set, max_ranges) {
        None => RangeAnswer::Whole,
        // §14.1.2: a suffix of nothing can be satisfied, but no Content-Range can say so.
        Some(_) if length == 0 && has_suffix(set) => RangeAnswer::Whole,
        Some((spec, 1)) => spec
            .resolve(length)
            .map_or(RangeAnswer::Unsatisfiable, RangeAnswer::Part),
        Some(_) => several(set, length),
    }
}

/// Checks a whole set; its first range, and how many there are.
fn parse(set: &[u8], max_ranges: usize) -> Option<(Spec, usize)> {
    let (mut first, mut count, mut empty_count) = (None, 0, 0);
    for element in elements(set) {
        if element.is_empty() {
            empty_count += 1;
        } else {
            count += 1;
            first = first.or(Some(Spec::parse(element)?));
        }
        if count > max_ranges || empty_count > MAX_EMPTY_ELEMENTS {
            return None;
        }
    }
    Some((first?, count))
}

/// The ranges of a set that was checked.
fn specs(set: &[u8]) -> impl Iterator<Item = Spec> {
    elements(set).filter_map(Spec::parse)
}

fn has_suffix(set: &[u8]) -> bool {
    specs(set).any(|spec| matches!(spec, Spec::Suffix(1..)))
}

/// §15.3.7.2: ranges that can't be satisfied are left out, those that overlap become one. (Those
/// that only touch, or lie near each other, may be joined too; who asks for them apart wants them
/// apart.)
fn several(set: &[u8], length: u64) -> RangeAnswer {
    let mut parts: Vec<ByteRange> = specs(set).filter_map(|spec| spec.resolve(length)).collect();
    coalesce(&mut parts);
    match *parts {
        [] => RangeAnswer::Unsatisfiable,
        // §15.3.7.2: a single part that is left may be sent as if it alone had been asked for.
        [part] => RangeAnswer::Part(part),
        _ => RangeAnswer::Parts(parts),
    }
}

/// Joins what overlaps. §15.3.7.2: in the order in which they were asked for; a joined one stands
/// where the first of its ranges did.
fn coalesce(parts: &mut Vec<ByteRange>) {
    let mut sorted: Vec<(usize, ByteRange)> = parts.iter().copied().enumerate().collect();
    sorted.sort_unstable_by_key(|(_, part)| part.first);
    sorted.dedup_by(|(index, part), (kept_index, kept)| {
        let overlaps = part.first <= kept.last;
        if overlaps {
            kept.last = kept.last.max(part.last);
            *kept_index = (*kept_index).min(*index);
        }
        overlaps
    });
    sorted.sort_unstable_by_key(|(index, _)| *index);
    parts.clear();
    parts.extend(sorted.iter().map(|(_, part)| part));
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

    /// The bytes that there are of it, if any.
    fn resolve(self, length: u64) -> Option<ByteRange> {
        let last = length.checked_sub(1)?;
        match self {
            Spec::From(first, _) if first > last => None,
            Spec::From(first, end) => Some(ByteRange {
                first,
                last: end.map_or(last, |end| end.min(last)),
            }),
            Spec::Suffix(0) => None,
            Spec::Suffix(count) => Some(ByteRange {
                first: length.saturating_sub(count),
                last,
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
    use proptest::prelude::*;

    #[track_caller]
    fn check(value: &str, length: u64, expect: RangeAnswer) {
        assert_eq!(
            resolve(value.as_bytes(), length, 8),
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

    fn parts(parts: &[(u64, u64)]) -> RangeAnswer {
        let part = |&(first, last): &(u64, u64)| ByteRange { first, last };
        RangeAnswer::Parts(parts.iter().map(part).collect())
    }

    #[test]
    fn empty_elements_are_no_ranges() {
        check("bytes=,2-5,,", 10, part(2, 5));
        check("bytes=0-0, ,\t,4-4", 10, parts(&[(0, 0), (4, 4)]));
        check(&format!("bytes={}0-1", ",".repeat(16)), 10, part(0, 1));
        check(&format!("bytes={}0-1", ",".repeat(17)), 10, Whole);
    }

    #[test]
    fn several_keep_their_order() {
        check("bytes=0-1,3-4", 10, parts(&[(0, 1), (3, 4)]));
        check("bytes=3-4, 0-1", 10, parts(&[(3, 4), (0, 1)]));
        check("bytes=-1,0-0,5-5", 10, parts(&[(9, 9), (0, 0), (5, 5)]));
    }

    #[test]
    fn those_past_the_end_are_left_out() {
        check("bytes=10-,0-1,20-30,8-90", 10, parts(&[(0, 1), (8, 9)]));
        check("bytes=10-,8-8,-0", 10, part(8, 8));
        check("bytes=90-,91-", 10, Unsatisfiable);
        check("bytes=0-,1-2", 0, Unsatisfiable);
        check("bytes=0-,-1", 0, Whole);
    }

    #[test]
    fn overlapping_ones_become_one() {
        check("bytes=0-5,3-8", 10, part(0, 8));
        check("bytes=3-8,0-3", 10, part(0, 8));
        check("bytes=0-,0-,0-,0-", 10, part(0, 9));
        check("bytes=0-9,2-3,4-5", 10, part(0, 9));
        check("bytes=5-6,0-1,1-5", 10, part(0, 6));
        check(
            "bytes=8-9,0-1,5-6,1-2",
            10,
            parts(&[(8, 9), (0, 2), (5, 6)]),
        );
        // Those that touch are asked for apart.
        check("bytes=0-4,5-9", 10, parts(&[(0, 4), (5, 9)]));
    }

    #[test]
    fn too_many_are_ignored() {
        let ranges = |count: usize| format!("bytes={}0-0", "0-0,".repeat(count - 1));
        check(&ranges(8), 10, part(0, 0));
        check(&ranges(9), 10, Whole);
        check(&ranges(10_000), 10, Whole);
        // However few of them there are in the file.
        check("bytes=0-0,20-,20-,20-,20-,20-,20-,20-,20-", 10, Whole);
        assert_eq!(resolve(b"bytes=0-0", 10, 1), part(0, 0));
        assert_eq!(resolve(b"bytes=0-0,2-2", 10, 1), Whole);
        assert_eq!(resolve(b"bytes=0-0", 10, 0), Whole);
    }

    #[test]
    fn one_bad_range_spoils_the_set() {
        for bad in ["5-2", "x", "-", "1-2-3", "0-0 1-1", "0-0;1-1"] {
            check(&format!("bytes=0-0,{bad},4-4"), 10, Whole);
            check(&format!("bytes=20-,{bad}"), 10, Whole);
        }
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

    proptest! {
        /// What any set of ranges gives, byte by byte.
        #[test]
        fn sets_are_the_bytes_that_were_asked_for(
            ranges in prop::collection::vec((0..40u64, 0..40u64), 1..8),
            length in 1..30u64,
        ) {
            let field: Vec<String> =
                ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let answer = resolve(format!("bytes={}", field.join(",")).as_bytes(), length, 8);
            let wanted = |at: &u64| ranges.iter().any(|(first, more)| (*first..=first + more).contains(at));
            let found = match &answer {
                RangeAnswer::Parts(parts) => parts.clone(),
                RangeAnswer::Part(part) => vec![*part],
                Unsatisfiable => Vec::new(),
                Whole => panic!("{field:?} is sound"),
            };
            let mut bytes: Vec<u64> = found.iter().flat_map(|part| part.first..=part.last).collect();
            bytes.sort_unstable();
            // Each once, so no two parts overlap.
            prop_assert_eq!(bytes, (0..length).filter(wanted).collect::<Vec<_>>());
            // Each part stands where the first of its ranges did.
            let place = |part: &ByteRange| ranges.iter().position(|(first, _)| (part.first..=part.last).contains(first));
            prop_assert!(found.iter().map(place).is_sorted());
        }
    }
}
