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

const LEADS_OUT: &str = "it leads out of the tree";

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
    /// A file of ours below `/etc`, made and removed as a whole; empty is absent.
    Config(String),
    /// A symbolic link of ours below `/etc`: where it leads; empty is absent.
    Link(String),
}

impl Target {
    /// The network device that it belongs to.
    pub fn nic(&self) -> Option<&str> {
        match self {
            Target::File(path) => path.strip_prefix("sys/class/net/")?.split('/').next(),
            Target::Interrupt { nic, .. }
            | Target::Channels(nic)
            | Target::Rings(nic)
            | Target::RssTable(nic) => Some(nic),
            Target::IrqbalanceBan | Target::Config(_) | Target::Link(_) => None,
        }
    }

    /// The same of another device.
    #[must_use]
    pub fn on(self, device: &str) -> Target {
        let nic = || device.to_owned();
        match self {
            Target::File(path) => match path.strip_prefix("sys/class/net/") {
                None => Target::File(path),
                Some(rest) => {
                    let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
                    Target::File(format!("sys/class/net/{device}/{rest}"))
                }
            },
            Target::Interrupt { name, .. } => Target::Interrupt { nic: nic(), name },
            Target::Channels(_) => Target::Channels(nic()),
            Target::Rings(_) => Target::Rings(nic()),
            Target::RssTable(_) => Target::RssTable(nic()),
            other => other,
        }
    }

    /// Whether it belongs to a queue of a device, and so goes and comes with it.
    pub fn is_of_queues(&self) -> bool {
        match self {
            Target::File(path) => self.nic().is_some() && path.contains("/queues/"),
            Target::Interrupt { .. } | Target::RssTable(_) => true,
            _ => false,
        }
    }

    /// Whether every network namespace has one of its own.
    pub fn is_of_namespace(&self) -> bool {
        match self {
            Target::File(path) => path.starts_with("proc/sys/net/") || self.nic().is_some(),
            _ => self.nic().is_some(),
        }
    }

    /// Whether it is on disk, and outlives the run of the kernel in which it was made.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Target::Config(_) | Target::Link(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::File(path) | Target::Config(path) | Target::Link(path) => {
                write!(out, "/{path}")
            }
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

    /// What a symbolic link says, word for word; `proc` has some that lead to no path.
    ///
    /// # Errors
    /// Why it can't be known, for people.
    fn link(&self, path: &str) -> Result<String, String>;

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
            Err(io::Error::other(LEADS_OUT))
        }
    }

    /// Where something is, or would be when it is made: folders above it that aren't there are named
    /// below the last one that is.
    ///
    /// # Errors
    /// When a link leads out of the tree.
    pub fn confined(&self, path: &str) -> io::Result<PathBuf> {
        let joined = self.root.join(path);
        let mut known = joined.as_path();
        let mut names = Vec::new();
        loop {
            match known.canonicalize() {
                Ok(found) if found.starts_with(&self.root) => {
                    return Ok(names
                        .iter()
                        .rev()
                        .fold(found, |found, name| found.join(name)));
                }
                Ok(_) => return Err(io::Error::other(LEADS_OUT)),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // A link to nothing isn't followed by what will be made in its place.
                Err(error) => match (known.parent(), known.file_name()) {
                    (Some(above), Some(name)) => {
                        names.push(name);
                        known = above;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// What a link says, and nothing of one that lies outside of the tree.
    fn read_link(&self, path: &str) -> io::Result<PathBuf> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        fs::read_link(self.locate(folder)?.join(name))
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

    /// Where a file below `/etc` goes, its folder made; an error if that is outside of the tree.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        let (folder, name) = path.rsplit_once('/').ok_or_else(wrong)?;
        if path.split('/').any(|part| part == "..") {
            return Err(wrong());
        }
        let folder = self.confined(folder)?;
        fs::create_dir_all(&folder)?;
        Ok(folder.join(name))
    }

    /// Makes a file of `/etc`, whole or not at all, or removes it.
    fn write_config(&self, path: &str, value: &str) -> io::Result<()> {
        let path = self.place(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = path.with_file_name(format!(".{name}.new"));
        if value.is_empty() {
            remove(&new)?;
            return remove(&path);
        }
        // What lies there is of one that was stopped, or a link to who knows where.
        remove(&new)?;
        let mut file = fs::File::create_new(&new)?;
        file.write_all(value.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_folder(&path)
    }

    fn write_link(&self, path: &str, value: &str) -> io::Result<()> {
        let path = self.place(path)?;
        if value.is_empty() {
            return remove(&path);
        }
        std::os::unix::fs::symlink(value, &path)?;
        sync_folder(&path)
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
        let below = below.map_err(|_| format!("/{path}: {LEADS_OUT}"))?;
        Ok(below.to_string_lossy().into_owned())
    }

    fn link(&self, path: &str) -> Result<String, String> {
        let text = self
            .read_link(path)
            .map_err(|error| explain(path, &error))?;
        Ok(text.to_string_lossy().into_owned())
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
            // What isn't there is as empty as it was before it was made.
            Target::Config(path) => match self.read_text(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                text => text.map_err(|error| explain(path, &error)),
            },
            Target::Link(path) => match self.read_link(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                leads => leads
                    .map(|to| to.to_string_lossy().into_owned())
                    .map_err(|error| explain(path, &error)),
            },
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
            Target::Config(path) => self.write_config(path, value),
            Target::Link(path) => self.write_link(path, value),
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
    target.nic().map(str::to_owned).into_iter().collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

/// A name has to survive a crash as its file does.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
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
        let why = Err("/pipe: it is not a file".to_owned());
        assert_eq!(tree.read("pipe"), why);
        assert_eq!(tree.current(&Target::Config("pipe".to_owned())), why);
        assert_eq!(tree.read("."), Err("/.: it is not a file".to_owned()));
    }

    /// Neither the name under which a file is made first nor a folder above it leads out of a tree.
    #[test]
    fn files_of_ours_are_not_made_outside_of_a_tree() {
        let outside = tempfile::tempdir().expect("a directory");
        let victim = outside.path().join("victim");
        fs::write(&victim, "theirs").expect("a file");
        let (folder, tree) = tree();
        let path = |path: &str| folder.path().join(path);
        fs::create_dir(path("etc")).expect("a folder");
        symlink(&victim, path("etc/.a.conf.new")).expect("a link");
        symlink(outside.path(), path("etc/out")).expect("a link");
        symlink(outside.path().join("none"), path("etc/nowhere")).expect("a link");
        let config = |path: &str| Target::Config(path.to_owned());
        tree.write(&config("etc/a.conf"), "x = 1\n").expect("made");
        let read = |path| fs::read_to_string(path).expect("readable");
        assert_eq!(read(path("etc/a.conf")), "x = 1\n");
        for made in ["etc/out/a.conf", "etc/out/new/a.conf", "etc/nowhere/a.conf"] {
            assert!(tree.write(&config(made), "x").is_err(), "{made}");
            let link = Target::Link(made.to_owned());
            assert!(tree.write(&link, "x").is_err(), "{made}");
        }
        let names = fs::read_dir(outside.path()).expect("readable");
        assert_eq!((names.count(), read(victim).as_str()), (1, "theirs"));
    }

    #[test]
    fn links_outside_of_a_tree_are_not_read() {
        let outside = tempfile::tempdir().expect("a directory");
        symlink("secret", outside.path().join("link")).expect("a link");
        let (folder, tree) = tree();
        symlink(outside.path(), folder.path().join("out")).expect("a link");
        let why = Err("/out/link: it leads out of the tree".to_owned());
        assert_eq!(tree.link("out/link"), why);
        assert_eq!(tree.current(&Target::Link("out/link".to_owned())), why);
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
