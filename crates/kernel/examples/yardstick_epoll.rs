//! The least that a request costs with epoll: `yardstick_epoll PORT [BODY_BYTES]`.

mod yardstick;

use std::process::ExitCode;

const USAGE: &str = "yardstick_epoll PORT [BODY_BYTES]";

fn main() -> ExitCode {
    yardstick::report(run())
}

fn run() -> Result<(), String> {
    let listener = yardstick::listen(USAGE)?;
    let response = yardstick::response(USAGE)?;
    ringway_kernel::yardstick::serve_epoll(listener, &response).map_err(|error| error.to_string())
}
