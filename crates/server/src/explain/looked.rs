//! Which file would answer: the names that a root would try for a path, and what is behind each now.
//!
//! Looked at as whoever asks, who may be allowed to read more than the server, or less; what is sent
//! in the end is the server's to find out. Nothing outside of the root is looked into.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ringway_http::head::{Method, RequestHead};

use super::lossy;
use crate::config::{Root, Symlinks};
use crate::files::paths::{Candidate, candidates, is_navigation};
use crate::files::{is_dotted, status_of};

/// What a name leads to.
enum Found {
    File(u64),
    Directory,
    Absent,
    /// It is there, and isn't served.
    Not(String),
}

/// What a root does with a request for `path`, which is decoded: a line for each name that it tries,
/// as far as it tries them, and the last with what comes of it.
pub(super) fn looked(root: &Root, path: &[u8], head: &RequestHead<'_>) -> Vec<String> {
    match head.method {
        Method::Get | Method::Head => {}
        Method::Options => return vec!["no file: OPTIONS asks what may be asked".to_owned()],
        _ => return vec!["no file: 405, a root answers GET, HEAD and OPTIONS".to_owned()],
    }
    let hidden = path.split(|byte| *byte == b'/').find(|one| is_dotted(one));
    if let Some(name) = hidden.filter(|_| !root.show_dotfiles) {
        let name = lossy(name);
        return vec![format!(
            "hidden: 404, {name:?} begins with a dot (show_dotfiles = true shows it)"
        )];
    }
    let mut look = Look {
        root,
        lines: Vec::new(),
    };
    look.resolve(path, head);
    look.lines
}

struct Look<'r> {
    root: &'r Root,
    lines: Vec<String>,
}

impl Look<'_> {
    /// As `files::Root::resolve` has it.
    fn resolve(&mut self, path: &[u8], head: &RequestHead<'_>) {
        if let Some(clean) = self.clean(path) {
            self.say(path, &format!("is a page: 301 to {}", lossy(&clean)));
            return;
        }
        let mut is_directory = false;
        let candidates = candidates(self.root);
        for candidate in &candidates {
            let is_last_resort = matches!(candidate, Candidate::Fixed(_) | Candidate::Status(_));
            if is_last_resort && is_directory && self.has_view(path) {
                break;
            }
            if let Candidate::Status(status) = candidate {
                self.lines.push(format!("={}: that", status.as_u16()));
                return;
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
            match self.try_name(&name) {
                Tried::Answers => return,
                Tried::Directory => is_directory |= *candidate == Candidate::Own,
                Tried::Absent => {}
            }
        }
        let end = match is_directory {
            true => format!("a directory: 301 to {}/", lossy(path)),
            false => "nothing is there: 404".to_owned(),
        };
        self.lines.push(end);
    }

    /// A file, or a directory by what stands for it.
    fn try_name(&mut self, name: &[u8]) -> Tried {
        if !name.ends_with(b"/") {
            return self.try_file(name);
        }
        for index in &self.root.index {
            let tried = self.try_file(&[name, index.as_bytes()].concat());
            if matches!(tried, Tried::Answers) {
                return tried;
            }
        }
        match self.find(name) {
            Found::Directory if self.root.browse => {
                self.say(name, "a listing of what is in it");
                Tried::Answers
            }
            Found::Not(why) => {
                self.say(name, &why);
                Tried::Answers
            }
            _ => Tried::Absent,
        }
    }

    fn try_file(&mut self, name: &[u8]) -> Tried {
        let (said, tried) = match self.find(name) {
            Found::File(bytes) => (format!("that file, {bytes} bytes"), Tried::Answers),
            Found::Directory => ("a directory".to_owned(), Tried::Directory),
            Found::Absent => ("not there".to_owned(), Tried::Absent),
            Found::Not(why) => (why, Tried::Answers),
        };
        self.say(name, &said);
        tried
    }

    fn say(&mut self, name: &[u8], what: &str) {
        self.lines.push(format!("{}: {what}", lossy(name)));
    }

    /// The clean path of a page that was asked for by its file's name.
    fn clean(&self, path: &[u8]) -> Option<Vec<u8>> {
        let clean = path
            .strip_suffix(b".html")
            .filter(|_| self.root.clean_urls)?;
        let is_file = |name: &[u8]| matches!(self.find(name), Found::File(_));
        if !is_file(path) {
            return None;
        }
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (directory, name) = path.split_at(slash + 1);
        if self
            .root
            .index
            .first()
            .is_some_and(|index| index.as_bytes() == name)
        {
            return Some(directory.to_vec());
        }
        let is_taken = name == b".html" || is_file(clean);
        (!is_taken).then(|| clean.to_vec())
    }

    fn has_view(&self, path: &[u8]) -> bool {
        let is_file = |index: &String| {
            let name = [path, b"/", index.as_bytes()].concat();
            matches!(self.find(&name), Found::File(_))
        };
        self.root.browse || self.root.index.iter().any(is_file)
    }

    /// What is behind a name, which begins with a slash.
    fn find(&self, name: &[u8]) -> Found {
        use std::os::unix::ffi::OsStrExt as _;
        let relative = std::ffi::OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name));
        match self.open(Path::new(relative)) {
            Ok(found) => found,
            Err(error) => match status_of(&error).as_u16() {
                404 => Found::Absent,
                status => Found::Not(format!("{status}, {error}")),
            },
        }
    }

    fn open(&self, relative: &Path) -> std::io::Result<Found> {
        let base = fs::canonicalize(&self.root.root)?;
        let written: PathBuf = base.join(relative).components().collect();
        let real = fs::canonicalize(&written)?;
        if !real.starts_with(&base) {
            return Ok(Found::Not("404, its link leads out of the root".to_owned()));
        }
        if real != written && self.root.symlinks == Symlinks::Deny {
            let why = "404, a link, of which symlinks = \"deny\" has none";
            return Ok(Found::Not(why.to_owned()));
        }
        let metadata = fs::metadata(&real)?;
        if metadata.is_dir() {
            fs::read_dir(&real)?;
            return Ok(Found::Directory);
        }
        if !metadata.is_file() {
            let why = "403, neither a file nor a directory";
            return Ok(Found::Not(why.to_owned()));
        }
        match File::open(&real) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Ok(Found::Not("403, you may not read it".to_owned()))
            }
            opened => opened.map(|_| Found::File(metadata.len())),
        }
    }
}

/// What came of a name.
enum Tried {
    /// It decides what is answered.
    Answers,
    Directory,
    Absent,
}
