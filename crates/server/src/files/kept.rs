//! What a worker remembers of a root: files, paths that lead nowhere, and when to let go of them.
//!
//! A file that is kept open takes its disk space as long as it is, deleted or not. So while there
//! are such, a task looks through them each second. The last one to close a deleted file waits
//! until its blocks are free, which a large one takes a while for: that is left to the blocking pool.

use super::FileLimits;
use super::cache::{Absent, Cache};
use super::entry::Entry;
use ringway_runtime::{sleep, spawn};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// How often some of the open files are looked at.
const SWEEP: Duration = Duration::from_secs(1);

pub(super) struct Kept {
    pub(super) files: RefCell<Cache>,
    pub(super) absent: RefCell<Absent>,
    /// Whether its task runs.
    is_swept: Cell<bool>,
}

impl Kept {
    pub(super) fn new(limits: FileLimits) -> Kept {
        Kept {
            files: RefCell::new(Cache::new(limits.cache)),
            absent: RefCell::new(Absent::new(limits.absent_entries)),
            is_swept: Cell::new(false),
        }
    }

    pub(super) fn keep(self: &Rc<Kept>, key: &[u8], entry: Rc<Entry>) {
        self.files.borrow_mut().insert(key, entry);
        self.begin_to_sweep();
    }

    /// Counts an entry anew that has grown.
    pub(super) fn recount(self: &Rc<Kept>, key: &[u8], entry: &Rc<Entry>) {
        self.files.borrow_mut().recount(key, entry);
        self.begin_to_sweep();
    }

    /// What is kept as `key` isn't so any more.
    pub(super) fn let_go(&self, key: &[u8]) {
        let entry = self.files.borrow_mut().take(key);
        close(entry);
    }

    fn begin_to_sweep(self: &Rc<Kept>) {
        if self.files.borrow().holds_descriptors() && !self.is_swept.replace(true) {
            drop(spawn(Rc::clone(self).sweep()));
        }
    }

    async fn sweep(self: Rc<Kept>) {
        while self.files.borrow().holds_descriptors() {
            sleep(SWEEP).await;
            let over = self.files.borrow_mut().sweep(ringway_runtime::now());
            close(over);
        }
        self.is_swept.set(false);
    }
}

/// Drops entries, and has the files closed that they held.
fn close(entries: impl IntoIterator<Item = Rc<Entry>>) {
    let mut files = Vec::new();
    for entry in entries {
        files.extend(entry.open_files());
    }
    if !files.is_empty() {
        drop(spawn(async move {
            for file in files {
                file.close().await;
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::CacheLimits;
    use super::super::entry::{Source, Variant};
    use super::super::headers::FileHeaders;
    use super::super::respond::Representation;
    use super::*;
    use ringway_runtime::{Directory, Runtime, RuntimeOptions, Symlinks};
    use std::time::Instant;

    const LIMITS: CacheLimits = CacheLimits {
        bytes: 1 << 20,
        entries: 10,
        descriptors: 10,
    };

    /// A file that is kept open, and was looked at: it is good until then.
    async fn open(directory: &Directory, name: &[u8], fresh_until: Instant) -> Rc<Entry> {
        let found = directory.find_beneath(name, Symlinks::Deny).await;
        let (file, metadata) = found.unwrap();
        let representation =
            Representation::new(&metadata, String::new(), FileHeaders::default(), 1);
        let variant = Variant {
            representation,
            source: Source::Open(file, metadata),
        };
        let candidates = Vec::new();
        let entry = Entry::new(variant, name, metadata, candidates, fresh_until, None);
        Rc::new(entry)
    }

    #[test]
    fn a_file_is_held_until_it_is_deleted_or_not_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["deleted", "kept"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut runtime = Runtime::new(&RuntimeOptions::default()).unwrap();
        let ran = runtime.block_on(async move {
            let directory = Directory::open(folder.path()).unwrap();
            let (start, second) = (ringway_runtime::now(), Duration::from_secs(1));
            let mut cache = Cache::new(LIMITS);
            for name in ["deleted", "kept"] {
                let name = name.as_bytes();
                cache.insert(name, open(&directory, name, start + second).await);
            }
            let mut over = |after| {
                let entries = cache.sweep(start + after);
                let names = entries.iter().map(|entry| entry.name().to_vec());
                (names.collect::<Vec<_>>(), cache.holds_descriptors())
            };
            assert_eq!(over(second), (vec![], true));
            std::fs::remove_file(folder.path().join("deleted")).unwrap();
            // Nothing is looked at within the interval.
            assert_eq!(over(second / 2), (vec![], true));
            assert_eq!(over(second), (vec![b"deleted".to_vec()], true));
            assert_eq!(over(60 * second), (vec![], true));
            assert_eq!(over(61 * second), (vec![b"kept".to_vec()], false));
        });
        ran.unwrap();
    }
}
