//! Which file would answer: the names that a root would try for a path, and what is behind each now.
//!
//! Looked at as whoever asks, who may be allowed to read more than the server, or less; what is sent
//! in the end is the server's to find out. Nothing outside of the root is looked into.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ringway_http::StatusCode;
use ringway_http::head::{Method, RequestHead};

use super::lossy;
use crate::config::{Root, Symlinks};
use crate::files::paths::{Candidate, candidates, is_navigation};
use crate::files::told::Ending;
use crate::files::{is_dotted, pages, status_of};

/// What a name leads to.
enum Found {
    File(u64),
    Directory,
    /// Neither of them, such as a socket.
    Special,
    /// Nothing that is served, and why.
    Absent(&'static str),
}

/// A name that ends the search, because of what the file system says of it.
struct Refusal {
    name: Vec<u8>,
    status: StatusCode,
    why: String,
}

/// What a root does with a request.
pub(super) struct Looked {
    /// A line for each name that it tries, as far as it tries them, and the last with what comes of
    /// it.
    pub(super) lines: Vec<String>,
    pub(super) ending: Ending,
}

/// What a root does with a request for `path`, which is decoded, and empty where the target has none.
pub(super) fn looked(root: &Root, path: &[u8], head: &RequestHead<'_>) -> Looked {
    let mut look = Look {
        root,
        lines: Vec::new(),
    };
    let ending = look.follow(path, head);
    let lines = look.lines;
    Looked { lines, ending }
}

struct Look<'r> {
    root: &'r Root,
    lines: Vec<String>,
}

impl Look<'_> {
    /// As `files::Root::answer_now` has it.
    fn follow(&mut self, path: &[u8], head: &RequestHead<'_>) -> Ending {
        match head.method {
            Method::Get | Method::Head => {}
            Method::Options => {
                let line = "no file: OPTIONS asks what may be asked";
                self.lines.push(line.to_owned());
                return Ending::Options;
            }
            _ => {
                let line = "no file: 405, a root answers GET, HEAD and OPTIONS";
                return self.refuse(StatusCode::METHOD_NOT_ALLOWED, line.to_owned());
            }
        }
        if path.is_empty() {
            let line = "no path, so no file: 404";
            return self.refuse(StatusCode::NOT_FOUND, line.to_owned());
        }
        let hidden = path.split(|byte| *byte == b'/').find(|one| is_dotted(one));
        if let Some(name) = hidden.filter(|_| !self.root.show_dotfiles) {
            let name = lossy(name);
            let line =
                format!("hidden: 404, {name:?} begins with a dot (show_dotfiles = true shows it)");
            return self.refuse(StatusCode::NOT_FOUND, line);
        }
        match self.resolve(path, head) {
            Ok(ending) => ending,
            Err(Refusal { name, status, why }) => {
                let line = format!("{}: {}, {why}", lossy(&name), status.as_u16());
                self.refuse(status, line)
            }
        }
    }

    /// As `files::Root::resolve` has it.
    fn resolve(&mut self, path: &[u8], head: &RequestHead<'_>) -> Result<Ending, Refusal> {
        if let Some(clean) = self.clean(path)? {
            self.say(path, &format!("is a page: 301 to {}", lossy(&clean)));
            return Ok(Ending::Moved(clean));
        }
        let mut is_directory = false;
        for candidate in &candidates(self.root) {
            let is_last_resort = matches!(candidate, Candidate::Fixed(_) | Candidate::Status(_));
            if is_last_resort && is_directory && self.has_view(path)? {
                break;
            }
            if let Candidate::Status(status) = candidate {
                return Ok(self.refuse(*status, format!("={}: that", status.as_u16())));
            }
            if self.root.spa && is_last_resort && !is_navigation(path, head) {
                self.lines.push(
                    "the page of the application: only for who takes HTML, and for names without \
                     an extension"
                        .to_owned(),
                );
                continue;
            }
            let Some(name) = candidate.name(path) else {
                continue;
            };
            let is_own = *candidate == Candidate::Own;
            match self.try_name(&name, is_own)? {
                Tried::Answers(ending) => return Ok(ending),
                Tried::Directory => is_directory |= is_own,
                Tried::Absent => {}
            }
        }
        self.without_file(path, is_directory)
    }

    /// What comes of a path for which no file is.
    fn without_file(&mut self, path: &[u8], is_directory: bool) -> Result<Ending, Refusal> {
        if is_directory {
            let line = format!("a directory: 301 to {}/", lossy(path));
            self.lines.push(line);
            return Ok(Ending::Moved([path, b"/"].concat()));
        }
        let page = path.strip_suffix(b"/").filter(|page| !page.is_empty());
        if let Some(page) = page.filter(|_| self.root.clean_urls) {
            let file = [page, b".html"].concat();
            if self.is_file(&file)? {
                self.say(&file, &format!("is that page: 301 to {}", lossy(page)));
                return Ok(Ending::Moved(page.to_vec()));
            }
        }
        Ok(self.refuse(StatusCode::NOT_FOUND, "nothing is there: 404".to_owned()))
    }

    /// An error, with the page of the site's for it where that is there.
    fn refuse(&mut self, status: StatusCode, line: String) -> Ending {
        self.lines.push(line);
        let page = pages::page_for(self.root, status);
        let page = page.filter(|page| matches!(self.find(page), Ok(Found::File(_))));
        if let Some(page) = &page {
            self.say(page, &format!("the page for {}", status.as_u16()));
        }
        Ending::Refused(status, page)
    }

    /// A file, or a directory by what stands for it. `is_own` for the name that was asked for, of
    /// which alone there is a listing.
    fn try_name(&mut self, name: &[u8], is_own: bool) -> Result<Tried, Refusal> {
        if !name.ends_with(b"/") {
            return self.try_file(name);
        }
        for index in &self.root.index {
            let tried = self.try_file(&[name, index.as_bytes()].concat())?;
            if matches!(tried, Tried::Answers(_)) {
                return Ok(tried);
            }
        }
        if self.root.browse && is_own && matches!(self.find(name)?, Found::Directory) {
            self.say(name, "a listing of what is in it");
            return Ok(Tried::Answers(Ending::Listing));
        }
        Ok(Tried::Absent)
    }

    fn try_file(&mut self, name: &[u8]) -> Result<Tried, Refusal> {
        let (said, tried) = match self.find(name)? {
            Found::File(bytes) => {
                let ending = Ending::File(name.to_vec());
                (format!("that file, {bytes} bytes"), Tried::Answers(ending))
            }
            Found::Directory => ("a directory".to_owned(), Tried::Directory),
            Found::Absent(why) => (why.to_owned(), Tried::Absent),
            Found::Special => {
                return Err(Refusal {
                    name: name.to_vec(),
                    status: StatusCode::FORBIDDEN,
                    why: "neither a file nor a directory".to_owned(),
                });
            }
        };
        self.say(name, &said);
        Ok(tried)
    }

    fn say(&mut self, name: &[u8], what: &str) {
        self.lines.push(format!("{}: {what}", lossy(name)));
    }

    /// The clean path of a page that was asked for by its file's name.
    fn clean(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let clean = path.strip_suffix(b".html").filter(|_| self.root.clean_urls);
        let Some(clean) = clean else {
            return Ok(None);
        };
        if !self.is_file(path)? {
            return Ok(None);
        }
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (directory, name) = path.split_at(slash + 1);
        let first = self.root.index.first();
        if first.is_some_and(|index| index.as_bytes() == name) {
            return Ok(Some(directory.to_vec()));
        }
        let is_taken = name == b".html" || self.is_file(clean)?;
        Ok((!is_taken).then(|| clean.to_vec()))
    }

    fn has_view(&self, path: &[u8]) -> Result<bool, Refusal> {
        if self.root.browse {
            return Ok(true);
        }
        for index in &self.root.index {
            if self.is_file(&[path, b"/", index.as_bytes()].concat())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_file(&self, name: &[u8]) -> Result<bool, Refusal> {
        Ok(matches!(self.find(name)?, Found::File(_)))
    }

    /// What is behind a name, which begins with a slash.
    fn find(&self, name: &[u8]) -> Result<Found, Refusal> {
        use std::os::unix::ffi::OsStrExt as _;
        let relative = std::ffi::OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name));
        match self.open(Path::new(relative)) {
            Ok(found) => Ok(found),
            Err(error) => match status_of(&error) {
                StatusCode::NOT_FOUND => Ok(Found::Absent("not there")),
                status => Err(Refusal {
                    name: name.to_vec(),
                    status,
                    why: error.to_string(),
                }),
            },
        }
    }

    fn open(&self, relative: &Path) -> std::io::Result<Found> {
        let base = fs::canonicalize(&self.root.root)?;
        let written: PathBuf = base.join(relative).components().collect();
        let real = fs::canonicalize(&written)?;
        if !real.starts_with(&base) {
            return Ok(Found::Absent("its link leads out of the root"));
        }
        if real != written && self.root.symlinks == Symlinks::Deny {
            return Ok(Found::Absent(
                "a link, of which symlinks = \"deny\" has none",
            ));
        }
        let metadata = fs::metadata(&real)?;
        if metadata.is_dir() {
            fs::read_dir(&real)?;
            return Ok(Found::Directory);
        }
        if !metadata.is_file() {
            return Ok(Found::Special);
        }
        File::open(&real).map(|_| Found::File(metadata.len()))
    }
}

/// What came of a name.
enum Tried {
    /// It decides what is answered.
    Answers(Ending),
    Directory,
    Absent,
}
