//! What guides tell everybody to set, item by item and line by line, with what is still true of each
//! and what it would do here.

use crate::checks::{Finding, Verdict};
use crate::facts::Facts;
use crate::intent::{Intent, Link, Role};
use serde::Serialize;

/// An item of a guide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The item, or the line of the script.
    pub item: String,
    /// Where it stands here.
    pub standing: Standing,
    /// What is here.
    pub here: String,
    /// What is still true of it.
    pub advice: &'static str,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is so already, or the server does it.
    Done,
    /// It would help.
    Open,
    /// It would do nothing, or too little to be worth it.
    NotWorthIt,
    /// It would make things worse here.
    Harmful,
    /// It can't be seen from here.
    NotVisible,
}

impl Standing {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Done => "done",
            Standing::Open => "open",
            Standing::NotWorthIt => "leave it",
            Standing::Harmful => "don't",
            Standing::NotVisible => "unseen",
        }
    }
}

/// The checklist: where each item stands comes from the check that it names, or is the server's.
const CHECKLIST: &[(&str, Option<&str>, &str)] = &[
    (
        "TCP Fast Open",
        Some("tcp.fastopen"),
        "saves a round trip to clients that use it, for requests that may be done twice; off by default",
    ),
    (
        "TCP buffers",
        Some("tcp.rmem"),
        "never lower than the kernel's defaults, which grew since the guides were written; raise the \
         last value for distant clients only",
    ),
    (
        "TCP_NODELAY",
        None,
        "the server sets it, and writes head and body together",
    ),
    (
        "huge pages above 10 GB of memory",
        Some("mem.thp"),
        "the size of memory is not what decides: madvise, for the arenas that ask for it",
    ),
    (
        "interrupts bound to the node's CPUs",
        Some("irq.affinity"),
        "one queue, one CPU, one worker; not for interrupts that the kernel keeps to itself",
    ),
    (
        "SO_RCVBUF and SO_SNDBUF (while tcp_moderate_rcvbuf is 1)",
        Some("tcp.autotune"),
        "set for TCP they switch the kernel's own tuning off and give less; leave them alone",
    ),
    (
        "SO_REUSEPORT",
        None,
        "the server does it: a listener for each worker",
    ),
    (
        "as many queues as workers",
        Some("nic.channels"),
        "may cut the link for a moment and renumbers interrupts: first, and with leave",
    ),
    (
        "RSS",
        Some("nic.rss_table"),
        "even over the queues; keep the random key, a printed one can be attacked",
    ),
    (
        "RPS",
        Some("rps.redundant"),
        "only where queues are fewer than cores, and never to the CPU of the interrupt",
    ),
    (
        "RFS",
        Some("rfs.complete"),
        "both sizes or none; with a worker for each queue it gains nothing",
    ),
    (
        "XPS",
        Some("xps.map"),
        "drivers do it already; only what they got wrong",
    ),
    (
        "accelerated RFS",
        Some("arfs"),
        "with pinned workers it only makes work for the device",
    ),
    (
        "irqbalance",
        Some("irq.balance"),
        "ask it to leave these interrupts alone; stopping it takes it from all others",
    ),
    (
        "busy polling",
        Some("poll.busy"),
        "for a socket, never for the whole machine",
    ),
    (
        "workers bound to CPUs",
        Some("cpu.allowed"),
        "the server does it, by the placement above",
    ),
    (
        "memory bound to nodes",
        Some("numa.policy"),
        "matters with several nodes only",
    ),
];

/// Items that are right as long as nobody did what they ask for.
const LEFT_OFF: &[&str] = &[
    "TCP Fast Open",
    "SO_RCVBUF and SO_SNDBUF (while tcp_moderate_rcvbuf is 1)",
    "RPS",
    "RFS",
    "accelerated RFS",
    "busy polling",
];

pub(super) fn checklist(facts: &Facts, findings: &[Finding]) -> Vec<Item> {
    let item = |(item, check, advice): &(&str, Option<&str>, &'static str)| {
        let finding = check.and_then(|id| findings.iter().find(|finding| finding.id == id));
        let (standing, here) = match finding {
            None => (Standing::Done, "by the server".to_owned()),
            Some(finding) => {
                let mut standing = standing(&finding.verdict);
                if standing == Standing::Done && LEFT_OFF.contains(item) {
                    standing = Standing::NotWorthIt;
                }
                (standing, finding.verdict.words().to_owned())
            }
        };
        Item {
            item: (*item).to_owned(),
            standing,
            here,
            advice,
        }
    };
    let mut items: Vec<Item> = CHECKLIST.iter().map(item).collect();
    items.push(open_files(facts));
    items
}

fn standing(verdict: &Verdict) -> Standing {
    match verdict {
        Verdict::Good(_) => Standing::Done,
        Verdict::Bad(_) => Standing::Open,
        Verdict::Note(_) | Verdict::NotAsked(_) => Standing::NotWorthIt,
        Verdict::NotVisible(_) => Standing::NotVisible,
    }
}

/// `ulimit -n 1048576`, which is in every guide and can't exceed `fs.nr_open`.
fn open_files(facts: &Facts) -> Item {
    let (standing, here) = match facts.limits.open_files.as_result() {
        Ok(limit) => match limit.hard {
            Some(hard) if hard < 1_048_576 => (Standing::NotWorthIt, hard.to_string()),
            Some(hard) => (Standing::Done, hard.to_string()),
            None => (Standing::Done, "no limit".to_owned()),
        },
        Err(why) => (Standing::NotVisible, why),
    };
    Item {
        item: "ulimit -n 1048576".to_owned(),
        standing,
        here,
        advice: "needed are two for each connection and 1,024 more (--connections checks it)",
    }
}

/// Whom a line helps, if anybody.
#[derive(Clone, Copy)]
enum For {
    /// Sizes that matter to distant clients.
    DistantClients,
    /// What concerns outgoing connections.
    Proxies,
    /// Listeners that overflow.
    Overflows(&'static str),
    /// Processors that drop.
    Drops,
    /// Nobody who serves TCP.
    Nobody,
}

/// The script: parameter, value, whom it helps, what is true of it.
const SCRIPT: &[(&str, &str, For, &str)] = &[
    (
        "net.core.rmem_max",
        "16777216",
        For::Nobody,
        "caps SO_RCVBUF, which TCP shouldn't use; it doesn't cap the kernel's own tuning. For UDP only",
    ),
    (
        "net.core.wmem_max",
        "16777216",
        For::Nobody,
        "caps SO_SNDBUF, likewise",
    ),
    (
        "net.ipv4.tcp_rmem",
        "4096 87380 16777216",
        For::DistantClients,
        "the middle is below the default of 131072, the last below that of 6.16 (33554432)",
    ),
    (
        "net.ipv4.tcp_wmem",
        "4096 65536 16777216",
        For::DistantClients,
        "the middle quadruples what every connection starts with; the last helps over long paths",
    ),
    (
        "net.ipv4.tcp_fastopen",
        "3",
        For::Nobody,
        "does nothing until a listener asks for it, and not every request may be done twice",
    ),
    (
        "net.core.somaxconn",
        "65535",
        For::Overflows("ListenOverflows"),
        "4096 by default since 5.4; helps when the listener asks for more and overflows. A deep queue \
         hides overload",
    ),
    (
        "net.ipv4.tcp_max_syn_backlog",
        "8192",
        For::Nobody,
        "not looked at while syncookies are on, as they are by default",
    ),
    (
        "net.core.netdev_max_backlog",
        "16384",
        For::Drops,
        "helps when softnet_stat's second column grows; then double it",
    ),
    (
        "net.ipv4.tcp_tw_reuse",
        "1",
        For::Proxies,
        "for outgoing connections only; 2 (loopback) by default",
    ),
    (
        "net.ipv4.tcp_fin_timeout",
        "30",
        For::Nobody,
        "for orphans in FIN_WAIT_2 only; TIME_WAIT stays 60 s",
    ),
    (
        "net.ipv4.tcp_keepalive_time",
        "1200",
        For::Nobody,
        "for sockets that ask for keepalive, and those can say their own time",
    ),
    (
        "net.ipv4.tcp_max_tw_buckets",
        "1440000",
        For::Overflows("TCPTimeWaitOverflow"),
        "scales with memory; helps when TCPTimeWaitOverflow grows, and must never be lowered",
    ),
    (
        "net.ipv4.ip_local_port_range",
        "1024 65535",
        For::Proxies,
        "for outgoing connections only; from 1024 on it collides with services: 10240 is low enough",
    ),
    (
        "net.core.default_qdisc",
        "fq",
        For::Nobody,
        "for disciplines that are made later; BBR paces without it since 4.13",
    ),
    (
        "net.ipv4.tcp_congestion_control",
        "bbr",
        For::DistantClients,
        "for long and lossy paths, and by the listener's own setting rather than for the machine",
    ),
];

pub(super) fn script(facts: &Facts, intent: &Intent) -> Vec<Item> {
    let item = |(name, value, helps, advice): &(&str, &str, For, &'static str)| {
        let now = facts.sysctl(name);
        let (standing, here) = match now.as_result() {
            Err(why) => (Standing::NotVisible, why),
            Ok(now) => {
                let here = now.split_whitespace().collect::<Vec<_>>().join(" ");
                (
                    line_standing(facts, intent, name, &here, value, *helps),
                    here,
                )
            }
        };
        Item {
            item: format!("{name} = {value}"),
            standing,
            here: if standing == Standing::NotVisible {
                here
            } else {
                format!("{here} here")
            },
            advice,
        }
    };
    SCRIPT.iter().map(item).collect()
}

fn line_standing(
    facts: &Facts,
    intent: &Intent,
    name: &str,
    now: &str,
    value: &str,
    helps: For,
) -> Standing {
    if now == value {
        return Standing::Done;
    }
    // A switch or a time isn't a size: only sizes can be lowered to harm.
    let is_size = ["mem", "max", "backlog", "somaxconn"]
        .iter()
        .any(|part| name.contains(part));
    if is_size && lowers(now, value) {
        return Standing::Harmful;
    }
    let counted = |name| {
        facts
            .counters
            .tcp(name)
            .known()
            .is_some_and(|&count| count > 0)
    };
    let helps = match helps {
        For::DistantClients => intent.link == Some(Link::Wan),
        For::Proxies => intent.role == Some(Role::Proxy),
        For::Overflows(counter) => counted(counter),
        For::Drops => {
            let softnet = facts
                .counters
                .softnet
                .known()
                .map_or(&[][..], Vec::as_slice);
            softnet.iter().any(|cpu| cpu.dropped > 0)
        }
        For::Nobody => false,
    };
    if helps {
        Standing::Open
    } else {
        Standing::NotWorthIt
    }
}

/// Whether a line would make any of a parameter's numbers smaller.
fn lowers(now: &str, value: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    numbers(now)
        .iter()
        .zip(numbers(value))
        .any(|(now, value)| value < *now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::table;

    #[test]
    fn items_name_checks_that_exist() {
        for (item, check, _) in CHECKLIST {
            let exists = check.is_none_or(|id| table().any(|check| check.id == id));
            assert!(exists, "{item}");
        }
    }

    #[test]
    fn lines_name_parameters_that_are_read() {
        for (name, ..) in SCRIPT {
            assert!(crate::facts::SYSCTLS.contains(name), "{name}");
        }
    }

    #[test]
    fn lowering_is_seen_in_any_of_the_numbers() {
        assert!(lowers("4096 131072 6291456", "4096 87380 16777216"));
        assert!(!lowers("4096 16384 4194304", "4096 65536 16777216"));
        assert!(!lowers("cubic", "bbr"));
    }
}
