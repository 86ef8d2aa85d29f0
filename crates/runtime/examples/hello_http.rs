//! A minimal HTTP server: parse a request's head, answer with a fixed kilobyte.
//!
//! ```sh
//! cargo run --release -p ringway-runtime --example hello_http -- --listen 127.0.0.1:8000 --io auto
//! ```

use ringway_runtime::{
    Buffer, Chunk, Io, ListenOptions, Runtime, RuntimeOptions, TcpListener, TcpStream, now, spawn,
};
use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(60);
/// The longest request head that is accepted, in bytes.
const HEAD_LIMIT: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let mut address = "127.0.0.1:8000".to_owned();
    let mut io = Io::Auto;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{flag} needs a value"))?;
        match (flag.as_str(), value.as_str()) {
            ("--listen", _) => address = value,
            ("--io", "auto") => io = Io::Auto,
            ("--io", "uring") => io = Io::Uring,
            ("--io", "epoll") => io = Io::Epoll,
            _ => return Err(format!("unknown option: {flag} {value}").into()),
        }
    }
    let address = address.parse()?;
    let mut runtime = Runtime::new(&RuntimeOptions {
        io,
        ..RuntimeOptions::default()
    })?;
    if let Some(driver) = runtime.driver() {
        println!("{driver}");
    }
    runtime.block_on(async move {
        let listener = TcpListener::bind(address, &ListenOptions::default())?;
        println!("http://{}/", listener.local_address()?);
        let answer: Rc<[u8]> = answer().into();
        loop {
            match listener.accept().await {
                Ok(stream) => drop(spawn(serve(stream, Rc::clone(&answer)))),
                Err(error) => {
                    eprintln!("accept: {error}");
                    ringway_runtime::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })?
}

fn answer() -> Vec<u8> {
    let body = "x".repeat(1024);
    let head = "HTTP/1.1 200 OK\r\nServer: hello\r\nContent-Type: text/plain\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn serve(mut stream: TcpStream, answer: Rc<[u8]>) -> io::Result<()> {
    // The part of a head that came without its end.
    let mut partial = Vec::new();
    loop {
        stream.set_deadline(Some(now() + IDLE));
        let Some(mut buffer) = stream.receive().await? else {
            return Ok(());
        };
        while let Some(length) = head_length(&mut partial, &buffer)? {
            buffer.advance(length);
            stream.send(Chunk::shared(&answer)).await?;
        }
    }
}

/// How many bytes of `buffer` end the head that is being received; `None` when it goes on, and
/// then the bytes were kept in `partial`.
fn head_length(partial: &mut Vec<u8>, buffer: &Buffer) -> io::Result<Option<usize>> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let before = partial.len();
    if before > 0 {
        partial.extend_from_slice(buffer);
    }
    let bytes = if before > 0 {
        partial.as_slice()
    } else {
        buffer
    };
    let mut headers = [const { MaybeUninit::uninit() }; 32];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => {
            partial.clear();
            Ok(Some(length - before))
        }
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => {
            if before == 0 {
                partial.extend_from_slice(buffer);
            }
            Ok(None)
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
