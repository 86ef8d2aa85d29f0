//! Interrupts: which serve which queue of a device, and where they may go and do go.

use super::{Fact, cpu_list, numbered};
use crate::cpulist::CpuList;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Above any interrupt number that a device here could have.
const MOST_IRQS: u32 = 1 << 20;

/// An interrupt of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Irq {
    /// Its number, which changes when queues do.
    pub number: u32,
    /// What its driver calls it.
    pub name: String,
    /// Which queue it serves, when its name tells.
    pub queue: Option<(Direction, u32)>,
    /// Where it may go.
    pub affinity: Fact<CpuList>,
    /// Where it goes.
    pub effective: Fact<CpuList>,
    /// How often it came, in all.
    pub count: u64,
}

/// Which side of a queue an interrupt serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Receiving.
    Rx,
    /// Sending.
    Tx,
    /// Both.
    Both,
}

/// The rows of `/proc/interrupts`.
pub(super) struct Interrupts {
    rows: Result<BTreeMap<u32, Row>, String>,
}

#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    count: u64,
}

impl Interrupts {
    pub(super) fn read(machine: &dyn Machine) -> Interrupts {
        let text = machine.read("proc/interrupts");
        Interrupts {
            rows: text.map(|text| parse_rows(&text)),
        }
    }

    /// The interrupts of a device: the message-signalled ones of its bus device, else those that
    /// are named after it.
    pub(super) fn of(
        &self,
        machine: &dyn Machine,
        nic: &str,
        bus_device: Option<&str>,
    ) -> Result<Vec<Irq>, String> {
        let rows = self.rows.as_ref().map_err(Clone::clone)?;
        let listed = bus_device
            .and_then(|path| numbered(machine, &format!("{path}/msi_irqs"), "", MOST_IRQS).ok());
        let numbers = listed.unwrap_or_else(|| {
            let named = rows.iter().filter(|(_, row)| {
                let rest = row.name.strip_prefix(nic);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            });
            named.map(|(number, _)| *number).collect()
        });
        let known = numbers
            .iter()
            .filter_map(|number| Some((*number, rows.get(number)?)));
        Ok(known
            .map(|(number, row)| irq(machine, number, row))
            .collect())
    }
}

fn irq(machine: &dyn Machine, number: u32, row: &Row) -> Irq {
    let file = |name: &str| cpu_list(machine, &format!("proc/irq/{number}/{name}"));
    Irq {
        number,
        queue: queue_of(&row.name),
        name: row.name.clone(),
        affinity: file("smp_affinity_list").into(),
        effective: file("effective_affinity_list").into(),
        count: row.count,
    }
}

/// Rows are `38:  0  6710  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0`, with as many counts as
/// processors are online; the last word is the driver's name for it.
fn parse_rows(text: &str) -> BTreeMap<u32, Row> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let cpus = header
        .split_whitespace()
        .filter(|word| word.starts_with("CPU"))
        .count();
    let row = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let number: u32 = number
            .trim()
            .parse()
            .ok()
            .filter(|&number| number < MOST_IRQS)?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let counts = words
            .iter()
            .take(cpus)
            .map_while(|word| word.parse::<u64>().ok());
        let count = counts.fold(0, u64::saturating_add);
        let name = words.get(cpus..).and_then(<[&str]>::last)?;
        let name = (*name).to_owned();
        Some((number, Row { name, count }))
    };
    lines.filter_map(row).collect()
}

/// The queue that a driver's name for an interrupt tells: `eth0-TxRx-3`, `virtio2-input.0`,
/// `mlx5_comp3@pci:0000:3b:00.0`, `ens5-Tx-Rx-1`. Configuration, control and unknown ones: none.
fn queue_of(name: &str) -> Option<(Direction, u32)> {
    let name = name.split('@').next().unwrap_or(name).to_lowercase();
    let word = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let index = name[word.len()..].parse().ok()?;
    let word = word.trim_end_matches(['-', '.', '_']);
    let ends = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    if ends(&[
        "txrx",
        "rxtx",
        "tx-rx",
        "rx-tx",
        "tx_rx",
        "-fp",
        "mlx5_comp",
        "mlx4",
    ]) {
        Some((Direction::Both, index))
    } else if ends(&["input", "-rx", "_rx"]) {
        Some((Direction::Rx, index))
    } else if ends(&["output", "-tx", "_tx"]) {
        Some((Direction::Tx, index))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_interrupts_tell_their_queues() {
        use Direction::{Both, Rx, Tx};
        let check = |name: &str, expect| assert_eq!(queue_of(name), expect, "{name}");
        check("virtio2-input.0", Some((Rx, 0)));
        check("virtio10-output.12", Some((Tx, 12)));
        check("virtio2-config", None);
        check("eth0-TxRx-3", Some((Both, 3)));
        check("ice-ens1f0-TxRx-7", Some((Both, 7)));
        check("ens5-Tx-Rx-1", Some((Both, 1)));
        check("eth0-rxtx-2", Some((Both, 2)));
        check("eth0-rx-4", Some((Rx, 4)));
        check("eth0-tx-4", Some((Tx, 4)));
        check("mlx5_comp11@pci:0000:3b:00.0", Some((Both, 11)));
        check("mlx5_async0@pci:0000:3b:00.0", None);
        check("mlx4-3@0000:04:00.0", Some((Both, 3)));
        check("nvme0q3", None);
        check("eth0-TxRx-99999999999", None);
        check("", None);
    }

    #[test]
    fn rows_are_read_with_any_number_of_processors() {
        let text = "           CPU0       CPU1\n 38:  1  6710 PCI-MSIX-0000:00:03.0 1-edge v-input.0\n\
                    NMI: 0 0 Non-maskable interrupts\n 5: 7\nERR: 0\n";
        let rows = parse_rows(text);
        let name = "v-input.0".to_owned();
        assert_eq!(
            rows.into_iter().collect::<Vec<_>>(),
            [(38, Row { name, count: 6711 })]
        );
        assert!(parse_rows("").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(CPU0 |[0-9]{1,25}:? ?|\n|.){0,30}") {
            let _ = parse_rows(&text);
            let _ = queue_of(&text);
        }
    }
}
