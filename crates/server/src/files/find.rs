//! What is behind a path: opening it beneath the root, looking at it, reading it.
//!
//! Everything here waits for the file system without holding up the worker. What it finds is an
//! [`Entry`], which the cache keeps where there is one.

use super::codings::{compress, extension};
use super::entry::{Candidate, Entry, Source, Variant};
use super::respond::Representation;
use super::watched::{Outlook, Sight};
use super::{Kept, Root, media};
use ringway_http::StatusCode;
use ringway_http::negotiate::Coding;
use ringway_runtime::{Directory, File, FileKind, Metadata, Symlinks, spawn_blocking, timeout};
use rustix::io::Errno;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How much longer a file is taken for unchanged when its directory is watched.
const WATCHED_FACTOR: u32 = 10;

/// Siblings that the log has told to be out of date; beyond it, no more are told.
const TOLD_COUNT: usize = 1024;

/// What a path led to.
#[derive(Clone)]
pub(super) enum Found {
    File(Rc<Entry>),
    Directory,
}

/// The beginning of a look: what was open and watched then.
struct Look {
    directory: Directory,
    replaced: u64,
    sight: Option<Sight>,
}

impl Root {
    /// Looks at what is behind `path`, which begins with a slash, and keeps it as `key`; one look for
    /// all who ask for the same meanwhile.
    pub(super) async fn find_as(&self, key: &[u8], path: &[u8]) -> io::Result<Found> {
        // Where nothing is kept, or each request is to look, a look is nobody else's.
        if self.kept.is_none() || self.config.revalidate_interval.is_zero() {
            return self.find_anew(key, path).await;
        }
        loop {
            let flight = match self.lookups.board(key) {
                Ok(pilot) => {
                    let found = self.find_anew(key, path).await;
                    pilot.land(Rc::new(again(&found)));
                    return found;
                }
                Err(flight) => flight,
            };
            match flight.landed().await.as_deref() {
                // What changed since that look was begun may have changed before this request.
                Some(Ok(Found::File(entry))) if !entry.is_fresh(ringway_runtime::now()) => {
                    return self.find_anew(key, path).await;
                }
                Some(found) => return again(found),
                // Whoever looked has left: the next one tries.
                None => {}
            }
        }
    }

    async fn find_anew(&self, key: &[u8], path: &[u8]) -> io::Result<Found> {
        let found = self.find_once(key, path).await;
        let has_run_short = |error: &io::Error| {
            matches!(
                Errno::from_io_error(error),
                Some(Errno::MFILE | Errno::NFILE)
            )
        };
        match found {
            Err(error) if has_run_short(&error) => {
                self.release_descriptors();
                self.find_once(key, path).await
            }
            found => found,
        }
    }

    async fn find_once(&self, key: &[u8], path: &[u8]) -> io::Result<Found> {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let mut look = self.look(relative);
        let found = self.find_with(&mut look, key, relative).await;
        if let Err(error) = &found
            && status_of(error) == StatusCode::NOT_FOUND
            && let Some(kept) = self.kept_since(&look)
        {
            kept.let_go(key);
            let now = ringway_runtime::now();
            let until = now + self.config.revalidate_interval;
            kept.absent
                .borrow_mut()
                .insert(path, now, until, look.sight);
        }
        found
    }

    async fn find_with(&self, look: &mut Look, key: &[u8], relative: &[u8]) -> io::Result<Found> {
        if !relative.is_empty() && !relative.ends_with(b"/") {
            return self.open_and_take(look, key, relative).await;
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for index in &self.config.index {
            let name = [relative, index.as_bytes()].concat();
            match self.open_and_take(look, key, &name).await {
                Ok(Found::Directory) => {}
                Ok(found) => return Ok(found),
                Err(error) if status_of(&error) == StatusCode::NOT_FOUND => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn open_and_take(&self, look: &mut Look, key: &[u8], name: &[u8]) -> io::Result<Found> {
        let found = match self.open(look, name).await {
            Ok(found) => self.take(look, key, name, found).await,
            Err(error) => Err(error),
        };
        self.telling(name, found)
    }

    /// Begins to look at a path relative to the root.
    fn look(&self, relative: &[u8]) -> Look {
        let directory = self.directory.borrow().clone();
        let outlook: Option<&Rc<Outlook>> = self.outlook.as_ref();
        // Another machine's changes aren't told, and asking for a watch might wait for it.
        let outlook = outlook.filter(|_| !directory.may_wait());
        Look {
            sight: outlook.and_then(|outlook| outlook.sight(&directory, relative)),
            directory,
            replaced: self.replaced.get(),
        }
    }

    /// The cache, for what was found by `look`.
    fn kept_since(&self, look: &Look) -> Option<&Rc<Kept>> {
        let is_same = self.replaced.get() == look.replaced;
        self.kept.as_ref().filter(|_| is_same)
    }

    /// Opens a file and looks at it. When that takes a link, whose end isn't watched, the look has no
    /// sight any more.
    async fn open(&self, look: &mut Look, name: &[u8]) -> io::Result<(File, Metadata)> {
        if look.sight.is_some() {
            match look.directory.find_beneath(name, Symlinks::Deny).await {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                    look.sight = None;
                }
                opened => return opened,
            }
        }
        look.directory.find_beneath(name, self.symlinks).await
    }

    /// Makes an open file an entry, or finds that the one there is holds.
    async fn take(
        &self,
        look: &mut Look,
        key: &[u8],
        name: &[u8],
        (file, metadata): (File, Metadata),
    ) -> io::Result<Found> {
        match metadata.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Ok(Found::Directory),
            FileKind::Special => return Err(io::ErrorKind::PermissionDenied.into()),
        }
        let siblings = self.siblings(look, name, &metadata).await?;
        let fresh_until = self.fresh_until(look);
        if let Some(kept) = self.kept_since(look) {
            if let Some(entry) = kept.files.borrow().get(key)
                && entry.revalidate(&metadata, &siblings, fresh_until, look.sight.clone())
            {
                return Ok(Found::File(Rc::clone(entry)));
            }
            kept.let_go(key);
        }
        let content_type = media::content_type(name, &self.config.charset);
        let candidates = self.candidates(siblings, &metadata, &content_type);
        let varies = !candidates.is_empty();
        let at = [b"/", name].concat();
        let headers = self.headers.of_file(&at, &content_type, varies);
        let representation =
            Representation::new(&metadata, content_type, headers, self.limits.ranges);
        let identity = self.load(representation, file, metadata).await?;
        let is_kept = identity.is_intact();
        let sight = look.sight.clone();
        let entry = Entry::new(identity, name, metadata, candidates, fresh_until, sight);
        let entry = Rc::new(entry);
        if let Some(kept) = self.kept_since(look).filter(|_| is_kept) {
            kept.keep(key, Rc::clone(&entry));
        }
        Ok(Found::File(entry))
    }

    fn fresh_until(&self, look: &Look) -> Instant {
        let interval = self.config.revalidate_interval;
        let factor = if look.sight.is_some() {
            WATCHED_FACTOR
        } else {
            1
        };
        ringway_runtime::now() + interval * factor
    }

    /// A small file in memory, a large one open; and so one that changed while it was read.
    async fn load(
        &self,
        representation: Representation,
        file: File,
        metadata: Metadata,
    ) -> io::Result<Variant> {
        if self.kept.is_some()
            && metadata.bytes <= self.limits.cache_file_bytes
            && let Some(body) = read_whole(&file, &metadata).await?
        {
            let now = ringway_runtime::now();
            return Ok(Variant::in_memory(representation, &body, now));
        }
        Ok(Variant {
            representation,
            source: Source::Open(file, metadata),
        })
    }

    /// The precompressed files beside a source, in the order of preference, but for those that are
    /// older than it.
    async fn siblings(
        &self,
        look: &mut Look,
        name: &[u8],
        source: &Metadata,
    ) -> io::Result<Vec<(Coding, Metadata)>> {
        let mut siblings = Vec::new();
        for coding in self.config.precompressed.iter().copied().map(Coding::from) {
            let name = [name, extension(coding)].concat();
            let (_, metadata) = match self.open(look, &name).await {
                Ok(found) => found,
                Err(error) if status_of(&error) == StatusCode::SERVICE_UNAVAILABLE => {
                    return Err(error);
                }
                // Not there, or not for us: the source is.
                Err(_) => continue,
            };
            let time =
                |metadata: &Metadata| (metadata.modified_seconds, metadata.modified_nanoseconds);
            if metadata.kind != FileKind::Regular {
                continue;
            }
            if time(&metadata) < time(source) {
                self.tell_outdated(name);
            } else if siblings.iter().all(|(known, _)| *known != coding) {
                siblings.push((coding, metadata));
            }
        }
        Ok(siblings)
    }

    /// Says once that a sibling is older than its source.
    fn tell_outdated(&self, name: Vec<u8>) {
        let shared = Arc::clone(&self.shared);
        let root = self.config.root.clone();
        // Elsewhere, because workers share what has been told.
        drop(ringway_runtime::spawn(async move {
            let _ = spawn_blocking(move || {
                let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.len() < TOLD_COUNT && told.insert(name.clone().into()) {
                    let path = root.join(String::from_utf8_lossy(&name).as_ref());
                    tracing::warn!(
                        path = %path.display(),
                        "older than its source: it isn't served in its place"
                    );
                }
            })
            .await;
        }));
    }

    /// All codings of a file: first those that lie there.
    pub(super) fn candidates(
        &self,
        siblings: Vec<(Coding, Metadata)>,
        source: &Metadata,
        content_type: &str,
    ) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = siblings
            .into_iter()
            .map(|(coding, metadata)| Candidate::new(coding, Some(metadata)))
            .collect();
        let sizes = self.config.compress_min_bytes..=self.limits.compress_file_bytes;
        if self.kept.is_some()
            && sizes.contains(&source.bytes)
            && media::matches(content_type, &self.config.compress_types)
        {
            for coding in self.config.compress.iter().copied().map(Coding::from) {
                if candidates.iter().all(|known| known.coding != coding) {
                    candidates.push(Candidate::new(coding, None));
                }
            }
        }
        candidates
    }

    /// Opens or makes a file's representation in a coding; nothing when it isn't to be had.
    ///
    /// # Errors
    /// Something has run short, or changed meanwhile: the next may try again.
    pub(super) async fn bring_in(
        &self,
        entry: &Rc<Entry>,
        candidate: &Candidate,
        path: &[u8],
    ) -> io::Result<Option<Rc<Variant>>> {
        let underway = candidate.begin();
        let brought = match &candidate.sibling {
            Some(sibling) => self.open_sibling(entry, candidate.coding, sibling).await,
            None => self.compress(entry, candidate.coding).await,
        };
        let variant = brought?.map(Rc::new);
        underway.end(variant.clone());
        if let Some(kept) = &self.kept {
            kept.recount(path, entry);
        }
        Ok(variant)
    }

    async fn open_sibling(
        &self,
        entry: &Entry,
        coding: Coding,
        sibling: &Metadata,
    ) -> io::Result<Option<Variant>> {
        let name = [entry.name(), extension(coding)].concat();
        let mut look = self.look(&name);
        let (file, metadata) = self.open(&mut look, &name).await?;
        if metadata != *sibling {
            entry.expire();
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        let representation = entry
            .identity()
            .representation
            .precompressed(coding, sibling);
        self.load(representation, file, metadata).await.map(Some)
    }

    /// Has a file compressed; nothing when that isn't worth it.
    async fn compress(&self, entry: &Entry, coding: Coding) -> io::Result<Option<Variant>> {
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        let _job = self
            .shared
            .jobs
            .enter(self.limits.compress_jobs)
            .ok_or_else(busy)?;
        let identity = entry.identity();
        let body = match &identity.source {
            Source::Memory(whole) => whole.body(),
            Source::Open(file, metadata) => match read_whole(file, metadata).await? {
                Some(body) => body,
                None => {
                    entry.expire();
                    return Err(busy());
                }
            },
        };
        let compressed = spawn_blocking(move || compress(coding, &body)).await;
        let Some(compressed) = compressed.map_err(|_| busy())?? else {
            return Ok(None);
        };
        let representation = identity.representation.coded(coding);
        let now = ringway_runtime::now();
        Ok(Some(Variant::in_memory(representation, &compressed, now)))
    }
}

/// The same for somebody else.
fn again(found: &io::Result<Found>) -> io::Result<Found> {
    match found {
        Ok(found) => Ok(found.clone()),
        // All that is made of it is a status, which its number or else its kind decides.
        Err(error) => Err(match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => error.kind().into(),
        }),
    }
}

/// Waits for the file system, at most that long.
pub(super) async fn within<T>(
    patience: Duration,
    look: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let done = timeout(patience, look).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
    Ok((file.look().await? == *metadata).then_some(body))
}

/// What the client is told of an error of the file system. A path that leads out of the root isn't
/// there, as far as anybody outside can tell.
pub(crate) fn status_of(error: &io::Error) -> StatusCode {
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
        // Too many wait for the file system already, or it took too long.
        None if matches!(
            error.kind(),
            io::ErrorKind::ResourceBusy | io::ErrorKind::TimedOut
        ) =>
        {
            StatusCode::SERVICE_UNAVAILABLE
        }
        None if error.kind() == io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        None if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
