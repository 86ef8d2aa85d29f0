//! A file as it is kept: what is known of it, and its representations, each ready to be sent.
//!
//! The one without a content coding is always there; one for each coding that the file can be had
//! in is added when it is first asked for. All of them belong to one version of the file: when that
//! has changed, the whole entry goes, so no answer can mix two.

use super::Moment;
use super::respond::Representation;
use super::watched::Sight;
use crate::clock::Clock;
use ringway_http::negotiate::Coding;
use ringway_runtime::{File, Metadata};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// What an entry costs beside its path and its responses.
const OVERHEAD_BYTES: u64 = 512;

/// A file changed this recently may change again without a new time of modification: file systems
/// stamp by the timer tick, some by the second or two.
const SETTLED: Duration = Duration::from_secs(2);

/// How long a file is kept open that isn't asked for, after it would have to be looked at anew. To
/// open it again costs a few microseconds; to keep a deleted one costs the disk space it takes.
const HELD_UNUSED: Duration = Duration::from_secs(60);

/// A file of the site.
pub(super) struct Entry {
    identity: Variant,
    /// In the order in which the server prefers them. Without any, the file isn't subject to
    /// negotiation.
    candidates: Box<[Candidate]>,
    /// Where it is, relative to the root.
    name: Box<[u8]>,
    metadata: Metadata,
    /// Until when the file needn't be looked at again.
    fresh_until: Cell<Instant>,
    /// What would tell of a change before that.
    sight: RefCell<Option<Sight>>,
    /// When it was read the file had changed a moment before, so its times can't be trusted.
    is_unsettled: bool,
}

/// A content coding that a file can be had in.
pub(super) struct Candidate {
    pub(super) coding: Coding,
    /// The file beside the source that holds it; without one it is made.
    pub(super) sibling: Option<Metadata>,
    state: RefCell<State>,
}

/// How far a candidate is.
enum State {
    /// Nobody has asked for it yet.
    Untouched,
    /// It is being brought in for somebody.
    Underway,
    Ready(Rc<Variant>),
    /// It can't be had, or would be no smaller.
    Useless,
}

/// What a coding that was chosen can be answered with.
pub(super) enum Readiness {
    Ready(Rc<Variant>),
    /// To be brought in.
    Untouched,
    /// The identity has to do, for now or for good.
    Identity,
}

impl Entry {
    pub(super) fn new(
        identity: Variant,
        name: &[u8],
        metadata: Metadata,
        candidates: Vec<Candidate>,
        fresh_until: Instant,
        sight: Option<Sight>,
    ) -> Entry {
        let wall = ringway_runtime::wall_clock()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let is_settled = |metadata: &Metadata| {
            let changed = Duration::from_secs(metadata.changed.0.max(0).unsigned_abs());
            wall >= changed + SETTLED
        };
        let mut siblings = candidates.iter().filter_map(|one| one.sibling.as_ref());
        Entry {
            is_unsettled: !(is_settled(&metadata) && siblings.all(is_settled)),
            identity,
            candidates: candidates.into(),
            name: name.into(),
            metadata,
            fresh_until: Cell::new(fresh_until),
            sight: RefCell::new(sight),
        }
    }

    pub(super) fn identity(&self) -> &Variant {
        &self.identity
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether the file was looked at lately enough, and nobody has told of a change since.
    #[inline(always)]
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        // With an interval of zero, never.
        now < self.fresh_until.get() && self.sight.borrow().as_ref().is_none_or(Sight::is_clear)
    }

    /// Whether it holds a file open for nothing: one that has no name any more, or that nobody has
    /// asked for in a while. Until it is looked at anew it is right, and stays.
    pub(super) fn is_held_for_nothing(&self, now: Instant) -> bool {
        !self.is_fresh(now)
            && (now >= self.fresh_until.get() + HELD_UNUSED
                || self.open_files().iter().any(is_nameless))
    }

    /// What it holds open.
    pub(super) fn open_files(&self) -> Vec<File> {
        let coded = self.candidates.iter().filter_map(Candidate::ready);
        let open = coded.filter_map(|variant| variant.open_file());
        self.identity.open_file().into_iter().chain(open).collect()
    }

    /// The file is to be looked at before it is answered with again.
    pub(super) fn expire(&self) {
        if let Some(past) = self
            .fresh_until
            .get()
            .checked_sub(Duration::from_secs(24 * 3600))
        {
            self.fresh_until.set(past);
        }
    }

    /// Whether the file and its siblings are still what they were; then the entry is good until
    /// `fresh_until`, or until `sight` tells of a change.
    pub(super) fn revalidate(
        &self,
        metadata: &Metadata,
        siblings: &[(Coding, Metadata)],
        fresh_until: Instant,
        sight: Option<Sight>,
    ) -> bool {
        let known = self.candidates.iter().filter_map(|candidate| {
            let sibling = candidate.sibling?;
            Some((candidate.coding, sibling))
        });
        let is_same =
            self.metadata == *metadata && !self.is_unsettled && known.eq(siblings.iter().copied());
        if is_same {
            self.fresh_until.set(fresh_until);
            *self.sight.borrow_mut() = sight;
        }
        is_same
    }

    /// Bytes of memory that it takes beside its path.
    pub(super) fn bytes(&self) -> u64 {
        let coded = self.candidates.iter().filter_map(Candidate::ready);
        let coded: u64 = coded.map(|variant| variant.bytes()).sum();
        OVERHEAD_BYTES + self.identity.bytes() + coded
    }

    /// Descriptors that it holds open.
    pub(super) fn descriptors(&self) -> usize {
        let coded = self.candidates.iter().filter_map(Candidate::ready);
        let coded: usize = coded.map(|variant| variant.descriptors()).sum();
        self.identity.descriptors() + coded
    }
}

impl Candidate {
    pub(super) fn new(coding: Coding, sibling: Option<Metadata>) -> Candidate {
        Candidate {
            coding,
            sibling,
            state: RefCell::new(State::Untouched),
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        match &*self.state.borrow() {
            State::Ready(variant) => Readiness::Ready(Rc::clone(variant)),
            State::Untouched => Readiness::Untouched,
            State::Underway | State::Useless => Readiness::Identity,
        }
    }

    fn ready(&self) -> Option<Rc<Variant>> {
        match self.readiness() {
            Readiness::Ready(variant) => Some(variant),
            _ => None,
        }
    }

    /// Says that the caller brings it in, until it calls [`Underway::end`]. When that is dropped
    /// first, somebody else may try.
    pub(super) fn begin(&self) -> Underway<'_> {
        *self.state.borrow_mut() = State::Underway;
        Underway { candidate: self }
    }
}

/// Somebody brings a candidate in.
pub(super) struct Underway<'e> {
    candidate: &'e Candidate,
}

impl Underway<'_> {
    /// With what was brought in; nothing when it can't be had.
    pub(super) fn end(self, variant: Option<Rc<Variant>>) {
        *self.candidate.state.borrow_mut() = variant.map_or(State::Useless, State::Ready);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut state = self.candidate.state.borrow_mut();
        if matches!(*state, State::Underway) {
            *state = State::Untouched;
        }
    }
}

/// Whether a file was deleted, or renamed over. One that would have to be waited for isn't asked.
fn is_nameless(file: &File) -> bool {
    !file.may_wait() && file.link_count().is_ok_and(|count| count == 0)
}

/// One representation of a file, and where its bytes are.
pub(super) struct Variant {
    pub(super) representation: Representation,
    pub(super) source: Source,
}

pub(super) enum Source {
    Memory(Whole),
    /// Too large for memory: kept open, with what it was when it was opened.
    Open(File, Metadata),
}

impl Variant {
    /// One that is kept in memory, with its body, which its tag is made of.
    pub(super) fn in_memory(representation: Representation, body: &[u8], now: Instant) -> Variant {
        let clock = Clock::new();
        let representation = representation.with_bytes(body);
        let (response, head_bytes, date_at) = representation.whole(body, &clock, now);
        Variant {
            representation,
            source: Source::Memory(Whole {
                response: RefCell::new(response.into()),
                head_bytes: head_bytes as u32,
                date_at,
                date: Cell::new(clock.seconds(now)),
            }),
        }
    }

    /// Whether the bytes are still those that the head would promise. What is in memory is; and so,
    /// for the time within which nothing is looked at anew, is what would have to be waited for.
    pub(super) fn is_intact(&self) -> bool {
        match &self.source {
            Source::Memory(_) => true,
            Source::Open(file, _) if file.may_wait() => true,
            Source::Open(file, metadata) => file.metadata().is_ok_and(|now| now == *metadata),
        }
    }

    fn open_file(&self) -> Option<File> {
        match &self.source {
            Source::Memory(_) => None,
            Source::Open(file, _) => Some(file.clone()),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.source {
            Source::Memory(whole) => whole.response.borrow().len() as u64,
            Source::Open(..) => 0,
        }
    }

    fn descriptors(&self) -> usize {
        match &self.source {
            Source::Memory(_) => 0,
            Source::Open(..) => 1,
        }
    }
}

/// A whole response.
pub(super) struct Whole {
    /// Head and body. Immutable while anybody else holds it: it may be on its way out.
    response: RefCell<Rc<[u8]>>,
    pub(super) head_bytes: u32,
    date_at: usize,
    /// The second that the head's date tells.
    date: Cell<u64>,
}

impl Whole {
    #[cfg(test)]
    pub(super) fn forget_date(&self) {
        self.date.set(0);
    }

    /// A copy of the body.
    pub(super) fn body(&self) -> Vec<u8> {
        self.response.borrow()[self.head_bytes as usize..].to_vec()
    }

    /// The response with the present date.
    #[inline(always)]
    pub(super) fn response(&self, moment: Moment<'_>) -> Rc<[u8]> {
        let seconds = moment.clock.seconds(moment.now);
        if self.date.replace(seconds) != seconds {
            self.write_date(moment);
        }
        Rc::clone(&self.response.borrow())
    }

    /// A new second is a new response if the last one is still being sent; else its date is written
    /// over.
    #[cold]
    fn write_date(&self, moment: Moment<'_>) {
        let mut response = self.response.borrow_mut();
        if Rc::get_mut(&mut response).is_none() {
            let copy: Rc<[u8]> = response.as_ref().into();
            *response = copy;
        }
        let bytes = Rc::get_mut(&mut response).expect("nobody else holds it now");
        let date = moment.clock.date(moment.now);
        bytes[self.date_at..self.date_at + 29].copy_from_slice(date.as_bytes());
    }
}
