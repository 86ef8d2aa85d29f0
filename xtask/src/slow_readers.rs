//! `cargo xtask slow-readers`: what a crowd costs that asks for a large file and takes its time.
//!
//! Every client has a small receive buffer and reads a little in each round, so that nearly all of
//! the file waits on the server's side for as long as this runs. The file is sparse: it takes no
//! disk, and the page cache that it fills isn't the server's memory. Nothing here is timed.

use crate::build::release_program;
use crate::process::{Server, allowed_cpus, find, free_port};
use crate::skip::skip;
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a client's kernel may hold for it, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 8 << 10;
/// An answer, or a part of one, that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measure the server's memory while many slow clients read a large file
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many clients
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,

    /// The size of the file, in bytes
    #[arg(long, default_value_t = 1_000_000_000)]
    bytes: u64,

    /// How often each client reads a little
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,

    /// The most that the server may have for itself, in MiB; beyond it this fails
    #[arg(long, default_value_t = 64)]
    limit_mib: u64,

    /// Which drivers
    #[arg(long, default_value = "uring,epoll", value_delimiter = ',', value_parser = ["uring", "epoll"])]
    io: Vec<String>,

    /// Which ways to send, by their names. Of zero-copy sends all but a few become copies here, because
    /// their blocks are the kernel's until a client has read
    #[arg(
        long,
        default_value = "auto,copy,splice,msg-zerocopy,send-zc",
        value_delimiter = ','
    )]
    methods: Vec<String>,

    /// A program that was built before, instead of a release build
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Builds, and measures each way on each driver.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(program) = ["taskset", "setpriv"]
        .into_iter()
        .find(|it| find(it).is_none())
    {
        skip("slow-readers", &format!("{program} is not installed"));
        return Ok(());
    }
    let program = match &options.program {
        Some(program) => program.clone(),
        None => release_program()?,
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).context("cannot make a folder")?;
    let file = std::fs::File::create(root.join("file")).context("cannot make a file")?;
    file.set_len(options.bytes)
        .context("cannot make a sparse file")?;
    println!(
        "{} clients, a file of {} bytes",
        options.clients, options.bytes
    );
    println!(
        "{:8}{:12}{:>12}{:>12}",
        "MiB", "method", "before", "at most"
    );
    let mut worst = 0;
    for io in &options.io {
        for method in &options.methods {
            let (before, most) = measure(options, &program, scratch.path(), io, method)
                .with_context(|| format!("{method} on {io}"))?;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            println!("{io:8}{method:12}{:>12.1}{:>12.1}", mib(before), mib(most));
            worst = worst.max(most);
        }
    }
    let limit = options.limit_mib << 20;
    ensure!(
        worst <= limit,
        "{worst} bytes are more than {} MiB",
        options.limit_mib
    );
    Ok(())
}

/// The server's own memory before anybody came, and the most while they read.
fn measure(
    options: &Options,
    program: &Path,
    scratch: &Path,
    io: &str,
    method: &str,
) -> Result<(u64, u64)> {
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let mut command: Vec<OsString> = vec![program.into(), "serve".into()];
    command.push(scratch.join("root").into());
    let flags = [
        "--io",
        io,
        "--workers",
        "1",
        "--listen",
        &listen,
        "--transfer",
        method,
        // A round takes as long as the machine needs for it.
        "--write-stall-timeout",
        "10m",
    ];
    command.extend(flags.map(OsString::from));
    let cpu = *allowed_cpus()?.first().context("no CPU")?;
    let server = Server::start(&command, port, cpu, &scratch.join("server.log"))?;
    let before = server.anonymous_bytes()?;
    let mut clients = Vec::new();
    for number in 0..options.clients {
        let client = Client::ask(port).with_context(|| format!("client {}", number + 1))?;
        clients.push(client);
    }
    let mut most = before;
    for _ in 0..options.rounds {
        for client in &mut clients {
            client.sip()?;
        }
        most = most.max(server.anonymous_bytes()?);
    }
    // They were all served to the last round, and none of them has much.
    let had = clients.iter().map(|client| client.received).max();
    ensure!(
        had.unwrap_or(0) < options.bytes,
        "the file is too small: a client has all of it"
    );
    drop(clients);
    server.stop()?;
    Ok((before, most))
}

/// A connection whose kernel holds so little for this side. Made so before it is there: a window that
/// shrinks below what the other side sends at once would be waited for, with pauses of its own.
pub(crate) fn thin_stream(port: u16, receive_buffer_bytes: usize) -> Result<TcpStream> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, receive_buffer_bytes)?;
    rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(TcpStream::from(socket))
}

/// A client that takes its time.
struct Client {
    stream: TcpStream,
    received: u64,
}

impl Client {
    fn ask(port: u16) -> Result<Client> {
        let mut stream = thin_stream(port, RECEIVE_BUFFER_BYTES)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).context("no answer")?;
        let line = String::from_utf8_lossy(&head);
        ensure!(line == "HTTP/1.1 200", "answered {line}");
        Ok(Client {
            stream,
            received: 0,
        })
    }

    /// Reads a little.
    fn sip(&mut self) -> Result<()> {
        let count = self.stream.read(&mut [0; RECEIVE_BUFFER_BYTES]);
        let count = count.context("nothing more comes")?;
        ensure!(count > 0, "cut after {} bytes", self.received);
        self.received += count as u64;
        Ok(())
    }
}
