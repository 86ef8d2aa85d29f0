//! The proxy's pool of connections beside a lock-free queue for all, and a Vec in a Mutex.

use crate::comparison::{Comparison, Run};
use crate::outcome::{Findings, Gain, judge_gain, times};
use crate::report::counted;
use crate::setting::{Setting, Step, Trouble};
use crate::statistics::Spread;
use ringway_runtime::cpu;
use ringway_server::pool_cost::{Kind, cost};

const CLAIMED: f64 = 3.84;
const OPERATIONS: usize = 100_000;
const QUICK_OPERATIONS: usize = 20_000;
const THREADS: [usize; 2] = [1, 8];
/// Runs are a hundredth of a second: more of them cost little.
const ROUNDS_FOR_ONE: u32 = 3;

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    // Threads that fight for a lock need CPUs to do it on: all of them.
    let own = cpu::allowed()?;
    let all = [setting.server_cpus.clone(), setting.load_cpus.clone()].concat();
    cpu::keep_current_thread_on(&all)?;
    let compared = THREADS.iter().map(|threads| compare(setting, *threads));
    let compared: Result<Vec<_>, _> = compared.collect();
    cpu::keep_current_thread_on(&own)?;
    let comparisons = compared?;
    let gain_of = |kind: Kind| {
        let row = comparisons.last()?.row(kind.name())?;
        Some(row.ratio.inverse())
    };
    let nothing = || Trouble::Failed("nothing was measured".to_owned());
    let gain = gain_of(Kind::Queue).ok_or_else(nothing)?;
    let ours = gain_of(Kind::Ours).ok_or_else(nothing)?;
    let noise = comparisons
        .last()
        .map_or(f64::INFINITY, Comparison::noise_width);
    let (verdict, says) = judge_gain(CLAIMED, gain, noise);
    Ok(Findings {
        verdict,
        says: format!("one lock-free queue for all, 8 threads: {says}"),
        gain: Some(Gain {
            claimed: CLAIMED,
            measured: Some(gain),
        }),
        comparisons,
        notes: vec![format!(
            "the proxy's own pool, where each worker keeps what it used last, gains {} ({:.2} to {:.2})",
            times(ours.median),
            ours.least,
            ours.greatest
        )],
    })
}

/// The medians of a third of the rounds each, of one pool against itself. A single run of threads that
/// fight for a lock may take twice as long as the next; it is medians that are compared.
fn noise(runs: &[Run], twins: &[Run]) -> Option<Spread> {
    let median = |runs: &[Run]| {
        let costs: Vec<f64> = runs.iter().map(|run| run.cost).collect();
        Spread::of(&costs).map(|costs| costs.median)
    };
    let third = runs.len().div_ceil(3).max(1);
    let parts = runs.chunks(third).zip(twins.chunks(third));
    let ratios = parts.filter_map(|(runs, twins)| Some(median(twins)? / median(runs)?));
    Spread::of(&ratios.collect::<Vec<_>>())
}

fn compare(setting: &Setting, threads: usize) -> Result<Comparison, Trouble> {
    let operations = if setting.is_quick() {
        QUICK_OPERATIONS
    } else {
        OPERATIONS
    };
    let rounds = setting.lengths().rounds * ROUNDS_FOR_ONE;
    let mut runs = [const { Vec::new() }; Kind::ALL.len()];
    let mut twins = Vec::new();
    setting.tell(Step::Doing(format!(
        "{}, {rounds} rounds",
        counted(threads, "thread")
    )));
    // The first round warms up.
    for round in 0..=rounds {
        setting.go_on()?;
        let measure = |kind: Kind| Run {
            cost: cost(kind, threads, operations),
            ..Run::default()
        };
        for (runs, kind) in runs.iter_mut().zip(Kind::ALL) {
            let run = measure(kind);
            if round > 0 {
                runs.push(run);
            }
        }
        if round > 0 {
            twins.push(measure(Kind::ALL[0]));
        }
    }
    let noise = noise(&runs[0], &twins);
    let names = Kind::ALL.map(|kind| kind.name().to_owned());
    let rows = names
        .into_iter()
        .zip(runs)
        .map(|(name, runs)| (name, None, runs));
    let title = format!(
        "{}, {operations} operations each",
        counted(threads, "thread")
    );
    let comparison = Comparison::new(&title, "ns for an operation", noise, rows.collect());
    let comparison =
        comparison.ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    Ok(comparison.at(threads as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_that_of_medians() {
        let runs = |costs: &[f64]| -> Vec<Run> {
            let run = |cost: &f64| Run {
                cost: *cost,
                ..Run::default()
            };
            costs.iter().map(run).collect()
        };
        let first = runs(&[1.0, 1.0, 9.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0]);
        let twins = runs(&[1.0, 1.0, 1.0, 2.0, 9.0, 2.0, 4.0, 5.0, 5.0]);
        assert_eq!(noise(&first, &twins), Spread::of(&[1.0, 1.0, 1.25]));
        assert_eq!(noise(&[], &[]), None);
    }
}
