//! How many workers there are, and where: what is asked for has to be there.

use super::{parse, report};
use crate::config::{Flags, Format};
use crate::placement;

/// A complaint that names what this machine has.
fn check_complaint(line: &str, message: &str, hint: &str) {
    let text = format!("{line}\n[files.site]\nroot = \"/\"\n");
    let said = report("site.toml", &text, Format::Toml, &Flags::default());
    assert!(said.contains(message), "{said}");
    assert!(said.contains(&format!("= {hint}")), "{said}");
}

#[test]
fn a_worker_for_each_of_the_cpus() {
    let all = placement::usable_cpus();
    let one = all.iter().next_back().unwrap();
    let text = format!("worker_cpus = \"{one}\"\n[files.site]\nroot = \"/\"\n");
    let config = parse(&text);
    assert_eq!(config.workers, 1);
    let places = placement::of_workers(&config).workers;
    assert_eq!(
        places.iter().map(|place| place.cpu).collect::<Vec<_>>(),
        [one]
    );
    let config = parse(&format!("workers = 3\n{text}"));
    assert_eq!(config.workers, 3);
    let places = placement::of_workers(&config).workers;
    assert!(places.iter().all(|place| place.cpu == one));
    assert_eq!(
        config.worker_cpus.map(|cpus| cpus.to_string()),
        Some(one.to_string())
    );
}

#[test]
fn cpus_that_are_none() {
    for text in ["x", ",", "3-1", "-1", "0-99999999"] {
        let message = format!("{text:?} is no list of CPUs");
        check_complaint(
            &format!("worker_cpus = {text:?}"),
            &message,
            "such as \"0-3,8\"",
        );
    }
    check_complaint("worker_cpus = \"\"", "an empty string", "such as \"0-3,8\"");
    let there = format!("there are {}", placement::usable_cpus());
    // No kernel for x86-64 counts that far.
    check_complaint(
        "worker_cpus = \"0,9000-9001\"",
        "CPU 9000-9001 can't be used",
        &there,
    );
}

#[test]
fn cpus_for_workers_that_are_bound_to_none() {
    let one = placement::usable_cpus().first().unwrap();
    check_complaint(
        &format!("pin = false\nworker_cpus = \"{one}\""),
        "pin = false binds no worker to one",
        "leave one of the two out",
    );
}

#[test]
fn a_device_that_is_not_there() {
    let message = "there is no network device \"no such device\"";
    check_complaint("nic = \"no such device\"", message, "");
}

#[test]
fn steering_has_three_words() {
    check_complaint(
        "steer = \"yes\"",
        "unknown word \"yes\"",
        "one of \"auto\", \"on\", \"off\"",
    );
}
