//! Checks of the kernel, the surroundings, processors, nodes, memory and limits.

use super::{Case, Check, Judged, Remedy, Severity, Verdict, judge, seen, settle};
use crate::facts::Processor;
use crate::placement::counted;
use crate::probes::NodeTrial;
use Remedy::{Advice, Tune};
use Severity::{Failure, Info, Warning};
use Verdict::{Bad, Good, NotAsked, NotVisible, Note};

/// Descriptors beside those of connections: listeners, logs, files, the ring.
const SPARE_DESCRIPTORS: u64 = 1024;

pub(super) const TABLE: &[Check] = &[
    Check {
        id: "kernel.version",
        reads: "/proc/sys/kernel/osrelease",
        good: "6.1 or later",
        why: "io_uring without waking other CPUs needs 6.1; larger buffers by default came with 6.16",
        severity: Info,
        remedy: Advice("a newer kernel"),
        undo: "nothing to undo",
        judge: |case| settle(kernel_version(case)),
    },
    Check {
        id: "kernel.io_uring",
        reads: "a ring that is set up and used; /proc/sys/kernel/io_uring_disabled",
        good: "a message went through",
        why: "without it the server runs on epoll: as correct, with more system calls",
        severity: Warning,
        remedy: Advice(
            "allow io_uring in the container's seccomp profile, or kernel.io_uring_disabled=0",
        ),
        undo: "the old profile or value",
        judge: |case| settle(io_uring(case)),
    },
    Check {
        id: "sec.caps",
        reads: "CapEff of /proc/self/status",
        good: "CAP_NET_ADMIN",
        why: "without it tune can only print its plan",
        severity: Info,
        remedy: Advice("run tune as root"),
        undo: "nothing to undo",
        judge: |case| {
            settle(
                seen(&case.facts.environment.may_change_network).map(|&may| {
                    let word = if may {
                        "may change devices"
                    } else {
                        "may not change devices"
                    };
                    judge(may, word.to_owned())
                }),
            )
        },
    },
    Check {
        id: "env.container",
        reads: "/proc/self/cgroup, /run, and which parameters are there",
        good: "known",
        why: "parameters of the whole machine are invisible in a container: check on the host too",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: container,
    },
    Check {
        id: "env.virt",
        reads: "flags of /proc/cpuinfo",
        good: "known",
        why: "a guest rarely knows its node, and others take its time",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |case| {
            settle(seen(&case.facts.environment.is_virtual).map(|&is_virtual| {
                let word = if is_virtual {
                    "a virtual machine"
                } else {
                    "no hypervisor shows"
                };
                Note(word.to_owned())
            }))
        },
    },
    Check {
        id: "cpu.topology",
        reads: "/sys/devices/system/cpu/*/topology, cache",
        good: "readable, every present CPU online",
        why: "workers are placed by it",
        severity: Failure,
        remedy: Advice("mount /sys"),
        undo: "nothing to undo",
        judge: |case| settle(topology(case)),
    },
    Check {
        id: "cpu.quota",
        reads: "cpu.max or cpu.cfs_quota_us of the control groups",
        good: "none, or a CPU for each worker",
        why: "workers beyond the quota stall all at once",
        severity: Warning,
        remedy: Advice("raise the quota, or run as many workers as it allows"),
        undo: "the old quota",
        judge: |case| settle(quota(case)),
    },
    Check {
        id: "cpu.allowed",
        reads: "Cpus_allowed_list, cpuset",
        good: "a CPU for each worker",
        why: "a worker can't be pinned where the process may not run",
        severity: Failure,
        remedy: Advice("widen the affinity or the cpuset"),
        undo: "the old set",
        judge: |case| settle(allowed(case)),
    },
    Check {
        id: "cpu.isolated",
        reads: "/sys/devices/system/cpu/isolated, nohz_full, /proc/irq",
        good: "isolated CPUs take no interrupts of the device",
        why: "they were set apart for something else",
        severity: Warning,
        remedy: Advice("move these interrupts to other CPUs"),
        undo: "the old affinity",
        judge: |case| settle(isolated(case)),
    },
    Check {
        id: "cpu.governor",
        reads: "cpufreq/scaling_governor of CPU 0",
        good: "performance or schedutil",
        why: "a clock that has to speed up first is late for each burst",
        severity: Info,
        remedy: Advice("cpupower frequency-set -g performance"),
        undo: "the old governor",
        judge: |case| {
            settle(seen(&case.facts.processors.governor).map(|governor| {
                judge(
                    governor == "performance" || governor == "schedutil",
                    governor.clone(),
                )
            }))
        },
    },
    Check {
        id: "cpu.cstates",
        reads: "/sys/devices/system/cpu/cpuidle/current_driver",
        good: "known",
        why: "waking from deep sleep takes up to some 100 microseconds",
        severity: Info,
        remedy: Advice(
            "hold /dev/cpu_dma_latency open with a small value, for latency's sake only",
        ),
        undo: "close it",
        judge: |case| {
            settle(
                seen(&case.facts.processors.idle_driver)
                    .map(|driver| Note(format!("idle states by {driver}"))),
            )
        },
    },
    Check {
        id: "cpu.clocksource",
        reads: "clocksource0/current_clocksource",
        good: "tsc, kvm-clock, or the architecture's counter",
        why: "others make each reading of the clock a system call",
        severity: Warning,
        remedy: Advice("find out in the kernel's log why it gave the tsc up"),
        undo: "nothing to undo",
        judge: |case| {
            settle(seen(&case.facts.processors.clock_source).map(|source| {
                let slow = ["hpet", "acpi_pm", "jiffies", "xen"];
                judge(!slow.contains(&source.as_str()), source.clone())
            }))
        },
    },
    Check {
        id: "numa.nodes",
        reads: "/sys/devices/system/node",
        good: "known",
        why: "memory of another node costs more",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |case| settle(nodes(case)),
    },
    Check {
        id: "numa.policy",
        reads: "mbind and move_pages, tried with a page on each node",
        good: "each page is where it was sent",
        why: "containers often forbid mbind",
        severity: Warning,
        remedy: Advice("give the container CAP_SYS_NICE"),
        undo: "take it away again",
        judge: |case| settle(memory_policy(case)),
    },
    Check {
        id: "numa.balancing",
        reads: "kernel.numa_balancing",
        good: "0 when several nodes and pinned workers",
        why: "it takes page faults to learn what pinning already decides",
        severity: Info,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(balancing(case)),
    },
    Check {
        id: "numa.nic_local",
        reads: "numa_node of the device's parent",
        good: "workers on the device's node",
        why: "each packet crosses between nodes otherwise",
        severity: Warning,
        remedy: Advice("fewer workers, or a device on each node"),
        undo: "nothing to undo",
        judge: |case| settle(device_node(case)),
    },
    Check {
        id: "mem.thp",
        reads: "/sys/kernel/mm/transparent_hugepage/enabled",
        good: "madvise",
        why: "always can stall any process; never keeps arenas from large pages",
        severity: Info,
        remedy: Advice("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        undo: "write the old word back",
        judge: |case| {
            settle(seen(&case.facts.system.transparent_huge_pages).map(|word| {
                if word == "madvise" {
                    Good(word.clone())
                } else {
                    Note(word.clone())
                }
            }))
        },
    },
    Check {
        id: "mem.hugetlb",
        reads: "hugepages of each node",
        good: "as was reserved",
        why: "a node without free pages kills the process that was promised one",
        severity: Info,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |case| settle(huge_pages(case)),
    },
    Check {
        id: "lim.nofile",
        reads: "/proc/self/limits, fs.nr_open",
        good: "the hard limit has two descriptors for each connection and 1,024 more",
        why: "a connection without a descriptor is refused",
        severity: Failure,
        remedy: Advice(
            "LimitNOFILE= in the unit, or ulimit -n; the server raises its soft limit itself",
        ),
        undo: "the old limit",
        judge: |case| settle(open_files(case)),
    },
    Check {
        id: "lim.memlock",
        reads: "/proc/self/limits",
        good: "unlimited, or a kernel that counts rings elsewhere (5.12)",
        why: "old kernels count rings as locked memory",
        severity: Warning,
        remedy: Advice("LimitMEMLOCK= in the unit, or ulimit -l"),
        undo: "the old limit",
        judge: |case| settle(locked_memory(case)),
    },
    Check {
        id: "lim.conntrack",
        reads: "nf_conntrack_count, nf_conntrack_max",
        good: "no connection tracking, or below 70 % of its table",
        why: "a full table drops new connections without a word to them",
        severity: Warning,
        remedy: Advice("raise nf_conntrack_max, or leave the service's port untracked"),
        undo: "the old value",
        judge: |case| settle(conntrack(case)),
    },
];

fn kernel_version(case: &Case) -> Judged {
    let version = seen(&case.facts.system.kernel_version)?;
    let release = seen(&case.facts.system.kernel_release)?;
    Ok(judge(*version >= (6, 1), release.clone()))
}

fn io_uring(case: &Case) -> Judged {
    let found = seen(&case.facts.io_uring)?;
    Ok(judge(found.works, found.reason.clone()))
}

fn container(case: &Case) -> Verdict {
    let environment = &case.facts.environment;
    let first = environment.is_first_network_namespace.known();
    match (&environment.container.known(), first) {
        (Some(Some(kind)), _) => Note(format!("a container ({kind})")),
        (_, Some(false)) => {
            Note("a network namespace: the machine's own parameters don't show".to_owned())
        }
        (Some(None), _) => Good("no container shows".to_owned()),
        (None, _) => NotVisible("nothing tells".to_owned()),
    }
}

fn topology(case: &Case) -> Judged {
    let processors = &case.facts.processors;
    let online = seen(&processors.online)?;
    let hidden = processors
        .each
        .iter()
        .filter(|cpu| cpu.siblings.known().is_none());
    let hidden = hidden.count();
    if hidden > 0 {
        return Err(NotVisible(format!(
            "the siblings of {} don't show",
            counted(hidden, "CPU")
        )));
    }
    let cores = processors
        .each
        .iter()
        .filter(|cpu| is_first_thread(cpu))
        .count();
    let summary = format!(
        "{}, {}",
        counted(online.len(), "CPU"),
        counted(cores, "core")
    );
    let Some(present) = processors.present.known() else {
        return Ok(Good(summary));
    };
    let offline = present.without(online);
    if offline.is_empty() {
        Ok(Good(summary))
    } else {
        Ok(Note(format!("{summary}; offline: {offline}")))
    }
}

fn is_first_thread(cpu: &Processor) -> bool {
    let siblings = cpu.siblings.known();
    siblings.is_none_or(|siblings| siblings.first() == Some(cpu.id))
}

fn quota(case: &Case) -> Judged {
    let Some(quota) = seen(&case.facts.processors.quota)? else {
        return Ok(Good("none".to_owned()));
    };
    let workers = case.placement()?.workers.len();
    let found = format!(
        "time of {} for {}",
        counted(*quota, "CPU"),
        counted(workers, "worker")
    );
    // The number of workers is far below 2^52.
    Ok(judge(*quota >= workers as f64, found))
}

fn allowed(case: &Case) -> Judged {
    let usable = case.facts.processors.usable();
    let online = seen(&case.facts.processors.online)?;
    let workers = case.intent.workers.unwrap_or(1);
    let found = format!("{} of {} CPUs ({usable})", usable.len(), online.len());
    Ok(judge(!usable.is_empty() && workers <= usable.len(), found))
}

fn isolated(case: &Case) -> Judged {
    let isolated = seen(&case.facts.processors.isolated)?;
    let mut apart = isolated.clone();
    if let Some(no_tick) = case.facts.processors.nohz_full.known() {
        no_tick.iter().for_each(|cpu| apart.insert(cpu));
    }
    if apart.is_empty() {
        return Ok(Good("no CPU is isolated".to_owned()));
    }
    let on_them = case.nic()?.queue_irqs().filter(|irq| {
        let effective = irq.effective.known();
        effective.is_some_and(|cpus| !cpus.intersection(&apart).is_empty())
    });
    let count = on_them.count();
    Ok(judge(
        count == 0,
        format!("{} of the device on {apart}", counted(count, "interrupt")),
    ))
}

fn nodes(case: &Case) -> Judged {
    let nodes = seen(&case.facts.nodes)?;
    let describe = nodes.iter().map(|node| {
        let cpus = match node.cpus.known() {
            Some(cpus) if cpus.is_empty() => "no CPU".to_owned(),
            Some(cpus) => format!("CPU {cpus}"),
            None => "unknown CPUs".to_owned(),
        };
        let memory = match node.memory_bytes.known() {
            Some(0) => "no memory".to_owned(),
            Some(bytes) => format!("{} MiB", bytes >> 20),
            None => "unknown memory".to_owned(),
        };
        format!("node {}: {cpus}, {memory}", node.id)
    });
    Ok(Note(describe.collect::<Vec<_>>().join("; ")))
}

fn memory_policy(case: &Case) -> Judged {
    if seen(&case.facts.nodes)?.len() < 2 {
        return Ok(Good("one node: nothing to bind".to_owned()));
    }
    let trials = seen(&case.facts.memory)?;
    let refusal = |trial: &NodeTrial| {
        let why = trial.refusal.as_ref()?;
        Some(format!("node {}: {why}", trial.node))
    };
    let refused: Vec<String> = trials.iter().filter_map(refusal).collect();
    Ok(match refused.is_empty() {
        true if trials.len() == 1 => Good("a page went to the only node".to_owned()),
        true => Good(format!("a page went to each of {} nodes", trials.len())),
        false => Bad(refused.join("; ")),
    })
}

fn balancing(case: &Case) -> Judged {
    if seen(&case.facts.nodes)?.len() < 2 {
        return Ok(Good("one node: nothing to balance".to_owned()));
    }
    let value = case.facts.sysctl("kernel.numa_balancing");
    let value = *seen(&value)?;
    Ok(judge(value == "0", value.to_owned()))
}

fn device_node(case: &Case) -> Judged {
    if seen(&case.facts.nodes)?.len() < 2 {
        return Ok(Good("one node".to_owned()));
    }
    let nic = case.nic()?;
    let Some(node) = seen(&nic.node)? else {
        return Err(NotVisible(format!(
            "the firmware names no node for {}",
            nic.name
        )));
    };
    let workers = &case.placement()?.workers;
    let away = workers
        .iter()
        .filter(|worker| worker.node != Some(*node))
        .count();
    let found = format!(
        "{} on node {node}, {away} of {} elsewhere",
        nic.name,
        counted(workers.len(), "worker")
    );
    Ok(judge(away == 0, found))
}

fn huge_pages(case: &Case) -> Judged {
    let nodes = seen(&case.facts.nodes)?;
    let mut found = Vec::new();
    for node in nodes {
        for pages in &node.huge_pages {
            if let (Some(total), Some(free)) = (pages.total.known(), pages.free.known())
                && *total > 0
            {
                let mib = pages.size_kib / 1024;
                found.push(format!(
                    "node {}: {free} of {} of {mib} MiB free",
                    node.id,
                    counted(*total, "page")
                ));
            }
        }
    }
    if found.is_empty() {
        return Ok(Good("none reserved, none needed".to_owned()));
    }
    Ok(Note(found.join("; ")))
}

fn open_files(case: &Case) -> Judged {
    let limit = seen(&case.facts.limits.open_files)?;
    let hard = limit
        .hard
        .map_or("no limit".to_owned(), |hard| hard.to_string());
    let Some(connections) = case.intent.connections else {
        return Err(NotAsked(format!("{hard}; enough depends on --connections")));
    };
    let needed = connections
        .saturating_mul(2)
        .saturating_add(SPARE_DESCRIPTORS);
    let connections = counted(connections, "connection");
    let found = format!("{hard}; {needed} needed for {connections}");
    Ok(judge(limit.hard.is_none_or(|hard| hard >= needed), found))
}

fn locked_memory(case: &Case) -> Judged {
    let version = seen(&case.facts.system.kernel_version)?;
    if *version >= (5, 12) {
        return Ok(Good("not used for rings since 5.12".to_owned()));
    }
    let limit = seen(&case.facts.limits.locked_memory_bytes)?;
    let found = limit
        .hard
        .map_or("no limit".to_owned(), |hard| format!("{hard} bytes"));
    Ok(judge(limit.hard.is_none_or(|hard| hard >= 64 << 20), found))
}

fn conntrack(case: &Case) -> Judged {
    let Some((count, most)) = seen(&case.facts.counters.conntrack)? else {
        return Ok(Good("connections aren't tracked".to_owned()));
    };
    let found = format!("{count} of {most}");
    Ok(judge(
        count.saturating_mul(10) < most.saturating_mul(7),
        found,
    ))
}
