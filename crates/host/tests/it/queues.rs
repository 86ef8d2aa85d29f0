//! Undoing where the driver spreads everything anew when a device gets other queues, as real ones do.

use crate::fixture::{Death, Machine as Fixture, NicSpec, Spec, reads_from_tree};
use ringway_host::apply::{Outcome, apply};
use ringway_host::facts::Fact;
use ringway_host::intent::Intent;
use ringway_host::journal::Folder;
use ringway_host::machine::{Machine, Target, Tree};
use ringway_host::plan;
use ringway_host::probes::Probes;
use ringway_host::undo::{State, Undone, revert, verify};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

const CLASS: &str = "sys/class/net/eth0/queues";

/// A tree with a driver: a new number of queues makes and removes their folders, points interrupts
/// and masks at processors in turn, and is refused while the table of flows uses a queue that would go.
struct Driven<'a> {
    fixture: &'a Fixture,
    tree: Tree,
    death: Death,
}

impl<'a> Driven<'a> {
    fn new(fixture: &'a Fixture) -> Driven<'a> {
        Driven {
            fixture,
            tree: fixture.tree(),
            death: Death::default(),
        }
    }

    fn spread_anew(&self, value: &str) -> io::Result<()> {
        let count: u32 = value.rsplit(' ').next().unwrap().parse().unwrap();
        let table = self.tree.current(&table()).unwrap();
        let highest = table.split(' ').map(|queue| queue.parse::<u32>().unwrap());
        if highest.max().unwrap() >= count {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for queue in 0..8 {
            for side in ["rx", "tx"] {
                let folder = format!("{CLASS}/{side}-{queue}");
                if queue >= count && self.fixture.path(&folder).exists() {
                    self.fixture.remove(&folder);
                }
            }
            if queue < count {
                let mask = format!("{:08x}", 1 << queue);
                self.fixture
                    .put(&format!("{CLASS}/tx-{queue}/xps_cpus"), &mask);
                for (file, value) in [("rps_cpus", "00000000"), ("rps_flow_cnt", "0")] {
                    self.fixture
                        .put(&format!("{CLASS}/rx-{queue}/{file}"), value);
                }
            }
        }
        for (at, number) in (41..49).enumerate() {
            let file = format!("proc/irq/{number}/smp_affinity_list");
            self.fixture.put(&file, &(at / 2).to_string());
        }
        Ok(())
    }
}

impl Machine for Driven<'_> {
    reads_from_tree!();

    fn write(&self, target: &Target, value: &str) -> io::Result<()> {
        self.death.around(|| {
            if matches!(target, Target::Channels(_)) {
                self.spread_anew(value)?;
            }
            self.tree.write(target, value)
        })
    }
}

fn table() -> Target {
    Target::RssTable("eth0".to_owned())
}

/// Four queues now, for `cores` workers on the device's node; values that no driver would choose.
fn machine(cores: u32) -> Fixture {
    let mut spec = Spec::nodes(2, cores);
    spec.nic = Some(NicSpec {
        name: "eth0",
        node: 1,
        queues: (4, 8),
        virtio: true,
    });
    let machine = spec.build();
    machine.put(&format!("{CLASS}/rx-0/rps_cpus"), "00000003");
    machine.put(&format!("{CLASS}/rx-3/rps_flow_cnt"), "512");
    machine.put(&format!("{CLASS}/tx-2/xps_cpus"), "00000001");
    machine.put("proc/irq/44/smp_affinity_list", "1");
    machine.change_probes(|probes| {
        let device = probes.devices.get_mut("eth0").unwrap();
        let Fact::Known(rss) = &mut device.rss else {
            panic!("the fixture has a table");
        };
        rss.table = (0..128).map(|at| [3, 1, 2, 0, 0][at % 5]).collect();
    });
    machine
}

fn intent() -> Intent {
    Intent {
        may_disrupt: true,
        ..Intent::default()
    }
}

fn journals(place: &tempfile::TempDir) -> Folder {
    Folder::open(place.path()).unwrap()
}

#[test]
fn fewer_and_more_queues_are_undone_to_every_byte() {
    for (cores, expected) in [(2, 2), (6, 6)] {
        let fixture = machine(cores);
        let before = fixture.contents();
        let place = tempfile::tempdir().unwrap();
        let driven = Driven::new(&fixture);
        let summary = apply(&driven, &intent(), &journals(&place)).unwrap();
        for applied in &summary.applied {
            assert_eq!(applied.outcome, Outcome::Done, "{applied:?}");
        }
        let nic = fixture.facts();
        assert_eq!(nic.nic(None).unwrap().receiving_queues(), expected);
        assert_eq!(plan::plan(&fixture.facts(), &intent()).actions, []);
        let verified = verify(&driven, &journals(&place)).unwrap();
        assert!(
            verified.iter().all(|one| one.state == State::Holds),
            "{verified:?}"
        );
        let reverted = revert(&driven, &journals(&place), None, false).unwrap();
        assert!(
            reverted.iter().all(|one| one.outcome.is_over()),
            "{reverted:?}"
        );
        assert_eq!(fixture.contents(), before, "{cores} cores");
        assert_eq!(revert(&driven, &journals(&place), None, false).unwrap(), []);
    }
}

#[test]
fn a_kill_at_every_write_of_doing_and_of_undoing_is_undone() {
    for (cores, is_after) in [(2, false), (2, true), (6, true)] {
        let mut at = 0;
        while !finishes(cores, at, is_after) {
            at += 1;
        }
        assert!(at >= 22, "only {at} writes");
    }
}

/// Does and undoes with a kill at a write, and undoes what that left; whether it came that far at all.
fn finishes(cores: u32, at: usize, is_after: bool) -> bool {
    let fixture = machine(cores);
    let before = fixture.contents();
    let place = tempfile::tempdir().unwrap();
    let mut driven = Driven::new(&fixture);
    driven.death.at = Some((at, is_after));
    let folder = journals(&place);
    let both = || {
        apply(&driven, &intent(), &folder).unwrap();
        revert(&driven, &folder, None, false).unwrap();
    };
    let has_finished = catch_unwind(AssertUnwindSafe(both)).is_ok();
    drop(folder);
    driven.death.at = None;
    let reverted = revert(&driven, &journals(&place), None, false).unwrap();
    let left = reverted.iter().find(|one| !one.outcome.is_over());
    assert_eq!(left, None, "write {at}, {is_after}, {cores} cores");
    assert_eq!(
        fixture.contents(),
        before,
        "write {at}, {is_after}, {cores} cores"
    );
    assert!(journals(&place).past().unwrap()[0].is_closed());
    has_finished
}

#[test]
fn what_others_gave_a_queue_since_is_theirs_though_the_queues_go_back() {
    let fixture = machine(2);
    let place = tempfile::tempdir().unwrap();
    let driven = Driven::new(&fixture);
    apply(&driven, &intent(), &journals(&place)).unwrap();
    let theirs = format!("{CLASS}/tx-0/xps_cpus");
    fixture.put(&theirs, "0000000f");
    let reverted = revert(&driven, &journals(&place), None, false).unwrap();
    let conflicts = reverted.iter().filter(|one| !one.outcome.is_over());
    let conflicts: Vec<_> = conflicts.map(|one| (&one.target, &one.outcome)).collect();
    let target = Target::File(theirs.clone());
    assert_eq!(
        conflicts,
        [(&target, &Undone::Conflict("0000000f".to_owned()))]
    );
    assert_eq!(fixture.get(&theirs), "0000000f");
    assert_eq!(fixture.get(&format!("{CLASS}/rx-3/rps_flow_cnt")), "512");
}

/// The device of the journal is called otherwise now, and another has its old name.
#[test]
fn a_renamed_device_gets_its_own_values_back() {
    let fixture = machine(2);
    let place = tempfile::tempdir().unwrap();
    let without_leave = Intent::default();
    apply(&fixture.tree(), &without_leave, &journals(&place)).unwrap();
    assert_eq!(fixture.get("proc/irq/44/smp_affinity_list"), "3");
    let class = fixture.path("sys/class/net");
    std::fs::rename(class.join("eth0"), class.join("wan")).unwrap();
    fixture.put("sys/class/net/eth0/ifindex", "9");
    fixture.put("sys/class/net/eth0/mtu", "1500");
    fixture.put(&format!("{CLASS}/tx-2/xps_cpus"), "00000000");
    fixture.change_probes(|probes| {
        let device = probes.devices["eth0"].clone();
        probes.devices.insert("wan".to_owned(), device);
    });
    revert(&fixture.tree(), &journals(&place), None, false).unwrap();
    assert_eq!(
        fixture.get("sys/class/net/wan/queues/tx-2/xps_cpus"),
        "00000001"
    );
    assert_eq!(
        fixture.get("sys/class/net/wan/queues/rx-0/rps_cpus"),
        "00000003"
    );
    assert_eq!(fixture.get("proc/irq/44/smp_affinity_list"), "1");
    assert_eq!(fixture.get(&format!("{CLASS}/tx-2/xps_cpus")), "00000000");
}
