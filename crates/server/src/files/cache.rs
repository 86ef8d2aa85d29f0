//! The table of files that are kept, by path.
//!
//! Bounded in bytes, in entries and in descriptors; what hasn't been asked for since the clock's hand
//! last came by goes first (CLOCK: Corbató, "A Paging Experiment with the Multics System", 1968).
//! Paths that lead nowhere have a table of their own ([`Absent`]), so that asking for what isn't
//! there drives out nothing that is.

use super::entry::Entry;
use super::watched::Sight;
use foldhash::fast::RandomState;
use ringway_http::head::Method;
use ringway_http::target::Target;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Files kept open that are looked at in one sweep: well below a millisecond's work.
const SWEEP_COUNT: usize = 256;

/// The bounds of a worker's cache of a root.
#[derive(Clone, Copy)]
pub(crate) struct CacheLimits {
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
    pub(crate) descriptors: usize,
}

struct Place {
    path: Rc<[u8]>,
    entry: Rc<Entry>,
    was_used: Cell<bool>,
    /// A request target that reads like the path means this path: nothing in it is encoded, and
    /// nothing in it would be decoded. `/a%20b` as a path is the file `a%20b`, as a target `a b`.
    is_target: bool,
    /// What it is counted with; the entry may have grown since.
    bytes: u64,
    descriptors: usize,
}

/// A worker's cached files, by path.
pub(super) struct Cache {
    by_path: HashMap<Rc<[u8]>, usize, RandomState>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    hand: usize,
    /// The places that hold descriptors, in the order in which a hand of their own comes by.
    holders: VecDeque<usize>,
    bytes: u64,
    descriptors: usize,
    limits: CacheLimits,
}

impl Cache {
    pub(super) fn new(limits: CacheLimits) -> Cache {
        Cache {
            by_path: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
            hand: 0,
            holders: VecDeque::new(),
            bytes: 0,
            descriptors: 0,
            limits,
        }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Rc<Entry>> {
        let place = self.places[*self.by_path.get(path)?].as_ref()?;
        place.was_used.set(true);
        Some(&place.entry)
    }

    /// By a request target as it was sent, where that is safe without understanding it.
    #[inline(always)]
    pub(super) fn get_by_target(&self, target: &[u8]) -> Option<&Rc<Entry>> {
        let place = self.places[*self.by_path.get(target)?].as_ref()?;
        place.was_used.set(true);
        place.is_target.then_some(&place.entry)
    }

    /// No longer keeps what is at `path`.
    pub(super) fn take(&mut self, path: &[u8]) -> Option<Rc<Entry>> {
        self.vacate(*self.by_path.get(path)?)
    }

    pub(super) fn clear(&mut self) {
        (0..self.places.len()).for_each(|index| drop(self.vacate(index)));
    }

    /// Keeps an entry, and lets go of others until there is room; of this one too, when it is
    /// larger than the whole cache.
    pub(super) fn insert(&mut self, path: &[u8], entry: Rc<Entry>) {
        self.take(path);
        let bytes = entry.bytes() + path.len() as u64;
        let descriptors = entry.descriptors();
        let limits = self.limits;
        if bytes > limits.bytes || descriptors > limits.descriptors || limits.entries == 0 {
            return;
        }
        while self.bytes + bytes > limits.bytes || self.by_path.len() >= limits.entries {
            self.advance_hand();
        }
        while self.descriptors + descriptors > limits.descriptors {
            self.advance_holders();
        }
        let path: Rc<[u8]> = path.into();
        let is_target = matches!(
            Target::parse(Method::Get, &path),
            Ok(Target::Resource(resource)) if resource.path.as_bytes() == &*path
                && resource.query.is_none()
                && resource.authority.is_none()
        );
        let place = Place {
            path: Rc::clone(&path),
            entry,
            was_used: Cell::new(false),
            is_target,
            bytes,
            descriptors,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(place);
        self.by_path.insert(path, index);
        self.bytes += bytes;
        if descriptors > 0 {
            self.descriptors += descriptors;
            self.holders.push_back(index);
        }
    }

    /// Counts an entry anew that has grown, if it is still kept.
    pub(super) fn recount(&mut self, path: &[u8], entry: &Rc<Entry>) {
        if self.get(path).is_some_and(|kept| Rc::ptr_eq(kept, entry)) {
            self.insert(path, Rc::clone(entry));
        }
    }

    /// Lets go of every entry that holds a descriptor.
    pub(super) fn release_descriptors(&mut self) {
        while let Some(index) = self.holders.front().copied() {
            self.vacate(index);
        }
    }

    pub(super) fn holds_descriptors(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Looks at the next few holders of descriptors, and no longer keeps those that hold them for
    /// nothing.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Rc<Entry>> {
        let mut over = Vec::new();
        for _ in 0..self.holders.len().min(SWEEP_COUNT) {
            let index = self.holders[0];
            let place = self.places[index].as_ref();
            if place.is_some_and(|place| place.entry.is_held_for_nothing(now)) {
                over.extend(self.vacate(index));
            } else {
                self.holders.rotate_left(1);
            }
        }
        over
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

    /// The same among the holders of descriptors.
    fn advance_holders(&mut self) {
        let Some(index) = self.holders.front().copied() else {
            return;
        };
        match &self.places[index] {
            Some(place) if place.was_used.replace(false) => self.holders.rotate_left(1),
            _ => drop(self.vacate(index)),
        }
    }

    fn vacate(&mut self, index: usize) -> Option<Rc<Entry>> {
        let place = self.places[index].take()?;
        self.by_path.remove(&place.path);
        self.bytes -= place.bytes;
        self.free.push(index);
        if place.descriptors > 0 {
            self.descriptors -= place.descriptors;
            self.holders.retain(|holder| *holder != index);
        }
        Some(place.entry)
    }
}

/// Longer paths that lead nowhere are looked up each time: nobody links to them.
const ABSENT_PATH_BYTES: usize = 512;

/// How often a full table is gone through for what is over.
const ABSENT_SWEEP: Duration = Duration::from_millis(100);

/// Paths that lead nowhere, each for a short while.
pub(super) struct Absent {
    known: HashMap<Box<[u8]>, Nothing, RandomState>,
    limit: usize,
    next_sweep: Option<Instant>,
}

struct Nothing {
    until: Instant,
    sight: Option<Sight>,
}

impl Nothing {
    fn holds(&self, now: Instant) -> bool {
        now < self.until && self.sight.as_ref().is_none_or(Sight::is_clear)
    }
}

impl Absent {
    pub(super) fn new(limit: usize) -> Absent {
        Absent {
            known: HashMap::default(),
            limit,
            next_sweep: None,
        }
    }

    pub(super) fn contains(&self, path: &[u8], now: Instant) -> bool {
        self.known
            .get(path)
            .is_some_and(|nothing| nothing.holds(now))
    }

    /// Remembers that `path` led nowhere, until then or until `sight` tells of a change.
    pub(super) fn insert(
        &mut self,
        path: &[u8],
        now: Instant,
        until: Instant,
        sight: Option<Sight>,
    ) {
        if path.len() > ABSENT_PATH_BYTES || until <= now {
            return;
        }
        if self.known.len() >= self.limit && self.next_sweep.is_none_or(|at| now >= at) {
            self.known.retain(|_, nothing| nothing.holds(now));
            self.next_sweep = Some(now + ABSENT_SWEEP);
        }
        // When all of them still hold it is a flood, which may as well be looked up.
        if self.known.len() < self.limit {
            self.known.insert(path.into(), Nothing { until, sight });
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Moment;
    use super::super::entry::{Source, Variant};
    use super::super::respond::Representation;
    use super::*;
    use crate::clock::Clock;
    use crate::files::headers::FileHeaders;
    use ringway_runtime::{FileKind, Metadata};

    const LIMITS: CacheLimits = CacheLimits {
        bytes: 1 << 20,
        entries: 10,
        descriptors: 10,
    };

    fn metadata(bytes: usize) -> Metadata {
        Metadata {
            kind: FileKind::Regular,
            bytes: bytes as u64,
            modified_seconds: 1_000,
            modified_nanoseconds: 0,
            changed: (1_000, 0),
            inode: 1,
            device: 1,
        }
    }

    fn entry(bytes: usize) -> Rc<Entry> {
        let metadata = metadata(bytes);
        let representation = Representation::new(
            &metadata,
            "text/plain".to_owned(),
            FileHeaders::default(),
            1,
        );
        let now = Instant::now();
        let identity = Variant::in_memory(representation, &vec![b'x'; bytes], now);
        let candidates = Vec::new();
        Rc::new(Entry::new(identity, b"x", metadata, candidates, now, None))
    }

    #[test]
    fn the_bounds_hold_and_what_is_used_stays() {
        let mut cache = Cache::new(LIMITS);
        for number in 0..100 {
            cache.insert(format!("/{number}").as_bytes(), entry(100));
            assert!(cache.by_path.len() <= 10);
            assert!(number == 0 || cache.get(b"/0").is_some(), "{number}");
        }
        let mut cache = Cache::new(CacheLimits {
            bytes: 10_000,
            entries: 1000,
            ..LIMITS
        });
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
        let mut cache = Cache::new(LIMITS);
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
        let mut cache = Cache::new(LIMITS);
        cache.insert(b"/a", entry(1000));
        cache.insert(b"/a", entry(10));
        drop(cache.take(b"/a"));
        assert_eq!((cache.bytes, cache.by_path.len()), (0, 0));
        cache.insert(b"/a", entry(10));
        cache.clear();
        assert_eq!((cache.bytes, cache.by_path.len()), (0, 0));
    }

    #[test]
    fn a_response_on_its_way_is_never_written_to() {
        let entry = entry(10);
        let Source::Memory(whole) = &entry.identity().source else {
            panic!("it is in memory");
        };
        let clock = Clock::new();
        let moment = Moment {
            now: Instant::now(),
            clock: &clock,
        };
        let sent = whole.response(moment);
        let before = sent.to_vec();
        whole.forget_date();
        let next = whole.response(moment);
        assert_eq!(&*sent, &before);
        assert!(!Rc::ptr_eq(&sent, &next));
        let address = next.as_ptr();
        drop((sent, next));
        whole.forget_date();
        assert_eq!(whole.response(moment).as_ptr(), address);
    }

    #[test]
    fn a_flood_of_what_is_not_there_is_bounded_and_forgotten() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut absent = Absent::new(3);
        for number in 0..10 {
            absent.insert(format!("/{number}").as_bytes(), at(0), at(1000), None);
        }
        assert_eq!(absent.known.len(), 3);
        assert!(absent.contains(b"/0", at(999)));
        assert!(!absent.contains(b"/0", at(1000)));
        assert!(!absent.contains(b"/9", at(0)));
        absent.insert(b"/new", at(1000), at(2000), None);
        assert!(absent.contains(b"/new", at(1000)));
        assert_eq!(absent.known.len(), 1);
        absent.insert(&[b'/'; 513], at(1000), at(2000), None);
        absent.insert(b"/never", at(1000), at(1000), None);
        assert_eq!(absent.known.len(), 1);
    }
}
