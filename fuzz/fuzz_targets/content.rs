//! Fuzzes what `crates/server/tests/fuzz/content.rs` promises; see the manifest for how.

#![cfg_attr(fuzzing, no_main)]

#[path = "../../crates/server/tests/fuzz/content.rs"]
mod target;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));

/// Replays the files given as arguments, on any toolchain.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        target::run(&std::fs::read(path)?);
    }
    Ok(())
}
