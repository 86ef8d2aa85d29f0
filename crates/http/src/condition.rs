//! Conditional requests (RFC 9110 §13): does the client have it already, and is it still what the
//! client believes it to be?
//!
//! No clock: what depends on the time gets it as an argument, in seconds since the Unix epoch.

use crate::date;
use crate::field::trim;
use crate::head::ListValue;

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether it is marked with `W/`.
    pub weak: bool,
    /// What stands between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Parses exactly one tag, such as `"a1"` or `W/"a1"`.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match split_tag(text)? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    /// Strong comparison (§8.8.3.2): equal, and neither is weak.
    pub fn strong_eq(self, other: EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Weak comparison (§8.8.3.2): equal, weak or not.
    pub fn weak_eq(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// Takes a tag from the beginning of `text`. A tag may hold commas, so lists can't be split first.
fn split_tag(text: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, text) = match text {
        // §8.8.3: the mark is case-sensitive.
        [b'W', b'/', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    let opaque = &text[..end];
    let is_etag_byte = |byte: &u8| *byte == 0x21 || (*byte > 0x22 && *byte != 0x7f);
    let tag = EntityTag { weak, opaque };
    opaque
        .iter()
        .all(is_etag_byte)
        .then_some((tag, &text[end + 1..]))
}

/// Whether a list of tags has one that `matches`; `None` when the list is malformed. Each byte of
/// it is looked at once, so what bounds the head bounds the work.
fn any_tag(list: &ListValue<'_>, matches: impl Fn(EntityTag<'_>) -> bool) -> Option<bool> {
    let mut found = None;
    for line in list.lines() {
        let mut rest = line;
        loop {
            // RFC 9110 §5.6.1.2: empty elements of a list are ignored.
            while let [b',' | b' ' | b'\t', tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                break;
            }
            let (tag, tail) = split_tag(rest)?;
            found = Some(found.unwrap_or(false) | matches(tag));
            rest = trim(tail);
            if !matches!(rest, [] | [b',', ..]) {
                return None;
            }
        }
    }
    found
}

/// Whether the list is the star, which must be alone.
fn is_star(list: &ListValue<'_>) -> bool {
    list.lines().eq([b"*"])
}

/// The fields that make a request conditional, as sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Preconditions<'a> {
    /// `If-Match`
    pub if_match: Option<ListValue<'a>>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-None-Match`
    pub if_none_match: Option<ListValue<'a>>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<&'a [u8]>,
}

/// What is known of the current representation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Validators<'a> {
    /// Its entity tag.
    pub etag: Option<EntityTag<'a>>,
    /// When it was last changed, in seconds since the Unix epoch.
    pub last_modified: Option<u64>,
}

/// What the preconditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on: all of them hold, or there are none.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412: it isn't what the client believes it to be.
    Failed,
}

impl Preconditions<'_> {
    /// Whether there is any, so that the rest can be skipped for most requests.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_unmodified_since.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
    }

    /// Evaluates the preconditions of a GET or HEAD for a representation that exists, in the order
    /// of RFC 9110 §13.2.2. To be asked only where the answer would be 200 without them (§13.2.1).
    #[inline]
    pub fn evaluate(&self, current: Validators<'_>) -> Verdict {
        if self.is_empty() {
            Verdict::Proceed
        } else {
            self.decide(current)
        }
    }

    fn decide(&self, current: Validators<'_>) -> Verdict {
        // Step 1, else step 2.
        let unchanged = match (&self.if_match, self.if_unmodified_since) {
            (Some(list), _) => matches_strongly(list, current),
            (None, Some(date)) => !is_modified_since(date, current).unwrap_or(false),
            (None, None) => true,
        };
        if !unchanged {
            return Verdict::Failed;
        }
        // Step 3, else step 4. §13.1.3: If-Modified-Since is ignored beside If-None-Match.
        let new_to_client = match (&self.if_none_match, self.if_modified_since) {
            (Some(list), _) => !matches_weakly(list, current),
            (None, Some(date)) => is_modified_since(date, current).unwrap_or(true),
            (None, None) => true,
        };
        if new_to_client {
            Verdict::Proceed
        } else {
            Verdict::NotModified
        }
    }
}

/// §13.1.1: strong comparison; `*` matches whatever exists. A malformed list matches nothing,
/// because the client depends on the answer.
fn matches_strongly(list: &ListValue<'_>, current: Validators<'_>) -> bool {
    if is_star(list) {
        return true;
    }
    let is_current = |tag: EntityTag<'_>| current.etag.is_some_and(|etag| etag.strong_eq(tag));
    any_tag(list, is_current).unwrap_or(false)
}

/// §13.1.2: weak comparison; `*` matches whatever exists. A malformed list matches nothing, so
/// that the client gets what it may not have.
fn matches_weakly(list: &ListValue<'_>, current: Validators<'_>) -> bool {
    if is_star(list) {
        return true;
    }
    let is_current = |tag: EntityTag<'_>| current.etag.is_some_and(|etag| etag.weak_eq(tag));
    any_tag(list, is_current).unwrap_or(false)
}

/// §13.1.3, §13.1.4: `None`, to be ignored, where the date is malformed or there is nothing to
/// compare it with.
fn is_modified_since(date: &[u8], current: Validators<'_>) -> Option<bool> {
    Some(current.last_modified? > date::parse(date)?)
}

/// Whether a `Range` is to be heeded (RFC 9110 §13.1.5): without `If-Range` it is; with one, only
/// if the representation is, byte for byte, the one the client has a part of.
///
/// `now` is the time of the answer in seconds since the Unix epoch: a date is proof only if the
/// last change lies at least a second before it (§8.8.2.2).
pub fn range_applies(if_range: Option<&[u8]>, current: Validators<'_>, now: u64) -> bool {
    let Some(validator) = if_range else {
        return true;
    };
    if let Some(tag) = EntityTag::parse(validator) {
        return current.etag.is_some_and(|etag| etag.strong_eq(tag));
    }
    match (date::parse(validator), current.last_modified) {
        (Some(date), Some(modified)) => date == modified && modified < now,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: u64 = 784_111_777;
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn current() -> Validators<'static> {
        let etag = EntityTag {
            weak: false,
            opaque: b"a,1",
        };
        Validators {
            etag: Some(etag),
            last_modified: Some(MODIFIED),
        }
    }

    /// Fields as `Name: value`.
    #[track_caller]
    fn check(fields: &[&'static str], expect: Verdict) {
        let mut conditions = Preconditions::default();
        for field in fields {
            let (name, value) = field.split_once(": ").unwrap();
            let value = value.as_bytes();
            match name {
                "If-Match" => conditions.if_match = Some(value.into()),
                "If-Unmodified-Since" => conditions.if_unmodified_since = Some(value),
                "If-None-Match" => conditions.if_none_match = Some(value.into()),
                "If-Modified-Since" => conditions.if_modified_since = Some(value),
                _ => panic!("{name}"),
            }
        }
        assert_eq!(conditions.evaluate(current()), expect, "{fields:?}");
    }

    #[test]
    fn none() {
        check(&[], Verdict::Proceed);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        check(&[r#"If-None-Match: "a,1""#], Verdict::NotModified);
        check(&[r#"If-None-Match: W/"a,1""#], Verdict::NotModified);
        check(&[r#"If-None-Match: "b", "a,1""#], Verdict::NotModified);
        check(
            &[r#"If-None-Match: "b" ,, W/"c","a,1","#],
            Verdict::NotModified,
        );
        check(&["If-None-Match: *"], Verdict::NotModified);
        check(&[r#"If-None-Match: "a""#], Verdict::Proceed);
        check(&[r#"If-None-Match: "A,1""#], Verdict::Proceed);
    }

    #[test]
    fn malformed_if_none_match_is_no_match() {
        for value in [
            r#"If-None-Match: a,1"#,
            r#"If-None-Match: "a,1"#,
            r#"If-None-Match: w/"a,1""#,
            r#"If-None-Match: W /"a,1""#,
            r#"If-None-Match: "a,1" "b""#,
            r#"If-None-Match: "a,1", b"#,
            r#"If-None-Match: *, "a,1""#,
            r#"If-None-Match: "a,1"x"#,
        ] {
            check(&[value], Verdict::Proceed);
        }
        check(&["If-None-Match: "], Verdict::Proceed);
        check(&["If-None-Match: ,,"], Verdict::Proceed);
    }

    #[test]
    fn if_modified_since() {
        check(
            &[concat_date("If-Modified-Since", BEFORE)],
            Verdict::Proceed,
        );
        check(
            &[concat_date("If-Modified-Since", THEN)],
            Verdict::NotModified,
        );
        check(
            &[concat_date("If-Modified-Since", AFTER)],
            Verdict::NotModified,
        );
        check(&["If-Modified-Since: yesterday"], Verdict::Proceed);
    }

    #[test]
    fn if_none_match_silences_if_modified_since() {
        let since = concat_date("If-Modified-Since", AFTER);
        check(&[r#"If-None-Match: "b""#, since], Verdict::Proceed);
        check(&["If-None-Match: nonsense", since], Verdict::Proceed);
        let since = concat_date("If-Modified-Since", BEFORE);
        check(&[r#"If-None-Match: "a,1""#, since], Verdict::NotModified);
    }

    #[test]
    fn if_match_compares_strongly() {
        check(&[r#"If-Match: "a,1""#], Verdict::Proceed);
        check(&[r#"If-Match: "b", "a,1""#], Verdict::Proceed);
        check(&["If-Match: *"], Verdict::Proceed);
        check(&[r#"If-Match: W/"a,1""#], Verdict::Failed);
        check(&[r#"If-Match: "b""#], Verdict::Failed);
        check(&["If-Match: nonsense"], Verdict::Failed);
    }

    #[test]
    fn if_unmodified_since() {
        check(
            &[concat_date("If-Unmodified-Since", BEFORE)],
            Verdict::Failed,
        );
        check(
            &[concat_date("If-Unmodified-Since", THEN)],
            Verdict::Proceed,
        );
        check(&["If-Unmodified-Since: tomorrow"], Verdict::Proceed);
        check(
            &["If-Match: *", concat_date("If-Unmodified-Since", BEFORE)],
            Verdict::Proceed,
        );
    }

    #[test]
    fn failing_comes_before_not_modified() {
        check(
            &[r#"If-Match: "b""#, r#"If-None-Match: "a,1""#],
            Verdict::Failed,
        );
        check(
            &[r#"If-Match: "a,1""#, r#"If-None-Match: "a,1""#],
            Verdict::NotModified,
        );
    }

    /// Every combination of absent, true, false and malformed, by the steps of RFC 9110 §13.2.2
    /// written down a second time.
    #[test]
    fn small_space_whole() {
        const NAMES: [&str; 4] = [
            "If-Match",
            "If-Unmodified-Since",
            "If-None-Match",
            "If-Modified-Since",
        ];
        // What makes each true, false, or nothing that can be understood.
        let values = [
            [r#""a,1""#, r#""b""#, "nonsense"],
            [THEN, BEFORE, "nonsense"],
            [r#""b""#, r#"W/"a,1""#, "nonsense"],
            [BEFORE, THEN, "nonsense"],
        ];
        for combination in 0..256usize {
            let states = [0, 2, 4, 6].map(|shift| combination >> shift & 3);
            let fields: Vec<&'static str> = (0..4)
                .filter(|&at| states[at] > 0)
                .map(|at| &*format!("{}: {}", NAMES[at], values[at][states[at] - 1]).leak())
                .collect();
            let [if_match, unmodified, none_match, modified] = states;
            let expect = match (if_match, unmodified, none_match, modified) {
                // Step 1: a list that is none matches nothing.
                (2 | 3, ..) => Verdict::Failed,
                // Step 2, only without If-Match.
                (0, 2, ..) => Verdict::Failed,
                // Step 3: nor does it here, where that means true.
                (_, _, 2, _) => Verdict::NotModified,
                // Step 4, only without If-None-Match.
                (_, _, 0, 2) => Verdict::NotModified,
                _ => Verdict::Proceed,
            };
            check(&fields, expect);
        }
    }

    /// As many tags as fit into the largest head that can be allowed.
    #[test]
    fn huge_lists() {
        let mut list = r#""x",W/"y" ,"#.repeat((1 << 20) / 11);
        let evaluate = |list: &str| {
            let conditions = Preconditions {
                if_none_match: Some(list.as_bytes().into()),
                ..Default::default()
            };
            conditions.evaluate(current())
        };
        assert_eq!(evaluate(&list), Verdict::Proceed);
        list.push_str(r#""a,1""#);
        assert_eq!(evaluate(&list), Verdict::NotModified);
        list.push('x');
        assert_eq!(evaluate(&list), Verdict::Proceed);
    }

    #[test]
    fn without_validators_only_the_star_matches() {
        let evaluate = |conditions: Preconditions<'_>| conditions.evaluate(Validators::default());
        let none_match = |value: &'static [u8]| Preconditions {
            if_none_match: Some(value.into()),
            ..Default::default()
        };
        assert_eq!(evaluate(none_match(b"\"a\"")), Verdict::Proceed);
        assert_eq!(evaluate(none_match(b"*")), Verdict::NotModified);
        let since = |value| Preconditions {
            if_modified_since: Some(value),
            ..Default::default()
        };
        assert_eq!(evaluate(since(THEN.as_bytes())), Verdict::Proceed);
    }

    #[test]
    fn if_range() {
        let applies = |value: &str| range_applies(Some(value.as_bytes()), current(), MODIFIED + 1);
        assert!(range_applies(None, current(), 0));
        assert!(applies("\"a,1\""));
        assert!(!applies("W/\"a,1\""));
        assert!(!applies("\"b\""));
        assert!(!applies("\"a,1\", \"b\""));
        assert!(applies(THEN));
        assert!(!applies(BEFORE));
        assert!(!applies(AFTER));
        assert!(!applies("nonsense"));
        // Within the second of the change, there may be another change to come.
        assert!(!range_applies(Some(THEN.as_bytes()), current(), MODIFIED));
    }

    #[test]
    fn weak_current_tag_never_matches_strongly() {
        let weak = EntityTag {
            weak: true,
            opaque: b"x",
        };
        let strong = EntityTag {
            weak: false,
            opaque: b"x",
        };
        assert!(!weak.strong_eq(weak));
        assert!(!weak.strong_eq(strong));
        assert!(!strong.strong_eq(weak));
        assert!(strong.strong_eq(strong));
        assert!(weak.weak_eq(strong) && strong.weak_eq(weak) && weak.weak_eq(weak));
    }

    fn concat_date(name: &str, date: &str) -> &'static str {
        format!("{name}: {date}").leak()
    }
}
