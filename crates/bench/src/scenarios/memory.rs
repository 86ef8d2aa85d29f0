//! Memory of the own NUMA node against that of another one.
//!
//! Where memory lies is decided by who touches it first, so nothing has to be bound: a thread on a CPU
//! of each node makes a block, and one on the first node works on all of them in turns.

use crate::comparison::{Comparison, Run};
use crate::outcome::{Findings, Gain, judge_gain};
use crate::setting::{Setting, Step, Trouble};
use crate::statistics::Spread;
use ringway_host::facts::Facts;
use ringway_host::machine::Tree;
use ringway_runtime::cpu;
use std::hint::black_box;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

const CLAIMED: f64 = 1.61;
/// Far more than any cache, so that it is memory that is worked on.
const BLOCK_BYTES: usize = 256 << 20;
const QUICK_BLOCK_BYTES: usize = 64 << 20;
/// Eight bytes of each line are read and written.
const LINE_WORDS: usize = 8;

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let cpus = one_cpu_of_each_node();
    let [(own, own_cpu), .., (other, other_cpu)] = cpus[..] else {
        let text = "this machine has one memory node: all memory is equally far";
        return Ok(Findings::not_measurable(text, Some(CLAIMED)));
    };
    let words = if setting.is_quick() {
        QUICK_BLOCK_BYTES
    } else {
        BLOCK_BYTES
    } / size_of::<u64>();
    let mut near = made_on(own_cpu, words)?;
    let mut far = made_on(other_cpu, words)?;
    let rounds = setting.lengths().rounds;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        setting.go_on()?;
        setting.tell(Step::Doing(format!(
            "own and other node, {} of {rounds}",
            round + 1
        )));
        // The other node's block is the base; the own one's is measured twice, for the noise.
        for (times, block) in times.iter_mut().zip([0, 1, 1]) {
            let block = if block == 0 { &mut far } else { &mut near };
            times.push(worked_on(own_cpu, block)?);
        }
    }
    let [far, near, again] = times.map(|times| as_runs(&times, words));
    let twins = Comparison::new(
        "",
        "",
        None,
        vec![
            (String::new(), None, near.clone()),
            (String::new(), None, again),
        ],
    );
    let twins: Option<Spread> = twins.map(|twins| twins.rows[1].ratio);
    let rows = vec![
        (
            format!("from node {own}, memory of node {other}"),
            None,
            far,
        ),
        (format!("from node {own}, its own memory"), None, near),
    ];
    let title = "reading and writing every line of a block";
    let comparison = Comparison::new(title, "ns for a line", twins, rows)
        .ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    let gain = comparison.rows[1].ratio.inverse();
    let (verdict, says) = judge_gain(CLAIMED, gain, comparison.noise_width());
    Ok(Findings {
        verdict,
        says,
        gain: Some(Gain {
            claimed: CLAIMED,
            measured: Some(gain),
        }),
        comparisons: vec![comparison],
        notes: Vec::new(),
    })
}

/// Each node that has CPUs and memory, with the first of its CPUs.
fn one_cpu_of_each_node() -> Vec<(u32, usize)> {
    let facts = Facts::gather(&Tree::live());
    let mut cpus = Vec::new();
    for node in facts.known_nodes() {
        let has_memory = node.memory_bytes.known().is_some_and(|bytes| *bytes > 0);
        let first = node.cpus.known().and_then(|list| list.iter().next());
        cpus.extend(
            first
                .filter(|_| has_memory)
                .map(|cpu| (node.id, cpu as usize)),
        );
    }
    cpus
}

/// A block that a thread on this CPU touched first.
fn made_on(cpu: usize, words: usize) -> io::Result<Vec<u64>> {
    on_cpu(cpu, || vec![1; words])
}

/// How long a thread on this CPU works on the block.
fn worked_on(cpu: usize, block: &mut [u64]) -> io::Result<Duration> {
    on_cpu(cpu, || {
        let begin = Instant::now();
        for line in block.chunks_mut(LINE_WORDS) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&block);
        begin.elapsed()
    })
}

fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            cpu::pin_current_thread(cpu)?;
            Ok(work())
        });
        let done = running.join();
        done.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    })
}

fn as_runs(times: &[Duration], words: usize) -> Vec<Run> {
    let lines = (words / LINE_WORDS) as f64;
    let run = |time: &Duration| Run {
        cost: time.as_nanos() as f64 / lines,
        ..Run::default()
    };
    times.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_block_is_worked_on() {
        let cpu = cpu::allowed().unwrap()[0];
        let mut block = made_on(cpu, 3 * LINE_WORDS).unwrap();
        worked_on(cpu, &mut block).unwrap();
        let expect = |index: usize| {
            if index.is_multiple_of(LINE_WORDS) {
                2
            } else {
                1
            }
        };
        assert!(
            block
                .iter()
                .enumerate()
                .all(|(index, word)| *word == expect(index))
        );
        assert_eq!(
            as_runs(&[Duration::from_nanos(6)], 3 * LINE_WORDS)[0].cost,
            2.0
        );
    }
}
