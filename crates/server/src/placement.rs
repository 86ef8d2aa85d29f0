//! Where this process's workers go: the planner of `ringway-host`, asked for a configuration.
//!
//! The same facts and the same rules as those of `ringway tune`, so that a worker is where the
//! interrupts of its queue go. The machine is looked at once: a configuration that is read again
//! gets the same answer.

use crate::config::Config;
use ringway_host::cpulist::CpuList;
use ringway_host::facts::Site;
use ringway_host::intent::Intent;
use ringway_host::machine::Tree;
use ringway_host::placement::{self, Placement};
use ringway_runtime::cpu;
use std::sync::OnceLock;

/// This machine, as it was when it was asked for first.
fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| Site::read(&Tree::live()))
}

/// The places of the workers that `config` asks for.
pub(crate) fn of_workers(config: &Config) -> Placement {
    place(&Intent {
        workers: Some(config.workers),
        cpus: config.worker_cpus.clone(),
        nic: config.nic.clone(),
        ..Intent::default()
    })
}

/// The places of the workers that are asked for. Where the machine can't be seen, they have the
/// CPUs that the process may use, one after the other.
pub(crate) fn place(intent: &Intent) -> Placement {
    placement::plan(site().ground(), intent).unwrap_or_else(|why| {
        let allowed = allowed();
        let asked = intent
            .cpus
            .as_ref()
            .map(|asked| asked.intersection(&allowed));
        let cpus = asked.filter(|cpus| !cpus.is_empty()).unwrap_or(allowed);
        let cpus: Vec<u32> = cpus.iter().collect();
        Placement::without_facts(&cpus, intent, &why)
    })
}

/// The CPUs that the process may use.
pub(crate) fn usable_cpus() -> CpuList {
    let usable = site().ground().processors.usable();
    match usable.is_empty() {
        true => allowed(),
        false => usable,
    }
}

fn allowed() -> CpuList {
    let allowed = cpu::allowed().unwrap_or_default();
    let cpus: CpuList = allowed
        .into_iter()
        .filter_map(|cpu| cpu.try_into().ok())
        .collect();
    // There is one that this runs on.
    match cpus.is_empty() {
        true => [0].into_iter().collect(),
        false => cpus,
    }
}

/// The network devices that there are.
pub(crate) fn device_names() -> Vec<&'static str> {
    let nics = site().ground().nics.iter();
    nics.map(|nic| nic.name.as_str()).collect()
}

/// The CPUs of a node that the process may use.
pub(crate) fn cpus_of_node(node: u32) -> Vec<usize> {
    let usable = usable_cpus();
    let cpus = site().ground().processors.each.iter();
    let on_node = cpus.filter(|cpu| cpu.node.known() == Some(&node) && usable.contains(cpu.id));
    on_node.map(|cpu| cpu.id as usize).collect()
}

/// Whether it makes a difference on which node memory is.
pub(crate) fn has_several_nodes() -> bool {
    site().ground().nodes.len() > 1
}
