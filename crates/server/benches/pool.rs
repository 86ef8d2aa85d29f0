//! What the upstream pool costs, beside the two pools one would write first (`ringway_server::pool_cost`).
//! `cargo xtask bench-pool` runs this.
//!
//! The pools take turns, round after round, so that what disturbs the machine disturbs all.

use ringway_server::pool_cost::{Kind, cost};
use std::num::ParseIntError;

const THREADS: usize = 8;

fn main() -> Result<(), ParseIntError> {
    // `cargo bench` passes an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let mut number = |default: &str| {
        let argument = arguments.next();
        argument.as_deref().unwrap_or(default).parse::<usize>()
    };
    let (operations, rounds) = (number("100000")?, number("15")?.max(1));
    // For a profile of one alone: its place in the table.
    let only = number("0")?.checked_sub(1);
    for threads in [1, THREADS] {
        let mut results = [const { Vec::new() }; Kind::ALL.len()];
        for round in 0..=rounds {
            for (index, kind) in Kind::ALL.into_iter().enumerate() {
                if only.is_some_and(|only| only != index) {
                    continue;
                }
                let each = cost(kind, threads, operations);
                // The first round warms up.
                if round > 0 {
                    results[index].push(each);
                }
            }
        }
        println!("\n{threads} threads, {operations} operations each, {rounds} rounds");
        println!("pool                  ns each: median (least to most)   speed of the mutex's");
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            if results[index].is_empty() {
                continue;
            }
            let ratios = results[0].iter().zip(&results[index]);
            let ratios = ratios.map(|(mutex, own)| mutex / own).collect();
            let [median, least, most] = spread(results[index].clone());
            let [ratio, slowest, fastest] = spread(ratios);
            println!(
                "{:20} {median:10.1} ({least:.1} to {most:.1})    \
                 {ratio:.2} ({slowest:.2} to {fastest:.2})",
                kind.name()
            );
        }
    }
    Ok(())
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return [f64::NAN; 3];
    }
    [
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    ]
}
