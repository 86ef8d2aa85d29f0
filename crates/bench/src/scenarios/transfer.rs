//! Every way to send a file, against reading it in pieces of 8 KiB and writing them.

use crate::comparison::{Comparison, Shape, compare};
use crate::contestant::{DRIVERS, serve};
use crate::outcome::{Findings, Gain, judge_gain, times};
use crate::setting::{Setting, Trouble};
use crate::statistics::Spread;
use ringway_runtime::TransferMethod;

const CLAIMED: f64 = 3.59;
const HUNDRED_MB: u64 = 100_000_000;
const GB: u64 = 1_000_000_000;
/// What everything is compared with comes first.
const METHODS: [TransferMethod; 8] = [
    TransferMethod::NaiveCopy,
    TransferMethod::Copy,
    TransferMethod::Registered,
    TransferMethod::Map,
    TransferMethod::SendFile,
    TransferMethod::Splice,
    TransferMethod::NoticedZeroCopy,
    TransferMethod::ZeroCopy,
];
/// Those of a quick run on the second driver.
const FEW: [TransferMethod; 2] = [TransferMethod::NaiveCopy, TransferMethod::SendFile];

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let (mut comparisons, mut notes) = (Vec::new(), Vec::new());
    for (bytes, name) in [(HUNDRED_MB, "100 MB"), (GB, "1 GB")] {
        if bytes == GB && setting.is_quick() {
            continue;
        }
        for (_, driver) in DRIVERS {
            let is_short = setting.is_quick() && driver != DRIVERS[0].1;
            let methods: &[TransferMethod] = if is_short { &FEW } else { &METHODS };
            match all_ways(setting, driver, name, bytes, methods) {
                // A disk that has no room for a gigabyte may have it for a tenth of that.
                Err(Trouble::Failed(why)) if bytes == GB => notes.push(why),
                comparison => comparisons.push(comparison?),
            }
        }
    }
    let first = comparisons.first();
    let gain_of = |method: TransferMethod| {
        let row = first?.row(method.name())?;
        Some(row.ratio.inverse())
    };
    let gain = gain_of(TransferMethod::SendFile)
        .ok_or_else(|| Trouble::Failed("sendfile was not measured".to_owned()))?;
    let noise = first.map_or(f64::INFINITY, Comparison::noise_width);
    let (verdict, says) = judge_gain(CLAIMED, gain, noise);
    if let Some(copy) = gain_of(TransferMethod::Copy) {
        notes.push(format!(
            "copying in pieces of 256 KiB instead of 8 KiB gains {} by itself",
            times(copy.median)
        ));
    }
    notes.extend(first.and_then(time_note));
    notes.push(
        "on loopback the kernel copies what MSG_ZEROCOPY and SEND_ZC send after all".to_owned(),
    );
    Ok(Findings {
        verdict,
        says: format!("sendfile on io_uring, 100 MB: {says}"),
        gain: Some(Gain {
            claimed: CLAIMED,
            measured: Some(gain),
        }),
        comparisons,
        notes,
    })
}

/// The same gain in time, which is the client's as often as the server's.
fn time_note(comparison: &Comparison) -> Option<String> {
    let time = |method: TransferMethod| {
        let runs = &comparison.row(method.name())?.runs;
        let times: Vec<f64> = runs
            .iter()
            .map(|run| 1e3 / run.requests_per_second)
            .collect();
        Some(Spread::of(&times)?.median)
    };
    let (naive, sendfile) = (
        time(TransferMethod::NaiveCopy)?,
        time(TransferMethod::SendFile)?,
    );
    Some(format!(
        "in time it is {}: {naive:.1} ms against {sendfile:.1} ms until the client has it all, which is busy \
         receiving for most of the latter",
        times(naive / sendfile)
    ))
}

fn all_ways(
    setting: &Setting,
    driver: &str,
    name: &str,
    bytes: u64,
    methods: &[TransferMethod],
) -> Result<Comparison, Trouble> {
    let file = format!("{bytes}.bin");
    setting.file(&file, bytes)?;
    let (site, path) = (setting.site(), format!("/{file}"));
    let mut contestants = Vec::new();
    for method in methods {
        let port = setting.free_port()?;
        let one = serve(setting.program(), driver, &site, port, &path, 1);
        contestants.push(one.named(method.name()).with(["--transfer", method.name()]));
    }
    let title = format!("{name} by each way, on {driver}");
    compare(setting, &title, &Shape::closed(1, bytes), &contestants)
}
