//! What came of a scenario: a verdict, and the figures it rests on.

use crate::comparison::Comparison;
use crate::statistics::{Difference, Spread, difference};
use serde::{Deserialize, Serialize};

/// What the figures say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds on this machine.
    Confirmed,
    /// It doesn't hold on this machine.
    Refuted,
    /// What is compared differs by no more than the noise.
    NoDifference,
    /// This machine can't tell.
    NotMeasurable,
    /// It went wrong.
    Failed,
    /// It was ended before it was done, or never begun.
    NotRun,
}

impl Verdict {
    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Confirmed => "confirmed",
            Verdict::Refuted => "refuted",
            Verdict::NoDifference => "no difference",
            Verdict::NotMeasurable => "not measurable here",
            Verdict::Failed => "failed",
            Verdict::NotRun => "not run",
        }
    }
}

/// How many times better something is than what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// As claimed.
    pub claimed: f64,
    /// As measured here; above 1 is better.
    pub measured: Option<Spread>,
}

impl Gain {
    /// What was measured, in words.
    pub fn measured_words(&self) -> String {
        self.measured
            .map_or("–".to_owned(), |gain| times(gain.median))
    }
}

/// What a scenario found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// What the figures say of the claim.
    pub verdict: Verdict,
    /// Why, in a sentence or two.
    pub says: String,
    /// The gain, where one is claimed as a number.
    pub gain: Option<Gain>,
    /// The figures.
    pub comparisons: Vec<Comparison>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl Findings {
    /// That this machine can't tell.
    pub fn not_measurable(why: impl Into<String>, claimed: Option<f64>) -> Findings {
        Findings {
            verdict: Verdict::NotMeasurable,
            says: why.into(),
            gain: claimed.map(|claimed| Gain {
                claimed,
                measured: None,
            }),
            comparisons: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// A scenario and what came of it, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub name: String,
    /// What it is about.
    pub title: String,
    /// What is claimed.
    pub claim: String,
    /// What is run.
    pub runs: String,
    /// What would refute the claim.
    pub refuted_by: String,
    /// What the figures say.
    pub verdict: Verdict,
    /// Why.
    pub says: String,
    /// The gain, where one is claimed as a number.
    pub gain: Option<Gain>,
    /// What the comparisons' places on their axis are.
    pub axis: Option<String>,
    /// The figures.
    pub comparisons: Vec<Comparison>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// As much of a claimed gain has to be there: machines differ, and so do days.
const ENOUGH: f64 = 0.9;

/// Judges a claimed gain by the measured one.
pub fn judge_gain(claimed: f64, gain: Spread, noise: f64) -> (Verdict, String) {
    let measured = times(gain.median);
    let claim = times(claimed);
    let noise_text = format!("(least {:.2}, greatest {:.2})", gain.least, gain.greatest);
    match difference(gain, noise) {
        Difference::None => {
            let text = format!(
                "{measured} {noise_text}: less than twice the noise of {:.0} %, and not {claim}",
                noise * 100.0
            );
            (Verdict::NoDifference, text)
        }
        _ if gain.median >= claimed * ENOUGH => (
            Verdict::Confirmed,
            format!("{measured} {noise_text}, {claim} claimed"),
        ),
        Difference::More => {
            let text = format!("a gain, but of {measured} {noise_text} instead of {claim}");
            (Verdict::Refuted, text)
        }
        Difference::Less => {
            let text =
                format!("it costs more, not less: {measured} {noise_text} instead of {claim}");
            (Verdict::Refuted, text)
        }
    }
}

/// Judges a claim that something costs at most so many times what the first costs.
pub fn judge_bound(bound: f64, ratio: Spread) -> Verdict {
    match ratio.median <= bound {
        true => Verdict::Confirmed,
        false => Verdict::Refuted,
    }
}

/// A factor in words.
pub fn times(factor: f64) -> String {
    format!("{factor:.2} times")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claimed: f64, gains: &[f64], noise: f64, expect: Verdict) {
        let (verdict, says) = judge_gain(claimed, Spread::of(gains).unwrap(), noise);
        assert_eq!(verdict, expect, "{says}");
        assert!(says.contains(&format!("{claimed:.2}")), "{says}");
    }

    #[test]
    fn a_gain_is_confirmed_when_nearly_all_of_it_is_there() {
        check(3.59, &[3.5, 3.6, 3.7], 0.05, Verdict::Confirmed);
        check(3.59, &[3.24], 0.05, Verdict::Confirmed);
    }

    #[test]
    fn a_smaller_gain_and_a_loss_refute_it() {
        check(3.59, &[1.9], 0.05, Verdict::Refuted);
        check(3.59, &[0.5], 0.05, Verdict::Refuted);
    }

    #[test]
    fn what_the_noise_explains_is_no_difference() {
        check(2.49, &[1.05], 0.05, Verdict::NoDifference);
        check(2.49, &[0.95], 0.05, Verdict::NoDifference);
        // Even a large gain, when twins differ as much.
        check(1.1, &[1.2], 0.3, Verdict::NoDifference);
    }

    #[test]
    fn a_bound_holds_by_the_median() {
        let ratio = Spread::of(&[1.0, 1.2, 9.0]).unwrap();
        assert_eq!(judge_bound(1.25, ratio), Verdict::Confirmed);
        assert_eq!(judge_bound(1.19, ratio), Verdict::Refuted);
    }
}
