//! `doctor` and `tune`, on small trees of files in place of a machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peers;
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
        text.contains("\nfailure  lim.nofile: 4096; 21024 needed for 10000 connections\n"),
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
        code == 0 && text.ends_with(" 1 change, in force\n"),
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
    wait_for_undoing(root);
}

fn wait_for_undoing(root: &Path) {
    let started = Instant::now();
    while backlog(root) != "128\n" {
        assert!(started.elapsed() < PATIENCE, "the guard doesn't come");
        std::thread::yield_now();
    }
}

/// Sends the guard of this name a signal, while it has long to wait still.
fn signal_guard(name: &str, signal: Signal) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|&byte| byte == 0);
        let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
        if words.any(|word| word == name.as_bytes())
            && let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, signal).unwrap();
            return;
        }
    }
    panic!("there is no guard {name}");
}

/// The text of the only journal.
fn journal(root: &Path) -> String {
    let mut files = fs::read_dir(root.join("var/lib/ringway/tune")).unwrap();
    let file = files.find_map(|file| {
        let path = file.unwrap().path();
        (path.extension()? == "jsonl").then_some(path)
    });
    fs::read_to_string(file.unwrap()).unwrap()
}

/// The name of the guard of the only journal.
fn guard_of(root: &Path) -> String {
    let text = journal(root);
    let (_, guard) = text.split_once("\"guard\":\"").unwrap();
    let (guard, _) = guard.split_once('"').unwrap();
    guard.to_owned()
}

#[test]
fn what_is_confirmed_is_kept() {
    let root = machine();
    let root = root.path();
    let (_, text) = run(root, &["tune", "--apply", "--confirm-within", "60s"]);
    assert!(
        text.contains("undone in 60s unless: ringway tune --confirm --root /"),
        "{text}"
    );
    let guard = &guard_of(root);
    let (_, text) = run(root, &["tune", "--list"]);
    assert!(
        text.ends_with(" 1 change, in force, waits to be confirmed\n"),
        "{text}"
    );
    assert_eq!(
        run(root, &["tune", "--confirm"]),
        (0, "kept: 1\n".to_owned())
    );
    let nothing = (0, "waiting\nnothing to undo\n".to_owned());
    let late = ["tune", "--guard", "1ms", "--guard-name", guard];
    assert_eq!(run(root, &late), nothing);
    assert_eq!(backlog(root), "4096\n");
    signal_guard(guard, Signal::KILL);
}

/// A hangup is no answer: who comes back has the whole time to confirm.
#[test]
fn a_hangup_neither_ends_nor_hurries_the_guard() {
    for is_confirmed in [true, false] {
        let root = machine();
        let root = root.path();
        run(root, &["tune", "--apply", "--confirm-within", "600s"]);
        let guard = guard_of(root);
        signal_guard(&guard, Signal::HUP);
        if is_confirmed {
            assert_eq!(run(root, &["tune", "--confirm"]).0, 0);
            assert_eq!(backlog(root), "4096\n");
            signal_guard(&guard, Signal::KILL);
        } else {
            signal_guard(&guard, Signal::TERM);
            wait_for_undoing(root);
        }
    }
}

/// Nobody is there at the deadline when a shutdown ended the guard before.
#[test]
fn a_guard_that_is_asked_to_end_undoes_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let root = machine();
        let root = root.path();
        run(root, &["tune", "--apply", "--confirm-within", "600s"]);
        signal_guard(&guard_of(root), signal);
        wait_for_undoing(root);
    }
}

/// Journals that went away are nothing to undo, and aren't made again.
#[test]
fn a_guard_makes_no_folder() {
    let root = machine();
    let root = root.path();
    let text = run(root, &["tune", "--guard", "1ms", "--guard-name", "none"]);
    assert_eq!(text, (0, "waiting\nnothing to undo\n".to_owned()));
    assert!(!root.join("var").exists());
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
    assert!(!root.join("var").exists());
    // No guard is to undo it, so nothing waits.
    run(root, &["tune", "--apply"]);
    expect_nothing();
    run(root, &["tune", "--revert"]);
    expect_nothing();
}

#[test]
fn what_is_kept_is_kept_with_the_flags_it_was_asked_with() {
    let root = machine();
    let root = root.path();
    let units = root.join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    let persist = ["tune", "--persist", "--role", "proxy", "--nic", "eth 0%"];
    let persist = [&persist[..], &["--worker-cpus", "0-1"]].concat();
    let (code, text) = run(root, &persist);
    assert!(
        code == 0 && text.contains("ringway-tune.service: nothing -> # Made"),
        "{text}"
    );
    let unit = fs::read_to_string(units.join("ringway-tune.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_ringway");
    let flags = "--role proxy --nic \"eth 0%%\" --worker-cpus 0-1";
    let expect = format!("\nExecStart={program} tune --apply {flags}\n");
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

/// The name of a file goes to a terminal, and a host of containers has thousands of devices.
#[test]
fn lists_are_bounded_and_without_control_characters() {
    let root = machine();
    let root = root.path();
    for device in 0..20 {
        let folder = root.join(format!("sys/class/net/veth{device:02}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("mtu"), "1500\n").unwrap();
    }
    let (code, text) = run(root, &["tune", "--nic", "nosuch"]);
    assert!(text.ends_with(", veth14, veth15, 4 more\n"), "{text}");
    assert_eq!(code, 4);
    run(root, &["tune", "--apply"]);
    let odd = "var/lib/ringway/tune/\u{1b}[31mx.jsonl";
    fs::write(root.join(odd), "").unwrap();
    let (code, text) = run(root, &["tune", "--list"]);
    assert!(text.contains("\n\\u{1b}[31mx 0 changes"), "{text:?}");
    assert_eq!(code, 0);
}

/// The folder of journals may not lie outside of the tree either.
#[test]
fn journals_of_a_tree_are_in_it() {
    let outside = tempfile::tempdir().unwrap();
    let root = machine();
    let root = root.path();
    std::os::unix::fs::symlink(outside.path(), root.join("var")).unwrap();
    for what in ["--apply", "--list", "--revert", "--verify", "--confirm"] {
        let (code, text) = run(root, &["tune", what]);
        let expect = "ringway: /var/lib/ringway/tune: it leads out of the tree\n";
        assert_eq!((code, text.as_str()), (4, expect), "{what}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(backlog(root), "128\n");
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

#[test]
fn what_is_named_and_not_there_is_told() {
    let root = machine();
    let root = root.path();
    let absent = root.join("absent");
    let absent = absent.to_str().unwrap();
    let expect = (4, format!("ringway: {absent}: there is no such folder\n"));
    for what in ["--revert", "--verify", "--list", "--confirm", "--unpersist"] {
        assert_eq!(
            run(root, &["tune", what, "--journals", absent]),
            expect,
            "{what}"
        );
    }
    assert!(!root.join("absent").exists());
    // Nothing is what an unset variable of a script leaves, and doesn't mean all.
    for (id, shown) in [("none", "\"none\""), ("", "\"\"")] {
        let expect = format!("ringway: there is no journal {shown}: none was written yet\n");
        assert_eq!(run(root, &["tune", "--revert", id]), (4, expect));
    }
    run(root, &["tune", "--apply"]);
    let expect = "ringway: there is no journal \"\"; --list shows those there are\n".to_owned();
    assert_eq!(run(root, &["tune", "--revert", ""]), (4, expect));
    assert_eq!(backlog(root), "4096\n");
    let file = root.join(SOMAXCONN);
    let file = file.to_str().unwrap();
    let expect = format!("ringway: {file}: not a folder, which journals need\n");
    for what in ["--apply", "--revert", "--list"] {
        assert_eq!(
            run(root, &["tune", what, "--journals", file]),
            (4, expect.clone())
        );
    }
    let (_, text) = run(root, &["tune", "--worker-cpus", "7"]);
    let why = "none of the processors that were asked for (7) may be used, but 0-1";
    assert!(
        text.starts_with("placement: none\n") && text.contains(why),
        "{text}"
    );
}

/// A folder behind a link is as good as any.
#[test]
fn journals_may_lie_behind_a_link() {
    let root = machine();
    let root = root.path();
    let place = tempfile::tempdir().unwrap();
    let link = root.join("journals");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let journals = ["--journals", link.to_str().unwrap()];
    let tune = |what: &str| run(root, &[&["tune", what][..], &journals].concat());
    let (code, text) = tune("--apply");
    let expect = format!(
        "ringway tune --revert --root {} --journals {} undoes it\n",
        root.display(),
        link.display()
    );
    assert!(code == 0 && text.ends_with(&expect), "{text}");
    assert!(text.contains("note: that was done to the tree of files, and not to this machine\n"));
    assert_eq!(tune("--revert").0, 0);
    assert_eq!(backlog(root), "128\n");
}

/// `--revert --nic eth1` would undo what was done to other devices, too.
#[test]
fn what_was_done_is_not_chosen_by_flags_of_a_plan() {
    let root = machine();
    let root = root.path();
    for what in ["--verify", "--revert", "--list", "--confirm", "--unpersist"] {
        for flag in [
            &["--nic", "eth0"][..],
            &["--role", "proxy"],
            &["--worker-cpus", "0"],
            &["--allow-disruption"],
        ] {
            let (code, text) = run(root, &[&["tune", what][..], flag].concat());
            assert!(code == 64 && text.contains("cannot be used with"), "{text}");
        }
    }
    for contradiction in [
        &["--apply", "--revert"][..],
        &["--list", "--verify"],
        &["--shell", "--persist"],
        &["--confirm-within", "1s"],
        &["--confirm-within", "1s", "--confirm"],
    ] {
        let (code, text) = run(root, &[&["tune"][..], contradiction].concat());
        assert_eq!(code, 64, "{text}");
    }
    assert!(!root.join("var").exists());
}

/// A command whose reader takes a line, and goes before the rest comes.
fn with_reader_gone(mut command: Command) -> (i32, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn exit_codes_do_not_depend_on_who_reads() {
    let root = machine();
    let root = root.path();
    let nothing = String::new();
    let gone = |arguments: &[&str]| with_reader_gone(command(root, arguments));
    for flag in ["--details", "--json"] {
        assert_eq!(gone(&["doctor", flag]), (1, nothing.clone()));
    }
    assert_eq!(gone(&["tune"]), (0, nothing.clone()));
    assert_eq!(gone(&["tune", "--apply"]), (0, nothing.clone()));
    fs::write(root.join(SOMAXCONN), "5000\n").unwrap();
    assert_eq!(gone(&["tune", "--verify"]), (1, nothing.clone()));
    assert_eq!(gone(&["tune", "--revert"]), (1, nothing));
}

#[test]
fn what_can_not_be_printed_is_told() {
    let root = machine();
    let root = root.path();
    let full = |arguments: &[&str]| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = command(root, arguments).stdout(full.unwrap()).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let expect = "ringway: standard output: No space left on device (os error 28)\n".to_owned();
    assert_eq!(full(&["doctor"]), (1, expect.clone()), "the verdict stands");
    // It was done, which "refused" would deny.
    assert_eq!(full(&["tune", "--apply"]), (1, expect));
    assert_eq!(backlog(root), "4096\n");
    let expect = "ringway: /dev/full: No space left on device (os error 28)\n".to_owned();
    assert_eq!(
        run(root, &["doctor", "--capture", "/dev/full"]),
        (3, expect)
    );
}

/// A disk that fills up while things are done: what was done is told, and can be undone.
#[test]
fn a_journal_that_can_not_be_written_any_more_stops_the_rest() {
    if !peers::has("prlimit") {
        return;
    }
    let root = machine();
    let root = root.path();
    let parameters = ["syncookies", "slow_start_after_idle"].map(|name| {
        let path = root.join(format!("proc/sys/net/ipv4/tcp_{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let old = if name == "syncookies" { "0\n" } else { "1\n" };
        fs::write(&path, old).unwrap();
        (path, old)
    });
    // Files may grow to this, and what goes beyond is refused: room for two changes in the journal.
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=600", "sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    limited.arg(env!("CARGO_BIN_EXE_ringway"));
    limited.args(["tune", "--apply", "--link", "wan", "--root"]);
    let output = limited.arg(root).output().unwrap();
    let text = said(&output);
    let last_is_as_before = fs::read_to_string(&parameters[1].0).unwrap() == parameters[1].1;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("STOPPED, and nothing more was done: ") && last_is_as_before,
        "{text}"
    );
    assert!(text.contains(" undoes it\n"), "{text}");
    assert!(text.contains("File too large"), "{text}");
    assert_eq!(run(root, &["tune", "--revert"]).0, 0);
    assert_eq!(backlog(root), "128\n");
    for (path, old) in parameters {
        assert_eq!(fs::read_to_string(path).unwrap(), old);
    }
}

/// On a terminal, as wide as it may be: colours, but where they aren't wanted.
#[test]
fn colours_are_for_terminals_that_have_them() {
    if !peers::has("script") {
        return;
    }
    let root = machine();
    let doctor = format!(
        "{} doctor --root {}",
        env!("CARGO_BIN_EXE_ringway"),
        root.path().display()
    );
    let shown = |variables: &[(&str, &str)]| {
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &format!("stty cols 40; {doctor}"), "/dev/null"]);
        terminal.env_remove("NO_COLOR").env("TERM", "xterm");
        terminal
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        let output = terminal.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = shown(&[("LC_ALL", "tr_TR.UTF-8")]);
    assert!(
        code == Some(1) && text.contains("\u{1b}[33mworks, with 1 warning\u{1b}[0m"),
        "{text}"
    );
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (code, text) = shown(&[variable]);
        assert!(
            code == Some(1)
                && text.contains("works, with 1 warning\r\n")
                && !text.contains("\u{1b}["),
            "{text}"
        );
    }
}
