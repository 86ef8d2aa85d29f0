//! The same server on io_uring and on epoll.

use super::suite::{SMALL, ringway};
use crate::comparison::{Comparison, Shape, compare};
use crate::outcome::{Findings, Gain, judge_gain};
use crate::report::counted;
use crate::setting::{Setting, Trouble};

const CLAIMED: f64 = 2.49;
const CONNECTIONS: [usize; 4] = [1, 64, 512, 4096];
const PIPELINED: usize = 16;
const PIPELINED_CONNECTIONS: usize = 64;

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let mut comparisons = Vec::new();
    for connections in CONNECTIONS {
        let title = format!("1 KB, {}", counted(connections, "connection"));
        let shape = Shape::closed(connections, SMALL.bytes);
        comparisons.push(both(setting, &title, &shape)?.at(connections as f64));
    }
    let title =
        format!("1 KB, {PIPELINED_CONNECTIONS} connections, {PIPELINED} requests pipelined");
    let shape = Shape {
        pipeline: PIPELINED,
        ..Shape::closed(PIPELINED_CONNECTIONS, SMALL.bytes)
    };
    comparisons.push(both(setting, &title, &shape)?);
    let best = greatest_gain(&comparisons)
        .ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    let gain = best.rows[1].ratio.inverse();
    let (verdict, says) = judge_gain(CLAIMED, gain, best.noise_width());
    Ok(Findings {
        verdict,
        says: format!("at best ({}) {says}", best.title),
        gain: Some(Gain {
            claimed: CLAIMED,
            measured: Some(gain),
        }),
        comparisons,
        notes: Vec::new(),
    })
}

fn both(setting: &Setting, title: &str, shape: &Shape) -> Result<Comparison, Trouble> {
    let contestants = [
        ringway(setting, "epoll", SMALL, shape.connections)?,
        ringway(setting, "uring", SMALL, shape.connections)?,
    ];
    compare(setting, title, shape, &contestants)
}

/// The comparison whose second row gains most on its first.
fn greatest_gain(comparisons: &[Comparison]) -> Option<&Comparison> {
    let gaining = comparisons.iter().filter(|one| one.rows.len() > 1);
    gaining.min_by(|left, right| {
        let ratio = |one: &Comparison| one.rows[1].ratio.median;
        ratio(left).total_cmp(&ratio(right))
    })
}
