//! Where workers go, on every shape of machine.

use crate::fixture::{Machine, NodeSpec, Spec, nic};
use proptest::prelude::*;
use ringway_host::facts::Site;
use ringway_host::intent::Intent;
use ringway_host::placement::{Placement, plan};

fn placed(spec: &Spec) -> Placement {
    plan(spec.build().facts().ground(), &Intent::default()).unwrap()
}

fn cpus(placement: &Placement) -> Vec<u32> {
    placement.workers.iter().map(|worker| worker.cpu).collect()
}

#[test]
fn one_thread_of_each_core_near_the_device() {
    let mut spec = Spec::nodes(2, 2);
    spec.threads = 2;
    spec.nic = nic(1, 2, 2);
    let placement = placed(&spec);
    assert_eq!(cpus(&placement), [2, 3]);
    assert_eq!(placement.workers[1].node, Some(1));
    assert_eq!(placement.workers[1].queue, Some(1));
    assert_eq!(placement.queues[1].interrupt_cpu, 3);
    assert!(placement.queues[1].spread.is_empty());
    assert_eq!(
        placement.to_string(),
        "2 workers on CPU 2-3, 2 queues of eth0"
    );
}

#[test]
fn more_workers_take_other_nodes_and_then_second_threads() {
    let mut spec = Spec::nodes(2, 2);
    spec.threads = 2;
    spec.nic = nic(1, 2, 2);
    let intent = Intent {
        workers: Some(9),
        ..Intent::default()
    };
    let placement = plan(spec.build().facts().ground(), &intent).unwrap();
    assert_eq!(cpus(&placement), [2, 3, 0, 1, 6, 7, 4, 5, 2]);
    assert_eq!(
        placement.notes,
        ["9 workers share 8 processors, as was asked"]
    );
}

#[test]
fn the_first_processor_is_spared_when_there_are_many() {
    assert_eq!(cpus(&placed(&Spec::nodes(1, 4))), [0, 1, 2, 3]);
    assert_eq!(cpus(&placed(&Spec::nodes(1, 5))), [1, 2, 3, 4, 0]);
}

#[test]
fn workers_keep_to_the_processors_that_were_asked_for() {
    let check = |cpus: &str, workers, expect: &[u32]| {
        let mut spec = Spec::nodes(2, 2);
        spec.threads = 2;
        spec.nic = nic(1, 2, 2);
        let intent = Intent {
            cpus: Some(cpus.parse().unwrap()),
            workers,
            ..Intent::default()
        };
        let placement = plan(spec.build().facts().ground(), &intent);
        assert_eq!(
            placement.map(|it| self::cpus(&it)).as_deref(),
            Ok(expect),
            "{cpus}"
        );
    };
    check("0,3", None, &[3, 0]);
    // Second threads, too: they were asked for.
    check("2,6", None, &[2, 6]);
    check("0-3", Some(3), &[2, 3, 0]);
    check("1", Some(2), &[1, 1]);
    check("1,99", None, &[1]);
}

#[test]
fn processors_that_are_not_there_are_told_with_those_that_are() {
    let intent = Intent {
        cpus: Some("7-9".parse().unwrap()),
        ..Intent::default()
    };
    let facts = Spec::nodes(1, 2).build().facts();
    let why = "none of the processors that were asked for (7-9) may be used, but 0-1";
    assert_eq!(plan(facts.ground(), &intent), Err(why.to_owned()));
}

#[test]
fn a_worker_is_fed_where_the_interrupts_or_rps_bring_packets() {
    let mut spec = Spec::nodes(1, 2);
    let placement = |machine: &Machine| plan(machine.facts().ground(), &Intent::default()).unwrap();
    let why = "eth0 receives on CPU 0, and nothing on CPU 1".to_owned();
    let machine = spec.build();
    assert_eq!(placement(&machine).feeds_every_worker(), Err(why.clone()));
    machine.put("proc/irq/42/effective_affinity_list", "1");
    assert_eq!(placement(&machine).feeds_every_worker(), Ok(()));
    // It is to move, and will when it comes next.
    machine.put("proc/irq/42/effective_affinity_list", "0");
    machine.put("proc/irq/42/smp_affinity_list", "1");
    assert_eq!(placement(&machine).feeds_every_worker(), Ok(()));
    spec.nic = nic(0, 1, 2);
    let machine = spec.build();
    assert_eq!(placement(&machine).feeds_every_worker(), Err(why));
    machine.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "3");
    assert_eq!(placement(&machine).feeds_every_worker(), Ok(()));
    machine.remove("proc/irq/41");
    machine.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "0");
    let why = "where the interrupt of eth0's queue 0 goes isn't known".to_owned();
    assert_eq!(placement(&machine).feeds_every_worker(), Err(why));
    spec.nic = None;
    let why = "no physical network device is seen".to_owned();
    assert_eq!(placed(&spec).feeds_every_worker(), Err(why));
}

#[test]
fn what_is_read_for_a_placement_alone_gives_the_same_one() {
    let mut spec = Spec::nodes(2, 3);
    spec.nic = nic(1, 2, 3);
    let machine = spec.build();
    let site = Site::read(&machine.tree());
    let intent = Intent::default();
    assert_eq!(
        plan(site.ground(), &intent),
        plan(machine.facts().ground(), &intent)
    );
}

#[test]
fn a_quota_limits_workers() {
    let mut spec = Spec::nodes(1, 4);
    for (percent, workers) in [(50, 1), (150, 1), (299, 2), (1000, 4)] {
        spec.quota_percent = Some(percent);
        assert_eq!(cpus(&placed(&spec)).len(), workers, "{percent} %");
    }
}

#[test]
fn affinity_limits_workers() {
    let mut spec = Spec::nodes(1, 4);
    spec.affinity = Some("2".to_owned());
    assert_eq!(cpus(&placed(&spec)), [2]);
    spec.affinity = Some("9".to_owned());
    let error = plan(spec.build().facts().ground(), &Intent::default()).unwrap_err();
    assert_eq!(
        error,
        "no processor is left: none is both online and allowed"
    );
}

#[test]
fn few_queues_are_shared_by_neighbours() {
    let mut spec = Spec::nodes(1, 8);
    spec.nic = nic(0, 2, 2);
    let placement = placed(&spec);
    assert_eq!(cpus(&placement), [1, 2, 3, 4, 5, 6, 7, 0]);
    let queues: Vec<_> = placement
        .queues
        .iter()
        .map(|queue| {
            (
                queue.interrupt_cpu,
                queue.feeds.to_string(),
                queue.spread.to_string(),
            )
        })
        .collect();
    let expect = [(1, "1-4", "2-4"), (5, "0,5-7", "0,6-7")];
    assert_eq!(
        queues,
        expect.map(|(cpu, feeds, spread)| (cpu, feeds.into(), spread.into()))
    );
}

#[test]
fn queues_are_added_only_with_leave() {
    let mut spec = Spec::nodes(1, 4);
    spec.nic = nic(0, 1, 8);
    assert_eq!(placed(&spec).queues.len(), 1);
    let intent = Intent {
        may_disrupt: true,
        ..Intent::default()
    };
    let placement = plan(spec.build().facts().ground(), &intent).unwrap();
    assert_eq!(placement.queues.len(), 4);
}

#[test]
fn a_device_on_a_node_without_processors_gets_the_nearest() {
    let mut spec = Spec::nodes(1, 2);
    let node = |id, cores, memory_mib| NodeSpec {
        id,
        cores,
        memory_mib,
    };
    spec.nodes = vec![node(0, 2, 0), node(8, 0, 1024), node(9, 2, 1024)];
    spec.nic = nic(8, 2, 2);
    let machine = spec.build();
    machine.put("sys/devices/system/node/node8/distance", "31 10 17");
    let placement = plan(machine.facts().ground(), &Intent::default()).unwrap();
    assert_eq!(cpus(&placement), [2, 3]);
    let note = "node 8 of eth0 has no processor for us: node 9 is the nearest";
    assert_eq!(placement.notes, [note]);
    spec.nic = nic(0, 2, 2);
    let placement = placed(&spec);
    assert_eq!(cpus(&placement), [0, 1]);
    assert_eq!(
        placement.workers[0].memory_node,
        Some(8),
        "node 0 has no memory"
    );
}

#[test]
fn an_unknown_node_uses_all_and_says_so() {
    let mut spec = Spec::nodes(2, 2);
    spec.nic = nic(-1, 4, 4);
    let placement = placed(&spec);
    assert_eq!(cpus(&placement), [0, 1, 2, 3]);
    assert_eq!(
        placement.notes,
        ["the node of eth0 isn't known: all nodes are alike"]
    );
}

#[test]
fn fast_cores_come_first() {
    let machine = Spec::nodes(1, 4).build();
    for (cpu, capacity) in [(0, 400), (1, 400), (2, 1024), (3, 1024)] {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
        machine.put(&path, &capacity.to_string());
    }
    let placement = plan(machine.facts().ground(), &Intent::default()).unwrap();
    assert_eq!(cpus(&placement), [2, 3, 0, 1]);
}

#[test]
fn isolated_processors_are_left_alone() {
    let machine = Spec::nodes(1, 4).build();
    machine.put("sys/devices/system/cpu/isolated", "2-3");
    let placement = plan(machine.facts().ground(), &Intent::default()).unwrap();
    assert_eq!(cpus(&placement), [0, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_worker_has_a_processor_of_its_own(
        cores in prop::collection::vec(0_u32..5, 1..5),
        threads in 1_u32..3,
        node in -1_i64..5,
        queues in 0_u32..9,
        quota in prop::option::of(10_u32..900),
        asked in prop::option::of(1_usize..20),
    ) {
        prop_assume!(cores.iter().sum::<u32>() > 0);
        let mut spec = Spec::nodes(1, 1);
        let node_spec = |(index, &cores): (usize, &u32)| NodeSpec {
            id: index as u32 * 2,
            cores,
            memory_mib: 64,
        };
        spec.nodes = cores.iter().enumerate().map(node_spec).collect();
        spec.threads = threads;
        spec.nic = nic(node * 2, queues, queues);
        spec.quota_percent = quota;
        let all = spec.cores() * threads;
        let intent = Intent { workers: asked, ..Intent::default() };
        let placement = plan(spec.build().facts().ground(), &intent).unwrap();
        let mut cpus = cpus(&placement);
        prop_assert_eq!(cpus.len(), asked.unwrap_or(cpus.len()));
        prop_assert!(!cpus.is_empty() && cpus.iter().all(|&cpu| cpu < all));
        if asked.is_none() {
            // One a core: no two are threads of one core.
            let distinct: std::collections::BTreeSet<u32> =
                cpus.iter().map(|cpu| cpu % spec.cores()).collect();
            prop_assert_eq!(distinct.len(), cpus.len());
        }
        prop_assert_eq!(placement.queues.len(), cpus.len().min(queues as usize));
        for (index, queue) in placement.queues.iter().enumerate() {
            prop_assert!(queue.feeds.contains(queue.interrupt_cpu));
            prop_assert!(queue.spread.is_subset(&queue.feeds));
            let fed = placement.workers.iter().filter(|worker| worker.queue == Some(index as u32));
            prop_assert!(fed.clone().count() > 0);
            prop_assert!(fed.clone().all(|worker| queue.feeds.contains(worker.cpu)));
        }
        cpus.sort_unstable();
        cpus.dedup();
        prop_assert_eq!(cpus.len(), placement.workers.len().min(all as usize));
    }
}
