//! Trees that look like machines, made from a few numbers.
//!
//! Processors are numbered as firmware usually does it: first one hyperthread of each core, node by
//! node, then the others in the same order.

use ringway_host::facts::{Fact, Facts};
use ringway_host::machine::Tree;
use ringway_host::probes::{
    Channels, Coalescing, Device, IoUring, KeyState, NodeTrial, PROBES_FILE, Probes, Rings, Rss,
    Setting,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The nodes, by number; numbers may have gaps.
    pub(crate) nodes: Vec<NodeSpec>,
    /// Hyperthreads of each core.
    pub(crate) threads: u32,
    /// The network device.
    pub(crate) nic: Option<NicSpec>,
    /// The release.
    pub(crate) kernel: &'static str,
    /// Processors' time that the control group leaves, in percent of one.
    pub(crate) quota_percent: Option<u32>,
    /// The processors that the process may run on, where not all.
    pub(crate) affinity: Option<String>,
    /// Whether the parameters of the whole machine are there.
    pub(crate) first_namespace: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) id: u32,
    pub(crate) cores: u32,
    pub(crate) memory_mib: u64,
}

/// A network device.
#[derive(Clone, Debug)]
pub(crate) struct NicSpec {
    pub(crate) name: &'static str,
    pub(crate) node: i64,
    /// Queue pairs: now, and at most.
    pub(crate) queues: (u32, u32),
    /// virtio has its own device below the PCI one, and an interrupt for each side.
    pub(crate) virtio: bool,
}

/// `eth0` on a node, with so many queue pairs now and at most.
pub(crate) fn nic(node: i64, now: u32, most: u32) -> Option<NicSpec> {
    Some(NicSpec {
        name: "eth0",
        node,
        queues: (now, most),
        virtio: false,
    })
}

impl Spec {
    /// `count` nodes from 0 with `cores` cores each.
    pub(crate) fn nodes(count: u32, cores: u32) -> Spec {
        let node = |id| NodeSpec {
            id,
            cores,
            memory_mib: 4096,
        };
        Spec {
            nodes: (0..count).map(node).collect(),
            threads: 1,
            nic: Some(NicSpec {
                name: "eth0",
                node: 0,
                queues: (cores, cores),
                virtio: false,
            }),
            kernel: "6.12.1",
            quota_percent: None,
            affinity: None,
            first_namespace: true,
        }
    }

    pub(crate) fn cores(&self) -> u32 {
        self.nodes.iter().map(|node| node.cores).sum()
    }

    /// The processors of a node: each core's first thread, then each second.
    pub(crate) fn cpus_of(&self, id: u32) -> Vec<u32> {
        let before: u32 = self
            .nodes
            .iter()
            .take_while(|node| node.id != id)
            .map(|n| n.cores)
            .sum();
        let node = self.nodes.iter().find(|node| node.id == id).unwrap();
        let thread = |thread: u32| {
            (before..before + node.cores).map(move |core| core + thread * self.cores())
        };
        (0..self.threads).flat_map(thread).collect()
    }

    pub(crate) fn build(&self) -> Machine {
        let machine = Machine {
            folder: tempfile::tempdir().unwrap(),
        };
        self.processors(&machine);
        self.node_files(&machine);
        self.process(&machine);
        self.parameters(&machine);
        let mut probes = Probes::unknown("a fixture");
        probes.io_uring = Fact::Known(IoUring {
            works: true,
            reason: "the self-test passed".to_owned(),
        });
        probes.irqbalance = Fact::Known(None);
        let with_memory = self.nodes.iter().filter(|node| node.memory_mib > 0);
        let trial = |node: &NodeSpec| NodeTrial {
            node: node.id,
            refusal: None,
        };
        probes.memory = Fact::Known(with_memory.map(trial).collect());
        if let Some(nic) = &self.nic {
            nic_files(&machine, nic, self.cores() * self.threads);
            probes.devices.insert(nic.name.to_owned(), nic_probe(nic));
        }
        machine.put(PROBES_FILE, &serde_json::to_string_pretty(&probes).unwrap());
        machine
    }

    fn processors(&self, machine: &Machine) {
        let cores = self.cores();
        let cpu = "sys/devices/system/cpu";
        let all = format!("0-{}", cores * self.threads - 1);
        for name in ["online", "present", "possible"] {
            machine.put(&format!("{cpu}/{name}"), &all);
        }
        machine.put(&format!("{cpu}/isolated"), "");
        for node in &self.nodes {
            let shared = list(&self.cpus_of(node.id));
            for id in self.cpus_of(node.id) {
                let siblings: Vec<u32> =
                    (0..self.threads).map(|t| id % cores + t * cores).collect();
                let file = |name: &str| format!("{cpu}/cpu{id}/{name}");
                machine.put(&file("topology/core_cpus_list"), &list(&siblings));
                machine.put(&file("topology/physical_package_id"), &node.id.to_string());
                for (index, level, shared) in [(0, 1, list(&siblings)), (1, 3, shared.clone())] {
                    machine.put(
                        &file(&format!("cache/index{index}/level")),
                        &level.to_string(),
                    );
                    machine.put(
                        &file(&format!("cache/index{index}/shared_cpu_list")),
                        &shared,
                    );
                }
            }
        }
        machine.put(
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc",
        );
    }

    fn node_files(&self, machine: &Machine) {
        let ids: Vec<u32> = self.nodes.iter().map(|node| node.id).collect();
        machine.put("sys/devices/system/node/online", &list(&ids));
        for node in &self.nodes {
            let file = |name: &str| format!("sys/devices/system/node/node{}/{name}", node.id);
            machine.put(&file("cpulist"), &list(&self.cpus_of(node.id)));
            let kib = node.memory_mib * 1024;
            machine.put(
                &file("meminfo"),
                &format!("Node {} MemTotal:       {kib} kB", node.id),
            );
            let distance = |other: &u32| if *other == node.id { "10" } else { "21" };
            let row: Vec<&str> = ids.iter().map(distance).collect();
            machine.put(&file("distance"), &row.join(" "));
        }
    }

    fn process(&self, machine: &Machine) {
        let all = format!("0-{}", self.cores() * self.threads - 1);
        let affinity = self.affinity.as_deref().unwrap_or(&all);
        machine.put(
            "proc/self/status",
            &format!("Name:\tringway\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t{affinity}"),
        );
        machine.put("proc/self/cgroup", "0::/system.slice/ringway.service");
        let group = "sys/fs/cgroup/system.slice/ringway.service";
        let quota = match self.quota_percent {
            Some(percent) => format!("{} 100000", percent * 1000),
            None => "max 100000".to_owned(),
        };
        machine.put(&format!("{group}/cpu.max"), &quota);
        machine.put(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            1024                 524288               files\n\
             Max locked memory         8388608              8388608              bytes",
        );
        machine.put("proc/1/comm", "systemd");
        machine.put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2");
        machine.put("proc/meminfo", "MemTotal:       16000000 kB");
    }

    fn parameters(&self, machine: &Machine) {
        machine.put("proc/sys/kernel/osrelease", self.kernel);
        machine.put(
            "proc/sys/kernel/random/boot_id",
            "5f0c2f6e-0000-4000-8000-000000000001",
        );
        machine.put("proc/sys/kernel/numa_balancing", "1");
        machine.put("proc/sys/kernel/io_uring_disabled", "0");
        machine.put("proc/sys/fs/nr_open", "1048576");
        machine.put(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never",
        );
        if self.first_namespace {
            for (name, value) in [
                ("netdev_max_backlog", "1000"),
                ("rps_sock_flow_entries", "0"),
                ("default_qdisc", "fq_codel"),
                ("busy_poll", "0"),
                ("busy_read", "0"),
            ] {
                machine.put(&format!("proc/sys/net/core/{name}"), value);
            }
            machine.put("proc/sys/net/ipv4/tcp_mem", "190140\t253522\t380280");
        }
        for (name, value) in [
            ("somaxconn", "4096"),
            ("rmem_max", "212992"),
            ("wmem_max", "212992"),
        ] {
            machine.put(&format!("proc/sys/net/core/{name}"), value);
        }
        for (name, value) in [
            ("ip_forward", "0"),
            ("ip_local_port_range", "32768\t60999"),
            ("ip_local_reserved_ports", ""),
            ("tcp_available_congestion_control", "reno cubic"),
            ("tcp_congestion_control", "cubic"),
            ("tcp_fastopen", "1"),
            ("tcp_fin_timeout", "60"),
            ("tcp_keepalive_time", "7200"),
            ("tcp_max_syn_backlog", "1024"),
            ("tcp_max_tw_buckets", "65536"),
            ("tcp_moderate_rcvbuf", "1"),
            ("tcp_rmem", "4096\t131072\t6291456"),
            ("tcp_slow_start_after_idle", "1"),
            ("tcp_syncookies", "1"),
            ("tcp_tw_reuse", "2"),
            ("tcp_wmem", "4096\t16384\t4194304"),
        ] {
            machine.put(&format!("proc/sys/net/ipv4/{name}"), value);
        }
        machine.put(
            "proc/net/netstat",
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeWaitOverflow\n\
             TcpExt: 0 0 0 0",
        );
        machine.put(
            "proc/net/sockstat",
            "sockets: used 17\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 2",
        );
        let line =
            |cpu: u32| format!("000000ff 00000000 00000000 0 0 0 0 0 0 0 0 0 {cpu:08x} 0 0\n");
        let softnet: String = (0..self.cores() * self.threads).map(line).collect();
        machine.put("proc/net/softnet_stat", softnet.trim_end());
    }
}

fn nic_files(machine: &Machine, nic: &NicSpec, cpus: u32) {
    let bus = "sys/devices/pci0000:00/0000:00:03.0";
    let device = if nic.virtio {
        format!("{bus}/virtio0")
    } else {
        bus.to_owned()
    };
    fs::create_dir_all(machine.path(&device)).unwrap();
    machine.put(&format!("{bus}/numa_node"), &nic.node.to_string());
    let class = format!("sys/class/net/{}", nic.name);
    for (name, value) in [
        ("mtu", "1500"),
        ("operstate", "up"),
        ("speed", "10000"),
        ("ifindex", "2"),
    ] {
        machine.put(&format!("{class}/{name}"), value);
    }
    machine.put(&format!("{class}/statistics/rx_packets"), "1000");
    machine.put(&format!("{class}/statistics/rx_missed_errors"), "0");
    let link = machine.path(&format!("{class}/device"));
    std::os::unix::fs::symlink(format!("../../../../{device}"), link).unwrap();
    let zeros = vec!["00000000"; cpus.div_ceil(32) as usize].join(",");
    let mut interrupts: String = (0..cpus).map(|cpu| format!("       CPU{cpu}")).collect();
    interrupts.push('\n');
    let mut number = 40;
    let mut interrupt = |name: &str, cpu: u32| {
        machine.put(&format!("{bus}/msi_irqs/{number}"), "msix");
        machine.put(
            &format!("proc/irq/{number}/smp_affinity_list"),
            &format!("0-{}", cpus - 1),
        );
        machine.put(
            &format!("proc/irq/{number}/effective_affinity_list"),
            &cpu.to_string(),
        );
        let counts: String = (0..cpus)
            .map(|at| if at == cpu { " 7" } else { " 0" })
            .collect();
        interrupts.push_str(&format!(
            " {number}: {counts}  PCI-MSIX-0000:00:03.0 1-edge {name}\n"
        ));
        number += 1;
    };
    interrupt(
        if nic.virtio {
            "virtio0-config"
        } else {
            "eth0-mailbox"
        },
        0,
    );
    for queue in 0..nic.queues.0 {
        machine.put(&format!("{class}/queues/rx-{queue}/rps_cpus"), &zeros);
        machine.put(&format!("{class}/queues/rx-{queue}/rps_flow_cnt"), "0");
        machine.put(&format!("{class}/queues/tx-{queue}/xps_cpus"), &zeros);
        if nic.virtio {
            interrupt(&format!("virtio0-input.{queue}"), 0);
            interrupt(&format!("virtio0-output.{queue}"), 0);
        } else {
            interrupt(&format!("{}-TxRx-{queue}", nic.name), 0);
        }
    }
    machine.put("proc/interrupts", interrupts.trim_end());
}

fn nic_probe(nic: &NicSpec) -> Device {
    let setting = |now, most| Setting { now, most };
    Device {
        driver: Fact::Known(if nic.virtio { "virtio_net" } else { "ice" }.to_owned()),
        channels: Fact::Known(Channels {
            combined: setting(nic.queues.0, nic.queues.1),
            ..Channels::default()
        }),
        rings: Fact::Known(Rings {
            rx: setting(512, 4096),
            tx: setting(512, 4096),
        }),
        coalescing: Fact::Known(Coalescing {
            adaptive_rx: true,
            adaptive_tx: true,
            ..Coalescing::default()
        }),
        rss: Fact::Known(Rss {
            table: (0..128).map(|value| value % nic.queues.0.max(1)).collect(),
            key: KeyState::Unremarkable,
        }),
        features: Fact::Known(BTreeMap::from([
            ("rx-gro".to_owned(), true),
            ("tx-tcp-segmentation".to_owned(), true),
            ("tx-generic-segmentation".to_owned(), true),
            ("rx-checksum".to_owned(), true),
            ("rx-lro".to_owned(), false),
            ("rx-ntuple-filter".to_owned(), false),
        ])),
        qdiscs: Fact::Known(vec!["mq".to_owned(), "fq_codel".to_owned()]),
    }
}

/// Numbers with commas between them.
pub(crate) fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// A tree on disk.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.root().join(path)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path))
            .unwrap()
            .trim()
            .to_owned()
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::at(self.root()).unwrap()
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts::gather(&self.tree())
    }

    /// Changes what isn't a file.
    pub(crate) fn change_probes(&self, change: impl FnOnce(&mut Probes)) {
        let mut probes: Probes = serde_json::from_str(&self.get(PROBES_FILE)).unwrap();
        change(&mut probes);
        self.put(PROBES_FILE, &serde_json::to_string_pretty(&probes).unwrap());
    }

    /// Every file of the tree with its content.
    pub(crate) fn contents(&self) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut folders = vec![self.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    contents.insert(entry.path(), fs::read(entry.path()).unwrap());
                }
            }
        }
        contents
    }
}

/// The end of a process in the middle of its work.
#[derive(Default)]
pub(crate) struct Death {
    /// The write at which it dies, and whether after that.
    pub(crate) at: Option<(usize, bool)>,
    writes: Cell<usize>,
}

impl Death {
    /// Writes, and dies before or after when its time has come.
    pub(crate) fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        let count = self.writes.replace(self.writes.get() + 1);
        let die_if = |is_after| {
            if self.at == Some((count, is_after)) {
                std::panic::resume_unwind(Box::new("killed"));
            }
        };
        die_if(false);
        let written = write();
        die_if(true);
        written
    }
}

/// All that a machine has to do but writing, by the tree in its field `tree`.
macro_rules! reads_from_tree {
    () => {
        fn read(&self, path: &str) -> Result<String, String> {
            self.tree.read(path)
        }

        fn list(&self, path: &str) -> Result<Vec<String>, String> {
            self.tree.list(path)
        }

        fn resolve(&self, path: &str) -> Result<String, String> {
            self.tree.resolve(path)
        }

        fn link(&self, path: &str) -> Result<String, String> {
            self.tree.link(path)
        }

        fn probes(&self, devices: &[String]) -> Probes {
            self.tree.probes(devices)
        }

        fn current(&self, target: &ringway_host::machine::Target) -> Result<String, String> {
            self.tree.current(target)
        }
    };
}
pub(crate) use reads_from_tree;
