//! What a device's queues need: their number, interrupts, and what steers packets to and from them.

use super::{Action, Plan, Rule};
use crate::cpulist::CpuList;
use crate::facts::{Fact, Facts, Nic};
use crate::intent::{Goal, Intent};
use crate::machine::Target;
use crate::placement::{self, Placement, counted};
use crate::probes::{Channels, Setting};
use std::collections::BTreeMap;

/// Flows that are remembered at least, and at most (RFS), for all queues together.
const RFS_FLOWS: std::ops::RangeInclusive<u64> = 32_768..=1 << 20;

/// Descriptors beyond which a ring costs more cache than it saves packets.
const RING_MOST: u32 = 4096;

/// Processors that an interrupt is offered to, one after the other, beside the one that it is for.
/// Each offer is two synced lines of the journal.
const MOST_NEIGHBOURS: usize = 8;

pub(super) fn plan(facts: &Facts, intent: &Intent, placement: &Placement, plan: &mut Plan) {
    let Some(nic) = facts.nic(intent.nic.as_deref()) else {
        plan.notes
            .push("no physical network device is seen: nothing to do for queues".to_owned());
        return;
    };
    if placement.queues.is_empty() {
        plan.notes.push(format!("{} shows no queues", nic.name));
        return;
    }
    let may_move = ban_from_irqbalance(facts, nic, plan);
    if intent.may_disrupt && channels(nic, placement, plan) {
        let note = "what belongs to queues is planned again when their number has changed";
        plan.notes.push(note.to_owned());
        return;
    }
    rings(nic, intent, plan);
    rss_table(nic, placement, plan);
    if may_move {
        interrupts(facts, intent, nic, placement, plan);
    }
    receive_steering(facts, intent, nic, placement, plan);
    send_steering(facts, nic, placement, plan);
}

/// Asks irqbalance to leave the device's interrupts alone; false when it can't be asked, and would
/// undo any move within seconds.
fn ban_from_irqbalance(facts: &Facts, nic: &Nic, plan: &mut Plan) -> bool {
    let irqbalance = match facts.irqbalance.as_result() {
        Ok(Some(irqbalance)) => irqbalance,
        Ok(None) => return true,
        Err(why) => {
            plan.notes.push(format!(
                "whether irqbalance runs isn't known ({why}): interrupts stay"
            ));
            return false;
        }
    };
    let banned = match irqbalance.banned.as_result() {
        Ok(banned) => banned,
        Err(why) => {
            let note = format!("irqbalance runs and can't be asked ({why}): interrupts stay");
            plan.notes.push(note);
            return false;
        }
    };
    let mut wanted = banned.clone();
    wanted.extend(nic.queue_irqs().map(|irq| irq.number));
    wanted.sort_unstable();
    wanted.dedup();
    let text = |numbers: &[u32]| {
        numbers
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    plan.push(Action {
        check: "irq.balance",
        target: Target::IrqbalanceBan,
        now: text(banned),
        new: text(&wanted),
        instead: Vec::new(),
        rule: Rule::Set,
        is_disruptive: false,
        why: "irqbalance would move the interrupts again within seconds".to_owned(),
    });
    true
}

/// Plans the number of queues; true when it changes.
fn channels(nic: &Nic, placement: &Placement, plan: &mut Plan) -> bool {
    let Some(channels) = nic.channels.known() else {
        return false;
    };
    let Ok(count) = u32::try_from(placement.queues.len()) else {
        return false;
    };
    if count == channels.receiving() || channels.most_receiving() == 0 {
        return false;
    }
    let set = |setting: Setting, now| Setting { now, ..setting };
    let wanted = if channels.combined.most > 0 {
        Channels {
            rx: set(channels.rx, 0),
            tx: set(channels.tx, 0),
            combined: set(channels.combined, count),
        }
    } else {
        Channels {
            rx: set(channels.rx, count),
            tx: set(channels.tx, count.min(channels.tx.most)),
            combined: channels.combined,
        }
    };
    // The kernel refuses to take a queue away that the table uses (ethtool_get_max_rxfh_channel).
    let table = nic.rss.known().map_or(&[][..], |rss| &rss.table);
    if table.iter().any(|&queue| queue >= count) {
        rss_table(nic, placement, plan);
    }
    let text = |channels: &Channels| {
        let (rx, tx) = (channels.rx.now, channels.tx.now);
        format!("rx {rx} tx {tx} combined {}", channels.combined.now)
    };
    plan.push(Action {
        check: "nic.channels",
        target: Target::Channels(nic.name.clone()),
        now: text(channels),
        new: text(&wanted),
        instead: Vec::new(),
        rule: Rule::Set,
        is_disruptive: true,
        why: format!(
            "{} for {}",
            counted(count, "queue"),
            counted(placement.workers.len(), "worker")
        ),
    });
    true
}

/// Rings grow only on evidence that they overflowed: a deep ring is a deep queue.
fn rings(nic: &Nic, intent: &Intent, plan: &mut Plan) {
    let Some(rings) = nic.rings.known() else {
        return;
    };
    let missed = ["rx_missed_errors", "rx_fifo_errors", "rx_over_errors"];
    let missed = missed.iter().filter_map(|name| nic.statistics.get(*name));
    let missed = missed.fold(0_u64, |sum, count| sum.saturating_add(*count));
    let wanted = rings.rx.most.min(RING_MOST);
    if missed == 0 || wanted <= rings.rx.now {
        return;
    }
    if !intent.may_disrupt {
        let note = format!(
            "{} missed {}, and deeper rings cut the link",
            nic.name,
            counted(missed, "packet")
        );
        plan.notes.push(note);
        return;
    }
    plan.push(Action {
        check: "nic.rings",
        target: Target::Rings(nic.name.clone()),
        now: format!("rx {} tx {}", rings.rx.now, rings.tx.now),
        new: format!("rx {wanted} tx {}", rings.tx.now),
        instead: Vec::new(),
        rule: Rule::Set,
        is_disruptive: true,
        why: format!("{} found no room in a ring", counted(missed, "packet")),
    });
}

/// Whether `table` spreads flows evenly over the first `queues` queues, and over no other.
pub(crate) fn is_even(table: &[u32], queues: u32) -> bool {
    let mut counts = BTreeMap::new();
    for queue in table {
        *counts.entry(*queue).or_insert(0_usize) += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    let least = counts.values().min().copied().unwrap_or(0);
    let all_used = (0..queues).all(|queue| counts.contains_key(&queue));
    all_used && counts.len() == queues as usize && most - least <= 1
}

fn rss_table(nic: &Nic, placement: &Placement, plan: &mut Plan) {
    let Some(rss) = nic.rss.known().filter(|rss| !rss.table.is_empty()) else {
        return;
    };
    let Ok(queues) = u32::try_from(placement.queues.len()) else {
        return;
    };
    if is_even(&rss.table, queues) {
        return;
    }
    let text = |table: &mut dyn Iterator<Item = u32>| {
        table
            .map(|queue| queue.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    plan.push(Action {
        check: "nic.rss_table",
        target: Target::RssTable(nic.name.clone()),
        now: text(&mut rss.table.iter().copied()),
        // As the kernel's own default (ethtool_rxfh_indir_default).
        new: text(&mut (0..queues).cycle().take(rss.table.len())),
        instead: Vec::new(),
        rule: Rule::Set,
        is_disruptive: false,
        why: format!("flows evenly over {}", counted(queues, "queue")),
    });
}

fn interrupts(facts: &Facts, intent: &Intent, nic: &Nic, placement: &Placement, plan: &mut Plan) {
    if let Err(why) = nic.irqs.as_result() {
        plan.notes.push(format!(
            "the interrupts of {} aren't known ({why})",
            nic.name
        ));
        return;
    }
    let usable = placement::candidates(facts.ground(), intent);
    for irq in nic.queue_irqs() {
        let Some((_, index)) = irq.queue else {
            continue;
        };
        let (Some(cpu), Some(now)) = (interrupt_cpu(nic, placement, index), irq.affinity.known())
        else {
            continue;
        };
        plan.push(Action {
            check: "irq.affinity",
            target: Target::Interrupt {
                nic: nic.name.clone(),
                name: irq.name.clone(),
            },
            now: now.to_string(),
            new: cpu.to_string(),
            instead: neighbours(facts, placement, &usable, cpu),
            rule: Rule::Set,
            is_disruptive: false,
            why: format!("queue {index} to the worker that it feeds"),
        });
    }
}

/// Where an interrupt may go when `cpu` has no room for it: what is usable and shares its last
/// cache, then the rest of its node; of each first its core's other threads, and before those that
/// take interrupts of other queues those that don't.
fn neighbours(facts: &Facts, placement: &Placement, usable: &CpuList, cpu: u32) -> Vec<String> {
    let processors = &facts.processors;
    let Some(own) = processors.get(cpu) else {
        return Vec::new();
    };
    let is_in = |list: &Fact<CpuList>, id| list.known().is_some_and(|list| list.contains(id));
    let taken: CpuList = placement.queues.iter().map(|q| q.interrupt_cpu).collect();
    let mut near: Vec<(bool, bool, bool, u32)> = Vec::new();
    for id in usable.iter().filter(|&id| id != cpu) {
        let shares_cache = is_in(&own.last_cache, id);
        let node = processors.get(id).and_then(|other| other.node.known());
        let is_on_node = node.is_some() && node == own.node.known();
        if shares_cache || is_on_node {
            let is_sibling = is_in(&own.siblings, id);
            near.push((!shares_cache, taken.contains(id), !is_sibling, id));
        }
    }
    near.sort_unstable();
    near.truncate(MOST_NEIGHBOURS);
    near.iter().map(|(.., id)| id.to_string()).collect()
}

/// The processor for a queue's interrupts. Queues beyond those of the placement get no flows where a
/// table keeps these away; without one they do as long as they receive, and interrupt the workers in
/// turn.
pub(crate) fn interrupt_cpu(nic: &Nic, placement: &Placement, index: u32) -> Option<u32> {
    let queues = &placement.queues;
    let index = index as usize;
    let has_table = nic.rss.known().is_some_and(|rss| !rss.table.is_empty());
    let is_idle = has_table || index >= nic.receiving_queues() as usize;
    if queues.is_empty() || is_idle && index >= queues.len() {
        return None;
    }
    queues
        .get(index % queues.len())
        .map(|queue| queue.interrupt_cpu)
}

/// RPS and RFS: off where each worker has a queue; where queues are fewer, on for throughput.
fn receive_steering(
    facts: &Facts,
    intent: &Intent,
    nic: &Nic,
    placement: &Placement,
    plan: &mut Plan,
) {
    let has_enough = placement.queues.len() >= placement.workers.len();
    let is_wanted = !has_enough && intent.goal == Some(Goal::Throughput);
    if !has_enough && !is_wanted {
        return;
    }
    let (check, why) = if has_enough {
        (
            "rps.redundant",
            "each worker has a queue: a second hop only costs",
        )
    } else {
        ("rps.needed", "there are fewer queues than workers")
    };
    for rx in &nic.rx_queues {
        let Some(now) = rx.rps_cpus.known() else {
            continue;
        };
        let place = placement.queues.get(rx.index as usize);
        let wanted = place.map(|queue| queue.spread.clone()).unwrap_or_default();
        plan.push(Action {
            check,
            target: queue_file(nic, "rx", rx.index, "rps_cpus"),
            now: now.to_mask(),
            new: wanted.to_mask(),
            instead: Vec::new(),
            rule: Rule::Set,
            is_disruptive: false,
            why: why.to_owned(),
        });
    }
    if is_wanted {
        flows(facts, intent, nic, placement, plan);
    }
}

/// RFS is off unless both its sizes are set (scaling.rst).
fn flows(facts: &Facts, intent: &Intent, nic: &Nic, placement: &Placement, plan: &mut Plan) {
    let name = "net.core.rps_sock_flow_entries";
    let Some(&now) = facts.sysctl_number(name).known() else {
        return;
    };
    let expected = intent.connections.unwrap_or(0).saturating_mul(2);
    let wanted = expected
        .clamp(*RFS_FLOWS.start(), *RFS_FLOWS.end())
        .next_power_of_two();
    let entries = now.max(wanted);
    let mut set = |target, now: u64, new: u64| {
        plan.push(Action {
            check: "rfs.complete",
            target,
            now: now.to_string(),
            new: new.to_string(),
            instead: Vec::new(),
            rule: Rule::RaiseOnly,
            is_disruptive: false,
            why: "a flow goes where its connection is read".to_owned(),
        });
    };
    set(Target::File(crate::facts::sysctl_path(name)), now, entries);
    let each = (entries / placement.queues.len() as u64).next_power_of_two();
    for rx in nic.rx_queues.iter().take(placement.queues.len()) {
        if let Some(&now) = rx.rps_flows.known() {
            set(queue_file(nic, "rx", rx.index, "rps_flow_cnt"), now, each);
        }
    }
}

fn queue_file(nic: &Nic, side: &str, index: u32, file: &str) -> Target {
    Target::File(format!(
        "sys/class/net/{}/queues/{side}-{index}/{file}",
        nic.name
    ))
}

/// XPS: each processor sends by the queue that feeds it, and by one queue only.
fn send_steering(facts: &Facts, nic: &Nic, placement: &Placement, plan: &mut Plan) {
    let masks: Option<Vec<&CpuList>> = nic.tx_queues.iter().map(|tx| tx.xps_cpus.known()).collect();
    let Some(masks) = masks.filter(|masks| masks.len() > 1) else {
        return;
    };
    let usable = facts.processors.usable();
    let queues = placement.queues.len().min(masks.len());
    if satisfies(&masks, placement, &usable, queues) {
        return;
    }
    let wanted = send_masks(facts, placement, &usable, queues);
    for (tx, now) in nic.tx_queues.iter().zip(masks) {
        let new = wanted.get(tx.index as usize).cloned().unwrap_or_default();
        plan.push(Action {
            check: "xps.map",
            target: queue_file(nic, "tx", tx.index, "xps_cpus"),
            now: now.to_mask(),
            new: new.to_mask(),
            instead: Vec::new(),
            rule: Rule::Set,
            is_disruptive: false,
            why: "each processor sends by one queue, its own".to_owned(),
        });
    }
}

/// Whether the masks do already: each processor in exactly one, each worker's with its queue.
fn satisfies(masks: &[&CpuList], placement: &Placement, usable: &CpuList, queues: usize) -> bool {
    let once = usable
        .iter()
        .all(|cpu| masks.iter().filter(|mask| mask.contains(cpu)).count() == 1);
    let own = placement.workers.iter().all(|worker| {
        let queue = worker.queue.map(|queue| queue as usize % queues.max(1));
        queue
            .and_then(|queue| masks.get(queue))
            .is_some_and(|mask| mask.contains(worker.cpu))
    });
    once && own
}

/// Deals every usable processor to one queue: a worker's to its own, others to that of a sibling,
/// else of a neighbour on its node, else in turn.
fn send_masks(
    facts: &Facts,
    placement: &Placement,
    usable: &CpuList,
    queues: usize,
) -> Vec<CpuList> {
    let mut masks = vec![CpuList::default(); queues];
    let mut owner: BTreeMap<u32, usize> = BTreeMap::new();
    for worker in &placement.workers {
        if let Some(queue) = worker.queue {
            owner
                .entry(worker.cpu)
                .or_insert(queue as usize % queues.max(1));
        }
    }
    let of_workers = owner.clone();
    for (turn, cpu) in usable
        .iter()
        .filter(|cpu| !of_workers.contains_key(cpu))
        .enumerate()
    {
        let processor = facts.processors.get(cpu);
        let siblings = processor.and_then(|cpu| cpu.siblings.known());
        let sibling = siblings.and_then(|list| list.iter().find_map(|id| of_workers.get(&id)));
        let on_node: Vec<usize> = placement
            .workers
            .iter()
            .filter(|worker| {
                let node = processor.and_then(|cpu| cpu.node.known());
                worker.node.is_some() && worker.node.as_ref() == node
            })
            .filter_map(|worker| of_workers.get(&worker.cpu).copied())
            .collect();
        let near = (!on_node.is_empty()).then(|| on_node[turn % on_node.len()]);
        let queue = sibling.copied().or(near).unwrap_or(turn % queues.max(1));
        owner.insert(cpu, queue);
    }
    for (cpu, queue) in owner {
        if let Some(mask) = masks.get_mut(queue).filter(|_| usable.contains(cpu)) {
            mask.insert(cpu);
        }
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::is_even;

    #[test]
    fn tables_are_even_over_exactly_the_queues() {
        assert!(is_even(&[0, 1, 2, 0, 1, 2, 0], 3));
        assert!(!is_even(&[0, 1, 0, 1], 3), "queue 2 gets nothing");
        assert!(!is_even(&[0, 1, 2, 3], 3), "queue 3 is not one of them");
        assert!(!is_even(&[0, 0, 0, 1], 2), "one gets more");
        assert!(is_even(&[0, 0], 1));
    }
}
