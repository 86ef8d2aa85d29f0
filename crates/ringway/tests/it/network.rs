//! A network of a test's own, whose line can be made bad: with a loopback that nothing outside of it
//! sees, and rules that hold in it alone.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::peers;

/// Who keeps the network there: it goes with the last process in it.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs a test in a network of its own, or says why it can't. Threads and programs that the test starts
/// are in it too.
pub(crate) fn in_own_network(test: impl FnOnce() + Send) {
    if !peers::is_root() || !peers::has("unshare") || !peers::has("ip") || !peers::has("nft") {
        return;
    }
    let mut command = Command::new("unshare");
    let script = "ip link set lo up && echo ready && read line";
    command.args(["--net", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = Keeper(command.spawn().unwrap());
    let mut line = String::new();
    let output = keeper.0.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    if line != "ready\n" {
        return peers::skip("no network of its own is to be had");
    }
    let network = std::fs::File::open(format!("/proc/{}/ns/net", keeper.0.id())).unwrap();
    let name = thread::current().name().unwrap_or("it").to_owned();
    thread::scope(|scope| {
        let within = thread::Builder::new().name(name).spawn_scoped(scope, || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
            test();
        });
        if let Err(panic) = within.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs one of the network's tools with these words.
#[track_caller]
pub(crate) fn set(words: &str) {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = peers::run(command.args(words), Duration::from_secs(10));
    assert!(output.status.success(), "{output:?}");
}

/// From now on packets that this rule of nftables matches don't arrive.
#[track_caller]
pub(crate) fn drop_packets(rule: &str) {
    set("nft add table ip line");
    set("nft add chain ip line in { type filter hook input priority 0 ; }");
    set(&format!("nft add rule ip line in {rule} drop"));
}

/// All packets arrive again.
#[track_caller]
pub(crate) fn mend() {
    set("nft delete table ip line");
}
