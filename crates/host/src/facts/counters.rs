//! What the kernel counted since it started: work and losses of the network, by processor and in
//! all.

use super::Fact;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The counters of `/proc/net/netstat` that say something about a listener or a client.
const TCP_EXTENDED: &[&str] = &[
    "ListenOverflows",
    "ListenDrops",
    "TCPTimeWaitOverflow",
    "SyncookiesSent",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "TCPBacklogDrop",
    "TCPRcvQDrop",
    "PruneCalled",
    "TCPRcvCollapsed",
    "TCPMemoryPressures",
];

/// Counters of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Each processor's.
    pub softnet: Fact<Vec<Softnet>>,
    /// TCP's, by the kernel's names.
    pub tcp: Fact<BTreeMap<String, u64>>,
    /// TCP's sockets now: `inuse`, `orphan`, `tw`, `alloc`, `mem` (pages).
    pub sockets: Fact<BTreeMap<String, u64>>,
    /// Tracked connections, and how many may be; `null` without connection tracking.
    pub conntrack: Fact<Option<(u64, u64)>>,
}

/// A processor's share of the network's soft interrupts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softnet {
    /// The processor.
    pub cpu: u32,
    /// Packets taken in.
    pub processed: u64,
    /// Packets lost because its backlog was full.
    pub dropped: u64,
    /// Times that it had to stop with work left.
    pub squeezed: u64,
    /// Interrupts that another processor asked for (RPS).
    pub steered: u64,
}

impl Counters {
    /// One of TCP's counters.
    pub fn tcp(&self, name: &str) -> Fact<u64> {
        let counter = |counters: &BTreeMap<String, u64>| {
            let value = counters.get(name).copied();
            value.ok_or_else(|| format!("/proc/net/netstat: no {name}"))
        };
        self.tcp.as_result().and_then(counter).into()
    }
}

pub(super) fn read(machine: &dyn Machine) -> Counters {
    let softnet = machine.read("proc/net/softnet_stat");
    let netstat = machine.read("proc/net/netstat");
    let sockstat = machine.read("proc/net/sockstat");
    Counters {
        softnet: softnet.and_then(|text| parse_softnet(&text)).into(),
        tcp: netstat.and_then(|text| parse_netstat(&text)).into(),
        sockets: sockstat.and_then(|text| parse_sockstat(&text)).into(),
        conntrack: conntrack(machine).into(),
    }
}

/// A line for each processor that is online, columns of hexadecimal numbers (net/core/net-procfs.c,
/// softnet_seq_show): processed, dropped, squeezed, …, received_rps (10th, counted from 1),
/// flow limits, backlog, and since 5.10 the processor's number (13th).
fn parse_softnet(text: &str) -> Result<Vec<Softnet>, String> {
    let mut all = Vec::new();
    for (index, line) in text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
    {
        let columns: Result<Vec<u64>, _> = line
            .split_whitespace()
            .map(|column| u64::from_str_radix(column, 16))
            .collect();
        let columns = columns.map_err(|_| "/proc/net/softnet_stat: not numbers".to_owned())?;
        let [processed, dropped, squeezed, ..] = columns[..] else {
            return Err("/proc/net/softnet_stat: too few columns".to_owned());
        };
        let cpu = columns.get(12).copied().unwrap_or(index as u64);
        all.push(Softnet {
            cpu: u32::try_from(cpu).map_err(|_| "/proc/net/softnet_stat: no such processor")?,
            processed,
            dropped,
            squeezed,
            steered: columns.get(9).copied().unwrap_or(0),
        });
    }
    Ok(all)
}

/// Pairs of lines, names and numbers, each beginning with the protocol.
fn parse_netstat(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some(names), Some(values)) = (
            names.strip_prefix("TcpExt:"),
            values.strip_prefix("TcpExt:"),
        ) else {
            continue;
        };
        let pairs = names.split_whitespace().zip(values.split_whitespace());
        let wanted = pairs.filter(|(name, _)| TCP_EXTENDED.contains(name));
        let counters =
            wanted.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        return Ok(counters.collect());
    }
    Err("/proc/net/netstat: no TcpExt".to_owned())
}

/// `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 162`
fn parse_sockstat(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let line = line.ok_or("/proc/net/sockstat: no TCP")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let pair = |pair: &[&str]| match pair {
        [name, value] => Some(((*name).to_owned(), value.parse().ok()?)),
        _ => None,
    };
    Ok(words.chunks(2).filter_map(pair).collect())
}

fn conntrack(machine: &dyn Machine) -> Result<Option<(u64, u64)>, String> {
    // Without the module the whole folder is missing, and then nothing is tracked.
    if machine.list("proc/sys/net/ipv4").is_ok() && machine.list("proc/sys/net/netfilter").is_err()
    {
        return Ok(None);
    }
    let file = |name: &str| super::number(machine, &format!("proc/sys/net/netfilter/{name}"));
    match (file("nf_conntrack_count"), file("nf_conntrack_max")) {
        (Ok(count), Ok(most)) => Ok(Some((count, most))),
        (Err(why), _) if why.ends_with("not there") => Ok(None),
        (Err(why), _) | (_, Err(why)) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn softnet_lines_are_read_in_both_layouts() {
        let old = "0000000a 00000002 00000001 0 0 0 0 0 0 00000007 0\n";
        let new = "ff 0 0 0 0 0 0 0 0 0 0 0 00000005 0 0\n";
        let expect = |cpu, processed, dropped, squeezed, steered| Softnet {
            cpu,
            processed,
            dropped,
            squeezed,
            steered,
        };
        assert_eq!(parse_softnet(old), Ok(vec![expect(0, 10, 2, 1, 7)]));
        assert_eq!(parse_softnet(new), Ok(vec![expect(5, 255, 0, 0, 0)]));
        assert!(parse_softnet("zz 0 0\n").is_err());
        assert!(parse_softnet("1 2\n").is_err());
        assert_eq!(parse_softnet(""), Ok(vec![]));
    }

    #[test]
    fn netstat_counters_are_found_by_name() {
        let text = "IpExt: A B\nIpExt: 1 2\nTcpExt: SyncookiesSent X ListenOverflows ListenDrops\n\
                    TcpExt: 3 4 5 6\n";
        let counters = parse_netstat(text).expect("TcpExt is there");
        let found: Vec<_> = counters
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        assert_eq!(
            found,
            [
                ("ListenDrops", 6),
                ("ListenOverflows", 5),
                ("SyncookiesSent", 3)
            ]
        );
        assert!(parse_netstat("IpExt: A\nIpExt: 1\n").is_err());
        assert!(parse_netstat("TcpExt: ListenDrops\n").is_err());
    }

    #[test]
    fn sockets_are_counted() {
        let text = "sockets: used 17\nTCP: inuse 1 orphan 0 tw 12 alloc 1 mem 162\n";
        let sockets = parse_sockstat(text).expect("TCP is there");
        assert_eq!(
            (sockets.get("tw"), sockets.get("mem")),
            (Some(&12), Some(&162))
        );
        assert_eq!(parse_sockstat("TCP: inuse").expect("TCP is there").len(), 0);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(TcpExt:|TCP:|[0-9a-f]{1,17}|[ \n]|.){0,30}") {
            let _ = parse_softnet(&text);
            let _ = parse_netstat(&text);
            let _ = parse_sockstat(&text);
        }
    }
}
