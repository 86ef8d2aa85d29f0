//! The kernel, its parameters, this process's rights and limits, and what else runs here.

use super::{Fact, text};
use crate::machine::Machine;
use crate::probes::{IoUring, Irqbalance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kernel parameters that are read.
pub const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.rps_sock_flow_entries",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_available_ulp",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fastopen",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_moderate_rcvbuf",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
];

/// The kernel and its memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Its release, as it names itself.
    pub kernel_release: Fact<String>,
    /// The first two numbers of that.
    pub kernel_version: Fact<(u32, u32)>,
    /// Memory in bytes.
    pub memory_bytes: Fact<u64>,
    /// When huge pages are used by themselves: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Fact<String>,
}

/// Where this runs, and what it may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// What kind of container, `null` when none shows.
    pub container: Fact<Option<String>>,
    /// Whether a hypervisor is below.
    pub is_virtual: Fact<bool>,
    /// Whether this is the machine's first network namespace, where all parameters are seen.
    pub is_first_network_namespace: Fact<bool>,
    /// `CAP_NET_ADMIN`: may change devices.
    pub may_change_network: Fact<bool>,
    /// `CAP_SYS_NICE`: may place memory.
    pub may_place_memory: Fact<bool>,
}

/// This process's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Open descriptors.
    pub open_files: Fact<Limit>,
    /// Locked memory in bytes.
    pub locked_memory_bytes: Fact<Limit>,
}

/// A limit; `null` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

pub(super) fn read(machine: &dyn Machine) -> System {
    let release = text(machine, "proc/sys/kernel/osrelease");
    System {
        kernel_version: release.clone().and_then(|text| version(&text)).into(),
        kernel_release: release.into(),
        memory_bytes: machine
            .read("proc/meminfo")
            .and_then(|text| memory(&text))
            .into(),
        transparent_huge_pages: text(machine, "sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| chosen(&text))
            .into(),
    }
}

/// The first two numbers of a release: `6.12.41-cloud-amd64` is 6 and 12.
fn version(release: &str) -> Result<(u32, u32), String> {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(format!(
            "{} is not a release",
            crate::cpulist::quoted(release)
        )),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let wrong = || "/proc/meminfo: no MemTotal".to_owned();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total
        .and_then(|total| total.split_whitespace().next())
        .ok_or_else(wrong)?;
    let kib: u64 = kib.parse().map_err(|_| wrong())?;
    kib.checked_mul(1024).ok_or_else(wrong)
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Result<String, String> {
    let (_, rest) = text.split_once('[').ok_or("no choice is marked")?;
    let (word, _) = rest.split_once(']').ok_or("no choice is marked")?;
    Ok(word.to_owned())
}

/// What the probe found; where it couldn't try, the parameter that switches it off.
pub(super) fn io_uring(machine: &dyn Machine, probed: Fact<IoUring>) -> Fact<IoUring> {
    let Fact::Unknown(why) = probed else {
        return probed;
    };
    match text(machine, "proc/sys/kernel/io_uring_disabled").as_deref() {
        Ok("2") => Fact::Known(IoUring {
            works: false,
            reason: "kernel.io_uring_disabled is 2".to_owned(),
        }),
        Ok("1") => Fact::Unknown("kernel.io_uring_disabled is 1: some may, not all".to_owned()),
        _ => Fact::Unknown(why),
    }
}

/// What its socket says; without one, whether a process has its name.
pub(super) fn irqbalance(
    machine: &dyn Machine,
    probed: Fact<Option<Irqbalance>>,
) -> Fact<Option<Irqbalance>> {
    if matches!(probed, Fact::Known(Some(_))) {
        return probed;
    }
    let processes = match super::numbered(machine, "proc", "", u32::MAX) {
        Ok(processes) => processes,
        Err(why) => return Fact::Unknown(why),
    };
    let runs = processes.iter().any(|process| {
        let name = machine.read(&format!("proc/{process}/comm"));
        name.is_ok_and(|name| name.trim() == "irqbalance")
    });
    let silent = || Fact::Unknown("it has no socket that answers".to_owned());
    match (runs, probed) {
        (true, _) => Fact::Known(Some(Irqbalance {
            period_seconds: silent().map(|()| 0),
            banned: silent().map(|()| Vec::new()),
        })),
        (false, probed) => probed,
    }
}

pub(super) fn sysctls(machine: &dyn Machine) -> BTreeMap<String, Fact<String>> {
    let read = |name: &&str| {
        let value = text(machine, &sysctl_path(name));
        ((*name).to_owned(), value.into())
    };
    SYSCTLS.iter().map(read).collect()
}

/// The file of a parameter.
pub(crate) fn sysctl_path(name: &str) -> String {
    format!("proc/sys/{}", name.replace('.', "/"))
}

pub(super) fn environment(machine: &dyn Machine) -> Environment {
    let status = machine.read("proc/self/status");
    let has = |bit: u32| -> Fact<bool> {
        let status = status.as_deref().map_err(|why| (*why).to_owned());
        status.and_then(|status| capability(status, bit)).into()
    };
    let cpuinfo = machine.read("proc/cpuinfo");
    Environment {
        container: container(machine),
        is_virtual: cpuinfo.map(|text| has_hypervisor(&text)).into(),
        is_first_network_namespace: first_namespace(machine).into(),
        may_change_network: has(12),
        may_place_memory: has(23),
    }
}

/// Reads a bit of `CapEff: 000001ffffffffff` (the numbers: include/uapi/linux/capability.h).
fn capability(status: &str, bit: u32) -> Result<bool, String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let line = line.ok_or("/proc/self/status: no CapEff")?;
    let bits = u64::from_str_radix(line.trim(), 16);
    let bits = bits.map_err(|_| "/proc/self/status: CapEff is no mask")?;
    Ok(bits >> bit & 1 == 1)
}

/// x86 processors show a hypervisor as a flag.
fn has_hypervisor(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Parameters of the whole machine are absent in every other namespace (net/core/sysctl_net_core.c:
/// they are registered for `init_net` only), while those of a namespace are there.
fn first_namespace(machine: &dyn Machine) -> Result<bool, String> {
    machine.read(&sysctl_path("net.core.somaxconn"))?;
    Ok(machine
        .read(&sysctl_path("net.core.netdev_max_backlog"))
        .is_ok())
}

fn container(machine: &dyn Machine) -> Fact<Option<String>> {
    for (file, kind) in [(".dockerenv", "docker"), ("run/.containerenv", "podman")] {
        if machine.read(file).is_ok() {
            return Fact::Known(Some(kind.to_owned()));
        }
    }
    if let Ok(kind) = text(machine, "run/systemd/container") {
        return Fact::Known(Some(kind));
    }
    let groups = match machine.read("proc/self/cgroup") {
        Ok(groups) => groups,
        Err(why) => return Fact::Unknown(why),
    };
    let kinds = ["kubepods", "docker", "containerd", "libpod", "lxc"];
    let kind = kinds.iter().find(|kind| groups.contains(*kind));
    Fact::Known(kind.map(|kind| (*kind).to_owned()))
}

pub(super) fn limits(machine: &dyn Machine) -> Limits {
    let table = machine.read("proc/self/limits");
    let limit = |name: &str| {
        let table = table.as_deref().map_err(|why| (*why).to_owned());
        table.and_then(|table| parse_limit(table, name))
    };
    Limits {
        open_files: limit("Max open files").into(),
        locked_memory_bytes: limit("Max locked memory").into(),
    }
}

/// Reads `Max open files            1024                 524288               files`.
fn parse_limit(table: &str, name: &str) -> Result<Limit, String> {
    let wrong = || format!("/proc/self/limits: no {name}");
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or_else(wrong)?;
    let mut words = line.split_whitespace();
    let mut next = || match words.next() {
        Some("unlimited") => Ok(None),
        Some(number) => number.parse().map(Some).map_err(|_| wrong()),
        None => Err(wrong()),
    };
    Ok(Limit {
        soft: next()?,
        hard: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_are_read_to_their_second_number() {
        let check = |release: &str, expect| assert_eq!(version(release).ok(), expect, "{release}");
        check("6.12.41+deb13-cloud-amd64", Some((6, 12)));
        check("7.0-rc1", Some((7, 0)));
        check("6", None);
        check("", None);
        check("linux", None);
        check("99999999999.1", None);
    }

    #[test]
    fn capabilities_are_bits_of_a_mask() {
        let status = "Name:\tx\nCapEff:\t0000000000001000\n";
        assert_eq!(capability(status, 12), Ok(true));
        assert_eq!(capability(status, 23), Ok(false));
        assert!(capability("CapEff:\tzz\n", 12).is_err());
        assert!(capability("", 12).is_err());
    }

    #[test]
    fn limits_are_two_numbers_or_none() {
        let table =
            "Limit   Soft Limit Hard Limit Units\nMax open files   1024   unlimited files\n";
        let expect = Limit {
            soft: Some(1024),
            hard: None,
        };
        assert_eq!(parse_limit(table, "Max open files"), Ok(expect));
        assert!(parse_limit(table, "Max locked memory").is_err());
        assert!(parse_limit("Max open files many", "Max open files").is_err());
    }

    #[test]
    fn a_choice_is_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Ok("madvise".to_owned()));
        assert!(chosen("always").is_err());
        assert!(chosen("[always").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = (version(&text), chosen(&text), memory(&text), capability(&text, 12));
            let _ = (parse_limit(&text, "Max"), has_hypervisor(&text));
        }
    }
}
