//! Where workers go: which processor each has, which queue feeds it, which node its memory is on.
//! A pure function of the facts, used by `tune`, `doctor` and the server alike, so that what one of
//! them prepares suits what another does. Nothing is moved here.
//!
//! The order of processors: one hyperthread of each core before any second one, the device's node
//! before others, others by their distance, faster cores first, neighbours in a cache together; on
//! more than four cores processor 0 last, because kernels put their own work there.

use crate::cpulist::CpuList;
use crate::facts::{Fact, Ground, Nic, Node, Processor};
use crate::intent::Intent;
use crate::probes::Channels;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Cores from which on processor 0 is left to the kernel as long as another is free.
const CORES_TO_SPARE_ONE: usize = 5;

/// Workers for which there is a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// One for each worker.
    pub workers: Vec<WorkerPlace>,
    /// The device that it was made for.
    pub nic: Option<String>,
    /// The queues that should receive, and where their interrupts should go.
    pub queues: Vec<QueuePlace>,
    /// The processors on which the device's packets are received as things are.
    pub arrivals: Fact<CpuList>,
    /// What a reader should know: why so many, what was not known.
    pub notes: Vec<String>,
}

/// A worker's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerPlace {
    /// Its processor.
    pub cpu: u32,
    /// The node of that; unknown without NUMA.
    pub node: Option<u32>,
    /// The nearest node that has memory.
    pub memory_node: Option<u32>,
    /// The queue that feeds it, as an index into [`Placement::queues`].
    pub queue: Option<u32>,
}

/// A queue's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuePlace {
    /// The processor that takes its interrupt.
    pub interrupt_cpu: u32,
    /// The workers' processors that it feeds.
    pub feeds: CpuList,
    /// The processors that its packets are spread over in software; empty when each worker has a
    /// queue.
    pub spread: CpuList,
}

impl fmt::Display for Placement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus: CpuList = self.workers.iter().map(|worker| worker.cpu).collect();
        let workers = counted(self.workers.len(), "worker");
        write!(out, "{workers} on CPU {cpus}")?;
        if let Some(nic) = &self.nic {
            let queues = counted(self.queues.len(), "queue");
            write!(out, ", {queues} of {nic}")?;
        }
        Ok(())
    }
}

/// So many of them, in words that agree: `1 queue`, `0 queues`, `2 entries`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        return format!("{count} {noun}");
    }
    match noun.strip_suffix("ry") {
        Some(stem) => format!("{count} {stem}ries"),
        None => format!("{count} {noun}s"),
    }
}

/// Places the workers.
///
/// # Errors
/// When no processor is left to use.
pub fn plan(facts: Ground<'_>, intent: &Intent) -> Result<Placement, String> {
    let nic = facts.nic(intent.nic.as_deref());
    let mut notes = Vec::new();
    let candidates = candidates(facts, intent);
    if candidates.is_empty() {
        return Err(match &intent.cpus {
            Some(asked) if !facts.processors.usable().is_empty() => format!(
                "none of the processors that were asked for ({asked}) may be used, but {}",
                facts.processors.usable()
            ),
            _ => "no processor is left: none is both online and allowed".to_owned(),
        });
    }
    let near = near_node(facts, nic, &candidates, &mut notes);
    let order = Order::new(facts, candidates, near);
    let count = worker_count(facts, intent, &order, &mut notes);
    let cpus: Vec<u32> = order.cpus.iter().copied().cycle().take(count).collect();
    let queue_count = nic.map_or(0, |nic| queue_count(nic, intent, count));
    let workers = cpus.iter().enumerate().map(|(index, &cpu)| {
        let node = facts
            .processors
            .get(cpu)
            .and_then(|cpu| cpu.node.known().copied());
        WorkerPlace {
            cpu,
            node,
            memory_node: node.and_then(|node| memory_node(facts.nodes, node)),
            queue: queue_of(index, count, queue_count),
        }
    });
    let workers: Vec<WorkerPlace> = workers.collect();
    let queues =
        (0..queue_count).filter_map(|queue| place_queue(&workers, queue, queue_count, count));
    Ok(Placement {
        queues: queues.collect(),
        arrivals: nic.map_or_else(no_device, Nic::receiving_cpus).into(),
        nic: nic.map(|nic| nic.name.clone()),
        workers,
        notes,
    })
}

fn no_device() -> Result<CpuList, String> {
    Err("no physical network device is seen".to_owned())
}

impl Placement {
    /// Where workers go when nothing is known but the processors that this process may use.
    pub fn without_facts(cpus: &[u32], intent: &Intent, why: &str) -> Placement {
        let count = intent.workers.unwrap_or(cpus.len()).max(1);
        let worker = |&cpu: &u32| WorkerPlace {
            cpu,
            node: None,
            memory_node: None,
            queue: None,
        };
        Placement {
            workers: cpus.iter().cycle().take(count).map(worker).collect(),
            nic: None,
            queues: Vec::new(),
            arrivals: Fact::Unknown(why.to_owned()),
            notes: vec![why.to_owned()],
        }
    }

    /// Whether no two workers share a processor.
    pub fn is_one_to_one(&self) -> bool {
        let cpus: CpuList = self.workers.iter().map(|worker| worker.cpu).collect();
        cpus.len() == self.workers.len()
    }

    /// Whether packets of the device come in on every worker's processor, so that each connection can
    /// be left to the worker where it came in without any of them going short.
    ///
    /// # Errors
    /// What stands against it.
    pub fn feeds_every_worker(&self) -> Result<(), String> {
        let arrivals = self.arrivals.as_result()?;
        let fasting: CpuList = self.workers.iter().map(|worker| worker.cpu).collect();
        let fasting = fasting.without(arrivals);
        let nic = self.nic.as_deref().unwrap_or("the device");
        match fasting.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{nic} receives on CPU {arrivals}, and nothing on CPU {fasting}"
            )),
        }
    }
}

/// Which queue feeds worker `index`: neighbours share one when there are fewer queues.
fn queue_of(index: usize, workers: usize, queues: usize) -> Option<u32> {
    if queues == 0 {
        return None;
    }
    let queue = if queues >= workers {
        index
    } else {
        index * queues / workers
    };
    u32::try_from(queue).ok()
}

fn place_queue(
    workers: &[WorkerPlace],
    queue: usize,
    queues: usize,
    count: usize,
) -> Option<QueuePlace> {
    let fed = workers
        .iter()
        .filter(|worker| worker.queue.map(|fed| fed as usize) == Some(queue));
    let cpus: Vec<u32> = fed.map(|worker| worker.cpu).collect();
    let interrupt_cpu = *cpus.first()?;
    let feeds: CpuList = cpus.iter().copied().collect();
    let mut spread = CpuList::default();
    if queues < count {
        spread = feeds.clone();
        if feeds.len() > 2 {
            // The one that takes the interrupts is busy with them.
            spread = feeds.without(&[interrupt_cpu].into_iter().collect());
        }
    }
    Some(QueuePlace {
        interrupt_cpu,
        feeds,
        spread,
    })
}

/// The node that workers should be on: the device's, or the nearest to it that has processors for
/// us; `None` when that isn't known or makes no difference.
fn near_node(
    facts: Ground<'_>,
    nic: Option<&Nic>,
    candidates: &CpuList,
    notes: &mut Vec<String>,
) -> Option<u32> {
    let nodes = facts.nodes;
    if nodes.len() < 2 {
        return None;
    }
    let Some(nic) = nic else {
        notes.push("no physical network device is seen: all nodes are alike".to_owned());
        return None;
    };
    let Some(Some(node)) = nic.node.known().copied() else {
        notes.push(format!(
            "the node of {} isn't known: all nodes are alike",
            nic.name
        ));
        return None;
    };
    let has_cpus = |node: &&Node| {
        let cpus = node.cpus.known();
        cpus.is_some_and(|cpus| !cpus.intersection(candidates).is_empty())
    };
    let nearest = nodes
        .iter()
        .filter(has_cpus)
        .min_by_key(|other| distance(nodes, node, other.id));
    let nearest = nearest?.id;
    if nearest != node {
        notes.push(format!(
            "node {node} of {} has no processor for us: node {nearest} is the nearest",
            nic.name
        ));
    }
    Some(nearest)
}

/// What was asked for of what may be used; or all of it, without what was set apart at boot, unless
/// nothing else is left.
pub(crate) fn candidates(facts: Ground<'_>, intent: &Intent) -> CpuList {
    let usable = facts.processors.usable();
    if let Some(asked) = &intent.cpus {
        return usable.intersection(asked);
    }
    let isolated = facts.processors.isolated.known();
    let rest = isolated.map(|isolated| usable.without(isolated));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(usable)
}

/// The distance from a node to another; itself first, unknown ones last.
fn distance(nodes: &[Node], from: u32, to: u32) -> (u32, u32) {
    if from == to {
        return (0, to);
    }
    let from = nodes.iter().find(|node| node.id == from);
    let distances = from.and_then(|node| node.distances.known());
    let distance = distances.and_then(|all| all.iter().find(|(node, _)| *node == to));
    (distance.map_or(u32::MAX, |(_, distance)| *distance), to)
}

fn memory_node(nodes: &[Node], near: u32) -> Option<u32> {
    let has_memory = |node: &&Node| node.memory_bytes.known().is_some_and(|&bytes| bytes > 0);
    let nearest = nodes
        .iter()
        .filter(has_memory)
        .min_by_key(|node| distance(nodes, near, node.id));
    nearest.map(|node| node.id)
}

/// Processors in the order in which they are used.
struct Order {
    cpus: Vec<u32>,
    /// How many cores are on the near node: first threads only.
    near_cores: usize,
}

impl Order {
    fn new(facts: Ground<'_>, candidates: CpuList, near: Option<u32>) -> Order {
        let nodes = facts.nodes;
        let mut cpus: Vec<&Processor> = facts.processors.each.iter().collect();
        cpus.retain(|cpu| candidates.contains(cpu.id));
        // Which thread of its core each is, counting only those that may be used.
        let mut threads: BTreeMap<u32, usize> = BTreeMap::new();
        for cpu in &cpus {
            let siblings = cpu
                .siblings
                .known()
                .map(|list| list.intersection(&candidates));
            let before =
                siblings.map_or(0, |list| list.iter().take_while(|&id| id < cpu.id).count());
            threads.insert(cpu.id, before);
        }
        let is_first = |cpu: &&&Processor| threads.get(&cpu.id) == Some(&0);
        let cores = cpus.iter().filter(is_first).count();
        let is_near = |cpu: &Processor| near.is_none() || cpu.node.known().copied() == near;
        let near_cores = cpus
            .iter()
            .filter(is_first)
            .filter(|cpu| is_near(cpu))
            .count();
        cpus.sort_by_key(|cpu| {
            let away = near.and_then(|near| Some(distance(nodes, near, *cpu.node.known()?)));
            let cache = cpu.last_cache.known().and_then(CpuList::first);
            let speed = cpu.capacity.known().copied().unwrap_or(0);
            let spared = cpu.id == 0 && cores >= CORES_TO_SPARE_ONE;
            let thread = threads.get(&cpu.id).copied().unwrap_or(0);
            (thread, away, spared, u32::MAX - speed, cache, cpu.id)
        });
        Order {
            cpus: cpus.iter().map(|cpu| cpu.id).collect(),
            near_cores,
        }
    }
}

fn worker_count(
    facts: Ground<'_>,
    intent: &Intent,
    order: &Order,
    notes: &mut Vec<String>,
) -> usize {
    let asked = intent.workers.filter(|&asked| asked > 0);
    if let Some(asked) = asked.filter(|&asked| asked > order.cpus.len()) {
        let cpus = counted(order.cpus.len(), "processor");
        notes.push(format!("{asked} workers share {cpus}, as was asked"));
    }
    let cores = match (asked, &intent.cpus) {
        (Some(asked), _) => asked,
        (None, Some(_)) => order.cpus.len(),
        (None, None) => order.near_cores.max(1),
    };
    let Some(Some(quota)) = facts.processors.quota.known().copied() else {
        return cores;
    };
    // A quota is above 0 and below the number of processors of any machine, so this is exact.
    let whole = (quota.floor() as usize).max(1);
    if whole < cores {
        notes.push(format!(
            "the control group leaves the time of {}: more workers would only wait",
            counted(quota, "processor")
        ));
    }
    asked.unwrap_or(cores.min(whole))
}

/// How many queues the device should receive with: one a worker, as far as it has them.
fn queue_count(nic: &Nic, intent: &Intent, workers: usize) -> usize {
    let now = nic.receiving_queues();
    let most = nic.channels.known().map_or(0, Channels::most_receiving);
    let mut available = if intent.may_disrupt {
        now.max(most)
    } else {
        now
    };
    if let Some(rss) = nic.rss.known().filter(|rss| !rss.table.is_empty()) {
        available = available.min(u32::try_from(rss.table.len()).unwrap_or(u32::MAX));
    }
    workers.min(available as usize)
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn words_agree_with_their_numbers() {
        let check = |text: String, expect: &str| assert_eq!(text, expect);
        check(counted(0_usize, "queue"), "0 queues");
        check(counted(1_u32, "queue"), "1 queue");
        check(counted(1.0, "CPU"), "1 CPU");
        check(counted(1.5, "CPU"), "1.5 CPUs");
        check(counted(1_u64, "entry"), "1 entry");
        check(counted(2_u64, "entry"), "2 entries");
    }
}
