//! Queues of a network card: what one machine can say of them.

use crate::outcome::Findings;
use crate::setting::{Setting, Trouble};
use ringway_host::facts::Facts;
use ringway_host::machine::Tree;

const CLAIMED: f64 = 3.92;

pub(super) fn find(_: &mut Setting) -> Result<Findings, Trouble> {
    let facts = Facts::gather(&Tree::live());
    let card = facts.nic(None);
    let card = card.map(|nic| (nic.name.as_str(), nic.rx_queues.len()));
    Ok(Findings::not_measurable(reason(card), Some(CLAIMED)))
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
    use super::reason;

    #[test]
    fn the_reason_names_the_card() {
        assert!(reason(None).starts_with("no physical network card"));
        assert!(reason(Some(("eth0", 1))).starts_with("eth0 has one receive queue"));
        assert!(reason(Some(("eth1", 8))).starts_with("eth1 has 8 receive queues"));
    }
}
