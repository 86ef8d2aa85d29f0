//! The machine with two NUMA nodes and a network device of four queues.
//!
//! It runs in a network namespace of its own, where the device's other end is a tap device with an
//! address: nothing of this machine's network is touched, and nothing reaches it.

use super::{Archive, requirements, run};
use anyhow::{Context, Result, bail, ensure};
use ringway_kernel::namespace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The device's driver, in the order of loading.
pub(crate) const MODULES: [&str; 3] = ["failover", "net_failover", "virtio_net"];

/// This side's address; the guest takes another one of that network.
const OUR_ADDRESS: &str = "10.77.0.1/24";
const TAP: &str = "ringway0";

/// Where the network device is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    /// Below the first bridge, which is no node's: the workers are on all four CPUs.
    OnNoNode,
    /// On the second node, with a table of its receive queues that can be set. The emulator loses
    /// packets by that table: not for traffic.
    OnSecondNode,
}

/// The guest's kernel, if what it takes to run it is here.
///
/// # Errors
/// What is missing.
pub(crate) fn available() -> Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root, "the network device's other end takes root");
    let tun = Path::new("/dev/net/tun");
    ensure!(tun.exists(), "no {} for the device", tun.display());
    in_own_network(|| Ok(())).context("no network of its own")?;
    requirements(&["ip", "strip", "xz"])
}

/// Boots the archive on such a machine as [`super::boot`] does, and counts nothing. `each` runs in the guest's
/// network.
///
/// # Errors
/// When the network or the machine can't be made, or isn't done in time.
pub(crate) fn boot(
    kernel: &Path,
    archive: &Archive,
    card: Card,
    deadline: Duration,
    each: impl FnMut(&str) + Send,
) -> Result<()> {
    in_own_network(|| {
        make_tap()?;
        run(machine(card), kernel, archive, deadline, each)
    })
}

/// Runs `work` on a thread in a new network namespace, which ends with it.
fn in_own_network(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let work = || {
        namespace::enter_network()?;
        work()
    };
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|_| bail!("the guest's thread panicked"))
}

fn make_tap() -> Result<()> {
    for command in [
        format!("tuntap add dev {TAP} mode tap multi_queue"),
        format!("addr add {OUR_ADDRESS} dev {TAP}"),
        format!("link set {TAP} up"),
    ] {
        let status = Command::new("ip").args(command.split(' ')).status();
        let status = status.context("cannot run ip")?;
        ensure!(status.success(), "ip {command} failed");
    }
    Ok(())
}

fn machine(card: Card) -> Command {
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-machine", "q35"]);
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max"]);
    machine.args(["-smp", "4", "-m", "1024"]);
    for node in 0..2 {
        let memory = format!("memory-backend-ram,id=memory{node},size=512M");
        let cpus = format!("{}-{}", 2 * node, 2 * node + 1);
        let node = format!("node,nodeid={node},cpus={cpus},memdev=memory{node}");
        machine.args(["-object", &memory, "-numa", &node]);
    }
    machine.args(["-numa", "dist,src=0,dst=1,val=21"]);
    let link = format!("tap,id=link,ifname={TAP},script=no,downscript=no,queues=4");
    machine.args(["-netdev", &link]);
    // Two interrupts for each queue, and two more.
    let nic = "virtio-net-pci,netdev=link,mq=on,vectors=10";
    if card == Card::OnNoNode {
        machine.args(["-device", nic]);
        return machine;
    }
    // A host bridge on the second node, which is what gives a device below it that node.
    let bridge = "pxb-pcie,id=far,bus_nr=128,numa_node=1,bus=pcie.0";
    machine.args(["-device", bridge]);
    machine.args(["-device", "pcie-root-port,id=far-port,bus=far,chassis=1"]);
    machine.args(["-device", &format!("{nic},bus=far-port,rss=on")]);
    machine
}
