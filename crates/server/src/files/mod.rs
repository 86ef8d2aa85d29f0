//! Static files: from a request to its answer.
//!
//! Most requests end in [`Root::hit`]: a small file whose whole response is in the [`cache`]; or in
//! [`Root::answer_now`]: part of it, or a larger one that is open there. The others become a
//! [`Lookup`], which opens the
//! file beneath the root (without a wait on this thread; [`find`]), brings it into the cache or
//! leaves it to be sent from the page cache, and answers by the same rules ([`respond`]).
//! [`codings`] chooses between a file's representations, [`watched`] says how long what is known
//! holds.

mod cache;
mod codings;
mod entry;
mod find;
mod flight;
pub(crate) mod freshness;
pub(crate) mod headers;
mod kept;
mod listing;
mod media;
pub(crate) mod pages;
pub(crate) mod paths;
mod respond;
mod tags;
pub(crate) mod told;
mod unreadable;
mod watched;

use crate::answer::{Answer, Frame};
use crate::clock::Clock;
use crate::config;
use crate::limits::Limits;
use crate::worker::Refused;
pub(crate) use cache::CacheLimits;
use codings::{Choice, Jobs};
use entry::{Entry, Readiness, Variant};
pub(crate) use find::status_of;
use find::{Found, within};
use flight::Flights;
use headers::Headers;
use kept::Kept;
use pages::PageRule;
use paths::{Outcome, Paths};
use ringway_http::StatusCode;
use ringway_http::head::{HeadLimits, HeadScan, Method, RequestHead, Version, parse_head};
use ringway_http::target::{Path, Target, encode_path};
use ringway_runtime::{BlockingPool, Directory, Outgoing, Symlinks};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use unreadable::Unreadable;
use watched::Outlook;
pub(crate) use watched::{Watches, watch};

/// One root directory, as one worker serves it.
pub(crate) struct Root {
    config: config::Root,
    directory: RefCell<Directory>,
    /// How often the directory was replaced.
    replaced: Cell<u64>,
    symlinks: Symlinks,
    kept: Option<Rc<Kept>>,
    outlook: Option<Rc<Outlook>>,
    headers: Rc<Headers>,
    paths: Paths,
    pages: Vec<PageRule>,
    /// Files that are being looked up, by their keys in the cache.
    lookups: Flights<Rc<io::Result<Found>>>,
    listings: Flights<Result<Rc<Entry>, StatusCode>>,
    unreadable: RefCell<Unreadable>,
    limits: FileLimits,
    shared: Arc<Shared>,
}

/// The bounds that a root needs.
#[derive(Clone, Copy)]
pub(crate) struct FileLimits {
    pub(crate) head: HeadLimits,
    /// This worker's share of the cache.
    pub(crate) cache: CacheLimits,
    pub(crate) cache_file_bytes: u64,
    /// This worker's share.
    pub(crate) absent_entries: usize,
    pub(crate) ranges: usize,
    pub(crate) listing_entries: usize,
    /// How long a file system may take.
    pub(crate) timeout: Duration,
    pub(crate) compress_file_bytes: u64,
    /// Of the whole process.
    pub(crate) compress_jobs: usize,
}

/// What all workers share. Nobody waits for it on a worker.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Without it, everything is looked at each interval.
    pub(crate) watches: Option<Arc<Watches>>,
    /// What was told of ways to send that are refused here.
    pub(crate) refused: Arc<Refused>,
    jobs: Jobs,
    /// Siblings that were told to be older than their source; of a bounded number.
    told: Mutex<HashSet<Box<[u8]>>>,
}

impl Shared {
    pub(crate) fn new(watches: Option<Arc<Watches>>, refused: Arc<Refused>) -> Shared {
        Shared {
            watches,
            refused,
            ..Shared::default()
        }
    }
}

/// Opens a root's directory. It may wait for a disk.
///
/// # Errors
/// As [`Directory::open_with`].
pub(crate) fn open(root: &config::Root, limits: &Limits) -> io::Result<Directory> {
    let waiting = BlockingPool::new(limits.blocking_threads, limits.blocking_queue);
    Directory::open_with(&root.root, waiting)
}

/// What an answer depends on besides the request.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a Clock,
}

/// A whole response, 200, on a connection that persists.
pub(crate) struct Hit {
    pub(crate) message: Outgoing,
    /// Bytes of the body.
    pub(crate) body_bytes: u64,
}

/// What becomes of a request at first sight.
pub(crate) enum First {
    /// It is answered, from memory.
    Answer(Answer),
    /// It is answered, from an open file.
    Open(Answer),
    /// The file has to be looked at.
    Lookup(Box<Lookup>),
}

impl First {
    #[inline]
    fn of(answer: Answer) -> First {
        match answer.file {
            None => First::Answer(answer),
            Some(_) => First::Open(answer),
        }
    }

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
    /// Nothing is to be looked up but the page that says this.
    refused: Option<StatusCode>,
    pub(crate) frame: Frame,
}

impl Root {
    /// `index` is the root's place among those of the configuration.
    pub(crate) fn new(
        config: config::Root,
        index: usize,
        directory: Directory,
        limits: FileLimits,
        shared: Arc<Shared>,
    ) -> Root {
        let is_cached = config.cache && limits.cache.bytes > 0 && limits.cache.entries > 0;
        let watches = shared
            .watches
            .as_ref()
            .filter(|_| config.watch && is_cached);
        Root {
            symlinks: match config.symlinks {
                config::Symlinks::Beneath => Symlinks::Beneath,
                config::Symlinks::Deny => Symlinks::Deny,
            },
            kept: is_cached.then(|| Rc::new(Kept::new(limits))),
            outlook: watches.map(|watches| Rc::new(Outlook::new(Arc::clone(watches), index))),
            headers: Rc::new(Headers::new(&config)),
            paths: Paths::new(&config),
            pages: pages::read(&config),
            lookups: Flights::default(),
            listings: Flights::default(),
            unreadable: RefCell::default(),
            config,
            directory: RefCell::new(directory),
            replaced: Cell::new(0),
            limits,
            shared,
        }
    }

    /// The root's path leads to this directory from now on. What is being sent stays what it is.
    pub(crate) fn replace(&self, directory: Directory) {
        self.directory.replace(directory);
        self.replaced.set(self.replaced.get() + 1);
        self.lookups.clear();
        self.listings.clear();
        self.outlook.iter().for_each(|outlook| outlook.clear());
        if let Some(kept) = &self.kept {
            kept.files.borrow_mut().clear();
            kept.absent.borrow_mut().clear();
        }
    }

    /// Gives the descriptors back that the cache holds, because they have run short.
    pub(crate) fn release_descriptors(&self) {
        if let Some(kept) = &self.kept {
            kept.files.borrow_mut().release_descriptors();
        }
    }

    /// The whole of a small file, from memory, for a GET or HEAD with nothing special about it; its
    /// connection persists. Nothing where [`Root::answer_now`] has to decide.
    ///
    /// Only for a root whose answers don't depend on who asks. Each function on the way is part of
    /// its caller.
    #[inline(always)]
    pub(crate) fn hit(&self, head: &RequestHead<'_>, moment: Moment<'_>) -> Option<Hit> {
        let is_head = match head.method {
            Method::Get => false,
            Method::Head => true,
            _ => return None,
        };
        if head.version != Version::Http11 || head.range.is_some() || head.is_conditional() {
            return None;
        }
        // Keys are paths in the form in which nearly every client sends them, so a hit needs no
        // decoding.
        let files = self.kept.as_ref()?.files.borrow();
        let entry = files.get_by_target(head.target)?;
        if !entry.is_fresh(moment.now) {
            return None;
        }
        match entry.choose(head) {
            Choice::Identity => entry.identity().hit(is_head, moment),
            Choice::Coded(candidate, _) => match candidate.readiness() {
                Readiness::Ready(variant) => variant.hit(is_head, moment),
                _ => None,
            },
            Choice::Nothing => None,
        }
    }

    /// Whether what an answer says depends on the origin that asks.
    pub(crate) fn depends_on_origin(&self) -> bool {
        self.headers.depend_on_origin()
    }

    /// Answers from memory, or says what has to be looked up. `raw` is the head as it was sent.
    pub(crate) fn answer_now(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> First {
        let frame = self.frame(head, keep_alive);
        if matches!(head.method, Method::Get | Method::Head)
            && let Some(kept) = &self.kept
            && let Some(entry) = kept.files.borrow().get_by_target(head.target)
            && let Some(first) = self.answer_from(entry, head, frame, moment)
        {
            return first;
        }
        self.answer_other(head, raw, frame, moment)
    }

    /// The same for whatever its target as it was sent doesn't answer.
    #[inline(never)]
    fn answer_other(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        frame: Frame,
        moment: Moment<'_>,
    ) -> First {
        let refused = |status| self.refuse_now(status, raw, frame, moment);
        match head.method {
            Method::Get | Method::Head => {}
            Method::Options => return First::Answer(self.options(head, frame, moment)),
            _ => return refused(StatusCode::METHOD_NOT_ALLOWED),
        }
        let resource = match Target::parse(head.method, head.target) {
            Ok(Target::Resource(resource)) => resource,
            Ok(_) => return refused(StatusCode::NOT_FOUND),
            Err(error) => return refused(error.status()),
        };
        if self.is_hidden(&resource.path) {
            return refused(StatusCode::NOT_FOUND);
        }
        let path = resource.path.as_bytes();
        if let Some(kept) = &self.kept {
            if let Some(entry) = kept.files.borrow().get(path)
                && let Some(first) = self.answer_from(entry, head, frame, moment)
            {
                return first;
            }
            if self.shows_nothing_else(path) && kept.absent.borrow().contains(path, moment.now) {
                return refused(StatusCode::NOT_FOUND);
            }
        }
        First::Lookup(Box::new(Lookup {
            head: raw.into(),
            path: path.into(),
            refused: None,
            frame,
        }))
    }

    #[inline]
    fn frame(&self, head: &RequestHead<'_>, keep_alive: bool) -> Frame {
        Frame {
            origin: self.headers.origin_of(head),
            ..Frame::of(head, keep_alive)
        }
    }

    /// Names that begin with a dot, but for the well-known one (RFC 8615), aren't there.
    fn is_hidden(&self, path: &Path<'_>) -> bool {
        !self.config.show_dotfiles && path.segments().any(is_dotted)
    }

    /// Answers a request whose file has to be looked at.
    pub(crate) async fn look_up(&self, lookup: &Lookup, clock: &Clock) -> Answer {
        let frame = lookup.frame;
        if let Some(status) = lookup.refused {
            return self.refuse(status, frame, clock).await;
        }
        let mut scan = HeadScan::default();
        let Ok(Some((head, _))) = parse_head(&lookup.head, &mut scan, &self.limits.head) else {
            // The same bytes were accepted before.
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return self.brief(status, frame, Moment::present(clock));
        };
        match within(self.limits.timeout, self.resolve(&lookup.path, &head)).await {
            Ok(Outcome::File(entry, key)) => {
                self.answer_file(&entry, &key, &head, frame, clock).await
            }
            Ok(Outcome::Moved(path)) => {
                let location = location(&head, &path);
                self.redirect(&location, frame, Moment::present(clock))
            }
            Ok(Outcome::Refused(status)) => self.refuse(status, frame, clock).await,
            Err(error) => {
                let status = status_of(&error);
                self.tell_unanswered(&lookup.path, &error);
                // Short of descriptors, threads or time: what was right a moment ago is better
                // than nothing.
                if status == StatusCode::SERVICE_UNAVAILABLE
                    && let Some(entry) = self.cached(&lookup.path)
                {
                    let moment = Moment::present(clock);
                    return respond::answer(entry.identity(), &head, frame, moment);
                }
                self.refuse(status, frame, clock).await
            }
        }
    }

    /// Answers with the representation of a file that suits the client, which may have to be
    /// brought in.
    async fn answer_file(
        &self,
        entry: &Rc<Entry>,
        path: &[u8],
        head: &RequestHead<'_>,
        frame: Frame,
        clock: &Clock,
    ) -> Answer {
        let coded = match entry.choose(head) {
            Choice::Identity => None,
            Choice::Nothing => return self.not_acceptable(frame, Moment::present(clock)),
            Choice::Coded(candidate, or_identity) => {
                let coded = match candidate.readiness() {
                    Readiness::Ready(variant) => Ok(Some(variant)),
                    Readiness::Identity if or_identity => Ok(None),
                    _ => {
                        let brought = self.bring_in(entry, candidate, path);
                        within(self.limits.timeout, brought).await
                    }
                };
                match coded {
                    Ok(None) if !or_identity => {
                        return self.not_acceptable(frame, Moment::present(clock));
                    }
                    Err(_) if !or_identity => {
                        let status = StatusCode::SERVICE_UNAVAILABLE;
                        return self.brief(status, frame, Moment::present(clock));
                    }
                    coded => coded.unwrap_or_default(),
                }
            }
        };
        let variant = coded.as_deref().unwrap_or(entry.identity());
        respond::answer(variant, head, frame, Moment::present(clock))
    }

    fn cached(&self, path: &[u8]) -> Option<Rc<Entry>> {
        let files = self.kept.as_ref()?.files.borrow();
        files.get(path).map(Rc::clone)
    }

    /// Answers from what is kept; nothing when something has to be looked at first.
    fn answer_from(
        &self,
        entry: &Entry,
        head: &RequestHead<'_>,
        frame: Frame,
        moment: Moment<'_>,
    ) -> Option<First> {
        if !entry.is_fresh(moment.now) {
            return None;
        }
        match entry.choose(head) {
            Choice::Identity => answer_with(entry.identity(), head, frame, moment),
            Choice::Nothing => Some(First::Answer(self.not_acceptable(frame, moment))),
            Choice::Coded(candidate, or_identity) => match candidate.readiness() {
                Readiness::Ready(variant) => answer_with(&variant, head, frame, moment),
                Readiness::Identity if or_identity => {
                    answer_with(entry.identity(), head, frame, moment)
                }
                _ => None,
            },
        }
    }

    /// RFC 9110 §15.5.7.
    fn not_acceptable(&self, frame: Frame, moment: Moment<'_>) -> Answer {
        self.brief(StatusCode::NOT_ACCEPTABLE, frame, moment)
    }
}

impl<'a> Moment<'a> {
    fn present(clock: &'a Clock) -> Moment<'a> {
        Moment {
            now: ringway_runtime::now(),
            clock,
        }
    }
}

fn answer_with(
    variant: &Variant,
    head: &RequestHead<'_>,
    frame: Frame,
    moment: Moment<'_>,
) -> Option<First> {
    if !variant.is_intact() {
        return None;
    }
    let answer = respond::answer(variant, head, frame, moment);
    Some(First::of(answer))
}

pub(crate) fn is_dotted(name: &[u8]) -> bool {
    name.starts_with(b".") && name != b".well-known"
}

/// What leads to a path, with the query as it was.
fn location(head: &RequestHead<'_>, path: &[u8]) -> Vec<u8> {
    let mut location = Vec::with_capacity(head.target.len() + 1);
    encode_path(path, &mut location);
    if let Ok(Target::Resource(resource)) = Target::parse(head.method, head.target)
        && let Some(query) = resource.query
    {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    location
}
