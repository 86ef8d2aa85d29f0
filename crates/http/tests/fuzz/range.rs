//! Ranges: each byte that is asked for comes once, and no other; a multipart body is as long as it
//! was said to be.

use ringway_http::multipart::{Boundary, Multipart};
use ringway_http::range::{ByteRange, RangeAnswer, resolve};

const MAX_RANGES: usize = 16;

/// Fails when a promise is broken on `data`: a length, and a field's value.
pub(crate) fn run(data: &[u8]) {
    let Some((&length, value)) = data.split_first() else {
        return;
    };
    let length = u64::from(length);
    check(value, length, &resolve(value, length, MAX_RANGES));
    // So large that every sum is near its bound.
    for length in [u64::MAX, u64::MAX / 2, 1 << 40] {
        check_parts(length, &resolve(value, length, MAX_RANGES));
    }
    assert_eq!(resolve(value, length, 0), RangeAnswer::Whole);
    let single = resolve(value, length, 1);
    assert!(!matches!(single, RangeAnswer::Parts(_)));
}

fn parts(answer: &RangeAnswer) -> Vec<ByteRange> {
    match answer {
        RangeAnswer::Whole | RangeAnswer::Unsatisfiable => Vec::new(),
        RangeAnswer::Part(part) => vec![*part],
        RangeAnswer::Parts(parts) => parts.clone(),
    }
}

/// Compares with what a simple reader of the field makes of it, byte by byte.
fn check(value: &[u8], length: u64, answer: &RangeAnswer) {
    check_parts(length, answer);
    let Some(wanted) = wanted(value, length) else {
        assert_eq!(*answer, RangeAnswer::Whole, "not to be understood");
        return;
    };
    if *answer == RangeAnswer::Whole {
        // It may be ignored, for good reasons.
        let many = value.iter().filter(|&&byte| byte == b',').count() >= MAX_RANGES;
        assert!(many || length == 0, "ignored without a reason");
        return;
    }
    let parts = parts(answer);
    for at in 0..length {
        let count = parts
            .iter()
            .filter(|part| (part.first..=part.last).contains(&at))
            .count();
        assert_eq!(count, usize::from(wanted[at as usize]), "byte {at}");
    }
    assert_eq!(
        *answer == RangeAnswer::Unsatisfiable,
        !wanted.contains(&true)
    );
}

/// Which bytes are asked for; `None` for what isn't a set of byte ranges.
fn wanted(value: &[u8], length: u64) -> Option<Vec<bool>> {
    let value = str::from_utf8(value).ok()?;
    let (unit, set) = value.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut wanted = vec![false; length as usize];
    let mut any = false;
    for element in set
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
    {
        if element.is_empty() {
            continue;
        }
        any = true;
        let (first, last) = element.split_once('-')?;
        let number = |digits: &str| -> Option<u128> {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // What doesn't fit 64 bits is as large as the largest that does.
            Some(
                digits
                    .parse()
                    .unwrap_or(u128::MAX)
                    .min(u128::from(u64::MAX)),
            )
        };
        let (from, to) = match (first, last) {
            ("", suffix) => (
                u128::from(length).saturating_sub(number(suffix)?),
                u128::MAX,
            ),
            (first, "") => (number(first)?, u128::MAX),
            (first, last) => (number(first)?, number(last)?),
        };
        if from > to {
            return None;
        }
        for (at, wanted) in wanted.iter_mut().enumerate() {
            *wanted |= (from..=to).contains(&(at as u128));
        }
    }
    any.then_some(wanted)
}

/// What holds for every answer, whatever was asked.
fn check_parts(length: u64, answer: &RangeAnswer) {
    let parts = parts(answer);
    assert!(parts.len() <= MAX_RANGES);
    if let RangeAnswer::Parts(parts) = answer {
        assert!(parts.len() > 1);
    }
    for (index, part) in parts.iter().enumerate() {
        assert!(part.first <= part.last && part.last < length);
        for other in &parts[..index] {
            assert!(
                part.last < other.first || other.last < part.first,
                "they overlap"
            );
        }
    }
    let multipart = Multipart::new(Boundary::new(u128::from(length)), b"text/plain", length)
        .expect("a sound type");
    let mut between = Vec::new();
    for part in &parts {
        multipart.push_part_head(&mut between, *part);
    }
    multipart.push_end(&mut between);
    let content: u128 = parts.iter().map(|part| u128::from(part.len())).sum();
    let all = u64::try_from(content + between.len() as u128).ok();
    assert_eq!(multipart.body_bytes(&parts), all);
}
