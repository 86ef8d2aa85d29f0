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
#[path = "fuzz/target.rs"]
mod target;

use std::path::Path;
use std::{fs, io};

/// Runs `target` on all inputs in `fuzz/corpus/<name>`.
fn replay(name: &str, target: fn(&[u8])) -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in fs::read_dir(&corpus)? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        eprintln!("{}", path.display());
        target(&input);
        neighbours(&input, target);
        count += 1;
    }
    assert!(count >= 20, "{} has {count} inputs only", corpus.display());
    Ok(())
}

fn neighbours(input: &[u8], target: fn(&[u8])) {
    for end in (0..input.len()).step_by(1 + input.len() / 64) {
        target(&input[..end]);
    }
    let mut changed = input.to_vec();
    for at in (0..input.len()).step_by(1 + input.len() / 64) {
        for byte in [
            0, b'\t', b'\n', b'\r', b' ', b'%', b'.', b'/', b':', b',', 0x7f, 0xff,
        ] {
            changed[at] = byte;
            target(&changed);
        }
        changed[at] = input[at];
    }
}

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
