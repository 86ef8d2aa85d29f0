//! How long clients may keep a file without asking again: `Cache-Control`.
//!
//! A file whose name changes with its content can be kept for ever, and every other is asked about
//! each time it is used, which its tag makes cheap: what was deployed shows at once. Without a
//! directive browsers would keep files for a tenth of their age (RFC 9111 §4.2.2), and an old style
//! sheet beside a new page is what that looks like.

use crate::config::value::nearest;
use ringway_http::fingerprint::is_fingerprinted;
use ringway_http::glob::Glob;

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
            glob: Glob::parse(glob).map_err(|error| (format!("{glob:?}: {error}"), EXAMPLE))?,
            value: (value != "none").then(|| value.into()),
        })
    }
}

/// Directives of responses: RFC 9111 §5.2.2, RFC 8246 and RFC 5861; whether each needs a number of
/// seconds.
const DIRECTIVES: [(&str, bool); 13] = [
    ("immutable", false),
    ("max-age", true),
    ("must-revalidate", false),
    ("must-understand", false),
    ("no-cache", false),
    ("no-store", false),
    ("no-transform", false),
    ("private", false),
    ("proxy-revalidate", false),
    ("public", false),
    ("s-maxage", true),
    ("stale-if-error", true),
    ("stale-while-revalidate", true),
];

/// What a cache would make nothing of in the value of a rule that [`Rule::parse`] accepts. It is sent
/// all the same: caches have extensions of their own.
pub(crate) fn doubts(line: &str) -> Vec<String> {
    let value = line.trim().split_once(' ').map_or("", |(_, value)| value);
    if value.trim() == "none" {
        return Vec::new();
    }
    let directives = directives(value).map(str::trim);
    directives
        .filter(|directive| !directive.is_empty())
        .filter_map(doubt)
        .collect()
}

/// The directives of a value. A comma inside quotes divides nothing (RFC 9110 §5.6.4); the values of
/// rules have no backslashes.
fn directives(value: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    value.split(move |character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    })
}

fn doubt(directive: &str) -> Option<String> {
    let (name, argument) = match directive.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (directive, None),
    };
    let known = DIRECTIVES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match known {
        Some((_, false)) => None,
        Some((_, true)) if argument.is_some_and(is_number) => None,
        Some((known, true)) => Some(format!(
            "{directive:?} has no number of seconds: such as \"{known}=3600\""
        )),
        None => {
            let lower = name.to_ascii_lowercase();
            let names = DIRECTIVES.iter().map(|(known, _)| *known);
            Some(match nearest(&lower, names) {
                Some(near) => format!("no cache knows {directive:?}: did you mean {near:?}?"),
                None => format!("no standard has the directive {directive:?}"),
            })
        }
    }
}

/// What is said of the file at `path`, which begins with a slash: by the first rule that matches,
/// or else by its name.
pub(super) fn cache_control<'r>(rules: &'r [Rule], path: &[u8], is_page: bool) -> Option<&'r str> {
    match rules.iter().find(|rule| rule.glob.matches(path)) {
        Some(rule) => rule.value.as_deref(),
        None if !is_page && is_fingerprinted(path) => Some(FOREVER),
        None => Some(ASK),
    }
}

/// The same for a file that only users may have: no cache that others share may keep it, whatever
/// a rule says. RFC 9111 §3.5 has such caches leave alone what was asked for with a password, but
/// not when it is said to be public or theirs to keep.
pub(super) fn private(value: &str) -> String {
    let is_kept = |directive: &&str| {
        let name = directive.split('=').next().unwrap_or_default().trim_end();
        let others = ["", "public", "private", "s-maxage"];
        !others.iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    let directives = directives(value).map(str::trim).filter(is_kept);
    ["private"]
        .into_iter()
        .chain(directives)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_private_is_never_kept_by_others() {
        for (said, expect) in [
            ("", "private"),
            ("no-cache", "private, no-cache"),
            (
                "max-age=31536000, immutable",
                "private, max-age=31536000, immutable",
            ),
            ("public, max-age=60", "private, max-age=60"),
            (
                "no-cache=\"a, public, b\"",
                "private, no-cache=\"a, public, b\"",
            ),
            (
                "PUBLIC,s-maxage = 9 ,, Private, must-revalidate",
                "private, must-revalidate",
            ),
        ] {
            assert_eq!(private(said), expect, "{said}");
        }
    }

    #[track_caller]
    fn check_doubts(line: &str, expected: &[&str]) {
        assert!(Rule::parse(line).is_ok(), "{line}");
        assert_eq!(doubts(line), expected, "{line}");
    }

    #[test]
    fn what_no_cache_would_understand_is_doubted() {
        check_doubts("*.js max-age=60, IMMUTABLE,public", &[]);
        check_doubts("*.js no-cache=\"set-cookie\", s-maxage=0", &[]);
        check_doubts("*.js no-cache=\"a, b\", private=\"c,d\"", &[]);
        check_doubts("*.js none", &[]);
        check_doubts(
            "*.js maxage=60",
            &["no cache knows \"maxage=60\": did you mean \"max-age\"?"],
        );
        check_doubts(
            "*.js max-age, no-store, forever",
            &[
                "\"max-age\" has no number of seconds: such as \"max-age=3600\"",
                "no standard has the directive \"forever\"",
            ],
        );
        check_doubts(
            "*.js max-age=1h",
            &["\"max-age=1h\" has no number of seconds: such as \"max-age=3600\""],
        );
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
            "a//b none",
            "a** none",
        ] {
            assert!(Rule::parse(line).is_err(), "{line:?}");
        }
    }
}
