//! What was used and answered until a moment, as the difference of two of them.

use super::{Progress, Server, own_run_time};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// As many threads as are told.
const THREADS: usize = 8;

/// The counters of `/proc/net/snmp` that are kept, by their names there and ours.
const TCP_COUNTERS: [(&str, &str); 3] = [
    ("InSegs", "TCP segments received"),
    ("OutSegs", "TCP segments sent"),
    ("RetransSegs", "TCP segments sent again"),
];

/// What had been used and answered at a moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) answers: u64,
    pub(super) bytes: u64,
    /// CPU time of the server.
    pub(super) run_time: Duration,
    /// CPU time of the load's threads.
    pub(super) load_time: Duration,
    /// Time that the hypervisor kept the server's CPUs from us.
    pub(super) stolen: Duration,
    /// Time that anybody in this machine had them.
    pub(super) taken: Duration,
    counters: BTreeMap<String, u64>,
}

impl Sample {
    pub(super) fn take(progress: &Progress, server: &Server, cpus: &[usize]) -> io::Result<Sample> {
        let kernel = fs::read_to_string("/proc/stat")?;
        // Of the network namespace that this thread is in.
        let network = fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
        let load_time = own_run_time("load-");
        let mut counters = kernel_counters(&kernel);
        counters.extend(tcp_counters(&network));
        // What belongs together most, last and in one breath.
        let run_time = server.run_time();
        Ok(Sample {
            at: Instant::now(),
            answers: progress.answers.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            run_time,
            load_time,
            stolen: cpu_time(&kernel, cpus, &STOLEN),
            taken: cpu_time(&kernel, cpus, &TAKEN),
            counters,
        })
    }

    /// What was counted since `first`, for each of `requests` requests.
    pub(super) fn counted_since(&self, first: &Sample, requests: f64) -> BTreeMap<String, f64> {
        if requests <= 0.0 {
            return BTreeMap::new();
        }
        let counters = self.counters.iter().map(|(name, now)| {
            let before = first.counters.get(name).copied().unwrap_or(*now);
            (name.clone(), now.saturating_sub(before) as f64 / requests)
        });
        counters.collect()
    }
}

/// The fields of a CPU in proc_stat(5): steal; and user, nice, system, irq, softirq.
const STOLEN: [usize; 1] = [7];
const TAKEN: [usize; 5] = [0, 1, 2, 5, 6];

/// What these fields of these CPUs come to since boot.
fn cpu_time(kernel: &str, cpus: &[usize], fields: &[usize]) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
    let ticks = |cpu: &usize| {
        let name = format!("cpu{cpu} ");
        let line = kernel.lines().find_map(|line| line.strip_prefix(&name))?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        fields
            .iter()
            .map(|field| numbers.get(*field).copied())
            .sum::<Option<u64>>()
    };
    let ticks: u64 = cpus.iter().filter_map(ticks).sum();
    Duration::from_secs_f64(ticks as f64 / per_second)
}

/// Of the whole machine: interrupts, context switches, and received packets' softirqs.
fn kernel_counters(kernel: &str) -> BTreeMap<String, u64> {
    let number = |name: &str, index: usize| {
        let line = kernel.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(index)?.parse::<u64>().ok()
    };
    let found = [
        ("interrupts", number("intr ", 0)),
        ("context switches", number("ctxt ", 0)),
        // The sum, HI, TIMER, NET_TX, NET_RX.
        ("softirqs of received packets", number("softirq ", 4)),
    ];
    let known = found
        .into_iter()
        .filter_map(|(name, count)| Some((name.to_owned(), count?)));
    known.collect()
}

/// Two lines for each protocol: its names, and their values.
fn tcp_counters(network: &str) -> BTreeMap<String, u64> {
    let mut lines = network
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return BTreeMap::new();
    };
    let pairs: BTreeMap<&str, &str> = names.split(' ').zip(values.split(' ')).collect();
    let known = TCP_COUNTERS
        .iter()
        .filter_map(|(theirs, ours)| Some(((*ours).to_owned(), pairs.get(theirs)?.parse().ok()?)));
    known.collect()
}

/// The threads that used most, with the share of one CPU's time.
pub(super) fn busiest(
    before: &[(String, Duration)],
    after: &[(String, Duration)],
    elapsed: Duration,
) -> Vec<(String, f64)> {
    // The same threads in the same order, unless one was started or has ended.
    let shares = after.iter().enumerate().map(|(index, (name, time))| {
        let earlier = before.get(index).filter(|(earlier, _)| earlier == name);
        let earlier = earlier.map_or(Duration::ZERO, |(_, time)| *time);
        let share = time.saturating_sub(earlier).as_secs_f64() / elapsed.as_secs_f64();
        (name.clone(), share)
    });
    let mut shares: Vec<_> = shares.filter(|(_, share)| *share > 0.001).collect();
    shares.sort_by(|left, right| right.1.total_cmp(&left.1));
    shares.truncate(THREADS);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "cpu  1 2 3 4 5 6 7 800 9 10\ncpu0 1 2 3 4 5 6 7 300 0 0\n\
        cpu1 1 2 3 4 5 6 7 500 0 0\ncpu10 1 2 3 4 5 6 7 9 0 0\nintr 77 1 2\nctxt 88\n\
        softirq 99 1 2 3 44 5\n";

    #[test]
    fn stolen_time_is_that_of_the_cpus_asked_for() {
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let of = |fields: &[usize], cpus: &[usize]| {
            cpu_time(KERNEL, cpus, fields).as_secs_f64() * per_second
        };
        let seconds = |cpus: &[usize]| of(&STOLEN, cpus);
        assert_eq!(of(&TAKEN, &[1]).round(), 19.0);
        assert_eq!(seconds(&[1]).round(), 500.0);
        assert_eq!(seconds(&[0, 1]).round(), 800.0);
        assert_eq!(seconds(&[7]).round(), 0.0);
    }

    #[test]
    fn the_kernels_counters_are_read() {
        let counters = kernel_counters(KERNEL);
        assert_eq!(counters["interrupts"], 77);
        assert_eq!(counters["context switches"], 88);
        assert_eq!(counters["softirqs of received packets"], 44);
    }

    #[test]
    fn tcps_counters_are_found_by_their_names() {
        let text = "Ip: A InSegs\nIp: 1 2\nTcp: X InSegs RetransSegs\nTcp: 5 6 7\n";
        let counters = tcp_counters(text);
        assert_eq!(counters["TCP segments received"], 6);
        assert_eq!(counters["TCP segments sent again"], 7);
        assert_eq!(counters.len(), 2);
        assert!(tcp_counters("").is_empty());
    }

    #[test]
    fn threads_are_told_by_their_share() {
        let time = Duration::from_secs;
        let before = [("a".to_owned(), time(100)), ("b".to_owned(), time(5))];
        let after = [
            ("a".to_owned(), time(102)),
            ("b".to_owned(), time(5)),
            ("c".to_owned(), time(3)),
        ];
        let shares = busiest(&before, &after, time(4));
        assert_eq!(shares, [("c".to_owned(), 0.75), ("a".to_owned(), 0.5)]);
    }
}
