//! What a few figures of one thing say together, and when two things differ.
//!
//! No means and no standard deviations: what disturbs a machine only ever adds, and often a lot.

use serde::{Deserialize, Serialize};

/// The middle and the ends of a few figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The one in the middle, or between the two in the middle.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub greatest: f64,
}

impl Spread {
    /// Of figures that are numbers; `None` without any.
    pub fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(Spread {
            median: f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]),
            least: sorted[0],
            greatest: sorted[last],
        })
    }

    /// The same figures turned around: of ratios to A, those of A to them.
    #[must_use]
    pub fn inverse(self) -> Spread {
        Spread {
            median: 1.0 / self.median,
            least: 1.0 / self.greatest,
            greatest: 1.0 / self.least,
        }
    }
}

/// How one thing compares with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The ratio is below 1 by more than the noise explains.
    Less,
    /// The ratio is above 1 by more than the noise explains.
    More,
    /// As far as can be told here.
    None,
}

/// Below this part no difference is believed, however quiet the machine seemed: two or three pairs of
/// twins may agree by chance.
const LEAST_NOISE: f64 = 0.02;

/// How far apart two runs of the same thing were, as a part of 1, from the ratios of twins.
pub fn noise(twins: Option<Spread>) -> f64 {
    let width = twins.map_or(f64::INFINITY, |twins| {
        (twins.greatest - 1.0).abs().max((twins.least - 1.0).abs())
    });
    width.max(LEAST_NOISE)
}

/// Judges ratios by the noise: a difference below twice of it is none.
pub fn difference(ratio: Spread, noise: f64) -> Difference {
    match ratio.median - 1.0 {
        by if by > 2.0 * noise => Difference::More,
        by if by < -2.0 * noise => Difference::Less,
        _ => Difference::None,
    }
}

/// Run by run, what the figures are of those of the same round.
pub fn ratios(figures: &[f64], base: &[f64]) -> Vec<f64> {
    let pairs = figures.iter().zip(base);
    pairs.map(|(figure, base)| figure / base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(figures: &[f64], median: f64, least: f64, greatest: f64) {
        let expect = Spread {
            median,
            least,
            greatest,
        };
        assert_eq!(Spread::of(figures), Some(expect));
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        check(&[4.0, 1.0, 3.0, 2.0], 2.5, 1.0, 4.0);
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[7.0], 7.0, 7.0, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn an_inverse_has_its_ends_changed() {
        let spread = Spread::of(&[2.0, 4.0, 8.0]).unwrap().inverse();
        assert_eq!(spread, Spread::of(&[0.125, 0.25, 0.5]).unwrap());
    }

    fn judged(ratio: f64, twins: &[f64]) -> Difference {
        let ratio = Spread::of(&[ratio]).unwrap();
        difference(ratio, noise(Spread::of(twins)))
    }

    #[test]
    fn a_difference_below_twice_the_noise_is_none() {
        assert_eq!(judged(1.19, &[0.9, 1.05]), Difference::None);
        assert_eq!(judged(1.21, &[0.9, 1.05]), Difference::More);
        assert_eq!(judged(0.79, &[0.9, 1.05]), Difference::Less);
        assert_eq!(judged(0.81, &[0.95, 1.1]), Difference::None);
    }

    #[test]
    fn twins_that_agree_by_chance_prove_nothing() {
        assert_eq!(judged(1.03, &[1.0, 1.0]), Difference::None);
        assert_eq!(judged(1.05, &[1.0, 1.0]), Difference::More);
    }

    #[test]
    fn without_twins_no_difference_is_believed() {
        assert_eq!(judged(100.0, &[]), Difference::None);
    }
}
