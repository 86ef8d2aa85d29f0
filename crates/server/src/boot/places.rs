//! What is told at the start about where workers are: their CPUs, their memory, and how connections
//! find them. For whoever wonders; what a person sees at the terminal is shorter.

use super::Server;
use crate::config::{HugePages, Steer};
use crate::placement;
use crate::worker::Started;
use ringway_runtime::{Policy, Steering};
use std::collections::BTreeSet;

impl Server {
    /// What decided where workers are.
    pub(super) fn tell_placement(&self) {
        let placement = &self.facts.placement;
        if self.config.pin {
            let notes = &placement.notes;
            let notes = (!notes.is_empty()).then(|| notes.join("; "));
            tracing::info!(%placement, notes, "the workers have their places");
        }
        let steering = self.facts.steering();
        if self.config.steer == Steer::On && steering.kind == Steering::Hash {
            tracing::warn!(%steering, "connections aren't steered to the CPU where they come in");
        } else {
            tracing::info!(%steering, "how connections find their worker");
        }
    }

    /// Where the workers' memory is. What was refused is said once, and as a warning only where it
    /// makes a difference.
    pub(super) fn tell_memory(&self) {
        let workers = 0..self.config.workers;
        let started: Vec<Started> = workers
            .filter_map(|worker| self.facts.started(worker))
            .collect();
        let policies: BTreeSet<String> = started
            .iter()
            .map(|started| started.memory.policy.to_string())
            .collect();
        let memory = policies.into_iter().collect::<Vec<_>>().join("; ");
        let refused = |policy: &Policy| matches!(policy, Policy::Refused(_));
        let is_refused =
            |started: &Started| refused(&started.memory.policy) || refused(&started.heap);
        let is_elsewhere = |started: &Started| started.memory.is_on_its_node() == Some(false);
        if placement::has_several_nodes() && started.iter().any(is_refused) {
            tracing::warn!(memory, "the workers' memory can't be sent to their nodes");
        } else if started.iter().any(is_elsewhere) {
            tracing::warn!(
                memory,
                "some of the workers' memory is on another node than theirs"
            );
        } else {
            tracing::info!(memory, "where the workers' buffers are");
        }
        let has_huge = |started: &Started| started.memory.is_huge;
        if self.config.huge_pages == HugePages::Reserved && !started.iter().all(has_huge) {
            tracing::warn!(
                "not every worker has reserved huge pages: too few are free on its node \
                 (vm.nr_hugepages), or its receive buffers are small"
            );
        }
    }
}
