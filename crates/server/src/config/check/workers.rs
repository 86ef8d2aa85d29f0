//! Reads how the process runs: how many workers there are, and where. What is asked for has to be
//! there; where each worker goes is the planner's affair.

use super::report_written;
use crate::config::keys::Top;
use crate::config::problem::quote;
use crate::config::read::Section;
use crate::placement;
use ringway_host::cpulist::CpuList;
use ringway_host::intent::Intent;

/// More than this many workers aren't started, however many CPUs there are.
const MOST_WORKERS: usize = 1024;

/// The top level, and the CPUs that it names.
pub(super) fn read_top(section: &mut Section<'_>) -> (Top, Option<CpuList>) {
    let top = Top::read(section);
    let cpus = top.worker_cpus.as_deref();
    let cpus = cpus.and_then(|text| read_cpus(section, text));
    if !top.pin && cpus.is_some() {
        let message = "worker_cpus names CPUs, but pin = false binds no worker to one";
        report_written(section, "worker_cpus", message, "leave one of the two out");
    }
    if let Some(nic) = &top.nic {
        check_nic(section, nic);
    }
    (top, cpus)
}

fn read_cpus(section: &mut Section<'_>, text: &str) -> Option<CpuList> {
    let parsed = text.parse::<CpuList>().ok().filter(|cpus| !cpus.is_empty());
    let Some(cpus) = parsed else {
        let message = format!("{} is no list of CPUs", quote(text));
        report_written(section, "worker_cpus", &message, "such as \"0-3,8\"");
        return None;
    };
    let usable = placement::usable_cpus();
    let missing = cpus.without(&usable);
    if !missing.is_empty() {
        let message =
            format!("CPU {missing} can't be used: offline, or not allowed to this process");
        let hint = format!("there are {usable}");
        report_written(section, "worker_cpus", &message, &hint);
        return None;
    }
    Some(cpus)
}

fn check_nic(section: &mut Section<'_>, nic: &str) {
    let known = placement::device_names();
    if known.contains(&nic) {
        return;
    }
    let message = format!("there is no network device {}", quote(nic));
    let hint = match known.is_empty() {
        true => "none can be seen from here: leave it out".to_owned(),
        false => format!("one of {}", known.join(", ")),
    };
    report_written(section, "nic", &message, &hint);
}

/// How many workers there are to be.
pub(super) fn count(top: &Top, cpus: Option<&CpuList>) -> usize {
    if let Some(count) = top.workers {
        return count;
    }
    let intent = Intent {
        cpus: cpus.cloned(),
        nic: top.nic.clone(),
        ..Intent::default()
    };
    placement::place(&intent).workers.len().min(MOST_WORKERS)
}
