//! The proxy's pool of connections beside a lock-free queue for all, and a Vec in a Mutex.

use crate::comparison::{Comparison, Run};
use crate::outcome::{Findings, Gain, judge_gain, times};
use crate::setting::{Setting, Step, Trouble};
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

fn compare(setting: &Setting, threads: usize) -> Result<Comparison, Trouble> {
    let operations = if setting.is_quick() {
        QUICK_OPERATIONS
    } else {
        OPERATIONS
    };
    let rounds = setting.lengths().rounds * ROUNDS_FOR_ONE;
    let mut runs = [const { Vec::new() }; Kind::ALL.len()];
    let mut twins = Vec::new();
    setting.tell(Step::Doing(format!("{threads} threads, {rounds} rounds")));
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
    let [first, ..] = &runs;
    let pair = vec![
        (String::new(), None, first.clone()),
        (String::new(), None, twins),
    ];
    let noise = Comparison::new("", "", None, pair).map(|pair| pair.rows[1].ratio);
    let names = Kind::ALL.map(|kind| kind.name().to_owned());
    let rows = names
        .into_iter()
        .zip(runs)
        .map(|(name, runs)| (name, None, runs));
    let thread = if threads == 1 { "thread" } else { "threads" };
    let title = format!("{threads} {thread}, {operations} operations each");
    let comparison = Comparison::new(&title, "ns for an operation", noise, rows.collect());
    let comparison =
        comparison.ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    Ok(comparison.at(threads as f64))
}
