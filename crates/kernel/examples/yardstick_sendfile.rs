//! The least that a large file costs: `yardstick_sendfile PORT FILE`.

mod yardstick;

use std::fs::File;
use std::process::ExitCode;

const USAGE: &str = "yardstick_sendfile PORT FILE";

fn main() -> ExitCode {
    yardstick::report(run())
}

fn run() -> Result<(), String> {
    let listener = yardstick::listen(USAGE)?;
    let path = yardstick::argument(2).ok_or_else(|| format!("usage: {USAGE}"))?;
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    ringway_kernel::yardstick::serve_file(listener, file).map_err(|error| error.to_string())
}
