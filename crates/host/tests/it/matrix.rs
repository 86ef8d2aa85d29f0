//! Every shape of machine: what the doctor says of it, and what tune would do there. All of it is in
//! one file, to be read by people when it changes.

use crate::fixture::{Machine, NicSpec, NodeSpec, Spec, nic};
use expect_test::expect_file;
use ringway_host::facts::Fact;
use ringway_host::intent::Intent;
use ringway_host::probes::{Channels, Setting};
use ringway_host::report::{Style, examine};
use std::fmt::Write as _;

/// Actions beyond these say nothing new of a machine.
const SHOWN_ACTIONS: usize = 12;

fn with(change: impl FnOnce(&mut Spec)) -> Machine {
    let mut spec = Spec::nodes(1, 4);
    change(&mut spec);
    spec.build()
}

/// A device without hardware, beside the one of the machine.
fn virtual_device(machine: &Machine, name: &str) {
    for (file, value) in [("mtu", "1500"), ("operstate", "up"), ("ifindex", "7")] {
        machine.put(&format!("sys/class/net/{name}/{file}"), value);
    }
    for queue in ["rx-0/rps_cpus", "tx-0/xps_cpus"] {
        machine.put(&format!("sys/class/net/{name}/queues/{queue}"), "0");
    }
}

fn channels(machine: &Machine, channels: Channels) {
    machine.change_probes(|probes| {
        probes.devices.get_mut("eth0").unwrap().channels = Fact::Known(channels);
    });
}

/// A shape with its name, and the device that is asked about where that is another than the usual.
type Shape = (&'static str, Machine, Option<&'static str>);

fn nodes() -> Vec<Shape> {
    let node = |id, cores, memory_mib| NodeSpec {
        id,
        cores,
        memory_mib,
    };
    let one = Spec::nodes(1, 4).build();
    let four = Spec::nodes(4, 2).build();
    let eight = Spec::nodes(8, 1).build();
    let second = with(|spec| {
        *spec = Spec::nodes(2, 2);
        spec.nic = nic(1, 2, 2);
    });
    let odd = with(|spec| {
        spec.nodes = vec![node(0, 2, 0), node(8, 0, 4096), node(9, 2, 1024)];
        spec.nic = nic(8, 2, 2);
    });
    let unknown = with(|spec| {
        *spec = Spec::nodes(2, 2);
        spec.nic = nic(-1, 4, 4);
    });
    vec![
        ("one node", one, None),
        ("two nodes, the device on the second", second, None),
        ("four nodes", four, None),
        ("eight nodes", eight, None),
        (
            "nodes 0, 8 and 9: without memory, without processors",
            odd,
            None,
        ),
        ("two nodes, the device on none", unknown, None),
    ]
}

fn processors() -> Vec<Shape> {
    let offline = Spec::nodes(1, 4).build();
    offline.put("sys/devices/system/cpu/online", "0-2");
    let hybrid = Spec::nodes(1, 4).build();
    for (cpu, capacity) in [(0, 400), (1, 400), (2, 1024), (3, 1024)] {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
        hybrid.put(&path, &capacity.to_string());
    }
    let isolated = Spec::nodes(1, 4).build();
    isolated.put("sys/devices/system/cpu/isolated", "0");
    vec![
        ("two threads a core", with(|spec| spec.threads = 2), None),
        ("a processor offline", offline, None),
        ("fast and slow cores", hybrid, None),
        ("processor 0 isolated, and interrupts on it", isolated, None),
        ("72 processors", Spec::nodes(1, 72).build(), None),
        (
            "1,280 processors on 8 nodes",
            with(|spec| {
                *spec = Spec::nodes(8, 80);
                spec.threads = 2;
                spec.nic = nic(3, 64, 128);
            }),
            None,
        ),
        (
            "fewer processors allowed than online",
            with(|spec| spec.affinity = Some("1-2".to_owned())),
            None,
        ),
        (
            "a quota of 1.5 processors",
            with(|spec| spec.quota_percent = Some(150)),
            None,
        ),
    ]
}

fn queues() -> Vec<Shape> {
    let setting = |now, most| Setting { now, most };
    let apart = Spec::nodes(1, 4).build();
    channels(
        &apart,
        Channels {
            rx: setting(4, 8),
            tx: setting(4, 8),
            ..Channels::default()
        },
    );
    // mlx5 from 5.3 to 6.0 shows twice as many as it uses.
    let doubled = Spec::nodes(1, 4).build();
    channels(
        &doubled,
        Channels {
            combined: setting(2, 4),
            ..Channels::default()
        },
    );
    let virtio = with(|spec| {
        spec.nic = Some(NicSpec {
            name: "eth0",
            node: 0,
            queues: (4, 4),
            virtio: true,
        });
    });
    let nameless = Spec::nodes(1, 4).build();
    let interrupts = nameless.get("proc/interrupts").replace("eth0-TxRx", "fast");
    nameless.put("proc/interrupts", &interrupts);
    vec![
        ("no device", with(|spec| spec.nic = None), None),
        ("no queues", with(|spec| spec.nic = nic(0, 0, 0)), None),
        ("one queue", with(|spec| spec.nic = nic(0, 1, 1)), None),
        (
            "two queues of eight",
            with(|spec| spec.nic = nic(0, 2, 8)),
            None,
        ),
        ("128 queues", with(|spec| spec.nic = nic(0, 128, 128)), None),
        ("receiving and sending queues apart", apart, None),
        ("queues that are shown and not used", doubled, None),
        ("virtio", virtio, None),
        ("interrupts without queue numbers", nameless, None),
    ]
}

fn devices() -> Vec<Shape> {
    let beside = |name: &str, more: &[(&str, &str)]| {
        let machine = Spec::nodes(1, 4).build();
        virtual_device(&machine, name);
        for (path, text) in more {
            machine.put(path, text);
        }
        machine
    };
    vec![
        (
            "a bond",
            beside(
                "bond0",
                &[
                    ("sys/class/net/bond0/bonding/mode", "802.3ad 4"),
                    ("sys/class/net/bond0/lower_eth0/mtu", "1500"),
                ],
            ),
            Some("bond0"),
        ),
        (
            "a VLAN",
            beside("eth0.7", &[("proc/net/vlan/eth0.7", "eth0.7  VID: 7")]),
            Some("eth0.7"),
        ),
        ("a veth", beside("veth0", &[]), Some("veth0")),
        (
            "wireless",
            beside("wlan0", &[("sys/class/net/wlan0/wireless/status", "0")]),
            Some("wlan0"),
        ),
    ]
}

fn visibility() -> Vec<Shape> {
    let unreadable = Spec::nodes(2, 2).build();
    for path in [
        "sys/devices/pci0000:00/0000:00:03.0/numa_node",
        "proc/irq/41/smp_affinity_list",
        "proc/sys/net/core/somaxconn",
    ] {
        unreadable.remove(path);
        unreadable.put(&format!("{path}/in/place/of/it"), "");
    }
    let absurd = Spec::nodes(1, 4).build();
    absurd.put("proc/sys/net/core/somaxconn", "99999999999999999999999");
    absurd.put("proc/sys/net/ipv4/tcp_rmem", "1");
    absurd.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "what?");
    let recent = with(|spec| spec.kernel = "6.18.0");
    recent.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432");
    vec![
        (
            "a network namespace",
            with(|spec| {
                spec.nic = None;
                spec.first_namespace = false;
            }),
            None,
        ),
        ("folders in the place of files", unreadable, None),
        ("absurd values", absurd, None),
        ("Linux 6.1", with(|spec| spec.kernel = "6.1.90"), None),
        ("Linux 6.18", recent, None),
    ]
}

#[test]
fn every_shape_of_machine_is_told_as_it_was() {
    let shapes = [nodes(), processors(), queues(), devices(), visibility()];
    let mut text = String::new();
    for (name, machine, nic) in shapes.into_iter().flatten() {
        let intent = Intent {
            nic: nic.map(str::to_owned),
            ..Intent::default()
        };
        let report = examine(machine.facts(), intent);
        let _ = writeln!(text, "==== {name}\n\n{}", report.text(Style::default()));
        let plan = &report.plan;
        let cut = |text: &str| text.chars().take(32).collect::<String>();
        for action in plan.actions.iter().take(SHOWN_ACTIONS) {
            let (target, now, new) = (&action.target, cut(&action.now), cut(&action.new));
            let _ = writeln!(text, "{}: {target}: {now} -> {new}", action.check);
        }
        let rest = plan.actions.len().saturating_sub(SHOWN_ACTIONS);
        let _ = writeln!(text, "and {rest} more changes");
        for note in &plan.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text.push('\n');
    }
    expect_file!["matrix.txt"].assert_eq(&text);
}
