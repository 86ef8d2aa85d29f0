//! Answers that aren't what was asked for: redirects, and errors with pages of the site's own.
//!
//! A page for errors is a file of the root like any other, found by its own path: nothing is tried
//! for it, no index, no fallback, and when it isn't there the few words of the server are. So it
//! leads to no other page.

use super::find::{Found, status_of, within};
use super::{First, Lookup, Moment, Root, respond};
use crate::answer::{self, Answer, Frame};
use crate::clock::Clock;
use crate::config;
use ringway_http::StatusCode;
use ringway_http::head::RequestHead;
use ringway_http::response::name;
use ringway_http::target::Path;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// An element of `error_pages`: which statuses, and the page for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRule {
    statuses: RangeInclusive<u16>,
    /// Where it is kept, which is no path that a request can have: what it is there for is not to
    /// be answered with 200. Behind the NUL it is its path.
    key: Box<[u8]>,
}

impl PageRule {
    /// Reads `404 /404.html` or `5xx /error.html`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(line: &str) -> Result<PageRule, (String, &'static str)> {
        const EXAMPLE: &str = "such as \"404 /404.html\" or \"5xx /error.html\"";
        let Some((statuses, path)) = line.trim().split_once(' ') else {
            return Err((format!("{line:?} needs a status and a path"), EXAMPLE));
        };
        let statuses = match statuses {
            "4xx" => 400..=499,
            "5xx" => 500..=599,
            code => match code.parse::<u16>() {
                Ok(code) if (400..600).contains(&code) => code..=code,
                _ => return Err((format!("{code:?} isn't the status of an error"), EXAMPLE)),
            },
        };
        let path = path.trim();
        match Path::parse(path.as_bytes()) {
            Ok(parsed) if parsed.as_bytes() == path.as_bytes() && !parsed.is_directory() => {
                Ok(PageRule {
                    statuses,
                    key: [b"\0", path.as_bytes()].concat().into(),
                })
            }
            _ => Err((format!("{path:?} isn't the path of a file"), EXAMPLE)),
        }
    }
}

impl PageRule {
    /// The page, as a path from the root.
    pub(crate) fn path(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key[1..])
    }
}

/// The rules of a root.
pub(super) fn read(root: &config::Root) -> Vec<PageRule> {
    // The configuration was checked: every line is one.
    let lines = root.error_pages.iter();
    lines
        .filter_map(|line| PageRule::parse(line).ok())
        .collect()
}

/// The path of the page that a root has for `status`, which need not be there.
pub(crate) fn page_for(root: &config::Root, status: StatusCode) -> Option<Vec<u8>> {
    key_of(&read(root), status).map(|key| key[1..].to_vec())
}

/// Where the page for `status` is kept: by the first rule for it.
fn key_of(rules: &[PageRule], status: StatusCode) -> Option<&[u8]> {
    let rule = rules
        .iter()
        .find(|rule| rule.statuses.contains(&status.as_u16()));
    rule.map(|rule| &*rule.key)
}

impl Root {
    /// Answers a request that isn't let in.
    pub(crate) fn turn_away(
        &self,
        status: StatusCode,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> First {
        self.refuse_now(status, raw, self.frame(head, keep_alive), moment)
    }

    /// Refuses at first sight: from memory, or the page is to be looked up.
    pub(super) fn refuse_now(
        &self,
        status: StatusCode,
        raw: &[u8],
        frame: Frame,
        moment: Moment<'_>,
    ) -> First {
        let Some(key) = key_of(&self.pages, status) else {
            return First::Answer(self.brief(status, frame, moment));
        };
        if let Some(kept) = &self.kept {
            if kept.absent.borrow().contains(&key[1..], moment.now) {
                return First::Answer(self.brief(status, frame, moment));
            }
            if let Some(entry) = kept.files.borrow().get(key)
                && entry.is_fresh(moment.now)
                && entry.identity().is_intact()
            {
                return First::of(respond::page(entry.identity(), status, frame, moment));
            }
        }
        First::Lookup(Box::new(Lookup {
            head: raw.into(),
            path: Box::default(),
            refused: Some(status),
            frame,
        }))
    }

    /// Refuses with a page of the site's, if it has one.
    pub(super) async fn refuse(&self, status: StatusCode, frame: Frame, clock: &Clock) -> Answer {
        // Short of descriptors or threads, a page is the last thing to look for.
        let is_short = status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(key) = key_of(&self.pages, status).filter(|_| !is_short) {
            match within(self.limits.timeout, self.find_as(key, &key[1..])).await {
                Ok(Found::File(entry)) => {
                    let moment = Moment::present(clock);
                    return respond::page(entry.identity(), status, frame, moment);
                }
                Ok(Found::Directory) => {}
                Err(error) if status_of(&error) == StatusCode::NOT_FOUND => {}
                Err(error) => tracing::debug!(%error, status = status.as_u16(), "no page"),
            }
        }
        self.brief(status, frame, Moment::present(clock))
    }

    /// An answer of a few words.
    pub(super) fn brief(&self, status: StatusCode, frame: Frame, moment: Moment<'_>) -> Answer {
        answer::brief_with(status, frame, moment.clock, moment.now, |head| {
            let head = self.headers.explain(head, status);
            self.headers.add_brief(head, frame)
        })
    }

    pub(super) fn redirect(&self, location: &[u8], frame: Frame, moment: Moment<'_>) -> Answer {
        let status = StatusCode::MOVED_PERMANENTLY;
        answer::brief_with(status, frame, moment.clock, moment.now, |head| {
            let head = self.headers.add_brief(head, frame);
            head.header(name::LOCATION, location)
        })
    }

    /// What can be done here; to a browser, also for whom.
    pub(super) fn options(
        &self,
        head: &RequestHead<'_>,
        frame: Frame,
        moment: Moment<'_>,
    ) -> Answer {
        answer::options(frame, moment.clock, moment.now, |answer| {
            let answer = self.headers.add_brief(answer, frame);
            self.headers.add_preflight(answer, frame, head)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_for_a_status_counts() {
        let lines = ["404 /404.html", "4xx /client.html", "5xx  /a/server.html"];
        let rules: Vec<PageRule> = lines
            .iter()
            .map(|line| PageRule::parse(line).unwrap())
            .collect();
        let page = |code| {
            let key = key_of(&rules, StatusCode::from_u16(code).unwrap())?;
            Some(String::from_utf8(key.to_vec()).unwrap())
        };
        assert_eq!(page(404).as_deref(), Some("\0/404.html"));
        assert_eq!(page(403).as_deref(), Some("\0/client.html"));
        assert_eq!(page(599).as_deref(), Some("\0/a/server.html"));
        assert_eq!(page(301), None);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for line in [
            "",
            "404",
            "/404.html",
            "200 /a",
            "600 /a",
            "3xx /a",
            "404 a",
            "404 /",
            "404 /a/",
            "404 /../a",
            "404 /a?b",
            "404 /a%20b",
            "404 //a",
        ] {
            assert!(PageRule::parse(line).is_err(), "{line}");
        }
    }
}
