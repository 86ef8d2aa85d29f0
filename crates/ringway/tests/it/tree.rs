//! Directories to serve, and content that shows where it came from.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A directory of files that goes when it is dropped. The root is a folder in it, so that there
/// is something outside.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    /// `index.html` and `hello.txt`.
    pub(crate) fn new() -> Tree {
        let tree = Tree::empty();
        tree.write("index.html", "<!doctype html><title>Index</title>");
        tree.write("hello.txt", HELLO);
        tree
    }

    pub(crate) fn empty() -> Tree {
        let tree = Tree {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(tree.root()).unwrap();
        tree
    }

    /// What is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// What isn't, with the root in it.
    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    /// A path below the root.
    pub(crate) fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.root().join(std::ffi::OsStr::from_bytes(name.as_ref()))
    }

    /// Writes a file below the root, with the directories that it is in.
    pub(crate) fn write(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// What is in `hello.txt`.
pub(crate) const HELLO: &[u8] = b"Hello, files!\n";

/// Bytes without a pattern: another seed, length or offset never gives the same.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    // xorshift64* of Vigna.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&words.next().unwrap());
    }
    bytes.truncate(length);
    bytes
}
