//! Those who wait in one worker: a line in which everybody has a place, and can leave it at any time.
//!
//! A list through a slab, so that joining, being served and giving up take the same short time,
//! and nothing is allocated once the line has been as long as it gets.

use std::task::Waker;

/// The end of the line, and of the list of free places.
const NIL: u32 = u32::MAX;

/// A line of those who wait for a `T`.
pub(super) struct Waits<T> {
    entries: Vec<Entry<T>>,
    /// The first free entry; they are linked by `next`.
    free: u32,
    first: u32,
    last: u32,
}

/// Names one of those who wait, until it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u32);

struct Entry<T> {
    state: State<T>,
    previous: u32,
    next: u32,
}

enum State<T> {
    Free,
    /// In line, since a time of the pool's.
    Waiting {
        waker: Waker,
        since: u64,
    },
    /// Out of the line, and hasn't fetched it yet.
    Served(T),
}

/// What somebody who left had.
pub(super) enum Left<T> {
    /// A place in the line, and this to be woken by: to be dropped outside of every borrow.
    Waiting(Waker),
    /// What it was to get.
    Served(T),
}

impl<T> Waits<T> {
    pub(super) fn new() -> Waits<T> {
        Waits {
            entries: Vec::new(),
            free: NIL,
            first: NIL,
            last: NIL,
        }
    }

    /// Whether nobody is in line.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first == NIL
    }

    /// Since when the first in line waits.
    pub(super) fn first_since(&self) -> Option<u64> {
        match &self.entries.get(self.first as usize)?.state {
            State::Waiting { since, .. } => Some(*since),
            State::Free | State::Served(_) => None,
        }
    }

    /// Joins the line at its end.
    pub(super) fn join(&mut self, waker: Waker, since: u64) -> Key {
        let entry = Entry {
            state: State::Waiting { waker, since },
            previous: self.last,
            next: NIL,
        };
        let key = if self.free == NIL {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        } else {
            let key = self.free;
            self.free = self.entries[key as usize].next;
            self.entries[key as usize] = entry;
            key
        };
        match self.last {
            NIL => self.first = key,
            last => self.entries[last as usize].next = key,
        }
        self.last = key;
        Key(key)
    }

    /// Serves the first in line, and returns the waker to wake it by.
    ///
    /// # Errors
    /// What was to be given, when nobody is in line.
    pub(super) fn serve(&mut self, served: T) -> Result<Waker, T> {
        let first = self.first;
        if first == NIL {
            return Err(served);
        }
        self.unlink(first);
        let state = &mut self.entries[first as usize].state;
        match std::mem::replace(state, State::Served(served)) {
            State::Waiting { waker, .. } => Ok(waker),
            State::Free | State::Served(_) => unreachable!("only those who wait are in line"),
        }
    }

    /// What `key` got: it has left then. Otherwise it is woken by `waker` from now on, and the
    /// waker until now is returned, to be dropped outside of every borrow.
    pub(super) fn fetch(&mut self, key: Key, waker: Waker) -> Result<T, Waker> {
        let state = &mut self.entries[key.0 as usize].state;
        if let State::Waiting { waker: kept, .. } = state {
            return Err(std::mem::replace(kept, waker));
        }
        match self.leave(key) {
            Left::Served(served) => Ok(served),
            Left::Waiting(_) => unreachable!("it was looked at above"),
        }
    }

    /// Leaves, wherever it stands.
    pub(super) fn leave(&mut self, key: Key) -> Left<T> {
        let state = std::mem::replace(&mut self.entries[key.0 as usize].state, State::Free);
        let left = match state {
            State::Waiting { waker, .. } => {
                self.unlink(key.0);
                Left::Waiting(waker)
            }
            State::Served(served) => Left::Served(served),
            State::Free => unreachable!("a key is used up by leaving"),
        };
        self.entries[key.0 as usize].next = self.free;
        self.free = key.0;
        left
    }

    fn unlink(&mut self, key: u32) {
        let Entry { previous, next, .. } = self.entries[key as usize];
        match previous {
            NIL => self.first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NIL => self.last = previous,
            next => self.entries[next as usize].previous = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Left, Waits};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    #[derive(Debug, Clone)]
    enum Step {
        Join,
        Serve,
        /// One of those who are there leaves, or fetches.
        Leave(prop::sample::Index),
        Fetch(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Join),
            2 => Just(Step::Serve),
            1 => any::<prop::sample::Index>().prop_map(Step::Leave),
            2 => any::<prop::sample::Index>().prop_map(Step::Fetch),
        ]
    }

    /// The same line, as simple as can be: who is in it, and who got what.
    #[derive(Default)]
    struct Model {
        line: VecDeque<(Key, u64)>,
        served: Vec<(Key, u32)>,
    }

    fn apply(step: Step, waits: &mut Waits<u32>, model: &mut Model, number: u32) {
        let there = model.line.len() + model.served.len();
        match step {
            Step::Join => {
                let since = u64::from(number);
                let key = waits.join(Waker::noop().clone(), since);
                model.line.push_back((key, since));
            }
            Step::Serve => match (waits.serve(number), model.line.pop_front()) {
                (Ok(_), Some((key, _))) => model.served.push((key, number)),
                (Err(back), None) => assert_eq!(back, number),
                _ => panic!("served whom the model doesn't know"),
            },
            Step::Leave(which) if there > 0 => {
                let index = which.index(there);
                if index < model.line.len() {
                    let (key, _) = model.line.remove(index).unwrap();
                    assert!(matches!(waits.leave(key), Left::Waiting(_)));
                } else {
                    let (key, number) = model.served.remove(index - model.line.len());
                    assert!(matches!(waits.leave(key), Left::Served(got) if got == number));
                }
            }
            Step::Fetch(which) if there > 0 => {
                let index = which.index(there);
                let waker = Waker::noop().clone();
                if let Some((key, _)) = model.line.get(index) {
                    assert!(waits.fetch(*key, waker).is_err());
                } else {
                    let (key, number) = model.served.remove(index - model.line.len());
                    assert_eq!(waits.fetch(key, waker).ok(), Some(number));
                }
            }
            Step::Leave(_) | Step::Fetch(_) => {}
        }
    }

    proptest! {
        #[test]
        fn a_line_is_served_in_its_order(steps in prop::collection::vec(step(), 0..80)) {
            let mut waits = Waits::new();
            let mut model = Model::default();
            let mut most = 0;
            for (number, step) in (0..).zip(steps) {
                apply(step, &mut waits, &mut model, number);
                most = most.max(model.line.len() + model.served.len());
                assert_eq!(waits.is_empty(), model.line.is_empty());
                let first = model.line.front().map(|(_, since)| *since);
                assert_eq!(waits.first_since(), first);
                assert!(waits.entries.len() <= most, "free entries are used again");
            }
        }
    }
}
