//! `cargo xtask icount --check`: what a request of each hot path may cost, in instructions of the least
//! that a server or a relay does.
//!
//! The table is `xtask/icount-ratios.txt`, written by `--update` and kept with the code, so that a change
//! which costs more says so in its own diff. Ratios, because the guest's kernel is most of every count
//! and both sides of the ratio go through it. They move with the compiler, the kernel and the emulator;
//! so the table names these, and where one is another it is told, not judged.

use super::{Measured, Options, measure};
use crate::build::{Programs, root};
use crate::guest;
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A ratio may exceed that of the table by this part of it. Runs of one build differ by a thousandth;
/// unrelated changes, by what is inlined where, by two or three.
const TOLERANCE: f64 = 0.02;

/// Every hot path: its name in the table, what it is for people, and who is compared with whom.
const PATHS: [HotPath; 6] = [
    HotPath::new("hello-uring", "hello on io_uring", false, "hello-uring"),
    HotPath::new("hello-epoll", "hello on epoll", false, "hello-epoll"),
    HotPath::new(
        "serve-uring",
        "a file of 1 KiB on io_uring",
        false,
        "ringway-uring",
    ),
    HotPath::new(
        "serve-epoll",
        "a file of 1 KiB on epoll",
        false,
        "ringway-epoll",
    ),
    HotPath::new(
        "proxy-uring",
        "1 KiB passed on on io_uring",
        true,
        "ringway-uring",
    ),
    HotPath::new(
        "proxy-epoll",
        "1 KiB passed on on epoll",
        true,
        "ringway-epoll",
    ),
];

struct HotPath {
    name: &'static str,
    what: &'static str,
    /// Whether it runs among those that pass requests on.
    is_proxy: bool,
    contestant: &'static str,
}

impl HotPath {
    const fn new(
        name: &'static str,
        what: &'static str,
        is_proxy: bool,
        contestant: &'static str,
    ) -> HotPath {
        HotPath {
            name,
            what,
            is_proxy,
            contestant,
        }
    }

    /// The least that does the same on the same driver.
    fn yardstick(&self) -> String {
        let driver = self.contestant.rsplit('-').next().unwrap_or_default();
        let kind = if self.is_proxy { "relay" } else { "yardstick" };
        format!("{kind}-{driver}")
    }
}

/// What came of the comparison.
pub(crate) enum Verdict {
    /// Nothing costs more than it may.
    Held,
    /// A line for each path that does, with what to do.
    Broken(Vec<String>),
    /// It could not be made here, and why.
    Skipped(String),
}

/// `cargo xtask icount --check`, or `--update`.
pub(super) fn run(is_update: bool) -> Result<()> {
    if is_update {
        let kernel = requirements()?;
        let table = Table {
            conditions: conditions(&kernel)?,
            ratios: ratios(&kernel)?,
        };
        fs::write(table_path(), table.write()).context("cannot write the table")?;
        println!("{} is written", table_path().display());
        return Ok(());
    }
    match check()? {
        Verdict::Held => Ok(()),
        Verdict::Broken(lines) => bail!("{}", lines.join("\n       ")),
        Verdict::Skipped(reason) => {
            skip("icount --check", &reason);
            println!("1 skipped");
            Ok(())
        }
    }
}

/// Compares what is built here with the table, and prints both.
///
/// # Errors
/// When the table can't be read, the programs can't be built, or one answered nothing.
pub(crate) fn check() -> Result<Verdict> {
    let text = fs::read_to_string(table_path()).context("cannot read xtask/icount-ratios.txt")?;
    let table = Table::parse(&text).context("xtask/icount-ratios.txt")?;
    let kernel = match requirements() {
        Ok(kernel) => kernel,
        Err(reason) => return Ok(Verdict::Skipped(format!("{reason:#}"))),
    };
    if let Some(reason) = table.other_conditions(&conditions(&kernel)?) {
        return Ok(Verdict::Skipped(reason));
    }
    let ratios = ratios(&kernel)?;
    table.print(&ratios);
    let lines = table.broken_by(&ratios);
    Ok(match lines.is_empty() {
        true => Verdict::Held,
        false => Verdict::Broken(lines),
    })
}

fn requirements() -> Result<PathBuf> {
    guest::requirements(&["wrk"])
}

fn table_path() -> PathBuf {
    root().join("xtask/icount-ratios.txt")
}

/// What the ratios depend on beside the code: the compiler's exact version, and the line of the guest's
/// kernel and of the emulator, whose corrections cost nothing that shows.
fn conditions(kernel: &Path) -> Result<BTreeMap<String, String>> {
    let compiler = first_line("rustc", "--version")?;
    let emulator = first_line("qemu-system-x86_64", "--version")?;
    let image = kernel.file_name().unwrap_or_default().to_string_lossy();
    let line = |text: &str| release_line(text).with_context(|| format!("no version in {text:?}"));
    let all = [
        ("compiler", compiler),
        ("kernel", line(&image)?),
        ("emulator", line(&emulator)?),
    ];
    Ok(all.map(|(name, value)| (name.to_owned(), value)).into())
}

fn first_line(program: &str, argument: &str) -> Result<String> {
    let mut command = Command::new(program);
    let output = command.arg(argument).current_dir(root()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The first two parts of the first version in a text: `vmlinuz-6.12.117+deb12` has 6.12.
fn release_line(text: &str) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
    let versions = text.split(|letter| !is_part(letter));
    let version = versions
        .into_iter()
        .find(|word| word.trim_matches('.').contains('.'))?;
    let mut parts = version.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// What each path costs now. The two guests run at once: what they count is the same on a busy machine.
fn ratios(kernel: &Path) -> Result<BTreeMap<String, f64>> {
    let programs = &Programs::build()?;
    let serving = Options::of(&["yardstick", "hello", "ringway"], false);
    let passing_on = Options::of(&["yardstick", "ringway"], true);
    let (serving, passing_on) = std::thread::scope(|scope| {
        let other = scope.spawn(|| measure(&passing_on, programs, kernel));
        let serving = measure(&serving, programs, kernel);
        (serving, other.join())
    });
    let passing_on = passing_on.ok().context("a guest's thread panicked")??;
    let serving = serving?;
    for measured in [&serving, &passing_on] {
        measured.require_all()?;
        ensure!(measured.skipped == 0, "not all of the contestants exist");
    }
    let ratio = |path: &HotPath| {
        let measured = if path.is_proxy { &passing_on } else { &serving };
        Ok((path.name.to_owned(), ratio_of(path, measured)?))
    };
    PATHS.iter().map(ratio).collect()
}

fn ratio_of(path: &HotPath, measured: &Measured) -> Result<f64> {
    let count = |name: &str| {
        let count = measured.results.count(name);
        count.with_context(|| format!("{name} was not measured"))
    };
    Ok(count(path.contestant)? / count(&path.yardstick())?)
}

/// The file: a line for each condition and each path, `#` before what is for people.
#[derive(Debug, PartialEq)]
struct Table {
    conditions: BTreeMap<String, String>,
    ratios: BTreeMap<String, f64>,
}

const CONDITIONS: [&str; 3] = ["compiler", "kernel", "emulator"];

impl Table {
    fn parse(text: &str) -> Result<Table> {
        let (mut conditions, mut ratios) = (BTreeMap::new(), BTreeMap::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let parts = line.split_once(char::is_whitespace);
            let (name, value) = parts.with_context(|| format!("line {number}: no value"))?;
            let value = value.trim();
            if CONDITIONS.contains(&name) {
                conditions.insert(name.to_owned(), value.to_owned());
            } else if PATHS.iter().any(|path| path.name == name) {
                let ratio: f64 = value
                    .parse()
                    .ok()
                    .filter(|ratio| *ratio > 0.0)
                    .with_context(|| format!("line {number}: {value:?} is no ratio"))?;
                ratios.insert(name.to_owned(), ratio);
            } else {
                bail!("line {number}: {name:?} is no path that is measured");
            }
        }
        let has = |name: &&str| conditions.contains_key(*name) || ratios.contains_key(*name);
        let names = CONDITIONS.into_iter().chain(PATHS.map(|path| path.name));
        let missing: Vec<&str> = names.filter(|name| !has(name)).collect();
        ensure!(
            missing.is_empty(),
            "no line for {}: cargo xtask icount --update writes them",
            missing.join(", ")
        );
        Ok(Table { conditions, ratios })
    }

    fn write(&self) -> String {
        let mut text = "\
# Instructions for a request, the kernel's included, as a ratio to those of yardstick-DRIVER; of proxy, relay-DRIVER.
# `cargo xtask icount --check` fails where one has grown by more than 2 %; `--update` writes this anew.
"
        .to_owned();
        for name in CONDITIONS {
            let value = self.conditions.get(name).map_or("", String::as_str);
            _ = writeln!(text, "{name:12} {value}");
        }
        text.push('\n');
        for path in &PATHS {
            let ratio = self.ratios.get(path.name).copied().unwrap_or(f64::NAN);
            _ = writeln!(text, "{:12} {ratio:.3}", path.name);
        }
        text
    }

    /// Why the table says nothing here, if that is so.
    fn other_conditions(&self, here: &BTreeMap<String, String>) -> Option<String> {
        let other = self.conditions.iter().find_map(|(name, table)| {
            let here = here.get(name).map_or("unknown", String::as_str);
            (here != table)
                .then(|| format!("the table is for the {name} {table}, and here is {here}"))
        });
        other.map(|other| format!("{other}: cargo xtask icount --update makes it this one's"))
    }

    fn print(&self, now: &BTreeMap<String, f64>) {
        println!(
            "{:32}{:>8}{:>8}{:>9}",
            "times the yardstick", "was", "is", "change"
        );
        for path in &PATHS {
            let (Some(was), Some(is)) = (self.ratios.get(path.name), now.get(path.name)) else {
                continue;
            };
            let change = (is / was - 1.0) * 100.0;
            println!("{:32}{was:>8.3}{is:>8.3}{change:>+8.1}%", path.what);
            if is / was < 1.0 - TOLERANCE {
                println!("  less than it was: --update keeps it so");
            }
        }
    }

    /// A line for each path that costs too much.
    fn broken_by(&self, now: &BTreeMap<String, f64>) -> Vec<String> {
        let broken = PATHS.iter().filter_map(|path| {
            let (was, is) = (self.ratios.get(path.name)?, now.get(path.name)?);
            let more = is / was - 1.0;
            (more > TOLERANCE).then(|| {
                format!(
                    "{}: {is:.3} times the instructions of {}, and it was {was:.3}: {:.1} % more. If that is \
                     meant, `cargo xtask icount --update` renews xtask/icount-ratios.txt",
                    path.what,
                    path.yardstick(),
                    more * 100.0
                )
            })
        });
        broken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let conditions = CONDITIONS.map(|name| (name.to_owned(), format!("{name} 1.2 (x)")));
        let ratios = PATHS.map(|path| (path.name.to_owned(), 1.25));
        Table {
            conditions: conditions.into(),
            ratios: ratios.into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Table::parse(&table().write()).unwrap(), table());
    }

    #[test]
    fn the_committed_table_is_whole() {
        let text = fs::read_to_string(table_path()).unwrap();
        Table::parse(&text).unwrap();
    }

    #[test]
    fn a_table_with_a_fault_is_refused_with_its_line() {
        let check = |line: &str, expect: &str| {
            let text = format!("{}{line}\n", table().write());
            let error = Table::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("hello-uring", "line 13: no value");
        check("hello-uring 0", "line 13: \"0\" is no ratio");
        check("hello-uring much", "is no ratio");
        check("helo-uring 1.2", "\"helo-uring\" is no path");
        let error = Table::parse("compiler x\n").unwrap_err().to_string();
        assert!(
            error.contains("no line for kernel, emulator, hello-uring"),
            "{error}"
        );
    }

    #[test]
    fn only_what_costs_more_than_the_tolerance_breaks_it() {
        let with = |name: &str, ratio: f64| {
            let mut ratios = table().ratios;
            ratios.insert(name.to_owned(), ratio);
            table().broken_by(&ratios)
        };
        assert_eq!(with("serve-epoll", 1.25 * 1.019), Vec::<String>::new());
        assert_eq!(with("serve-epoll", 1.0), Vec::<String>::new());
        let lines = with("proxy-epoll", 1.3);
        assert_eq!(lines.len(), 1);
        let told = [
            "1 KiB passed on on epoll: 1.300 times the instructions of relay-epoll",
            "it was 1.250: 4.0 % more",
            "--update",
        ];
        assert!(told.iter().all(|part| lines[0].contains(part)), "{lines:?}");
    }

    #[test]
    fn under_other_conditions_the_table_says_nothing() {
        let mut here = table().conditions;
        assert_eq!(table().other_conditions(&here), None);
        here.insert("compiler".to_owned(), "rustc 2.0".to_owned());
        let reason = table().other_conditions(&here).unwrap();
        let expect = "the table is for the compiler compiler 1.2 (x), and here is rustc 2.0";
        assert!(reason.starts_with(expect), "{reason}");
    }

    #[test]
    fn corrections_of_a_release_are_no_other_release() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(release_line(text).as_deref(), expect, "{text}");
        };
        check("vmlinuz-6.12.117+deb12-cloud-amd64", Some("6.12"));
        check(
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)",
            Some("7.2"),
        );
        check("vmlinuz-custom", None);
    }
}
