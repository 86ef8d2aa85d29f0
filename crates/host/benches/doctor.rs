//! How long the doctor takes to look at a large machine: 128 processors in two nodes, with a device of
//! 64 queues. `cargo xtask bench-doctor` runs this. The tree's files are on disk; on a live machine
//! their text is made by the kernel.

#![allow(clippy::unwrap_used, reason = "a benchmark's failure is a panic")]

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the tests use more of it"
)]
#[path = "../tests/it/fixture.rs"]
mod fixture;

use fixture::Spec;
use ringway_host::facts::Facts;
use ringway_host::intent::Intent;
use ringway_host::report::{Style, examine};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let Some(rounds) = rounds else {
        println!("run by `cargo xtask bench-doctor`: ROUNDS");
        return;
    };
    let mut spec = Spec::nodes(2, 32);
    spec.threads = 2;
    let nic = spec.nic.as_mut().expect("a device");
    nic.queues = (64, 64);
    let machine = spec.build();
    let tree = machine.tree();
    let milliseconds = |_: u32| {
        let begin = Instant::now();
        let report = examine(Facts::gather(&tree), Intent::default());
        black_box(report.text(Style::default()));
        begin.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..rounds).map(milliseconds).collect();
    times.sort_by(f64::total_cmp);
    let (least, most) = (times[0], times[times.len() - 1]);
    let median = times[times.len() / 2];
    println!("doctor on 128 CPUs: {median:.1} ms ({least:.1} to {most:.1}), {rounds} rounds");
}
