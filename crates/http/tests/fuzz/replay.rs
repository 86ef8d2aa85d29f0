//! Replays the corpus of a fuzz target, and every prefix and every one-byte change of its inputs, for
//! the ordinary tests of each crate that has targets.

use std::path::Path;
use std::{fs, io};

/// Runs `target` on all inputs in `fuzz/corpus/<name>`.
pub(crate) fn replay(name: &str, target: fn(&[u8])) -> io::Result<()> {
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
