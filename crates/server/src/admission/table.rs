//! How many connections each address has: a table of fixed size, exact, and without a lock.
//!
//! A cell is one atomic word: the tag of an address above, its count below. It is free while the
//! count is 0, and then its tag means nothing. An address can stand in any of the eight cells of
//! its set (a cache line), and takes the first free one when it stands in none.
//!
//! *Nothing is lost.* A cell's tag changes only while its count is 0, and a [`Place`] is part of
//! the count of its own cell, so it is given back where it was taken. Whatever happens to a word
//! between a load and a compare-and-swap doesn't matter if the word is the same again: nothing but
//! the word is decided upon (no ABA).
//!
//! *The limit is never exceeded.* One cell can't, because the swap that adds to it compares its
//! count. But two workers can give one address two cells, when a third frees a cell between their
//! looks at the set. Therefore an entry is made first, and checked then: after a fence, the sum
//! over all cells with the tag has to be within the limit, else the entry is taken back. Among
//! entries that would exceed it together, the one whose fence is last sees all the others. So
//! only a refusal can be wrong, by being early while another one is being taken back.
//!
//! *Two addresses of one set with the same tag* (32 bits, hashed with a secret key) share one
//! limit. With 65,000 addresses connected that is one chance in 30,000 for there to be any such
//! pair, and no harm below the limit.
//!
//! *A full set* lets its next address in uncounted. Refusing would be worse: who commands enough
//! addresses to fill sets could then shut out others with a fraction of the connections that the
//! total allows, while to get around the limit he needs no full set: he has all those addresses.

use super::parts::{AtomicU64, Ordering, SET_CELLS, fence};

/// The count's share of a cell's word.
const COUNT_MASK: u64 = 0xffff_ffff;

#[derive(Debug)]
#[repr(align(64))]
struct Set([AtomicU64; SET_CELLS]);

/// Counts by the hash of an address.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two of them, at most 2^32.
    sets: Box<[Set]>,
}

/// One count, taken in a certain cell. To be given back exactly once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u32);

impl Table {
    /// `sets_count` has to be a power of two.
    pub(super) fn new(sets_count: u32) -> Table {
        assert!(
            sets_count.is_power_of_two(),
            "an index is some bits of the hash"
        );
        let set = |_| Set(std::array::from_fn(|_| AtomicU64::new(0)));
        Table {
            sets: (0..sets_count).map(set).collect(),
        }
    }

    /// Counts one more for an address. `None` when it has `limit` already, `Some(None)` when its
    /// set is full of others and it goes uncounted.
    pub(super) fn enter(&self, hash: u64, limit: u32) -> Option<Option<Place>> {
        let tag = hash & !COUNT_MASK;
        let set_index = (hash as usize) & (self.sets.len() - 1);
        let cells = &self.sets[set_index].0;
        let taken = loop {
            let Some(index) = find(cells, tag) else {
                return Some(None);
            };
            let word = cells[index].load(Ordering::Relaxed);
            let count = count_of(word);
            if count > 0 && !stands_for(word, tag) {
                continue; // another address has taken the free cell meanwhile
            }
            if count >= limit {
                return None;
            }
            let entered = tag | u64::from(count + 1);
            let swapped = cells[index].compare_exchange_weak(
                word,
                entered,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if swapped.is_ok() {
                break index;
            }
            // Somebody else's swap succeeded, so all together get on.
        };
        let place = Place((set_index * SET_CELLS + taken) as u32);
        fence(Ordering::SeqCst);
        let sum: u64 = cells
            .iter()
            .map(|cell| cell.load(Ordering::Relaxed))
            .filter(|&word| stands_for(word, tag))
            .map(|word| u64::from(count_of(word)))
            .sum();
        if sum > u64::from(limit) {
            self.leave(place);
            return None;
        }
        Some(Some(place))
    }

    /// Gives back what [`Table::enter`] took.
    pub(super) fn leave(&self, place: Place) {
        let index = place.0 as usize;
        let cell = &self.sets[index / SET_CELLS].0[index % SET_CELLS];
        // The count is at least 1, this place itself, so nothing is borrowed from the tag.
        let before = cell.fetch_sub(1, Ordering::Release);
        debug_assert!(count_of(before) > 0, "a place given back twice");
    }

    /// All counts together.
    #[cfg(test)]
    pub(super) fn sum(&self) -> u64 {
        let cells = self.sets.iter().flat_map(|set| &set.0);
        cells
            .map(|cell| u64::from(count_of(cell.load(Ordering::Relaxed))))
            .sum()
    }
}

/// The cell that the tag stands in, else the first free one. The whole set is looked at before a
/// free cell is chosen, so that an address doesn't begin a second count beside its first.
fn find(cells: &[AtomicU64; SET_CELLS], tag: u64) -> Option<usize> {
    let mut free = None;
    for (index, cell) in cells.iter().enumerate() {
        let word = cell.load(Ordering::Relaxed);
        if stands_for(word, tag) {
            return Some(index);
        }
        if count_of(word) == 0 && free.is_none() {
            free = Some(index);
        }
    }
    free
}

fn stands_for(word: u64, tag: u64) -> bool {
    count_of(word) > 0 && word & !COUNT_MASK == tag
}

fn count_of(word: u64) -> u32 {
    (word & COUNT_MASK) as u32
}
