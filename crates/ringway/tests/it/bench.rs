//! `ringway bench run` and `peers` from outside: what is written, and what becomes of everything that
//! can go wrong. Runs are far too short for figures, and nothing here looks at one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{find, skip};
use crate::server::{PATIENCE, within};

/// A folder for what is written: the report in `report`, files to serve in `scratch`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("scratch")).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("bench").args(arguments);
    command.args(["--report", "report", "--scratch"]);
    command.arg(folder.join("scratch")).current_dir(folder);
    command.stdin(Stdio::null());
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The JSON report, beside which the other two have to be, and whole.
fn report(folder: &Path) -> Value {
    let read = |name: &str| fs::read_to_string(folder.join("report").join(name)).unwrap();
    assert!(read("report.html").ends_with("</html>\n"));
    assert!(read("report.md").starts_with("# ringway bench\n"));
    serde_json::from_str(&read("report.json")).unwrap()
}

/// The claims of a report, in its order.
fn names(report: &Value) -> Vec<&Value> {
    let outcomes = report["outcomes"].as_array().unwrap();
    outcomes.iter().map(|one| &one["name"]).collect()
}

fn outcome<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["outcomes"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()
}

/// Whether no process has the folder in its command line.
fn is_left_alone(folder: &Path) -> bool {
    let folder = folder.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let mentions = |line: Vec<u8>| line.windows(folder.len()).any(|part| part == folder);
    !lines.into_iter().any(mentions)
}

#[test]
fn a_report_has_a_verdict_for_each_claim() {
    let folder = folder();
    let output = output(folder.path(), &["run", "workers", "queues", "--tiny"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let report = report(folder.path());
    assert_eq!(report["partial"], Value::Null);
    assert_eq!(names(&report), ["workers", "queues"]);
    assert_eq!(outcome(&report, "queues")["verdict"], "not_measurable");
    let workers = outcome(&report, "workers");
    let verdict = workers["verdict"].as_str().unwrap();
    // Where the load has to share a CPU with the servers, what is measured decides nothing.
    let verdicts = ["confirmed", "refuted", "no_difference", "not_measurable"];
    assert!(verdicts.contains(&verdict), "{verdict}");
    let rows = &workers["comparisons"][0]["rows"];
    assert_eq!(
        (&rows[0]["name"], &rows[1]["name"]),
        (&"shared".into(), &"per core".into())
    );
    assert!(rows[1]["cost"]["median"].as_f64().unwrap() > 0.0);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("The report: report/report.html"), "{said}");
    let left = fs::read_dir(folder.path().join("scratch")).unwrap().count();
    assert_eq!(left, 0, "files to serve are left");
}

#[test]
fn both_drivers_and_the_relay_are_measured_as_proxies() {
    let folder = folder();
    let output = output(folder.path(), &["run", "proxy", "--tiny"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let report = report(folder.path());
    let comparisons = outcome(&report, "proxy")["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 3);
    for comparison in comparisons {
        let rows = comparison["rows"].as_array().unwrap();
        let names: Vec<_> = rows
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert!(names[0].starts_with("relay, "), "{names:?}");
        assert_eq!(names[1..3], ["ringway, uring", "ringway, epoll"]);
    }
}

#[test]
fn a_run_is_compared_with_an_earlier_one() {
    let folder = folder();
    let arguments = ["run", "workers", "--tiny"];
    assert_eq!(output(folder.path(), &arguments).status.code(), Some(0));
    let again = [&arguments[..], &["--compare", "report/report.json"]].concat();
    assert_eq!(output(folder.path(), &again).status.code(), Some(0));
    let markdown = fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    assert!(markdown.contains("## Since the other run"), "{markdown}");
    assert!(!markdown.contains("Nothing is in both"), "{markdown}");
}

#[test]
fn a_report_is_made_in_pieces() {
    let folder = folder();
    let first = output(folder.path(), &["run", "queues", "--tiny", "--rounds", "2"]);
    assert_eq!(first.status.code(), Some(0), "{}", error(&first));
    let keep = ["--tiny", "--rounds", "2", "--keep"];
    let second = output(folder.path(), &[&["run", "workers"], &keep[..]].concat());
    assert_eq!(second.status.code(), Some(0), "{}", error(&second));
    let report = report(folder.path());
    assert_eq!(names(&report), ["workers", "queues"]);
    let runs = &outcome(&report, "workers")["comparisons"][0]["rows"][0]["runs"];
    assert_eq!(runs.as_array().unwrap().len(), 2);
    // Runs of another length don't belong beside them, and what is there stays as it was.
    let other = output(folder.path(), &["run", "queues", "--tiny", "--keep"]);
    assert_eq!(other.status.code(), Some(1));
    let why = "ringway: the report that is to be kept is of another method\n";
    assert!(error(&other).ends_with(why), "{}", error(&other));
    let names = report["outcomes"].as_array().unwrap().len();
    assert_eq!(names, 2);
}

#[test]
fn lengths_out_of_range_are_wrong_usage() {
    let folder = folder();
    for (arguments, expect) in [
        (["--rounds", "0"], "0 is not in 1..=100"),
        (["--measured", "1ms"], "out of range: from 20ms to 1m"),
        (["--measured", "1"], "has no unit"),
    ] {
        let output = output(
            folder.path(),
            &[&["run", "queues"], &arguments[..]].concat(),
        );
        assert_eq!(output.status.code(), Some(64));
        assert!(error(&output).contains(expect), "{}", error(&output));
    }
}

/// Starts a run that takes minutes, and returns when it has begun.
fn long_run(folder: &Path) -> Child {
    let mut command = command(folder, &["run", "static-1k", "queues"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The noise is told when servers have been started and ended.
    let begun = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("noise: ")));
    assert!(begun.is_some(), "it ended early");
    // What it says next has somewhere to go.
    std::thread::spawn(move || lines.count());
    child
}

#[test]
fn ctrl_c_leaves_a_partial_report_and_no_server() {
    let folder = folder();
    let mut child = long_run(folder.path());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let report = report(folder.path());
    let partial = report["partial"].as_str().unwrap();
    assert_eq!(
        partial,
        "it was interrupted: 2 of the scenarios were not run"
    );
    assert_eq!(outcome(&report, "queues")["verdict"], "not_run");
    assert!(is_left_alone(&folder.path().join("scratch")));
    let left = fs::read_dir(folder.path().join("scratch")).unwrap().count();
    assert_eq!(left, 0, "files to serve are left");
}

#[test]
fn servers_end_with_a_run_that_is_killed() {
    let folder = folder();
    let mut child = long_run(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = || is_left_alone(&folder.path().join("scratch")).then_some(());
    assert!(within(PATIENCE, ended).is_some(), "a server goes on");
}

#[test]
fn a_name_that_is_mistyped_gets_the_nearest_one() {
    let folder = folder();
    let said = error(&output(folder.path(), &["run", "zerocopy"]));
    assert!(
        said.contains("'zerocopy'") && said.contains("'zero-copy'"),
        "{said}"
    );
    let wrong = output(folder.path(), &["peers", "ngnix"]);
    assert!(error(&wrong).contains("'nginx'"), "{}", error(&wrong));
    assert_eq!(wrong.status.code(), Some(64));
    assert!(!folder.path().join("report").exists());
}

#[test]
fn what_cannot_be_compared_with_is_refused_before_anything_is_measured() {
    let folder = folder();
    fs::write(folder.path().join("old.json"), "{}").unwrap();
    let output = output(folder.path(), &["run", "queues", "--compare", "old.json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = error(&output);
    assert!(
        said.starts_with("ringway: old.json: not a report of ringway bench"),
        "{said}"
    );
    assert!(!folder.path().join("report").exists());
}

#[test]
fn a_folder_for_files_that_is_not_there_is_named() {
    let folder = folder();
    fs::remove_dir(folder.path().join("scratch")).unwrap();
    let output = output(folder.path(), &["run", "queues"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).contains("no folder can be made in "),
        "{}",
        error(&output)
    );
}

/// What is said of connections by a run that may have so many descriptors; nothing, with the reason printed, where
/// that can't be arranged.
fn connections_with(descriptors: usize) -> Option<String> {
    let Some(prlimit) = find("prlimit") else {
        skip("prlimit isn't installed");
        return None;
    };
    let folder = folder();
    let run = command(folder.path(), &["run", "connections", "--tiny"]);
    let mut limited = Command::new(prlimit);
    limited
        .arg(format!("--nofile={descriptors}:{descriptors}"))
        .arg("--")
        .arg(run.get_program());
    limited.args(run.get_args()).current_dir(folder.path());
    let output = limited.output().unwrap();
    if !error(&output).contains(&format!("a process may have {descriptors} descriptors")) {
        skip("this user may raise the limit of descriptors again");
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let report = report(folder.path());
    let connections = outcome(&report, "connections");
    // A build that isn't optimized may take more memory for each than is claimed, which is then told instead.
    let verdict = connections["verdict"].as_str().unwrap();
    assert!(
        ["not_measurable", "refuted"].contains(&verdict),
        "{verdict}"
    );
    Some(connections["says"].as_str().unwrap().to_owned())
}

#[test]
fn too_few_descriptors_are_told_and_not_measured_around() {
    if let Some(says) = connections_with(300) {
        assert!(says.contains("the limit of 300 descriptors"), "{says}");
    }
}

#[test]
fn as_many_connections_are_measured_as_descriptors_allow() {
    if let Some(says) = connections_with(4500) {
        assert!(says.starts_with("2500 connections with at most "), "{says}");
        let why = "and no more: the limit of 4500 descriptors for a process";
        assert!(says.ends_with(why), "{says}");
    }
}

#[test]
fn without_root_it_says_that_it_measures_on_the_hosts_network() {
    if !rustix::process::geteuid().is_root() {
        return skip("this is another test's business: it is nobody already");
    }
    let Some(setpriv) = find("setpriv") else {
        return skip("setpriv isn't installed");
    };
    let folder = folder();
    for place in [folder.path(), &folder.path().join("scratch")] {
        fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Where the tests are built, nobody may have no right to be.
    let program = folder.path().join("ringway");
    fs::copy(env!("CARGO_BIN_EXE_ringway"), &program).unwrap();
    let run = command(folder.path(), &["run", "workers", "--tiny"]);
    let mut as_nobody = Command::new(setpriv);
    as_nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
    ]);
    as_nobody
        .arg(&program)
        .args(run.get_args())
        .current_dir(folder.path());
    let output = as_nobody.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let report = report(folder.path());
    let method = report["method"][0].as_str().unwrap();
    assert!(method.starts_with("on the host's loopback"), "{method}");
}

/// A program called nginx that does what `script` says; where it is called with `-v`, it says
/// nothing that looks like a version.
fn peers_with(folder: &Path, script: &str) -> Output {
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    let program = programs.join("nginx");
    let script = format!("#!/bin/sh\nif [ \"$1\" = -v ]; then echo a fork; exit; fi\n{script}\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = command(folder, &["peers", "nginx", "--tiny"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", programs.display()));
    command.env("RINGWAY", env!("CARGO_BIN_EXE_ringway"));
    command.output().unwrap()
}

/// Makes a shell's variable `port` of what the configuration says.
const FIND_PORT: &str = r#"port=$(sed -n 's/.*listen 127.0.0.1:\([0-9]*\).*/\1/p' "$6")"#;

#[test]
fn a_peer_that_does_not_start_is_told_with_what_it_said() {
    let folder = folder();
    let output = peers_with(folder.path(), "echo unknown directive; exit 3");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error(&output).ends_with("ringway: the report is partial: 4 of the scenarios failed\n")
    );
    let report = report(folder.path());
    let says = outcome(&report, "peers-1k")["says"].as_str().unwrap();
    assert_eq!(
        says,
        "nginx: it ended at once (exit status: 3): unknown directive"
    );
}

#[test]
fn a_peer_that_answers_with_errors_is_not_measured() {
    let folder = folder();
    let script = format!(
        "{FIND_PORT}\nexec \"$RINGWAY\" serve \"$(mktemp -d -p \"$2\")\" --listen 127.0.0.1:$port"
    );
    let output = peers_with(folder.path(), &script);
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    let report = report(folder.path());
    let says = outcome(&report, "peers-1k")["says"].as_str().unwrap();
    assert!(
        says.starts_with("nginx: ") && says.contains("were errors (4xx, 5xx)"),
        "{says}"
    );
}

#[test]
fn a_peer_of_an_unknown_version_is_measured_and_marked() {
    let folder = folder();
    let script = format!("{FIND_PORT}\nexec \"$RINGWAY\" bench yardstick epoll --port $port");
    let output = peers_with(folder.path(), &script);
    let report = report(folder.path());
    let small = outcome(&report, "peers-1k");
    let notes = small["notes"].to_string();
    assert!(
        notes.contains("nginx doesn't tell its version"),
        "{notes} {}",
        error(&output)
    );
    let rows = small["comparisons"][0]["rows"].as_array().unwrap();
    assert_eq!(rows[2]["version"], "of an unknown version");
    // The second comparison is at a rate, and has latencies.
    let run = &small["comparisons"][1]["rows"][2]["runs"][0];
    assert_eq!(run["latency"][0][0], 50.0);
}

#[test]
fn a_peer_that_is_not_installed_is_named() {
    let folder = folder();
    let mut command = command(folder.path(), &["peers", "envoy"]);
    let output = command.env("PATH", folder.path()).output().unwrap();
    let said = error(&output);
    if !said.starts_with("envoy is not installed\n") {
        return skip("envoy is installed where it is found without PATH");
    }
    assert_eq!(output.status.code(), Some(1));
    let nothing = "ringway: none of them is installed, so there is nothing to compare with\n";
    assert!(said.ends_with(nothing), "{said}");
    assert!(!folder.path().join("report").exists());
}

#[test]
fn a_peer_that_only_passes_on_is_told_of_where_files_are_served() {
    if find("haproxy").is_none() {
        return skip("HAProxy isn't installed");
    }
    let folder = folder();
    let output = output(folder.path(), &["peers", "haproxy", "--tiny"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let report = report(folder.path());
    let files = outcome(&report, "peers-1k");
    assert_eq!(files["verdict"], "not_measurable");
    assert_eq!(files["notes"][0], "haproxy serves no files");
    let proxies = outcome(&report, "peers-proxy")["comparisons"]
        .as_array()
        .unwrap();
    assert_eq!(proxies[0]["rows"][2]["name"], "haproxy");
}

#[test]
fn the_list_has_each_claim_and_what_would_refute_it() {
    let list = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        let output = command
            .args(["bench", "list"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let text = list(&[]);
    let all = all.as_array().unwrap();
    assert!(all.len() >= 9);
    for one in all {
        for part in ["name", "claim", "runs", "refuted_by"] {
            let part = one[part].as_str().unwrap();
            assert!(!part.is_empty() && text.contains(part), "{part}");
        }
    }
}
