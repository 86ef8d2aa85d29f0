//! What the doctor finds, and how it says so.

use crate::fixture::{Machine, NicSpec, Spec};
use expect_test::{expect, expect_file};
use ringway_host::checks::Verdict;
use ringway_host::facts::{Fact, Facts};
use ringway_host::intent::{Goal, Intent, Link, Role};
use ringway_host::machine::Tree;
use ringway_host::probes::{Device, IoUring, Irqbalance, KeyState, NodeTrial, PROBES_FILE};
use ringway_host::report::{Report, Standing, Style, examine};

fn doctor(machine: &Machine, intent: &Intent) -> Report {
    examine(machine.facts(), intent.clone())
}

fn verdict<'a>(report: &'a Report, id: &str) -> &'a Verdict {
    let finding = report.findings.iter().find(|finding| finding.id == id);
    &finding.expect(id).verdict
}

/// The checks that found something bad, in the order of the table.
fn bad(report: &Report) -> Vec<&'static str> {
    let bad = report
        .findings
        .iter()
        .filter(|finding| finding.badness().is_some());
    bad.map(|finding| finding.id).collect()
}

/// A machine with nothing to complain of.
fn sound() -> Machine {
    let machine = Spec::nodes(1, 2).build();
    for (irq, cpu) in [(41, "0"), (42, "1")] {
        machine.put(&format!("proc/irq/{irq}/smp_affinity_list"), cpu);
        machine.put(&format!("proc/irq/{irq}/effective_affinity_list"), cpu);
    }
    machine.put("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000001");
    machine.put("sys/class/net/eth0/queues/tx-1/xps_cpus", "00000002");
    machine.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456");
    machine
}

#[test]
fn a_sound_machine_is_fine() {
    let report = doctor(&sound(), &Intent::default());
    assert_eq!(bad(&report), [] as [&str; 0]);
    assert_eq!(report.exit_code(), 0);
    expect![[r#"
        fine: nothing stands in the way
        Linux 6.12.1, 2 CPUs in 1 node, eth0 (ice, 2 queues)
        Placement: 2 workers on CPU 0-1, 2 queues of eth0

        Tiers of the machine (with --server: of the server that runs, too)
          entry     reached
          advanced  reached
          expert    reached

        63 checks: 46 good, 4 worth knowing, 5 not visible here, 8 wait for your word
        --details shows all of them, the decision tree and the checklist
    "#]]
    .assert_eq(&report.text(Style::default()));
}

#[test]
fn warnings_come_with_reason_remedy_and_undo() {
    let machine = Spec::nodes(2, 2).build();
    let report = doctor(&machine, &Intent::default());
    assert_eq!(report.exit_code(), 1);
    expect![[r#"
        works, with 1 warning
        Linux 6.12.1, 4 CPUs in 2 nodes, eth0 (ice, 2 queues)
        Placement: 2 workers on CPU 0-1, 2 queues of eth0

        warning  irq.affinity: 1 of 2 elsewhere
          why     a packet is in the cache of the CPU that took its interrupt
          good    each queue's interrupt on the CPU of the worker that it feeds
          remedy  ringway tune
          undo    tune --revert

        advice  numa.balancing: 1
          why     it takes page faults to learn what pinning already decides
          good    0 when several nodes and pinned workers
          remedy  ringway tune
          undo    tune --revert

        advice  xps.map: masks that differ: 2 of 2
          why     CPUs that share a queue wait for its lock
          good    each CPU sends by one queue, its own
          remedy  ringway tune
          undo    tune --revert

        Tiers of the machine (with --server: of the server that runs, too)
          entry     reached
          advanced  reached
          expert    missing: numa.balancing, irq.affinity, xps.map

        63 checks: 43 good, 4 worth knowing, 5 not visible here, 8 wait for your word
        --details shows all of them, the decision tree and the checklist
    "#]]
    .assert_eq(&report.text(Style::default()));
}

#[test]
fn details_tell_everything() {
    let intent = Intent {
        role: Some(Role::Proxy),
        link: Some(Link::Wan),
        goal: Some(Goal::Throughput),
        rate: Some(200_000),
        connections: Some(10_000),
        ..Intent::default()
    };
    let style = Style {
        has_details: true,
        ..Style::default()
    };
    let text = doctor(&sound(), &intent).text(style);
    expect_file!["doctor-details.txt"].assert_eq(&text);
}

#[test]
fn what_is_broken_is_found() {
    let check = |id: &str, break_it: &dyn Fn(&Machine)| {
        let machine = sound();
        break_it(&machine);
        let report = doctor(&machine, &Intent::default());
        assert_eq!(bad(&report), [id]);
    };
    let sysctl = |name: &str| format!("proc/sys/net/{name}");
    check("kernel.version", &|machine| {
        machine.put("proc/sys/kernel/osrelease", "5.15.0")
    });
    check("cpu.quota", &|machine| {
        let path = "sys/fs/cgroup/system.slice/ringway.service/cpu.max";
        machine.put(path, "50000 100000");
        // One worker is placed then, and half a processor is too little even for it.
        machine.put("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000003");
        machine.put("sys/class/net/eth0/queues/tx-1/xps_cpus", "00000000");
        machine.change_probes(|probes| {
            let device = probes.devices.get_mut("eth0").unwrap();
            device.rss = Fact::Unknown("not told".to_owned());
            device.channels = Fact::Unknown("not told".to_owned());
        });
        machine.remove("sys/class/net/eth0/queues/rx-1");
        machine.remove("sys/class/net/eth0/queues/tx-1");
    });
    check("cpu.clocksource", &|machine| {
        let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        machine.put(path, "hpet");
    });
    check("lim.conntrack", &|machine| {
        machine.put(&sysctl("netfilter/nf_conntrack_count"), "900");
        machine.put(&sysctl("netfilter/nf_conntrack_max"), "1000");
    });
    check("nic.drops", &|machine| {
        machine.put("sys/class/net/eth0/statistics/rx_errors", "3");
    });
    check("nic.rss_key", &|machine| {
        machine.change_probes(|probes| {
            let device = probes.devices.get_mut("eth0").unwrap();
            device.rss = device.rss.clone().map(|mut rss| {
                rss.key = KeyState::Published;
                rss
            });
        });
    });
    check("nic.rss_table", &|machine| {
        machine.change_probes(|probes| {
            let device = probes.devices.get_mut("eth0").unwrap();
            device.rss = device.rss.clone().map(|mut rss| {
                rss.table.fill(1);
                rss
            });
        });
    });
    check("nic.offload", &|machine| {
        machine.change_probes(|probes| {
            let device = probes.devices.get_mut("eth0").unwrap();
            device.features = device.features.clone().map(|mut features| {
                features.insert("rx-gro".to_owned(), false);
                features
            });
        });
    });
    check("irq.affinity", &|machine| {
        machine.put("proc/irq/42/smp_affinity_list", "0");
        machine.put("proc/irq/42/effective_affinity_list", "0");
    });
    check("irq.balance", &|machine| {
        machine.change_probes(|probes| {
            probes.irqbalance = Fact::Known(Some(Irqbalance {
                period_seconds: Fact::Known(10),
                banned: Fact::Known(vec![41]),
            }));
        });
    });
    check("softirq.backlog", &|machine| {
        machine.put("proc/net/softnet_stat", "ff 2 0 0 0 0 0 0 0 0 0 0 0 0 0");
    });
    check("rps.redundant", &|machine| {
        machine.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000003");
    });
    check("rfs.complete", &|machine| {
        machine.put("sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "4096");
    });
    check("xps.map", &|machine| {
        machine.put("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000003");
    });
    check("tcp.rmem", &|machine| {
        machine.put(&sysctl("ipv4/tcp_rmem"), "4096 87380 16777216")
    });
    check("tcp.autotune", &|machine| {
        machine.put(&sysctl("ipv4/tcp_moderate_rcvbuf"), "0")
    });
    check("tcp.backlog", &|machine| {
        machine.put(&sysctl("core/somaxconn"), "128")
    });
    check("tcp.syncookies", &|machine| {
        machine.put(&sysctl("ipv4/tcp_syncookies"), "0")
    });
    check("tcp.mem", &|machine| {
        machine.put(
            "proc/net/sockstat",
            "TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 300000",
        );
    });
    check("tcp.tw_buckets", &|machine| {
        machine.put("proc/net/netstat", "TcpExt: TCPTimeWaitOverflow\nTcpExt: 9");
    });
    check("kernel.io_uring", &|machine| {
        machine.change_probes(|probes| {
            probes.io_uring = Fact::Known(IoUring {
                works: false,
                reason: "io_uring_setup: EPERM".to_owned(),
            });
        });
    });
    check("poll.busy", &|machine| {
        machine.put(&sysctl("core/busy_poll"), "50")
    });
}

/// What breaks more than one thing.
#[test]
fn what_is_broken_is_found_among_others() {
    let check = |id: &str, break_it: &dyn Fn(&Machine)| {
        let machine = sound();
        assert!(!bad(&doctor(&machine, &Intent::default())).contains(&id));
        break_it(&machine);
        let bad = bad(&doctor(&machine, &Intent::default()));
        assert!(bad.contains(&id), "{id}: {bad:?}");
    };
    let device = |machine: &Machine, change: &dyn Fn(&mut Device)| {
        machine.change_probes(|probes| change(probes.devices.get_mut("eth0").unwrap()));
    };
    check("cpu.allowed", &|machine| {
        let status = "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t9";
        machine.put("proc/self/status", status);
    });
    check("lim.memlock", &|machine| {
        machine.put("proc/sys/kernel/osrelease", "5.11.0");
    });
    check("cpu.isolated", &|machine| {
        machine.put("sys/devices/system/cpu/isolated", "1");
    });
    check("irq.map", &|machine| {
        let interrupts = machine.get("proc/interrupts").replace("-TxRx-1", "-fast");
        machine.put("proc/interrupts", &interrupts);
    });
    check("nic.channels", &|machine| {
        device(machine, &|device| {
            device.channels = device.channels.clone().map(|mut channels| {
                channels.combined.now = 1;
                channels
            });
        });
    });
    check("nic.rings", &|machine| {
        machine.put("sys/class/net/eth0/statistics/rx_missed_errors", "5");
    });
}

/// A container's filter lets the process hold the right, and refuses the call.
#[test]
fn memory_that_may_not_be_placed_is_found_by_trying() {
    let one = Verdict::Good("one node: nothing to bind".to_owned());
    let two = Verdict::Bad("node 1: mbind: EPERM".to_owned());
    for (nodes, expect) in [(1, one), (2, two)] {
        let machine = Spec::nodes(nodes, 2).build();
        machine.change_probes(|probes| {
            let refusal = Some("mbind: EPERM".to_owned());
            probes.memory = Fact::Known(vec![NodeTrial { node: 1, refusal }]);
        });
        let report = doctor(&machine, &Intent::default());
        assert_eq!(*verdict(&report, "numa.policy"), expect);
    }
}

/// What nobody tried isn't wrong: captures of before say nothing of it.
#[test]
fn memory_that_was_not_tried_is_not_called_wrong() {
    let machine = Spec::nodes(2, 2).build();
    let probes = machine.get(PROBES_FILE);
    let mut probes: serde_json::Value = serde_json::from_str(&probes).unwrap();
    probes.as_object_mut().unwrap().remove("memory").unwrap();
    machine.put(PROBES_FILE, &probes.to_string());
    let report = doctor(&machine, &Intent::default());
    let unseen = Verdict::NotVisible("not tried".to_owned());
    assert_eq!(*verdict(&report, "numa.policy"), unseen);
}

#[test]
fn a_limit_that_is_too_low_is_a_failure() {
    let intent = |connections| Intent {
        connections: Some(connections),
        ..Intent::default()
    };
    // 524,288 descriptors: two for each of 261,632, and 1,024 more.
    let report = doctor(&sound(), &intent(261_632));
    assert_eq!(report.exit_code(), 0, "{:?}", bad(&report));
    let report = doctor(&sound(), &intent(261_633));
    assert_eq!((report.exit_code(), bad(&report)), (2, vec!["lim.nofile"]));
}

#[test]
fn advice_waits_for_the_word_that_it_depends_on() {
    let report = doctor(&sound(), &Intent::default());
    for id in ["lim.nofile", "tcp.slow_start_idle", "tcp.ports"] {
        assert!(matches!(verdict(&report, id), Verdict::NotAsked(_)), "{id}");
    }
    let intent = Intent {
        role: Some(Role::Proxy),
        link: Some(Link::Wan),
        ..Intent::default()
    };
    let report = doctor(&sound(), &intent);
    let expect = ["tcp.rmem", "tcp.wmem", "tcp.slow_start_idle", "tcp.ports"];
    assert_eq!(bad(&report), expect);
}

#[test]
fn what_a_namespace_hides_is_never_called_wrong() {
    let mut spec = Spec::nodes(1, 2);
    spec.nic = None;
    spec.first_namespace = false;
    let machine = spec.build();
    let report = doctor(&machine, &Intent::default());
    assert_eq!(bad(&report), [] as [&str; 0]);
    let hidden = [
        "nic.identity",
        "nic.channels",
        "irq.affinity",
        "rfs.complete",
        "tcp.mem",
        "poll.busy",
    ];
    for id in hidden {
        assert!(
            matches!(verdict(&report, id), Verdict::NotVisible(_)),
            "{id}"
        );
    }
    assert_eq!(report.exit_code(), 0);
}

/// Every file in turn is taken away: nothing becomes wrong by not being seen.
#[test]
fn nothing_is_wrong_because_it_is_missing() {
    let machine = sound();
    for (path, content) in machine.contents() {
        std::fs::remove_file(&path).unwrap();
        let report = doctor(&machine, &Intent::default());
        let name = path
            .strip_prefix(machine.root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        // An interrupt or a queue that is gone is a fact, not a missing one.
        let is_fact = name.contains("msi_irqs") || name.contains("netdev_max_backlog");
        assert!(
            is_fact || bad(&report).is_empty(),
            "{name}: {:?}",
            bad(&report)
        );
        std::fs::write(&path, content).unwrap();
    }
}

#[test]
fn an_empty_tree_can_not_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let facts = Facts::gather(&Tree::at(folder.path()).unwrap());
    let report = examine(facts, Intent::default());
    assert_eq!((bad(&report), report.exit_code()), (vec![], 3));
}

#[test]
fn lines_that_would_lower_are_advised_against() {
    let machine = sound();
    machine.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432");
    let report = doctor(&machine, &Intent::default());
    let standing = |start: &str| {
        let item = report
            .script
            .iter()
            .find(|item| item.item.starts_with(start));
        item.map(|item| item.standing)
    };
    assert_eq!(standing("net.ipv4.tcp_rmem"), Some(Standing::Harmful));
    assert_eq!(
        standing("net.ipv4.tcp_max_syn_backlog"),
        Some(Standing::NotWorthIt)
    );
    machine.put("proc/sys/net/ipv4/tcp_max_tw_buckets", "2000000");
    let report = doctor(&machine, &Intent::default());
    let buckets = report
        .script
        .iter()
        .find(|item| item.item.contains("tw_buckets"))
        .unwrap();
    assert_eq!(buckets.standing, Standing::Harmful);
}

#[test]
fn colours_come_only_when_asked_and_files_can_not_bring_their_own() {
    let machine = sound();
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    machine.put(path, "hpet\u{1b}[2J\u{7}");
    machine.put("sys/kernel/mm/transparent_hugepage/enabled", "[\u{1b}]0;x]");
    machine.put("proc/sys/net/core/somaxconn", "128");
    let report = doctor(&machine, &Intent::default());
    let details = |has_colors| {
        report.text(Style {
            has_colors,
            has_details: true,
        })
    };
    assert!(!details(false).contains('\u{1b}'));
    let colored = details(true);
    assert!(colored.contains("\u{1b}[33m"));
    assert!(
        !colored.contains("\u{1b}[2J")
            && !colored.contains("\u{1b}]0")
            && !colored.contains('\u{7}')
    );
}

#[test]
fn json_has_everything() {
    let json: serde_json::Value =
        serde_json::from_str(&doctor(&sound(), &Intent::default()).json()).unwrap();
    assert_eq!(json["report_version"], 1);
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["findings"][0]["id"], "kernel.version");
    assert_eq!(json["findings"][0]["verdict"], "good");
    assert_eq!(json["findings"][0]["found"], "6.12.1");
    assert_eq!(json["facts"]["facts_version"], 1);
    assert_eq!(json["plan"]["placement"]["workers"][1]["cpu"], 1);
}

#[test]
fn a_bond_is_not_taken_for_a_device() {
    let mut spec = Spec::nodes(1, 2);
    spec.nic = Some(NicSpec {
        name: "eth0",
        node: 0,
        queues: (2, 2),
        virtio: true,
    });
    let machine = spec.build();
    for (file, value) in [
        ("mtu", "1500"),
        ("operstate", "up"),
        ("bonding/mode", "802.3ad 4"),
    ] {
        machine.put(&format!("sys/class/net/bond0/{file}"), value);
    }
    machine.put("sys/class/net/bond0/statistics/rx_packets", "99999");
    let facts = machine.facts();
    assert_eq!(facts.nic(None).unwrap().name, "eth0");
    assert_eq!(facts.nic(Some("bond0")).unwrap().name, "bond0");
}
