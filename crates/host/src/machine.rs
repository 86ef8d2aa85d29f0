//! The seam to the machine: reading its files, asking what only system calls tell, and writing.
//!
//! Two machines keep it: the one this runs on, and a tree of files that looks like one (a capture
//! from elsewhere, or a fixture). In a tree, what isn't a file is in [`PROBES_FILE`] at its root.
//! Paths are relative to the root and have no slash at their beginning. Nothing outside of the
//! root is read or written, whatever symbolic links a tree contains.

use crate::probes::{Device, PROBES_FILE, Probes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// No file of a kernel that is of use here is larger (`/proc/interrupts` of 1,024 CPUs has 6 MB).
const MOST_BYTES: u64 = 16 << 20;

/// No directory is listed beyond this; `/proc` of a busy machine has some 100,000 entries.
const MOST_ENTRIES: usize = 1 << 18;

/// Something that can be written, and read back in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A file below the root: of `/proc/sys`, `/proc/irq` or `/sys`.
    File(String),
    /// Where an interrupt may go, as a list of processors. It is found by the driver's name for it:
    /// numbers change when queues do.
    Interrupt {
        /// The device.
        nic: String,
        /// The driver's name.
        name: String,
    },
    /// The queues of a device: `rx 0 tx 0 combined 4`.
    Channels(String),
    /// The rings of a device: `rx 1024 tx 1024`.
    Rings(String),
    /// The table that spreads flows: the queue numbers, separated by spaces.
    RssTable(String),
    /// The interrupts that irqbalance leaves alone: their numbers, separated by spaces.
    IrqbalanceBan,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::File(path) => write!(out, "/{path}"),
            Target::Interrupt { name, .. } => write!(out, "interrupt {name}"),
            Target::Channels(nic) => write!(out, "channels of {nic}"),
            Target::Rings(nic) => write!(out, "rings of {nic}"),
            Target::RssTable(nic) => write!(out, "RSS table of {nic}"),
            Target::IrqbalanceBan => out.write_str("irqbalance's list of banned interrupts"),
        }
    }
}

/// A machine that can be looked at and changed.
pub trait Machine {
    /// The whole text of a file.
    ///
    /// # Errors
    /// Why it can't be known, for people.
    fn read(&self, path: &str) -> Result<String, String>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// Why it can't be known, for people.
    fn list(&self, path: &str) -> Result<Vec<String>, String>;

    /// Where a symbolic link leads, as a path below the root.
    ///
    /// # Errors
    /// Why it can't be known, for people.
    fn resolve(&self, path: &str) -> Result<String, String>;

    /// What only system calls tell about the machine and these network devices.
    fn probes(&self, devices: &[String]) -> Probes;

    /// What only system calls tell about these network devices: all that a placement asks for.
    fn devices(&self, names: &[String]) -> BTreeMap<String, Device> {
        self.probes(names).devices
    }

    /// What `target` holds now.
    ///
    /// # Errors
    /// Why it can't be known, for people.
    fn current(&self, target: &Target) -> Result<String, String>;

    /// Gives `target` a value.
    ///
    /// # Errors
    /// The kernel's, which for interrupts say whether another try makes sense.
    fn write(&self, target: &Target, value: &str) -> io::Result<()>;
}

/// A tree of files: the running machine's, or one that looks like a machine's.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    is_live: bool,
}

impl Tree {
    /// The machine that this runs on.
    pub fn live() -> Tree {
        Tree {
            root: PathBuf::from("/"),
            is_live: true,
        }
    }

    /// The machine that the files below `root` describe.
    ///
    /// # Errors
    /// When `root` isn't a directory that can be read.
    pub fn at(root: &Path) -> io::Result<Tree> {
        let root = root.canonicalize()?;
        fs::read_dir(&root)?;
        Ok(Tree {
            is_live: root == Path::new("/"),
            root,
        })
    }

    /// Whether this is the machine that this runs on.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// The absolute path of a file, links resolved; an error if it is outside of the tree.
    fn locate(&self, path: &str) -> io::Result<PathBuf> {
        let joined = self.root.join(path);
        if self.is_live {
            return Ok(joined);
        }
        let found = joined.canonicalize()?;
        if found.starts_with(&self.root) {
            Ok(found)
        } else {
            Err(io::Error::other("it leads out of the tree"))
        }
    }

    fn read_text(&self, path: &str) -> io::Result<String> {
        let path = self.locate(path)?;
        // A FIFO or a device in a tree from elsewhere must not be waited for.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::other("it is absurdly large"));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn write_text(&self, path: &str, value: &str) -> io::Result<()> {
        // One write of the whole value, as sysfs takes it; a tree's file is cut to it.
        let mut options = fs::OpenOptions::new();
        options.write(true).truncate(!self.is_live);
        let mut file = options.open(self.locate(path)?)?;
        file.write_all(format!("{value}\n").as_bytes())
    }

    fn saved_probes(&self) -> Result<Probes, String> {
        let text = self.read(PROBES_FILE)?;
        serde_json::from_str(&text).map_err(|error| format!("{PROBES_FILE}: {error}"))
    }
}

impl Machine for Tree {
    fn read(&self, path: &str) -> Result<String, String> {
        self.read_text(path).map_err(|error| explain(path, &error))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, String> {
        let entries = self
            .locate(path)
            .and_then(fs::read_dir)
            .map_err(|error| explain(path, &error))?;
        let mut names = Vec::new();
        for entry in entries.take(MOST_ENTRIES) {
            let entry = entry.map_err(|error| explain(path, &error))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Result<String, String> {
        let found = self.root.join(path).canonicalize();
        let found = found.map_err(|error| explain(path, &error))?;
        let below = found.strip_prefix(&self.root);
        let below = below.map_err(|_| format!("/{path}: it leads out of the tree"))?;
        Ok(below.to_string_lossy().into_owned())
    }

    fn probes(&self, devices: &[String]) -> Probes {
        if self.is_live {
            return Probes::ask(devices);
        }
        self.saved_probes()
            .unwrap_or_else(|why| Probes::unknown(&why))
    }

    fn devices(&self, names: &[String]) -> BTreeMap<String, Device> {
        if self.is_live {
            return Probes::ask_devices(names);
        }
        self.probes(names).devices
    }

    fn current(&self, target: &Target) -> Result<String, String> {
        match target {
            Target::File(path) => self.read(path).map(|text| text.trim().to_owned()),
            Target::Interrupt { nic, name } => {
                let path = affinity_path(self, nic, name)?;
                self.read(&path).map(|text| text.trim().to_owned())
            }
            _ if self.is_live => Probes::ask(&device_of(target)).value(target),
            _ => self.saved_probes()?.value(target),
        }
    }

    fn write(&self, target: &Target, value: &str) -> io::Result<()> {
        match target {
            Target::File(path) => self.write_text(path, value),
            Target::Interrupt { nic, name } => {
                let path = affinity_path(self, nic, name).map_err(io::Error::other)?;
                self.write_text(&path, value)
            }
            _ if self.is_live => crate::probes::set(target, value),
            _ => {
                let mut probes = self.saved_probes().map_err(io::Error::other)?;
                probes.pretend(target, value)?;
                let text = serde_json::to_string_pretty(&probes)?;
                self.write_text(PROBES_FILE, &text)
            }
        }
    }
}

fn device_of(target: &Target) -> Vec<String> {
    match target {
        Target::Channels(nic) | Target::Rings(nic) | Target::RssTable(nic) => vec![nic.clone()],
        Target::File(_) | Target::Interrupt { .. } | Target::IrqbalanceBan => Vec::new(),
    }
}

/// The file that says where an interrupt may go.
///
/// # Errors
/// When the device has no interrupt of that name now.
pub(crate) fn affinity_path(
    machine: &dyn Machine,
    nic: &str,
    name: &str,
) -> Result<String, String> {
    let number = crate::facts::interrupt_number(machine, nic, name)?;
    Ok(format!("proc/irq/{number}/smp_affinity_list"))
}

/// Why a file can't be read, in words that don't depend on the C library.
fn explain(path: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        io::ErrorKind::InvalidInput => "the kernel has no answer".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("/{path}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().expect("a directory");
        let tree = Tree::at(folder.path()).expect("a tree");
        (folder, tree)
    }

    #[test]
    fn links_out_of_a_tree_are_not_followed() {
        let outside = tempfile::NamedTempFile::new().expect("a file");
        let (folder, tree) = tree();
        symlink(outside.path(), folder.path().join("secret")).expect("a link");
        symlink("../../../../../../etc/hostname", folder.path().join("up")).expect("a link");
        for path in ["secret", "up", "../../../etc/hostname"] {
            let why = tree.read(path).expect_err(path);
            assert!(
                why.ends_with("out of the tree") || why.ends_with("not there"),
                "{why}"
            );
            assert!(tree.resolve(path).is_err());
            assert!(tree.write(&Target::File(path.to_owned()), "1").is_err());
        }
    }

    #[test]
    fn what_is_not_a_file_is_not_waited_for() {
        let (folder, tree) = tree();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("SKIP: no mkfifo");
            return;
        }
        assert_eq!(tree.read("pipe"), Err("/pipe: it is not a file".to_owned()));
        assert_eq!(tree.read("."), Err("/.: it is not a file".to_owned()));
    }

    #[test]
    fn absurdly_large_files_are_refused() {
        let (folder, tree) = tree();
        let file = fs::File::create(folder.path().join("large")).expect("a file");
        file.set_len(MOST_BYTES + 1).expect("a sparse file");
        assert_eq!(
            tree.read("large"),
            Err("/large: it is absurdly large".to_owned())
        );
    }

    #[test]
    fn a_shorter_value_leaves_nothing_of_a_longer_one() {
        let (folder, tree) = tree();
        fs::write(folder.path().join("a"), "123456\n").expect("a file");
        let target = Target::File("a".to_owned());
        tree.write(&target, "7").expect("written");
        assert_eq!(tree.current(&target), Ok("7".to_owned()));
        assert!(
            tree.write(&Target::File("b".to_owned()), "7").is_err(),
            "nothing is created"
        );
    }
}
