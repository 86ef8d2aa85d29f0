//! A machine's facts as a tree to send with a bug report: just the files that the facts are read
//! from, as a tar archive, with what names people, machines and networks taken out.
//!
//! `doctor --root` on the unpacked tree says what it said on the machine.

use crate::facts::Facts;
use crate::machine::{Machine, Target};
use crate::probes::{PROBES_FILE, Probes};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};

/// What stands for a name or an address that was taken out.
const REMOVED: &str = "removed";

/// The host name is taken out of longer words from this many bytes on.
const SHORTEST_PART: usize = 5;

/// Groups whose names say what kind of place it is, and nobody's name.
const PLAIN_GROUPS: &[&str] = &[
    "docker",
    "kubepods",
    "kubepods.slice",
    "lxc",
    "system.slice",
    "user.slice",
    "init.scope",
];

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    files: BTreeMap<String, String>,
    folders: BTreeSet<String>,
    links: BTreeMap<String, String>,
}

/// A machine that remembers what is asked of it.
struct Recorder<'a> {
    machine: &'a dyn Machine,
    seen: RefCell<Seen>,
}

impl Machine for Recorder<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let text = self.machine.read(path)?;
        self.seen
            .borrow_mut()
            .files
            .insert(path.to_owned(), text.clone());
        Ok(text)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, String> {
        let names = self.machine.list(path)?;
        let mut seen = self.seen.borrow_mut();
        seen.folders.insert(path.to_owned());
        for name in &names {
            // Interrupts and lower devices are known by their names alone.
            let counts = path.ends_with("/msi_irqs") || name.starts_with("lower_");
            if counts {
                seen.files.entry(format!("{path}/{name}")).or_default();
            }
        }
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Result<String, String> {
        let found = self.machine.resolve(path)?;
        self.seen
            .borrow_mut()
            .links
            .insert(path.to_owned(), found.clone());
        Ok(found)
    }

    fn link(&self, path: &str) -> Result<String, String> {
        self.machine.link(path)
    }

    fn probes(&self, devices: &[String]) -> Probes {
        let probes = self.machine.probes(devices);
        if let Ok(text) = serde_json::to_string_pretty(&probes) {
            self.seen
                .borrow_mut()
                .files
                .insert(PROBES_FILE.to_owned(), text + "\n");
        }
        probes
    }

    fn current(&self, target: &Target) -> Result<String, String> {
        self.machine.current(target)
    }

    fn write(&self, _: &Target, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Writes the archive, and returns the facts in it.
///
/// # Errors
/// When it can't be written.
pub fn capture(machine: &dyn Machine, out: &mut dyn Write) -> io::Result<Facts> {
    let host_name = machine.read("proc/sys/kernel/hostname").unwrap_or_default();
    let recorder = Recorder {
        machine,
        seen: RefCell::default(),
    };
    let facts = Facts::gather(&recorder);
    let seen = recorder.seen.into_inner();
    let scrubber = Scrubber::new(host_name.trim(), &seen);
    let mut archive = Archive {
        out,
        folders: BTreeSet::new(),
    };
    for (path, target) in &seen.links {
        archive.folder(&scrubber.path(target))?;
        let path = seen.real(path);
        if path != *target {
            archive.link(&scrubber.path(&path), &scrubber.path(target))?;
        }
    }
    for path in &seen.folders {
        archive.folder(&scrubber.path(&seen.real(path)))?;
    }
    for (path, text) in &seen.files {
        if let Some(text) = scrubber.text(path, text) {
            archive.file(&scrubber.path(&seen.real(path)), text.as_bytes())?;
        }
    }
    archive.end()?;
    Ok(facts)
}

impl Seen {
    /// A path with the links on its way replaced by where they lead.
    fn real(&self, path: &str) -> String {
        let parent_link = self.links.iter().rev().find_map(|(link, target)| {
            let rest = path.strip_prefix(link.as_str())?.strip_prefix('/')?;
            Some(format!("{target}/{rest}"))
        });
        parent_link.unwrap_or_else(|| path.to_owned())
    }
}

/// What takes names and addresses out.
struct Scrubber<'a> {
    host_name: &'a str,
    /// Names of control groups, and what stands for each.
    groups: BTreeMap<String, String>,
}

impl Scrubber<'_> {
    fn new<'a>(host_name: &'a str, seen: &Seen) -> Scrubber<'a> {
        let mut groups = BTreeMap::new();
        let text = seen
            .files
            .get("proc/self/cgroup")
            .map_or("", String::as_str);
        for line in text.lines() {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            for name in path.split('/').filter(|name| !name.is_empty()) {
                if !PLAIN_GROUPS.contains(&name) {
                    let alias = format!("group{}", groups.len() + 1);
                    groups.entry(name.to_owned()).or_insert(alias);
                }
            }
        }
        Scrubber { host_name, groups }
    }

    /// A path as it is in the archive.
    fn path(&self, path: &str) -> String {
        if !path.starts_with("sys/fs/cgroup/") {
            return path.to_owned();
        }
        let parts = path.split('/').map(|part| self.group(part));
        parts.collect::<Vec<_>>().join("/")
    }

    fn group<'b>(&'b self, name: &'b str) -> &'b str {
        self.groups.get(name).map_or(name, String::as_str)
    }

    /// A text as it is in the archive; none when nothing of it is needed.
    fn text(&self, path: &str, text: &str) -> Option<String> {
        let lines = |keep: &[&str]| {
            let kept = text
                .lines()
                .filter(|line| keep.iter().any(|start| line.starts_with(start)));
            kept.fold(String::new(), |all, line| all + line + "\n")
        };
        let needed = match path {
            "proc/self/status" => lines(&["CapEff:", "Cpus_allowed_list:"]),
            "proc/meminfo" => lines(&["MemTotal:"]),
            "proc/cpuinfo" => {
                let flags = lines(&["flags"]);
                flags.lines().take(1).collect()
            }
            "proc/self/cgroup" => self.group_lines(text),
            // The names of everybody's processes.
            _ if path.starts_with("proc/") && path.ends_with("/comm") => {
                if text.trim() != "irqbalance" {
                    return None;
                }
                text.to_owned()
            }
            _ => text.to_owned(),
        };
        Some(self.words(&needed))
    }

    fn group_lines(&self, text: &str) -> String {
        let line = |line: &str| {
            let parts: Vec<&str> = line.splitn(3, ':').collect();
            let [number, controllers, path] = parts[..] else {
                return String::new();
            };
            let names: Vec<&str> = path.split('/').map(|name| self.group(name)).collect();
            format!("{number}:{controllers}:{}\n", names.join("/"))
        };
        text.lines().map(line).collect()
    }

    /// Replaces every word that is an address or this machine's name.
    fn words(&self, text: &str) -> String {
        let is_word = |letter: char| letter.is_alphanumeric() || ":.-_".contains(letter);
        let mut scrubbed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is = is_word(first);
            let end = rest
                .find(|letter| is_word(letter) != is)
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            scrubbed.push_str(if is && self.tells(word) {
                REMOVED
            } else {
                word
            });
            rest = after;
        }
        // As a part of another word too, where it is too long to be one by chance.
        if self.host_name.len() >= SHORTEST_PART {
            scrubbed = scrubbed.replace(self.host_name, REMOVED);
        }
        scrubbed
    }

    fn tells(&self, word: &str) -> bool {
        let is_host = self.host_name.len() > 2 && word.eq_ignore_ascii_case(self.host_name);
        let is_hardware = {
            let parts: Vec<&str> = word.split(':').collect();
            let is_byte = |part: &&str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
            parts.len() >= 6 && parts.iter().all(is_byte)
        };
        let is_address = match word.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => true,
            // "::" alone and times such as 1::2 aren't worth a mistake, but addresses are.
            Ok(IpAddr::V6(address)) => address != Ipv6Addr::UNSPECIFIED,
            Err(_) => false,
        };
        is_host || is_hardware || is_address
    }
}

/// A tar archive (POSIX.1-1988 ustar) being written.
struct Archive<'a> {
    out: &'a mut dyn Write,
    folders: BTreeSet<String>,
}

const BLOCK_BYTES: usize = 512;

impl Archive<'_> {
    fn folder(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.head(path, b'5', 0, "")
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.head(path, b'0', content.len(), "")?;
        self.out.write_all(content)?;
        let rest = content.len().next_multiple_of(BLOCK_BYTES) - content.len();
        self.out.write_all(&[0; BLOCK_BYTES][..rest])
    }

    /// A link from one path below the root to another, relative so that the tree can be anywhere.
    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let up = "../".repeat(path.matches('/').count());
        self.head(path, b'2', 0, &format!("{up}{target}"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()
    }

    fn head(&mut self, path: &str, kind: u8, bytes: usize, target: &str) -> io::Result<()> {
        let too_long = || io::Error::other(format!("{path}: too long for an archive"));
        let (prefix, name) = split(path).ok_or_else(too_long)?;
        if target.len() > 100 {
            return Err(too_long());
        }
        let mut head = [0_u8; BLOCK_BYTES];
        let mut put = |at: usize, field: &[u8]| head[at..at + field.len()].copy_from_slice(field);
        put(0, name.as_bytes());
        put(
            100,
            if kind == b'5' {
                b"0000755\0"
            } else {
                b"0000644\0"
            },
        );
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{bytes:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        put(345, prefix.as_bytes());
        let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&head)
    }
}

/// A path as prefix and name of at most 155 and 100 bytes.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let splits = path
        .match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]));
    let mut fitting = splits.filter(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100);
    fitting.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let seen = Seen::default();
        assert_eq!(Scrubber::new("db-7", &seen).words(text), expect);
    }

    #[test]
    fn addresses_and_the_host_name_are_taken_out() {
        check("52:54:00:12:34:56", "removed");
        check("a 10.0.0.1/24, fe80::1", "a removed/24, removed");
        check("on db-7: DB-7 xdb-7", "on db-7: removed xdb-7");
        check("2001:db8::5", "removed");
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0\n",
            "6.12.41+deb13-cloud-amd64",
            "00000000,00000003\t4096 131072",
            "0::/",
            "MemTotal: 1 kB",
            "mlx5_comp0@pci:0000:3b:00.0",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn long_paths_are_split_where_they_may_be() {
        let long = format!("{}/{}", "a".repeat(90), "b".repeat(90));
        assert_eq!(split(&long), Some((&long[..90], &long[91..])));
        assert_eq!(split(&"a".repeat(101)), None);
        assert_eq!(split("a/b"), Some(("", "a/b")));
    }
}
