//! Where the workers' memory is, by what the kernel says of the process.

use serde_json::Value;

use crate::backend::expect_event;
use crate::peers;
use crate::server::{Io, Server, on_both_drivers};
use crate::steering::ask;
use crate::tree::{HELLO, Tree};

on_both_drivers!(
    each_worker_s_buffers_are_on_its_node,
    unbound_workers_take_memory_as_it_comes,
    huge_pages_that_are_not_there_are_told,
);

/// Receive buffers of a worker: 256 of 4 KiB.
const BUFFER_PAGES: u64 = 256;

/// A server, and what its `/status` says.
fn start(io: Io, flags: &[&str]) -> (Server, Value) {
    let tree = Tree::new();
    let socket = tree.outside().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let server = Server::serve(io, &tree.root(), &[&["--admin", &admin], flags].concat());
    server.expect_alive("/hello.txt", HELLO);
    let status = serde_json::from_str(&ask(&socket, "/status")).unwrap();
    (server, status)
}

fn each_worker_s_buffers_are_on_its_node(io: Io) {
    let (server, status) = start(io, &[]);
    let maps = server.memory_maps();
    let workers = status["workers"].as_array().unwrap();
    for worker in workers {
        let memory = &worker["memory"];
        let policy = memory["policy"].as_str().unwrap();
        if policy.starts_with("where it is touched first: ") {
            return peers::skip(policy);
        }
        let node = &worker["memory_node"];
        assert_eq!(policy, format!("bound to node {node}"));
        assert_eq!(memory["heap_policy"], format!("preferred on node {node}"));
        assert_eq!(memory["is_on_its_node"], true);
        assert_eq!(memory["pages_by_node"][node.to_string()], BUFFER_PAGES);
        // The same by another way. The kernel joins neighbours of one policy, so it is the sum that
        // tells.
        let (bound, key) = (format!(" bind=static:{node} "), format!("N{node}="));
        let words = maps
            .lines()
            .filter(|line| line.contains(&bound))
            .flat_map(str::split_whitespace);
        let pages = words.filter_map(|word| word.strip_prefix(&key)?.parse::<u64>().ok());
        let is_sibling = |other: &&Value| other["memory_node"] == *node;
        let siblings = workers.iter().filter(is_sibling).count() as u64;
        assert!(pages.sum::<u64>() >= siblings * BUFFER_PAGES, "{maps}");
    }
    expect_event(
        &server,
        &["INFO where the workers' buffers are", "bound to node"],
    );
}

fn unbound_workers_take_memory_as_it_comes(io: Io) {
    let (server, status) = start(io, &["--pin", "false"]);
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(worker["cpu"], Value::Null);
        assert_eq!(worker["memory"]["policy"], "where it is touched first");
        assert_eq!(worker["memory"]["is_on_its_node"], Value::Null);
    }
    assert!(!server.memory_maps().contains(" bind"));
}

fn huge_pages_that_are_not_there_are_told(io: Io) {
    let reserved = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    if reserved.trim() != "0" {
        return peers::skip("this machine has reserved huge pages");
    }
    let (server, status) = start(io, &["--huge-pages", "reserved"]);
    assert_eq!(
        status["workers"][0]["memory"]["has_reserved_huge_pages"],
        false
    );
    expect_event(&server, &["WARN not every worker has reserved huge pages"]);
}
