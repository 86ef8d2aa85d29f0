//! Checks of TCP, of busy polling, and of steering connections to workers.

use super::{Case, Check, Judged, Remedy, Severity, Verdict, judge, seen, settle};
use crate::intent::{Link, Role};
use crate::placement::counted;
use Remedy::{Advice, Tune};
use Severity::{Info, Warning};
use Verdict::{Bad, Good, NotAsked, NotVisible, Note};

/// The middle value of `tcp_rmem` since 4.20: the first window is a half of it.
const RECEIVE_DEFAULT: u64 = 131_072;
/// The last value of `tcp_rmem` on small machines of kernels before 6.16.
const RECEIVE_MOST_BEFORE: u64 = 6 << 20;
/// The same since 6.16.
const RECEIVE_MOST_SINCE: u64 = 32 << 20;

pub(super) const TABLE: &[Check] = &[
    Check {
        id: "tcp.rmem",
        reads: "net.ipv4.tcp_rmem",
        good: "not below the kernel's defaults; more for distant clients",
        why: "old guides lower it on new kernels: 87380 and 16 MB are less than the defaults",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(receive_memory(case)),
    },
    Check {
        id: "tcp.wmem",
        reads: "net.ipv4.tcp_wmem",
        good: "the middle at its default; more at the end for distant clients",
        why: "a larger start is memory for every connection; the kernel grows it when it helps",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(send_memory(case)),
    },
    Check {
        id: "tcp.autotune",
        reads: "net.ipv4.tcp_moderate_rcvbuf",
        good: "1",
        why: "without it every connection keeps the window that it starts with",
        severity: Warning,
        remedy: Advice("sysctl -w net.ipv4.tcp_moderate_rcvbuf=1, and set no SO_RCVBUF"),
        undo: "the old value",
        judge: |case| settle(is_one(case, "net.ipv4.tcp_moderate_rcvbuf")),
    },
    Check {
        id: "tcp.backlog",
        reads: "net.core.somaxconn, ListenOverflows, ListenDrops",
        good: "4,096 or more, no overflow",
        why: "connections beyond it are refused or wait for a second SYN",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(backlog(case)),
    },
    Check {
        id: "tcp.syncookies",
        reads: "net.ipv4.tcp_syncookies",
        good: "1",
        why: "without them a flood of SYNs shuts everybody else out",
        severity: Warning,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| {
            settle(
                seen(&case.facts.sysctl("net.ipv4.tcp_syncookies"))
                    .map(|value| judge(*value != "0", (*value).to_owned())),
            )
        },
    },
    Check {
        id: "tcp.cc",
        reads: "net.ipv4.tcp_congestion_control, tcp_available_congestion_control",
        good: "known",
        why: "BBR suits long and lossy paths; it is chosen for each socket, not for the machine",
        severity: Info,
        remedy: Advice("congestion control of the listener, in the configuration"),
        undo: "the old configuration",
        judge: |case| settle(congestion_control(case)),
    },
    Check {
        id: "tcp.qdisc",
        reads: "rtnetlink",
        good: "known; fq under BBR and load",
        why: "BBR paces by itself since 4.13; fq does it cheaper",
        severity: Info,
        remedy: Advice("tc qdisc replace dev DEVICE root fq (or mq with fq leaves)"),
        undo: "the old discipline",
        judge: |case| settle(qdisc(case)),
    },
    Check {
        id: "tcp.slow_start_idle",
        reads: "net.ipv4.tcp_slow_start_after_idle",
        good: "0 for distant clients that keep connections",
        why: "a connection that was idle starts slowly again",
        severity: Info,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(slow_start(case)),
    },
    Check {
        id: "tcp.mem",
        reads: "net.ipv4.tcp_mem, /proc/net/sockstat",
        good: "used below the pressure mark",
        why: "above it the kernel shrinks windows and drops",
        severity: Warning,
        remedy: Advice("find out which connections hold it (ss -tm)"),
        undo: "nothing to undo",
        judge: |case| settle(memory(case)),
    },
    Check {
        id: "tcp.ports",
        reads: "net.ipv4.ip_local_port_range, ip_local_reserved_ports, sockets in TIME_WAIT",
        good: "enough ports to connect from",
        why: "a proxy that runs out of ports can't reach its upstream",
        severity: Info,
        remedy: Tune,
        undo: "tune --revert",
        judge: |case| settle(ports(case)),
    },
    Check {
        id: "tcp.tw_buckets",
        reads: "net.ipv4.tcp_max_tw_buckets, TCPTimeWaitOverflow",
        good: "no overflow",
        why: "closed connections beyond it are forgotten too early",
        severity: Warning,
        remedy: Advice("raise net.ipv4.tcp_max_tw_buckets; it must not be lowered"),
        undo: "the old value",
        judge: |case| settle(time_wait(case)),
    },
    Check {
        id: "tcp.tw_reuse",
        reads: "net.ipv4.tcp_tw_reuse",
        good: "the kernel's default, 2",
        why: "it concerns outgoing connections only: a server gains nothing",
        severity: Info,
        remedy: Advice("leave it"),
        undo: "nothing to undo",
        judge: |case| settle(is_default(case, "net.ipv4.tcp_tw_reuse", "2")),
    },
    Check {
        id: "tcp.fin_timeout",
        reads: "net.ipv4.tcp_fin_timeout",
        good: "the kernel's default, 60",
        why: "it concerns orphans in FIN_WAIT_2 only; TIME_WAIT is 60 s whatever it says",
        severity: Info,
        remedy: Advice("leave it"),
        undo: "nothing to undo",
        judge: |case| settle(is_default(case, "net.ipv4.tcp_fin_timeout", "60")),
    },
    Check {
        id: "tcp.keepalive",
        reads: "net.ipv4.tcp_keepalive_time",
        good: "the kernel's default, 7200",
        why: "it concerns sockets that ask for it only, and those can say their own",
        severity: Info,
        remedy: Advice("keepalive of the listener, in the configuration"),
        undo: "the old configuration",
        judge: |case| settle(is_default(case, "net.ipv4.tcp_keepalive_time", "7200")),
    },
    Check {
        id: "tcp.fastopen",
        reads: "net.ipv4.tcp_fastopen",
        good: "the kernel's default, 1 (clients only)",
        why: "a server needs 2 and a listener that asks; what comes with a SYN can be replayed",
        severity: Info,
        remedy: Advice("only for requests that may be done twice"),
        undo: "nothing to undo",
        judge: |case| settle(is_default(case, "net.ipv4.tcp_fastopen", "1")),
    },
    Check {
        id: "poll.busy",
        reads: "net.core.busy_poll, net.core.busy_read",
        good: "0",
        why: "for the whole machine it burns every process's CPU; a socket can ask for itself",
        severity: Warning,
        remedy: Advice("sysctl -w net.core.busy_poll=0 net.core.busy_read=0"),
        undo: "the old values",
        judge: |case| settle(busy_polling(case)),
    },
    Check {
        id: "steer.selftest",
        reads: "a connection to oneself from each CPU",
        good: "accepted by the listener of that CPU",
        why: "kernels 4.6 to 6.1 ignore SO_INCOMING_CPU when they choose a listener",
        severity: Warning,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |_| NotVisible("the server would find out when it starts".to_owned()),
    },
    Check {
        id: "steer.live",
        reads: "SO_INCOMING_CPU of accepted connections",
        good: "95 % or more on their worker's CPU",
        why: "it proves or disproves all of the rest",
        severity: Warning,
        remedy: Remedy::None,
        undo: "nothing to undo",
        judge: |_| NotVisible("only a server with traffic knows".to_owned()),
    },
];

/// Three values as they are printed.
fn triple(values: &[u64; 3]) -> String {
    values.map(|value| value.to_string()).join(" ")
}

fn receive_memory(case: &Case) -> Judged {
    let values = *seen(&case.facts.sysctl_triple("net.ipv4.tcp_rmem"))?;
    let found = triple(&values);
    let [_, middle, most] = values;
    let version = case.facts.system.kernel_version.known();
    let default_most = match version {
        Some(version) if *version >= (6, 16) => RECEIVE_MOST_SINCE,
        _ => RECEIVE_MOST_BEFORE,
    };
    if middle < RECEIVE_DEFAULT && version.is_some_and(|version| *version >= (4, 20)) {
        return Ok(Bad(format!(
            "{found}: lowered, the middle is {RECEIVE_DEFAULT} by default"
        )));
    }
    // Machines with little memory have less by default, so only a plain sign is called lowered.
    let is_small = case
        .facts
        .system
        .memory_bytes
        .known()
        .is_none_or(|&bytes| bytes < 8 << 30);
    if most < default_most && !is_small {
        return Ok(Bad(format!(
            "{found}: lowered, the last is {default_most} by default"
        )));
    }
    if case.plan.of("tcp.rmem").next().is_some() {
        return Ok(Bad(format!("{found}: little for distant clients")));
    }
    if case.intent.link.is_none() {
        return Ok(Good(format!("{found}; not lowered")));
    }
    Ok(Good(found))
}

fn send_memory(case: &Case) -> Judged {
    let values = seen(&case.facts.sysctl_triple("net.ipv4.tcp_wmem")).cloned()?;
    let found = triple(&values);
    if case.plan.of("tcp.wmem").next().is_some() {
        return Ok(Bad(format!("{found}: little for distant clients")));
    }
    if values[1] > 16_384 {
        return Ok(Note(format!(
            "{found}: each connection starts with more than the 16384 by default"
        )));
    }
    Ok(Good(found))
}

fn is_one(case: &Case, name: &str) -> Judged {
    let value = *seen(&case.facts.sysctl_number(name))?;
    Ok(judge(value == 1, value.to_string()))
}

fn is_default(case: &Case, name: &str, default: &str) -> Judged {
    let fact = case.facts.sysctl(name);
    let value = *seen(&fact)?;
    if value == default {
        return Ok(Good(value.to_owned()));
    }
    Ok(Note(format!("{value}, changed from {default}")))
}

fn backlog(case: &Case) -> Judged {
    let most = *seen(&case.facts.sysctl_number("net.core.somaxconn"))?;
    let overflows = case.facts.counters.tcp("ListenOverflows");
    let found = match overflows.known() {
        Some(overflows) => format!("{most}; {} since start", counted(*overflows, "overflow")),
        None => format!("{most}; overflows don't show"),
    };
    if case.plan.of("tcp.backlog").next().is_some() {
        return Ok(Bad(found));
    }
    Ok(if overflows.known().is_some_and(|&count| count > 0) {
        Note(found)
    } else {
        Good(found)
    })
}

fn congestion_control(case: &Case) -> Judged {
    let now = case.facts.sysctl("net.ipv4.tcp_congestion_control");
    let available = case
        .facts
        .sysctl("net.ipv4.tcp_available_congestion_control");
    let now = *seen(&now)?;
    let found = match available.known() {
        Some(available) => format!("{now}; available: {available}"),
        None => now.to_owned(),
    };
    match case.intent.link {
        Some(Link::Wan) if !found.contains("bbr") => Ok(Note(format!("{found}; no bbr here"))),
        _ => Ok(Note(found)),
    }
}

fn qdisc(case: &Case) -> Judged {
    let qdiscs = seen(&case.nic()?.qdiscs)?;
    if qdiscs.is_empty() {
        return Ok(Note("none (noqueue)".to_owned()));
    }
    Ok(Note(qdiscs.join(", ")))
}

fn slow_start(case: &Case) -> Judged {
    let value = *seen(
        &case
            .facts
            .sysctl_number("net.ipv4.tcp_slow_start_after_idle"),
    )?;
    match case.intent.link {
        None => Err(NotAsked(format!(
            "{value}; what is right depends on --link"
        ))),
        Some(Link::Lan) => Ok(Good(value.to_string())),
        Some(Link::Wan) => Ok(judge(value == 0, value.to_string())),
    }
}

/// Counted in pages by the kernel, both sides alike, so no page size is needed.
fn memory(case: &Case) -> Judged {
    let [_, pressure, most] = *seen(&case.facts.sysctl_triple("net.ipv4.tcp_mem"))?;
    let used = seen(&case.facts.counters.sockets)?.get("mem").copied();
    let Some(used) = used else {
        return Err(NotVisible("/proc/net/sockstat has no mem".to_owned()));
    };
    let held = counted(used, "page");
    let found = format!("{held}, pressed from {pressure}, most {most}");
    Ok(judge(used < pressure, found))
}

fn ports(case: &Case) -> Judged {
    let range = case.facts.sysctl("net.ipv4.ip_local_port_range");
    let range = seen(&range)?
        .split_whitespace()
        .collect::<Vec<_>>()
        .join("-");
    let waiting = case.facts.counters.sockets.known();
    let waiting = waiting
        .and_then(|sockets| sockets.get("tw").copied())
        .unwrap_or(0);
    let found = format!("{range}, {waiting} in TIME_WAIT");
    match case.intent.role {
        None => Err(NotAsked(format!("{found}; it matters to a proxy (--role)"))),
        Some(Role::Server) => Ok(Good(format!("{found}; a server needs none"))),
        Some(Role::Proxy) => Ok(judge(case.plan.of("tcp.ports").next().is_none(), found)),
    }
}

fn time_wait(case: &Case) -> Judged {
    let overflows = *seen(&case.facts.counters.tcp("TCPTimeWaitOverflow"))?;
    let most = case.facts.sysctl("net.ipv4.tcp_max_tw_buckets");
    let most = most.known().copied().unwrap_or("?");
    Ok(judge(
        overflows == 0,
        format!(
            "{} since start, at most {most}",
            counted(overflows, "overflow")
        ),
    ))
}

fn busy_polling(case: &Case) -> Judged {
    let poll = *seen(&case.facts.sysctl_number("net.core.busy_poll"))?;
    let read = *seen(&case.facts.sysctl_number("net.core.busy_read"))?;
    Ok(judge(
        poll == 0 && read == 0,
        format!("busy_poll {poll}, busy_read {read}"),
    ))
}
