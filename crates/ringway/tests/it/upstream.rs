//! Servers behind the proxy, played by threads of the test byte for byte, and the proxy before them.
//!
//! A script answers for one connection and returns when that is to end; what it panics with fails
//! the test. Every read and write has a deadline.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::find;
use crate::server::{Io, PATIENCE, Server};

/// A server of the test's own, which serves each connection in a thread. Dropping it waits for all
/// of them.
pub(crate) struct Upstream {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A connection of the proxy's.
pub(crate) struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Everything up to the empty line, without it.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The lines of the trailer section.
    pub(crate) trailers: Vec<String>,
}

impl Upstream {
    /// Has `script` serve every connection.
    pub(crate) fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Upstream {
        Upstream::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a socket that listens already.
    pub(crate) fn start_on(
        listener: TcpListener,
        script: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Upstream {
        let address = listener.local_addr().unwrap();
        let (is_over, accepted) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ends, count, script) = (
            Arc::clone(&is_over),
            Arc::clone(&accepted),
            Arc::new(script),
        );
        let thread = thread::spawn(move || serve(&listener, &ends, &count, &script));
        Upstream {
            address,
            is_over,
            accepted,
            thread: Some(thread),
        }
    }

    /// Answers every request on every connection with these bytes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Upstream {
        let answer = answer.into();
        Upstream::start(move |mut peer| {
            while peer.request().is_some() {
                peer.send(&answer);
            }
        })
    }

    /// Answers every request with its head and its body, as its own content.
    pub(crate) fn echoing() -> Upstream {
        Upstream::start(|mut peer| {
            while let Some(request) = peer.request() {
                let is_head = request.head.starts_with("HEAD ");
                let content = [request.head.as_bytes(), b"\n\n", &request.body].concat();
                peer.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                ));
                peer.send(if is_head { &[] } else { &content[..] });
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }
}

type Script = dyn Fn(Peer) + Send + Sync;

fn serve(
    listener: &TcpListener,
    ends: &AtomicBool,
    count: &AtomicUsize,
    script: &Arc<impl Fn(Peer) + Send + Sync + 'static>,
) {
    let connections: Mutex<Vec<JoinHandle<()>>> = Mutex::default();
    while let Ok((stream, _)) = listener.accept() {
        if ends.load(Ordering::Acquire) {
            break;
        }
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let peer = Peer {
            stream,
            input: Vec::new(),
        };
        count.fetch_add(1, Ordering::AcqRel);
        let script: Arc<Script> = Arc::clone(script) as Arc<Script>;
        let thread = thread::spawn(move || script(peer));
        connections.lock().unwrap().push(thread);
    }
    for connection in connections.into_inner().unwrap() {
        connection.join().expect("the script of an upstream");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if thread::panicking() {
            return;
        }
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))), "the upstream failed");
    }
}

impl Peer {
    /// The next request with its body; `None` when the proxy closes the connection before one.
    #[track_caller]
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        self.rest_of(head)
    }

    /// The body of the request with this head, which was the last that was read.
    #[track_caller]
    pub(crate) fn rest_of(&mut self, head: String) -> Option<Request> {
        let lower = head.to_ascii_lowercase();
        let field = |name: &str| {
            let mut lines = lower.split("\r\n").skip(1);
            lines.find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(": ")
                    .map(str::to_owned)
            })
        };
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        match (field("content-length"), field("transfer-encoding")) {
            (Some(length), None) => body = self.take(length.parse().unwrap())?,
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked", "{head}");
                loop {
                    let size = usize::from_str_radix(&self.line()?, 16).expect("a size of a chunk");
                    if size == 0 {
                        break;
                    }
                    body.extend(self.take(size)?);
                    assert_eq!(self.line()?, "");
                }
                trailers =
                    std::iter::from_fn(|| self.line().filter(|line| !line.is_empty())).collect();
            }
            (None, None) => {}
            both => panic!("{both:?} in {head}"),
        }
        Some(Request {
            head,
            body,
            trailers,
        })
    }

    /// The next head, without its last two line ends.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = find(&self.input, b"\r\n\r\n") {
                break end;
            }
            if !self.receive() {
                assert!(self.input.is_empty(), "cut in a head: {:?}", self.input);
                return None;
            }
        };
        let head: Vec<u8> = self.input.drain(..end + 4).collect();
        Some(String::from_utf8(head[..end].to_vec()).unwrap())
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.input, b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.receive() {
                return None;
            }
        }
    }

    /// The next `count` bytes; `None` when there are less.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.input.len() < count {
            if !self.receive() {
                return None;
            }
        }
        let rest = self.input.split_off(count);
        Some(std::mem::replace(&mut self.input, rest))
    }

    /// Whether there was more before the end of the connection.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("the proxy sends nothing: {error}"),
            }
        }
    }

    /// Sends bytes, which the proxy may refuse.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// How the connection ends, whatever comes before: `Ok` in good order.
    pub(crate) fn end(&mut self) -> Result<(), ErrorKind> {
        let read = io::copy(&mut self.stream, &mut io::sink());
        read.map(drop).map_err(|error| error.kind())
    }

    /// Waits for the end of the connection, whatever comes before.
    pub(crate) fn wait_for_end(&mut self) {
        while self.receive() {}
    }

    /// What has come and wasn't read yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Stays silent for this long, in which the proxy neither sends anything nor goes.
    #[track_caller]
    pub(crate) fn expect_nothing_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let heard = self.stream.read(&mut [0]);
        let is_silent = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(heard.as_ref().is_err_and(is_silent), "{heard:?}");
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Says that nothing more comes, and goes on to read.
    pub(crate) fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, linger).unwrap();
    }
}

/// `[upstream.app]` with these servers.
pub(crate) fn config(servers: &[String], keys: &str) -> String {
    format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\nproxy = \"app\"\n\
         [upstream.app]\nservers = {servers:?}\n{keys}\n"
    )
}

/// `ringway run` with this configuration and so many workers.
pub(crate) fn command(io: Io, workers: usize, config: &str) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "--io", io.word(), "--workers", &workers.to_string()]);
    command.arg("--config").arg(path);
    (command, folder)
}

/// A proxy of two workers with this configuration.
#[track_caller]
pub(crate) fn run(io: Io, config: &str) -> Server {
    let (command, _folder) = command(io, 2, config);
    Server::start(command)
}

/// A proxy before this upstream, with further keys of `[upstream.app]`.
#[track_caller]
pub(crate) fn proxy(io: Io, upstream: &Upstream, keys: &str) -> Server {
    run(io, &config(&[upstream.address().to_string()], keys))
}
