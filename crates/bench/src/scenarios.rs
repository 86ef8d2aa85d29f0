//! What is claimed of servers, and how each claim is measured: one table.
//!
//! The claims with a number are those of the text that this program was made after, whatever we think
//! of them. To add one, write a function that finds out and a row here.

mod connections;
mod drivers;
mod memory;
mod pool;
mod proxy;
mod queues;
mod suite;
mod transfer;
mod workers;

pub(crate) use proxy::proxies_to;
pub(crate) use suite::{Body, LARGE, MIDDLE, SMALL, ringway};

use crate::outcome::{Findings, Outcome, Verdict};
use crate::setting::{Setting, Step, Trouble};
use std::time::Instant;

/// A claim, and what measures it.
pub struct Scenario {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What is claimed.
    pub claim: &'static str,
    /// What is run.
    pub runs: &'static str,
    /// What would refute the claim.
    pub refuted_by: &'static str,
    /// What the comparisons' places on their axis are, where they have some.
    pub axis: Option<&'static str>,
    /// Finds out.
    pub find: fn(&mut Setting) -> Result<Findings, Trouble>,
}

/// All of them, in the order in which they are run and told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "static-1k",
        title: "Files of 1 KB beside the least a server can do",
        claim: "A request for a small file costs at most 1.25 times the CPU of the yardstick, which parses nothing and \
                sends a fixed answer.",
        runs: "A file of 1 KB from 400, 1,000 and 10,000 connections, kept alive and not, on both drivers with one \
               worker.",
        refuted_by: "A higher median ratio, at any number of kept-alive connections.",
        axis: None,
        find: suite::small,
    },
    Scenario {
        name: "static-100k",
        title: "Files of 100 KB beside the least a server can do",
        claim: "A request for a file of 100 KB costs at most 1.25 times the CPU of the yardstick, which parses nothing \
                and sends a fixed answer.",
        runs: "A file of 100 KB from 400, 1,000 and 10,000 connections, kept alive and not, on both drivers with one \
               worker.",
        refuted_by: "A higher median ratio, at any number of kept-alive connections.",
        axis: None,
        find: suite::middle,
    },
    Scenario {
        name: "static-10m",
        title: "Files of 10 MB beside sendfile alone",
        claim: "A request for a large file costs at most 1.10 times the CPU of sendfile alone.",
        runs: "A file of 10 MB from 64 connections, kept alive and not, on both drivers with one worker.",
        refuted_by: "A higher median ratio from kept-alive connections.",
        axis: None,
        find: suite::large,
    },
    Scenario {
        name: "zero-copy",
        title: "A naive copy against each way without one",
        claim: "Sending a file by sendfile takes 3.59 times less than reading it in 8 KiB and writing that (100 MB: 520 ms \
                against 145 ms).",
        runs: "A file of 100 MB and one of 1 GB over one connection, by each way that the server knows.",
        refuted_by: "Less than 3.2 times in CPU for 100 MB.",
        axis: None,
        find: transfer::find,
    },
    Scenario {
        name: "drivers",
        title: "io_uring against epoll",
        claim: "A server on io_uring answers 2.49 times as many requests as one on epoll (388,912 against 156,234 a second).",
        runs: "The same server on both, 1 KB, from 1, 64, 512 and 4,096 connections, and with 16 requests pipelined.",
        refuted_by: "Less than 2.2 times in CPU for a request, at every number of connections.",
        axis: Some("connections"),
        find: drivers::find,
    },
    Scenario {
        name: "pool",
        title: "A lock-free connection pool against one behind a mutex",
        claim: "A lock-free queue of idle connections is 3.84 times as fast as a mutex (100,000 operations on each of 8 \
                threads: 342 ms against 89 ms).",
        runs: "Taking a connection and giving it back, with one thread and with eight, from a Vec in a Mutex, from one \
               lock-free queue, and from the proxy's own pool with and without what it keeps for each worker.",
        refuted_by: "Less than 3.5 times with eight threads.",
        axis: Some("threads"),
        find: pool::find,
    },
    Scenario {
        name: "workers",
        title: "Workers that share nothing against workers that share all",
        claim: "A worker for each CPU, with a listener and an event queue of its own, costs less for a request than \
                as many threads with one of each in common.",
        runs: "Two servers of the least work, on epoll, 1 KB from 64 and 512 connections.",
        refuted_by: "As much or more CPU for a request.",
        axis: Some("connections"),
        find: workers::find,
    },
    Scenario {
        name: "numa",
        title: "Memory of the own node against that of another",
        claim: "Working on memory of the own NUMA node is 1.61 times as fast (1,000 blocks of 1 MB: 450 ms against 280 ms).",
        runs: "A thread on a CPU of one node reads and writes memory that a thread of another node touched first.",
        refuted_by: "Less than 1.45 times.",
        axis: None,
        find: memory::find,
    },
    Scenario {
        name: "queues",
        title: "One queue of the network card against many",
        claim: "Eight queues with a CPU each carry 9.8 Gbit/s where one carries 2.5 (3.92 times).",
        runs: "Nothing: loopback has no queues, and one machine can't load its own network card.",
        refuted_by: "A second machine as the client, `ringway tune --apply` and `ringway bench load` on it.",
        axis: None,
        find: queues::find,
    },
    Scenario {
        name: "connections",
        title: "A million connections kept alive",
        claim: "Idle connections are bounded by memory alone: a million of them, with less than 2 KiB of the server's memory \
                for each.",
        runs: "As many connections as descriptors allow, from many source addresses, each asked once; then a sample of \
               them again.",
        refuted_by: "More memory for a connection, or a connection that was closed.",
        axis: None,
        find: connections::find,
    },
    Scenario {
        name: "proxy",
        title: "The proxy beside nginx, and the least a relay can do",
        claim: "A proxy of this design passes on 4.72 times as many requests as nginx (850,000 against 180,000 a second).",
        runs: "1 KB, 100 KB and 10 MB through a relay that looks at nothing, through the proxy on both drivers, and through \
               nginx where it is installed, from the same server.",
        refuted_by: "Less than 4.2 times in CPU for a request of 1 KB.",
        axis: None,
        find: proxy::find,
    },
];

/// The claims that the text sums up: with a number each.
pub const SUMMARY: [&str; 6] = ["zero-copy", "drivers", "pool", "numa", "queues", "proxy"];

/// Files of all sizes: apart from each other, so that each fits a few quiet minutes.
pub const STATIC: [&str; 3] = ["static-1k", "static-100k", "static-10m"];

/// What can be asked for instead of scenarios.
pub const GROUPS: [&str; 3] = ["all", "summary", "static"];

/// Those that the names mean, each once, in the table's order. No names mean all.
///
/// # Errors
/// The first name that isn't one.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    let is_known = |name: &&String| {
        GROUPS.contains(&name.as_str()) || SCENARIOS.iter().any(|one| one.name == name.as_str())
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(unknown.clone());
    }
    let is_meant = |one: &&Scenario| {
        let by_name = |name: &String| match name.as_str() {
            "all" => true,
            "summary" => SUMMARY.contains(&one.name),
            "static" => STATIC.contains(&one.name),
            name => name == one.name,
        };
        names.is_empty() || names.iter().any(by_name)
    };
    Ok(SCENARIOS.iter().filter(is_meant).collect())
}

impl Scenario {
    /// Finds out, and writes down what came of it, whatever that is.
    pub fn run(&self, setting: &mut Setting, place: usize, count: usize) -> Outcome {
        setting.tell(Step::Scenario(self.title.to_owned(), place, count));
        let begin = Instant::now();
        let found = (self.find)(setting);
        let kept = setting.take_kept();
        let findings = found.unwrap_or_else(|trouble| Findings {
            verdict: match trouble {
                Trouble::Interrupted => Verdict::NotRun,
                Trouble::Failed(_) => Verdict::Failed,
            },
            says: trouble.to_string(),
            gain: None,
            comparisons: kept,
            notes: Vec::new(),
        });
        Outcome {
            seconds: begin.elapsed().as_secs_f64(),
            ..self.outcome(findings)
        }
    }

    /// That it was never begun.
    pub fn not_run(&self) -> Outcome {
        self.outcome(Findings {
            verdict: Verdict::NotRun,
            ..Findings::not_measurable("it was ended before this was begun", None)
        })
    }

    fn outcome(&self, findings: Findings) -> Outcome {
        Outcome {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            claim: self.claim.to_owned(),
            runs: self.runs.to_owned(),
            refuted_by: self.refuted_by.to_owned(),
            axis: self.axis.map(str::to_owned),
            verdict: findings.verdict,
            says: findings.says,
            gain: findings.gain,
            comparisons: findings.comparisons,
            notes: findings.notes,
            seconds: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str]) -> Result<Vec<&'static str>, String> {
        let asked: Vec<String> = asked.iter().map(|&name| name.into()).collect();
        Ok(chosen(&asked)?.iter().map(|one| one.name).collect())
    }

    #[test]
    fn names_and_groups_choose_each_once_in_the_tables_order() {
        assert_eq!(
            names(&["drivers", "static-1k", "drivers"]).unwrap(),
            ["static-1k", "drivers"]
        );
        assert_eq!(names(&["static", "static-1k"]).unwrap(), STATIC);
        assert_eq!(names(&["summary"]).unwrap(), SUMMARY);
        assert_eq!(names(&["queues", "summary"]).unwrap(), SUMMARY);
        assert_eq!(names(&[]).unwrap().len(), SCENARIOS.len());
        assert_eq!(names(&["all"]).unwrap().len(), SCENARIOS.len());
    }

    #[test]
    fn a_name_that_is_none_is_told() {
        assert_eq!(names(&["drivers", "zerocopy"]), Err("zerocopy".to_owned()));
    }

    #[test]
    fn names_are_told_apart() {
        let mut all: Vec<_> = SCENARIOS.iter().map(|one| one.name).chain(GROUPS).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SCENARIOS.len() + GROUPS.len());
        assert!(SUMMARY.iter().chain(&STATIC).all(|name| all.contains(name)));
    }
}
