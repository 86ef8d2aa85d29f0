//! What it costs to get a large buffer, write to all of it and give it back: from the default
//! allocator, and from a [`NumaPool`]. `cargo xtask bench-numa` runs this.
//!
//! Two ways. All buffers are held at once and then given back: the allocator asks the kernel for the
//! memory, which is faulted in and zeroed page by page, each time; a pool's pages are there. One after
//! the other: both give the same memory again, which is still in the cache, and the allocator zeroes it
//! each time. That is what this shows on any machine; what nearness is worth shows only where there
//! are several nodes.

use ringway_runtime::{NumaPool, NumaPoolOptions, Policy, cpu, numa};
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 1 << 20;

/// The two sources.
trait Source {
    const NAME: &'static str;
    type Buffer: AsMut<[u8]>;

    fn take(&self) -> io::Result<Self::Buffer>;
}

struct Allocator;

impl Source for Allocator {
    const NAME: &'static str = "default allocator";
    type Buffer = Vec<u8>;

    fn take(&self) -> io::Result<Vec<u8>> {
        // Zeroed by the kernel, page by page as it is touched.
        Ok(vec![0; BUFFER_BYTES])
    }
}

/// A buffer that can be written to.
struct Leased(ringway_runtime::NumaBuffer);

impl AsMut<[u8]> for Leased {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Source for NumaPool {
    const NAME: &'static str = "NumaPool";
    type Buffer = Leased;

    fn take(&self) -> io::Result<Leased> {
        let buffer = self.lease();
        buffer
            .map(Leased)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

fn filled<S: Source>(source: &S) -> io::Result<S::Buffer> {
    let mut buffer = source.take()?;
    buffer.as_mut().fill(1);
    black_box(buffer.as_mut());
    Ok(buffer)
}

fn all_at_once<S: Source>(source: &S, count: usize) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(filled(source)?);
    }
    drop(held);
    Ok(begin.elapsed())
}

fn in_turn<S: Source>(source: &S, count: usize) -> io::Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        drop(filled(source)?);
    }
    Ok(begin.elapsed())
}

fn main() -> io::Result<()> {
    let numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    let [count, rounds] = numbers[..] else {
        println!("run by `cargo xtask bench-numa`: COUNT ROUNDS");
        return Ok(());
    };
    if let Some(cpu) = cpu::allowed()?.first() {
        cpu::pin_current_thread(*cpu)?;
    }
    let options = NumaPoolOptions::new(BUFFER_BYTES, u32::try_from(count).unwrap_or(u32::MAX));
    let pool = NumaPool::on_nodes(&[numa::current_node()], &options)?;
    let mut times: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..rounds {
        times[0][0].push(all_at_once(&Allocator, count)?.as_secs_f64());
        times[0][1].push(all_at_once(&pool, count)?.as_secs_f64());
        times[1][0].push(in_turn(&Allocator, count)?.as_secs_f64());
        times[1][1].push(in_turn(&pool, count)?.as_secs_f64());
    }
    println!("{count} buffers of 1 MiB, written once each; {rounds} rounds\n");
    println!(
        "{:34}{:>26}{:>26}{:>8}",
        "ms: median (least to most)",
        Allocator::NAME,
        NumaPool::NAME,
        "ratio"
    );
    let ways = ["held all at once, then given back", "one after the other"];
    for (way, times) in ways.iter().zip(times) {
        let [allocator, pool] = times.map(spread);
        let shown = |[median, least, most]: [f64; 3]| {
            format!(
                "{:.1} ({:.1} to {:.1})",
                1e3 * median,
                1e3 * least,
                1e3 * most
            )
        };
        let ratio = allocator[0] / pool[0];
        println!(
            "{way:34}{:>26}{:>26}{ratio:>8.2}",
            shown(allocator),
            shown(pool)
        );
    }
    tell_what_it_shows(&pool);
    Ok(())
}

/// Where the pool's memory was, and what can't be shown here.
fn tell_what_it_shows(pool: &NumaPool) {
    println!();
    for (node, report) in pool.memory() {
        match (&report.policy, &report.pages) {
            (Policy::Refused(why), _) => println!("node {node}: not bound ({why})"),
            (policy, Ok(pages)) => println!("node {node}: {policy}; pages by node: {pages:?}"),
            (policy, Err(why)) => println!("node {node}: {policy}; unverified ({why})"),
        }
    }
    if numa::memory_nodes().len() < 2 {
        println!(
            "This machine has one node: the ratio is what faulting and zeroing pages costs, and \
             nothing of it\nis nearness. That needs a machine with two."
        );
    }
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [values.len() / 2, 0, last].map(|index| values.get(index).copied().unwrap_or(f64::NAN))
}
