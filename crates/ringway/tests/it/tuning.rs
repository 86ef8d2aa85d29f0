//! `tune --apply` and its undoing on the running kernel, in a network namespace of its own: real
//! parameters, a real device of four queues, real refusals. The machine's own are never touched.

use crate::peers;
use crate::server::{Io, Server, command, on_both_drivers, run_by};
use crate::steering;
use crate::tree::{HELLO, Tree};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

on_both_drivers!(a_device_goes_and_comes_while_a_server_runs);

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringway");
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
/// A user and a group without rights.
const NOBODY: u32 = 65534;
const RPS: &str = "/sys/class/net/veth0/queues/rx-1/rps_cpus";

/// What such a machine needs: its own view of the devices and of `/run`, a pair of devices with four
/// queues each, and a neglected state. It lives until its standard input ends.
const SETUP: &str = "
    mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir /run/irqbalance &&
    mount --bind \"$1\" /run/irqbalance &&
    @devices &&
    echo 128 > /proc/sys/net/core/somaxconn &&
    echo 1 > /sys/class/net/veth0/queues/rx-1/rps_cpus &&
    echo 1 > /sys/class/net/veth0/queues/tx-3/xps_cpus &&
    echo ready && read -r end";

/// Makes the devices.
const DEVICES: &str = "ip link add veth0 numrxqueues 4 numtxqueues 4 type veth \
    peer name veth1 numrxqueues 4 numtxqueues 4 && ip link set veth0 up && ip link set veth1 up";

/// A network namespace with its devices, and a place for journals.
struct Namespace {
    holder: Child,
    place: tempfile::TempDir,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

impl Namespace {
    /// Where none can be made the test is skipped.
    fn new() -> Option<Namespace> {
        for program in ["unshare", "nsenter", "ip"] {
            if !peers::has(program) {
                return None;
            }
        }
        let place = tempfile::tempdir().unwrap();
        for folder in ["journals", "irqbalance"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        let mut holder = Command::new("unshare");
        let setup = SETUP.replace("@devices", DEVICES);
        holder.args(["--net", "--mount", "sh", "-c", &setup, "sh"]);
        holder.arg(place.path().join("irqbalance"));
        holder
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = String::new();
        let output = holder.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        if line != "ready\n" {
            drop(holder.stdin.take());
            let output = holder.wait_with_output().unwrap();
            let why = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
            peers::skip(&format!("no network namespace with devices: {why}"));
            return None;
        }
        Some(Namespace { holder, place })
    }

    fn journals(&self) -> PathBuf {
        self.place.path().join("journals")
    }

    /// A command in there.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string()]);
        command
            .args(["--net", "--mount", program])
            .stdin(Stdio::null());
        command
    }

    fn tune_command(&self, flags: &[&str]) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(self.tune_words(flags));
        command
    }

    fn tune_words(&self, flags: &[&str]) -> Vec<String> {
        let journals = self.journals().display().to_string();
        // What looks at what was done doesn't ask for a device.
        let is_plan = flags.is_empty() || flags.contains(&"--apply");
        let nic: &[&str] = if is_plan { &["--nic", "veth0"] } else { &[] };
        let words = [&["tune", "--journals", &journals], nic, flags].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs tune, and gives its exit code with all that it said.
    fn tune(&self, flags: &[&str]) -> (i32, String) {
        told(&self.tune_command(flags).output().unwrap())
    }

    fn shell(&self, script: &str) -> String {
        let output = self.command("sh").args(["-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn read(&self, path: &str) -> String {
        self.shell(&format!("cat {path}")).trim().to_owned()
    }

    /// Everything that tune could have changed.
    fn snapshot(&self) -> String {
        let files =
            "/sys/class/net/veth0/queues/*/*ps_cpus /sys/class/net/veth0/queues/*/rps_flow_cnt";
        self.shell(&format!(
            "(grep -s . {files}; grep -rs . /proc/sys/net) | sort"
        ))
    }
}

fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(text).unwrap(),
    )
}

const EVERYTHING: &[&str] = &[
    "--apply",
    "--allow-disruption",
    "--role",
    "proxy",
    "--link",
    "wan",
];

#[test]
fn a_live_tuning_is_done_verified_and_undone() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let before = namespace.snapshot();
    assert!(
        before.contains(RPS) && before.contains(SOMAXCONN),
        "{before}"
    );
    for flags in [&["--apply"][..], EVERYTHING] {
        let (code, text) = namespace.tune(flags);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains("FAILED"), "{text}");
        assert_eq!(namespace.read(SOMAXCONN), "4096");
        assert_eq!(
            namespace.read(RPS).trim_start_matches(['0', ',']),
            "",
            "{text}"
        );
        let (code, text) = namespace.tune(&["--verify"]);
        assert_eq!(code, 0, "{text}");
        let (code, text) = namespace.tune(&["--revert"]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(namespace.snapshot(), before, "{flags:?}: {text}");
    }
}

#[test]
fn a_kill_at_every_write_of_a_live_apply_is_undone() {
    if !peers::has("strace") {
        return;
    }
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let trace = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .unwrap();
    if !trace.status.success() {
        return peers::skip("strace may not trace here");
    }
    let before = namespace.snapshot();
    for at in 1.. {
        let kill = format!("inject=write:signal=SIGKILL:when={at}");
        let mut command = namespace.command("strace");
        command.args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=write",
            "-e",
            &kill,
            PROGRAM,
        ]);
        let output = command
            .args(namespace.tune_words(EVERYTHING))
            .output()
            .unwrap();
        let (code, text) = namespace.tune(&["--revert"]);
        assert_eq!(code, 0, "after write {at}: {text}");
        assert_eq!(namespace.snapshot(), before, "after write {at}: {text}");
        if output.status.success() {
            assert!(at > 15, "only {at} writes");
            return;
        }
    }
}

#[test]
fn what_others_change_in_a_live_kernel_is_left() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    assert_eq!(namespace.tune(&["--apply"]).0, 0);
    namespace.shell(&format!("echo 5000 > {SOMAXCONN}; echo 2 > {RPS}"));
    let (code, text) = namespace.tune(&["--verify"]);
    assert_eq!(code, 1);
    assert!(text.contains("changed by somebody else to 5000"), "{text}");
    let (code, text) = namespace.tune(&["--revert"]);
    assert_eq!(code, 1);
    assert_eq!(text.matches("CONFLICT").count(), 2, "{text}");
    assert_eq!(namespace.read(SOMAXCONN), "5000");
    assert_eq!(namespace.read(RPS).trim_start_matches(['0', ',']), "2");
    assert_eq!(namespace.tune(&["--revert", "--force"]).0, 0);
    assert_eq!(namespace.read(SOMAXCONN), "128");
}

#[test]
fn several_at_once_do_it_once() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let before = namespace.snapshot();
    let started: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = namespace.tune_command(&["--apply"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut done = 0;
    for child in started {
        let (code, text) = told(&child.wait_with_output().unwrap());
        if code == 0 {
            done += 1;
        } else {
            assert_eq!(code, 4, "{text}");
            assert!(
                text.ends_with("another ringway tune is at work\n"),
                "{text}"
            );
        }
    }
    assert!(done > 0);
    let (code, text) = namespace.tune(&["--list"]);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
    assert_eq!(namespace.tune(&["--revert"]).0, 0);
    assert_eq!(namespace.snapshot(), before);
}

#[test]
fn without_rights_nothing_is_changed_and_that_is_said() {
    if !peers::has("setpriv") {
        return;
    }
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let before = namespace.snapshot();
    let as_nobody = |flags: &[&str]| {
        let mut command = namespace.command("setpriv");
        command.args([
            "--reuid",
            &NOBODY.to_string(),
            "--regid",
            &NOBODY.to_string(),
            "--clear-groups",
            PROGRAM,
        ]);
        told(&command.args(namespace.tune_words(flags)).output().unwrap())
    };
    if as_nobody(&["--help"]).0 != 0 {
        return peers::skip("nobody may not run the program where it was built");
    }
    let (code, text) = as_nobody(&["--apply"]);
    assert_eq!(code, 4, "{text}");
    assert!(
        text.ends_with("Permission denied (os error 13)\n"),
        "{text}"
    );
    // With a place for journals it is the kernel that refuses.
    for folder in [namespace.place.path().to_owned(), namespace.journals()] {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (code, text) = as_nobody(&["--apply"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("FAILED: no permission: tune has to run as root"),
        "{text}"
    );
    assert!(!text.contains(": done"), "{text}");
    assert_eq!(namespace.snapshot(), before);
    let (code, text) = as_nobody(&["--revert"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(namespace.snapshot(), before);
}

#[test]
fn a_read_only_sys_is_told_and_the_rest_can_be_undone() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let before = namespace.snapshot();
    let words = namespace.tune_words(&["--apply"]).join(" ");
    let script = format!("mount -o remount,bind,ro /sys && exec {PROGRAM} {words}");
    let mut command = namespace.command("unshare");
    let output = command
        .args(["--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let (code, text) = told(&output);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("FAILED: read-only"), "{text}");
    assert!(text.contains("somaxconn: 128 -> 4096: done"), "{text}");
    assert_eq!(namespace.tune(&["--revert"]).0, 0);
    assert_eq!(namespace.snapshot(), before);
}

/// The same files on disk, seen from another network: its values are its own.
#[test]
fn what_was_done_in_another_namespace_is_not_undone_here() {
    let (Some(there), Some(here)) = (Namespace::new(), Namespace::new()) else {
        return;
    };
    assert_eq!(there.tune(&["--apply"]).0, 0);
    here.shell(&format!("echo 4096 > {SOMAXCONN}"));
    let mut command = here.command(PROGRAM);
    let output = command
        .args(there.tune_words(&["--revert"]))
        .output()
        .unwrap();
    let (code, text) = told(&output);
    assert_eq!(code, 1);
    assert!(
        text.contains("NOT HERE: it was done in the network namespace net:["),
        "{text}"
    );
    assert_eq!(here.read(SOMAXCONN), "4096");
    assert_eq!(there.tune(&["--revert"]).0, 0);
    assert_eq!(there.read(SOMAXCONN), "128");
}

/// A journal of one change, made since this start of the machine: 41 and 42 were banned beside 7.
fn ban_interrupts(namespace: &Namespace) {
    let boot = namespace.read("/proc/sys/kernel/random/boot_id");
    let origin = format!(r#"{{"boot_id":"{boot}","network":null,"devices":{{}}}}"#);
    let begin = format!(
        r#"{{"entry":"begin","journal_version":1,"origin":{origin},"started_seconds":1,"program":"0"}}"#
    );
    let change = r#"{"entry":"intent","number":0,"check":"irq.balance","target":"irqbalance_ban","old":"7","new":"7 41 42","rule":"set"}"#;
    let journal = namespace.journals().join("000000000001-000.jsonl");
    fs::write(journal, format!("{begin}\n{change}\n")).unwrap();
}

/// Answers as irqbalance does: each time with the next of these lists of banned interrupts, then with
/// the last, or with the one that was set. What is set is told.
fn irqbalance(namespace: &Namespace, seconds: u32, banned: &[&str]) -> mpsc::Receiver<String> {
    let folder = namespace.place.path().join("irqbalance");
    // One that a process left behind, and the one that answers.
    drop(UnixListener::bind(folder.join("irqbalance1.sock")).unwrap());
    let listener = UnixListener::bind(folder.join("irqbalance2.sock")).unwrap();
    let (settings, asked) = mpsc::channel();
    let mut lists: Vec<String> = banned.iter().rev().map(|list| (*list).to_owned()).collect();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut request = [0; 256];
            let length = client.read(&mut request).unwrap();
            let request = String::from_utf8(request[..length].to_vec()).unwrap();
            if let Some(list) = request.strip_prefix("settings ban irqs ") {
                lists = vec![list.to_owned()];
                settings.send(request).unwrap();
                continue;
            }
            let list = lists.last().unwrap();
            let irqs = list
                .split(' ')
                .map(|irq| format!("IRQ {irq} LOAD 0 DIFF 0 CLASS 2 "));
            let answer = format!("SLEEP {seconds} {}BANNED 0", irqs.collect::<String>());
            client.write_all(answer.as_bytes()).unwrap();
            if lists.len() > 1 {
                lists.pop();
            }
        }
    });
    asked
}

/// Of irqbalance's list only what tune put there is taken out again, by its socket.
#[test]
fn irqbalance_keeps_what_others_banned_since() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    ban_interrupts(&namespace);
    let asked = irqbalance(&namespace, 10, &["7 41 42 99"]);
    let (code, text) = namespace.tune(&["--revert"]);
    assert_eq!(code, 0, "{text}");
    let asked: Vec<String> = asked.try_iter().collect();
    assert_eq!(asked, ["settings ban irqs 7 99"], "{text}");
}

/// What irqbalance does only in its next round is found by the second look.
#[test]
fn what_holds_is_looked_at_again_after_irqbalance_s_round() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    ban_interrupts(&namespace);
    // Asked for the list, then for its period, then for the list again.
    irqbalance(&namespace, 0, &["7 41 42", "7 41 42", "7 41"]);
    let (code, text) = namespace.tune(&["--verify"]);
    assert_eq!(code, 1, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let [first, again, second] = lines[..] else {
        panic!("{text}");
    };
    assert!(first.ends_with(" = 7 41 42: holds"), "{text}");
    assert_eq!(again, "again in 1s, after irqbalance's round");
    assert!(
        second.ends_with("changed by somebody else to 7 41"),
        "{text}"
    );
}

/// A tap has as many queues as programs have it open: none here, and one to be seen.
#[test]
fn a_tap_that_nobody_reads_is_looked_at_and_left() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let made =
        namespace.shell("ip tuntap add tap0 mode tap multi_queue 2>&1 && ip link set tap0 up");
    if !made.is_empty() {
        return peers::skip(&format!("no tap device: {made}"));
    }
    let run = |words: &[&str]| told(&namespace.command(PROGRAM).args(words).output().unwrap());
    let (code, text) = run(&["doctor", "--nic", "tap0", "--details"]);
    assert!((0..=2).contains(&code), "{text}");
    assert!(text.contains(", tap0 (tun, 1 queue)\n"), "{text}");
    assert!(
        text.contains("tap0 is not a device with interrupts"),
        "{text}"
    );
    let before = namespace.snapshot();
    let journals = namespace.journals().display().to_string();
    let (code, text) = run(&["tune", "--nic", "tap0", "--journals", &journals, "--apply"]);
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("tap0"), "{text}");
    assert_eq!(namespace.read(SOMAXCONN), "4096");
    assert_eq!(run(&["tune", "--journals", &journals, "--revert"]).0, 0);
    assert_eq!(namespace.snapshot(), before);
}

/// The server was placed by it, and goes on; what was done to it went with it, and isn't taken for
/// another one's of the same name.
fn a_device_goes_and_comes_while_a_server_runs(io: Io) {
    if !peers::has("curl") {
        return;
    }
    let Some(namespace) = Namespace::new() else {
        return;
    };
    namespace.shell("ip link set lo up");
    let tree = Tree::new();
    let socket = tree.outside().join("admin.sock");
    let admin = format!("unix:{}", socket.display());
    let serve = command(io, &tree.root(), &["--nic", "veth0", "--admin", &admin]);
    let holder = namespace.holder.id().to_string();
    let enter = ["--target", &holder, "--net", "--mount"];
    let server = Server::start(run_by("nsenter", &enter, &serve));
    let expect_alive = || {
        let url = format!("http://{}/hello.txt", server.address());
        let answer = namespace.shell(&format!("curl -s {url}"));
        assert_eq!(answer.as_bytes(), HELLO);
    };
    let placement = || -> Value {
        let status: Value = serde_json::from_str(&steering::ask(&socket, "/status")).unwrap();
        status["placement"].clone()
    };
    let before = placement();
    assert_eq!(before["nic"], "veth0");
    expect_alive();
    let (code, text) = namespace.tune(&["--apply"]);
    assert!(code == 0 && text.contains("rx-1/rps_cpus"), "{text}");
    namespace.shell("ip link del veth0");
    expect_alive();
    assert_eq!(placement(), before);
    for words in [
        &["doctor", "--server", &admin, "--nic", "veth0"][..],
        &["tune", "--nic", "veth0"],
    ] {
        let output = namespace.command(PROGRAM).args(words).output().unwrap();
        let (code, text) = told(&output);
        let expect = "ringway: --nic veth0: no such network device; there are: ";
        assert!((3..=4).contains(&code), "{text}");
        assert!(text.starts_with(expect), "{text}");
    }
    let gone = format!("{RPS} = 00000000: gone: veth0 isn't there any more");
    let (code, text) = namespace.tune(&["--verify"]);
    assert!(code == 1 && text.contains(&gone), "{text}");
    namespace.shell(&format!("{DEVICES} && echo 2 > {RPS}"));
    let (code, text) = namespace.tune(&["--revert"]);
    assert!(
        code == 0 && text.contains("gone: veth0 isn't there any more"),
        "{text}"
    );
    assert_eq!(namespace.read(RPS).trim_start_matches(['0', ',']), "2");
    assert_eq!(namespace.read(SOMAXCONN), "128");
    expect_alive();
    assert_eq!(placement(), before);
    server.stop();
}
