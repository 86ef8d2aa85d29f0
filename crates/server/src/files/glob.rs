//! Patterns of paths, as the configuration writes them.

/// A pattern: `*` and `?` stand for anything within a name, `**` for anything at all, `**/` for any
/// number of directories, also none. Without a slash it is matched with the file's name, else with
/// the whole path from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    pattern: Box<[u8]>,
    is_name: bool,
}

/// Where a `*` or `**` was met: the pattern behind it, and where in the text that begins.
type Star = (usize, usize);

impl Glob {
    pub(crate) fn new(pattern: &str) -> Glob {
        let is_name = !pattern.contains('/');
        let is_rooted = is_name || pattern.starts_with('/');
        let pattern = match is_rooted {
            true => pattern.to_owned(),
            false => format!("/{pattern}"),
        };
        Glob {
            pattern: pattern.into_bytes().into(),
            is_name,
        }
    }

    /// Whether it matches the path of a file, which begins with a slash.
    ///
    /// Takes at most the square of the path's length times the pattern's. Only the last star of
    /// each kind is ever tried again: what an earlier one could take, a later one can take as well.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let start = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) if self.is_name => slash + 1,
            _ => 0,
        };
        let (pattern, text) = (&*self.pattern, &path[start..]);
        let (mut at, mut read) = (0, 0);
        let (mut star, mut stars): (Option<Star>, Option<Star>) = (None, None);
        loop {
            if pattern[at..].starts_with(b"**") {
                let skip = if pattern[at..].starts_with(b"**/") {
                    3
                } else {
                    2
                };
                at += skip;
                stars = Some((at, read));
                star = None;
                continue;
            }
            match (pattern.get(at), text.get(read)) {
                (None, None) => return true,
                (Some(b'*'), _) => {
                    at += 1;
                    star = Some((at, read));
                    continue;
                }
                (Some(b'?'), Some(byte)) if *byte != b'/' => {
                    (at, read) = (at + 1, read + 1);
                    continue;
                }
                (Some(want), Some(byte)) if want == byte => {
                    (at, read) = (at + 1, read + 1);
                    continue;
                }
                _ => {}
            }
            // A mismatch: a star takes more.
            if let Some((behind, from)) = &mut star
                && text.get(*from).is_some_and(|byte| *byte != b'/')
            {
                *from += 1;
                (at, read) = (*behind, *from);
            } else if let Some((behind, from)) = &mut stars
                && *from < text.len()
            {
                let is_directories = pattern[*behind - 1] == b'/';
                let rest = &text[*from..];
                let Some(step) = rest
                    .iter()
                    .position(|byte| !is_directories || *byte == b'/')
                else {
                    return false;
                };
                *from += step + 1;
                (at, read) = (*behind, *from);
                star = None;
            } else {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, matched: &[&str], others: &[&str]) {
        let glob = Glob::new(pattern);
        for path in matched {
            assert!(glob.matches(path.as_bytes()), "{pattern} {path}");
        }
        for path in others {
            assert!(!glob.matches(path.as_bytes()), "{pattern} {path}");
        }
    }

    #[test]
    fn names_and_paths() {
        check("*", &["/a", "/a/b.c", "/"], &[]);
        check(
            "*.css",
            &["/a.css", "/x/y.css", "/.css"],
            &["/a.css/b", "/a.cs"],
        );
        check("a?c", &["/abc", "/x/a-c"], &["/ac", "/abbc", "/a/c"]);
        check("/a/*", &["/a/b", "/a/"], &["/a", "/a/b/c", "/x/a/b"]);
        check("a/*", &["/a/b"], &["/x/a/b"]);
        check("/a/**", &["/a/b", "/a/b/c", "/a/"], &["/a", "/b/a/"]);
        check(
            "/**/b",
            &["/b", "/a/b", "/a/c/b"],
            &["/ab", "/a/bb", "/b/a"],
        );
        check(
            "**/x/*.js",
            &["/x/a.js", "/a/b/x/a.js"],
            &["/x/y/a.js", "/ax/a.js"],
        );
        check(
            "/a/**/b/*.c",
            &["/a/b/x.c", "/a/b/c/b/x.c"],
            &["/a/b/c/x.c"],
        );
        check("/a**c", &["/ac", "/a/b/c", "/abc"], &["/a/b", "/c"]);
        check("*a*b*", &["/ab", "/xxaxxbxx"], &["/ba"]);
        check("", &["/"], &["/a"]);
    }

    /// By the definition, slowly.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', b'/', rest @ ..] => {
                slow(rest, text)
                    || (0..text.len()).any(|at| text[at] == b'/' && slow(rest, &text[at + 1..]))
            }
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            [b'*', rest @ ..] => {
                let end = text.iter().position(|byte| *byte == b'/');
                (0..=end.unwrap_or(text.len())).any(|at| slow(rest, &text[at..]))
            }
            [b'?', rest @ ..] => {
                text.first().is_some_and(|byte| *byte != b'/') && slow(rest, &text[1..])
            }
            [byte, rest @ ..] => text.first() == Some(byte) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn as_defined(pattern in "/[ab/*?]{0,8}", text in "/[ab/]{0,8}") {
            let glob = Glob::new(&pattern);
            prop_assert_eq!(glob.matches(text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
