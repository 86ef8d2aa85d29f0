//! From the path of a request to what is tried for it, in order.
//!
//! These are names only: each is opened beneath the root, or isn't there. There are at most
//! [`TRIED_COUNT`] of them, whatever is asked for.

use super::Root;
use super::entry::Entry;
use super::find::{Found, status_of};
use crate::config;
use ringway_http::StatusCode;
use ringway_http::head::RequestHead;
use ringway_http::negotiate::media_type;
use ringway_http::target::Path;
use ringway_runtime::FileKind;
use std::borrow::Cow;
use std::io;
use std::rc::Rc;

/// The most that a configuration can have tried for one request.
pub(crate) const TRIED_COUNT: usize = 8;

/// One of the names that are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// What the request says: a file, or a directory by its index file or its listing.
    Own,
    /// The same with this at its end, for what has no slash there.
    Suffixed(Box<[u8]>),
    /// This file, whatever the request says.
    Fixed(Box<[u8]>),
    /// Nothing more is tried; the answer is this.
    Status(StatusCode),
}

impl Candidate {
    /// Reads an element of `try_files`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Candidate, (String, &'static str)> {
        const EXAMPLE: &str = "such as \"{path}\", \"{path}.html\", \"/index.html\" or \"=404\"";
        if let Some(code) = text.strip_prefix('=') {
            let code = code.parse().ok().filter(|code| (400..500).contains(code));
            let status = code.and_then(|code: u16| StatusCode::from_u16(code).ok());
            return status.map(Candidate::Status).ok_or_else(|| {
                (
                    format!("{text:?} isn't an error of the client"),
                    "such as \"=404\"",
                )
            });
        }
        if let Some(suffix) = text.strip_prefix("{path}") {
            return match suffix.contains(['/', '\\', '{', '}']) {
                true => Err((format!("{suffix:?} can't follow a path"), EXAMPLE)),
                false if suffix.is_empty() => Ok(Candidate::Own),
                false => Ok(Candidate::Suffixed(suffix.as_bytes().into())),
            };
        }
        let is_path = text.starts_with('/') && !text.contains(['{', '}', '%', '?', '#', ' ']);
        match Path::parse(text.as_bytes()) {
            Ok(path) if is_path && path.as_bytes() == text.as_bytes() => {
                Ok(Candidate::Fixed(text.as_bytes().into()))
            }
            _ => Err((format!("{text:?} is nothing that can be tried"), EXAMPLE)),
        }
    }

    /// The name for a request of `path`; nothing where this isn't tried.
    pub(crate) fn name<'p>(&'p self, path: &'p [u8]) -> Option<Cow<'p, [u8]>> {
        match self {
            Candidate::Own => Some(path.into()),
            // `/dir/.html` is no page of anybody's.
            Candidate::Suffixed(_) if path.ends_with(b"/") => None,
            Candidate::Suffixed(suffix) => Some([path, suffix].concat().into()),
            Candidate::Fixed(name) => Some(name.as_ref().into()),
            Candidate::Status(_) => None,
        }
    }
}

/// What clean URLs leave out.
const PAGE: &[u8] = b".html";

/// What a root's configuration has tried, in order.
pub(crate) fn candidates(root: &config::Root) -> Vec<Candidate> {
    let written = root.try_files.iter();
    // The configuration was checked: every element is one.
    let written = written.filter_map(|text| Candidate::parse(text).ok());
    let mut candidates: Vec<Candidate> = written.collect();
    if candidates.is_empty() {
        candidates.push(Candidate::Own);
    }
    if root.clean_urls {
        candidates.push(Candidate::Suffixed(PAGE.into()));
    }
    if root.spa {
        // The index file of the root, by the path that it has anyway.
        candidates.push(Candidate::Fixed(b"/".as_slice().into()));
    }
    candidates
}

/// What a root tries.
pub(super) struct Paths {
    candidates: Vec<Candidate>,
    has_clean_urls: bool,
    is_spa: bool,
}

impl Paths {
    pub(super) fn new(root: &config::Root) -> Paths {
        Paths {
            candidates: candidates(root),
            has_clean_urls: root.clean_urls,
            is_spa: root.spa,
        }
    }

    /// Whether nothing is tried but what the request says.
    fn is_plain(&self) -> bool {
        self.candidates == [Candidate::Own]
    }
}

/// What a request led to.
pub(super) enum Outcome<'p> {
    /// A file, and where it is kept.
    File(Rc<Entry>, Cow<'p, [u8]>),
    /// Another path, decoded, is where it is.
    Moved(Vec<u8>),
    Refused(StatusCode),
}

impl Root {
    /// Tries what there is to be tried for `path`.
    pub(super) async fn resolve<'p>(
        &'p self,
        path: &'p [u8],
        head: &RequestHead<'_>,
    ) -> io::Result<Outcome<'p>> {
        if let Some(clean) = self.clean(path).await? {
            return Ok(Outcome::Moved(clean.to_vec()));
        }
        let mut is_directory = false;
        for candidate in &self.paths.candidates {
            let is_last_resort = matches!(candidate, Candidate::Fixed(_) | Candidate::Status(_));
            if is_last_resort && is_directory && self.has_view(path).await? {
                break;
            }
            if let Candidate::Status(status) = candidate {
                return Ok(Outcome::Refused(*status));
            }
            let is_navigation = || is_navigation(path, head);
            if self.paths.is_spa && is_last_resort && !is_navigation() {
                continue;
            }
            let Some(name) = candidate.name(path) else {
                continue;
            };
            // A page without its ending is one more path of it; a fallback has its own alone, or
            // every path that somebody makes up would take a place in the cache.
            let key = match candidate {
                Candidate::Suffixed(_) => Cow::Borrowed(path),
                _ => name.clone(),
            };
            match self.find_known(&key, &name).await {
                Ok(Found::File(entry)) => return Ok(Outcome::File(entry, key)),
                Ok(Found::Directory) => is_directory |= *candidate == Candidate::Own,
                Err(error) if status_of(&error) != StatusCode::NOT_FOUND => return Err(error),
                Err(_) if *candidate == Candidate::Own && self.lists(path) => {
                    match self.list(path, head).await {
                        Ok((entry, key)) => return Ok(Outcome::File(entry, key.into())),
                        Err(StatusCode::NOT_FOUND) => {}
                        Err(status) => return Ok(Outcome::Refused(status)),
                    }
                }
                Err(_) => {}
            }
        }
        if is_directory {
            return Ok(Outcome::Moved([path, b"/"].concat()));
        }
        match self.without_slash(path).await? {
            Some(page) => Ok(Outcome::Moved(page.to_vec())),
            None => Ok(Outcome::Refused(StatusCode::NOT_FOUND)),
        }
    }

    /// Whether a path that isn't there has nothing else that would be shown in its place.
    pub(super) fn shows_nothing_else(&self, path: &[u8]) -> bool {
        self.paths.is_plain() && !self.lists(path)
    }

    /// What [`Root::find_as`] finds, if it isn't known already.
    async fn find_known(&self, key: &[u8], name: &[u8]) -> io::Result<Found> {
        if let Some(kept) = &self.kept {
            let now = ringway_runtime::now();
            if let Some(entry) = kept.files.borrow().get(key)
                && entry.is_fresh(now)
                && entry.identity().is_intact()
            {
                return Ok(Found::File(Rc::clone(entry)));
            }
            if kept.absent.borrow().contains(name, now) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        self.find_as(key, name).await
    }

    /// Whether there is something to be seen at the directory `path`, which has no slash at its end.
    async fn has_view(&self, path: &[u8]) -> io::Result<bool> {
        if self.config.browse {
            return Ok(true);
        }
        let directory = [path, b"/"].concat();
        match self.find_known(&directory, &directory).await {
            Ok(found) => Ok(matches!(found, Found::File(_))),
            Err(error) if status_of(&error) == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The clean path of a page that was asked for by its file's name: `/about` for `/about.html`,
    /// `/` for `/index.html`. Only where it leads to the same file.
    async fn clean<'p>(&self, path: &'p [u8]) -> io::Result<Option<&'p [u8]>> {
        if !self.paths.has_clean_urls || !path.ends_with(PAGE) {
            return Ok(None);
        }
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (directory, name) = path.split_at(slash + 1);
        if !self.is_file(path).await? {
            return Ok(None);
        }
        if self
            .config
            .index
            .first()
            .is_some_and(|index| index.as_bytes() == name)
        {
            return Ok(Some(directory));
        }
        let clean = &path[..path.len() - PAGE.len()];
        // A name that is nothing but the ending has no shorter one.
        let is_taken = name == PAGE || self.is_file(clean).await?;
        Ok((!is_taken).then_some(clean))
    }

    /// The clean path of a page that was asked for as if it were a directory.
    async fn without_slash<'p>(&self, path: &'p [u8]) -> io::Result<Option<&'p [u8]>> {
        let page = match path.strip_suffix(b"/") {
            Some(page) if self.paths.has_clean_urls && !page.is_empty() => page,
            _ => return Ok(None),
        };
        let is_page = self.is_file(&[page, PAGE].concat()).await?;
        Ok(is_page.then_some(page))
    }

    /// Whether `path` is a file, which is all that is wanted to be known of it.
    async fn is_file(&self, path: &[u8]) -> io::Result<bool> {
        let directory = self.directory.borrow().clone();
        let found = directory.find_beneath(&path[1..], self.symlinks).await;
        match self.telling(&path[1..], found) {
            Ok((_, metadata)) => Ok(metadata.kind == FileKind::Regular),
            Err(error) if status_of(&error) == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a request looks like a person who goes to a page of the application: it takes HTML, and
/// its path has no extension. What a page wants of its own accord (a script, a picture) has one,
/// and is better told that it isn't there than given a page; and so is who asks for data.
pub(crate) fn is_navigation(path: &[u8], head: &RequestHead<'_>) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    !name.contains(&b'.') && media_type(head.header("accept"), ["text/html"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, path: &str, expected: Option<&str>) {
        let candidate = Candidate::parse(text).unwrap();
        let name = candidate.name(path.as_bytes());
        let name = name.map(|name| String::from_utf8(name.into_owned()).unwrap());
        assert_eq!(name.as_deref(), expected, "{text} {path}");
    }

    #[test]
    fn names_are_made_of_the_path() {
        check("{path}", "/a/b", Some("/a/b"));
        check("{path}", "/a/", Some("/a/"));
        check("{path}.html", "/a/b", Some("/a/b.html"));
        check("{path}.html", "/a/", None);
        check("{path}.html", "/", None);
        check("{path}-x", "/a", Some("/a-x"));
        check("/index.html", "/a/b", Some("/index.html"));
        check("/app/", "/a", Some("/app/"));
        check("=404", "/a", None);
    }

    #[test]
    fn what_cannot_be_tried_is_refused() {
        for text in [
            "",
            "a",
            "index.html",
            "=",
            "=200",
            "=500",
            "=abc",
            "{path",
            "{path}/",
            "{path}/x",
            "{path}{path}",
            "{uri}",
            "/{path}",
            "/../a",
            "/a/../b",
            "//a",
            "/a%20b",
            "/a?b",
            "/a\\b",
        ] {
            assert!(Candidate::parse(text).is_err(), "{text}");
        }
    }
}
