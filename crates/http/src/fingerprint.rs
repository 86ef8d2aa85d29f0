//! Names of files that say what is in them: `app.3f2a9c1b.js`, as build tools write them.
//!
//! Under such a name there is never another content, so a cache may keep it for good (RFC 8246,
//! `immutable`). To take an ordinary name for one would leave visitors with an old file for as
//! long, so the rule is: when in doubt, not. What isn't recognised is only asked for again, and
//! answered with 304.

/// Shortest and longest digests, in characters: of 32 bits and of 256.
const HEX_DIGITS: std::ops::RangeInclusive<usize> = 8..=64;
/// Those in letters and digits are of this length: what esbuild, Rollup and Vite write.
const LETTERS: usize = 8;

/// Files that build tools put together from sources.
const BUILT: [&str; 11] = [
    "js", "mjs", "cjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "svg",
];
/// Files that they copy; others name such files by numbers and keys, too, and mean places.
const COPIED: [&str; 10] = [
    "png", "jpg", "jpeg", "gif", "webp", "avif", "ico", "mp4", "webm", "mp3",
];

/// Whether the name of a file has a digest of its content: behind a dot or a hyphen, and before
/// the extension. A path is as good as a name: the folders don't count.
///
/// - Hexadecimal, at least eight digits, lower case (webpack, Rails, Django, Next.js, Parcel):
///   nearly all are recognised from twelve digits on, and of eight digits two in three.
/// - Eight capitals and digits from 2 to 7 (esbuild, Angular), or eight letters and digits (Rollup,
///   Vite): four in ten, because words and versions can look the same. There, a rule for the folder
///   says it better.
///
/// Dates, versions, numbers, words and UUIDs are none, and documents, pages and archives never have
/// one: `2024-report.pdf`, `jquery-3.7.1.min.js`, `photo-20240131.jpg`.
pub fn is_fingerprinted(name: &[u8]) -> bool {
    let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else {
        return false;
    };
    let (stem, extension) = (&name[..dot], &name[dot + 1..]);
    if stem.starts_with(b".") {
        return false;
    }
    let is_among = |list: &[&str]| {
        let is = |known: &&str| extension.eq_ignore_ascii_case(known.as_bytes());
        list.iter().any(is)
    };
    let is_built = is_among(&BUILT);
    if !is_built && !is_among(&COPIED) {
        return false;
    }
    let is_digest = |text: &[u8]| is_hex_digest(text) || (is_built && is_short_digest(text));
    stem.split(|&byte| byte == b'.')
        .enumerate()
        .any(|(index, piece)| {
            let tail = piece
                .iter()
                .rposition(|&byte| byte == b'-')
                .filter(|&at| at > 0);
            match tail {
                Some(hyphen) => !ends_in_uuid(piece) && is_digest(&piece[hyphen + 1..]),
                // What stands before all dots is the name of something.
                None => index > 0 && is_digest(piece),
            }
        })
}

/// Lower-case hexadecimal digits that change often enough between figures and letters: neither
/// dates nor `deadbeef`, `cafe2024` and `face2face`.
fn is_hex_digest(text: &[u8]) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    HEX_DIGITS.contains(&text.len()) && text.iter().all(is_hex) && changes(text) >= 3
}

/// Eight characters as no word has them, nor a version.
fn is_short_digest(text: &[u8]) -> bool {
    let has = |kind: Kind| text.iter().any(|&byte| Kind::of(byte) == kind);
    if text.len() != LETTERS || !has(Kind::Digit) || !has(Kind::Upper) || has(Kind::Other) {
        return false;
    }
    let is_base32 = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    if text.iter().all(is_base32) {
        return changes(text) >= 3;
    }
    has(Kind::Lower) && changes(text) >= 5
}

/// Kinds of characters, as words and numbers consist of them.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Upper,
    Lower,
    Digit,
    Underscore,
    Other,
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            b'A'..=b'Z' => Kind::Upper,
            b'a'..=b'z' => Kind::Lower,
            b'0'..=b'9' => Kind::Digit,
            b'_' => Kind::Underscore,
            _ => Kind::Other,
        }
    }
}

/// How often the kind of character changes.
fn changes(text: &[u8]) -> usize {
    let kinds = text
        .windows(2)
        .map(|pair| (Kind::of(pair[0]), Kind::of(pair[1])));
    kinds.filter(|(one, next)| one != next).count()
}

/// A UUID names a thing, not its content.
fn ends_in_uuid(text: &[u8]) -> bool {
    let Some((_, uuid)) = text.split_last_chunk::<36>() else {
        return false;
    };
    uuid.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(names: &[&str], expect: bool) {
        for name in names {
            assert_eq!(is_fingerprinted(name.as_bytes()), expect, "{name}");
            let path = format!("/static/3f2a9c1b.js/{name}");
            assert_eq!(is_fingerprinted(path.as_bytes()), expect, "{path}");
        }
    }

    #[test]
    fn what_build_tools_write() {
        check(
            &[
                // webpack and Create React App
                "app.3f2a9c1b.js",
                "main.8a1b2c3d.chunk.css",
                "main.8a1b2c3d.js.map",
                "787.1f0e2d3c4b5a69788796.js",
                "runtime~main.a1b2c3d4e5f60718.js",
                "logo.5d5d9eef1a2b.svg",
                "photo.5d5d9e0f1a2b.JPG",
                // Vite and Rollup, before and after their change of alphabet
                "vendor-4ed993c7.js",
                "index-BxYz12_k.css",
                "index-DfR3k9aQ.js",
                "vendor-C1nNGZ5M.js.map",
                "index.4sK9EmAU.mjs",
                // esbuild and Angular
                "app-5FBNZK6P.js",
                "main.3f2a9c1b4d5e6f70.js",
                // Rails, Django, Phoenix, Next.js, Hugo, Parcel
                "application-0e5d3f2a9c1b4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6.css",
                "styles.55e7cbb9ba48.css",
                "app-3f2a9c1b4d5e6f708192a3b4c5d6e7f8.js",
                "4bd1b696-182b6b13bdad92e3.js",
                "main.min.0e5d3f2a9c1b4d5e6f708192a3b4c5d6.css",
                "roboto-v30.2f8a1c3e.woff2",
            ],
            true,
        );
    }

    #[test]
    fn dates_versions_and_numbers() {
        check(
            &[
                "2024-report.pdf",
                "report-2024.js",
                "jquery-3.7.1.min.js",
                "jquery-3.7.1.slim.min.js.map",
                "bootstrap-5.3.0-alpha1.css",
                "v1.20240131.js",
                "photo-20240131.jpg",
                "IMG-20240131.jpg",
                "app-20240131123456.js",
                "app.12345678.js",
                "video-1920x1080.mp4",
                "clip-1080p60f.mp4",
                "icon-16x16px2.png",
                "lib-v2_1_rc3.js",
                "app-1.2.3-rc.1.js",
                "app-1.2.3-5-g3f2a9c1b.js",
                "bundle-x86_64.wasm",
            ],
            false,
        );
    }

    #[test]
    fn words() {
        check(
            &[
                "index.js",
                "style.min.css",
                "about-frontend.js",
                "app-database.js",
                "index-HomePage.js",
                "index-Version2.js",
                "page-Chapter1.js",
                "lib-Utf8Json.js",
                "lib-Vue3Demo.js",
                "lib-Web2Conf.js",
                "lib-H264Main.js",
                "app-VERSION2.js",
                "app-FINALCUT.js",
                "app-VER2BETA.js",
                "main.deadbeef.js",
                "menu-cafe2024.png",
                "chat-face2face.png",
                "old-facade00.js",
                "app.settings.js",
                "chunk-vendors.js",
                "font-awesome.woff2",
                ".js",
                "js",
                "",
                ".3f2a9c1b.js",
                "a-.js",
                "..js",
            ],
            false,
        );
    }

    #[test]
    fn other_names() {
        check(
            &[
                // No name before it: as likely a key as a digest.
                "3f2a9c1b.js",
                "-3f2a9c1b.js",
                "5d41402abc4b2a76b9719d911017c592.png",
                // Not the separator, the length or the alphabet of a digest.
                "app_3f2a9c1b.js",
                "app-3f2a9c1.js",
                "app-3F2A9C1B.png",
                "app-BxYz12_k9.js",
                "app-BxYz1 2k.js",
                "photo-BxYz12_k.jpg",
                // Documents, pages and archives.
                "report-3f2a9c1b.pdf",
                "index-3f2a9c1b.html",
                "backup.3f2a9c1b4d5e.zip",
                "data-3f2a9c1b.json",
                "app-3f2a9c1b",
                // Whose picture, not which.
                "3f2a9c1b-4d5e-6f70-8192-a3b4c5d6e7f8.png",
                "avatar-3f2a9c1b-4d5e-4f70-8192-a3b4c5d6e7f8.png",
            ],
            false,
        );
    }

    /// How many of 10,000 digests are recognised, in hundredths. They are made by SplitMix64, whose
    /// output is as good as random.
    fn recognised(alphabet: &str, length: usize) -> u32 {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as usize
        };
        let mut digest = |_: &u32| {
            let letters =
                (0..length).map(|_| char::from(alphabet.as_bytes()[random() % alphabet.len()]));
            is_fingerprinted(format!("app-{}.js", letters.collect::<String>()).as_bytes())
        };
        (0..10_000).filter(&mut digest).count() as u32 / 100
    }

    #[test]
    fn as_many_as_the_documentation_says() {
        const HEX: &str = "0123456789abcdef";
        const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        assert!(recognised(HEX, 64) >= 99);
        assert!(recognised(HEX, 20) >= 99);
        assert!((90..97).contains(&recognised(HEX, 12)));
        assert!((65..75).contains(&recognised(HEX, 8)));
        assert!((35..50).contains(&recognised(BASE32, 8)));
        assert!((35..50).contains(&recognised(BASE64, 8)));
        assert_eq!(recognised(HEX, 7), 0);
    }

    proptest! {
        /// However words and numbers are put together by hyphens and dots.
        #[test]
        fn words_and_numbers_never_are(
            pieces in prop::collection::vec("[A-Z]?[a-z]{2,12}[0-9]{0,4}|[0-9]{1,14}|[A-Z]{2,10}", 1..6),
            separator in "[-.]",
        ) {
            let name = pieces.join(&separator) + ".js";
            prop_assert!(!is_fingerprinted(name.as_bytes()), "{}", name);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(name in any::<Vec<u8>>()) {
            is_fingerprinted(&name);
        }
    }
}
