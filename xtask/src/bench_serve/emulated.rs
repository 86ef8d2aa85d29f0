//! Idle connections by the hundred thousand, in an emulated machine: there no descriptor limit of the
//! host's counts.
//!
//! This same program measures there, too, as [`idle`](super::idle) says; here it is put into the
//! machine with the servers and what they serve, and what it prints is shown.

use super::Setting;
use crate::contestants::BODIES;
use crate::guest::{self, Archive};
use crate::process::find;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::Duration;

/// What the servers are started with, besides the guest's own.
pub(super) const PROGRAMS: [&str; 2] = ["taskset", "setpriv"];
/// The upper end of the slope, unless the options say so.
const COUNT: u32 = 100_000;
/// What the guest takes for itself, and for both ends of each connection with the server's and the
/// client's share: less is enough, and none of it is touched before it is used.
const MEMORY_MIB: u32 = 1024;
const CONNECTION_KIB: u32 = 14;
/// More than three servers take on a busy machine, and for each thousand connections besides.
const PATIENCE: Duration = Duration::from_secs(3600);
const THOUSAND_PATIENCE: Duration = Duration::from_secs(10);

/// Boots the machine, has all servers measured in it, and shows the table.
pub(super) fn run(setting: &Setting<'_>) -> Result<()> {
    let count = setting.options.idle_connections.unwrap_or(COUNT);
    let kernel = guest::requirements(&PROGRAMS)?;
    let archive = archive(setting, count)?;
    let memory_mib = MEMORY_MIB + count * CONNECTION_KIB / 1024;
    let patience = PATIENCE + THOUSAND_PATIENCE * (count / 1_000);
    let mut outcome = None;
    guest::boot(
        &kernel,
        &archive,
        memory_mib,
        patience,
        |line| match Said::of(line) {
            Some(Said::Line(line)) => println!("{line}"),
            Some(Said::End(code)) => outcome = Some(code),
            None => {}
        },
    )?;
    match outcome {
        Some(0) => Ok(()),
        Some(code) => bail!("the measurement in the guest failed with code {code}"),
        None => bail!("the guest ended before its measurement did"),
    }
}

/// The guest's disk: this program, the servers, and the list of them.
fn archive(setting: &Setting<'_>, count: u32) -> Result<Archive> {
    let mut archive = Archive::with_init(include_bytes!("emulated.sh"))?;
    let this = std::env::current_exe().context("cannot find this program")?;
    archive.copy(&this)?;
    for program in PROGRAMS {
        let path = find(program).with_context(|| format!("{program} is not installed"))?;
        // Where `/bin` is a link, the guest's is another folder, with lesser tools.
        archive.copy(&std::fs::canonicalize(path)?)?;
    }
    let body = BODIES[0];
    body.write(setting.site)?;
    let servers = setting.servers(body, count as usize)?;
    for one in &servers {
        archive.copy(one.program())?;
    }
    archive.copy(setting.scratch)?;
    let list = serde_json::to_vec(&servers).context("the list of servers")?;
    archive.file(Path::new("/servers"), &list);
    let parameters = format!(
        "program='{}'\ncount={count}\nper_address={}\n",
        this.display(),
        setting.options.per_address
    );
    archive.file(Path::new("/parameters"), parameters.as_bytes());
    Ok(archive)
}

/// What a line on the guest's console means.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// To be shown.
    Line(&'a str),
    /// It is over, with this exit code.
    End(i32),
}

impl<'a> Said<'a> {
    /// `None` for what the kernel and the firmware say, which may not end its line.
    fn of(line: &'a str) -> Option<Said<'a>> {
        if let Some((_, said)) = line.split_once("@say ") {
            return Some(Said::Line(said));
        }
        let (_, code) = line.split_once("@end ")?;
        code.trim().parse().ok().map(Said::End)
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn the_console_is_understood() {
        assert_eq!(Said::of("[ 0.1] boot"), None);
        assert_eq!(Said::of("@say a  b"), Some(Said::Line("a  b")));
        assert_eq!(Said::of("firmware@end 0"), Some(Said::End(0)));
        assert_eq!(Said::of("@end soon"), None);
    }
}
