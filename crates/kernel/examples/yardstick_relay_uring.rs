//! The least that a relayed request costs with io_uring: `yardstick_relay_uring PORT UPSTREAM_PORT`.

mod yardstick;

use std::process::ExitCode;

const USAGE: &str = "yardstick_relay_uring PORT UPSTREAM_PORT";

fn main() -> ExitCode {
    yardstick::report(run())
}

fn run() -> Result<(), String> {
    let listener = yardstick::listen(USAGE)?;
    let upstream_port = yardstick::upstream_port(USAGE)?;
    let relay = ringway_kernel::yardstick::relay_uring;
    relay(listener, upstream_port).map_err(|error| error.to_string())
}
