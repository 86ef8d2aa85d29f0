//! Directories that are watched, so that what is cached from them can be kept until it changes.
//!
//! One thread of the process reads the kernel's events and raises the directory's count of changes;
//! workers compare counts (one relaxed load), so nothing on the data path waits for anybody. The
//! same thread looks twice a second whether a root's path leads to another directory: a link that a
//! deployment has swapped.
//!
//! A watch is only an improvement: whatever can't be watched (a path over a link, a network file
//! system, one directory too many) is looked at again each `revalidate_interval`.

use crate::config::Config;
use crate::files;
use foldhash::fast::RandomState;
use ringway_runtime::{Change, Directory, WatchId, Watcher};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the roots themselves are looked at: twice in the second within which a deployment has
/// to be seen.
const ROOTS_INTERVAL: Duration = Duration::from_millis(500);
const _: () = assert!(ROOTS_INTERVAL.as_millis() * 2 <= 1000);

/// How long a directory that couldn't be watched isn't tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The count of a directory whose watch has ended.
const ENDED: u64 = u64::MAX;

/// Beneath what a directory is: a root, by its index, as the directory that it was then (inode and
/// device). A root that has been swapped has other places than before.
type Site = (usize, (u64, u64));

/// A site, and a path beneath it without slashes at its ends.
type Place = (Site, Box<[u8]>);

/// A watched directory: how often something in it has changed.
#[derive(Debug)]
pub(crate) struct Watched {
    place: Place,
    id: WatchId,
    changes: AtomicU64,
}

impl Watched {
    fn tell(&self) {
        if self.changes.load(Relaxed) != ENDED {
            // One thread at a time writes: whoever holds the table.
            self.changes.store(self.changes.load(Relaxed) + 1, Relaxed);
        }
    }
}

/// A directory as it was seen: clear as long as nothing in it has changed since.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    watched: Arc<Watched>,
    changes: u64,
}

impl Sight {
    pub(super) fn is_clear(&self) -> bool {
        // Relaxed: it only has to be seen soon. What is read because of it is read from the kernel.
        self.watched.changes.load(Relaxed) == self.changes
    }
}

/// All watched directories of the process.
#[derive(Debug)]
pub(crate) struct Watches {
    watcher: Watcher,
    table: Mutex<Table>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<WatchId, Arc<Watched>>,
    by_place: HashMap<Place, Arc<Watched>>,
    /// What roots were until they were swapped last. Workers go on with it for a moment, and ask for
    /// watches that nobody would need any more.
    left: HashMap<usize, Site>,
    /// Nobody reads the events any more.
    is_deaf: bool,
}

impl Watches {
    /// # Errors
    /// As [`Watcher::new`].
    pub(crate) fn new(limit: usize) -> io::Result<Watches> {
        Ok(Watches {
            watcher: Watcher::new()?,
            table: Mutex::default(),
            limit,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each step leaves the table whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the directory at `path` below a root, and all those on the way to it: what they are
    /// called can change as well. It may wait for a disk.
    fn add(&self, root: usize, directory: &Directory, path: &[u8]) -> io::Result<Arc<Watched>> {
        let site = (root, directory.identity()?);
        let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
        let mut way = Vec::new();
        for end in std::iter::once(0).chain(slashes) {
            way.push(self.add_one(site, directory, &path[..end])?);
        }
        let watched = self.add_one(site, directory, path)?;
        let mut table = self.lock();
        if way.iter().any(|above| above.changes.load(Relaxed) == ENDED) {
            // Moved meanwhile: the last one was found on another way, which nobody watches.
            table.end_below(&self.watcher, site, path);
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(watched)
    }

    fn add_one(&self, site: Site, directory: &Directory, path: &[u8]) -> io::Result<Arc<Watched>> {
        let place = (site, Box::from(path));
        let mut table = self.lock();
        if table.is_deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if table.left.get(&site.0) == Some(&site) {
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        if let Some(watched) = table.by_place.get(&place) {
            return Ok(Arc::clone(watched));
        }
        if table.by_id.len() >= self.limit {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let id = directory.watch(&self.watcher, path)?;
        if table.by_id.contains_key(&id) {
            // The same directory under another path, which events wouldn't name.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let watched = Arc::new(Watched {
            place: place.clone(),
            id,
            changes: AtomicU64::new(0),
        });
        table.by_id.insert(id, Arc::clone(&watched));
        table.by_place.insert(place, Arc::clone(&watched));
        Ok(watched)
    }

    /// Waits for events and takes them in.
    fn wait(&self, time: Duration) -> io::Result<()> {
        self.watcher.wait(time, |change| {
            let mut table = self.lock();
            match change {
                Change::Lost => table.by_id.values().for_each(|watched| watched.tell()),
                Change::Ended(id) => table.end(id),
                Change::In(id, name) => {
                    let Some(watched) = table.by_id.get(&id) else {
                        return;
                    };
                    watched.tell();
                    let (site, path) = watched.place.clone();
                    // The directory itself, or one in it, isn't what its path names any more, or
                    // may not be.
                    match name {
                        None => table.end_below(&self.watcher, site, &path),
                        Some(name) => {
                            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                            let inner = [&path, separator, name].concat();
                            if table.by_place.contains_key(&(site, inner.clone().into())) {
                                table.end_below(&self.watcher, site, &inner);
                            }
                        }
                    }
                }
            }
        })
    }

    /// The same; whether it worked. If not, no watch is worth anything, and none is added any more.
    fn listen(&self, time: Duration) -> bool {
        let Err(error) = self.wait(time) else {
            return true;
        };
        tracing::error!(%error, "inotify failed: files are looked at each interval");
        let mut table = self.lock();
        table.is_deaf = true;
        table.end_all(&self.watcher, |_| true);
        false
    }

    /// A root is another directory now: ends every watch beneath the old one, and adds no more.
    fn leave(&self, root: usize, old: (u64, u64)) {
        let mut table = self.lock();
        let site = (root, old);
        table.left.insert(root, site);
        table.end_below(&self.watcher, site, b"");
    }
}

impl Table {
    fn end(&mut self, id: WatchId) {
        if let Some(watched) = self.by_id.remove(&id) {
            watched.changes.store(ENDED, Relaxed);
            self.by_place.remove(&watched.place);
        }
    }

    fn end_below(&mut self, watcher: &Watcher, site: Site, path: &[u8]) {
        self.end_all(watcher, |place| {
            let rest = place.1.strip_prefix(path);
            place.0 == site
                && rest.is_some_and(|rest| {
                    path.is_empty() || rest.is_empty() || rest.starts_with(b"/")
                })
        });
    }

    fn end_all(&mut self, watcher: &Watcher, is_over: impl Fn(&Place) -> bool) {
        let ids: Vec<WatchId> = self
            .by_id
            .values()
            .filter(|watched| is_over(&watched.place))
            .map(|watched| watched.id)
            .collect();
        for id in ids {
            self.end(id);
            watcher.remove(id);
        }
    }
}

/// Listens to the kernel, and looks at what the paths of some roots lead to, as long as the process
/// runs. `places` are those roots, by their index, with the directories that they are now; `swapped`
/// hears of each whose path leads to another one.
pub(crate) fn watch(
    config: &Config,
    mut places: Vec<(usize, Directory)>,
    watches: Option<&Watches>,
    mut swapped: impl FnMut(usize, Directory) -> bool,
) {
    let mut watches = watches;
    let mut next_look = Instant::now() + ROOTS_INTERVAL;
    loop {
        let left = next_look.saturating_duration_since(Instant::now());
        match watches.map(|watches| watches.listen(left)) {
            None => std::thread::sleep(left),
            Some(true) => {}
            Some(false) => watches = None,
        }
        if Instant::now() < next_look {
            continue;
        }
        next_look = Instant::now() + ROOTS_INTERVAL;
        for (index, current) in &mut places {
            // While a deployment is under way there may be none: the old one stays.
            let Ok(directory) = files::open(&config.roots[*index], &config.limits) else {
                continue;
            };
            let (Ok(new), Ok(old)) = (directory.identity(), current.identity()) else {
                continue;
            };
            if new != old {
                *current = directory.clone();
                watches.inspect(|watches| watches.leave(*index, old));
                if !swapped(*index, directory) {
                    return;
                }
            }
        }
    }
}

/// The watched directories of a root, as one worker knows them.
pub(super) struct Outlook {
    watches: Arc<Watches>,
    root: usize,
    known: RefCell<HashMap<Box<[u8]>, Known, RandomState>>,
    /// How often all of it was forgotten.
    cleared: Cell<u64>,
}

enum Known {
    /// Asked for, and not there yet.
    Pending,
    Watched(Arc<Watched>),
    /// Not to be watched; to be tried again then.
    Refused(Instant),
}

impl Outlook {
    pub(super) fn new(watches: Arc<Watches>, root: usize) -> Outlook {
        Outlook {
            watches,
            root,
            known: RefCell::default(),
            cleared: Cell::new(0),
        }
    }

    /// The directory that a file at `path` is in, as it is now, if it is watched; if not, it is
    /// asked for, for the next time. To be taken before the file is looked at.
    pub(super) fn sight(self: &Rc<Outlook>, directory: &Directory, path: &[u8]) -> Option<Sight> {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let path = &path[..end];
        let now = ringway_runtime::now();
        let mut known = self.known.borrow_mut();
        match known.get(path) {
            Some(Known::Pending) => return None,
            Some(Known::Refused(until)) if now < *until => return None,
            Some(Known::Watched(watched)) => {
                let changes = watched.changes.load(Relaxed);
                if changes != ENDED {
                    let watched = Arc::clone(watched);
                    return Some(Sight { watched, changes });
                }
            }
            _ => {}
        }
        if known.len() >= self.watches.limit {
            known.retain(|_, known| match known {
                Known::Pending => true,
                Known::Watched(watched) => watched.changes.load(Relaxed) != ENDED,
                Known::Refused(until) => now < *until,
            });
            if known.len() >= self.watches.limit {
                return None;
            }
        }
        known.insert(path.into(), Known::Pending);
        let asked = Rc::clone(self).ask(directory.clone(), path.into(), self.cleared.get());
        drop(ringway_runtime::spawn(asked));
        None
    }

    async fn ask(self: Rc<Outlook>, directory: Directory, path: Box<[u8]>, cleared: u64) {
        let (watches, root, asked) = (Arc::clone(&self.watches), self.root, path.clone());
        let added =
            ringway_runtime::spawn_blocking(move || watches.add(root, &directory, &asked)).await;
        let known = match added {
            Ok(Ok(watched)) => Known::Watched(watched),
            _ => Known::Refused(ringway_runtime::now() + RETRY),
        };
        // What was asked of another directory says nothing of this one.
        if self.cleared.get() == cleared {
            self.known.borrow_mut().insert(path, known);
        }
    }

    /// Forgets everything: the root is another directory now.
    pub(super) fn clear(&self) {
        self.known.borrow_mut().clear();
        self.cleared.set(self.cleared.get() + 1);
    }
}

#[cfg(test)]
mod tests;
