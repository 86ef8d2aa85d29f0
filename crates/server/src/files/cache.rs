//! Small files in memory, each as a whole response that is ready to be sent.
//!
//! Bounded in bytes and in entries; what hasn't been asked for since the clock's hand last came by
//! goes first (CLOCK: Corbató, "A Paging Experiment with the Multics System", 1968).

use super::Moment;
use super::respond::Representation;
use crate::clock::Clock;
use foldhash::fast::RandomState;
use ringway_http::head::Method;
use ringway_http::target::Target;
use ringway_runtime::Metadata;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What an entry costs beside its path and its response.
const OVERHEAD_BYTES: u64 = 512;

/// A file changed this recently may change again without a new time of modification: file systems
/// stamp by the timer tick, some by the second or two.
const SETTLED: Duration = Duration::from_secs(2);

/// A cached file.
pub(super) struct Entry {
    metadata: Metadata,
    representation: Representation,
    /// Head and body. Immutable while anybody else holds it: it may be on its way out.
    response: RefCell<Rc<[u8]>>,
    head_bytes: u32,
    date_at: usize,
    /// The second that the head's date tells.
    date: Cell<u64>,
    /// Until when the file needn't be looked at again.
    fresh_until: Cell<Instant>,
    /// When it was read the file had changed a moment before, so its times can't be trusted.
    is_unsettled: bool,
}

impl Entry {
    pub(super) fn new(
        metadata: Metadata,
        representation: Representation,
        body: &[u8],
        now: Instant,
        fresh_until: Instant,
    ) -> Entry {
        let clock = Clock::new();
        let (response, head_bytes, date_at) = representation.whole(body, &clock, now);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let changed = Duration::from_secs(metadata.changed.0.max(0).unsigned_abs());
        Entry {
            metadata,
            representation,
            response: RefCell::new(response.into()),
            head_bytes: head_bytes as u32,
            date_at,
            date: Cell::new(clock.seconds(now)),
            fresh_until: Cell::new(fresh_until),
            is_unsettled: wall < changed + SETTLED,
        }
    }

    pub(super) fn representation(&self) -> &Representation {
        &self.representation
    }

    pub(super) fn head_bytes(&self) -> u32 {
        self.head_bytes
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.metadata.bytes
    }

    /// Whether the file was looked at lately enough.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        // With an interval of zero, never.
        now < self.fresh_until.get()
    }

    /// Whether the file is still what was read; then the entry is good until `fresh_until`.
    pub(super) fn revalidate(&self, metadata: &Metadata, fresh_until: Instant) -> bool {
        let is_same = self.metadata == *metadata && !self.is_unsettled;
        if is_same {
            self.fresh_until.set(fresh_until);
        }
        is_same
    }

    /// The response with the present date. A new second is a new response if the last one is still
    /// being sent; else its date is written over.
    pub(super) fn response(&self, moment: Moment<'_>) -> Rc<[u8]> {
        let seconds = moment.clock.seconds(moment.now);
        if self.date.replace(seconds) != seconds {
            let mut response = self.response.borrow_mut();
            if Rc::get_mut(&mut response).is_none() {
                let copy: Rc<[u8]> = response.as_ref().into();
                *response = copy;
            }
            let bytes = Rc::get_mut(&mut response).expect("nobody else holds it now");
            let date = moment.clock.date(moment.now);
            bytes[self.date_at..self.date_at + 29].copy_from_slice(date.as_bytes());
        }
        Rc::clone(&self.response.borrow())
    }

    fn cost(&self, path: &[u8]) -> u64 {
        self.response.borrow().len() as u64 + path.len() as u64 + OVERHEAD_BYTES
    }
}

struct Place {
    path: Rc<[u8]>,
    entry: Rc<Entry>,
    was_used: Cell<bool>,
    /// A request target that reads like the path means this path: nothing in it is encoded, and
    /// nothing in it would be decoded. `/a%20b` as a path is the file `a%20b`, as a target `a b`.
    is_target: bool,
}

/// A worker's cached files, by path.
pub(super) struct Cache {
    by_path: HashMap<Rc<[u8]>, usize, RandomState>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    hand: usize,
    bytes: u64,
    bytes_limit: u64,
    entries_limit: usize,
}

impl Cache {
    pub(super) fn new(bytes_limit: u64, entries_limit: usize) -> Cache {
        Cache {
            by_path: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            bytes_limit,
            entries_limit,
        }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<Rc<Entry>> {
        let place = self.places[*self.by_path.get(path)?].as_ref()?;
        place.was_used.set(true);
        Some(Rc::clone(&place.entry))
    }

    /// By a request target as it was sent, where that is safe without understanding it.
    pub(super) fn get_by_target(&self, target: &[u8]) -> Option<Rc<Entry>> {
        let place = self.places[*self.by_path.get(target)?].as_ref()?;
        place.was_used.set(true);
        place.is_target.then(|| Rc::clone(&place.entry))
    }

    pub(super) fn remove(&mut self, path: &[u8]) {
        if let Some(index) = self.by_path.get(path) {
            self.vacate(*index);
        }
    }

    /// Keeps an entry, and lets go of others until there is room; of this one too, when it is
    /// larger than the whole cache.
    pub(super) fn insert(&mut self, path: &[u8], entry: Rc<Entry>) {
        self.remove(path);
        let cost = entry.cost(path);
        if cost > self.bytes_limit || self.entries_limit == 0 {
            return;
        }
        while self.bytes + cost > self.bytes_limit || self.by_path.len() >= self.entries_limit {
            self.advance_hand();
        }
        let path: Rc<[u8]> = path.into();
        let is_target = matches!(
            Target::parse(Method::Get, &path),
            Ok(Target::Resource(resource)) if resource.path.as_bytes() == &*path
                && resource.query.is_none()
                && resource.authority.is_none()
        );
        let was_used = Cell::new(false);
        let place = Place {
            path: Rc::clone(&path),
            entry,
            was_used,
            is_target,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(place);
        self.by_path.insert(path, index);
        self.bytes += cost;
    }

    /// One step of the hand: a second chance for what was used, an end for what was not.
    fn advance_hand(&mut self) {
        let index = self.hand;
        self.hand = (self.hand + 1) % self.places.len().max(1);
        if self.places[index]
            .as_ref()
            .is_some_and(|place| !place.was_used.replace(false))
        {
            self.vacate(index);
        }
    }

    fn vacate(&mut self, index: usize) {
        if let Some(place) = self.places[index].take() {
            self.by_path.remove(&place.path);
            self.bytes -= place.entry.cost(&place.path);
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_runtime::FileKind;

    fn entry(bytes: usize) -> Rc<Entry> {
        let metadata = Metadata {
            kind: FileKind::Regular,
            bytes: bytes as u64,
            modified_seconds: 1_000,
            modified_nanoseconds: 0,
            changed: (1_000, 0),
            inode: 1,
            device: 1,
        };
        let representation = Representation::new(&metadata, "text/plain".to_owned());
        let now = Instant::now();
        Rc::new(Entry::new(
            metadata,
            representation,
            &vec![b'x'; bytes],
            now,
            now,
        ))
    }

    #[test]
    fn the_bounds_hold_and_what_is_used_stays() {
        let mut cache = Cache::new(1 << 20, 10);
        for number in 0..100 {
            cache.insert(format!("/{number}").as_bytes(), entry(100));
            assert!(cache.by_path.len() <= 10);
            assert!(number == 0 || cache.get(b"/0").is_some(), "{number}");
        }
        let mut cache = Cache::new(10_000, 1000);
        for number in 0..100 {
            cache.insert(format!("/{number}").as_bytes(), entry(1000));
            assert!(cache.bytes <= 10_000);
        }
        assert!(cache.get(b"/99").is_some());
        cache.insert(b"/large", entry(20_000));
        assert!(cache.get(b"/large").is_none());
    }

    #[test]
    fn a_target_finds_only_the_path_that_it_means() {
        let mut cache = Cache::new(1 << 20, 10);
        for path in ["/plain", "/with space", "/a%20b", "/a?b", "/a#b"] {
            cache.insert(path.as_bytes(), entry(1));
            assert!(cache.get(path.as_bytes()).is_some(), "{path}");
            let expected = path == "/plain";
            assert_eq!(
                cache.get_by_target(path.as_bytes()).is_some(),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn bytes_are_given_back() {
        let mut cache = Cache::new(1 << 20, 10);
        cache.insert(b"/a", entry(1000));
        cache.insert(b"/a", entry(10));
        cache.remove(b"/a");
        assert_eq!((cache.bytes, cache.by_path.len()), (0, 0));
    }

    #[test]
    fn a_response_on_its_way_is_never_written_to() {
        let entry = entry(10);
        let clock = Clock::new();
        let sent = entry.response(Moment {
            now: Instant::now(),
            clock: &clock,
        });
        let before = sent.to_vec();
        entry.date.set(0);
        let next = entry.response(Moment {
            now: Instant::now(),
            clock: &clock,
        });
        assert_eq!(&*sent, &before);
        assert!(!Rc::ptr_eq(&sent, &next));
        drop((sent, next));
        let address = entry.response.borrow().as_ptr();
        entry.date.set(0);
        let again = entry.response(Moment {
            now: Instant::now(),
            clock: &clock,
        });
        assert_eq!(again.as_ptr(), address);
    }
}
