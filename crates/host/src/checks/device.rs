//! Checks of the network device: queues, interrupts, and what steers packets between them and the
//! processors.

use super::{Case, Check, Judged, Remedy, Severity, Verdict, judge, seen, settle};
use crate::facts::{DeviceKind, Nic};
use crate::placement::counted;
use crate::plan::queues::interrupt_cpu;
use crate::probes::KeyState;
use Remedy::{Advice, Tune, TuneWithLeave};
use Severity::{Info, Warning};
use Verdict::{Bad, Good, NotAsked, NotVisible, Note};

/// How much more the busiest interrupt may have than the mean before it is called skewed.
const MOST_SKEW: u64 = 2;

pub(super) const TABLE: &[Check] = &[
    Check {
        id: "nic.identity",
        reads: "/sys/class/net",
        good: "a physical device is found",
        why: "queues and interrupts belong to it, not to a bond or a VLAN above it",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |case| settle(identity(case)),
    },
    Check {
        id: "nic.channels",
        reads: "ethtool's channels",
        good: "a queue for each worker",
        why: "packets of one queue are taken in by one CPU",
        severity: Warning,
        remedy: TuneWithLeave,
        undo: "tune --revert",
        judge: |case| settle(channels(case)),
    },
    Check {
        id: "nic.rings",
        reads: "ethtool's rings",
        good: "deeper only when packets were missed",
        why: "a deep ring is a deep queue",
        severity: Info,
        remedy: TuneWithLeave,
        undo: "tune --revert",
        judge: |case| settle(rings(case)),
    },
    Check {
        id: "nic.drops",
        reads: "/sys/class/net/*/statistics",
        good: "nothing missed or in error",
        why: "each lost packet is a wait of a client",
        severity: Warning,
        remedy: Advice("look again in a minute: what grows is happening now"),
        undo: "nothing to undo",
        judge: |case| settle(drops(case)),
    },
    Check {
        id: "nic.offload",
        reads: "ethtool's features",
        good: "checksums, GRO, GSO and TSO on",
        why: "without them each packet costs a trip through the stack",
        severity: Warning,
        remedy: Advice("ethtool -K DEVICE gro on gso on tso on rx on"),
        undo: "the same with off",
        judge: |case| settle(offloads(case)),
    },
    Check {
        id: "nic.coalesce",
        reads: "ethtool's coalescing",
        good: "adaptive, or set",
        why: "an interrupt for each packet costs CPU, waiting for more costs time",
        severity: Info,
        remedy: Advice("ethtool -C DEVICE adaptive-rx on"),
        undo: "the old values",
        judge: |case| settle(coalescing(case)),
    },
    Check {
        id: "nic.rss_table",
        reads: "ethtool's indirection table",
        good: "even over the queues that feed workers",
        why: "a queue with more flows is the first to be late",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(rss_table(case)),
    },
    Check {
        id: "nic.rss_key",
        reads: "ethtool's hash key",
        good: "not one that is printed in manuals",
        why: "with a known key an attacker chooses which queue to flood",
        severity: Warning,
        remedy: Advice("remove what sets the key: the kernel's default is random"),
        undo: "set it again",
        judge: |case| settle(rss_key(case)),
    },
    Check {
        id: "irq.map",
        reads: "msi_irqs of the device's parent, /proc/interrupts",
        good: "every receive queue has an interrupt",
        why: "without it nothing can be said of where packets arrive",
        severity: Warning,
        remedy: Advice("report the names of this driver's interrupts (doctor --capture)"),
        undo: "nothing to undo",
        judge: |case| settle(interrupt_map(case)),
    },
    Check {
        id: "irq.affinity",
        reads: "/proc/irq/*/smp_affinity_list, effective_affinity_list",
        good: "each queue's interrupt on the CPU of the worker that it feeds",
        why: "a packet is in the cache of the CPU that took its interrupt",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(affinity(case)),
    },
    Check {
        id: "irq.managed",
        reads: "what the kernel answers to a change",
        good: "known",
        why: "the kernel keeps some interrupts to itself",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |_| NotVisible("only a change shows it; tune reports it".to_owned()),
    },
    Check {
        id: "irq.balance",
        reads: "irqbalance's socket, /proc/*/comm",
        good: "not running, or leaving the device's interrupts alone",
        why: "it moves interrupts again within seconds",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(irqbalance(case)),
    },
    Check {
        id: "irq.spread",
        reads: "/proc/interrupts",
        good: "no queue with twice the mean",
        why: "the busiest queue decides the slowest answers",
        severity: Info,
        remedy: Advice("few clients hash unevenly; with many, look at nic.rss_table"),
        undo: "nothing to undo",
        judge: |case| settle(spread(case)),
    },
    Check {
        id: "softirq.backlog",
        reads: "/proc/net/softnet_stat",
        good: "nothing dropped",
        why: "a full backlog loses packets without an error anywhere else",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(backlog(case)),
    },
    Check {
        id: "rps.redundant",
        reads: "queues/rx-*/rps_cpus",
        good: "off when each worker has a queue",
        why: "a second hop costs an interrupt between CPUs",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(redundant(case)),
    },
    Check {
        id: "rps.needed",
        reads: "queues/rx-*/rps_cpus",
        good: "on when queues are fewer than workers and throughput is the goal",
        why: "one CPU takes in all packets of a queue",
        severity: Info,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(needed(case)),
    },
    Check {
        id: "rfs.complete",
        reads: "rps_sock_flow_entries, queues/rx-*/rps_flow_cnt",
        good: "both or none",
        why: "half of it is none of it",
        severity: Warning,
        remedy: Advice(
            "set both, or neither (tune sets both with --goal throughput where it helps)",
        ),
        undo: "the old values",
        judge: |case| settle(flow_steering(case)),
    },
    Check {
        id: "xps.map",
        reads: "queues/tx-*/xps_cpus",
        good: "each CPU sends by one queue, its own",
        why: "CPUs that share a queue wait for its lock",
        severity: Info,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(send_map(case)),
    },
    Check {
        id: "arfs",
        reads: "ethtool's ntuple feature",
        good: "off",
        why: "with pinned workers it only rewrites the device's rules",
        severity: Info,
        remedy: Advice("ethtool -K DEVICE ntuple off, unless rules of your own need it"),
        undo: "ethtool -K DEVICE ntuple on",
        judge: |case| settle(accelerated(case)),
    },
];

fn identity(case: &Case) -> Judged {
    let nic = case.nic()?;
    let driver = nic.driver.known().map_or("unknown driver", String::as_str);
    let speed = match nic.speed_mbit.known() {
        Some(speed) => format!("{speed} Mbit/s"),
        None => "speed unknown".to_owned(),
    };
    let kind = match nic.kind {
        DeviceKind::Physical => "physical",
        DeviceKind::Wireless => "wireless",
        DeviceKind::Loopback => "loopback",
        DeviceKind::Bond => "a bond",
        DeviceKind::Vlan => "a VLAN",
        DeviceKind::Bridge => "a bridge",
        DeviceKind::Virtual => "virtual",
    };
    let found = format!("{}: {kind}, {driver}, {speed}", nic.name);
    if nic.lower.is_empty() {
        return Ok(Good(found));
    }
    Ok(Note(format!(
        "{found}; look at {} too (--nic)",
        nic.lower.join(", ")
    )))
}

fn channels(case: &Case) -> Judged {
    let nic = case.nic()?;
    let channels = seen(&nic.channels)?;
    let wanted = seen(&case.plan_with_leave.placement)?.queues.len();
    let workers = case.placement()?.workers.len();
    let found = format!(
        "{} of {} in use, for {}",
        channels.receiving(),
        counted(channels.most_receiving().max(channels.receiving()), "queue"),
        counted(workers, "worker")
    );
    if case.plan_with_leave.of("nic.channels").next().is_some() {
        return Ok(Bad(format!("{found}; {wanted} would be right")));
    }
    if (channels.receiving() as usize) < workers {
        return Ok(Note(format!("{found}; the device has no more")));
    }
    Ok(Good(found))
}

fn rings(case: &Case) -> Judged {
    let rings = seen(&case.nic()?.rings)?;
    let found = format!("{} of {} descriptors receive", rings.rx.now, rings.rx.most);
    Ok(judge(
        case.plan_with_leave.of("nic.rings").next().is_none(),
        found,
    ))
}

fn drops(case: &Case) -> Judged {
    let nic = case.nic()?;
    let names = [
        "rx_errors",
        "rx_missed_errors",
        "rx_fifo_errors",
        "rx_over_errors",
        "tx_errors",
    ];
    let mut counters = Vec::new();
    for name in names {
        counters.extend(nic.statistics.get(name).map(|count| (name, *count)));
    }
    if counters.is_empty() {
        return Err(NotVisible(format!("{} has no statistics", nic.name)));
    }
    let bad: Vec<String> = counters
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if bad.is_empty() {
        return Ok(Good("none since the device was made".to_owned()));
    }
    Ok(Bad(format!("{} since the device was made", bad.join(", "))))
}

fn offloads(case: &Case) -> Judged {
    let features = seen(&case.nic()?.features)?;
    let wanted = [
        "rx-checksum",
        "rx-gro",
        "tx-generic-segmentation",
        "tx-tcp-segmentation",
    ];
    let off: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| features.get(*name) == Some(&false))
        .collect();
    let routes = case.facts.sysctl("net.ipv4.ip_forward").known() == Some(&"1");
    if routes && features.get("rx-lro") == Some(&true) {
        return Ok(Bad(
            "LRO is on and this machine routes, which it breaks".to_owned()
        ));
    }
    if off.is_empty() {
        return Ok(Good("on".to_owned()));
    }
    Ok(Bad(format!("off: {}", off.join(", "))))
}

fn coalescing(case: &Case) -> Judged {
    let set = seen(&case.nic()?.coalescing)?;
    if set.adaptive_rx {
        return Ok(Good("adaptive".to_owned()));
    }
    let found = format!(
        "{} µs in, {} µs out",
        set.rx_microseconds, set.tx_microseconds
    );
    Ok(if set.rx_microseconds == 0 {
        Note(found)
    } else {
        Good(found)
    })
}

fn rss_table(case: &Case) -> Judged {
    let nic = case.nic()?;
    let rss = seen(&nic.rss)?;
    if rss.table.is_empty() {
        return Ok(Good(format!("{} spreads nothing", nic.name)));
    }
    let wanted = case.placement()?.queues.len();
    let used: std::collections::BTreeSet<&u32> = rss.table.iter().collect();
    let found = format!(
        "{} over {}, for {wanted}",
        counted(rss.table.len(), "entry"),
        counted(used.len(), "queue")
    );
    Ok(judge(case.plan.of("nic.rss_table").next().is_none(), found))
}

fn rss_key(case: &Case) -> Judged {
    Ok(match seen(&case.nic()?.rss)?.key {
        KeyState::Unremarkable => Good("not a known one".to_owned()),
        KeyState::Published => Bad("a published or repeating key".to_owned()),
        KeyState::Zero => Bad("all zero: every flow goes to one queue".to_owned()),
        KeyState::Hidden => return Err(NotVisible("the device shows no key".to_owned())),
    })
}

fn interrupt_map(case: &Case) -> Judged {
    let nic = case.nic()?;
    if nic.bus_device.known().is_none() && seen(&nic.irqs)?.is_empty() {
        return Ok(Note(format!(
            "{} is not a device with interrupts",
            nic.name
        )));
    }
    seen(&nic.irqs)?;
    let queues = nic.receiving_queues();
    let served = (0..queues).filter(|&index| serves(nic, index)).count();
    Ok(judge(
        served == queues as usize,
        format!(
            "{served} of {} with an interrupt that is known",
            counted(queues, "queue")
        ),
    ))
}

fn serves(nic: &Nic, index: u32) -> bool {
    use crate::facts::Direction;
    nic.queue_irqs().any(|irq| {
        irq.queue
            .is_some_and(|(side, queue)| queue == index && side != Direction::Tx)
    })
}

fn affinity(case: &Case) -> Judged {
    let nic = case.nic()?;
    seen(&nic.irqs)?;
    let all = nic.queue_irqs().count();
    if all == 0 && nic.bus_device.known().is_none() {
        return Ok(Note(format!(
            "{} is not a device with interrupts",
            nic.name
        )));
    }
    if all == 0 {
        return Err(NotVisible(format!(
            "no interrupt of {} is known by its queue",
            nic.name
        )));
    }
    let placement = case.placement()?;
    let away = nic.queue_irqs().filter(|irq| {
        let index = irq.queue.map_or(u32::MAX, |(_, index)| index);
        let wanted = interrupt_cpu(nic, placement, index);
        // A move takes effect with the next interrupt, which an idle queue may be long without: so
        // the one processor where it may go, else where it goes (kernels before 4.11 don't tell).
        let may_go = irq.affinity.known().filter(|cpus| cpus.len() == 1);
        let goes = may_go.or(irq.effective.known()).or(irq.affinity.known());
        let only = goes
            .filter(|cpus| cpus.len() == 1)
            .and_then(|cpus| cpus.first());
        wanted.is_some() && goes.is_some() && only != wanted
    });
    let away = away.count();
    Ok(judge(away == 0, format!("{away} of {all} elsewhere")))
}

fn irqbalance(case: &Case) -> Judged {
    let Some(irqbalance) = seen(&case.facts.irqbalance)? else {
        return Ok(Good("not running".to_owned()));
    };
    let banned = match irqbalance.banned.as_result() {
        Ok(banned) => banned,
        Err(why) => return Ok(Bad(format!("running; {why}"))),
    };
    let moved = case
        .nic()?
        .queue_irqs()
        .filter(|irq| !banned.contains(&irq.number));
    let moved = moved.count();
    Ok(judge(
        moved == 0,
        format!("running, and moving {moved} of the device's interrupts"),
    ))
}

fn spread(case: &Case) -> Judged {
    let nic = case.nic()?;
    seen(&nic.irqs)?;
    let counts: Vec<u64> = (0..nic.receiving_queues())
        .filter_map(|index| {
            use crate::facts::Direction;
            let mut irqs = nic.queue_irqs();
            let irq = irqs.find(|irq| {
                irq.queue
                    .is_some_and(|(side, queue)| queue == index && side != Direction::Tx)
            });
            irq.map(|irq| irq.count)
        })
        .collect();
    let queues = counts.len() as u64;
    if queues < 2 {
        return Ok(Good("one queue".to_owned()));
    }
    let sum = counts
        .iter()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    let most = counts.iter().max().copied().unwrap_or(0);
    let busiest = counted(most, "interrupt");
    let found = format!("{busiest} on the busiest of {queues} queues, {sum} in all");
    Ok(
        if most.saturating_mul(queues) < sum.max(1).saturating_mul(MOST_SKEW) {
            Good(found)
        } else {
            Note(found)
        },
    )
}

fn backlog(case: &Case) -> Judged {
    let softnet = seen(&case.facts.counters.softnet)?;
    let sum = |of: fn(&crate::facts::Softnet) -> u64| {
        softnet
            .iter()
            .fold(0_u64, |sum, cpu| sum.saturating_add(of(cpu)))
    };
    let (dropped, squeezed) = (sum(|cpu| cpu.dropped), sum(|cpu| cpu.squeezed));
    let squeezed = counted(squeezed, "time");
    let found = format!("{dropped} dropped, {squeezed} out of budget, since start");
    // What was lost before the backlog was raised stays in the counters for good.
    let is_raised = case.plan.of("softirq.backlog").next().is_none();
    Ok(if dropped == 0 {
        Good(found)
    } else if is_raised
        && case
            .facts
            .sysctl("net.core.netdev_max_backlog")
            .known()
            .is_some()
    {
        Note(format!("{found}; the backlog is above its default now"))
    } else {
        Bad(found)
    })
}

/// How many receive queues hand packets on, when that is known of all.
fn spreading(nic: &Nic) -> Result<usize, Verdict> {
    if nic.rx_queues.is_empty() {
        return Err(NotVisible(format!("{} shows no receive queue", nic.name)));
    }
    let mut count = 0;
    for queue in &nic.rx_queues {
        count += usize::from(!seen(&queue.rps_cpus)?.is_empty());
    }
    Ok(count)
}

fn redundant(case: &Case) -> Judged {
    let count = spreading(case.nic()?)?;
    let placement = case.placement()?;
    let found = format!("packets of {} go on to other CPUs", counted(count, "queue"));
    let has_enough = placement.queues.len() >= placement.workers.len();
    Ok(judge(count == 0 || !has_enough, found))
}

fn needed(case: &Case) -> Judged {
    let count = spreading(case.nic()?)?;
    let placement = case.placement()?;
    let (queues, workers) = (placement.queues.len(), placement.workers.len());
    let (queue, worker) = (counted(queues, "queue"), counted(workers, "worker"));
    let found = format!("{queue} for {worker}, {count} with RPS");
    if queues >= workers {
        return Ok(Good(found));
    }
    match case.intent.goal {
        None => Err(NotAsked(format!(
            "{found}; whether that helps depends on --goal"
        ))),
        Some(_) => Ok(judge(case.plan.of("rps.needed").next().is_none(), found)),
    }
}

fn flow_steering(case: &Case) -> Judged {
    let entries = *seen(&case.facts.sysctl_number("net.core.rps_sock_flow_entries"))?;
    let nic = case.nic()?;
    let mut flows = 0_u64;
    for queue in &nic.rx_queues {
        flows = flows.saturating_add(*seen(&queue.rps_flows)?);
    }
    let (size, held) = (counted(entries, "entry"), counted(flows, "flow"));
    let found = format!("{size}, {held} in queues");
    Ok(judge((entries == 0) == (flows == 0), found))
}

fn send_map(case: &Case) -> Judged {
    let nic = case.nic()?;
    if nic.tx_queues.len() < 2 {
        return Ok(Good("one queue".to_owned()));
    }
    for queue in &nic.tx_queues {
        seen(&queue.xps_cpus)?;
    }
    let changes = case.plan.of("xps.map").count();
    Ok(judge(
        changes == 0,
        format!("masks that differ: {changes} of {}", nic.tx_queues.len()),
    ))
}

fn accelerated(case: &Case) -> Judged {
    let features = seen(&case.nic()?.features)?;
    Ok(match features.get("rx-ntuple-filter") {
        Some(true) => Note("on".to_owned()),
        Some(false) => Good("off".to_owned()),
        None => Good("the device has none".to_owned()),
    })
}
