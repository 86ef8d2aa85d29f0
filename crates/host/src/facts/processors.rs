//! Processors and NUMA nodes: which there are, what they share, and which of them we may use.

use super::{Fact, cgroup, cpu_list, number, numbered, small_number, text};
use crate::cpulist::CpuList;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// Above any number of nodes (`NODES_SHIFT` is at most 10).
const MOST_NODES: u32 = 1024;
/// Above any number of caches of a processor.
const MOST_CACHES: u32 = 16;

/// All processors, and what limits us to some of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Processors {
    /// Those that run.
    pub online: Fact<CpuList>,
    /// Those that are there.
    pub present: Fact<CpuList>,
    /// Those kept from the scheduler at boot.
    pub isolated: Fact<CpuList>,
    /// Those without a tick while one task runs.
    pub nohz_full: Fact<CpuList>,
    /// Those that this process may run on (affinity, which shows a cpuset too).
    pub affinity: Fact<CpuList>,
    /// Those that the control group leaves us.
    pub cpuset: Fact<CpuList>,
    /// How many processors' time the control group leaves us; `null` for all.
    pub quota: Fact<Option<f64>>,
    /// What governs the clock of the first.
    pub governor: Fact<String>,
    /// What puts idle ones to sleep.
    pub idle_driver: Fact<String>,
    /// Where the time comes from.
    pub clock_source: Fact<String>,
    /// Each that is online, by ascending number.
    pub each: Vec<Processor>,
}

/// One processor as the kernel counts them: a hyperthread, where there are those.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// Its number.
    pub id: u32,
    /// All hyperthreads of its core, itself included.
    pub siblings: Fact<CpuList>,
    /// Its socket.
    pub package: Fact<u32>,
    /// Those that share its last cache.
    pub last_cache: Fact<CpuList>,
    /// Its NUMA node.
    pub node: Fact<u32>,
    /// Its speed in 1,024ths of the fastest, where cores differ.
    pub capacity: Fact<u32>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number; numbers may have gaps.
    pub id: u32,
    /// Its processors; may be none.
    pub cpus: Fact<CpuList>,
    /// Its memory in bytes; may be 0.
    pub memory_bytes: Fact<u64>,
    /// Its distance to each node, itself included: pairs of node and distance.
    pub distances: Fact<Vec<(u32, u32)>>,
    /// Its reserved huge pages.
    pub huge_pages: Vec<HugePages>,
}

/// Huge pages of one size that were reserved on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HugePages {
    /// The size of each in KiB.
    pub size_kib: u64,
    /// How many there are.
    pub total: Fact<u64>,
    /// How many are free.
    pub free: Fact<u64>,
}

impl Processors {
    /// Those that we may use: online, allowed by affinity and control group. What can't be known
    /// limits nothing.
    pub fn usable(&self) -> CpuList {
        let mut usable = match self.online.known() {
            Some(online) => online.clone(),
            None => self.each.iter().map(|cpu| cpu.id).collect(),
        };
        for limit in [&self.affinity, &self.cpuset] {
            if let Some(limit) = limit.known().filter(|limit| !limit.is_empty()) {
                usable = usable.intersection(limit);
            }
        }
        usable
    }

    /// One of them.
    pub fn get(&self, id: u32) -> Option<&Processor> {
        let index = self.each.binary_search_by_key(&id, |cpu| cpu.id).ok()?;
        self.each.get(index)
    }
}

/// Reads the processors; `nodes` say which belongs to which.
pub(super) fn read(machine: &dyn Machine, nodes: &[Node]) -> Processors {
    let file = |name: &str| format!("{CPUS}/{name}");
    let online: Fact<CpuList> = cpu_list(machine, &file("online")).into();
    let ids = match &online {
        Fact::Known(online) => online.iter().collect(),
        Fact::Unknown(_) => numbered(machine, CPUS, "cpu", 1 << 16).unwrap_or_default(),
    };
    Processors {
        present: cpu_list(machine, &file("present")).into(),
        isolated: cpu_list(machine, &file("isolated")).into(),
        nohz_full: no_tick(machine, &file("nohz_full")).into(),
        affinity: affinity(machine).into(),
        cpuset: cgroup::cpuset(machine).into(),
        quota: cgroup::quota(machine).into(),
        governor: text(machine, &file("cpu0/cpufreq/scaling_governor")).into(),
        idle_driver: text(machine, &file("cpuidle/current_driver")).into(),
        clock_source: text(
            machine,
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
        .into(),
        each: each(machine, &ids, nodes),
        online,
    }
}

fn each(machine: &dyn Machine, ids: &[u32], nodes: &[Node]) -> Vec<Processor> {
    // Caches are read once for all that share them: on 1,024 CPUs that is most of the reading.
    let mut caches: BTreeMap<u32, CpuList> = BTreeMap::new();
    let processor = |&id: &u32| {
        let file = |name: &str| format!("{CPUS}/cpu{id}/{name}");
        if !caches.contains_key(&id)
            && let Ok(shared) = last_cache(machine, id)
        {
            caches.extend(shared.iter().map(|cpu| (cpu, shared.clone())));
        }
        let node = nodes.iter().find(|node| {
            let cpus = node.cpus.known();
            cpus.is_some_and(|cpus| cpus.contains(id))
        });
        Processor {
            id,
            siblings: cpu_list(machine, &file("topology/core_cpus_list"))
                // Its name before 5.3.
                .or_else(|_| cpu_list(machine, &file("topology/thread_siblings_list")))
                .and_then(|list| holds(list, id))
                .into(),
            package: small_number(machine, &file("topology/physical_package_id")).into(),
            last_cache: caches
                .get(&id)
                .cloned()
                .ok_or_else(|| "no cache is described".to_owned())
                .into(),
            node: node
                .map(|node| node.id)
                .ok_or_else(|| "on no node".to_owned())
                .into(),
            capacity: small_number(machine, &file("cpu_capacity")).into(),
        }
    };
    ids.iter().map(processor).collect()
}

/// A list of what a processor shares has to hold itself.
fn holds(list: CpuList, id: u32) -> Result<CpuList, String> {
    if list.contains(id) {
        Ok(list)
    } else {
        Err(format!(
            "processor {id} is not among its own siblings ({list})"
        ))
    }
}

fn last_cache(machine: &dyn Machine, id: u32) -> Result<CpuList, String> {
    let folder = format!("{CPUS}/cpu{id}/cache");
    let indexes = numbered(machine, &folder, "index", MOST_CACHES)?;
    let level = |index: &u32| small_number(machine, &format!("{folder}/index{index}/level")).ok();
    let last = indexes.iter().max_by_key(|index| level(index));
    let last = last.ok_or_else(|| format!("/{folder}: no cache"))?;
    let shared = cpu_list(machine, &format!("{folder}/index{last}/shared_cpu_list"))?;
    holds(shared, id)
}

/// `(null)` is what the kernel prints when the list was never made.
fn no_tick(machine: &dyn Machine, path: &str) -> Result<CpuList, String> {
    let text = text(machine, path)?;
    if text == "(null)" {
        return Ok(CpuList::default());
    }
    text.parse().map_err(|why| format!("/{path}: {why}"))
}

fn affinity(machine: &dyn Machine) -> Result<CpuList, String> {
    let path = "proc/self/status";
    let status = machine.read(path)?;
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.ok_or_else(|| format!("/{path}: no Cpus_allowed_list"))?;
    list.parse().map_err(|why| format!("/{path}: {why}"))
}

/// Reads the NUMA nodes. A kernel built without NUMA has none, which is one node to us.
pub(super) fn nodes(machine: &dyn Machine) -> Result<Vec<Node>, String> {
    let ids: Vec<u32> = match cpu_list(machine, &format!("{NODES}/online")) {
        Ok(online) => online.iter().collect(),
        Err(_) => numbered(machine, NODES, "node", MOST_NODES)?,
    };
    if ids.is_empty() || ids.len() > MOST_NODES as usize {
        return Err(format!("/{NODES}: {} nodes", ids.len()));
    }
    Ok(ids.iter().map(|&id| node(machine, id, &ids)).collect())
}

fn node(machine: &dyn Machine, id: u32, all: &[u32]) -> Node {
    let folder = format!("{NODES}/node{id}");
    let pages = format!("{folder}/hugepages");
    let sizes = machine.list(&pages).unwrap_or_default();
    let huge_pages = sizes.iter().filter_map(|name| {
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        Some(HugePages {
            size_kib: size.parse().ok()?,
            total: number(machine, &format!("{pages}/{name}/nr_hugepages")).into(),
            free: number(machine, &format!("{pages}/{name}/free_hugepages")).into(),
        })
    });
    Node {
        id,
        cpus: cpu_list(machine, &format!("{folder}/cpulist")).into(),
        memory_bytes: memory(machine, &format!("{folder}/meminfo")).into(),
        distances: distances(machine, &format!("{folder}/distance"), all).into(),
        huge_pages: huge_pages.collect(),
    }
}

/// Reads the total of `Node 0 MemTotal: 12345 kB`.
fn memory(machine: &dyn Machine, path: &str) -> Result<u64, String> {
    let wrong = || format!("/{path}: no MemTotal");
    let text = machine.read(path)?;
    let total = text.lines().find_map(|line| line.split_once("MemTotal:"));
    let (_, total) = total.ok_or_else(wrong)?;
    let kib = total.trim().trim_end_matches("kB").trim_end();
    let kib: u64 = kib.parse().map_err(|_| wrong())?;
    kib.checked_mul(1024).ok_or_else(wrong)
}

/// A row of distances names the nodes that are online, in their order.
fn distances(machine: &dyn Machine, path: &str, all: &[u32]) -> Result<Vec<(u32, u32)>, String> {
    let text = machine.read(path)?;
    let row: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
    let row = row.map_err(|_| format!("/{path}: not a row of numbers"))?;
    if row.len() != all.len() {
        return Err(format!(
            "/{path}: distances: {}, nodes: {}",
            row.len(),
            all.len()
        ));
    }
    Ok(all.iter().copied().zip(row).collect())
}
