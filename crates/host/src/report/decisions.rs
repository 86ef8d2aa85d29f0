//! The decision tree that guides print, walked aloud. Its questions don't depend on each other, so
//! each is answered for itself: some by the machine, some only by the operator.

use crate::checks::{Finding, Verdict};
use crate::facts::Facts;
use crate::intent::{Goal, Intent, Role};
use serde::Serialize;

/// Requests a second from which the architecture begins to matter, as guides have it.
const MANY_REQUESTS: u64 = 100_000;
/// Cores from which workers for each core are called for, as guides have it.
const MANY_CORES: usize = 4;

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The question.
    pub question: &'static str,
    /// `yes`, `no`, or `unknown`.
    pub answer: &'static str,
    /// The fact that answers it.
    pub because: String,
    /// What follows here.
    pub so: &'static str,
}

pub(super) fn walk(facts: &Facts, intent: &Intent, findings: &[Finding]) -> Vec<Decision> {
    vec![
        rate(intent),
        kernel(facts),
        cores(facts),
        nodes(facts),
        queues(facts, intent),
        zero_copy(intent, findings),
    ]
}

fn answer(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn rate(intent: &Intent) -> Decision {
    let question = "More than 100,000 requests a second?";
    match intent.rate {
        None => Decision {
            question,
            answer: "unknown",
            because: "only the operator knows (--rate)".to_owned(),
            so: "the rest is worth its effort from some tens of thousands on; defaults do below",
        },
        Some(rate) => Decision {
            question,
            answer: answer(rate > MANY_REQUESTS),
            because: format!("{rate} are expected"),
            so: if rate > MANY_REQUESTS {
                "queues, interrupts and placement are worth looking after"
            } else {
                "one worker for each core does, whatever the rest says"
            },
        },
    }
}

fn kernel(facts: &Facts) -> Decision {
    let question =
        "Does io_uring work? (guides ask for a kernel of 5.8; the version decides nothing)";
    match facts.io_uring.as_result() {
        Ok(found) => Decision {
            question,
            answer: answer(found.works),
            because: found.reason.clone(),
            so: if found.works {
                "the io_uring driver"
            } else {
                "the epoll driver, which does the same with more system calls"
            },
        },
        Err(why) => Decision {
            question,
            answer: "unknown",
            because: why,
            so: "the server tries it when it starts, and uses epoll else",
        },
    }
}

fn cores(facts: &Facts) -> Decision {
    let usable = facts.processors.usable().len();
    Decision {
        question: "More than 4 cores?",
        answer: answer(usable > MANY_CORES),
        because: format!("{usable} CPUs may be used"),
        so: "one worker a core that shares nothing, however many there are",
    }
}

fn nodes(facts: &Facts) -> Decision {
    let question = "Several NUMA nodes?";
    match facts.nodes.as_result() {
        Ok(nodes) => Decision {
            question,
            answer: answer(nodes.len() > 1),
            because: format!("{} online", nodes.len()),
            so: if nodes.len() > 1 {
                "workers and their memory on the device's node until it is full"
            } else {
                "memory is equally near to all"
            },
        },
        Err(why) => Decision {
            question,
            answer: "unknown",
            because: why,
            so: "as if there were one",
        },
    }
}

fn queues(facts: &Facts, intent: &Intent) -> Decision {
    let question = "A network device with several queues?";
    let Some(nic) = facts.nic(intent.nic.as_deref()) else {
        return Decision {
            question,
            answer: "unknown",
            because: "no physical device is seen from here".to_owned(),
            so: "look at the host that has it",
        };
    };
    let queues = nic.receiving_queues();
    let most = nic
        .channels
        .known()
        .map_or(queues, |channels| channels.most_receiving());
    Decision {
        question,
        answer: answer(queues.max(most) > 1),
        because: format!(
            "{} has {queues}, and could have {}",
            nic.name,
            most.max(queues)
        ),
        so: if queues.max(most) > 1 {
            "a queue for each worker, its interrupt on the worker's CPU"
        } else {
            "one CPU takes in all packets; spreading them in software helps only when it is full"
        },
    }
}

fn zero_copy(intent: &Intent, findings: &[Finding]) -> Decision {
    let question = "Is zero-copy needed?";
    let offloads = findings.iter().find(|finding| finding.id == "nic.offload");
    let offloads_bad = offloads.is_some_and(|finding| matches!(finding.verdict, Verdict::Bad(_)));
    let (said, so) = match (intent.role, intent.goal) {
        (Some(Role::Proxy), _) => ("yes", "large bodies between two sockets by splice"),
        (_, Some(Goal::Throughput)) => ("yes", "large files by sendfile; small ones from memory"),
        (_, Some(Goal::Latency)) => ("no", "small answers go out faster with one copy"),
        _ => (
            "unknown",
            "the server chooses by size: sendfile for large files, a copy for small",
        ),
    };
    let because = match said {
        "unknown" => "it depends on the sizes of answers (--role, --goal)".to_owned(),
        _ if offloads_bad => "as was said; with offloads off it gains less".to_owned(),
        _ => "as was said".to_owned(),
    };
    Decision {
        question,
        answer: said,
        because,
        so,
    }
}
