//! Checks of a server that runs, when one was named: whether it does what the machine allows.

use super::{Case, Check, Judged, Remedy, Severity, Verdict, judge, settle};
use crate::cpulist::CpuList;
use crate::facts::Server;
use crate::placement::counted;
use Remedy::Advice;
use Severity::{Info, Warning};
use Verdict::{Bad, Good, NotAsked, NotVisible, Note};

/// The share of connections that should come in on their worker's processor where they are steered.
const LIVE_SHARE: f64 = 0.9;

pub(super) const TABLE: &[Check] = &[
    Check {
        id: "server.answers",
        reads: "/status of the server (--server)",
        good: "it answers",
        why: "nothing else can be said of it",
        severity: Warning,
        remedy: Advice("start it with --admin, and name that listener"),
        undo: "nothing to undo",
        judge: |case| settle(answers(case)),
    },
    Check {
        id: "server.driver",
        reads: "/status of the server (--server)",
        good: "io_uring in every worker",
        why: "epoll takes a system call for each operation",
        severity: Warning,
        remedy: Advice("what stands in the way is in the server's start line; then `--io auto`"),
        undo: "nothing to undo",
        judge: |case| settle(driver(case)),
    },
    Check {
        id: "server.placement",
        reads: "/status of the server (--server)",
        good: "workers pinned, on the CPUs of the placement",
        why: "what tune prepares is for these CPUs",
        severity: Warning,
        remedy: Advice("give the server and `tune` the same --workers and --worker-cpus"),
        undo: "the old flags",
        judge: |case| settle(placement(case)),
    },
    Check {
        id: "server.memory",
        reads: "/status of the server (--server)",
        good: "each worker's buffers on its node",
        why: "memory of another node costs more with every packet",
        severity: Warning,
        remedy: Advice("give the container CAP_SYS_NICE, and each node free memory"),
        undo: "nothing to undo",
        judge: |case| settle(memory(case)),
    },
    Check {
        id: "server.steering",
        reads: "/status of the server (--server)",
        good: "connections accepted on the CPU that received them, where there are queues to choose from",
        why: "a connection handed to another CPU leaves its packets in the wrong cache",
        severity: Info,
        remedy: Advice("`ringway tune`, then start the server again"),
        undo: "tune --revert",
        judge: |case| settle(steering(case)),
    },
];

fn answers(case: &Case) -> Judged {
    match server(case) {
        Ok(server) => Ok(Good(format!("version {}", server.version))),
        Err(NotVisible(why)) => Ok(Bad(why)),
        Err(verdict) => Err(verdict),
    }
}

/// The server that was asked, or the verdict that there is none to judge.
fn server<'a>(case: &Case<'a>) -> Result<&'a Server, Verdict> {
    let asked = case.facts.server.as_ref();
    let asked = asked.ok_or_else(|| NotAsked("no server was named (--server)".to_owned()))?;
    asked.as_result().map_err(NotVisible)
}

fn driver(case: &Case) -> Judged {
    let workers = &server(case)?.workers;
    let other = |worker: &&crate::facts::ServerWorker| !worker.driver.starts_with("uring");
    let others: Vec<_> = workers.iter().filter(other).collect();
    Ok(match others.first() {
        None => Good(format!("io_uring in {} of them", workers.len())),
        Some(first) => Bad(format!(
            "{} of {} without: {}",
            others.len(),
            workers.len(),
            first.driver
        )),
    })
}

fn placement(case: &Case) -> Judged {
    let server = server(case)?;
    let workers = counted(server.workers.len(), "worker");
    let cpus: CpuList = server.workers.iter().filter_map(|one| one.cpu).collect();
    if !server.placement.is_pinned {
        return Ok(Bad(format!("{workers}, not pinned")));
    }
    let planned = &case.placement()?.workers;
    let count = planned.len();
    let planned: CpuList = planned.iter().map(|worker| worker.cpu).collect();
    let is_as_planned = cpus == planned && server.workers.len() == count;
    let found = format!("{workers} on CPU {cpus}");
    Ok(if is_as_planned {
        Good(found)
    } else {
        Bad(format!(
            "{found}; the placement is {count} on CPU {planned}"
        ))
    })
}

fn memory(case: &Case) -> Judged {
    let workers = &server(case)?.workers;
    let count = |is: Option<bool>| {
        let memory = workers.iter().map(|worker| &worker.memory);
        memory.filter(|memory| memory.is_on_its_node == is).count()
    };
    if let Some(unknown) = workers
        .iter()
        .find(|worker| worker.memory.is_on_its_node.is_none())
    {
        return Err(NotVisible(unknown.memory.policy.clone()));
    }
    let found = format!("{} of {} on their node", count(Some(true)), workers.len());
    Ok(judge(count(Some(false)) == 0, found))
}

fn steering(case: &Case) -> Judged {
    let server = server(case)?;
    let steering = &server.steering;
    let queues = case.nic.map_or(0, |nic| nic.receiving_queues());
    if server.workers.len() < 2 || queues < 2 {
        let workers = counted(server.workers.len(), "worker");
        let queues = counted(queues, "queue");
        return Ok(Good(format!("{workers}, {queues}: hashed")));
    }
    if steering.kind == "hash" {
        return Ok(Bad(format!("hashed: {}", steering.reason)));
    }
    let kind = &steering.kind;
    Ok(match steering.live {
        None => Note(format!("{kind}; no connection so far")),
        Some(live) => judge(
            live >= LIVE_SHARE,
            format!("{kind}; {:.0} % arrive on their worker's CPU", live * 100.0),
        ),
    })
}
