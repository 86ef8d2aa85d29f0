//! Static files: from a request to its answer.
//!
//! Most requests end in [`Root::answer_now`]: a small file whose whole response is in the
//! [`cache`]. The others become a [`Lookup`], which opens the file beneath the root (without a wait
//! on this thread), brings it into the cache or leaves it to be sent from the page cache, and
//! answers by the same rules ([`respond`]).

mod cache;
mod media;
mod respond;

use crate::answer::{self, Answer, Frame};
use crate::clock::Clock;
use crate::config;
use cache::{Cache, Entry};
use respond::Representation;
use ringway_http::StatusCode;
use ringway_http::head::{HeadLimits, HeadScan, Method, RequestHead, Version, parse_head};
use ringway_http::target::{Path, Target, encode_path};
use ringway_runtime::{Directory, File, FileKind, Metadata, Outgoing, Symlinks};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

/// One root directory, as one worker serves it.
pub(crate) struct Root {
    config: config::Root,
    directory: Directory,
    symlinks: Symlinks,
    cache: Option<RefCell<Cache>>,
    limits: FileLimits,
}

/// The bounds that a root needs.
#[derive(Clone, Copy)]
pub(crate) struct FileLimits {
    pub(crate) head: HeadLimits,
    /// This worker's share of the cache.
    pub(crate) cache_bytes: u64,
    pub(crate) cache_entries: usize,
    pub(crate) cache_file_bytes: u64,
}

/// What an answer depends on besides the request.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a Clock,
}

/// What becomes of a request at first sight.
pub(crate) enum First {
    /// It is answered.
    Answer(Answer),
    /// The file has to be looked at.
    Lookup(Box<Lookup>),
}

impl First {
    /// Whether it is clear that a body would be sent for nothing.
    pub(crate) fn spares_body(&self) -> bool {
        matches!(self, First::Answer(answer) if answer.spares_body())
    }
}

/// A request that has to wait for the file system.
pub(crate) struct Lookup {
    /// The request's head as it was sent: parsed again when the file is known, which is cheaper
    /// than keeping its parts.
    head: Box<[u8]>,
    /// Decoded and normalised, with a leading slash.
    path: Box<[u8]>,
    pub(crate) frame: Frame,
}

impl Root {
    pub(crate) fn new(config: config::Root, directory: Directory, limits: FileLimits) -> Root {
        let is_cached = config.cache && limits.cache_bytes > 0 && limits.cache_entries > 0;
        Root {
            symlinks: match config.symlinks {
                config::Symlinks::Beneath => Symlinks::Beneath,
                config::Symlinks::Deny => Symlinks::Deny,
            },
            cache: is_cached
                .then(|| RefCell::new(Cache::new(limits.cache_bytes, limits.cache_entries))),
            config,
            directory,
            limits,
        }
    }

    /// Answers from memory, or says what has to be looked up. `raw` is the head as it was sent.
    pub(crate) fn answer_now(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> First {
        let frame = Frame::of(head, keep_alive);
        match head.method {
            Method::Get | Method::Head => {}
            Method::Options => {
                return First::Answer(answer::options(frame, moment.clock, moment.now));
            }
            _ => return First::Answer(moment.brief(StatusCode::METHOD_NOT_ALLOWED, frame)),
        }
        // Keys are paths in the form in which nearly every client sends them, so a hit needs no
        // decoding.
        if let Some(entry) = self.fresh(moment.now, |cache| cache.get_by_target(head.target)) {
            return First::Answer(answer_from(&entry, head, frame, moment));
        }
        let resource = match Target::parse(head.method, head.target) {
            Ok(Target::Resource(resource)) => resource,
            Ok(_) => return First::Answer(moment.brief(StatusCode::NOT_FOUND, frame)),
            Err(error) => return First::Answer(moment.brief(error.status(), frame)),
        };
        if self.is_hidden(&resource.path) {
            return First::Answer(moment.brief(StatusCode::NOT_FOUND, frame));
        }
        let path = resource.path.as_bytes();
        if let Some(entry) = self.fresh(moment.now, |cache| cache.get(path)) {
            return First::Answer(answer_from(&entry, head, frame, moment));
        }
        First::Lookup(Box::new(Lookup {
            head: raw.into(),
            path: path.into(),
            frame,
        }))
    }

    /// What `get` finds in the cache, if the file was looked at lately.
    fn fresh(
        &self,
        now: Instant,
        get: impl FnOnce(&Cache) -> Option<Rc<Entry>>,
    ) -> Option<Rc<Entry>> {
        let entry = get(&self.cache.as_ref()?.borrow())?;
        entry.is_fresh(now).then_some(entry)
    }

    /// Names that begin with a dot, but for the well-known one (RFC 8615), aren't there.
    fn is_hidden(&self, path: &Path<'_>) -> bool {
        let is_dotted = |name: &[u8]| name.starts_with(b".") && name != b".well-known";
        !self.config.show_dotfiles && path.segments().any(is_dotted)
    }

    /// Answers a request whose file has to be looked at.
    pub(crate) async fn look_up(&self, lookup: &Lookup, clock: &Clock) -> Answer {
        let found = self.find(&lookup.path).await;
        let moment = Moment {
            now: ringway_runtime::now(),
            clock,
        };
        let frame = lookup.frame;
        let mut scan = HeadScan::default();
        let Ok(Some((head, _))) = parse_head(&lookup.head, &mut scan, &self.limits.head) else {
            // The same bytes were accepted before.
            return moment.brief(StatusCode::INTERNAL_SERVER_ERROR, frame);
        };
        match found {
            Ok(Found::Cached(entry)) => answer_from(&entry, &head, frame, moment),
            Ok(Found::Open(file, metadata, content_type)) => {
                let representation = Representation::new(&metadata, content_type);
                respond::from_file(file, metadata, &representation, &head, frame, moment)
            }
            Ok(Found::Directory) => {
                let location = self.with_slash(&head, &lookup.path);
                let status = StatusCode::MOVED_PERMANENTLY;
                answer::brief(status, frame, Some(&location), clock, moment.now)
            }
            Err(error) => {
                let status = status_of(&error);
                // Short of descriptors or threads: what was right a moment ago is better than
                // nothing.
                if status == StatusCode::SERVICE_UNAVAILABLE
                    && let Some(entry) = self.cached(&lookup.path)
                {
                    return answer_from(&entry, &head, frame, moment);
                }
                moment.brief(status, frame)
            }
        }
    }

    fn cached(&self, path: &[u8]) -> Option<Rc<Entry>> {
        self.cache.as_ref()?.borrow().get(path)
    }

    /// The same path with a slash at its end, and the query as it was.
    fn with_slash(&self, head: &RequestHead<'_>, path: &[u8]) -> Vec<u8> {
        let mut location = Vec::with_capacity(head.target.len() + 1);
        encode_path(path, &mut location);
        location.push(b'/');
        if let Ok(Target::Resource(resource)) = Target::parse(head.method, head.target)
            && let Some(query) = resource.query
        {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        location
    }

    async fn find(&self, path: &[u8]) -> io::Result<Found> {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        if !path.ends_with(b"/") {
            let file = self.directory.open_beneath(relative, self.symlinks).await?;
            return self.take(path, relative, file).await;
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for index in &self.config.index {
            let name = [relative, index.as_bytes()].concat();
            match self.directory.open_beneath(&name, self.symlinks).await {
                Ok(file) => match self.take(path, &name, file).await? {
                    Found::Directory => {}
                    found => return Ok(found),
                },
                Err(error) if status_of(&error) == StatusCode::NOT_FOUND => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Decides what an open file is good for: the cache, sending from disk, or nothing.
    async fn take(&self, path: &[u8], name: &[u8], file: File) -> io::Result<Found> {
        let metadata = file.metadata()?;
        match metadata.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Ok(Found::Directory),
            FileKind::Special => return Err(io::ErrorKind::PermissionDenied.into()),
        }
        let content_type = media::content_type(name, &self.config.charset);
        let Some(cache) = &self.cache else {
            return Ok(Found::Open(file, metadata, content_type));
        };
        let now = ringway_runtime::now();
        if let Some(entry) = cache.borrow().get(path)
            && entry.revalidate(&metadata, now + self.config.revalidate_interval)
        {
            return Ok(Found::Cached(entry));
        }
        cache.borrow_mut().remove(path);
        if metadata.bytes > self.limits.cache_file_bytes {
            return Ok(Found::Open(file, metadata, content_type));
        }
        let Some(body) = read_whole(&file, &metadata).await? else {
            return Ok(Found::Open(file, metadata, content_type));
        };
        let representation = Representation::new(&metadata, content_type);
        let now = ringway_runtime::now();
        let fresh_until = now + self.config.revalidate_interval;
        let entry = Rc::new(Entry::new(
            metadata,
            representation,
            &body,
            now,
            fresh_until,
        ));
        cache.borrow_mut().insert(path, Rc::clone(&entry));
        Ok(Found::Cached(entry))
    }
}

/// What a path led to.
enum Found {
    Cached(Rc<Entry>),
    Open(File, Metadata, String),
    Directory,
}

impl Moment<'_> {
    fn brief(self, status: StatusCode, frame: Frame) -> Answer {
        answer::brief(status, frame, None, self.clock, self.now)
    }
}

/// The whole response as it lies in memory when nothing about the request is special.
fn answer_from(entry: &Entry, head: &RequestHead<'_>, frame: Frame, moment: Moment<'_>) -> Answer {
    let is_plain = frame.version == Version::Http11
        && frame.keep_alive
        && head.range.is_none()
        && head.preconditions().is_empty();
    if !is_plain {
        return respond::from_memory(entry, head, frame, moment);
    }
    let response = entry.response(moment);
    let (message, body_bytes) = if frame.is_head {
        (
            ringway_runtime::Chunk::part(response, 0..entry.head_bytes()),
            0,
        )
    } else {
        (response.into(), entry.body_bytes())
    };
    let message = Outgoing::from(message);
    Answer {
        status: StatusCode::OK,
        message,
        body_bytes,
        file: None,
        keep_alive: true,
    }
}

/// All of a file; `None` when it changed while it was read.
async fn read_whole(file: &File, metadata: &Metadata) -> io::Result<Option<Vec<u8>>> {
    let size = metadata.bytes as usize;
    let mut body = Vec::with_capacity(size);
    while body.len() < size {
        let (part, count) = file
            .read_at(vec![0; size - body.len()], body.len() as u64)
            .await?;
        if count == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&part[..count]);
    }
    Ok((file.metadata()? == *metadata).then_some(body))
}

/// What the client is told of an error of the file system. A path that leads out of the root isn't
/// there, as far as anybody outside can tell.
fn status_of(error: &io::Error) -> StatusCode {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::INVAL,
        ) => StatusCode::NOT_FOUND,
        // ENXIO: a socket, or a device without its driver.
        Some(Errno::ACCESS | Errno::PERM | Errno::NXIO) => StatusCode::FORBIDDEN,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::BUSY | Errno::AGAIN) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        None if error.kind() == io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        None if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
