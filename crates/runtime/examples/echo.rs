//! An echo server: what a newcomer to io_uring looks for first.
//!
//! ```sh
//! cargo run --release -p ringway-runtime --example echo -- 127.0.0.1:7000 auto
//! ```

use ringway_runtime::{Io, ListenOptions, Runtime, RuntimeOptions, TcpListener, TcpStream, spawn};
use std::error::Error;
use std::io;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7000".to_owned())
        .parse()?;
    let io = match arguments.next().as_deref() {
        None | Some("auto") => Io::Auto,
        Some("uring") => Io::Uring,
        Some("epoll") => Io::Epoll,
        Some(other) => return Err(format!("unknown driver {other}: auto, uring or epoll").into()),
    };
    // One runtime is one worker. For more cores, start one on each of several threads and give
    // each a listener of one `ListenSocket::bind_group`.
    let mut runtime = Runtime::new(&RuntimeOptions {
        io,
        ..RuntimeOptions::default()
    })?;
    if let Some(driver) = runtime.driver() {
        println!("{driver}");
    }
    runtime.block_on(async move {
        let listener = TcpListener::bind(address, &ListenOptions::default())?;
        println!("echoing on {}", listener.local_address()?);
        loop {
            match listener.accept().await {
                // Each connection is a task of its own, on this same thread.
                Ok(stream) => drop(spawn(echo(stream))),
                // Out of descriptors, most likely: they come back when connections end.
                Err(error) => {
                    eprintln!("accept: {error}");
                    ringway_runtime::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })?
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // The received buffer itself is sent, without a copy, and goes back to its pool when the
    // kernel has taken it. A deadline keeps a peer that doesn't read from holding on to it.
    loop {
        stream.set_deadline(Some(ringway_runtime::now() + Duration::from_secs(60)));
        match stream.receive().await? {
            Some(buffer) => stream.send(buffer).await?,
            None => return stream.flush().await,
        }
    }
}
