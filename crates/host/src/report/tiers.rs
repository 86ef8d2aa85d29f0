//! The three tiers of guides (entry, advanced, expert), by the checks that each asks for.

use crate::checks::{Finding, Verdict};
use serde::Serialize;

/// A tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// It serves: descriptors, a backlog, zero-copy files.
    Entry,
    /// A worker on each core, on io_uring.
    Advanced,
    /// Memory, queues and interrupts where the workers are.
    Expert,
}

impl Tier {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Entry => "entry",
            Tier::Advanced => "advanced",
            Tier::Expert => "expert",
        }
    }

    /// The checks that it asks for, beside those of the tiers before it.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Tier::Entry => &[
                "cpu.topology",
                "lim.nofile",
                "tcp.backlog",
                "tcp.syncookies",
            ],
            Tier::Advanced => &[
                "kernel.version",
                "kernel.io_uring",
                "cpu.allowed",
                "cpu.quota",
                "tcp.autotune",
                "nic.offload",
                "server.driver",
                "server.placement",
            ],
            Tier::Expert => &[
                "numa.nic_local",
                "numa.balancing",
                "nic.channels",
                "nic.rss_table",
                "irq.map",
                "irq.affinity",
                "irq.balance",
                "rps.redundant",
                "xps.map",
                "server.memory",
                "server.steering",
            ],
        }
    }
}

/// How far a machine, and the server that was asked, are from a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The tier.
    pub tier: Tier,
    /// The checks that are in the way.
    pub missing: Vec<&'static str>,
    /// The checks that can't be seen from here. What waits for the operator's word is in no way.
    pub unseen: Vec<&'static str>,
}

/// Each tier with what is missing to it; a tier asks for all of those before it.
pub(super) fn reached(findings: &[Finding]) -> Vec<Reach> {
    let (mut missing, mut unseen) = (Vec::new(), Vec::new());
    let tiers = [Tier::Entry, Tier::Advanced, Tier::Expert];
    let reach = |tier: Tier| {
        for need in tier.needs() {
            match findings
                .iter()
                .find(|finding| finding.id == *need)
                .map(|found| &found.verdict)
            {
                Some(Verdict::Bad(_)) => missing.push(*need),
                Some(Verdict::NotVisible(_)) => unseen.push(*need),
                _ => {}
            }
        }
        Reach {
            tier,
            missing: missing.clone(),
            unseen: unseen.clone(),
        }
    };
    tiers.into_iter().map(reach).collect()
}

#[cfg(test)]
mod tests {
    use super::Tier;
    use crate::checks::table;

    #[test]
    fn tiers_ask_for_checks_that_exist() {
        for tier in [Tier::Entry, Tier::Advanced, Tier::Expert] {
            for need in tier.needs() {
                assert!(table().any(|check| check.id == *need), "{need}");
            }
        }
    }
}
