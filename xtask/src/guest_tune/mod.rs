//! `cargo xtask guest-tune`: doctor and tune on a live kernel with two NUMA nodes and a network
//! device of four queues, in an emulated machine.
//!
//! The scripts beside this file do the work in there, one for each of two starts of the machine: what
//! the first leaves on its disk is there in the second, as on a real one. What is emulated proves
//! what is written and put back, and nothing about speed.

use crate::build::{cargo, metadata};
use crate::guest::{
    self, Archive,
    two_nodes::{self, Card},
};
use crate::skip::skip;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Do, verify and undo a tuning in an emulated machine with two nodes and four queues
///
/// Needs root, for the network device's other end.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program [default: a debug build of it]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// Also print what doctor and tune said in there
    #[arg(long)]
    show: bool,

    /// Give up on a start of the machine after this many seconds
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

const PROGRAM: &str = "/bin/ringway";

/// What both starts begin with, and what each does.
const COMMON: &str = include_str!("common.sh");
const STARTS: [&str; 2] = [include_str!("first.sh"), include_str!("second.sh")];

/// Runs both starts, prints each assertion, and fails when one failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let kernel = match two_nodes::available() {
        Ok(kernel) => kernel,
        Err(reason) => {
            skip("guest-tune", &format!("{reason:#}"));
            println!("1 skipped");
            return Ok(());
        }
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = guest::stripped(&program(options)?, scratch.path())?;
    let deadline = Duration::from_secs(options.timeout);
    let mut kept: Vec<(String, String)> = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for (number, start) in STARTS.iter().enumerate() {
        let archive = archive(&kernel, &program, start, &kept)?;
        let mut has_ended = false;
        let mut lines = Vec::new();
        two_nodes::boot(
            &kernel,
            &archive,
            Card::OnSecondNode,
            deadline,
            |line| match Said::of(line) {
                Some(Said::Passed(what)) => {
                    passed += 1;
                    println!("ok {what}");
                }
                Some(Said::Failed(what)) => {
                    failed += 1;
                    println!("FAILED {what}");
                }
                Some(Said::Shown(line)) if options.show => println!("    {line}"),
                Some(Said::Shown(_)) | None => {}
                Some(Said::Kept(path, line)) => lines.push((path.to_owned(), line.to_owned())),
                Some(Said::End) => has_ended = true,
            },
        )?;
        if !has_ended {
            bail!(
                "start {} of the machine ended before its script",
                number + 1
            );
        }
        kept = lines;
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 || passed == 0 {
        bail!("{failed} assertions failed");
    }
    Ok(())
}

/// The program that is tried: the one that is named, or one that is built.
fn program(options: &Options) -> Result<PathBuf> {
    if let Some(program) = &options.program {
        return Ok(program.clone());
    }
    let build = cargo().args(["build", "--package", "ringway"]).status();
    if !build.context("cannot run cargo")?.success() {
        bail!("the program doesn't build");
    }
    Ok(metadata()?.target_directory.join("debug/ringway"))
}

fn archive(
    kernel: &Path,
    program: &Path,
    start: &str,
    kept: &[(String, String)],
) -> Result<Archive> {
    let script = format!("{COMMON}\n{start}\necho @end\npoweroff -f\n");
    let mut archive = Archive::with_init(script.as_bytes())?;
    archive.copy_as(program, Path::new(PROGRAM))?;
    for (name, module) in guest::modules(kernel, &two_nodes::MODULES)? {
        archive.file(&Path::new("/modules").join(name), &module);
    }
    // Folders that a machine with systemd has.
    archive.folder(Path::new("/etc/systemd/system/multi-user.target.wants"));
    archive.folder(Path::new("/run"));
    let mut paths: Vec<&String> = kept.iter().map(|(path, _)| path).collect();
    paths.dedup();
    for path in paths {
        let lines = kept.iter().filter(|(of, _)| of == path);
        let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
        archive.file(Path::new(path), text.as_bytes());
    }
    Ok(archive)
}

/// What a line on the guest's console means.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// An assertion held.
    Passed(&'a str),
    /// An assertion did not hold.
    Failed(&'a str),
    /// For people.
    Shown(&'a str),
    /// A line of a file that is there at the next start.
    Kept(&'a str, &'a str),
    /// The script came to its end.
    End,
}

impl<'a> Said<'a> {
    /// `None` for what the kernel and the firmware say, which may not end its line.
    fn of(line: &'a str) -> Option<Said<'a>> {
        let line = &line[line.find('@')?..];
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "@ok" => Some(Said::Passed(rest)),
            "@failed" => Some(Said::Failed(rest)),
            "@show" => Some(Said::Shown(rest)),
            // The colon keeps what begins or ends with white space.
            "@keep" => rest
                .split_once(" :")
                .map(|(path, line)| Said::Kept(path, line)),
            "@end" => Some(Said::End),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn the_console_is_understood() {
        let check = |line: &str, expect| assert_eq!(Said::of(line), expect, "{line}");
        check("[ 0.1] boot", None);
        check("firmware@ok a b", Some(Said::Passed("a b")));
        check("@failed a: b", Some(Said::Failed("a: b")));
        check("@show   c", Some(Said::Shown("  c")));
        check("@keep /a : b  c", Some(Said::Kept("/a", " b  c")));
        check("@keep /a :", Some(Said::Kept("/a", "")));
        check("@keep /a", None);
        check("@end", Some(Said::End));
        check("somebody@example", None);
    }

    /// The whole of it, where that can run.
    #[test]
    fn a_tuning_is_done_and_undone_in_the_guest() {
        let options = super::Options {
            program: None,
            show: false,
            timeout: 600,
        };
        super::run(&options).expect("every assertion holds");
    }
}
