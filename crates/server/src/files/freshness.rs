//! How long clients may keep a file without asking again: `Cache-Control`.
//!
//! A file whose name changes with its content can be kept for ever, and every other is asked about
//! each time it is used, which its tag makes cheap: what was deployed shows at once. Without a
//! directive browsers would keep files for a tenth of their age (RFC 9111 §4.2.2), and an old style
//! sheet beside a new page is what that looks like.

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
    let directives = value.split(',').map(str::trim).filter(is_kept);
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
                "PUBLIC,s-maxage = 9 ,, Private, must-revalidate",
                "private, must-revalidate",
            ),
        ] {
            assert_eq!(private(said), expect, "{said}");
        }
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
