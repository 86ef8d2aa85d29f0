//! A client that sends what a test tells it to, byte for byte, and reads answers strictly.
//!
//! Every read and write has a deadline. An answer that isn't sound HTTP/1.1 fails the test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::server::PATIENCE;

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Received and not yet read.
    input: Vec<u8>,
}

/// An answer: its head taken apart, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A request without a body; each of `fields` is a line.
pub(crate) fn request(method: &str, target: &str, fields: &[&str]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
    for field in fields {
        text += field;
        text += "\r\n";
    }
    text + "\r\n"
}

/// A socket that isn't connected yet, to be given options or an address before.
///
/// The servers that other tests start meanwhile don't inherit it: one that did would keep the
/// connection open, and have a descriptor less of the few that its own test leaves it.
pub(crate) fn ipv4_socket() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("a connection")
    }

    /// For a server that may refuse.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Client> {
        TcpStream::connect_timeout(&address, PATIENCE).map(Client::over)
    }

    /// A client over a socket that was opened elsewhere.
    pub(crate) fn over(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            input: Vec::new(),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server takes it");
    }

    /// For bytes that the server may refuse.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    #[track_caller]
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a GET and reads its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask(&request("GET", target, &[]))
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        self.response_to(request.split(' ').next().unwrap())
    }

    /// The next answer, which isn't to a HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next answer, to a request with `method`.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        let mut response = self.head();
        let status = response.status;
        assert_eq!(
            response.field("Transfer-Encoding"),
            None,
            "no file needs chunks"
        );
        // RFC 9112 §6.3: what has no content whatever its head says.
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return response;
        }
        let length = response
            .field("Content-Length")
            .expect("an answer with a length");
        response.body = self.take(length.parse().expect("a length is a number"));
        response
    }

    /// The next final answer, to a request with `method`, however its content is delimited. Its
    /// trailers are the last of its fields.
    #[track_caller]
    pub(crate) fn passed_response_to(&mut self, method: &str) -> Response {
        let mut response = self.head();
        while response.status < 200 && response.status != 101 {
            response = self.head();
        }
        let status = response.status;
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return response;
        }
        let length = response.field("Content-Length").map(str::to_owned);
        match (length, response.field("Transfer-Encoding")) {
            (Some(length), None) => response.body = self.take(length.parse().unwrap()),
            (None, Some("chunked")) => {
                let (body, trailers) = self.chunks();
                response.body = body;
                response
                    .fields
                    .extend(trailers.iter().map(|line| field(line)));
            }
            (None, None) => response.body = self.rest().expect("an orderly end"),
            both => panic!("{both:?}"),
        }
        response
    }

    /// Content in chunks, and the lines behind it.
    #[track_caller]
    pub(crate) fn chunks(&mut self) -> (Vec<u8>, Vec<String>) {
        let mut content = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).expect("the size of a chunk");
            if size == 0 {
                break;
            }
            content.extend(self.take(size));
            assert_eq!(self.line(), "", "behind a chunk");
        }
        let line = || Some(self.line()).filter(|line| !line.is_empty());
        (content, std::iter::from_fn(line).collect())
    }

    /// The next line, without its end.
    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.input, b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(
                self.receive().expect("a line"),
                "closed before the end of a line"
            );
        }
    }

    /// Sends a request and reads its answer, however that is delimited.
    #[track_caller]
    pub(crate) fn ask_through(&mut self, request: &str) -> Response {
        self.send(request);
        self.passed_response_to(request.split(' ').next().unwrap())
    }

    /// The head of the next answer.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = find(&self.input, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.receive().expect("an answer") {
                panic!(
                    "closed in the middle of a head: {:?}",
                    String::from_utf8_lossy(&self.input)
                );
            }
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        parse_head(&head[..end - 4])
    }

    /// The next `count` bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            let more = self.receive().expect("the rest of the content");
            assert!(more, "closed after {} of {count} bytes", self.input.len());
        }
        let rest = self.input.split_off(count);
        std::mem::replace(&mut self.input, rest)
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.receive()? {}
        Ok(std::mem::take(&mut self.input))
    }

    /// Checks that the server closes the connection in good order, and sends nothing before.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest().expect("an orderly end");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Checks that the connection ends, in whatever way, and says what came before.
    #[track_caller]
    pub(crate) fn expect_cut(&mut self) -> Vec<u8> {
        loop {
            match self.receive() {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("never cut"),
                Ok(false) | Err(_) => return std::mem::take(&mut self.input),
            }
        }
    }

    /// Waits that long for something to read, or for the end. The way for a slow client to be
    /// slow.
    pub(crate) fn is_answered_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let answered = match self.receive() {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        answered || !self.input.is_empty()
    }

    /// Whether something has been received that wasn't read yet.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Reads at most `count` bytes as they come; none at the end.
    pub(crate) fn sip(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if self.input.is_empty() {
            let mut buffer = vec![0; count];
            let received = retry(|| self.stream.read(&mut buffer))?;
            buffer.truncate(received);
            return Ok(buffer);
        }
        let count = count.min(self.input.len());
        Ok(self.input.drain(..count).collect())
    }

    /// Whether there was more.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64 << 10];
        let count = retry(|| self.stream.read(&mut buffer))?;
        self.input.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

impl Response {
    /// The value of a field, which may not be there twice.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(sent, _)| sent.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {:?}", self.fields);
        value
    }

    /// Whether the server says that it closes the connection.
    pub(crate) fn closes(&self) -> bool {
        self.field("Connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The names and values but for those that change from answer to answer.
    pub(crate) fn lasting_fields(&self) -> Vec<(String, String)> {
        let lasting = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("Date");
        let mut fields: Vec<_> = self.fields.iter().filter(lasting).cloned().collect();
        fields.sort();
        fields
    }
}

fn parse_head(head: &[u8]) -> Response {
    let head = std::str::from_utf8(head).expect("a head of ASCII");
    let bad = |byte: char| byte.is_ascii_control() && !"\r\n\t".contains(byte);
    assert!(!head.contains(bad), "{head:?}");
    assert_eq!(
        head.matches('\n').count(),
        head.matches("\r\n").count(),
        "{head:?}"
    );
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let mut words = status_line.splitn(3, ' ');
    let version = words.next().unwrap().to_owned();
    assert!(
        version == "HTTP/1.1" || version == "HTTP/1.0",
        "{status_line:?}"
    );
    let status = words
        .next()
        .and_then(|status| status.parse().ok())
        .expect(status_line);
    assert!(
        words.next().is_some(),
        "no space behind the status: {status_line:?}"
    );
    Response {
        version,
        status,
        fields: lines.map(field).collect(),
        body: Vec::new(),
    }
}

#[track_caller]
fn field(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("no field: {line:?}"));
    assert!(!name.is_empty() && !name.contains(' '), "{line:?}");
    (name.to_owned(), value.trim().to_owned())
}

/// Where `needle` begins in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Again when a signal interrupted it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
