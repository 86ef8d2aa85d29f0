//! Two runs beside each other.

use super::Report;
use crate::comparison::{Comparison, Row};
use crate::statistics::{Difference, Spread, difference, noise};

/// How much one contestant's cost has changed since another run.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The scenario's name.
    pub scenario: String,
    /// What was compared there.
    pub comparison: String,
    /// The contestant.
    pub name: String,
    /// What was measured then and now: the ratio to the yardstick of its own run where there is one
    /// beside it, else the cost.
    pub before: f64,
    /// Now.
    pub after: f64,
    /// Whether that is more than the noise of both explains, and in which direction.
    pub difference: Difference,
}

/// What is in both. Ratios to the first contestant are compared, because machines differ, and so do
/// days; the first contestant's own is its cost.
pub fn changes(old: &Report, new: &Report) -> Vec<Change> {
    let mut changes = Vec::new();
    for outcome in &new.outcomes {
        let before = old.outcomes.iter().find(|one| one.name == outcome.name);
        for comparison in &outcome.comparisons {
            let all = before.into_iter().flat_map(|one| &one.comparisons);
            let same = all.filter(|one| {
                (one.title == comparison.title && one.unit == comparison.unit)
                    && one.rows.first().map(|row| &row.name)
                        == comparison.rows.first().map(|row| &row.name)
            });
            let Some(before) = same.into_iter().next() else {
                continue;
            };
            changes.extend(changed_rows(&outcome.name, before, comparison));
        }
    }
    changes
}

fn changed_rows<'a>(
    scenario: &'a str,
    before: &'a Comparison,
    after: &'a Comparison,
) -> impl Iterator<Item = Change> + 'a {
    let widest = noise(before.noise).max(noise(after.noise));
    let rows = after.rows.iter().enumerate();
    rows.filter_map(move |(index, row)| {
        let earlier = before.row(&row.name)?;
        let figure = |row: &Row| {
            if index == 0 {
                row.cost.median
            } else {
                row.ratio.median
            }
        };
        let (before, now) = (figure(earlier), figure(row));
        let ratio = Spread::of(&[now / before])?;
        Some(Change {
            scenario: scenario.to_owned(),
            comparison: after.title.clone(),
            name: row.name.clone(),
            before,
            after: now,
            difference: difference(ratio, widest),
        })
    })
}
