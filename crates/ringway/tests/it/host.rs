//! `doctor` and `tune`, on small trees of files in place of a machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::server::{Io, Server, on_every_driver};
use crate::tree::Tree;

on_every_driver!(doctor_of_a_server);

const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";

/// Long enough for any machine to do a file's work.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine of two processors, as far as a placement needs one, with a backlog that is too small.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.12.1"),
        ("sys/devices/system/cpu/online", "0-1"),
        ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0"),
        ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1"),
        (SOMAXCONN, "128"),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command
        .args(arguments)
        .arg("--root")
        .arg(root)
        .stdin(Stdio::null());
    command
}

fn run(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output = command(root, arguments).output().unwrap();
    (output.status.code().unwrap(), said(&output))
}

/// Both outputs, one after the other.
fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn backlog(root: &Path) -> String {
    fs::read_to_string(root.join(SOMAXCONN)).unwrap()
}

#[test]
fn doctor_warns_and_says_so_in_its_exit_code() {
    let root = machine();
    let (code, text) = run(root.path(), &["doctor"]);
    assert!(
        text.starts_with("works, with 1 warning\nLinux 6.12.1, 2 CPUs in 1 node"),
        "{text}"
    );
    assert!(
        text.contains("\nPlacement: 2 workers on CPU 0-1\n"),
        "{text}"
    );
    assert!(
        text.contains("\nwarning  tcp.backlog: 128; overflows don't show\n"),
        "{text}"
    );
    assert!(
        !text.contains('\u{1b}'),
        "colours without a terminal: {text}"
    );
    assert_eq!(code, 1);
    fs::write(root.path().join(SOMAXCONN), "4096\n").unwrap();
    assert_eq!(run(root.path(), &["doctor"]).0, 0);
}

#[test]
fn doctor_can_not_tell_what_it_can_not_see() {
    let empty = tempfile::tempdir().unwrap();
    let (code, text) = run(empty.path(), &["doctor"]);
    assert!(
        text.starts_with("too little is visible from here to tell\n"),
        "{text}"
    );
    assert_eq!(code, 3);
    let missing = empty.path().join("missing");
    let (code, text) = run(&missing, &["doctor"]);
    let expect = format!(
        "ringway: {}: No such file or directory (os error 2)\n",
        missing.display()
    );
    assert_eq!((code, text), (3, expect));
}

#[test]
fn doctor_fails_when_the_service_can_not_do_what_is_asked() {
    let root = machine();
    let limits = "Max open files            1024                 4096                 files\n";
    fs::create_dir_all(root.path().join("proc/self")).unwrap();
    fs::write(root.path().join("proc/self/limits"), limits).unwrap();
    let (code, text) = run(root.path(), &["doctor", "--connections", "10000"]);
    assert!(
        text.contains("\nfailure  lim.nofile: 4096; 10000 connections need 21024\n"),
        "{text}"
    );
    assert_eq!(code, 2);
}

#[test]
fn doctor_speaks_to_programs() {
    let root = machine();
    let (code, text) = run(root.path(), &["doctor", "--json", "--role", "proxy"]);
    assert!(
        text.starts_with("{\n  \"report_version\": 1,\n  \"exit_code\": 1,\n"),
        "{text}"
    );
    assert!(text.contains("\"role\": \"proxy\""), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn doctor_runs_on_this_machine() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("doctor")
        .output()
        .unwrap();
    let text = said(&output);
    assert!(text.contains("\nLinux "), "{text}");
    assert!(text.contains("\nTiers of the machine"), "{text}");
    assert!(output.stderr.is_empty());
}

fn doctor_of_a_server(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--admin", "127.0.0.1:0"]);
    let listener = server.addresses(2)[1].to_string();
    let doctor = |listener: &str| {
        let arguments = ["doctor", "--details", "--server", listener];
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_ringway"));
        said(&doctor.args(arguments).output().unwrap())
    };
    let text = doctor(&listener);
    let expect = match io {
        Io::Uring => "good    server.driver       io_uring in ",
        _ => "warning server.driver       ",
    };
    assert!(text.contains(expect), "{text}");
    assert!(text.contains("\nTiers\n"), "{text}");
    // What answers there serves files.
    let site = server.address().to_string();
    let text = doctor(&site);
    let expect = format!("{site}: /status is answered with 404");
    assert!(text.contains(&expect), "{text}");
    server.stop();
    let text = doctor(&listener);
    let expect = format!("server.answers: {listener}: Connection refused");
    assert!(text.contains(&expect), "{text}");
    let text = doctor("/run/admin.sock");
    assert!(
        text.contains("neither unix:PATH nor ADDRESS:PORT"),
        "{text}"
    );
}

#[test]
fn a_capture_is_said_the_same_of() {
    let root = machine();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("machine.tar");
    let capture = file.to_str().unwrap();
    assert_eq!(
        run(root.path(), &["doctor", "--capture", capture]),
        (0, String::new())
    );
    let elsewhere = place.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let tar = Command::new("tar")
        .args(["-xf", capture, "-C"])
        .arg(&elsewhere)
        .status();
    if !tar.is_ok_and(|status| status.success()) {
        println!("SKIP: no tar");
        return;
    }
    assert_eq!(
        run(&elsewhere, &["doctor", "--details"]),
        run(root.path(), &["doctor", "--details"])
    );
}

#[test]
fn tune_plans_applies_verifies_and_reverts() {
    let root = machine();
    let root = root.path();
    let (code, text) = run(root, &["tune"]);
    let change = "/proc/sys/net/core/somaxconn: 128 -> 4096";
    assert!(
        code == 0 && text.contains(&format!("\n{change}\n")),
        "{text}"
    );
    assert_eq!(backlog(root), "128\n", "a plan changes nothing");
    let (code, text) = run(root, &["tune", "--apply"]);
    assert!(
        code == 0 && text.starts_with(&format!("{change}: done\n")),
        "{text}"
    );
    assert_eq!(backlog(root), "4096\n");
    let (code, text) = run(root, &["tune"]);
    assert!(code == 0 && text.ends_with("nothing to change\n"), "{text}");
    let holds = "/proc/sys/net/core/somaxconn = 4096: holds\n".to_owned();
    assert_eq!(run(root, &["tune", "--verify"]), (0, holds));
    let (code, text) = run(root, &["tune", "--list"]);
    assert!(
        code == 0 && text.ends_with(" 1 changes, in force\n"),
        "{text}"
    );
    let restored = "/proc/sys/net/core/somaxconn = 128: restored\n".to_owned();
    assert_eq!(run(root, &["tune", "--revert"]), (0, restored));
    assert_eq!(backlog(root), "128\n");
    assert_eq!(
        run(root, &["tune", "--revert"]),
        (0, "nothing to undo\n".to_owned())
    );
}

#[test]
fn tune_leaves_what_others_changed() {
    let root = machine();
    let root = root.path();
    run(root, &["tune", "--apply"]);
    fs::write(root.join(SOMAXCONN), "5000\n").unwrap();
    let (code, text) = run(root, &["tune", "--verify"]);
    assert_eq!(code, 1);
    assert!(
        text.ends_with(": changed by somebody else to 5000\n"),
        "{text}"
    );
    let (code, text) = run(root, &["tune", "--revert"]);
    assert_eq!(code, 1);
    assert!(
        text.contains("CONFLICT: somebody else made it 5000"),
        "{text}"
    );
    assert_eq!(backlog(root), "5000\n");
    assert_eq!(run(root, &["tune", "--revert", "--force"]).0, 0);
    assert_eq!(backlog(root), "128\n");
}

#[test]
fn tune_refuses_while_another_is_at_work() {
    let root = machine();
    let folder = root.path().join("var/lib/ringway/tune");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (code, text) = run(root.path(), &["tune", "--apply"]);
    assert!(
        text.ends_with("another ringway tune is at work\n"),
        "{text}"
    );
    assert_eq!((code, backlog(root.path()).as_str()), (4, "128\n"));
}

#[test]
fn what_nobody_confirms_is_undone() {
    let root = machine();
    let root = root.path();
    let (code, text) = run(root, &["tune", "--apply", "--confirm-within", "1ms"]);
    assert!(code == 0 && text.contains("4096: done\n"), "{text}");
    let started = Instant::now();
    while backlog(root) != "128\n" {
        assert!(started.elapsed() < PATIENCE, "the guard doesn't come");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_confirmed_is_kept() {
    let root = machine();
    let root = root.path();
    run(root, &["tune", "--apply"]);
    assert_eq!(
        run(root, &["tune", "--confirm"]),
        (0, "kept: 1\n".to_owned())
    );
    assert_eq!(run(root, &["tune", "--guard", "1ms"]).0, 0);
    assert_eq!(backlog(root), "4096\n");
}

/// Whoever confirms too late is told, and not that it is kept.
#[test]
fn nothing_can_be_kept_that_does_not_wait_for_it() {
    let root = machine();
    let root = root.path();
    let expect_nothing = || {
        let (code, text) = run(root, &["tune", "--confirm"]);
        assert!(text.contains("nothing waits to be kept"), "{text}");
        assert_eq!(code, 4, "{text}");
    };
    expect_nothing();
    run(root, &["tune", "--apply"]);
    run(root, &["tune", "--revert"]);
    expect_nothing();
    run(root, &["tune", "--apply"]);
    assert_eq!(run(root, &["tune", "--confirm"]).0, 0);
    expect_nothing();
}

#[test]
fn what_is_kept_is_kept_with_the_flags_it_was_asked_with() {
    let root = machine();
    let root = root.path();
    let units = root.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    let persist = ["tune", "--persist", "--role", "proxy", "--nic", "eth 0%"];
    let (code, text) = run(root, &persist);
    assert!(
        code == 0 && text.contains("ringway-tune.service: nothing -> # Made"),
        "{text}"
    );
    let unit = fs::read_to_string(units.join("ringway-tune.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_ringway");
    let expect = format!("\nExecStart={program} tune --apply --role proxy --nic \"eth 0%%\"\n");
    assert!(unit.contains(&expect), "{unit}");
    assert!(run(root, &persist).1.ends_with("nothing to change\n"));
    let (code, text) = run(root, &["tune", "--unpersist"]);
    assert!(
        code == 0 && text.matches(": restored\n").count() == 2,
        "{text}"
    );
    assert!(!units.join("ringway-tune.service").exists());
    assert_eq!(run(root, &["tune", "--unpersist"]).1, "nothing to undo\n");
}

#[test]
fn force_is_for_undoing_alone() {
    let root = machine();
    for other in ["--apply", "--verify", "--persist"] {
        assert_eq!(run(root.path(), &["tune", other, "--force"]).0, 64);
    }
    assert_eq!(run(root.path(), &["tune", "--force"]).0, 64);
    assert_eq!(backlog(root.path()), "128\n");
}

#[test]
fn devices_that_are_not_there_are_answered_with_those_that_are() {
    let root = machine();
    let root = root.path();
    for device in ["eth7", "lo"] {
        let folder = root.join("sys/class/net").join(device);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("mtu"), "1500\n").unwrap();
    }
    let said = "ringway: --nic nosuch: no such network device; there are: eth7, lo\n".to_owned();
    let nosuch = ["--nic", "nosuch"];
    assert_eq!(
        run(root, &[&["doctor"][..], &nosuch].concat()),
        (3, said.clone())
    );
    for what in [&["tune"][..], &["tune", "--shell"], &["tune", "--apply"]] {
        assert_eq!(run(root, &[what, &nosuch].concat()), (4, said.clone()));
    }
    assert_eq!(backlog(root), "128\n");
    assert_eq!(run(root, &["doctor", "--nic", "eth7"]).0, 1);
}

#[test]
fn looking_at_what_was_done_makes_no_folder() {
    let root = machine();
    let root = root.path();
    let folder = root.join("var/lib/ringway/tune");
    let none = format!("no journals in {}\n", folder.display());
    assert_eq!(run(root, &["tune", "--list"]), (0, none));
    let nothing = "nothing was done that isn't undone\n".to_owned();
    assert_eq!(run(root, &["tune", "--verify"]), (0, nothing));
    assert!(!root.join("var").exists());
}
