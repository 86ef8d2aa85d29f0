//! Threads that share a listener, an event queue and a table, against threads that share nothing.

use super::suite::SMALL;
use crate::comparison::{Shape, compare};
use crate::contestant::Yardstick;
use crate::outcome::{Findings, Verdict, times};
use crate::report::counted;
use crate::setting::{Setting, Trouble};
use crate::statistics::{Difference, difference};

const CONNECTIONS: [usize; 2] = [64, 512];

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let own_cpus = setting.server_cpus.clone();
    let mut notes = Vec::new();
    // Sharing costs nothing until two CPUs do it at once.
    if own_cpus.len() < 2 {
        let mut all = [own_cpus.clone(), setting.load_cpus.clone()].concat();
        all.dedup();
        if all.len() < 2 {
            return Ok(Findings::not_measurable("this machine has one CPU", None));
        }
        notes.push("the load shares a CPU with one of the workers: there are no more".to_owned());
        setting.server_cpus = all;
    }
    let found = compare_both(setting, notes);
    setting.server_cpus = own_cpus;
    found
}

fn compare_both(setting: &Setting, notes: Vec<String>) -> Result<Findings, Trouble> {
    let count = setting.server_cpus.len();
    let mut comparisons = Vec::new();
    for connections in CONNECTIONS {
        let mut contestants = Vec::new();
        for is_shared in [true, false] {
            let yardstick = Yardstick::Threads { count, is_shared };
            contestants.push(yardstick.contestant(setting.program(), setting.free_port()?, "/"));
        }
        let threads = counted(count, "thread");
        let title = format!("1 KB, {connections} connections, {threads}");
        let shape = Shape::closed(connections, SMALL.bytes);
        let comparison = compare(setting, &title, &shape, &contestants)?;
        comparisons.push(comparison.at(connections as f64));
    }
    let judged = comparisons.iter().map(|one| {
        let ratio = one.rows[1].ratio;
        (
            difference(ratio, one.noise_width()),
            times(ratio.inverse().median),
        )
    });
    let (differences, gains): (Vec<_>, Vec<_>) = judged.unzip();
    let verdict = if !notes.is_empty() {
        Verdict::NotMeasurable
    } else if differences.contains(&Difference::More) {
        Verdict::Refuted
    } else if differences.contains(&Difference::Less) {
        Verdict::Confirmed
    } else {
        Verdict::NoDifference
    };
    let gains = gains.join(" and ");
    let says = match verdict {
        Verdict::NotMeasurable => format!(
            "the server needs two CPUs, and the load another one; as it is, sharing nothing gains {gains}"
        ),
        _ => format!("sharing nothing gains {gains}"),
    };
    Ok(Findings {
        verdict,
        says,
        gain: None,
        comparisons,
        notes,
    })
}
