//! Conditions: a list is read as its grammar says, tag by tag, and decides nothing but that.

use ringway_http::condition::{EntityTag, Preconditions, Validators, Verdict, range_applies};

/// Fails when a promise is broken on `data`: the current tag, and what a client sends.
pub(crate) fn run(data: &[u8]) {
    let end = data
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(data.len());
    let (etag, sent) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let etag = EntityTag::parse(etag);
    assert_eq!(
        etag,
        tag(&data[..end])
            .filter(|(_, rest)| rest.is_empty())
            .map(|(tag, _)| tag)
    );
    let current = Validators {
        etag,
        last_modified: Some(784_111_777),
    };
    // A value has neither.
    if sent.iter().any(|byte| b"\r\n".contains(byte)) {
        return;
    }
    let list = Some(trim(sent).into());
    let matched = Preconditions {
        if_match: list.clone(),
        ..Preconditions::default()
    };
    let is_match = matches(trim(sent), etag, |one, other| one.strong_eq(other));
    let expect = if is_match {
        Verdict::Proceed
    } else {
        Verdict::Failed
    };
    assert_eq!(matched.evaluate(current), expect);
    let unmatched = Preconditions {
        if_none_match: list,
        // It mustn't count.
        if_modified_since: Some(b"Sun, 06 Nov 1994 08:49:38 GMT"),
        ..Preconditions::default()
    };
    let is_match = matches(trim(sent), etag, |one, other| one.weak_eq(other));
    let expect = if is_match {
        Verdict::NotModified
    } else {
        Verdict::Proceed
    };
    assert_eq!(unmatched.evaluate(current), expect);
    let is_same = EntityTag::parse(sent)
        .zip(etag)
        .is_some_and(|(sent, etag)| etag.strong_eq(sent));
    let is_date = sent == b"Sun, 06 Nov 1994 08:49:37 GMT";
    if sent.first().is_some_and(|byte| b"W\"".contains(byte)) || is_date {
        assert_eq!(
            range_applies(Some(sent), current, u64::MAX),
            is_same || is_date
        );
    }
}

/// RFC 9110 §13.1.1, by a reader of its own.
fn matches(
    list: &[u8],
    etag: Option<EntityTag<'_>>,
    is: fn(EntityTag<'_>, EntityTag<'_>) -> bool,
) -> bool {
    if list == b"*" {
        return true;
    }
    let mut found = false;
    let mut rest = list;
    loop {
        rest = trim(rest);
        if let [b',', tail @ ..] = rest {
            rest = tail;
            continue;
        }
        if rest.is_empty() {
            return found;
        }
        let Some((sent, tail)) = tag(rest) else {
            return false;
        };
        found |= etag.is_some_and(|etag| is(etag, sent));
        rest = trim(tail);
        if !rest.is_empty() && rest[0] != b',' {
            return false;
        }
    }
}

/// A tag at the beginning, byte by byte (RFC 9110 §8.8.3), and what stands behind it.
fn tag(text: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let weak = text.starts_with(b"W/\"");
    let start = if weak { 3 } else { 1 };
    if !weak && text.first() != Some(&b'"') {
        return None;
    }
    for (at, byte) in text.iter().enumerate().skip(start) {
        match byte {
            b'"' => {
                let opaque = &text[start..at];
                return Some((EntityTag { weak, opaque }, &text[at + 1..]));
            }
            0x21 | 0x23..=0x7e | 0x80..=0xff => {}
            _ => return None,
        }
    }
    None
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| b" \t".contains(byte);
    let start = text
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |at| at + 1);
    &text[start..end]
}
