//! Interrupts for processors whose table of vectors is full: they go next door.

use crate::fixture::{Death, Machine as Fixture, Spec, nic, reads_from_tree};
use proptest::prelude::*;
use ringway_host::apply::{Outcome, Summary, apply};
use ringway_host::cpulist::CpuList;
use ringway_host::intent::Intent;
use ringway_host::journal::Folder;
use ringway_host::machine::{Machine, Target, Tree};
use ringway_host::probes::Probes;
use ringway_host::undo::{State, revert, verify};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

const ENOSPC: i32 = 28;

/// A tree whose processors have no room for another interrupt, but for those of one that is there.
struct Full {
    tree: Tree,
    full: CpuList,
    death: Death,
}

impl Full {
    fn new(fixture: &Fixture, full: &str) -> Full {
        Full {
            tree: fixture.tree(),
            full: full.parse().unwrap(),
            death: Death::default(),
        }
    }
}

impl Machine for Full {
    reads_from_tree!();

    fn write(&self, target: &Target, value: &str) -> io::Result<()> {
        let is_full = |cpus: CpuList| cpus.is_subset(&self.full);
        self.death.around(|| match target {
            Target::Interrupt { .. } if is_full(value.parse().unwrap()) => {
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            _ => self.tree.write(target, value),
        })
    }
}

/// Two nodes of four cores with two threads: node 0 has CPUs 0 to 3 and 8 to 11. The device is on it,
/// with two queues for two workers, which get CPUs 1 and 2: of many cores the first is left alone.
fn machine() -> Fixture {
    let mut spec = Spec::nodes(2, 4);
    spec.threads = 2;
    spec.nic = nic(0, 2, 2);
    spec.build()
}

fn two_workers() -> Intent {
    Intent {
        workers: Some(2),
        ..Intent::default()
    }
}

fn journals(place: &tempfile::TempDir) -> Folder {
    Folder::open(place.path()).unwrap()
}

/// Where each queue's interrupt goes, and what was told of it.
fn told(fixture: &Fixture, summary: &Summary) -> Vec<(String, Outcome)> {
    let mut told = Vec::new();
    for applied in &summary.applied {
        if let Target::Interrupt { name, .. } = &applied.action.target {
            let queue: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
            let file = format!("proc/irq/{}/smp_affinity_list", 41 + queue);
            told.push((fixture.get(&file), applied.outcome.clone()));
        }
    }
    told
}

fn check(full: &str, expect: [(&str, Outcome); 2]) {
    let fixture = machine();
    let before = fixture.contents();
    let place = tempfile::tempdir().unwrap();
    let live = Full::new(&fixture, full);
    let summary = apply(&live, &two_workers(), &journals(&place)).unwrap();
    let expect = expect.map(|(cpu, outcome)| (cpu.to_owned(), outcome));
    assert_eq!(told(&fixture, &summary), expect, "full: {full}");
    let fails = expect
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    assert_eq!(summary.has_failed(), fails);
    let verified = verify(&live, &journals(&place)).unwrap();
    assert!(
        verified.iter().all(|one| one.state == State::Holds),
        "{verified:?}"
    );
    revert(&live, &journals(&place), None, false).unwrap();
    assert_eq!(fixture.contents(), before, "full: {full}");
}

fn next_to(wanted: u32, taken: u32) -> Outcome {
    let why = format!("on CPU {taken}: CPU {wanted} has no room for another interrupt");
    Outcome::Instead(why)
}

#[test]
fn a_full_processor_sends_an_interrupt_next_door() {
    check("3", [("1", Outcome::Done), ("2", Outcome::Done)]);
    // First the other thread of the core, then the cache's other cores.
    check("1", [("9", next_to(1, 9)), ("2", Outcome::Done)]);
    check("0-2,9", [("3", next_to(1, 3)), ("10", next_to(2, 10))]);
    // The one of the other queue comes last.
    check("0-1,3,8-11", [("2", next_to(1, 2)), ("2", Outcome::Done)]);
}

/// The other node is no place for them, and what failed is as it was.
#[test]
fn a_full_node_is_told() {
    let failed = || Outcome::Failed("no processor near has room for another interrupt".to_owned());
    check("0-3,8-11", [("0-15", failed()), ("0-15", failed())]);
}

#[test]
fn an_operators_processors_are_not_left() {
    let fixture = machine();
    let place = tempfile::tempdir().unwrap();
    let intent = Intent {
        cpus: Some("1-2".parse().unwrap()),
        ..Intent::default()
    };
    let summary = apply(&Full::new(&fixture, "1"), &intent, &journals(&place)).unwrap();
    let expect = [
        ("2".to_owned(), next_to(1, 2)),
        ("2".to_owned(), Outcome::Done),
    ];
    assert_eq!(told(&fixture, &summary), expect);
}

/// It isn't what was wanted, so it is tried again; where nothing changed, nothing is to be undone.
#[test]
fn a_second_apply_moves_an_interrupt_when_there_is_room() {
    let fixture = machine();
    let before = fixture.contents();
    let place = tempfile::tempdir().unwrap();
    for (full, expect) in [
        ("1", next_to(1, 9)),
        ("1", next_to(1, 9)),
        ("3", Outcome::Done),
    ] {
        let live = Full::new(&fixture, full);
        let summary = apply(&live, &two_workers(), &journals(&place)).unwrap();
        let (_, outcome) = told(&fixture, &summary).remove(0);
        assert_eq!(outcome, expect);
    }
    assert_eq!(fixture.get("proc/irq/41/smp_affinity_list"), "1");
    revert(&fixture.tree(), &journals(&place), None, false).unwrap();
    assert_eq!(fixture.contents(), before);
}

#[test]
fn a_kill_at_every_write_on_the_way_next_door_is_undone() {
    for is_after in [false, true] {
        let mut at = 0;
        loop {
            let fixture = machine();
            let before = fixture.contents();
            let place = tempfile::tempdir().unwrap();
            let mut live = Full::new(&fixture, "0-1,9");
            live.death.at = Some((at, is_after));
            let folder = journals(&place);
            let apply = AssertUnwindSafe(|| apply(&live, &two_workers(), &folder));
            let has_finished = catch_unwind(apply).is_ok();
            drop(folder);
            revert(&fixture.tree(), &journals(&place), None, false).unwrap();
            assert_eq!(fixture.contents(), before, "write {at}, {is_after}");
            if has_finished {
                assert!(at > 5, "only {at} writes");
                break;
            }
            at += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is full: an interrupt goes to one processor that has room, may be used and is on the
    /// node of the one that was wanted, or stays; and undoing restores every byte.
    #[test]
    fn interrupts_stay_near_whatever_is_full(
        nodes in 1_u32..4,
        cores in 1_u32..4,
        threads in 1_u32..3,
        queues in 1_u32..5,
        full in prop::collection::vec(any::<bool>(), 24),
        is_less_allowed in any::<bool>(),
    ) {
        let mut spec = Spec::nodes(nodes, cores);
        spec.threads = threads;
        spec.nic = nic(0, queues, queues);
        let count = nodes * cores * threads;
        spec.affinity = (is_less_allowed && count > 1).then(|| format!("1-{}", count - 1));
        let fixture = spec.build();
        let before = fixture.contents();
        let usable = fixture.facts().processors.usable();
        let full: CpuList = (0..count).filter(|&cpu| full[cpu as usize]).collect();
        let place = tempfile::tempdir().unwrap();
        let live = Full::new(&fixture, &full.to_string());
        let summary = apply(&live, &Intent::default(), &journals(&place)).unwrap();
        for applied in &summary.applied {
            let action = &applied.action;
            if !matches!(action.target, Target::Interrupt { .. }) {
                prop_assert_eq!(&applied.outcome, &Outcome::Done);
                continue;
            }
            let wanted: u32 = action.new.parse().unwrap();
            let now: CpuList = live.current(&action.target).unwrap().parse().unwrap();
            let node = (0..nodes).find(|&node| spec.cpus_of(node).contains(&wanted)).unwrap();
            let near: CpuList = spec.cpus_of(node).into_iter().collect();
            let near = near.intersection(&usable);
            match &applied.outcome {
                Outcome::Done => prop_assert_eq!(now.to_string(), action.new.clone()),
                Outcome::Instead(_) => {
                    prop_assert!(full.contains(wanted), "{:?}", applied);
                    prop_assert_eq!(now.len(), 1);
                    prop_assert!(now.is_subset(&near.without(&full)), "{:?} on {}", applied, now);
                }
                Outcome::Failed(_) => {
                    prop_assert!(near.is_subset(&full), "{:?}", applied);
                    prop_assert_eq!(now.to_string(), action.now.clone());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        revert(&live, &journals(&place), None, false).unwrap();
        prop_assert_eq!(fixture.contents(), before);
    }
}
