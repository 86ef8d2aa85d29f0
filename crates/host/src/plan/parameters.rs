//! Which kernel parameters to change. Sizes are only ever raised, and only where something says
//! that they are too small; what needs the operator's word waits for it.

use super::{Action, Plan, Rule};
use crate::facts::{Facts, sysctl_path};
use crate::intent::{Intent, Link, Role};
use crate::machine::Target;
use crate::placement::counted;

/// The kernel's default since 5.4; before, 128 refused connections of any burst.
const BACKLOG: u64 = 4096;
/// For listeners that were seen to overflow.
const BACKLOG_AFTER_OVERFLOWS: u64 = 16_384;
/// Twice the default, for processors that were seen to drop.
const DEVICE_BACKLOG_AFTER_DROPS: u64 = 2000;
/// The most that a connection may keep unread: the default since 6.16, enough for 1 Gbit/s over
/// 100 ms with the half that is overhead.
const RECEIVE_MOST: u64 = 32 << 20;
/// The most that a connection may keep unsent: 1 Gbit/s for 100 ms, as a power of two.
const SEND_MOST: u64 = 16 << 20;
/// Below this port start the services that others configured.
const FIRST_PORT: u64 = 10_240;

pub(super) fn plan(facts: &Facts, intent: &Intent, plan: &mut Plan) {
    backlogs(facts, plan);
    if facts.known_nodes().len() > 1 {
        let why = "workers and their memory stay where they are put";
        set(
            facts,
            plan,
            ("numa.balancing", "kernel.numa_balancing"),
            "0",
            why,
        );
    }
    let why = "without them a flood of SYNs fills the queue";
    if facts.sysctl_number("net.ipv4.tcp_syncookies").known() == Some(&0) {
        set(
            facts,
            plan,
            ("tcp.syncookies", "net.ipv4.tcp_syncookies"),
            "1",
            why,
        );
    }
    if intent.link == Some(Link::Wan) {
        far_clients(facts, plan);
    }
    if intent.role == Some(Role::Proxy) {
        ports(facts, plan);
    }
}

fn backlogs(facts: &Facts, plan: &mut Plan) {
    let overflows = facts
        .counters
        .tcp("ListenOverflows")
        .known()
        .copied()
        .unwrap_or(0);
    let (wanted, why) = if overflows > 0 {
        let why = format!("listeners overflowed {}", counted(overflows, "time"));
        (BACKLOG_AFTER_OVERFLOWS, why)
    } else {
        (
            BACKLOG,
            "a burst of connections has to wait somewhere".to_owned(),
        )
    };
    raise(
        facts,
        plan,
        ("tcp.backlog", "net.core.somaxconn"),
        &[wanted],
        &why,
    );
    let softnet = facts
        .counters
        .softnet
        .known()
        .map_or(&[][..], Vec::as_slice);
    let dropped = softnet
        .iter()
        .fold(0_u64, |sum, cpu| sum.saturating_add(cpu.dropped));
    if dropped > 0 {
        let dropped = counted(dropped, "packet");
        let why = format!("processors dropped {dropped} at a full backlog");
        let name = ("softirq.backlog", "net.core.netdev_max_backlog");
        raise(facts, plan, name, &[DEVICE_BACKLOG_AFTER_DROPS], &why);
    }
}

/// What fills a long pipe: only the last of each three, so that no connection starts larger.
fn far_clients(facts: &Facts, plan: &mut Plan) {
    let why = "distant clients need more under way";
    for (check, name, most) in [
        ("tcp.rmem", "net.ipv4.tcp_rmem", RECEIVE_MOST),
        ("tcp.wmem", "net.ipv4.tcp_wmem", SEND_MOST),
    ] {
        if let Some([least, middle, _]) = facts.sysctl_triple(name).known() {
            raise(facts, plan, (check, name), &[*least, *middle, most], why);
        }
    }
    let why = "kept connections keep their speed";
    let name = "net.ipv4.tcp_slow_start_after_idle";
    set(facts, plan, ("tcp.slow_start_idle", name), "0", why);
}

/// A proxy needs ports to connect from; the range is widened downwards and never narrowed.
fn ports(facts: &Facts, plan: &mut Plan) {
    let name = "net.ipv4.ip_local_port_range";
    let Some(range) = facts.sysctl(name).known().map(|range| (*range).to_owned()) else {
        return;
    };
    let numbers: Vec<u64> = range
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    if let [first, last] = numbers[..]
        && first > FIRST_PORT
        && first <= last
    {
        let wanted = format!("{FIRST_PORT} {last}");
        let why = "each connection to an upstream takes a port";
        set(facts, plan, ("tcp.ports", name), &wanted, why);
    }
}

fn raise(
    facts: &Facts,
    plan: &mut Plan,
    (check, name): (&'static str, &str),
    wanted: &[u64],
    why: &str,
) {
    let wanted: Vec<String> = wanted.iter().map(u64::to_string).collect();
    push(
        facts,
        plan,
        (check, name),
        &wanted.join(" "),
        Rule::RaiseOnly,
        why,
    );
}

fn set(
    facts: &Facts,
    plan: &mut Plan,
    (check, name): (&'static str, &str),
    wanted: &str,
    why: &str,
) {
    push(facts, plan, (check, name), wanted, Rule::Set, why);
}

/// Plans what can be seen; an absent parameter belongs to another namespace or kernel.
fn push(
    facts: &Facts,
    plan: &mut Plan,
    (check, name): (&'static str, &str),
    wanted: &str,
    rule: Rule,
    why: &str,
) {
    let Some(now) = facts.sysctl(name).known().map(|now| (*now).to_owned()) else {
        return;
    };
    plan.push(Action {
        check,
        target: Target::File(sysctl_path(name)),
        new: rule.value(&now, wanted),
        now,
        instead: Vec::new(),
        rule,
        is_disruptive: false,
        why: why.to_owned(),
    });
}
