//! Plans on whole machines: doing them, being killed while doing them, and undoing them.

use crate::fixture::{Machine as Fixture, NicSpec, Spec, reads_from_tree};
use expect_test::expect;
use proptest::prelude::*;
use ringway_host::apply::{Outcome, apply, apply_guarded};
use ringway_host::cpulist::CpuList;
use ringway_host::facts::{Fact, Facts};
use ringway_host::intent::{Goal, Intent, Link, Role};
use ringway_host::journal::Folder;
use ringway_host::machine::{Machine, Target, Tree};
use ringway_host::plan::{self, shell};
use ringway_host::probes::{Irqbalance, Probes};
use ringway_host::undo::{State, Undone, confirm, revert, revert_unconfirmed, verify};
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A machine on which much is to be done: other queues than workers, irqbalance, lowered sizes.
fn neglected(virtio: bool) -> Fixture {
    let mut spec = Spec::nodes(2, 2);
    spec.threads = 2;
    spec.nic = Some(NicSpec {
        name: "eth0",
        node: 1,
        queues: (4, 8),
        virtio,
    });
    let machine = spec.build();
    machine.put("proc/sys/net/core/somaxconn", "128");
    machine.put("proc/net/softnet_stat", "ff 2 0 0 0 0 0 0 0 0 0 0 0 0 0");
    machine.put("sys/class/net/eth0/queues/rx-1/rps_cpus", "000000ff");
    machine.change_probes(|probes| {
        probes.irqbalance = Fact::Known(Some(Irqbalance {
            period_seconds: Fact::Known(10),
            banned: Fact::Known(vec![7]),
        }));
    });
    machine
}

fn everything() -> Intent {
    Intent {
        role: Some(Role::Proxy),
        link: Some(Link::Wan),
        goal: Some(Goal::Throughput),
        connections: Some(10_000),
        ..Intent::default()
    }
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn journals(&self) -> Folder {
        Folder::open(self.folder.path()).unwrap()
    }
}

/// A machine that dies before or after its n-th write, or refuses it.
struct Faulty {
    tree: Tree,
    at: usize,
    fault: Fault,
    writes: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    DieBefore,
    DieAfter,
    Refuse(i32),
}

impl Faulty {
    fn new(machine: &Fixture, at: usize, fault: Fault) -> Faulty {
        Faulty {
            tree: machine.tree(),
            at,
            fault,
            writes: Cell::new(0),
        }
    }
}

impl Machine for Faulty {
    reads_from_tree!();

    fn write(&self, target: &Target, value: &str) -> io::Result<()> {
        let count = self.writes.replace(self.writes.get() + 1);
        if count == self.at {
            match self.fault {
                Fault::Refuse(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Fault::DieBefore => std::panic::resume_unwind(Box::new("killed")),
                Fault::DieAfter => {
                    self.tree.write(target, value)?;
                    std::panic::resume_unwind(Box::new("killed"));
                }
            }
        }
        self.tree.write(target, value)
    }
}

fn brief(machine: &Fixture, intent: &Intent) -> String {
    let plan = plan::plan(&machine.facts(), intent);
    let mut text = String::new();
    for action in &plan.actions {
        let cut = |text: &str| text.chars().take(32).collect::<String>();
        let (target, now, new) = (&action.target, cut(&action.now), cut(&action.new));
        text.push_str(&format!("{}: {target}: {now} -> {new}\n", action.check));
    }
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

#[test]
fn a_plan_names_what_it_changes_in_order() {
    expect![[r#"
        irq.balance: irqbalance's list of banned interrupts: 7 -> 7 41 42 43 44 45 46 47 48
        nic.rss_table: RSS table of eth0: 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3  -> 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 
        irq.affinity: interrupt virtio0-input.0: 0-7 -> 2
        irq.affinity: interrupt virtio0-output.0: 0-7 -> 2
        irq.affinity: interrupt virtio0-input.1: 0-7 -> 3
        irq.affinity: interrupt virtio0-output.1: 0-7 -> 3
        rps.redundant: /sys/class/net/eth0/queues/rx-1/rps_cpus: 000000ff -> 00000000
        xps.map: /sys/class/net/eth0/queues/tx-0/xps_cpus: 00000000 -> 00000055
        xps.map: /sys/class/net/eth0/queues/tx-1/xps_cpus: 00000000 -> 000000aa
        tcp.backlog: /proc/sys/net/core/somaxconn: 128 -> 4096
        softirq.backlog: /proc/sys/net/core/netdev_max_backlog: 1000 -> 2000
        numa.balancing: /proc/sys/kernel/numa_balancing: 1 -> 0
        tcp.rmem: /proc/sys/net/ipv4/tcp_rmem: 4096	131072	6291456 -> 4096 131072 33554432
        tcp.wmem: /proc/sys/net/ipv4/tcp_wmem: 4096	16384	4194304 -> 4096 16384 16777216
        tcp.slow_start_idle: /proc/sys/net/ipv4/tcp_slow_start_after_idle: 1 -> 0
        tcp.ports: /proc/sys/net/ipv4/ip_local_port_range: 32768	60999 -> 10240 60999
    "#]].assert_eq(&brief(&neglected(true), &everything()));
}

#[test]
fn with_leave_queues_come_first_and_alone() {
    let machine = neglected(true);
    let intent = Intent {
        may_disrupt: true,
        ..everything()
    };
    let plan = plan::plan(&machine.facts(), &intent);
    let device: Vec<_> = plan
        .actions
        .iter()
        .map(|action| action.check)
        .filter(|check| !check.starts_with("tcp") && !check.starts_with("softirq"))
        .collect();
    // The table first: queues that it uses can't go.
    let expect = [
        "irq.balance",
        "nic.rss_table",
        "nic.channels",
        "numa.balancing",
    ];
    assert_eq!(device, expect);
}

#[test]
fn what_was_applied_leaves_nothing_to_plan_and_reverts_to_every_byte() {
    for virtio in [false, true] {
        for may_disrupt in [false, true] {
            let machine = neglected(virtio);
            let before = machine.contents();
            let place = Place::new();
            let intent = Intent {
                may_disrupt,
                ..everything()
            };
            let summary = apply(&machine.tree(), &intent, &place.journals()).unwrap();
            assert!(summary.applied.len() > 10, "{summary:?}");
            for applied in &summary.applied {
                assert_eq!(applied.outcome, Outcome::Done, "{applied:?}");
            }
            assert_eq!(plan::plan(&machine.facts(), &intent).actions, []);
            let verified = verify(&machine.tree(), &place.journals()).unwrap();
            assert!(
                verified
                    .iter()
                    .all(|verified| verified.state == State::Holds)
            );
            let reverted = revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert!(
                reverted
                    .iter()
                    .all(|reverted| reverted.outcome == Undone::Restored)
            );
            assert_eq!(machine.contents(), before);
            let again = revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert_eq!(again, [], "the journal is closed");
        }
    }
}

/// The one that decides: whatever write it dies at, before or after, undoing restores every byte.
#[test]
fn a_kill_at_every_single_write_is_undone() {
    let intent = Intent {
        may_disrupt: true,
        ..everything()
    };
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let mut at = 0;
        loop {
            let machine = neglected(true);
            let before = machine.contents();
            let place = Place::new();
            let faulty = Faulty::new(&machine, at, fault);
            let folder = place.journals();
            let died = catch_unwind(AssertUnwindSafe(|| apply(&faulty, &intent, &folder)));
            drop(folder);
            revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert_eq!(machine.contents(), before, "{fault:?} write {at}");
            assert!(place.journals().past().unwrap()[0].is_closed());
            if died.is_ok() {
                assert!(at > 15, "only {at} writes");
                break;
            }
            at += 1;
        }
    }
}

/// Undoing may be killed too, and done again.
#[test]
fn a_kill_while_undoing_is_undone() {
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let mut at = 0;
        loop {
            let machine = neglected(false);
            let before = machine.contents();
            let place = Place::new();
            apply(&machine.tree(), &everything(), &place.journals()).unwrap();
            let faulty = Faulty::new(&machine, at, fault);
            let folder = place.journals();
            let died = catch_unwind(AssertUnwindSafe(|| revert(&faulty, &folder, None, false)));
            drop(folder);
            revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert_eq!(machine.contents(), before, "{fault:?} write {at}");
            if died.is_ok() {
                break;
            }
            at += 1;
        }
    }
}

/// A journal that a crash cut anywhere in its last line, before that line's change was made.
#[test]
fn a_journal_cut_in_its_last_line_is_undone() {
    for at in [0, 3] {
        let machine = neglected(false);
        let before = machine.contents();
        let place = Place::new();
        let faulty = Faulty::new(&machine, at, Fault::DieBefore);
        let folder = place.journals();
        let died = catch_unwind(AssertUnwindSafe(|| apply(&faulty, &everything(), &folder)));
        assert!(died.is_err());
        drop(folder);
        let after = machine.contents();
        let mut files = std::fs::read_dir(place.folder.path()).unwrap();
        let file = files.find_map(|file| {
            let path = file.unwrap().path();
            (path.extension()? == "jsonl").then_some(path)
        });
        let file = file.unwrap();
        let whole = std::fs::read(&file).unwrap();
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .unwrap();
        for cut in last + 1..whole.len() {
            std::fs::write(&file, &whole[..cut]).unwrap();
            revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert_eq!(machine.contents(), before, "cut at {cut}");
            for (path, content) in &after {
                std::fs::write(path, content).unwrap();
            }
        }
    }
}

#[test]
fn refusals_are_told_apart_and_leave_nothing_half_done() {
    const EPERM: i32 = 1;
    const EIO: i32 = 5;
    const EACCES: i32 = 13;
    let machine = neglected(false);
    let plan = plan::plan(&machine.facts(), &everything());
    for (at, action) in plan.actions.iter().enumerate() {
        for errno in [EPERM, EIO, EACCES] {
            let machine = neglected(false);
            let before = machine.contents();
            let place = Place::new();
            let faulty = Faulty::new(&machine, at, Fault::Refuse(errno));
            let summary = apply(&faulty, &everything(), &place.journals()).unwrap();
            let outcome = &summary.applied[at].outcome;
            let is_managed = action.check == "irq.affinity" && errno != EACCES;
            let expected = match outcome {
                Outcome::Unchangeable(_) => is_managed,
                Outcome::Failed(_) => !is_managed,
                Outcome::Done | Outcome::Instead(_) | Outcome::Already => false,
            };
            assert!(expected, "{errno}: {action:?}: {outcome:?}");
            assert_eq!(summary.has_failed(), !is_managed);
            revert(&machine.tree(), &place.journals(), None, false).unwrap();
            assert_eq!(machine.contents(), before);
        }
    }
}

#[test]
fn what_others_changed_since_is_left_to_them() {
    let machine = neglected(false);
    let place = Place::new();
    apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    let somaxconn = "proc/sys/net/core/somaxconn";
    assert_eq!(machine.get(somaxconn), "4096");
    machine.put(somaxconn, "9999");
    let target = Target::File(somaxconn.to_owned());
    let verified = verify(&machine.tree(), &place.journals()).unwrap();
    let found = verified
        .iter()
        .find(|verified| verified.target == target)
        .unwrap();
    assert_eq!(found.state, State::Drifted("9999".to_owned()));
    let conflicts = |is_forced| {
        let reverted = revert(&machine.tree(), &place.journals(), None, is_forced).unwrap();
        let conflicts = reverted
            .iter()
            .filter(|one| matches!(one.outcome, Undone::Conflict(_)));
        conflicts.map(|one| one.target.clone()).collect::<Vec<_>>()
    };
    assert_eq!(conflicts(false), std::slice::from_ref(&target));
    assert_eq!(machine.get(somaxconn), "9999");
    // Undoing again finds the rest undone and the same conflict, until it is overruled.
    assert_eq!(conflicts(false), [target]);
    assert_eq!(conflicts(true), []);
    assert_eq!(machine.get(somaxconn), "128");
}

#[test]
fn a_reboot_takes_what_was_done_with_it() {
    let machine = neglected(false);
    let place = Place::new();
    apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    machine.put("proc/sys/kernel/random/boot_id", "another");
    let before = machine.contents();
    let verified = verify(&machine.tree(), &place.journals()).unwrap();
    assert!(
        verified
            .iter()
            .all(|verified| matches!(verified.state, State::Gone(_)))
    );
    let reverted = revert(&machine.tree(), &place.journals(), None, false).unwrap();
    assert!(
        reverted
            .iter()
            .all(|reverted| matches!(reverted.outcome, Undone::Gone(_)))
    );
    assert_eq!(machine.contents(), before);
    assert!(place.journals().past().unwrap()[0].is_closed());
}

#[test]
fn several_applies_are_undone_together_or_by_name() {
    let machine = neglected(false);
    let before = machine.contents();
    let place = Place::new();
    let first = apply(&machine.tree(), &Intent::default(), &place.journals()).unwrap();
    let between = machine.contents();
    let second = apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    assert_ne!(first.journal, second.journal);
    let id = second.journal.as_deref();
    revert(&machine.tree(), &place.journals(), id, false).unwrap();
    assert_eq!(machine.contents(), between);
    apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    revert(&machine.tree(), &place.journals(), None, false).unwrap();
    assert_eq!(machine.contents(), before);
    let error = revert(&machine.tree(), &place.journals(), Some("none"), false).unwrap_err();
    assert_eq!(
        error,
        "there is no journal \"none\"; --list shows those there are"
    );
}

#[test]
fn what_nobody_confirms_is_undone_and_what_was_before_stays() {
    let machine = neglected(false);
    let place = Place::new();
    let apply = |intent: &Intent, guard: &str| {
        apply_guarded(&machine.tree(), intent, &place.journals(), Some(guard)).unwrap();
    };
    let undo = |guard: &str| {
        revert_unconfirmed(&machine.tree(), &place.journals(), guard).unwrap();
    };
    apply(&Intent::default(), "first");
    assert_eq!(confirm(&place.journals()), Ok(1));
    let between = machine.contents();
    apply(&everything(), "second");
    let after = machine.contents();
    assert_ne!(after, between);
    // Neither another guard's time nor that of what was confirmed is this one's.
    undo("third");
    undo("first");
    assert_eq!(machine.contents(), after);
    undo("second");
    assert_eq!(machine.contents(), between);
    assert_eq!(
        confirm(&place.journals()),
        Ok(0),
        "undone, or confirmed before"
    );
}

/// Nobody said that it may be undone by itself.
#[test]
fn what_has_no_guard_does_not_wait_for_one() {
    let machine = neglected(false);
    let place = Place::new();
    apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    assert_eq!(confirm(&place.journals()), Ok(0));
}

#[test]
fn a_newer_journal_keeps_all_from_being_undone() {
    let machine = neglected(false);
    let place = Place::new();
    let summary = apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    let after = machine.contents();
    let newer = place.folder.path().join("999999999999-000.jsonl");
    std::fs::write(&newer, "{\"entry\":\"begin\",\"journal_version\":9}\n").unwrap();
    let why = "journal 999999999999-000 was written by a newer ringway (version 9 of the journal; \
               this one knows 1): that one can undo it";
    let reverted = revert(&machine.tree(), &place.journals(), None, true);
    assert_eq!(reverted, Err(why.to_owned()));
    assert_eq!(machine.contents(), after);
    let verified = verify(&machine.tree(), &place.journals());
    assert_eq!(verified, Err(why.to_owned()));
    // One that is named has nothing to do with it.
    let id = summary.journal.as_deref();
    let reverted = revert(&machine.tree(), &place.journals(), id, false).unwrap();
    assert_eq!(reverted.len(), summary.applied.len());
}

#[test]
fn a_journal_that_can_not_be_read_keeps_all_from_being_undone_but_one_that_is_named() {
    let machine = neglected(false);
    let before = machine.contents();
    let place = Place::new();
    let summary = apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    let after = machine.contents();
    let unreadable = place.folder.path().join("999999999999-000.jsonl");
    std::fs::create_dir(&unreadable).unwrap();
    let why = format!("{}: not a file", unreadable.display());
    let reverted = revert(&machine.tree(), &place.journals(), None, true);
    assert_eq!(reverted, Err(why.clone()));
    assert_eq!(machine.contents(), after);
    assert_eq!(verify(&machine.tree(), &place.journals()), Err(why));
    assert_eq!(confirm(&place.journals()), Ok(0));
    revert_unconfirmed(&machine.tree(), &place.journals(), "none").unwrap();
    let id = summary.journal.as_deref();
    revert(&machine.tree(), &place.journals(), id, false).unwrap();
    assert_eq!(machine.contents(), before);
}

/// What a damaged line told of is for somebody to look at; it stays open until that is overruled.
#[test]
fn a_damaged_line_keeps_a_journal_open_until_it_is_forced() {
    let machine = neglected(false);
    let place = Place::new();
    let summary = apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    let name = format!("{}.jsonl", summary.journal.unwrap());
    let file = place.folder.path().join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[2] = "{\"entry\":\"in";
    std::fs::write(&file, format!("{}\n", lines.join("\n"))).unwrap();
    for is_forced in [false, true] {
        revert(&machine.tree(), &place.journals(), None, is_forced).unwrap();
        let past = place.journals().past().unwrap().remove(0);
        assert_eq!((past.damaged_lines, past.is_closed()), (1, is_forced));
    }
}

#[test]
fn a_machine_that_needs_nothing_gets_no_journal() {
    let machine = neglected(false);
    let place = Place::new();
    apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    let again = apply(&machine.tree(), &everything(), &place.journals()).unwrap();
    assert!(again.applied.is_empty() && again.journal.is_none());
    assert_eq!(place.journals().past().unwrap().len(), 1);
}

#[test]
fn irqbalance_that_can_not_be_asked_keeps_interrupts_where_they_are() {
    let machine = neglected(false);
    machine.change_probes(|probes| probes.irqbalance = Fact::Known(None));
    machine.put("proc/9/comm", "irqbalance");
    let plan = plan::plan(&machine.facts(), &everything());
    assert_eq!(
        plan.of("irq.affinity").count() + plan.of("irq.balance").count(),
        0
    );
    let note =
        "irqbalance runs and can't be asked (it has no socket that answers): interrupts stay";
    assert_eq!(plan.notes[0], note);
}

#[test]
fn the_shell_script_does_and_undoes_the_same() {
    let machine = neglected(false);
    // What isn't a file needs tools that a test can't have.
    machine.change_probes(|probes| {
        probes.irqbalance = Fact::Known(None);
        probes.devices.get_mut("eth0").unwrap().rss = Fact::Unknown("not told".to_owned());
    });
    let before = machine.contents();
    let plan = plan::plan(&machine.facts(), &everything());
    let script = shell::script(&plan, &machine.tree());
    let root = machine.root().display();
    let script = script.replace("> /", &format!("> {root}/"));
    let run = |what: &str| {
        let output = std::process::Command::new("sh")
            .args(["-c", &script, "sh", what])
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    };
    run("apply");
    assert_eq!(plan::plan(&machine.facts(), &everything()).actions, []);
    run("undo");
    let texts = |contents: std::collections::BTreeMap<_, Vec<u8>>| -> Vec<Vec<String>> {
        let words = |content: Vec<u8>| {
            let text = String::from_utf8(content).unwrap();
            text.split_whitespace().map(str::to_owned).collect()
        };
        contents.into_values().map(words).collect()
    };
    assert_eq!(texts(machine.contents()), texts(before));
}

fn check_properties(machine: &Fixture, intent: &Intent) -> Result<(), TestCaseError> {
    let before = machine.contents();
    let facts = machine.facts();
    let usable = facts.processors.usable();
    let place = Place::new();
    let summary = apply(&machine.tree(), intent, &place.journals()).unwrap();
    for applied in &summary.applied {
        prop_assert_eq!(&applied.outcome, &Outcome::Done, "{:?}", applied);
        let action = &applied.action;
        match &action.target {
            Target::File(path) if path.ends_with("_cpus") => {
                let mask = CpuList::parse_mask(&action.new).unwrap();
                prop_assert!(mask.is_subset(&usable), "{:?}", action);
            }
            Target::Interrupt { .. } => {
                let list: CpuList = action.new.parse().unwrap();
                prop_assert!(list.len() == 1 && list.is_subset(&usable), "{:?}", action);
            }
            Target::File(path)
                if ["mem", "backlog", "somaxconn"]
                    .iter()
                    .any(|end| path.ends_with(end)) =>
            {
                let numbers = |text: &str| -> Vec<u64> {
                    text.split_whitespace()
                        .map(|word| word.parse().unwrap())
                        .collect()
                };
                let raised = numbers(&action.now).into_iter().zip(numbers(&action.new));
                prop_assert!(
                    raised.into_iter().all(|(now, new)| new >= now),
                    "{:?}",
                    action
                );
            }
            _ => {}
        }
    }
    let after: Facts = machine.facts();
    prop_assert_eq!(plan::plan(&after, intent).actions, vec![]);
    let nic = after.nic(None).unwrap();
    let masks: Vec<_> = nic
        .tx_queues
        .iter()
        .filter_map(|tx| tx.xps_cpus.known())
        .collect();
    if masks.len() > 1 {
        for cpu in usable.iter() {
            let count = masks.iter().filter(|mask| mask.contains(cpu)).count();
            prop_assert_eq!(count, 1, "CPU {} sends by {} queues", cpu, count);
        }
    }
    revert(&machine.tree(), &place.journals(), None, false).unwrap();
    prop_assert_eq!(machine.contents(), before);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn plans_keep_their_promises_on_every_machine(
        nodes in 1_u32..9,
        cores in 1_u32..4,
        // Numbers with gaps; a node without memory; a processor that isn't ours.
        gap in 1_u32..5,
        has_bare_node in any::<bool>(),
        has_less_allowed in any::<bool>(),
        threads in 1_u32..3,
        node in -1_i64..9,
        queues in 1_u32..7,
        more_queues in 0_u32..4,
        virtio in any::<bool>(),
        may_disrupt in any::<bool>(),
        is_proxy in any::<bool>(),
        is_far in any::<bool>(),
        wants_throughput in any::<bool>(),
        quota in prop::option::of(50_u32..600),
        somaxconn in prop::sample::select(vec![128_u32, 4096, 65_535]),
    ) {
        let mut spec = Spec::nodes(nodes, cores);
        spec.threads = threads;
        spec.quota_percent = quota;
        for node in &mut spec.nodes {
            node.id *= gap;
        }
        if has_bare_node {
            spec.nodes[0].memory_mib = 0;
        }
        let last = nodes * cores * threads - 1;
        spec.affinity = (has_less_allowed && last > 0).then(|| format!("1-{last}"));
        let queues = (queues, queues + more_queues);
        spec.nic = Some(NicSpec { name: "eth0", node, queues, virtio });
        let machine = spec.build();
        machine.put("proc/sys/net/core/somaxconn", &somaxconn.to_string());
        let intent = Intent {
            may_disrupt,
            role: is_proxy.then_some(Role::Proxy),
            link: is_far.then_some(Link::Wan),
            goal: wants_throughput.then_some(Goal::Throughput),
            ..Intent::default()
        };
        check_properties(&machine, &intent)?;
    }
}
