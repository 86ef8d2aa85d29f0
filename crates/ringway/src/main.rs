//! The program `ringway`: its commands, one function each.
//!
//! This file is a table of contents. What the flags are is in `cli.rs` and `flags.rs`, what the
//! commands do in `commands.rs` (`bench.rs` has both for `bench`), what is said of wrong usage in `usage.rs`; everything a command asks for is done by the library crates.

#![forbid(unsafe_code)]

mod bench;
mod cli;
mod commands;
mod flags;
mod host;
mod password;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

/// Thread-local heaps: workers share no allocator lock.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer_usage(&error),
    };
    let done = match cli.command {
        Command::Serve(flags) => commands::serve(&flags),
        Command::Proxy(flags) => commands::proxy(&flags),
        Command::Run(flags) => commands::run(&flags),
        Command::Check(flags) => commands::check(&flags),
        Command::Dump(flags) => commands::dump(&flags),
        Command::Explain(flags) => commands::explain(&flags),
        Command::Bench(flags) => bench::bench(&flags),
        Command::Doctor(flags) => return host::doctor(&flags),
        Command::Tune(flags) => return host::tune(&flags),
        Command::HashPassword(flags) => commands::hash_password(&flags),
        Command::Completions(flags) => commands::completions(&flags),
        Command::Man(flags) => commands::man(&flags),
        Command::Version(flags) => commands::version(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::answer_failure(&error),
    }
}
