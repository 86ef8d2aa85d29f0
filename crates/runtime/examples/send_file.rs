//! A small file service over TCP: a path in, eight bytes of length (big-endian) and the file out.
//!
//! ```sh
//! cargo run --release -p ringway-runtime --example send_file -- /srv/files 127.0.0.1:7001 auto auto
//! printf 'docs/readme.txt\n' | nc 127.0.0.1 7001
//! ```
//!
//! The arguments: the root, which no path leads out of; the address; the driver (`auto`, `uring`,
//! `epoll`); and the way that files go (`auto`, `sendfile`, `splice`, `copy`, `naive-copy`, `mmap`,
//! `msg-zerocopy`, `send-zc`, `registered`). What can't be served is answered by closing the
//! connection. Each file that was sent is told on standard output.

use ringway_runtime::{
    Directory, FileKind, Io, ListenOptions, Runtime, RuntimeOptions, Symlinks, TcpListener,
    TcpStream, TransferMethod, TransferReport, now, sleep, spawn,
};
use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Of a path, its end included.
const PATH_LIMIT_BYTES: usize = 4096;

/// How long a client may be silent, or take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("which folder?")?;
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7001".to_owned())
        .parse()?;
    let io = match arguments.next().as_deref() {
        None | Some("auto") => Io::Auto,
        Some("uring") => Io::Uring,
        Some("epoll") => Io::Epoll,
        Some(other) => return Err(format!("unknown driver {other}: auto, uring or epoll").into()),
    };
    let method = arguments.next().unwrap_or_else(|| "auto".to_owned());
    let method = TransferMethod::from_name(&method)
        .ok_or_else(|| format!("{method} is no way to send a file"))?;
    let root = Directory::open(Path::new(&root))?;
    let mut runtime = Runtime::new(&RuntimeOptions {
        io,
        ..RuntimeOptions::default()
    })?;
    if let Some(driver) = runtime.driver() {
        println!("{driver}");
    }
    runtime.block_on(async move {
        let listener = TcpListener::bind(address, &ListenOptions::default())?;
        println!("files on {}", listener.local_address()?);
        serve(listener, root, method).await
    })?
}

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    root: Directory,
    method: TransferMethod,
) -> Result<(), Box<dyn Error>> {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let root = root.clone();
                spawn(async move {
                    match answer(stream, &root, method).await {
                        Ok(report) => println!(
                            "{}: {} bytes, {} zero-copy sends, {} of them copied",
                            report.method,
                            report.bytes,
                            report.zero_copy_sends,
                            report.copied_sends
                        ),
                        Err(error) => eprintln!("{error}"),
                    }
                });
            }
            // Out of descriptors, most likely: they come back when connections end.
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    root: &Directory,
    method: TransferMethod,
) -> io::Result<TransferReport> {
    stream.set_deadline(Some(now() + PATIENCE));
    let path = receive_path(&mut stream).await?;
    // The kernel resolves it beneath the root: nothing here looks for `..`.
    let (file, metadata) = root.find_beneath(&path, Symlinks::Beneath).await?;
    if metadata.kind != FileKind::Regular {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.send(metadata.bytes.to_be_bytes().to_vec()).await?;
    let sent = send(&mut stream, &file, metadata.bytes, method).await;
    if sent.is_err() {
        // Fewer bytes than were promised must not look like an end in good order.
        stream.reset();
    }
    sent
}

/// As [`TcpStream::send_file`], with a deadline for each wait in place of one for all.
async fn send(
    stream: &mut TcpStream,
    file: &ringway_runtime::File,
    bytes: u64,
    method: TransferMethod,
) -> io::Result<TransferReport> {
    use ringway_runtime::{FileTransfer, Step};
    let mut transfer = FileTransfer::new(file, 0..bytes, method);
    loop {
        match transfer.step(stream).await? {
            Step::Sent(_) | Step::Waited => {}
            Step::Full => {
                stream.set_deadline(Some(now() + PATIENCE));
                transfer.wait(stream).await?;
            }
            Step::Done => break,
        }
    }
    transfer.settle(stream).await?;
    Ok(transfer.report())
}

/// Everything up to the end of a line, or of what the client sends.
async fn receive_path(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut path = Vec::new();
    while let Some(buffer) = stream.receive().await? {
        match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                path.extend_from_slice(&buffer[..end]);
                break;
            }
            None => path.extend_from_slice(&buffer),
        }
        if path.len() >= PATH_LIMIT_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    Ok(path)
}
