//! The guest's memory disk: programs with their libraries, in the `newc` format of cpio.
//!
//! The format is the kernel's: Documentation/driver-api/early-userspace/buffer-format.rst.

use crate::process::find;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER_MODE: u32 = 0o040_755;
const PROGRAM_MODE: u32 = 0o100_755;
const FILE_MODE: u32 = 0o100_644;

/// An archive that grows; each path is put into it once, and its folders before it.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<PathBuf>,
}

impl Archive {
    /// What any guest needs: the kernel's folders, a shell with its tools, two users, and `init` as
    /// its first process.
    pub(crate) fn with_init(init: &[u8]) -> Result<Archive> {
        let mut archive = Archive::default();
        for folder in ["/proc", "/sys", "/dev", "/tmp"] {
            archive.folder(Path::new(folder));
        }
        let busybox = find("busybox").context("busybox is not installed")?;
        archive.script(Path::new("/bin/busybox"), &std::fs::read(&busybox)?);
        archive.copy(&busybox)?; // and its libraries, where it is not the static one
        archive.file(
            Path::new("/etc/passwd"),
            b"root:x:0:0::/tmp:/bin/sh\nnobody:x:99:99::/tmp:\n",
        );
        archive.file(Path::new("/etc/group"), b"root:x:0:\nnogroup:x:99:\n");
        archive.script(Path::new("/init"), init);
        Ok(archive)
    }

    /// The archive with its end mark.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut whole = Archive {
            bytes: self.bytes.clone(),
            paths: BTreeSet::new(),
        };
        whole.emit("TRAILER!!!", 0, &[]);
        whole.bytes
    }

    /// Adds an empty folder and those above it.
    pub(crate) fn folder(&mut self, path: &Path) {
        if path.parent().is_none() || !self.paths.insert(path.to_owned()) {
            return;
        }
        if let Some(above) = path.parent() {
            self.folder(above);
        }
        self.emit(&name(path), FOLDER_MODE, &[]);
    }

    /// Adds a file with this content.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8]) {
        self.entry(path, FILE_MODE, content);
    }

    /// Adds a program with this content.
    pub(crate) fn script(&mut self, path: &Path, content: &[u8]) {
        self.entry(path, PROGRAM_MODE, content);
    }

    /// Adds a file, a folder with all it holds, or a program with its libraries, from the same
    /// absolute path of this machine.
    pub(crate) fn copy(&mut self, path: &Path) -> Result<()> {
        let context = || format!("cannot put {} into the guest", path.display());
        let facts = std::fs::metadata(path).with_context(context)?;
        if facts.is_dir() {
            self.folder(path);
            for entry in std::fs::read_dir(path).with_context(context)? {
                self.copy(&entry.with_context(context)?.path())?;
            }
            return Ok(());
        }
        let content = std::fs::read(path).with_context(context)?;
        if facts.permissions().mode() & 0o111 == 0 {
            self.entry(path, FILE_MODE, &content);
            return Ok(());
        }
        self.copy_as(path, path)
    }

    /// Adds a program of this machine with its libraries, the program under another path.
    pub(crate) fn copy_as(&mut self, path: &Path, name: &Path) -> Result<()> {
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        self.entry(name, PROGRAM_MODE, &read(path)?);
        for library in libraries(path)? {
            self.entry(&library, PROGRAM_MODE, &read(&library)?);
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        if self.paths.insert(path.to_owned()) {
            self.emit(&name(path), mode, content);
        }
    }

    fn emit(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.bytes.extend(b"070701");
        // An inode of its own for each, lest the kernel take entries for links of one file.
        let inode = self.paths.len() as u32;
        let (size, name_bytes) = (content.len() as u32, name.len() as u32 + 1);
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_bytes, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Names in an archive have no slash at their start.
fn name(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// What the dynamic linker would load, by absolute path. A static program has none.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        line.contains("(0x").then(|| PathBuf::from(path))
    };
    Ok(text.lines().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::Archive;
    use std::path::Path;

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file(Path::new("/etc/a"), b"xyz\n!");
        let text = String::from_utf8(archive.bytes()).expect("ASCII");
        let zeros = |count| "00000000".repeat(count);
        let folder = format!(
            "07070100000001000041ed{}00000001{}00000004{}etc\0\0\0",
            zeros(2),
            zeros(6),
            zeros(1)
        );
        assert_eq!(&text[..folder.len()], folder);
        let file = format!(
            "0707010000000200008 1a4{}00000001{}00000005{}00000006{}etc/a\0xyz\n!\0\0\0",
            zeros(2),
            zeros(1),
            zeros(4),
            zeros(1)
        )
        .replace(' ', "");
        let rest = &text[folder.len()..];
        assert!(rest.starts_with(&file), "{rest:?}\n{file:?}");
        assert!(rest.contains("TRAILER!!!\0"));
        assert_eq!(text.len() % 4, 0);
    }
}
