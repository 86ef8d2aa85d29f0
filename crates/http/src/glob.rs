//! Patterns of paths, by which rules say what they are for, such as `Cache-Control` for `*.woff2`.
//!
//! | in a pattern | stands for |
//! | --- | --- |
//! | `*` | any number of characters of a name, none included |
//! | `?` | one character |
//! | `**` between slashes | any number of folders, none included; at the end: whatever is beneath |
//! | anything else | itself, in this case |
//!
//! A pattern without a slash is for names, in whichever folder: `*.css`. One with a slash is for
//! whole paths, from the root: `/robots.txt`, `assets/**`, `docs/*/index.html`.
//!
//! This is all that such rules need, and it is a hundred lines: the crates that do it also compile
//! sets of patterns into automata (`globset`, on a regex engine) or know nothing of folders
//! (`wildmatch`). Paths come from whoever sends requests, so what a match costs is bounded: by the
//! pattern's length times the path's, whatever the two are. Nothing is allocated by a match.

use std::fmt;

/// Longest pattern; no path that a kernel takes has more bytes in a name.
const MAX_BYTES: usize = 255;

/// A checked pattern.
///
/// ```
/// use ringway_http::glob::Glob;
///
/// let glob = Glob::parse("assets/**/*.js")?;
/// assert!(glob.matches(b"/assets/app.js"));
/// assert!(glob.matches(b"/assets/vendor/2/lib.js"));
/// assert!(!glob.matches(b"/other/assets/app.js"));
/// # Ok::<(), ringway_http::glob::GlobError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: Box<str>,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobError {
    /// It has no bytes, or more than 255.
    Length,
    /// It has `[`, `]`, `{`, `}`, `\` or a control character, which could be taken for more than
    /// themselves, or never match.
    Character,
    /// A name in it is empty, `.` or `..`, which no path has.
    Name,
    /// `**` isn't alone between slashes.
    Stars,
}

impl GlobError {
    /// One line that says what would be right.
    pub fn reason(self) -> &'static str {
        match self {
            GlobError::Length => "a pattern has 1 to 255 bytes",
            GlobError::Character => {
                "a pattern can't have brackets, braces, backslashes or control characters"
            }
            GlobError::Name => {
                "a pattern can't have `//`, `.` or `..`; a folder's content is `folder/**`"
            }
            GlobError::Stars => "`**` stands alone between slashes: `**/name` or `folder/**`",
        }
    }
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for GlobError {}

impl Glob {
    /// Checks a pattern.
    ///
    /// # Errors
    ///
    /// See [`GlobError`].
    pub fn parse(pattern: &str) -> Result<Glob, GlobError> {
        if pattern.is_empty() || pattern.len() > MAX_BYTES {
            return Err(GlobError::Length);
        }
        let is_bad = |character: char| character.is_control() || "[]{}\\".contains(character);
        if pattern.contains(is_bad) {
            return Err(GlobError::Character);
        }
        for name in pattern.strip_prefix('/').unwrap_or(pattern).split('/') {
            if matches!(name, "" | "." | "..") {
                return Err(GlobError::Name);
            }
            if name.contains("**") && name != "**" {
                return Err(GlobError::Stars);
            }
        }
        Ok(Glob {
            pattern: pattern.into(),
        })
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether a file's path is meant: decoded and normalised, from the root, with or without the
    /// first slash. For a folder's index that is the path of the index file.
    pub fn matches(&self, path: &[u8]) -> bool {
        let pattern = self.pattern.as_bytes();
        if !pattern.contains(&b'/') && pattern != b"**" {
            let name = path.rsplit(|&byte| byte == b'/').next();
            return name.is_some_and(|name| name_matches(pattern, name));
        }
        path_matches(without_slash(pattern), without_slash(path))
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

/// The first name, and the names behind it; `None` when there is none left.
fn split(names: Option<&[u8]>) -> Option<(&[u8], Option<&[u8]>)> {
    let names = names?;
    let end = memchr::memchr(b'/', names);
    let name = &names[..end.unwrap_or(names.len())];
    Some((name, end.map(|end| &names[end + 1..])))
}

/// Matches name by name. When it fails, what the last `**` stands for grows by one name; what an
/// earlier one stands for never has to, because whatever that could reach, the last one can. So
/// each name of the pattern is compared with each of the path once at most.
fn path_matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut pattern, mut path) = (Some(pattern), Some(path));
    let mut again = None;
    loop {
        let matched = match (split(pattern), split(path)) {
            (None, None) => return true,
            (Some((b"**", None)), rest) => return rest.is_some(),
            (Some((b"**", behind)), _) => {
                again = Some((behind, path));
                pattern = behind;
                continue;
            }
            (Some((one, behind)), Some((name, rest))) if name_matches(one, name) => {
                Some((behind, rest))
            }
            _ => None,
        };
        if let Some(rests) = matched {
            (pattern, path) = rests;
            continue;
        }
        let Some((behind, from)) = again else {
            return false;
        };
        let Some((_, rest)) = split(from) else {
            return false;
        };
        again = Some((behind, rest));
        (pattern, path) = (behind, rest);
    }
}

/// Matches within a name, in the same way: when it fails, what the last `*` stands for grows.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([], []) => return true,
            ([b'*', behind @ ..], _) => {
                again = Some((behind, name));
                pattern = behind;
                continue;
            }
            ([b'?', behind @ ..], [_, rest @ ..]) => {
                (pattern, name) = (behind, behind_character(rest));
                continue;
            }
            ([literal, behind @ ..], [byte, rest @ ..]) if literal == byte => {
                (pattern, name) = (behind, rest);
                continue;
            }
            _ => {}
        }
        let Some((behind, [_, rest @ ..])) = again else {
            return false;
        };
        again = Some((behind, rest));
        (pattern, name) = (behind, rest);
    }
}

/// Skips the further bytes of a character in UTF-8.
fn behind_character(mut rest: &[u8]) -> &[u8] {
    while let [0x80..0xc0, tail @ ..] = rest {
        rest = tail;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expect: bool) {
        let glob = Glob::parse(pattern).unwrap();
        assert_eq!(glob.matches(path.as_bytes()), expect, "{pattern} {path}");
        assert_eq!(glob.as_str(), pattern);
        if let Some(relative) = path.strip_prefix('/') {
            assert_eq!(
                glob.matches(relative.as_bytes()),
                expect,
                "{pattern} {relative}"
            );
        }
    }

    #[test]
    fn names_in_any_folder() {
        for path in ["/a.css", "/b/a.css", "/b/c/.css"] {
            check("*.css", path, true);
        }
        for path in ["/a.css/b", "/a.css.gz", "/a.CSS", "/css", "/"] {
            check("*.css", path, false);
        }
        check("robots.txt", "/deep/robots.txt", true);
        check("robots.txt", "/xrobots.txt", false);
        check("*", "/a/b", true);
    }

    #[test]
    fn paths_from_the_root() {
        check("/robots.txt", "/robots.txt", true);
        check("/robots.txt", "/deep/robots.txt", false);
        check("docs/*/index.html", "/docs/a/index.html", true);
        check("docs/*/index.html", "/docs/a/b/index.html", false);
        check("docs/*/index.html", "/docs/index.html", false);
        check("a/b", "/a/b/c", false);
        check("a/b/c", "/a/b", false);
    }

    #[test]
    fn any_folders() {
        for path in ["/a/x.js", "/a/b/x.js", "/a/b/c/x.js", "/a/x.js/x.js"] {
            check("a/**/x.js", path, true);
        }
        for path in ["/x.js", "/b/a/x.js", "/a/x.js/b", "/ax.js", "/a/b/xx.js"] {
            check("a/**/x.js", path, false);
        }
        check("**/b/*", "/b/c", true);
        check("**/b/*", "/a/b/b/c", true);
        check("**/b/*", "/a/b", false);
        check("**/a/**/b/**/c", "/a/x/a/b/y/b/c", true);
        check("**/a/**/b/**/c", "/b/a/c/b", false);
    }

    #[test]
    fn whatever_is_beneath() {
        check("assets/**", "/assets/a", true);
        check("assets/**", "/assets/a/b.js", true);
        check("assets/**", "/assets", false);
        check("assets/**", "/other/assets/a", false);
        check("**", "/a/b", true);
        check("/**", "/a", true);
        check("a/**/**", "/a/b", true);
        check("a/**/**", "/a", false);
    }

    #[test]
    fn characters() {
        check("?.js", "/a.js", true);
        check("?.js", "/.js", false);
        check("?.js", "/ab.js", false);
        check("?.js", "/\u{fc}.js", true);
        check("??", "/\u{1f980}x", true);
        check("??", "/\u{1f980}", false);
        check("*?", "/\u{fc}", true);
        check("\u{fc}*", "/\u{fc}x", true);
        check("a*b*c", "/aXbXbXc", true);
        check("a*b*c", "/aXcXb", false);
        check("*.*", "/a", false);
        let glob = Glob::parse("?-?").unwrap();
        assert!(glob.matches(b"\xff-\xfe"), "bytes that are no UTF-8");
    }

    #[test]
    fn refused() {
        let long = "a".repeat(256);
        for (pattern, expect) in [
            ("", GlobError::Length),
            (&*long, GlobError::Length),
            ("[ab]", GlobError::Character),
            ("*.{js,css}", GlobError::Character),
            ("a\\*", GlobError::Character),
            ("a\n", GlobError::Character),
            ("a\0", GlobError::Character),
            ("/", GlobError::Name),
            ("//a", GlobError::Name),
            ("a//b", GlobError::Name),
            ("a/", GlobError::Name),
            ("../a", GlobError::Name),
            ("./a", GlobError::Name),
            ("**a", GlobError::Stars),
            ("a/**.js", GlobError::Stars),
            ("***", GlobError::Stars),
        ] {
            assert_eq!(Glob::parse(pattern), Err(expect), "{pattern}");
        }
        assert!(Glob::parse(&long[..255]).is_ok());
    }

    /// A pattern that would take exponential time where every choice is tried.
    #[test]
    fn hostile_paths_cost_no_more_than_the_product() {
        let stars = Glob::parse(&"*a".repeat(120)).unwrap();
        assert!(!stars.matches("a".repeat(119).as_bytes()));
        assert!(stars.matches("a".repeat(4096).as_bytes()));
        let folders = Glob::parse(&("**/a/".repeat(40) + "b")).unwrap();
        assert!(!folders.matches("a/".repeat(2000).as_bytes()));
    }

    /// Matching by trying everything, written down a second time; names are single letters.
    fn tries(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], _) => path.is_empty(),
            (["**"], _) => !path.is_empty(),
            (["**", behind @ ..], _) => (0..=path.len()).any(|from| tries(behind, &path[from..])),
            ([one, behind @ ..], [name, rest @ ..]) => {
                (*one == "*" || one == name) && tries(behind, rest)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn as_if_everything_were_tried(
            pattern in prop::collection::vec(prop::sample::select(vec!["**", "*", "a", "b"]), 2..7),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..8),
        ) {
            let glob = Glob::parse(&pattern.join("/")).unwrap();
            let expect = tries(&pattern, &path);
            prop_assert_eq!(glob.matches(path.join("/").as_bytes()), expect);
        }
    }
}
