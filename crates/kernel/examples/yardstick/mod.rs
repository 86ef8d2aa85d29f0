//! What the yardsticks' programs share: their command line.

use std::net::TcpListener;
use std::process::ExitCode;

/// Ends with a clear line unless the first argument is a port that can be bound on loopback.
pub(crate) fn listen(usage: &str) -> Result<TcpListener, String> {
    let port = argument(1)
        .and_then(|word| word.parse::<u16>().ok())
        .ok_or_else(|| format!("usage: {usage}"))?;
    ringway_kernel::yardstick::listen(port)
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}"))
}

/// The argument at `index`, where 0 is the program.
pub(crate) fn argument(index: usize) -> Option<String> {
    std::env::args().nth(index)
}

/// The second argument: the port of loopback that is relayed to.
#[allow(dead_code, reason = "those that serve have no upstream")]
pub(crate) fn upstream_port(usage: &str) -> Result<u16, String> {
    argument(2)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("usage: {usage}"))
}

/// The answer whose body's size is the second argument, 1024 without one.
#[allow(
    dead_code,
    reason = "the relays answer nothing, and sendfile sends a file"
)]
pub(crate) fn response(usage: &str) -> Result<Vec<u8>, String> {
    let body_bytes = match argument(2) {
        None => 1024,
        Some(word) => word.parse().map_err(|_| format!("usage: {usage}"))?,
    };
    Ok(ringway_kernel::yardstick::response(body_bytes))
}

/// How a yardstick ends: at once and with a reason, or never.
pub(crate) fn report(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
