//! What a run does: whom it asks what, how often, from how many connections.

use ringway_http::head::Method;
use ringway_runtime::Io;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// A run of the load generator.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who is asked.
    pub target: Target,
    /// What is said on the connections.
    pub talk: Talk,
    /// What is asked, one after the other on each connection, beginning anew at the end. Not empty.
    /// Without HTTP, [`Talk::requests`].
    pub requests: Vec<Request>,
    /// Connections held open, over all threads; at least one.
    pub connections: usize,
    /// Threads that share them; at least one, at most `connections`.
    pub threads: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// Requests sent together before their answers are awaited; at least one. Only in a closed
    /// loop.
    pub pipeline: usize,
    /// Whether a connection is used again. If not, each request opens one, and the time of the
    /// handshake belongs to its latency.
    pub keep_alive: bool,
    /// How long the run is measured.
    pub duration: Duration,
    /// After how many requests it ends before that time. Those of the warm-up aren't among them.
    pub request_count: Option<u64>,
    /// How long it runs before that, unmeasured.
    pub warm_up: Duration,
    /// How long an answer, or a connection, may take.
    pub timeout: Duration,
    /// Which driver the load generator itself runs on.
    pub io: Io,
}

/// What is said on the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// HTTP/1.1: each request has an answer, which is read to its end.
    Http,
    /// So many bytes to a peer that sends them back; the next when the last have come, and are those
    /// that were sent.
    PingPong(usize),
    /// Bytes without end to a peer that takes them, so many with each send. What it sends meanwhile is
    /// read and counted too.
    Bulk(usize),
}

impl Talk {
    /// As many bytes as can be sent at once.
    pub const BYTES_MAX: usize = 16 << 20;

    /// What is sent over TCP without HTTP. Neighbours in it differ, and each differs from the next: so
    /// bytes that come back in another order, or twice, are noticed.
    pub fn requests(self) -> Vec<Request> {
        let request = |first: usize, count: usize| Request {
            bytes: (first..first + count)
                .map(|place| (place % 251) as u8)
                .collect(),
            is_head: false,
        };
        match self {
            Talk::Http => Vec::new(),
            Talk::PingPong(count) => vec![request(0, count), request(128, count)],
            Talk::Bulk(count) => vec![request(0, count)],
        }
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// The next when the last was answered: as fast as the server is.
    Closed,
    /// So many a second over all connections, by the clock, whatever the server does. Latency
    /// counts from when a request was due.
    Open(f64),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether its URL is one of plain TCP: `tcp://HOST:PORT`.
    pub is_tcp: bool,
    /// What `Host` says.
    pub authority: String,
    /// Connections are spread over all of them.
    pub addresses: Vec<SocketAddr>,
    /// Path and query of the URL, for requests that have no target of their own.
    pub path: String,
}

/// Why a target isn't one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetError {
    /// `https` and other schemes.
    Scheme(String),
    /// No host, or characters that no URL has.
    Malformed,
    /// `tcp://` without a port, or with a path.
    NotAPort,
    /// The name has no address.
    Unresolved(String),
}

impl fmt::Display for TargetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Scheme(scheme) => {
                write!(
                    out,
                    "{scheme}:// isn't spoken here yet, only http:// and tcp://"
                )
            }
            TargetError::Malformed => {
                write!(out, "not a URL such as http://127.0.0.1:8080/index.html")
            }
            TargetError::NotAPort => write!(out, "not a port such as tcp://127.0.0.1:7000"),
            TargetError::Unresolved(what) => write!(out, "{what}"),
        }
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// From a URL; without a scheme, `http://` is meant. Resolves the name, so this may wait.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let (is_tcp, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("tcp", rest)) => (true, rest),
            Some((scheme, _)) => return Err(TargetError::Scheme(scheme.to_owned())),
            None => (false, url),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let is_printable = rest.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !is_printable {
            return Err(TargetError::Malformed);
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        if is_tcp && !(has_port && path.is_empty()) {
            return Err(TargetError::NotAPort);
        }
        let with_port = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let addresses: Vec<SocketAddr> = with_port
            .to_socket_addrs()
            .map_err(|error| TargetError::Unresolved(format!("{authority}: {error}")))?
            .collect();
        // A name for both families is one server: the first address, like everybody's.
        let addresses = addresses.into_iter().take(1).collect();
        Ok(Target {
            is_tcp,
            authority: authority.to_owned(),
            addresses,
            path: match path.as_bytes().first() {
                Some(b'/') => path.to_owned(),
                _ => format!("/{path}"),
            },
        })
    }
}

/// One request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Head and body as they are sent.
    pub bytes: Vec<u8>,
    /// Decides how the answer is framed.
    pub is_head: bool,
}

/// Why a request can't be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError(String);

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

impl Request {
    /// A request for `path`; `headers` are lines such as `Accept: text/html`, and stand after those
    /// that are always there.
    ///
    /// # Errors
    /// When the parts make no request: a line break in a header, a space in the path.
    pub fn new(
        method: &str,
        target: &Target,
        path: &str,
        headers: &[String],
        body: &[u8],
        keep_alive: bool,
    ) -> Result<Request, RequestError> {
        let refuse = |why: &str, what: &str| Err(RequestError(format!("{why}: {what:?}")));
        let is_token = |text: &str| {
            let is_mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || is_mark(b))
        };
        if !is_token(method) {
            return refuse("not a method", method);
        }
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("not a path", path);
        }
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let has = |name: &str| {
            let named = |line: &String| {
                let found = line.split(':').next().unwrap_or_default();
                found.eq_ignore_ascii_case(name)
            };
            headers.iter().any(named)
        };
        if !has("Host") {
            head.push_str(&format!("Host: {}\r\n", target.authority));
        }
        for line in headers {
            let is_sound = line.split_once(':').is_some_and(|(name, _)| is_token(name))
                && !line
                    .bytes()
                    .any(|byte| byte.is_ascii_control() && byte != b'\t');
            if !is_sound {
                return refuse("not a header such as \"Accept: text/html\"", line);
            }
            head.push_str(line);
            head.push_str("\r\n");
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        let wants_length = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if wants_length {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Ok(Request {
            bytes: [head.as_bytes(), body].concat(),
            is_head: method == "HEAD",
        })
    }

    pub(crate) fn method(&self) -> Method<'static> {
        if self.is_head {
            Method::Head
        } else {
            Method::Get
        }
    }
}

/// Reads a mix of requests: on each line a method and a path, or a path alone; `#` begins a comment.
/// A number and `x` before it repeat a line (`3x GET /popular`).
///
/// # Errors
/// The number of the line and what is wrong with it; a mix without a request.
pub fn parse_mix(
    text: &str,
    target: &Target,
    headers: &[String],
    body: &[u8],
    keep_alive: bool,
) -> Result<Vec<Request>, RequestError> {
    /// As many repetitions as one line may ask for.
    const REPEAT_MAX: usize = 1000;
    let mut requests = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace().peekable();
        let repeated = words
            .peek()
            .and_then(|word| word.strip_suffix('x'))
            .and_then(|count| count.parse::<usize>().ok());
        if repeated.is_some() {
            words.next();
        }
        let words: Vec<&str> = words.collect();
        let (method, path) = match words[..] {
            [] if repeated.is_none() => continue,
            [path] => ("GET", path),
            [method, path] => (method, path),
            _ => {
                let message = format!("line {}: not a method and a path: {line:?}", index + 1);
                return Err(RequestError(message));
            }
        };
        let request = Request::new(method, target, path, headers, body, keep_alive)
            .map_err(|error| RequestError(format!("line {}: {error}", index + 1)))?;
        let count = repeated.unwrap_or(1).min(REPEAT_MAX);
        requests.extend(std::iter::repeat_n(request, count));
    }
    if requests.is_empty() {
        return Err(RequestError("there is no request in it".to_owned()));
    }
    Ok(requests)
}

#[cfg(test)]
mod tests;
