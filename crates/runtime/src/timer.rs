//! The timing wheel: deadlines that are set often and seldom reached.
//!
//! Hierarchical (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987): six levels of
//! 64 slots, one millisecond a tick. Moving a deadline later is one store: the entry stays where
//! it is and is put in its new place when the old one comes up.

use std::cell::Cell;
use std::task::Waker;
use std::time::{Duration, Instant};

const LEVELS: usize = 6;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const TICK: Duration = Duration::from_millis(1);
/// The farthest tick ahead that the wheel can hold, some two years.
const HORIZON: u64 = (1 << (LEVELS * SLOT_BITS)) - 1;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// Names a timer of one wheel. It is the owner's duty to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(u32);

struct Entry {
    /// When its owner wants to be woken.
    deadline: Instant,
    /// The tick that it is linked for, no later than `deadline`'s; 0: not linked.
    scheduled: u64,
    /// That tick as a time, so that moving a deadline needs no arithmetic.
    scheduled_at: Instant,
    waker: Option<Waker>,
    previous: u32,
    next: u32,
}

pub(crate) struct Wheel {
    start: Instant,
    /// Every tick up to this one has been expired.
    elapsed: u64,
    /// When the next one begins, so that a turn within a tick needs no arithmetic.
    next_tick_at: Instant,
    /// What [`Wheel::next_expiry`] says, once it was asked; `None` when that may have changed.
    expiry: Cell<Option<Option<Instant>>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub(crate) fn new(start: Instant) -> Wheel {
        Wheel {
            start,
            elapsed: 0,
            next_tick_at: start + TICK,
            expiry: Cell::new(Some(None)),
            entries: Vec::new(),
            free: Vec::new(),
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
        }
    }

    /// How many timers exist.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// A timer that isn't set.
    pub(crate) fn insert(&mut self) -> TimerKey {
        let entry = Entry {
            deadline: self.start,
            scheduled: 0,
            scheduled_at: self.start,
            waker: None,
            previous: NIL,
            next: NIL,
        };
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = entry;
            return TimerKey(index);
        }
        self.entries.push(entry);
        TimerKey(self.entries.len() as u32 - 1)
    }

    /// Wakes `waker` once `deadline` has passed, in place of what was set before; false when a clone
    /// of it has yet to be put in its place ([`Wheel::replace_waker`]).
    pub(crate) fn set(&mut self, key: TimerKey, deadline: Instant, waker: &Waker) -> bool {
        let entry = &mut self.entries[key.0 as usize];
        let is_kept = matches!(&entry.waker, Some(kept) if kept.will_wake(waker));
        entry.deadline = deadline;
        if entry.scheduled != 0 {
            if entry.scheduled_at <= deadline {
                return is_kept;
            }
            self.unlink(key.0);
        }
        self.link(key.0);
        is_kept
    }

    /// The waker that a timer wakes from now on, for the one until now.
    pub(crate) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        self.entries[key.0 as usize].waker.replace(waker)
    }

    /// The tick that a time falls in, rounded up: never before its time.
    fn tick_of(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.start);
        let part = u64::from(since.subsec_nanos().div_ceil(1_000_000));
        let tick = since.as_secs().saturating_mul(1000).saturating_add(part);
        tick.clamp(self.elapsed + 1, self.elapsed + HORIZON)
    }

    /// Ends a timer. Its waker is returned, to be dropped outside of every borrow.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        if self.entries[key.0 as usize].scheduled != 0 {
            self.unlink(key.0);
        }
        self.free.push(key.0);
        self.entries[key.0 as usize].waker.take()
    }

    /// When [`Wheel::expire`] has to be called next.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        if let Some(known) = self.expiry.get() {
            return known;
        }
        let slot = self.next_slot();
        let expiry = slot.map(|(tick, ..)| self.start + Duration::from_millis(tick));
        self.expiry.set(Some(expiry));
        expiry
    }

    /// Collects the wakers whose deadlines have passed at `now`.
    pub(crate) fn expire(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        if now < self.next_tick_at {
            return;
        }
        let since = now.saturating_duration_since(self.start);
        let now_tick = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        while let Some((tick, level, slot)) = self.next_slot() {
            if tick > now_tick {
                break;
            }
            self.elapsed = tick;
            self.expiry.set(None);
            let mut index = std::mem::replace(&mut self.heads[level][slot], NIL);
            self.occupied[level] &= !(1 << slot);
            while index != NIL {
                let entry = &mut self.entries[index as usize];
                let next = entry.next;
                entry.scheduled = 0;
                if entry.deadline <= now {
                    woken.extend(entry.waker.take());
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.elapsed = now_tick;
        self.next_tick_at = self.start + Duration::from_millis(now_tick + 1);
    }

    fn link(&mut self, index: u32) {
        self.expiry.set(None);
        let tick = self.tick_of(self.entries[index as usize].deadline);
        let level = self.level_of(tick);
        let slot = slot_of(tick, level);
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        if head != NIL {
            self.entries[head as usize].previous = index;
        }
        self.occupied[level] |= 1 << slot;
        let entry = &mut self.entries[index as usize];
        entry.scheduled = tick;
        entry.scheduled_at = self.start + Duration::from_millis(tick);
        entry.previous = NIL;
        entry.next = head;
    }

    fn unlink(&mut self, index: u32) {
        self.expiry.set(None);
        let entry = &mut self.entries[index as usize];
        let (scheduled, previous, next) = (entry.scheduled, entry.previous, entry.next);
        entry.scheduled = 0;
        if next != NIL {
            self.entries[next as usize].previous = previous;
        }
        if previous != NIL {
            self.entries[previous as usize].next = next;
            return;
        }
        // The head of its list. Entries are never moved between levels before their slot comes up,
        // so the list is one of those that this tick could have been put in.
        for level in 0..LEVELS {
            let slot = slot_of(scheduled, level);
            if self.heads[level][slot] == index {
                self.heads[level][slot] = next;
                if next == NIL {
                    self.occupied[level] &= !(1 << slot);
                }
                return;
            }
        }
    }

    fn level_of(&self, tick: u64) -> usize {
        // The highest bit in which the tick differs from now decides.
        let differing = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
        ((63 - differing.leading_zeros() as usize) / SLOT_BITS).min(LEVELS - 1)
    }

    /// The first occupied slot: the tick at which it begins, its level and its number.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let level = (0..LEVELS).find(|level| self.occupied[*level] != 0)?;
        let now_slot = slot_of(self.elapsed, level);
        let ahead = self.occupied[level]
            .rotate_right(now_slot as u32)
            .trailing_zeros() as usize;
        let slot = (now_slot + ahead) % SLOTS;
        let shift = level * SLOT_BITS;
        let level_start = self.elapsed >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        let mut tick = level_start + ((slot as u64) << shift);
        if tick <= self.elapsed && level == LEVELS - 1 {
            // The last level is a ring: what lies behind is a whole round ahead.
            tick += 1 << (shift + SLOT_BITS);
        }
        Some((tick.max(self.elapsed), level, slot))
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (level * SLOT_BITS)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        start: Instant,
        wheel: Wheel,
    }

    impl Test {
        fn new() -> Test {
            let start = Instant::now();
            Test {
                start,
                wheel: Wheel::new(start),
            }
        }

        fn set(&mut self, key: TimerKey, deadline: Instant) {
            if !self.wheel.set(key, deadline, Waker::noop()) {
                self.wheel.replace_waker(key, Waker::noop().clone());
            }
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.start + Duration::from_millis(milliseconds)
        }

        fn fired_at(&mut self, milliseconds: u64) -> usize {
            let mut woken = Vec::new();
            self.wheel.expire(self.at(milliseconds), &mut woken);
            woken.len()
        }
    }

    #[test]
    fn a_timer_fires_at_its_tick_and_once() {
        for deadline in [
            1, 2, 63, 64, 65, 4095, 4096, 5000, 262_143, 262_144, 10_000_000,
        ] {
            let mut test = Test::new();
            let key = test.wheel.insert();
            test.set(key, test.at(deadline));
            assert_eq!(test.fired_at(deadline - 1), 0, "{deadline}");
            assert_eq!(test.fired_at(deadline), 1, "{deadline}");
            assert_eq!(test.fired_at(deadline * 3), 0, "{deadline}");
        }
    }

    #[test]
    fn a_deadline_can_be_moved_both_ways() {
        let mut test = Test::new();
        let key = test.wheel.insert();
        test.set(key, test.at(100));
        test.set(key, test.at(900));
        assert_eq!(test.fired_at(899), 0);
        test.set(key, test.at(2000));
        test.set(key, test.at(950));
        assert_eq!(test.fired_at(949), 0);
        assert_eq!(test.fired_at(950), 1);
    }

    #[test]
    fn a_removed_timer_does_not_fire() {
        let mut test = Test::new();
        let keys: Vec<TimerKey> = (0..10).map(|_| test.wheel.insert()).collect();
        for key in &keys {
            test.set(*key, test.at(70));
        }
        for key in [0, 9, 4] {
            test.wheel.remove(keys[key]);
        }
        assert_eq!(test.wheel.len(), 7);
        assert_eq!(test.fired_at(70), 7);
    }

    proptest::proptest! {
        /// Against a plain list: whatever is set, moved and removed, and however time steps.
        #[test]
        fn the_wheel_agrees_with_a_list(
            steps in proptest::collection::vec((0usize..8, 0u64..20_000, 0u8..4), 1..200)
        ) {
            let mut test = Test::new();
            let keys: Vec<TimerKey> = (0..8).map(|_| test.wheel.insert()).collect();
            let mut list = [None::<u64>; 8];
            let mut now = 0;
            for (which, amount, action) in steps {
                match action {
                    0 | 1 => {
                        test.set(keys[which], test.at(now + amount));
                        list[which] = Some((now + amount).max(now + 1));
                    }
                    2 => {
                        test.wheel.remove(keys[which]);
                        // The freed place is the next one taken.
                        proptest::prop_assert_eq!(test.wheel.insert(), keys[which]);
                        list[which] = None;
                    }
                    _ => {
                        now += amount;
                        let due = list.iter_mut().filter(|entry| entry.is_some_and(|at| at <= now));
                        let expected = due.map(|entry| *entry = None).count();
                        proptest::prop_assert_eq!(test.fired_at(now), expected);
                    }
                }
                let next = test.wheel.next_expiry();
                // It is remembered from one time to the next.
                let found = test.wheel.next_slot().map(|(tick, ..)| test.at(tick));
                proptest::prop_assert_eq!(next, found);
                for due in list.iter().flatten() {
                    proptest::prop_assert!(next.is_some_and(|next| next <= test.at(*due)));
                }
            }
        }
    }
}
