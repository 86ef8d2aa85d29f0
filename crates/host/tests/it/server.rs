//! What the doctor says of a server that runs.

use crate::fixture::Spec;
use ringway_host::checks::Verdict::{self, Bad, Good, NotAsked, NotVisible, Note};
use ringway_host::facts::{Fact, Server};
use ringway_host::intent::Intent;
use ringway_host::report::{Report, Style, Tier, examine};
use serde_json::{Value, json};

/// On two nodes with two cores each, and a device with two queues on the first.
fn doctor(server: Option<Fact<Server>>) -> Report {
    let mut facts = Spec::nodes(2, 2).build().facts();
    facts.server = server;
    examine(facts, Intent::default())
}

/// What its workers and its steering look like when everything is as it should be.
fn status() -> Value {
    let worker = |cpu: u32| {
        json!({
            "cpu": cpu,
            "driver": "uring: the self-test passed",
            "memory": { "is_on_its_node": true, "policy": "bound to node 0" },
        })
    };
    json!({
        "version": "0.1.0",
        "workers": [worker(0), worker(1)],
        "placement": { "is_pinned": true },
        "steering": { "kind": "incoming-cpu", "live": 0.97, "reason": "the self-test passed" },
    })
}

/// What is found of a server whose status has another value at one place.
#[track_caller]
fn check(place: &str, value: Value, id: &str, expect: Verdict) {
    let mut status = status();
    *status.pointer_mut(place).expect(place) = value;
    let server = serde_json::from_value(status).expect("as the server writes it");
    let report = doctor(Some(Fact::Known(server)));
    let finding = report.findings.iter().find(|finding| finding.id == id);
    assert_eq!(finding.expect(id).verdict, expect, "{place}");
}

fn good(found: &str) -> Verdict {
    Good(found.to_owned())
}

fn bad(found: &str) -> Verdict {
    Bad(found.to_owned())
}

#[test]
fn a_driver_that_is_not_io_uring_is_told_with_its_reason() {
    let id = "server.driver";
    check("/version", json!("1"), id, good("io_uring in 2 of them"));
    let epoll = json!("epoll: io_uring_setup: EPERM");
    let found = "1 of 2 without: epoll: io_uring_setup: EPERM";
    check("/workers/1/driver", epoll, id, bad(found));
}

#[test]
fn workers_are_where_the_placement_has_them() {
    let id = "server.placement";
    check("/version", json!("1"), id, good("2 workers on CPU 0-1"));
    let found = "2 workers on CPU 0,3; the placement is 2 on CPU 0-1";
    check("/workers/1/cpu", json!(3), id, bad(found));
    let found = "2 workers, not pinned";
    check("/placement/is_pinned", json!(false), id, bad(found));
}

#[test]
fn memory_is_on_the_workers_nodes() {
    let (id, place) = ("server.memory", "/workers/1/memory/is_on_its_node");
    check(place, json!(true), id, good("2 of 2 on their node"));
    check(place, json!(false), id, bad("1 of 2 on their node"));
    let unseen = NotVisible("bound to node 0".to_owned());
    check(place, json!(null), id, unseen);
}

#[test]
fn connections_come_in_where_they_are_received() {
    let id = "server.steering";
    let found = "incoming-cpu; 97 % arrive on their worker's CPU";
    check("/version", json!("1"), id, good(found));
    let found = "incoming-cpu; 50 % arrive on their worker's CPU";
    check("/steering/live", json!(0.5), id, bad(found));
    let none = Note("incoming-cpu; no connection so far".to_owned());
    check("/steering/live", json!(null), id, none);
    let found = "hashed: the self-test passed";
    check("/steering/kind", json!("hash"), id, bad(found));
}

#[test]
fn a_server_that_does_not_answer_is_told_at_the_top() {
    let report = doctor(Some(Fact::Unknown("127.0.0.1:1: refused".to_owned())));
    let text = report.text(Style::default());
    let told = "warning  server.answers: 127.0.0.1:1: refused\n";
    assert!(text.contains(told), "{text}");
    check("/version", json!("1"), "server.answers", good("version 1"));
}

#[test]
fn tiers_ask_for_the_server_only_when_one_was_named() {
    let missing = |server, tier| {
        let report = doctor(server);
        let reach = report.tiers.into_iter().find(|reach| reach.tier == tier);
        let reach = reach.expect("every tier");
        let of_server = |id: &&str| id.starts_with("server.");
        let missing: Vec<_> = reach.missing.into_iter().filter(of_server).collect();
        (missing, reach.unseen.into_iter().filter(of_server).count())
    };
    assert_eq!(missing(None, Tier::Expert), (vec![], 0));
    let silent = || Some(Fact::Unknown("connection refused".to_owned()));
    assert_eq!(missing(silent(), Tier::Entry), (vec![], 0));
    assert_eq!(missing(silent(), Tier::Advanced), (vec![], 2));
    assert_eq!(missing(silent(), Tier::Expert), (vec![], 4));
    let mut status = status();
    status["workers"][0]["driver"] = json!("epoll: asked for");
    let server = serde_json::from_value(status).expect("as the server writes it");
    let server = Some(Fact::Known(server));
    assert_eq!(missing(server, Tier::Advanced), (vec!["server.driver"], 0));
}

#[test]
fn what_a_server_says_brings_no_colours() {
    let mut status = status();
    status["workers"][0]["driver"] = json!("\u{1b}[2Jepoll");
    let server = serde_json::from_value(status).expect("as the server writes it");
    let text = doctor(Some(Fact::Known(server))).text(Style::default());
    assert!(text.contains("server.driver"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn without_a_word_nothing_is_asked() {
    let report = doctor(None);
    let of_server = report.findings.iter();
    let mut of_server = of_server.filter(|finding| finding.id.starts_with("server."));
    assert!(of_server.all(|finding| matches!(finding.verdict, NotAsked(_))));
}
