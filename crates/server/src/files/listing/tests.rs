//! What a listing says, whatever the names are.

use super::page::POLICY;
use super::*;
use proptest::prelude::*;
use ringway_runtime::Metadata;
use sha2::Digest as _;

fn entry(name: &[u8], kind: FileKind, bytes: u64, modified_seconds: i64) -> DirectoryEntry {
    DirectoryEntry {
        name: name.into(),
        metadata: Metadata {
            kind,
            bytes,
            modified_seconds,
            modified_nanoseconds: 0,
            changed: (0, 0),
            inode: 1,
            device: 1,
        },
    }
}

fn file(name: &[u8]) -> DirectoryEntry {
    entry(name, FileKind::Regular, 1, 0)
}

fn folder(name: &[u8]) -> DirectoryEntry {
    entry(name, FileKind::Directory, 4096, 0)
}

fn contents(entries: &[DirectoryEntry]) -> Contents {
    Contents {
        entries: entries.to_vec(),
        is_cut: false,
    }
}

/// A page in the usual order.
fn html(path: &[u8], entries: &[DirectoryEntry]) -> String {
    let order = Order::parse(None);
    String::from_utf8(render(path, contents(entries), Form::Html, order, 10)).unwrap()
}

fn names(query: &str, entries: &[DirectoryEntry]) -> Vec<String> {
    let order = Order::parse(Some(query.as_bytes()));
    let json = render(b"/", contents(entries), Form::Json, order, 10);
    let json: Value = serde_json::from_slice(&json).unwrap();
    let names = json["entries"].as_array().unwrap().iter();
    names
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn names_are_in_the_order_that_people_expect() {
    let sorted: [&[u8]; 12] = [
        b"-", b"01", b"1", b"1a", b"2", b"010", b"10", b"A", b"a", b"a1", b"b", b"\xff",
    ];
    for (at, a) in sorted.iter().enumerate() {
        for (other, b) in sorted.iter().enumerate() {
            assert_eq!(natural(a, b), at.cmp(&other), "{a:?} {b:?}");
        }
    }
    let long = "9".repeat(255);
    assert_eq!(
        natural(b"18446744073709551616", b"18446744073709551615"),
        Ordering::Greater
    );
    assert_eq!(natural(long.as_bytes(), b"1"), Ordering::Greater);
}

proptest! {
    /// A sort with an order that contradicts itself may panic.
    #[test]
    fn the_order_is_total(names in prop::collection::vec("[aB0-2.]{0,5}", 3)) {
        let [a, b, c] = [&names[0], &names[1], &names[2]].map(|name| name.as_bytes());
        prop_assert_eq!(natural(a, b), natural(b, a).reverse());
        prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
        if natural(a, b).is_le() && natural(b, c).is_le() {
            prop_assert!(natural(a, c).is_le());
        }
    }
}

#[test]
fn the_query_decides_about_the_order_and_folders_come_first() {
    let entries = [
        entry(b"large", FileKind::Regular, 300, 2),
        entry(b"small", FileKind::Regular, 1, 3),
        entry(b"middle", FileKind::Regular, 20, 1),
        entry(b"z", FileKind::Directory, 9999, 5),
        entry(b"y", FileKind::Directory, 1, 6),
    ];
    let by_name = ["y", "z", "large", "middle", "small"];
    assert_eq!(names("", &entries), by_name);
    assert_eq!(names("sort=name&order=asc", &entries), by_name);
    assert_eq!(names("sort=nothing&order=&x=%00", &entries), by_name);
    assert_eq!(
        names("order=desc", &entries),
        ["z", "y", "small", "middle", "large"]
    );
    assert_eq!(
        names("sort=size", &entries),
        ["y", "z", "small", "middle", "large"]
    );
    assert_eq!(
        names("sort=size&order=desc", &entries),
        ["y", "z", "large", "middle", "small"]
    );
    assert_eq!(
        names("sort=time", &entries),
        ["z", "y", "middle", "large", "small"]
    );
    assert_eq!(
        names("x&order=desc&sort=time", &entries),
        ["y", "z", "small", "large", "middle"]
    );
}

/// A query that stands for an order means it.
#[test]
fn links_ask_for_what_they_say() {
    for by in [By::Name, By::Size, By::Time] {
        for is_descending in [false, true] {
            let order = Order { by, is_descending };
            let query = order.query().replace("&amp;", "&");
            let query = query.strip_prefix('?').unwrap_or("");
            assert_eq!(Order::parse(Some(query.as_bytes())), order);
        }
    }
}

#[test]
fn data_has_names_links_sizes_and_times() {
    let entries = [
        entry(b"a b.txt", FileKind::Regular, 5, 784_111_777),
        entry(b"sub", FileKind::Directory, 4096, -1),
        file(b"\xff\"\n"),
        file(b"back\\slash"),
    ];
    let contents = Contents {
        entries: entries.to_vec(),
        is_cut: true,
    };
    let json = render(b"/x/", contents, Form::Json, Order::parse(None), 4);
    let json: Value = serde_json::from_slice(&json).unwrap();
    let time = "1970-01-01T00:00:00Z";
    let expected = json!({
        "path": "/x/",
        "truncated": true,
        "entries": [
            { "name": "sub", "type": "directory", "url": "./sub/", "modified": time },
            {
                "name": "a b.txt", "type": "file", "url": "./a%20b.txt", "size": 5,
                "modified": "1994-11-06T08:49:37Z",
            },
            {
                "name": "back\\slash", "type": "file", "url": null, "size": 1, "modified": time,
            },
            {
                "name": "\u{fffd}\"\n", "type": "file", "url": "./%FF%22%0A", "size": 1,
                "modified": time,
            },
        ],
    });
    assert_eq!(json, expected);
}

/// Nothing of a name is markup, and its link leads to its bytes and to no other place.
#[test]
fn names_are_never_markup() {
    let long = [b'<'; 255];
    let names: [&[u8]; 7] = [
        b"<script>alert(1)</script>",
        b"\"><img src=x onerror=alert(1)>",
        b"' onmouseover='alert(1)",
        b"&lt;",
        b"javascript:alert(1)",
        b"</title><script>",
        &long,
    ];
    for name in names {
        let page = html(&[b"/", name, b"/"].concat(), &[file(name), folder(name)]);
        let (_, body) = page.split_once("</style>").unwrap();
        assert!(
            !body.contains("<script") && !body.contains("<img"),
            "{body}"
        );
        assert!(
            !body.contains("&lt;lt;") && !body.contains("' onmouse"),
            "{body}"
        );
        assert_eq!(page.matches("<style>").count(), 1);
        assert_eq!(page.matches("</title>").count(), 1);
        for link in page.split("href=\"").skip(1) {
            let link = link.split('"').next().unwrap();
            let is_ours = ["./", "../", "#"]
                .iter()
                .any(|start| link.starts_with(start));
            assert!(is_ours, "{link}");
        }
    }
    assert!(html(b"/", &[file(b"a&b")]).contains("<bdi>a&amp;b</bdi>"));
    assert!(html(b"/", &[file(b"%2f")]).contains("href=\"./%252f\""));
}

#[test]
fn what_cannot_be_seen_is_shown() {
    let shown = |name: &[u8]| {
        let page = html(b"/", &[file(name)]);
        let (_, row) = page.split_once("<use href=\"#f\"/></svg><bdi>").unwrap();
        row.split_once("</bdi>").unwrap().0.to_owned()
    };
    assert_eq!(shown(b"plain \xc3\xbc \xf0\x9f\x98\x80"), "plain ü 😀");
    assert_eq!(shown(b"a\nb\x1b"), "a<u>\\x0a</u>b<u>\\x1b</u>");
    assert_eq!(shown(b"\xff\xe2\x28"), "<u>\\xff</u><u>\\xe2</u>(");
    assert_eq!(shown("exe\u{202e}gpj.".as_bytes()), "exe<u>U+202E</u>gpj.");
    for hidden in [
        '\u{200e}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{2028}', '\u{85}', '\u{a0}',
    ] {
        let page = shown(hidden.to_string().as_bytes());
        assert_eq!(page, format!("<u>U+{:04X}</u>", u32::from(hidden)));
    }
}

#[test]
fn a_name_that_cannot_be_asked_for_is_no_link() {
    let page = html(b"/", &[file(b"a\\b")]);
    assert!(!page.contains("href=\"./a"), "{page}");
    assert!(page.contains("<bdi>a\\b</bdi></b>"), "{page}");
}

#[test]
fn the_heading_leads_up() {
    let page = html(b"/one/two three/", &[]);
    let (_, heading) = page.split_once("<h1>").unwrap();
    let (heading, _) = heading.split_once("</h1>").unwrap();
    assert_eq!(
        heading,
        "<a href=\"../../\">Files</a><i>/</i><a href=\"../\"><bdi>one</bdi></a><i>/</i>\
         <bdi>two three</bdi>"
    );
    assert!(page.contains("<title>two three</title>"));
    assert!(page.contains(">Parent folder<"));
    let root = html(b"/", &[]);
    assert!(root.contains("<h1>Files</h1>") && !root.contains("Parent folder"));
}

/// Sorting stays when one goes down or up.
#[test]
fn the_order_goes_along() {
    let order = Order::parse(Some(b"sort=time&order=desc"));
    let entries = contents(&[folder(b"sub"), file(b"file")]);
    let page = String::from_utf8(render(b"/a/", entries, Form::Html, order, 10)).unwrap();
    for link in ["./sub/", "../"] {
        assert!(
            page.contains(&format!("\"{link}?sort=time&amp;order=desc\"")),
            "{page}"
        );
    }
    assert!(page.contains("href=\"./file\""));
    // The current column the other way round; largest first.
    let button = |order: &str, by: &str| {
        format!("><form><input type=hidden name=order value={order}><button name=sort value={by}>")
    };
    assert!(page.contains(&format!("aria-sort=descending{}", button("asc", "time"))));
    assert!(page.contains(&format!("<th scope=col{}", button("desc", "size"))));
    assert!(page.contains(&format!("<th scope=col{}Name", button("asc", "name"))));
}

#[test]
fn sizes_are_for_people_and_exact_in_the_title() {
    for (bytes, title, human) in [
        (0, "0 bytes", "0 B"),
        (1, "1 byte", "1 B"),
        (1023, "1,023 bytes", "1023 B"),
        (1024, "1,024 bytes", "1.0 KiB"),
        (1587, "1,587 bytes", "1.5 KiB"),
        (10_188, "10,188 bytes", "9.9 KiB"),
        (10_189, "10,189 bytes", "10 KiB"),
        (1_048_063, "1,048,063 bytes", "1023 KiB"),
        (1_048_064, "1,048,064 bytes", "1.0 MiB"),
        (u64::MAX, "18,446,744,073,709,551,615 bytes", "16 EiB"),
    ] {
        let page = html(b"/", &[entry(b"x", FileKind::Regular, bytes, 0)]);
        let cell = format!("<td title=\"{title}\">{human}<td>");
        assert!(page.contains(&cell), "{cell} {page}");
    }
}

#[test]
fn a_cut_listing_says_so() {
    let cut = Contents {
        entries: vec![file(b"a")],
        is_cut: true,
    };
    let order = Order::parse(None);
    let page = String::from_utf8(render(b"/", cut, Form::Html, order, 12_345)).unwrap();
    assert!(page.contains("more than 12,345 entries"));
    assert!(!html(b"/", &[file(b"a")]).contains("more than"));
}

/// CSP 3 §6.7.3.3: the hash of what is between the tags.
#[test]
fn the_policy_allows_the_style_of_the_page() {
    let page = html(b"/", &[]);
    let (_, style) = page.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let hash = base64(&sha2::Sha256::digest(style));
    assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for index in 0..4 {
            match index <= chunk.len() {
                true => text.push(char::from(
                    digits[(number >> (18 - 6 * index) & 63) as usize],
                )),
                false => text.push('='),
            }
        }
    }
    text
}
