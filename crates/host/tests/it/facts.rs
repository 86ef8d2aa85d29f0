//! What is read from whole trees, sound and unsound.

use crate::fixture::{NicSpec, NodeSpec, Spec};
use ringway_host::facts::{DeviceKind, Direction, Fact, Facts};
use ringway_host::machine::Tree;
use std::fs;

fn cpus(list: &str) -> ringway_host::cpulist::CpuList {
    list.parse().unwrap()
}

#[test]
fn a_machine_of_two_nodes_is_read() {
    let mut spec = Spec::nodes(2, 4);
    spec.threads = 2;
    let facts = spec.build().facts();
    assert_eq!(facts.system.kernel_version, Fact::Known((6, 12)));
    assert_eq!(facts.processors.online, Fact::Known(cpus("0-15")));
    let last = facts.processors.get(15).unwrap();
    assert_eq!(last.siblings, Fact::Known(cpus("7,15")));
    assert_eq!(last.last_cache, Fact::Known(cpus("4-7,12-15")));
    assert_eq!(last.node, Fact::Known(1));
    let nodes = facts.nodes.known().unwrap();
    assert_eq!(nodes[1].cpus, Fact::Known(cpus("4-7,12-15")));
    assert_eq!(nodes[1].memory_bytes, Fact::Known(4 << 30));
    assert_eq!(nodes[1].distances, Fact::Known(vec![(0, 21), (1, 10)]));
    let nic = &facts.nics.known().unwrap()[0];
    assert_eq!(
        (nic.kind, &nic.node),
        (DeviceKind::Physical, &Fact::Known(Some(0)))
    );
    assert_eq!(nic.receiving_queues(), 4);
    let queues: Vec<_> = nic.queue_irqs().map(|irq| irq.queue.unwrap()).collect();
    assert_eq!(queues, [0, 1, 2, 3].map(|index| (Direction::Both, index)));
    assert_eq!(facts.processors.quota, Fact::Known(None));
    assert_eq!(
        facts.sysctl_triple("net.ipv4.tcp_rmem"),
        Fact::Known([4096, 131_072, 6_291_456])
    );
}

#[test]
fn a_virtio_device_has_its_node_and_interrupts_in_its_parent() {
    let mut spec = Spec::nodes(2, 2);
    spec.nic = Some(NicSpec {
        name: "eth0",
        node: 1,
        queues: (2, 2),
        virtio: true,
    });
    let facts = spec.build().facts();
    let nic = &facts.nics.known().unwrap()[0];
    let bus = "sys/devices/pci0000:00/0000:00:03.0".to_owned();
    assert_eq!(nic.bus_device, Fact::Known(bus));
    assert_eq!(nic.node, Fact::Known(Some(1)));
    let queues: Vec<_> = nic.queue_irqs().map(|irq| irq.queue.unwrap()).collect();
    let expect = [
        (Direction::Rx, 0),
        (Direction::Tx, 0),
        (Direction::Rx, 1),
        (Direction::Tx, 1),
    ];
    assert_eq!(queues, expect);
}

#[test]
fn sparse_empty_and_processorless_nodes_are_read() {
    let mut spec = Spec::nodes(1, 2);
    let node = |id, cores, memory_mib| NodeSpec {
        id,
        cores,
        memory_mib,
    };
    spec.nodes = vec![node(0, 2, 0), node(8, 0, 4096), node(9, 1, 1024)];
    let facts = spec.build().facts();
    let nodes = facts.nodes.known().unwrap();
    let summary: Vec<_> = nodes
        .iter()
        .map(|node| {
            let cpus = node.cpus.known().unwrap().to_string();
            (node.id, cpus, *node.memory_bytes.known().unwrap() >> 20)
        })
        .collect();
    let expect = [(0, "0-1", 0), (8, "", 4096), (9, "2", 1024)];
    assert_eq!(
        summary,
        expect.map(|(id, cpus, mib)| (id, cpus.to_owned(), mib))
    );
    assert_eq!(
        nodes[1].distances,
        Fact::Known(vec![(0, 21), (8, 10), (9, 21)])
    );
}

#[test]
fn limits_of_control_groups_are_found_in_both_versions() {
    let mut spec = Spec::nodes(1, 4);
    spec.quota_percent = Some(250);
    let machine = spec.build();
    assert_eq!(machine.facts().processors.quota, Fact::Known(Some(2.5)));
    // A tighter one above holds too.
    machine.put("sys/fs/cgroup/system.slice/cpu.max", "150000 100000");
    machine.put("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "1-2");
    let facts = machine.facts();
    assert_eq!(facts.processors.quota, Fact::Known(Some(1.5)));
    assert_eq!(facts.processors.usable(), cpus("1-2"));
    machine.remove("sys/fs/cgroup");
    machine.put(
        "proc/self/cgroup",
        "4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc",
    );
    // The container's own group is mounted as the root.
    machine.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000");
    machine.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
    machine.put("sys/fs/cgroup/cpuset/cpuset.cpus", "0,3");
    let facts = machine.facts();
    assert_eq!(facts.processors.quota, Fact::Known(Some(0.5)));
    assert_eq!(facts.processors.usable(), cpus("0,3"));
    assert_eq!(
        facts.environment.container,
        Fact::Known(Some("docker".to_owned()))
    );
}

#[test]
fn a_network_namespace_is_recognised_by_what_is_absent() {
    let mut spec = Spec::nodes(1, 1);
    assert_eq!(
        spec.build().facts().environment.is_first_network_namespace,
        Fact::Known(true)
    );
    spec.first_namespace = false;
    let facts = spec.build().facts();
    assert_eq!(
        facts.environment.is_first_network_namespace,
        Fact::Known(false)
    );
    let why = facts
        .sysctl("net.core.netdev_max_backlog")
        .reason()
        .map(str::to_owned);
    assert_eq!(
        why.as_deref(),
        Some("/proc/sys/net/core/netdev_max_backlog: not there")
    );
}

#[test]
fn irqbalance_is_found_without_its_socket() {
    let machine = Spec::nodes(1, 1).build();
    assert_eq!(machine.facts().irqbalance, Fact::Known(None));
    machine.put("proc/812/comm", "irqbalance");
    let found = machine
        .facts()
        .irqbalance
        .known()
        .cloned()
        .flatten()
        .unwrap();
    assert_eq!(found.banned.known(), None);
}

/// mlx5 shows twice as many receive queues in sysfs as it uses, from 5.3 to 6.0.
#[test]
fn queues_that_are_shown_and_not_used_do_not_count() {
    let machine = Spec::nodes(1, 4).build();
    machine.change_probes(|probes| {
        let channels = &mut probes.devices.get_mut("eth0").unwrap().channels;
        *channels = channels.clone().map(|mut channels| {
            channels.combined.now = 2;
            channels
        });
    });
    let facts = machine.facts();
    let nic = facts.nic(None).unwrap();
    assert_eq!((nic.rx_queues.len(), nic.receiving_queues()), (4, 2));
}

#[test]
fn more_than_a_thousand_processors_are_read() {
    let mut spec = Spec::nodes(8, 80);
    spec.threads = 2;
    let facts = spec.build().facts();
    assert_eq!(facts.processors.each.len(), 1280);
    assert_eq!(
        facts.processors.get(1279).unwrap().siblings,
        Fact::Known(cpus("639,1279"))
    );
}

#[test]
fn facts_survive_their_json() {
    let facts = Spec::nodes(2, 2).build().facts();
    let json = serde_json::to_string(&facts).unwrap();
    assert!(json.starts_with(r#"{"facts_version":1,"#), "{json}");
    assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
}

#[test]
fn an_empty_tree_is_all_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let facts = Facts::gather(&Tree::at(folder.path()).unwrap());
    assert_eq!(facts.processors.each, []);
    assert!(facts.nodes.known().is_none() && facts.nics.known().is_none());
    assert!(facts.io_uring.known().is_none() && facts.irqbalance.known().is_none());
    assert!(facts.sysctls.values().all(|value| value.known().is_none()));
}

/// Every file in turn is emptied, cut, filled with nonsense, or a directory in its place: no fact
/// may panic.
#[test]
fn no_single_file_brings_it_down() {
    let spec = Spec::nodes(2, 1);
    let machine = spec.build();
    let nonsense: [&[u8]; 7] = [
        b"",
        b"\n\n\n",
        b"-1\n",
        b"18446744073709551616\n",
        b"0-4294967295,ffffffff\n",
        b"\xff\xfe\x00[: ]\n",
        b"a:b:c:d\n: :\n[\n",
    ];
    for (path, sound) in machine.contents() {
        let half = &sound[..sound.len() / 2];
        for unsound in nonsense.iter().copied().chain([half]) {
            fs::write(&path, unsound).unwrap();
            machine.facts();
        }
        fs::remove_file(&path).unwrap();
        machine.facts();
        fs::create_dir(&path).unwrap();
        machine.facts();
        fs::remove_dir(&path).unwrap();
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn this_machine_is_read() {
    let facts = Facts::gather(&Tree::live());
    assert!(!facts.processors.usable().is_empty());
    assert!(facts.system.kernel_version.known().is_some());
    assert!(
        facts
            .known_nics()
            .iter()
            .any(|nic| nic.kind == DeviceKind::Loopback)
    );
}
