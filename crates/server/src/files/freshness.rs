//! How long clients may keep a file without asking again: `Cache-Control`.
//!
//! A file whose name changes with its content can be kept for ever, and every other is asked about
//! each time it is used, which its tag makes cheap: what was deployed shows at once. Without a
//! directive browsers would keep files for a tenth of their age (RFC 9111 §4.2.2), and an old style
//! sheet beside a new page is what that looks like.

use super::glob::Glob;

/// A year, which is as good as ever. Not `public`: that would let shared caches keep what was only
/// for those who are let in (RFC 9111 §3.5), and changes nothing for the rest.
const FOREVER: &str = "max-age=31536000, immutable";

/// To be kept, and asked about each time (RFC 9111 §5.2.2.4).
pub(super) const ASK: &str = "no-cache";

/// An element of `cache_control`: which files, and what is said of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    glob: Glob,
    /// Nothing: the files have no `Cache-Control`.
    value: Option<Box<str>>,
}

impl Rule {
    /// Reads `GLOB VALUE`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(line: &str) -> Result<Rule, (String, &'static str)> {
        const EXAMPLE: &str = "such as \"/images/** max-age=86400\", or \"*.zip none\"";
        let Some((glob, value)) = line.trim().split_once(' ') else {
            return Err((format!("{line:?} needs a pattern and a value"), EXAMPLE));
        };
        let value = value.trim();
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=, \"".contains(&byte);
        if !value.bytes().all(is_sound) {
            return Err((
                format!("{value:?} isn't a list of cache directives"),
                EXAMPLE,
            ));
        }
        Ok(Rule {
            glob: Glob::new(glob),
            value: (value != "none").then(|| value.into()),
        })
    }
}

/// What is said of the file at `path`, which begins with a slash: by the first rule that matches,
/// or else by its name.
pub(super) fn cache_control<'r>(rules: &'r [Rule], path: &[u8], is_page: bool) -> Option<&'r str> {
    match rules.iter().find(|rule| rule.glob.matches(path)) {
        Some(rule) => rule.value.as_deref(),
        None if !is_page && is_hashed(path) => Some(FOREVER),
        None => Some(ASK),
    }
}

/// Whether a file's name carries a hash of its content, as bundlers write it: `app.3f9a1c20.js`,
/// `index-DkT3x9aB.css`, `chunk-2LX5K3ZB.js.map`.
///
/// To take a name for hashed that isn't would keep an old file in browsers for a year, and the
/// other mistake only costs a question; so dates, versions, numbers and words with a capital or two
/// must not pass.
fn is_hashed(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let mut parts = name.split(|byte| *byte == b'.');
    // What is before the first dot; extensions; and hashes among them.
    let stem = parts.next().unwrap_or_default();
    let rest: Vec<&[u8]> = parts.collect();
    let Some((_, inner)) = rest.split_last() else {
        return false;
    };
    let tails = |part: &[u8]| {
        let after = |mark: u8| {
            let at = part.iter().rposition(|byte| *byte == mark);
            at.is_some_and(|at| is_hash(&part[at + 1..]))
        };
        after(b'-') || after(b'_')
    };
    tails(stem) || inner.iter().any(|part| is_hash(part) || tails(part))
}

/// What bundlers make hashes of: hexadecimal digits (webpack, Parcel), eight of base 64 (Rollup,
/// Vite), eight of base 32 (esbuild).
fn is_hash(part: &[u8]) -> bool {
    let count = |is: fn(&u8) -> bool| part.iter().filter(|byte| is(byte)).count();
    let (lower, upper) = (count(u8::is_ascii_lowercase), count(u8::is_ascii_uppercase));
    let digits = count(u8::is_ascii_digit);
    if lower + upper + digits != part.len() {
        return false;
    }
    let is_hex = part
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && (8..=64).contains(&part.len()) {
        return digits >= 1 && lower >= 1;
    }
    // Random letters change their kind all the time, words and numbers don't.
    let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let changes = part
        .windows(2)
        .filter(|pair| kind(pair[0]) != kind(pair[1]))
        .count();
    part.len() == 8
        && match (lower, upper) {
            (0, 1..) => digits >= 2 && changes >= 3,
            (1.., 1..) => changes >= 4,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_hash_are_known() {
        for name in [
            "/app.3f9a1c20.js",
            "/static/js/main.5d41402abc4b2a76b9719d911017c592.js",
            "/assets/index-DkT3x9aB.css",
            "/assets/logo-Bx1TqP0z.svg",
            "/chunk-2LX5K3ZB.js",
            "/app.3f9a1c20.js.map",
            "/runtime~main.0a1b2c3d4e5f.min.js",
            "/fonts/inter_1a2b3c4d5e.woff2",
            "/_next/static/chunks/webpack-8fa1640cc84ba8fe.js",
        ] {
            assert!(is_hashed(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_taken_for_hashed() {
        for name in [
            "/index.html",
            "/app.js",
            "/jquery-3.7.1.min.js",
            "/report-20240131.pdf",
            "/IMG_20240131.jpg",
            "/photo-iPhone15.jpg",
            "/Setup-Windows11.exe",
            "/My-Document.pdf",
            "/release-Version2.zip",
            "/app-universal.dmg",
            "/a1b2c3d4",
            "/3f9a1c20.js",
            "/dir-3f9a1c20.d/app.js",
            "/font-SemiBold.woff2",
            "/x.README01.txt",
            "/covid-COVID19.csv",
            "/file.12345678.txt",
            "/file.abcdefab.txt",
            "/name-\u{fc}1b2c3d4.js",
        ] {
            assert!(!is_hashed(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_first_rule_decides_and_the_name_without_one() {
        let lines = [
            "/img/** max-age=60",
            "*.zip none",
            "*.js  private,  no-store ",
        ];
        let rules: Vec<Rule> = lines
            .iter()
            .map(|line| Rule::parse(line).unwrap())
            .collect();
        let said = |path: &str, is_page| cache_control(&rules, path.as_bytes(), is_page);
        assert_eq!(said("/img/a/x.zip", false), Some("max-age=60"));
        assert_eq!(said("/x.zip", false), None);
        assert_eq!(said("/app.3f9a1c20.js", false), Some("private,  no-store"));
        assert_eq!(
            said("/app.3f9a1c20.css", false),
            Some("max-age=31536000, immutable")
        );
        assert_eq!(said("/app.3f9a1c20.html", true), Some("no-cache"));
        assert_eq!(said("/style.css", false), Some("no-cache"));
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        for line in [
            "*.js",
            "",
            " ",
            "*.js a\nb",
            "*.js max-age: 5",
            "*.js \u{fc}",
        ] {
            assert!(Rule::parse(line).is_err(), "{line:?}");
        }
    }
}
