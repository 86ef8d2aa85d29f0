//! NUMA nodes: on which one this thread runs, which have memory and how far apart they are, and
//! where memory goes.
//!
//! A policy holds for pages that are touched after it was set, so it is set on fresh mappings and
//! before a thread allocates; whether it worked is asked of the kernel (`move_pages(2)`), never taken
//! for granted. The kernel may refuse all of it (a container's seccomp profile wants CAP_SYS_NICE, and
//! a kernel without NUMA has none of the calls): then memory is where it is touched first.
//!
//! Nothing here moves memory that is in use.

use crate::arena::Arena;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::path::Path;

/// Bits of a set of nodes; `MAX_NUMNODES` is at most 1,024 (CONFIG_NODES_SHIFT of 10).
const NODE_BITS: usize = 1024;
const WORD_BITS: usize = 64;
/// `MADV_POPULATE_WRITE` (Linux 5.14, asm-generic/mman-common.h).
const MADV_POPULATE_WRITE: libc::c_int = 23;
/// What is left on a node to others, by whoever binds memory to it.
const SPARED_BYTES: usize = 64 << 20;
/// Pages that are asked about in one call.
const ASKED_PAGES: usize = 512;

/// Where memory is to be, and in which pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// The node. Default: that of whoever touches it first.
    pub node: Option<u32>,
    /// The pages. Default: ordinary ones.
    pub pages: Pages,
}

/// The pages that memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary ones, of 4 KiB on x86-64.
    #[default]
    Ordinary,
    /// Ordinary ones, of which the kernel may make huge ones (`MADV_HUGEPAGE`).
    Transparent,
    /// Huge ones that the operator has reserved (`MAP_HUGETLB`), where enough of them are free.
    Reserved,
}

/// How the kernel took a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// None was asked for.
    FirstTouch,
    /// All of it on this node, or none (`MPOL_BIND`).
    Bound(u32),
    /// On this node as long as it has room (`MPOL_PREFERRED`).
    Preferred(u32),
    /// Why not.
    Refused(String),
}

impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::FirstTouch => out.write_str("where it is touched first"),
            Policy::Bound(node) => write!(out, "bound to node {node}"),
            Policy::Preferred(node) => write!(out, "preferred on node {node}"),
            Policy::Refused(why) => write!(out, "where it is touched first: {why}"),
        }
    }
}

/// Where some memory is, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryReport {
    /// Its size.
    pub bytes: usize,
    /// What was asked for, and how that was taken.
    pub policy: Policy,
    /// Pages there are of it by node, those that nobody has touched aside; or why that isn't known.
    pub pages: Result<BTreeMap<u32, usize>, String>,
    /// Whether it is made of reserved huge pages.
    pub is_huge: bool,
}

impl MemoryReport {
    /// Whether every page that there is lies on the node that was asked for; `None` where none was,
    /// or where it isn't known.
    pub fn is_on_its_node(&self) -> Option<bool> {
        let (Policy::Bound(node) | Policy::Preferred(node)) = self.policy else {
            return None;
        };
        let pages = self.pages.as_ref().ok()?;
        Some(pages.keys().all(|other| *other == node))
    }
}

/// The node of the CPU that this runs on; 0 on a kernel without NUMA.
pub fn current_node() -> u32 {
    let (mut cpu, mut node) = (0_u32, 0_u32);
    let nothing = std::ptr::null_mut::<c_void>();
    // SAFETY: the kernel writes one number to each of two places that live across the call.
    let result = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, nothing) };
    if result == 0 { node } else { 0 }
}

/// The nodes that have memory, in ascending order; node 0 on a kernel without NUMA.
pub fn memory_nodes() -> Vec<u32> {
    let list = std::fs::read_to_string("/sys/devices/system/node/has_memory");
    let nodes = list.map(|list| parse_nodes(&list)).unwrap_or_default();
    if nodes.is_empty() { vec![0] } else { nodes }
}

/// Puts a page on a node, and asks the kernel where it is: whether this process may place memory.
///
/// # Errors
/// What was refused, or where the page is instead.
pub fn try_node(node: u32) -> Result<(), String> {
    let options = MemoryOptions {
        node: Some(node),
        pages: Pages::Ordinary,
    };
    let arena = Arena::map_on(1, &options).map_err(|error| explain("mmap", &error))?;
    if !arena.populate() {
        // Kernels before 5.14 don't; a page is there when it is touched.
        // SAFETY: `at` checked that it is in the mapping, which is writable and this function's alone.
        unsafe { arena.at(0).write_volatile(0) };
    }
    let report = arena.report();
    let pages = report.pages?;
    match report.policy {
        Policy::Refused(why) => Err(why),
        _ if pages.keys().eq([&node]) => Ok(()),
        _ => Err(format!("the kernel put it on {:?}", pages.keys())),
    }
}

/// Reads `0-1,8`; what isn't a number below [`NODE_BITS`] is left out.
fn parse_nodes(list: &str) -> Vec<u32> {
    let parts = list.trim().split(',');
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let last: u32 = last
            .parse()
            .ok()
            .filter(|&last| (last as usize) < NODE_BITS)?;
        Some(first.parse().ok()?..=last)
    };
    parts.filter_map(range).flatten().collect()
}

/// How far each node that is online is from `node` (10 is itself); empty where that isn't known.
pub(crate) fn distances(node: u32) -> BTreeMap<u32, u32> {
    let folder = Path::new("/sys/devices/system/node");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_default();
    let online = parse_nodes(&read("online"));
    let row = read(&format!("node{node}/distance"));
    let row = row.split_whitespace().filter_map(|word| word.parse().ok());
    online.into_iter().zip(row).collect()
}

/// From now on what this thread touches first goes to `node`, as long as that has room: its heap,
/// and what the kernel allocates for it. Threads that it starts inherit that.
///
/// # Errors
/// As `set_mempolicy(2)`: `EPERM` or `ENOSYS` in containers and without NUMA, `EINVAL` for a node that
/// has no memory.
pub fn prefer_node(node: u32) -> io::Result<()> {
    let set = node_set(node)?;
    let mode = libc::MPOL_PREFERRED | libc::MPOL_F_STATIC_NODES;
    // SAFETY: the kernel reads `NODE_BITS` bits of `set`, which has as many; see `max_node`.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, set.as_ptr(), max_node()) };
    result_of(result)
}

/// Sends the pages of a mapping to `node`, those that nobody has touched yet.
///
/// # Safety
/// `start` and `bytes` are those of a mapping of this process, or whole pages of one.
pub(crate) unsafe fn bind(start: *mut u8, bytes: usize, node: u32) -> Policy {
    let set = match node_set(node) {
        Ok(set) => set,
        Err(error) => return Policy::Refused(error.to_string()),
    };
    let bind = |mode: libc::c_int| {
        let mode = mode | libc::MPOL_F_STATIC_NODES;
        // SAFETY: the range is the caller's; the kernel reads `NODE_BITS` bits of `set`, which has as
        // many. No page is moved, because none was touched and no flag asks for it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                start,
                bytes,
                mode,
                set.as_ptr(),
                max_node(),
                0,
            )
        };
        result_of(result)
    };
    // What is bound to a full node isn't refused: it ends a process (mm/oom_kill.c).
    let bound = match has_room(node, bytes) {
        true => bind(libc::MPOL_BIND),
        false => Err(io::ErrorKind::OutOfMemory.into()),
    };
    match bound {
        Ok(()) => Policy::Bound(node),
        Err(_) => match bind(libc::MPOL_PREFERRED) {
            Ok(()) => Policy::Preferred(node),
            Err(error) => Policy::Refused(explain("mbind", &error)),
        },
    }
}

/// Whether a node has so many bytes, and some to spare, by its own account; where that isn't known it
/// is taken to.
fn has_room(node: u32, bytes: usize) -> bool {
    let path = format!("/sys/devices/system/node/node{node}/meminfo");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let available = available_bytes(&text);
    available.is_none_or(|available| available >= bytes.saturating_add(SPARED_BYTES))
}

/// What is free on a node, or holds files that can be read again.
fn available_bytes(meminfo: &str) -> Option<usize> {
    let count = |name: &str| -> Option<usize> {
        let line = meminfo.lines().find(|line| line.contains(name))?;
        let mut words = line.split_once(name)?.1.split_whitespace();
        words.next()?.parse::<usize>().ok()?.checked_mul(1024)
    };
    let files = [" Active(file):", " Inactive(file):"].map(|name| count(name).unwrap_or(0));
    count(" MemFree:")?
        .checked_add(files[0])?
        .checked_add(files[1])
}

/// What a refused policy most likely means.
pub fn explain(operation: &str, error: &io::Error) -> String {
    let (name, cause) = match error.raw_os_error() {
        Some(libc::EPERM) => (
            "EPERM",
            "most likely the container's seccomp profile, which wants CAP_SYS_NICE",
        ),
        Some(libc::ENOSYS) => (
            "ENOSYS",
            "this kernel has no NUMA, or a seccomp profile hides it",
        ),
        Some(libc::EINVAL) => ("EINVAL", "no such node, or one without memory for us"),
        _ => return format!("{operation}: {error}"),
    };
    format!("{operation}: {name}, {cause}")
}

/// Makes every page of a mapping be there, so that none is faulted in later.
///
/// # Errors
/// As `madvise(2)`: `EINVAL` before Linux 5.14; `EFAULT` where touching a page would be a SIGBUS,
/// because no reserved huge page is free on its node; `ENOMEM`.
///
/// # Safety
/// `start` and `bytes` are those of a writable mapping of this process.
pub(crate) unsafe fn populate(start: *mut u8, bytes: usize) -> io::Result<()> {
    // SAFETY: the range is a mapping, by the caller's promise; its content stays as it is.
    let result = unsafe { libc::madvise(start.cast(), bytes, MADV_POPULATE_WRITE) };
    result_of(result.into())
}

/// Lets the kernel make huge pages of a mapping, where it does such a thing.
///
/// # Safety
/// `start` and `bytes` are those of a mapping of this process.
pub(crate) unsafe fn allow_huge_pages(start: *mut u8, bytes: usize) {
    // SAFETY: the range is a mapping, by the caller's promise. It is advice: a kernel that doesn't
    // take it changes nothing.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// How many pages of a mapping there are on each node; those that nobody has touched aren't anywhere.
///
/// # Errors
/// As `move_pages(2)`, explained.
pub(crate) fn residence(start: *mut u8, bytes: usize) -> Result<BTreeMap<u32, usize>, String> {
    let page = rustix::param::page_size();
    let mut found = BTreeMap::new();
    let mut pages: Vec<*mut u8> = Vec::with_capacity(ASKED_PAGES);
    let all = (0..bytes)
        .step_by(page)
        .map(|offset| start.wrapping_add(offset));
    for address in all {
        pages.push(address);
        if pages.len() == ASKED_PAGES {
            count_nodes(&pages, &mut found)?;
            pages.clear();
        }
    }
    count_nodes(&pages, &mut found)?;
    Ok(found)
}

fn count_nodes(pages: &[*mut u8], found: &mut BTreeMap<u32, usize>) -> Result<(), String> {
    let mut nodes = [0 as libc::c_int; ASKED_PAGES];
    let this_process = 0;
    let only_tell = std::ptr::null::<libc::c_int>();
    // SAFETY: the kernel reads `pages.len()` addresses, which need not be valid, and writes as many
    // numbers to `nodes`, which has room for all. Without nodes to move to, no page is moved.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            this_process,
            pages.len(),
            pages.as_ptr(),
            only_tell,
            nodes.as_mut_ptr(),
            0,
        )
    };
    result_of(result).map_err(|error| explain("move_pages", &error))?;
    for node in &nodes[..pages.len()] {
        // A negative one is an error: most likely the page isn't there.
        if let Ok(node) = u32::try_from(*node) {
            *found.entry(node).or_default() += 1;
        }
    }
    Ok(())
}

/// A set of one node.
fn node_set(node: u32) -> io::Result<[u64; NODE_BITS / WORD_BITS]> {
    let mut set = [0; NODE_BITS / WORD_BITS];
    let word = set.get_mut(node as usize / WORD_BITS);
    let word = word.ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (node as usize % WORD_BITS);
    Ok(set)
}

/// The kernel looks at one bit less than it is told (`get_nodes`, mm/mempolicy.c).
const fn max_node() -> usize {
    NODE_BITS + 1
}

fn result_of(result: libc::c_long) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_nodes_are_read() {
        let check = |text: &str, expect: &[u32]| assert_eq!(parse_nodes(text), expect, "{text:?}");
        check("0\n", &[0]);
        check("0-1,8", &[0, 1, 8]);
        check("", &[]);
        check("x,3", &[3]);
        check("1-", &[]);
        check("0-4294967295", &[]);
    }

    #[test]
    fn this_machine_has_a_node_with_memory() {
        let nodes = memory_nodes();
        assert!(!nodes.is_empty());
        let here = current_node();
        let distances = distances(here);
        if !distances.is_empty() {
            let nearest = distances.values().min();
            assert_eq!(distances.get(&here), nearest, "{distances:?}");
        }
    }

    #[test]
    fn a_node_beyond_any_kernel_is_refused() {
        let error = prefer_node(1024).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let explained = explain("mbind", &io::Error::from_raw_os_error(libc::EPERM));
        let expect = "mbind: EPERM, most likely the container's seccomp profile, which wants \
                      CAP_SYS_NICE";
        assert_eq!(explained, expect);
    }

    #[test]
    fn what_a_node_has_left_is_read() {
        let check = |text: &str, expect| assert_eq!(available_bytes(text), expect, "{text:?}");
        let line = |name: &str, kib: &str| format!("Node 1 {name}:  {kib} kB\n");
        let free = line("MemFree", "100");
        let files = [line("Active(file)", "20"), line("Inactive(file)", "3")].concat();
        let others = [line("Active", "500"), line("Inactive(anon)", "500")].concat();
        check(
            &[&*line("MemTotal", "9000"), &free, &others].concat(),
            Some(100 << 10),
        );
        check(&[&*free, &others, &files].concat(), Some(123 << 10));
        check("", None);
        check(&line("MemFree", "much"), None);
        check(&line("MemFree", "18446744073709551615"), None);
        let (node, most) = (memory_nodes()[0], usize::MAX);
        let is_told = Path::new(&format!("/sys/devices/system/node/node{node}/meminfo")).exists();
        assert_eq!(has_room(node, most), !is_told);
        assert!(has_room(1023, most), "what isn't known is no reason");
    }

    #[test]
    fn a_page_is_where_it_was_sent_or_it_is_told_why_not() {
        if let Err(error) = try_node(memory_nodes()[0]) {
            eprintln!("SKIP a_page_is_where_it_was_sent_or_it_is_told_why_not: {error}");
        }
        let why = try_node(1023).unwrap_err();
        assert!(why.contains(": E"), "{why}");
    }

    #[test]
    fn a_thread_can_prefer_its_node() {
        let preferring = std::thread::spawn(|| prefer_node(memory_nodes()[0]));
        if let Err(error) = preferring.join().unwrap() {
            eprintln!("SKIP a_thread_can_prefer_its_node: {error}");
        }
    }
}
