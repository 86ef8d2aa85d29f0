//! A server for the benchmarks that no yardstick can be: it takes requests with bodies to their end
//! and counts requests and connections. A thread for each connection, for some hundred of them.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// What is asked for the counts.
const COUNTS_PATH: &str = "/counts";

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// What the server has counted, this question left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) requests: u64,
}

/// Serves until the process is ended.
pub(super) fn run(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("cannot listen")?;
    for connection in listener.incoming() {
        let connection = connection.context("cannot accept")?;
        // A client that leaves in the middle of something is no concern of the others.
        thread::spawn(move || _ = serve(connection));
    }
    Ok(())
}

fn serve(mut connection: TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(64 << 10, connection.try_clone()?);
    let mut is_counted = false;
    while let Some(request) = Request::read(&mut input)? {
        let answer = match request.path.as_str() {
            COUNTS_PATH => format!("{} {}", CONNECTIONS.load(Relaxed), REQUESTS.load(Relaxed)),
            _ => {
                // Not when it is accepted: whoever only looks whether we listen doesn't count.
                if !is_counted {
                    CONNECTIONS.fetch_add(1, Relaxed);
                    is_counted = true;
                }
                REQUESTS.fetch_add(1, Relaxed);
                "taken".to_owned()
            }
        };
        let (length, head) = (answer.len(), "HTTP/1.1 200 OK\r\nContent-Length: ");
        connection.write_all(format!("{head}{length}\r\n\r\n{answer}").as_bytes())?;
    }
    Ok(())
}

/// Asks the server on this port what it has counted.
pub(super) fn counts(port: u16) -> Result<Counts> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let head = format!("GET {COUNTS_PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.write_all(head.as_bytes())?;
    connection.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let numbers = answer.split_once("\r\n\r\n").and_then(|(_, body)| {
        let (connections, requests) = body.split_once(' ')?;
        Some((connections.parse().ok()?, requests.parse().ok()?))
    });
    let (connections, requests) =
        numbers.with_context(|| format!("the counting server said {answer:?}"))?;
    Ok(Counts {
        connections,
        requests,
    })
}

/// What matters here of a request, whose body was read and forgotten.
struct Request {
    path: String,
}

impl Request {
    /// The next one; `None` where the client has ended.
    fn read(input: &mut impl BufRead) -> Result<Option<Request>> {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line
            .split(' ')
            .nth(1)
            .context("no request line")?
            .to_owned();
        let mut body_bytes = 0;
        loop {
            line.clear();
            input.read_line(&mut line)?;
            let field = line.trim_end().split_once(':');
            match field.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
                None if line == "\r\n" => break,
                None => bail!("no field: {line:?}"),
                Some((name, value)) if name == "content-length" => body_bytes = value.parse()?,
                Some((name, _)) if name == "transfer-encoding" => bail!("chunks aren't read here"),
                Some(_) => {}
            }
        }
        while body_bytes > 0 {
            let piece = input.fill_buf()?.len().min(body_bytes);
            if piece == 0 {
                bail!("the body has no end");
            }
            input.consume(piece);
            body_bytes -= piece;
        }
        Ok(Some(Request { path }))
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_is_read_to_the_end_of_its_body() {
        let mut input =
            &b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n"
                [..];
        let paths = [(); 3].map(|()| Request::read(&mut input).unwrap().map(|it| it.path));
        assert_eq!(paths, [Some("/a".to_owned()), Some("/b".to_owned()), None]);
    }

    #[test]
    fn a_request_that_is_cut_off_is_an_error() {
        for cut in [
            "POST /",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
            "a b c\r\nd\r\n\r\n",
        ] {
            let read = Request::read(&mut cut.as_bytes());
            assert!(read.is_err(), "{cut:?}");
        }
    }
}
