//! The emulated machine: its kernel, its memory disk, and one run of it.

mod initramfs;
pub(crate) mod two_nodes;

use crate::build::metadata;
use crate::process::find;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub(crate) use initramfs::Archive;

/// Tried in this order: the same kernel everywhere where it can be had.
const KERNEL_PACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// The guest's kernel, if what it takes to run it is here, and `programs` besides.
///
/// # Errors
/// What is missing.
pub(crate) fn requirements(programs: &[&str]) -> Result<PathBuf> {
    for program in ["qemu-system-x86_64", "busybox", "ldd"]
        .iter()
        .chain(programs)
    {
        find(program).with_context(|| format!("{program} is not installed"))?;
    }
    kernel()
}

/// A program without what only debuggers read, in `folder`: it goes through the emulator's memory.
///
/// # Errors
/// When `strip` fails.
pub(crate) fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join("ringway");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(program);
    if !strip.status().context("cannot run strip")?.success() {
        bail!("cannot strip {}", program.display());
    }
    Ok(stripped)
}

/// A kernel image from Debian's packages, kept among the build products.
fn kernel() -> Result<PathBuf> {
    let cache = metadata()?.target_directory.join("icount-cache");
    std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    // Tests run side by side, and on a new machine each of them finds no kernel: one fetches it, the
    // others wait here.
    let turn = File::create(cache.join("lock")).context("cannot make the cache's lock")?;
    turn.lock().context("cannot lock the cache")?;
    if let Some(image) = cached_image(&cache) {
        return Ok(image);
    }
    for package in KERNEL_PACKAGES {
        // The package is empty and depends on the one of the moment.
        let output = Command::new("apt-cache")
            .args(["depends", package])
            .output();
        let text = output
            .context("no apt-cache: the guest's kernel comes from Debian")?
            .stdout;
        let text = String::from_utf8_lossy(&text);
        let depends = |line: &str| line.trim().strip_prefix("Depends: ").map(str::to_owned);
        let Some(real) = text
            .lines()
            .filter_map(depends)
            .find(|to| to.starts_with("linux-image-"))
        else {
            continue;
        };
        eprintln!("fetching {real}, once");
        let download = Command::new("apt-get")
            .args(["download", "--quiet", &real])
            .current_dir(&cache)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run apt-get")?;
        if !download.success() {
            bail!("apt-get download {real} failed");
        }
        unpack(&cache).context("cannot unpack the kernel's package")?;
        return cached_image(&cache).context("the kernel package holds no image");
    }
    bail!(
        "apt knows no package {}: run apt-get update",
        KERNEL_PACKAGES.join(" or ")
    );
}

/// Unpacks what was fetched. The kernel's folder appears with all that is in it, or not at all.
fn unpack(cache: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(cache)?;
    for entry in std::fs::read_dir(cache)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(&path).arg(folder.path());
            if !unpack.status().context("cannot run dpkg-deb")?.success() {
                bail!("dpkg-deb cannot unpack {}", path.display());
            }
            std::fs::remove_file(&path)?;
        }
    }
    std::fs::rename(folder.keep(), cache.join("kernel"))?;
    Ok(())
}

fn cached_image(cache: &Path) -> Option<PathBuf> {
    let boot = std::fs::read_dir(cache.join("kernel/boot")).ok()?;
    let mut images = boot.filter_map(|entry| Some(entry.ok()?.path()));
    images.find(|path| path.to_string_lossy().contains("/vmlinuz-"))
}

/// The kernel's modules of these names, unpacked, in this order.
///
/// # Errors
/// When the kernel's package has none of that name.
pub(crate) fn modules(kernel: &Path, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let package = kernel.parent().and_then(Path::parent);
    let modules = package.context("the kernel's package")?.join("lib/modules");
    let load = |name: &&str| {
        let file = format!("{name}.ko.xz");
        let path = find_below(&modules, &file)?;
        let path = path.with_context(|| format!("the kernel's package has no {file}"))?;
        let unpacked = Command::new("xz").args(["-dc"]).arg(path).output();
        let unpacked = unpacked.context("cannot run xz")?;
        if !unpacked.status.success() {
            bail!("xz cannot unpack {file}");
        }
        Ok((format!("{name}.ko"), unpacked.stdout))
    };
    names.iter().map(load).collect()
}

fn find_below(folder: &Path, file: &str) -> Result<Option<PathBuf>> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == file {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

/// Boots the archive on one CPU and hands each line that it prints to `each`, until it powers off.
///
/// One instruction is one nanosecond of the guest's clock (`shift=0`), and time in which its CPU is
/// idle is skipped (`sleep=off`): so what its scheduler accounts as run time is an exact count.
pub(crate) fn boot(
    kernel: &Path,
    archive: &Archive,
    memory_mib: u32,
    deadline: Duration,
    each: impl FnMut(&str),
) -> Result<()> {
    let mut guest = Command::new("qemu-system-x86_64");
    guest
        .args([
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
        ])
        .args(["-cpu", "max", "-smp", "1", "-m", &memory_mib.to_string()])
        .args(["-nic", "none"]);
    run(guest, kernel, archive, deadline, each)
}

/// Adds to the emulator's command what every guest has, and runs it until it powers off.
fn run(
    mut guest: Command,
    kernel: &Path,
    archive: &Archive,
    deadline: Duration,
    mut each: impl FnMut(&str),
) -> Result<()> {
    let disk = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    std::fs::write(disk.path(), archive.bytes()).context("cannot write the guest's disk")?;
    let mut guest = guest
        .args(["-nographic", "-no-reboot", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(disk.path())
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let output = guest.stdout.take().context("the guest has no console")?;
    let (to_us, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if to_us
                .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let end = Instant::now() + deadline;
    let finished = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => each(&line),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !finished {
        guest.kill().context("cannot stop the guest")?;
    }
    guest.wait().context("cannot wait for the guest")?;
    drop(lines);
    reader
        .join()
        .ok()
        .context("the console's reader panicked")?;
    if !finished {
        bail!(
            "the guest was not done after {} s: allow more with --timeout",
            deadline.as_secs()
        );
    }
    Ok(())
}
