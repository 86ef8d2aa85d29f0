//! Every developer command: `cargo xtask COMMAND`.
//!
//! One file a command. None of them is part of the product, and none needs anything but this
//! repository and the Debian packages that `cargo xtask test --install` installs.

#![forbid(unsafe_code)]

mod asan;
mod bench_doctor;
mod bench_load;
mod bench_numa;
mod bench_pool;
mod bench_proxy;
mod bench_serve;
mod build;
mod contestants;
mod fuzz;
mod guest;
mod guest_host;
mod guest_tune;
mod icount;
mod own_network;
mod process;
mod rounds;
mod sim;
mod skip;
mod slow_readers;
mod soak;
mod test;
mod tidy;
mod transfer;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Ringway's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(test::Options),
    /// Check what ARCHITECTURE.md and CONTRIBUTING.md promise about the sources
    Tidy,
    Asan(asan::Options),
    Fuzz(fuzz::Options),
    GuestTune(guest_tune::Options),
    Icount(icount::Options),
    GuestHost(guest_host::Options),
    BenchLoad(bench_load::Options),
    BenchDoctor(bench_doctor::Options),
    BenchNuma(bench_numa::Options),
    BenchPool(bench_pool::Options),
    BenchProxy(bench_proxy::Options),
    BenchServe(bench_serve::Options),
    Sim(sim::Options),
    SlowReaders(slow_readers::Options),
    Soak(soak::Options),
    Transfer(transfer::Options),
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Tidy => tidy::run(),
        Command::Asan(options) => asan::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::GuestTune(options) => guest_tune::run(&options),
        Command::Icount(options) => icount::run(&options),
        Command::GuestHost(options) => guest_host::run(&options),
        Command::BenchLoad(options) => bench_load::run(&options),
        Command::BenchDoctor(options) => bench_doctor::run(&options),
        Command::BenchNuma(options) => bench_numa::run(&options),
        Command::BenchPool(options) => bench_pool::run(&options),
        Command::BenchProxy(options) => bench_proxy::run(&options),
        Command::BenchServe(options) => bench_serve::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::SlowReaders(options) => slow_readers::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Transfer(options) => transfer::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
