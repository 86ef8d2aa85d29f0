//! The one source of chance in a simulated world: splitmix64, so that a seed replays exactly.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Sebastiano Vigna's splitmix64 (public domain): 64 bits of state, every seed is good.
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0. The bias is of no concern at these sizes.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True with this probability. Draws nothing when the answer is certain.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        // The 53 bits that a double holds exactly, as a fraction of 1.
        let fraction = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        fraction < probability
    }

    /// Nanoseconds within a range of durations.
    pub(super) fn nanoseconds(&mut self, range: &RangeInclusive<Duration>) -> u64 {
        let start = super::nanoseconds(*range.start());
        let span = super::nanoseconds(*range.end()).saturating_sub(start);
        if span == 0 {
            start
        } else {
            start + self.below(span + 1)
        }
    }

    /// A size within a range of sizes.
    pub(super) fn size(&mut self, range: &RangeInclusive<usize>) -> usize {
        let span = range.end().saturating_sub(*range.start()) as u64;
        range.start() + self.below(span + 1) as usize
    }

    /// `count`, or with this probability fewer, but at least one.
    pub(super) fn shorten(&mut self, probability: f64, count: usize) -> usize {
        if count > 1 && self.chance(probability) {
            1 + self.below(count as u64 - 1) as usize
        } else {
            count
        }
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // The first outputs for seed 1234567 of the reference implementation.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn everything_stays_in_its_range() {
        let mut random = Random::new(1);
        for _ in 0..1000 {
            assert!((3..=5).contains(&random.size(&(3..=5))));
            assert!((1..=9).contains(&random.shorten(0.5, 9)));
            let range = Duration::from_nanos(7)..=Duration::from_nanos(8);
            assert!((7..=8).contains(&random.nanoseconds(&range)));
        }
        assert!(!random.chance(0.0));
        assert!(random.chance(1.0));
    }

    #[test]
    fn a_shuffle_keeps_what_there_is() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(3).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<u32>>());
    }
}
