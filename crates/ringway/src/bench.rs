//! `ringway bench`: its commands and their flags.
//!
//! `load` is the load generator alone; `run` and `peers` measure claims and servers with it, and
//! write a report.

mod claims;
mod load;
mod yardstick;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Flags of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on an HTTP server, and tell how fast it answered
    #[command(after_long_help = load::LOAD_EXAMPLES)]
    Load(Box<load::Load>),
    /// Measure on this machine what is claimed of servers like this one
    #[command(after_long_help = claims::RUN_EXAMPLES)]
    Run(claims::Run),
    /// List what `run` can measure: each claim, and what would refute it
    List(claims::List),
    /// Measure this program beside the other servers that are installed
    #[command(after_long_help = claims::PEERS_EXAMPLES)]
    Peers(claims::Peers),
    /// Serve or relay with the least work there is, for the measurements
    #[command(hide = true)]
    Yardstick(yardstick::Yardstick),
}

/// `ringway bench …`
pub(crate) fn bench(flags: &Bench) -> Result<()> {
    match &flags.command {
        Command::Load(flags) => load::run(flags),
        Command::Run(flags) => claims::run(flags),
        Command::List(flags) => claims::list(flags),
        Command::Peers(flags) => claims::peers(flags),
        Command::Yardstick(flags) => yardstick::run(flags),
    }
}
