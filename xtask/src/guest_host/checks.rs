//! What the guest said, and whether it is as it should be. Nothing is run here.

use serde_json::Value;
use std::collections::BTreeMap;

/// What was seen in the guest.
#[derive(Default)]
pub(super) struct Seen {
    said: BTreeMap<String, String>,
    /// What went wrong on the way.
    troubles: Vec<String>,
    /// It got through.
    pub(super) ended: bool,
}

/// Checks that were made, and failed.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn check(&mut self, what: &str, holds: bool, seen: &dyn std::fmt::Display) {
        if holds {
            self.passed += 1;
            println!("ok      {what}");
        } else {
            self.failed += 1;
            println!("FAILED  {what}: {seen}");
        }
    }
}

impl Seen {
    /// Something was seen.
    pub(super) fn add(&mut self, key: &str, text: &str) {
        if key == "trouble" {
            self.troubles.push(text.to_owned());
        } else {
            self.said.insert(key.to_owned(), text.trim().to_owned());
        }
    }

    fn text(&self, key: &str) -> &str {
        self.said.get(key).map_or("", String::as_str)
    }

    fn status(&self, key: &str) -> Value {
        serde_json::from_str(self.text(key)).unwrap_or_default()
    }

    /// Makes all checks and prints each; how many passed, and how many failed.
    pub(super) fn check(&self, connections: u32) -> (usize, usize) {
        let mut tally = Tally::default();
        let troubles = self.troubles.join("; ");
        tally.check("the guest got through", self.ended, &"it ended early");
        tally.check(
            "nothing went wrong on the way",
            troubles.is_empty(),
            &troubles,
        );
        let nodes = self.text("nodes");
        tally.check("there are two nodes", nodes == "0-1", &nodes);
        let receivers = self.text("receivers");
        tally.check("the device has four queues", receivers == "4", &receivers);
        self.check_memory(&mut tally);
        self.check_huge_pages(&mut tally);
        self.check_full_node(&mut tally);
        self.check_steering(&mut tally, connections);
        self.check_tune(&mut tally);
        self.check_offline(&mut tally);
        (tally.passed, tally.failed)
    }

    fn check_memory(&self, tally: &mut Tally) {
        let status = self.status("steered.status");
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        tally.check("there are four workers", workers.len() == 4, &workers.len());
        for (index, worker) in workers.iter().enumerate() {
            let (cpu, memory) = (worker["cpu"].as_u64(), &worker["memory"]);
            let node = cpu.map(|cpu| cpu / 2);
            let is_bound = memory["policy"].as_str()
                == node.map(|node| format!("bound to node {node}")).as_deref()
                && memory["is_on_its_node"] == true
                && worker["node"].as_u64() == node;
            tally.check(
                &format!("worker {index}'s buffers are on its node"),
                is_bound,
                worker,
            );
        }
        // The kernel joins neighbours of one policy, so it is the sums that tell: two workers' 256
        // pages on each node, and what else is theirs.
        let maps = self.text("steered.maps").split(';');
        for (node, other) in [(0, 1), (1, 0)] {
            let bound = format!(" bind=static:{node} ");
            let maps = maps.clone().filter(|map| map.contains(&bound));
            let [there, elsewhere] = [node, other].map(|node| {
                let pages = maps.clone().map(|map| pages_on(map, node));
                pages.sum::<u64>()
            });
            let what = format!("numa_maps has two workers' pages on node {node}, none elsewhere");
            let holds = there >= 2 * 256 && elsewhere == 0;
            tally.check(&what, holds, &self.text("steered.maps"));
        }
    }

    fn check_huge_pages(&self, tally: &mut Tally) {
        let reserved = self.text("huge.reserved");
        tally.check("huge pages are reserved", reserved == "8", &reserved);
        let status = self.status("huge.status");
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let node = |worker: &Value| worker["node"].as_u64();
        let is_huge = |worker: &Value| worker["memory"]["has_reserved_huge_pages"] == true;
        let as_reserved = workers
            .iter()
            .all(|worker| is_huge(worker) == (node(worker) == Some(0)));
        let on_their_node = workers
            .iter()
            .all(|worker| worker["memory"]["is_on_its_node"] == true);
        tally.check(
            "workers of the node that has reserved pages use them, the others don't",
            workers.len() == 4 && as_reserved && on_their_node,
            &Value::from(workers),
        );
    }

    fn check_full_node(&self, tally: &mut Tally) {
        let left = self.text("full.left");
        let is_full = left.parse().is_ok_and(|kib: u64| kib <= 61_440);
        tally.check("the second node is full", is_full, &left);
        let status = self.status("full.status");
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let is_told = |worker: &Value| {
            let how = match worker["node"].as_u64() {
                Some(0) => "bound to node 0",
                _ => "preferred on node 1",
            };
            worker["memory"]["policy"] == how && worker["is_running"] == true
        };
        tally.check(
            "workers of a full node run, with memory that isn't bound to it",
            workers.len() == 4 && workers.iter().all(is_told),
            &Value::from(workers),
        );
    }

    fn check_steering(&self, tally: &mut Tally, connections: u32) {
        let steered = self.status("steered.status");
        let steering = &steered["steering"];
        let is_steered = steering["kind"] == "incoming-cpu";
        tally.check(
            "four fed queues are steered by themselves",
            is_steered,
            steering,
        );
        let arrived = &steered["counters"]["connections_arrived"];
        let count = |which: &str| arrived[which].as_u64().unwrap_or(0);
        let all = count("own") + count("other");
        tally.check(
            "all connections arrived",
            all >= connections.into(),
            arrived,
        );
        let live = steering["live"].as_f64().unwrap_or(0.0);
        tally.check(
            "at least 95 % came in on their worker's CPU",
            live >= 0.95,
            &live,
        );
        let workers = steered["workers"].as_array().cloned().unwrap_or_default();
        let least = workers
            .iter()
            .filter_map(|worker| worker["requests"].as_u64())
            .min();
        tally.check(
            "every worker had some",
            least.unwrap_or(0) > 0,
            &Value::from(workers),
        );
        // Without steering a quarter does, give or take.
        let hashed = self.status("hashed.status");
        let live = hashed["steering"]["live"].as_f64().unwrap_or(1.0);
        tally.check(
            "without steering less than half did",
            live < 0.5,
            &hashed["steering"],
        );
        let spread = self.status("spread.status");
        let steering = &spread["steering"];
        let expect = "eth0 receives on CPU 0, and nothing on CPU 1-3";
        let is_left = steering["kind"] == "hash" && steering["reason"] == expect;
        tally.check(
            "with all packets on one CPU nothing is steered",
            is_left,
            steering,
        );
    }

    fn check_tune(&self, tally: &mut Tally) {
        let before = self.text("tune.before");
        let applied = self.text("tune.applied");
        let cpus = |queues: &str| -> Vec<String> {
            let queues = queues.split_whitespace();
            queues
                .filter_map(|queue| Some(queue.split_once('/')?.0.to_owned()))
                .collect()
        };
        let on_one = cpus(before) == ["0"; 4];
        tally.check("all interrupts were on one CPU", on_one, &before);
        let own = cpus(applied) == ["0", "1", "2", "3"];
        tally.check("tune gives each queue its worker's CPU", own, &applied);
        let codes = ["tune.code", "tune.verified", "tune.revert.code"].map(|key| self.text(key));
        tally.check(
            "apply, verify and revert succeed",
            codes == ["0"; 3],
            &codes.join(" "),
        );
        let reverted = self.text("tune.reverted");
        let is_back = !before.is_empty() && reverted == before;
        tally.check("revert puts everything back", is_back, &reverted);
    }

    fn check_offline(&self, tally: &mut Tally) {
        let placement = self.text("offline.placement");
        let expect = placement.starts_with("Placement: 3 workers on CPU 0-2");
        tally.check(
            "doctor places nobody on a CPU that is offline",
            expect,
            &placement,
        );
        let status = self.status("offline.status");
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let mut cpus: Vec<u64> = workers
            .iter()
            .filter_map(|one| one["cpu"].as_u64())
            .collect();
        cpus.sort_unstable();
        tally.check(
            "nor does the server",
            cpus == [0, 1, 2],
            &Value::from(workers),
        );
    }
}

/// The pages of a mapping on a node, by a line of `numa_maps` (proc(5)).
fn pages_on(map: &str, node: u32) -> u64 {
    let key = format!("N{node}=");
    let mut words = map.split_whitespace();
    let count = words.find_map(|word| word.strip_prefix(&key));
    count.map_or(0, |count| count.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Seen, pages_on};

    #[test]
    fn pages_are_counted_by_node() {
        let map = "7f93fa876000 bind=static:0 anon=257 dirty=257 N0=256 N10=1 kernelpagesize_kB=4";
        assert_eq!([0, 1, 10].map(|node| pages_on(map, node)), [256, 0, 1]);
    }

    /// A guest that said nothing fails every check but one.
    #[test]
    fn silence_is_no_success() {
        let (passed, failed) = Seen::default().check(64);
        assert_eq!(passed, 1, "nothing went wrong on the way");
        assert!(failed >= 15, "{failed}");
    }

    #[test]
    fn troubles_are_failures() {
        let mut seen = Seen::default();
        seen.add("trouble", "no connection");
        assert_eq!(seen.check(64).0, 0);
    }
}
