//! Queues of a network card: what one machine can say of them, and of what is counted beside them.

use crate::outcome::Findings;
use crate::setting::{Setting, Trouble};
use ringway_host::facts::Facts;
use ringway_host::machine::Tree;
use std::path::Path;

const CLAIMED: f64 = 3.92;
/// The processor's own counters, where the kernel has them (perf_event_open(2), "dynamic PMU"); hypervisors
/// mostly keep them to themselves.
const COUNTERS: &str = "/sys/bus/event_source/devices/cpu";

pub(super) fn find(_: &mut Setting) -> Result<Findings, Trouble> {
    let facts = Facts::gather(&Tree::live());
    let card = facts.nic(None);
    let card = card.map(|nic| (nic.name.as_str(), nic.rx_queues.len()));
    Ok(Findings {
        notes: beside(Path::new(COUNTERS).exists()),
        ..Findings::not_measurable(reason(card), Some(CLAIMED))
    })
}

/// Where packets a second and cache hits are to be looked for instead.
fn beside(has_counters: bool) -> Vec<String> {
    let cache = match has_counters {
        true => {
            "`perf stat -e cache-references,cache-misses` of the server shows them beside any load"
        }
        false => "not measurable here, the processor's counters aren't shown to this machine",
    };
    vec![
        "packets a second: of the card, not measurable here either; the TCP segments of a request are among the figures of \
         each scenario"
            .to_owned(),
        format!("cache hits: {cache}"),
    ]
}

fn reason(card: Option<(&str, usize)>) -> String {
    let needs = "the load would have to come from another machine";
    match card {
        None => format!("no physical network card shows here, and {needs}"),
        Some((name, 1)) => format!("{name} has one receive queue, and {needs}"),
        Some((name, count)) => format!("{name} has {count} receive queues, but {needs}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{beside, reason};

    #[test]
    fn what_is_counted_beside_queues_is_told_as_well() {
        let [hidden, shown] = [false, true].map(|has_counters| beside(has_counters)[1].clone());
        assert!(
            hidden.starts_with("cache hits: not measurable here"),
            "{hidden}"
        );
        assert!(shown.contains("perf stat"), "{shown}");
        assert!(beside(true)[0].starts_with("packets a second: "));
    }

    #[test]
    fn the_reason_names_the_card() {
        assert!(reason(None).starts_with("no physical network card"));
        assert!(reason(Some(("eth0", 1))).starts_with("eth0 has one receive queue"));
        assert!(reason(Some(("eth1", 8))).starts_with("eth1 has 8 receive queues"));
    }
}
