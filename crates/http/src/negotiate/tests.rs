//! What clients say they take, and what they get.

use super::*;
use crate::condition::EntityTag;
use proptest::prelude::*;

use Coding::{Brotli, Gzip, Zstd};

fn choose(lines: &[&str], available: &[Coding]) -> Choice {
    let lines = lines.iter().map(|line| line.as_bytes());
    AcceptEncoding::parse(lines).choose(available.iter().copied())
}

/// With all codings at hand, `zstd` before `br` before `gzip`.
#[track_caller]
fn check(line: &str, expect: Choice) {
    assert_eq!(choose(&[line], &Coding::ALL), expect, "{line:?}");
}

#[test]
fn nothing_asked_for() {
    assert_eq!(choose(&[], &Coding::ALL), Choice::Identity);
    for empty in ["", ",", " , ,"] {
        check(empty, Choice::Identity);
    }
    check("identity", Choice::Identity);
    check("deflate, compress", Choice::Identity);
}

#[test]
fn what_browsers_send() {
    check("gzip, deflate, br, zstd", Choice::Coded(Zstd));
    check("gzip, deflate, br", Choice::Coded(Brotli));
    check("gzip", Choice::Coded(Gzip));
    check(
        "gzip;q=1.0, deflate;q=0.6, identity;q=0.3",
        Choice::Coded(Gzip),
    );
    check("GZip", Choice::Coded(Gzip));
    check("x-gzip", Choice::Coded(Gzip));
}

#[test]
fn the_higher_weight_wins_and_then_the_server() {
    check("zstd;q=0.5, br;q=0.9, gzip;q=0.8", Choice::Coded(Brotli));
    check("gzip;q=0.8, br;q=0.8", Choice::Coded(Brotli));
    check("gzip ; q=0.801 , br\t;\tQ=0.8", Choice::Coded(Gzip));
    check("gzip;q=0.001", Choice::Coded(Gzip));
    let ours = [Gzip, Zstd];
    assert_eq!(choose(&["zstd, gzip, br"], &ours), Choice::Coded(Gzip));
    assert_eq!(choose(&["br, zstd;q=0.1"], &ours), Choice::Coded(Zstd));
    assert_eq!(choose(&["br"], &ours), Choice::Identity);
    assert_eq!(choose(&["br, gzip"], &[]), Choice::Identity);
}

#[test]
fn identity_by_weight() {
    check("identity, gzip;q=0.5", Choice::Identity);
    check("identity;q=0.5, gzip", Choice::Coded(Gzip));
    check("identity;q=0.5, gzip;q=0.5", Choice::Coded(Gzip));
    check("gzip;q=0", Choice::Identity);
    check("gzip;q=0, br;q=0.0, *;q=0.000, identity", Choice::Identity);
}

#[test]
fn the_star_is_for_what_is_not_named() {
    check("*", Choice::Coded(Zstd));
    check("*;q=0.5, gzip", Choice::Coded(Gzip));
    check("zstd;q=0, *", Choice::Coded(Brotli));
    // It weighs more than gzip, and identity is among what it stands for.
    assert_eq!(choose(&["*, gzip;q=0.5"], &[Gzip]), Choice::Identity);
    assert_eq!(choose(&["*;q=0, gzip"], &[Gzip]), Choice::Coded(Gzip));
}

#[test]
fn identity_refused() {
    check("identity;q=0", Choice::Nothing);
    check("*;q=0", Choice::Nothing);
    check("identity;q=0, deflate", Choice::Nothing);
    check("identity;q=0, gzip;q=0.1", Choice::Coded(Gzip));
    check("identity;q=0, *", Choice::Coded(Zstd));
    check("*;q=0, identity;q=0.1", Choice::Identity);
    let accepts = |line: &str| AcceptEncoding::parse([line.as_bytes()]).accepts_identity();
    assert!(accepts("") && accepts("gzip") && accepts("*") && accepts("*;q=0, identity"));
    assert!(!accepts("identity;q=0") && !accepts("*;q=0") && !accepts("identity;q=0, *"));
}

#[test]
fn several_lines_are_one_list() {
    assert_eq!(choose(&["gzip", "br"], &Coding::ALL), Choice::Coded(Brotli));
    assert_eq!(
        choose(&["*;q=0", "gzip"], &Coding::ALL),
        Choice::Coded(Gzip)
    );
}

#[test]
fn what_is_refused_once_is_refused() {
    check("gzip;q=0, gzip", Choice::Identity);
    check("gzip, x-gzip;q=0", Choice::Identity);
    check("gzip;q=0.9, br;q=0.5, gzip;q=0.1", Choice::Coded(Brotli));
}

#[test]
fn what_is_malformed_is_skipped() {
    for bad in [
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.1",
        "gzip;q=1.001",
        "gzip;q=0.0001",
        "gzip;q=.5",
        "gzip;q=-1",
        "gzip;q=0.a",
        "gzip;q=0.5x",
        "gzip;q =1",
        "gzip;q= 1",
        "gzip;level=1",
        "gzip;q=1;q=1",
        "gzip;",
        "gzip q=1",
        "g(zip",
        "\"gzip\"",
        ";q=1",
        "gzip=1",
        "gzip\u{e9}",
    ] {
        check(bad, Choice::Identity);
        check(&format!("{bad}, br;q=0.1"), Choice::Coded(Brotli));
    }
}

#[test]
fn weights_in_thousandths() {
    for thousandths in 0..=1000u16 {
        let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        assert_eq!(quality(text.as_bytes()), Some(thousandths), "{text}");
    }
    for (text, expect) in [
        ("0", 0),
        ("1", 1000),
        ("0.", 0),
        ("1.", 1000),
        ("0.5", 500),
        ("0.25", 250),
    ] {
        assert_eq!(quality(text.as_bytes()), Some(expect), "{text}");
    }
}

/// Each coding has tags of its own, whatever number they end in.
#[test]
fn tags_are_distinct() {
    let mut tags = Vec::new();
    for number in 0..5000u32 {
        let base = format!("\"{number:x}-{:x}", number % 7);
        tags.push(format!("{base}\""));
        tags.extend(Coding::ALL.map(|coding| format!("{base}{}\"", coding.tag_suffix())));
    }
    let count = tags.len();
    assert!(
        tags.iter()
            .all(|tag| EntityTag::parse(tag.as_bytes()).is_some_and(|tag| !tag.weak))
    );
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), count);
}

const HTML: &str = "text/html";
const JSON: &str = "application/json";

#[track_caller]
fn check_type(line: &str, expect: Option<&str>) {
    let found = media_type([line.as_bytes()], [HTML, JSON]);
    assert_eq!(found, expect, "{line:?}");
}

#[test]
fn types_by_default() {
    assert_eq!(media_type([], [HTML, JSON]), Some(HTML));
    assert_eq!(media_type([], [JSON, HTML]), Some(JSON));
    for any in [
        "",
        " , ",
        "*/*",
        "*/*;q=0.001",
        "text/*",
        "text/html",
        "TEXT/HTML",
    ] {
        check_type(any, Some(HTML));
    }
}

#[test]
fn types_by_name_and_weight() {
    check_type("application/json", Some(JSON));
    check_type("application/*", Some(JSON));
    check_type("application/json, text/html", Some(HTML));
    check_type("application/json, text/html;q=0.9", Some(JSON));
    check_type("application/json, */*;q=0.5", Some(JSON));
    check_type("application/json, */*", Some(HTML));
    check_type(
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        Some(HTML),
    );
    assert_eq!(
        media_type([&b"text/*;q=0.1"[..], b"application/json"], [HTML, JSON]),
        Some(JSON)
    );
}

#[test]
fn the_most_specific_range_decides() {
    check_type("*/*, text/html;q=0", Some(JSON));
    check_type(
        "*/*;q=0.1, text/*;q=0.2, text/html;q=0, application/json;q=0",
        None,
    );
    check_type(
        "text/*;q=0.3, text/html;q=0.7, application/*;q=0.5",
        Some(HTML),
    );
    check_type(
        "text/html;level=1;q=0.1, text/html;q=0.9, application/json;q=0.5",
        Some(HTML),
    );
}

#[test]
fn types_nobody_offers() {
    for line in [
        "image/png",
        "text/plain",
        "*/*;q=0",
        "text/html;q=0",
        "application/jsonx",
    ] {
        check_type(line, None);
    }
}

#[test]
fn parameters_do_not_matter() {
    check_type("application/json;charset=utf-8", Some(JSON));
    check_type(
        "application/json; charset=\"a,b;q=0\" ;q=0.9, text/html;q=0.1",
        Some(JSON),
    );
    check_type(
        "application/json;x=\"\\\",\";q=0.5,text/html;q=0.4",
        Some(JSON),
    );
}

#[test]
fn malformed_types_are_skipped() {
    for bad in [
        "json",
        "*/html",
        "*",
        "text/",
        "/html",
        "text/html;q=2",
        "te xt/html",
        "text/html/x",
    ] {
        check_type(&format!("{bad}, application/json;q=0.1"), Some(JSON));
        check_type(bad, None);
    }
    // A string without an end takes the rest with it.
    check_type("image/png;x=\", text/html", None);
}

/// All small fields of three elements, by a second reading of RFC 9110 §12.5.3.
#[test]
fn small_space_whole() {
    const WEIGHTS: [&str; 4] = ["", ";q=1", ";q=0.5", ";q=0"];
    const NUMBERS: [u16; 4] = [1000, 1000, 500, 0];
    for (zstd, gzip, identity, any) in (0..625).map(|n| (n % 5, n / 5 % 5, n / 25 % 5, n / 125)) {
        let named = [
            ("zstd", zstd),
            ("gzip", gzip),
            ("identity", identity),
            ("*", any),
        ];
        let field: Vec<String> = named
            .iter()
            .filter(|(_, weight)| *weight < 4)
            .map(|(name, weight)| format!("{name}{}", WEIGHTS[*weight]))
            .collect();
        let number = |weight: usize| NUMBERS.get(weight).copied();
        let coding = |weight| number(weight).or(number(any)).unwrap_or(0);
        let plain = number(identity).or(number(any));
        let best = coding(zstd).max(coding(gzip));
        let expect = if best == 0 {
            if plain == Some(0) {
                Choice::Nothing
            } else {
                Choice::Identity
            }
        } else if plain.is_some_and(|plain| plain > best) {
            Choice::Identity
        } else if coding(zstd) == best {
            Choice::Coded(Zstd)
        } else {
            Choice::Coded(Gzip)
        };
        assert_eq!(
            choose(&[&field.join(", ")], &[Zstd, Gzip]),
            expect,
            "{field:?}"
        );
    }
}

proptest! {
    /// The order of the elements, and how they are spread over lines, makes no difference.
    #[test]
    fn order_and_lines_do_not_matter(
        elements in prop::collection::vec("(gzip|br|zstd|identity|\\*|x)(;q=(0|1|0\\.[0-9]{1,3}))?", 0..8),
        shuffled in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = elements.join(", ");
        let mut turned = elements.clone();
        if !turned.is_empty() {
            turned.rotate_left(shuffled.index(elements.len()));
        }
        let (one, other) = turned.split_at(cut.index(elements.len() + 1));
        let lines = [one.join(","), other.join(" ,")];
        let parsed = AcceptEncoding::parse([all.as_bytes()]);
        prop_assert_eq!(AcceptEncoding::parse(lines.iter().map(|line| line.as_bytes())), parsed);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(line in any::<Vec<u8>>()) {
        let accept = AcceptEncoding::parse([&*line]);
        prop_assert!(Coding::ALL.iter().all(|coding| accept.weight(*coding) <= 1000));
        if let Choice::Coded(coding) = accept.choose(Coding::ALL) {
            prop_assert!(accept.weight(coding) > 0);
        }
        media_type([&*line], [HTML, JSON]);
    }
}
