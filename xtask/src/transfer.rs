//! `cargo xtask transfer`: every way to send a file, compared by what it costs the server.
//!
//! The server is the runtime's example `send_file` on one CPU, the client a thread of this program
//! on another. Methods run in turns, round after round, so that what disturbs a machine for minutes
//! disturbs all of them; the cheapest run of each counts, because noise only ever adds. System
//! calls are counted in a run of their own: counting them costs.

use crate::build::{cargo, metadata};
use crate::own_network;
use crate::process::{Server, allowed_cpus, find, free_port};
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Compare every way to send a file: wall time, server CPU, system calls, switches, copies
///
/// Loopback only: there the kernel copies zero-copy sends after all, and the table says so.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of the file, with commas between them: a number with KB, MB or GB (decimal)
    #[arg(long, default_value = "100MB,1GB", value_delimiter = ',', value_parser = size)]
    sizes: Vec<u64>,

    /// Rounds over all methods
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Which drivers
    #[arg(long, default_value = "uring,epoll", value_delimiter = ',')]
    io: Vec<String>,

    /// Which methods, by their names
    #[arg(
        long,
        default_value = "naive-copy,copy,registered,mmap,sendfile,splice,msg-zerocopy,send-zc",
        value_delimiter = ','
    )]
    methods: Vec<String>,

    /// Instead: where one way becomes cheaper than the other, by sizes from 4 KB to 1 MB
    #[arg(long)]
    thresholds: bool,
}

/// What one method did with one file, the least of each over the rounds.
#[derive(Clone, Debug, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    switches: u64,
    /// Unknown without `perf`.
    calls: Option<u64>,
    /// What the server said of its last transfer.
    report: String,
}

/// Requests in one run: small files need more than one to be seen.
fn requests(size: u64) -> u64 {
    (64_000_000 / size.max(1)).clamp(1, 4_000)
}

/// Builds, enters a network namespace and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let missing = ["taskset", "setpriv"]
        .into_iter()
        .find(|program| find(program).is_none());
    if let Some(program) = missing {
        skip("transfer", &format!("{program} is not installed"));
        return Ok(());
    }
    let arguments = "build --release --package ringway-runtime --example send_file";
    let status = cargo().args(arguments.split(' ')).status();
    let status = status.context("cannot run cargo build")?;
    ensure!(status.success(), "cargo {arguments} failed");
    own_network::enter();
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let cpus = allowed_cpus()?;
    let bench = Bench {
        program: metadata()?
            .target_directory
            .join("release/examples/send_file"),
        scratch: scratch.path(),
        server_cpu: *cpus.first().context("no CPU")?,
    };
    let own = *cpus.last().context("no CPU")?;
    let mut set = rustix::thread::CpuSet::new();
    set.set(own);
    rustix::thread::sched_setaffinity(None, &set).context("sched_setaffinity")?;
    if find("perf").is_none() {
        skip("transfer system calls", "perf is not installed");
    }
    if options.thresholds {
        return bench.thresholds(options);
    }
    for io in &options.io {
        for &size in &options.sizes {
            let costs = bench.compare(io, &options.methods, size, options.rounds)?;
            println!("\n### {} on {io}\n", name_of(size));
            print_table(size, &costs);
        }
    }
    Ok(())
}

struct Bench<'a> {
    program: PathBuf,
    /// A folder for everything that is written.
    scratch: &'a Path,
    server_cpu: usize,
}

impl Bench<'_> {
    fn compare(
        &self,
        io: &str,
        methods: &[String],
        size: u64,
        rounds: u32,
    ) -> Result<Vec<(String, Cost)>> {
        self.write_file(size)?;
        let mut costs: Vec<(String, Cost)> = Vec::new();
        for method in methods {
            let counted = self.run(io, method, size, true)?;
            costs.push((method.clone(), counted));
        }
        for round in 0..rounds {
            for (method, best) in &mut costs {
                let cost = self.run(io, method, size, false)?;
                if round == 0 || cost.cpu < best.cpu {
                    (best.cpu, best.switches) = (cost.cpu, cost.switches);
                }
                if round == 0 || cost.wall < best.wall {
                    best.wall = cost.wall;
                }
            }
        }
        Ok(costs)
    }

    /// The file is read once by being written: it is in the page cache, as a served file is.
    fn write_file(&self, size: u64) -> Result<()> {
        let folder = self.scratch.join("root");
        std::fs::create_dir_all(&folder).context("cannot make a folder")?;
        let mut file = std::fs::File::create(folder.join("file")).context("cannot make a file")?;
        let block: Vec<u8> = (0..1 << 20)
            .map(|index: u32| ((index * 31) >> 3) as u8)
            .collect();
        let mut left = size;
        while left > 0 {
            let part = left.min(block.len() as u64) as usize;
            file.write_all(&block[..part])
                .context("cannot write a file")?;
            left -= part as u64;
        }
        file.sync_all().context("cannot write a file")
    }

    /// One server, asked once to be warm, and then measured.
    fn run(&self, io: &str, method: &str, size: u64, counts_calls: bool) -> Result<Cost> {
        let (port, log) = (free_port()?, self.scratch.join("server.log"));
        let address = format!("127.0.0.1:{port}");
        let command: Vec<OsString> = vec![
            self.program.clone().into(),
            self.scratch.join("root").into(),
            address.into(),
            io.into(),
            method.into(),
        ];
        let server = Server::start(&command, port, self.server_cpu, &log)?;
        fetch(port, size)?;
        let counter = counts_calls.then(|| Counter::start(&server)).flatten();
        let (cpu, switches) = (server.run_time(), server.context_switches());
        let start = Instant::now();
        for _ in 0..requests(size) {
            fetch(port, size)?;
        }
        let wall = start.elapsed();
        let cost = Cost {
            wall,
            cpu: server.run_time() - cpu,
            switches: server.context_switches().saturating_sub(switches),
            calls: counter.map(Counter::finish).transpose()?,
            report: String::new(),
        };
        server.stop()?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let report = said.lines().rfind(|line| line.contains(" zero-copy sends"));
        Ok(Cost {
            report: report.unwrap_or_default().to_owned(),
            ..cost
        })
    }

    /// Finds out from which size on one way is no dearer than the other, and prints that as lines of
    /// the configuration; and how many system calls each way takes.
    fn thresholds(&self, options: &Options) -> Result<()> {
        let methods = ["copy", "sendfile", "splice", "msg-zerocopy", "send-zc"].map(str::to_owned);
        let print_head = |title: &str, io: &str| {
            println!(
                "\n### {title}, on {io}\n\n| bytes | {} |",
                methods.join(" | ")
            );
            println!("| ---: |{}", " ---: |".repeat(methods.len()));
        };
        for io in &options.io {
            print_head("Server CPU for a connection with one file, in µs", io);
            let (mut rows, mut counts): (Vec<Vec<f64>>, Vec<String>) = Default::default();
            for size in THRESHOLD_SIZES {
                let costs = self.compare(io, &methods, size, options.rounds)?;
                let each = |cost: &Cost| cost.cpu.as_secs_f64() * 1e6 / requests(size) as f64;
                let row: Vec<f64> = costs.iter().map(|(_, cost)| each(cost)).collect();
                let cells: Vec<String> = row.iter().map(|cost| format!("{cost:.1}")).collect();
                println!("| {size} | {} |", cells.join(" | "));
                rows.push(row);
                let calls = |cost: &Cost| match cost.calls {
                    Some(calls) => format!("{:.1}", calls as f64 / requests(size) as f64),
                    None => "–".to_owned(),
                };
                let cells: Vec<String> = costs.iter().map(|(_, cost)| calls(cost)).collect();
                counts.push(format!("| {size} | {} |", cells.join(" | ")));
            }
            print_head("System calls for the same", io);
            println!("{}\n\n{}", counts.join("\n"), configuration(&rows, io));
        }
        Ok(())
    }
}

/// What is measured to find where one way becomes cheaper than another, in bytes.
const THRESHOLD_SIZES: [u64; 9] = [
    4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576,
];

/// A difference below this part means nothing.
const NOISE: f64 = 0.1;

/// The largest size that is copied.
const COPY_MOST: u64 = 256 << 10;

/// What `rows` (the costs of `copy`, `sendfile`, `splice`, `msg-zerocopy` and `send-zc` for each of
/// [`THRESHOLD_SIZES`]) mean for the configuration, and for who uses the library.
fn configuration(rows: &[Vec<f64>], io: &str) -> String {
    // Where the other way is clearly cheaper, and stays so; the size before that is the last for this
    // one. In doubt it is copied: what is copied can't change any more.
    let crossing = |other: usize| {
        let dearer = rows
            .iter()
            .rposition(|row| row[other] > row[0] * (1.0 - NOISE));
        dearer.map_or(0, |last| last + 1)
    };
    let copied = match crossing(1) {
        0 => 0,
        next => THRESHOLD_SIZES[next - 1].min(COPY_MOST),
    };
    let unit = |bytes: u64| match bytes {
        0 => "0B".to_owned(),
        bytes => format!("{}KiB", bytes >> 10),
    };
    let way = if io == "epoll" { 3 } else { 4 };
    let zero_copy = match THRESHOLD_SIZES.get(crossing(way)) {
        Some(size) => format!("zero_copy_min_bytes of the library: {}", unit(*size)),
        None => "sending without a copy is never cheaper here".to_owned(),
    };
    format!(
        "```toml\n# {io}\n[transfer]\ncopy_max_bytes = \"{}\"\n# {zero_copy}\n```",
        unit(copied)
    )
}

/// Asks for the file and reads all of it.
fn fetch(port: u16, size: u64) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"file\n").context("cannot ask")?;
    let mut space = vec![0; 1 << 20];
    let mut received = 0;
    loop {
        match stream.read(&mut space).context("cannot read")? {
            0 => break,
            count => received += count as u64,
        }
    }
    ensure!(received == size + 8, "{received} bytes came for {size}");
    Ok(())
}

/// `perf stat`, counting the system calls of a server.
struct Counter {
    child: Child,
}

impl Counter {
    fn start(server: &Server) -> Option<Counter> {
        let perf = find("perf")?;
        let processes: Vec<String> = server.members().iter().map(u32::to_string).collect();
        let mut command = Command::new(perf);
        command
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p"])
            .arg(processes.join(","))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.spawn().ok()?;
        // It says nothing when it is ready; a run is far longer than its start.
        std::thread::sleep(Duration::from_millis(300));
        Some(Counter { child })
    }

    fn finish(self) -> Result<u64> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).context("perf is gone")?;
        let output = self
            .child
            .wait_with_output()
            .context("cannot wait for perf")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let count = said
            .lines()
            .find(|line| line.contains("raw_syscalls"))
            .and_then(|line| line.split(',').next()?.trim().parse().ok());
        count.with_context(|| format!("perf said: {said}"))
    }
}

fn print_table(size: u64, costs: &[(String, Cost)]) {
    println!(
        "| method | wall | CPU for a GB | against naive-copy | system calls | for each MB | switches \
         | copies of a byte | zero-copy sends, copied after all |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    let count = requests(size);
    let per_gigabyte = |cost: &Cost| cost.cpu.as_secs_f64() * 1e12 / (size * count) as f64;
    let baseline = costs
        .iter()
        .find(|(method, _)| method == "naive-copy")
        .map(|(_, cost)| per_gigabyte(cost));
    for (method, cost) in costs {
        let calls = cost.calls.map(|calls| calls as f64 / count as f64);
        let against = baseline.map_or("–".to_owned(), |naive| {
            format!("{:.2}", per_gigabyte(cost) / naive)
        });
        let (copies, sends) = copies(method, &cost.report);
        println!(
            "| {method} | {:.0} ms | {:.0} ms | {against} | {} | {} | {} | {copies} | {sends} |",
            cost.wall.as_secs_f64() * 1e3 / count as f64,
            per_gigabyte(cost),
            calls.map_or("–".to_owned(), |calls| format!("{calls:.0}")),
            calls.map_or("–".to_owned(), |calls| format!(
                "{:.1}",
                calls * 1e6 / size as f64
            )),
            cost.switches / count,
        );
    }
}

/// How often the server's CPU moves each byte, and what the kernel said of zero-copy sends.
fn copies(method: &str, report: &str) -> (u32, String) {
    let number = |before: &str| -> u64 {
        let text = report.split(before).next().unwrap_or_default();
        let word = text.rsplit(' ').next().unwrap_or_default();
        word.parse().unwrap_or(0)
    };
    let (sends, copied) = (number(" zero-copy sends"), number(" of them copied"));
    match method {
        "sendfile" | "splice" => (0, "–".to_owned()),
        "mmap" => (1, "–".to_owned()),
        "msg-zerocopy" | "send-zc" => {
            let after_all = u32::from(copied > 0);
            (1 + after_all, format!("{copied} of {sends}"))
        }
        _ => (2, "–".to_owned()),
    }
}

fn size(text: &str) -> Result<u64> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    match number.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number * unit),
        _ => bail!("{text:?} is no size: say 100MB"),
    }
}

fn name_of(size: u64) -> String {
    match size {
        size if size.is_multiple_of(1_000_000_000) => format!("{} GB", size / 1_000_000_000),
        size if size.is_multiple_of(1_000_000) => format!("{} MB", size / 1_000_000),
        size => format!("{size} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expect) in [("100MB", 100_000_000), ("1GB", 1_000_000_000), ("12", 12)] {
            assert_eq!(size(text).unwrap(), expect);
        }
        for text in ["", "MB", "0GB", "1 GB", "-1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_way_ends_where_the_other_is_cheaper_for_good() {
        let check = |cheaper: [usize; 9], copied: &str, memory: &str| {
            let row = |way: usize| {
                let mut costs = vec![2.0; 5];
                costs[way] = 1.0;
                costs
            };
            let rows: Vec<Vec<f64>> = cheaper.into_iter().map(row).collect();
            let text = configuration(&rows, "uring");
            assert!(
                text.contains(&format!("copy_max_bytes = \"{copied}\"\n")),
                "{text}"
            );
            assert!(text.contains(memory), "{text}");
        };
        check([0, 0, 0, 1, 1, 1, 1, 1, 1], "16KiB", "never cheaper");
        // A single outlier below doesn't count, nor does one above the last crossing.
        check([0, 1, 0, 0, 1, 1, 1, 1, 1], "32KiB", "never cheaper");
        check([1; 9], "0B", "never cheaper");
        check([0; 9], "256KiB", "never cheaper");
        check([4; 9], "256KiB", "library: 4KiB");
        check([0, 0, 0, 0, 0, 4, 4, 4, 4], "256KiB", "library: 128KiB");
    }

    #[test]
    fn a_copy_after_all_is_counted() {
        let report = "msg-zerocopy: 100 bytes, 7 zero-copy sends, 6 of them copied";
        assert_eq!(copies("msg-zerocopy", report), (2, "6 of 7".to_owned()));
        let report = "send-zc: 100 bytes, 7 zero-copy sends, 0 of them copied";
        assert_eq!(copies("send-zc", report), (1, "0 of 7".to_owned()));
        assert_eq!(copies("sendfile", "").0, 0);
    }
}
