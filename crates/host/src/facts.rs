//! What the machine is, read from its files and asked of its kernel. Nothing here judges.
//!
//! Everything may be missing, unreadable or absurd; then the fact is [`Fact::Unknown`] with the
//! reason, and never a guess. Facts print as JSON of a version of their own.

mod cgroup;
mod counters;
mod devices;
mod interrupts;
mod processors;
mod server;
mod system;

pub use counters::{Counters, Softnet};
pub use devices::{DeviceKind, Nic, RxQueue, TxQueue};
pub use interrupts::{Direction, Irq};
pub use processors::{HugePages, Node, Processor, Processors};
pub use server::{
    AdminListener, Server, ServerMemory, ServerPlacement, ServerSteering, ServerWorker,
};
pub(crate) use system::sysctl_path;
pub use system::{Environment, Limit, Limits, SYSCTLS, System};

use crate::machine::Machine;
use crate::probes::{IoUring, Irqbalance, NodeTrial, Probes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the facts' JSON: it grows when something changes its meaning or goes.
pub const FACTS_VERSION: u32 = 1;

/// Something that is known, or why it isn't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact<T> {
    /// It can't be known.
    #[serde(with = "reason")]
    Unknown(String),
    /// It is known.
    Known(T),
}

/// `{"unknown": "why"}`, which no known value looks like.
mod reason {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Reason {
        unknown: String,
    }

    pub(super) fn serialize<S: Serializer>(why: &str, out: S) -> Result<S::Ok, S::Error> {
        let unknown = why.to_owned();
        Reason { unknown }.serialize(out)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<String, D::Error> {
        Reason::deserialize(from).map(|reason| reason.unknown)
    }
}

impl<T> Fact<T> {
    /// The value, when it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Unknown(_) => None,
        }
    }

    /// Why it is not known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Fact::Known(_) => None,
            Fact::Unknown(why) => Some(why),
        }
    }

    /// Another value of what is known.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Fact::Known(value) => Fact::Known(with(value)),
            Fact::Unknown(why) => Fact::Unknown(why),
        }
    }

    /// The value, or why it isn't known.
    ///
    /// # Errors
    /// The reason.
    pub fn as_result(&self) -> Result<&T, String> {
        match self {
            Fact::Known(value) => Ok(value),
            Fact::Unknown(why) => Err(why.clone()),
        }
    }
}

impl<T> From<Result<T, String>> for Fact<T> {
    fn from(result: Result<T, String>) -> Fact<T> {
        match result {
            Ok(value) => Fact::Known(value),
            Err(why) => Fact::Unknown(why),
        }
    }
}

/// Everything about a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// [`FACTS_VERSION`] of the program that wrote them.
    pub facts_version: u32,
    /// The kernel, and what runs beside us.
    pub system: System,
    /// Whether io_uring does what the server needs, by trying it.
    pub io_uring: Fact<IoUring>,
    /// irqbalance; `null` when it doesn't run.
    pub irqbalance: Fact<Option<Irqbalance>>,
    /// Whether memory goes to each node, by trying it.
    #[serde(default = "crate::probes::not_tried")]
    pub memory: Fact<Vec<NodeTrial>>,
    /// Where this runs: containers, virtual machines, namespaces, rights.
    pub environment: Environment,
    /// Processors.
    pub processors: Processors,
    /// NUMA nodes, by ascending number.
    pub nodes: Fact<Vec<Node>>,
    /// Network devices, by name.
    pub nics: Fact<Vec<Nic>>,
    /// Kernel parameters by their names with dots.
    pub sysctls: BTreeMap<String, Fact<String>>,
    /// What the kernel counted since it started.
    pub counters: Counters,
    /// This process's limits.
    pub limits: Limits,
    /// The server that was asked: [`Server::ask`]. Absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Fact<Server>>,
}

impl Facts {
    /// Reads everything but a server. Nothing that is missing fails it.
    pub fn gather(machine: &dyn Machine) -> Facts {
        let names = devices::names(machine);
        let probes = machine.probes(names.as_deref().unwrap_or(&[]));
        let environment = system::environment(machine);
        let Probes {
            io_uring,
            irqbalance,
            memory,
            devices,
        } = probes;
        let why = io_uring.reason().unwrap_or("the device was not asked");
        let nics = names.map(|names| devices::all(machine, &names, &devices, why));
        let nodes: Fact<Vec<Node>> = processors::nodes(machine).into();
        Facts {
            facts_version: FACTS_VERSION,
            system: system::read(machine),
            io_uring: system::io_uring(machine, io_uring),
            irqbalance: system::irqbalance(machine, irqbalance),
            memory,
            environment,
            processors: processors::read(machine, nodes.known().map_or(&[], Vec::as_slice)),
            nodes,
            nics: nics.into(),
            sysctls: system::sysctls(machine),
            counters: counters::read(machine),
            limits: system::limits(machine),
            server: None,
        }
    }

    /// A kernel parameter by its name with dots.
    pub fn sysctl(&self, name: &str) -> Fact<&str> {
        match self.sysctls.get(name) {
            Some(Fact::Known(value)) => Fact::Known(value),
            Some(Fact::Unknown(why)) => Fact::Unknown(why.clone()),
            None => Fact::Unknown(format!("{name} was not read")),
        }
    }

    /// A kernel parameter that is one number.
    pub fn sysctl_number(&self, name: &str) -> Fact<u64> {
        let number = |text: &str| parse_number(text).map_err(|why| format!("{name}: {why}"));
        self.sysctl(name)
            .as_result()
            .and_then(|text| number(text))
            .into()
    }

    /// A kernel parameter that is three numbers.
    pub fn sysctl_triple(&self, name: &str) -> Fact<[u64; 3]> {
        let triple = |text: &str| {
            let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(parse_number).collect();
            let numbers = numbers.map_err(|why| format!("{name}: {why}"))?;
            <[u64; 3]>::try_from(numbers).map_err(|_| format!("{name}: not three numbers"))
        };
        self.sysctl(name)
            .as_result()
            .and_then(|text| triple(text))
            .into()
    }

    /// The nodes, or none.
    pub fn known_nodes(&self) -> &[Node] {
        self.nodes.known().map_or(&[], Vec::as_slice)
    }

    /// The devices, or none.
    pub fn known_nics(&self) -> &[Nic] {
        self.nics.known().map_or(&[], Vec::as_slice)
    }

    /// The device that the checks are about: see [`Ground::nic`].
    pub fn nic(&self, wanted: Option<&str>) -> Option<&Nic> {
        self.ground().nic(wanted)
    }

    /// What a placement is made of.
    pub fn ground(&self) -> Ground<'_> {
        Ground {
            processors: &self.processors,
            nodes: self.known_nodes(),
            nics: self.known_nics(),
        }
    }
}

/// The facts that a placement is made of, read for that alone: nothing is tried out, and nobody but
/// the devices is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    processors: Processors,
    nodes: Fact<Vec<Node>>,
    nics: Fact<Vec<Nic>>,
}

impl Site {
    /// Reads them. Nothing that is missing fails it.
    pub fn read(machine: &dyn Machine) -> Site {
        let nodes: Fact<Vec<Node>> = processors::nodes(machine).into();
        let nics = devices::names(machine).map(|names| {
            let answers = machine.devices(&names);
            devices::all(machine, &names, &answers, "the device was not asked")
        });
        Site {
            processors: processors::read(machine, nodes.known().map_or(&[], Vec::as_slice)),
            nodes,
            nics: nics.into(),
        }
    }

    /// What a placement is made of.
    pub fn ground(&self) -> Ground<'_> {
        Ground {
            processors: &self.processors,
            nodes: self.nodes.known().map_or(&[], Vec::as_slice),
            nics: self.nics.known().map_or(&[], Vec::as_slice),
        }
    }
}

/// What a placement is made of; what isn't known is absent.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Processors.
    pub processors: &'a Processors,
    /// NUMA nodes, by ascending number.
    pub nodes: &'a [Node],
    /// Network devices, by name.
    pub nics: &'a [Nic],
}

impl<'a> Ground<'a> {
    /// The device that it is about: `wanted`, or else the physical one that is up and has received
    /// most; no other kind of device is chosen by itself.
    pub fn nic(&self, wanted: Option<&str>) -> Option<&'a Nic> {
        if let Some(wanted) = wanted {
            return self.nics.iter().find(|nic| nic.name == wanted);
        }
        let physical = self
            .nics
            .iter()
            .filter(|nic| nic.kind == DeviceKind::Physical);
        physical.max_by_key(|nic| {
            let received = nic.statistics.get("rx_packets").copied().unwrap_or(0);
            (nic.is_up.known().copied().unwrap_or(false), received)
        })
    }
}

/// The number that a device's interrupt has now.
pub(crate) fn interrupt_number(
    machine: &dyn Machine,
    nic: &str,
    name: &str,
) -> Result<u32, String> {
    let irqs = devices::interrupts(machine, nic, &interrupts::Interrupts::read(machine))?;
    let found = irqs.iter().find(|irq| irq.name == name);
    found
        .map(|irq| irq.number)
        .ok_or_else(|| format!("{nic} has no interrupt {name}: not there"))
}

/// One number, as the kernel writes it.
pub(crate) fn parse_number(text: &str) -> Result<u64, String> {
    let text = text.trim();
    text.parse()
        .map_err(|_| format!("{} is not a number", crate::cpulist::quoted(text)))
}

/// A file's text, without the white space around it.
fn text(machine: &dyn Machine, path: &str) -> Result<String, String> {
    machine.read(path).map(|text| text.trim().to_owned())
}

/// A file that holds one number.
fn number(machine: &dyn Machine, path: &str) -> Result<u64, String> {
    let text = machine.read(path)?;
    parse_number(&text).map_err(|why| format!("/{path}: {why}"))
}

/// A file that holds a small number.
fn small_number(machine: &dyn Machine, path: &str) -> Result<u32, String> {
    let number = number(machine, path)?;
    u32::try_from(number).map_err(|_| format!("/{path}: {number} is absurd"))
}

/// A file that holds a list of processors.
fn cpu_list(machine: &dyn Machine, path: &str) -> Result<crate::cpulist::CpuList, String> {
    let text = machine.read(path)?;
    text.parse().map_err(|why| format!("/{path}: {why}"))
}

/// A file that holds a mask of processors.
fn cpu_mask(machine: &dyn Machine, path: &str) -> Result<crate::cpulist::CpuList, String> {
    let text = machine.read(path)?;
    crate::cpulist::CpuList::parse_mask(&text).map_err(|why| format!("/{path}: {why}"))
}

/// The entries of a directory that are `prefix` and a number below `most`, by that number.
fn numbered(
    machine: &dyn Machine,
    path: &str,
    prefix: &str,
    most: u32,
) -> Result<Vec<u32>, String> {
    let names = machine.list(path)?;
    let number = |name: &String| {
        let digits = name.strip_prefix(prefix)?;
        let number: u32 = digits.parse().ok()?;
        // "007" is another name than "7".
        (number < most && number.to_string() == digits).then_some(number)
    };
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_facts_say_why_in_json() {
        let check = |fact: Fact<Option<Vec<u32>>>, expect: &str| {
            let json = serde_json::to_string(&fact).expect("plain values");
            assert_eq!(json, expect);
            let back: Fact<Option<Vec<u32>>> = serde_json::from_str(&json).expect("its own JSON");
            assert_eq!(back, fact);
        };
        check(Fact::Known(None), "null");
        check(Fact::Known(Some(vec![1])), "[1]");
        check(
            Fact::Unknown("not there".to_owned()),
            r#"{"unknown":"not there"}"#,
        );
    }
}
