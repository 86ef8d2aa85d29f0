//! Replays the corpora of the fuzz targets, and every prefix and every one-byte change of them, so
//! that what fuzzing once found stays found without a fuzzer.

#[path = "fuzz/body.rs"]
mod body;
#[path = "fuzz/condition.rs"]
mod condition;
#[path = "fuzz/glob.rs"]
mod glob;
#[path = "fuzz/head.rs"]
mod head;
#[path = "fuzz/negotiate.rs"]
mod negotiate;
#[path = "fuzz/range.rs"]
mod range;
#[path = "fuzz/received.rs"]
mod received;
#[path = "fuzz/replay.rs"]
mod replay;
#[path = "fuzz/target.rs"]
mod target;

use replay::replay;
use std::io;

#[test]
fn heads() -> io::Result<()> {
    replay("head", head::run)
}

#[test]
fn bodies() -> io::Result<()> {
    replay("body", body::run)
}

#[test]
fn targets() -> io::Result<()> {
    replay("target", target::run)
}

#[test]
fn received_heads() -> io::Result<()> {
    replay("received", received::run)
}

#[test]
fn ranges() -> io::Result<()> {
    replay("range", range::run)
}

#[test]
fn negotiations() -> io::Result<()> {
    replay("negotiate", negotiate::run)
}

#[test]
fn globs() -> io::Result<()> {
    replay("glob", glob::run)
}

#[test]
fn conditions() -> io::Result<()> {
    replay("condition", condition::run)
}
