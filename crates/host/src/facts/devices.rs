//! Network devices: what each is, where its hardware sits, its queues and what steers packets to
//! and from them.

use super::interrupts::{Direction, Interrupts, Irq};
use super::{Fact, cpu_mask, number, numbered, text};
use crate::cpulist::CpuList;
use crate::machine::Machine;
use crate::probes::{Channels, Coalescing, Device, Rings, Rss};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const CLASS: &str = "sys/class/net";

/// Above any number of queues of a device.
const MOST_QUEUES: u32 = 1 << 14;
/// Above any number of devices that a person would read about.
const MOST_DEVICES: usize = 4096;

/// The counters of a device that say that something was lost, and how busy it is.
const STATISTICS: &[&str] = &[
    "rx_packets",
    "tx_packets",
    "rx_dropped",
    "rx_errors",
    "rx_missed_errors",
    "rx_fifo_errors",
    "rx_over_errors",
    "tx_dropped",
    "tx_errors",
];

/// A network device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// The device on the bus, as a path below the root (for virtio the PCI device above it).
    pub bus_device: Fact<String>,
    /// Its driver.
    pub driver: Fact<String>,
    /// Its NUMA node; `null` when the firmware names none.
    pub node: Fact<Option<u32>>,
    /// The devices that it is made of (bond, VLAN, bridge).
    pub lower: Vec<String>,
    /// Whether it has a link and is up.
    pub is_up: Fact<bool>,
    /// Its speed in Mbit/s.
    pub speed_mbit: Fact<u64>,
    /// The largest packet, in bytes.
    pub mtu_bytes: Fact<u64>,
    /// Its receive queues.
    pub rx_queues: Vec<RxQueue>,
    /// Its send queues.
    pub tx_queues: Vec<TxQueue>,
    /// Its interrupts.
    pub irqs: Fact<Vec<Irq>>,
    /// How many queues are set up, and could be.
    pub channels: Fact<Channels>,
    /// The depth of the rings.
    pub rings: Fact<Rings>,
    /// How long it collects packets before it interrupts.
    pub coalescing: Fact<Coalescing>,
    /// How flows are spread over the queues.
    pub rss: Fact<Rss>,
    /// Offloads by ethtool's names.
    pub features: Fact<BTreeMap<String, bool>>,
    /// Queueing disciplines, the root's first.
    pub qdiscs: Fact<Vec<String>>,
    /// Packets, losses and errors since it was made.
    pub statistics: BTreeMap<String, u64>,
}

/// What kind a device is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Has a device on a bus, real or a hypervisor's.
    Physical,
    /// As physical, by radio.
    Wireless,
    /// `lo`.
    Loopback,
    /// Several as one.
    Bond,
    /// A part of another by tag.
    Vlan,
    /// Ports as one segment.
    Bridge,
    /// One end of a pair: what containers have.
    Virtual,
}

/// A receive queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RxQueue {
    /// Its number.
    pub index: u32,
    /// The processors that its packets are handed to (RPS); empty is off.
    pub rps_cpus: Fact<CpuList>,
    /// How many flows it remembers the processor of (RFS); 0 is off.
    pub rps_flows: Fact<u64>,
}

/// A send queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TxQueue {
    /// Its number.
    pub index: u32,
    /// The processors that send by it (XPS); empty is off.
    pub xps_cpus: Fact<CpuList>,
}

impl Nic {
    /// The interrupts that serve queues; empty when that isn't known.
    pub fn queue_irqs(&self) -> impl Iterator<Item = &Irq> {
        let irqs = self.irqs.known().map_or(&[][..], Vec::as_slice);
        irqs.iter().filter(|irq| irq.queue.is_some())
    }

    /// How many queues receive: what the driver says, else what sysfs shows.
    pub fn receiving_queues(&self) -> u32 {
        let shown = u32::try_from(self.rx_queues.len()).unwrap_or(u32::MAX);
        match self.channels.known().map(Channels::receiving) {
            // Some drivers show more queues in sysfs than they use, and some answer 0.
            Some(used) if used > 0 => used.min(shown.max(1)),
            _ => shown,
        }
    }

    /// The processors on which its packets are received now: those that its queues' interrupts go
    /// to, or that they are spread over from there (RPS).
    ///
    /// # Errors
    /// Why that isn't known.
    pub fn receiving_cpus(&self) -> Result<CpuList, String> {
        let mut all = CpuList::default();
        for queue in self.rx_queues.iter().take(self.receiving_queues() as usize) {
            let spread = queue.rps_cpus.known().filter(|cpus| !cpus.is_empty());
            let cpus = match spread {
                Some(spread) => spread,
                None => self.interrupt_cpus(queue.index)?,
            };
            cpus.iter().for_each(|cpu| all.insert(cpu));
        }
        Ok(all)
    }

    /// Where the interrupt of a receiving queue goes: the one CPU that it is allowed, or what the
    /// kernel chose of several. The choice alone may be an old one, because an interrupt moves only
    /// when it comes.
    fn interrupt_cpus(&self, queue: u32) -> Result<&CpuList, String> {
        let irqs = self.irqs.known().map_or(&[][..], Vec::as_slice);
        let is_its = |irq: &&Irq| {
            let (direction, index) = irq.queue.unwrap_or((Direction::Tx, queue));
            index == queue && direction != Direction::Tx
        };
        let name = &self.name;
        let irq = irqs
            .iter()
            .find(is_its)
            .ok_or_else(|| format!("the interrupt of {name}'s queue {queue} isn't known"))?;
        let allowed = irq.affinity.known();
        let only = allowed.filter(|cpus| cpus.len() == 1);
        let chosen = irq.effective.known().filter(|cpus| !cpus.is_empty());
        only.or(chosen).or(allowed).ok_or_else(|| {
            format!("where the interrupt of {name}'s queue {queue} goes isn't known")
        })
    }
}

/// Every device with what it answered; `why` is the reason where one wasn't asked.
pub(super) fn all(
    machine: &dyn Machine,
    names: &[String],
    answers: &BTreeMap<String, Device>,
    why: &str,
) -> Vec<Nic> {
    let interrupts = Interrupts::read(machine);
    let nic = |name: &String| {
        let answer = answers.get(name).cloned();
        let answer = answer.unwrap_or_else(|| Device::unknown(why));
        read(machine, name, answer, &interrupts)
    };
    names.iter().map(nic).collect()
}

/// The names of all devices.
pub(super) fn names(machine: &dyn Machine) -> Result<Vec<String>, String> {
    let mut names = machine.list(CLASS)?;
    // `bonding_masters` is a file.
    names.retain(|name| machine.read(&format!("{CLASS}/{name}/mtu")).is_ok());
    names.truncate(MOST_DEVICES);
    Ok(names)
}

fn read(machine: &dyn Machine, name: &str, answers: Device, interrupts: &Interrupts) -> Nic {
    let folder = format!("{CLASS}/{name}");
    let file = |file: &str| format!("{folder}/{file}");
    let device = machine.resolve(&file("device"));
    let bus_device = device
        .clone()
        .and_then(|device| bus_device(machine, &device));
    let has_device = device.is_ok();
    Nic {
        name: name.to_owned(),
        kind: kind(machine, name, has_device),
        driver: driver(machine, &folder, has_device, answers.driver),
        node: bus_device
            .clone()
            .and_then(|path| node(machine, &path))
            .into(),
        lower: lower(machine, &folder),
        is_up: text(machine, &file("operstate"))
            .map(|state| state == "up")
            .into(),
        speed_mbit: speed(machine, &file("speed")).into(),
        mtu_bytes: number(machine, &file("mtu")).into(),
        rx_queues: rx_queues(machine, &file("queues")),
        tx_queues: tx_queues(machine, &file("queues")),
        irqs: interrupts
            .of(machine, name, bus_device.as_deref().ok())
            .into(),
        bus_device: bus_device.into(),
        channels: answers.channels,
        rings: answers.rings,
        coalescing: answers.coalescing,
        rss: answers.rss,
        features: answers.features,
        qdiscs: answers.qdiscs,
        statistics: statistics(machine, &file("statistics")),
    }
}

fn kind(machine: &dyn Machine, name: &str, has_device: bool) -> DeviceKind {
    let has = |entry: &str| machine.list(&format!("{CLASS}/{name}/{entry}")).is_ok();
    if name == "lo" {
        DeviceKind::Loopback
    } else if has("bonding") {
        DeviceKind::Bond
    } else if has("bridge") {
        DeviceKind::Bridge
    } else if has("wireless") || has("phy80211") {
        DeviceKind::Wireless
    } else if machine.read(&format!("proc/net/vlan/{name}")).is_ok() {
        DeviceKind::Vlan
    } else if has_device {
        DeviceKind::Physical
    } else {
        DeviceKind::Virtual
    }
}

/// Walks up from the device to the one that has a place on a bus: a virtio device has neither a
/// node nor interrupts, its PCI parent has both.
fn bus_device(machine: &dyn Machine, device: &str) -> Result<String, String> {
    let mut path = device;
    while let Some((parent, _)) = path.rsplit_once('/') {
        let has_node = machine.read(&format!("{path}/numa_node")).is_ok();
        if has_node || machine.list(&format!("{path}/msi_irqs")).is_ok() {
            return Ok(path.to_owned());
        }
        if parent == "sys/devices" {
            break;
        }
        path = parent;
    }
    Err(format!(
        "/{device}: no device above it has a node or interrupts"
    ))
}

/// -1 is the firmware's "none".
fn node(machine: &dyn Machine, bus_device: &str) -> Result<Option<u32>, String> {
    let path = format!("{bus_device}/numa_node");
    let text = text(machine, &path)?;
    if text == "-1" {
        return Ok(None);
    }
    let node = text.parse().map_err(|_| {
        let text = crate::cpulist::quoted(&text);
        format!("/{path}: {text} is not a node")
    });
    node.map(Some)
}

fn driver(
    machine: &dyn Machine,
    folder: &str,
    has_device: bool,
    asked: Fact<String>,
) -> Fact<String> {
    if !has_device {
        return asked;
    }
    let link = machine.resolve(&format!("{folder}/device/driver"));
    let name = link.map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
    match name {
        Ok(name) => Fact::Known(name),
        Err(why) if asked.known().is_none() => Fact::Unknown(why),
        Err(_) => asked,
    }
}

fn lower(machine: &dyn Machine, folder: &str) -> Vec<String> {
    let names = machine.list(folder).unwrap_or_default();
    let lower = names.iter().filter_map(|name| name.strip_prefix("lower_"));
    lower.map(str::to_owned).collect()
}

/// -1 is a driver that doesn't know, as most of virtual machines.
fn speed(machine: &dyn Machine, path: &str) -> Result<u64, String> {
    let text = text(machine, path)?;
    match text.as_str() {
        "-1" | "0" | "4294967295" => Err("the driver doesn't tell".to_owned()),
        text => super::parse_number(text).map_err(|why| format!("/{path}: {why}")),
    }
}

fn rx_queues(machine: &dyn Machine, folder: &str) -> Vec<RxQueue> {
    let indexes = numbered(machine, folder, "rx-", MOST_QUEUES).unwrap_or_default();
    let queue = |index: u32| RxQueue {
        index,
        rps_cpus: cpu_mask(machine, &format!("{folder}/rx-{index}/rps_cpus")).into(),
        rps_flows: number(machine, &format!("{folder}/rx-{index}/rps_flow_cnt")).into(),
    };
    indexes.into_iter().map(queue).collect()
}

fn tx_queues(machine: &dyn Machine, folder: &str) -> Vec<TxQueue> {
    let indexes = numbered(machine, folder, "tx-", MOST_QUEUES).unwrap_or_default();
    let queue = |index: u32| TxQueue {
        index,
        xps_cpus: cpu_mask(machine, &format!("{folder}/tx-{index}/xps_cpus")).into(),
    };
    indexes.into_iter().map(queue).collect()
}

fn statistics(machine: &dyn Machine, folder: &str) -> BTreeMap<String, u64> {
    let counter = |name: &&str| {
        let value = number(machine, &format!("{folder}/{name}")).ok()?;
        Some(((*name).to_owned(), value))
    };
    STATISTICS.iter().filter_map(counter).collect()
}

/// A device's interrupts alone.
pub(super) fn interrupts(
    machine: &dyn Machine,
    name: &str,
    interrupts: &Interrupts,
) -> Result<Vec<Irq>, String> {
    let device = machine.resolve(&format!("{CLASS}/{name}/device"));
    let bus_device = device.and_then(|device| bus_device(machine, &device)).ok();
    interrupts.of(machine, name, bus_device.as_deref())
}
