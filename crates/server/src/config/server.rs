//! The texts of an upstream: a server with its words, a range of addresses, a probe, a status.
//!
//! Each is parsed once, when the configuration is read, and its `Display` writes it as the
//! configuration does. No name is resolved here.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringway_http::target;

use super::problem::{Fault, quote};
use super::value::{duration, nearest, show_duration};
use crate::files::headers::is_token;

/// What `sun_path` of a Unix socket's address holds beside its final zero (unix(7)).
pub(super) const UNIX_PATH_BYTES: usize = 107;
/// The longest name that DNS has (RFC 1035 §2.3.4), without the final dot.
const HOST_BYTES: usize = 253;
const SERVER_EXAMPLE: &str = "such as \"10.0.0.1:8080\", \"app.internal:8080 weight=3\" or \
                              \"unix:/run/app.sock\"";
const WORDS: [&str; 4] = ["weight", "backup", "slow_start", "drain"];
const LARGEST_WEIGHT: u32 = 256;
const LONGEST_START: Duration = Duration::from_secs(3600);

/// A server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Where it is.
    pub address: ServerAddress,
    /// Its share, in proportion to the other servers' weights; 1 to 256.
    pub weight: u32,
    /// Used only while none of the others can be.
    pub backup: bool,
    /// Gets nothing new but what is bound to it.
    pub drain: bool,
    /// For how long its share grows after it came back; zero for not at all.
    pub slow_start: Duration,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A name, in lower case, which DNS leads to addresses, and a port.
    Name(String, u16),
    /// A name, in lower case, under which DNS lists servers with ports and weights (RFC 2782).
    Service(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Server {
    /// Reads `ADDRESS`, then words.
    pub(super) fn parse(line: &str) -> Result<Server, Fault> {
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next() else {
            return Err(Fault::new("a server without an address", SERVER_EXAMPLE));
        };
        let mut server = Server {
            address: ServerAddress::parse(address)?,
            weight: 1,
            backup: false,
            drain: false,
            slow_start: Duration::ZERO,
        };
        let mut seen = Vec::new();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            if seen.contains(&name) {
                return Err(Fault::new(format!("{name} twice"), "once is enough"));
            }
            seen.push(name);
            server.read_word(name, value)?;
        }
        Ok(server)
    }

    fn read_word(&mut self, name: &str, value: Option<&str>) -> Result<(), Fault> {
        match (name, value) {
            ("backup", None) => self.backup = true,
            ("drain", None) => self.drain = true,
            ("weight", Some(text)) => match text.parse() {
                Ok(weight @ 1..=LARGEST_WEIGHT) => self.weight = weight,
                Ok(0) => return Err(Fault::new("weight=0", "`drain` sends nothing new there")),
                _ => {
                    let hint = format!("a whole number from 1 to {LARGEST_WEIGHT}");
                    return Err(Fault::new(format!("{} is no weight", quote(text)), hint));
                }
            },
            ("slow_start", Some(text)) => {
                let fault = |message| Fault::new(message, "such as slow_start=30s, up to 1h");
                self.slow_start = duration(text).map_err(|message| fault(message.to_owned()))?;
                if self.slow_start > LONGEST_START {
                    return Err(fault(format!("{} is out of range", quote(text))));
                }
            }
            ("backup" | "drain", Some(_)) => {
                let message = format!("{name} takes no value");
                return Err(Fault::new(message, format!("write {name} alone")));
            }
            ("weight" | "slow_start", None) => {
                let example = if name == "weight" { "3" } else { "30s" };
                let message = format!("{name} needs a value");
                return Err(Fault::new(message, format!("such as {name}={example}")));
            }
            _ => {
                let hint = match nearest(name, WORDS.into_iter()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "weight=N, backup, slow_start=TIME or drain".to_owned(),
                };
                return Err(Fault::new(format!("unknown word {}", quote(name)), hint));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.address)?;
        if self.weight != 1 {
            write!(out, " weight={}", self.weight)?;
        }
        if self.backup {
            out.write_str(" backup")?;
        }
        if self.slow_start > Duration::ZERO {
            write!(out, " slow_start={}", show_duration(self.slow_start))?;
        }
        match self.drain {
            true => out.write_str(" drain"),
            false => Ok(()),
        }
    }
}

impl ServerAddress {
    pub(super) fn parse(text: &str) -> Result<ServerAddress, Fault> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_address(path);
        }
        if let Some(name) = text.strip_prefix("srv:") {
            return service_address(name);
        }
        if text.contains(',') {
            let message = format!("{} is more than one server", quote(text));
            let hint = "an element of the list for each; on the command line, --to for each";
            return Err(Fault::new(message, hint));
        }
        let (rest, port) = match text.split_once("://") {
            None => (text, None),
            Some(("http", rest)) => (rest, Some(80)),
            Some(("https", _)) => {
                let hint = "put http:// there, or a TLS proxy in between";
                return Err(Fault::new("https upstreams aren't supported yet", hint));
            }
            Some((scheme, _)) => {
                let message = format!("unknown scheme {}", quote(scheme));
                return Err(Fault::new(message, SERVER_EXAMPLE));
            }
        };
        let rest = rest
            .strip_suffix('/')
            .filter(|_| port.is_some())
            .unwrap_or(rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some((_, host)) = authority.rsplit_once('@') {
            // Not repeated: there may be a password in it.
            let message = format!("credentials before {}", quote(host));
            let hint = "leave them out: `request_headers` in a [[route]] can set Authorization";
            return Err(Fault::new(message, hint));
        }
        if rest.contains(['/', '?', '#']) {
            let message = format!("{} is more than a host and a port", quote(text));
            let hint = "a server has no path: `rewrite` in a [[route]] changes paths";
            return Err(Fault::new(message, hint));
        }
        host_and_port(rest, port)
    }
}

fn unix_address(path: &str) -> Result<ServerAddress, Fault> {
    if path.is_empty() {
        return Err(Fault::new(
            "unix: without a path",
            "such as \"unix:/run/app.sock\"",
        ));
    }
    if path.len() > UNIX_PATH_BYTES {
        let message = format!("the path of the socket has {} bytes", path.len());
        return Err(Fault::new(message, "the kernel takes at most 107"));
    }
    Ok(ServerAddress::Unix(path.into()))
}

/// RFC 2782: `_service._protocol.name`.
fn service_address(name: &str) -> Result<ServerAddress, Fault> {
    let mut labels = name.split('.');
    let is_marked = |label: Option<&str>| label.is_some_and(|label| label.starts_with('_'));
    if !is_marked(labels.next()) || !is_marked(labels.next()) || !is_host_name(name) {
        let message = format!("{} isn't the name of a service", quote(name));
        return Err(Fault::new(
            message,
            "such as \"srv:_http._tcp.app.internal\"",
        ));
    }
    Ok(ServerAddress::Service(without_dot(name)))
}

fn host_and_port(text: &str, default: Option<u16>) -> Result<ServerAddress, Fault> {
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        let message = format!("{} needs brackets and a port", quote(text));
        return Err(Fault::new(message, format!("such as \"[{ip}]:8080\"")));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match (port.map(str::parse::<u16>), default) {
        (Some(Ok(port @ 1..)), _) | (None, Some(port)) => port,
        (Some(_), _) => {
            let message = format!("{} isn't a port", quote(port.unwrap_or_default()));
            return Err(Fault::new(message, "a port is a number from 1 to 65535"));
        }
        (None, None) if text.parse::<u16>().is_ok() => {
            let message = format!("{} is a port without a host", quote(text));
            return Err(Fault::new(message, format!("such as \"localhost:{text}\"")));
        }
        (None, None) => {
            let message = format!("{} has no port", quote(text));
            return Err(Fault::new(message, format!("such as \"{text}:8080\"")));
        }
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<IpAddr>().ok(),
    };
    match ip {
        Some(ip) => Ok(ServerAddress::Socket(SocketAddr::new(ip, port))),
        None if is_host_name(host) && !is_nearly_an_address(host) => {
            Ok(ServerAddress::Name(without_dot(host), port))
        }
        None => {
            let message = format!("{} is neither a name nor an address", quote(host));
            Err(Fault::new(message, SERVER_EXAMPLE))
        }
    }
}

/// Names as DNS and hosts files have them: letters, digits, hyphens, and the underscore that
/// containers' names have (RFC 1123 §2.1, RFC 2181 §11).
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-')
    };
    name.len() <= HOST_BYTES && name.split('.').all(is_label)
}

/// `10.0.0.256` is no name: no domain ends in digits alone (RFC 3696 §2).
fn is_nearly_an_address(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Socket(address) => write!(out, "{address}"),
            ServerAddress::Name(name, port) => write!(out, "{name}:{port}"),
            ServerAddress::Service(name) => write!(out, "srv:{name}"),
            ServerAddress::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// What a request's hash is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    Address,
    /// The path, decoded.
    Path,
    /// The field of this name.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
}

impl HashBy {
    pub(super) fn parse(text: &str) -> Result<HashBy, Fault> {
        const EXAMPLE: &str = "\"address\", \"path\", \"header NAME\" or \"cookie NAME\"";
        match text.split_once(' ') {
            None if text == "address" => Ok(HashBy::Address),
            None if text == "path" => Ok(HashBy::Path),
            Some(("header", name)) if is_token(name) => Ok(HashBy::Header(name.to_owned())),
            Some(("cookie", name)) if is_token(name) => Ok(HashBy::Cookie(name.to_owned())),
            Some((kind @ ("header" | "cookie"), name)) => {
                let message = format!("{} isn't the name of a {kind}", quote(name));
                Err(Fault::new(message, EXAMPLE))
            }
            _ => {
                let message = format!("{} is nothing to hash by", quote(text));
                Err(Fault::new(message, EXAMPLE))
            }
        }
    }
}

impl fmt::Display for HashBy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashBy::Address => out.write_str("address"),
            HashBy::Path => out.write_str("path"),
            HashBy::Header(name) => write!(out, "header {name}"),
            HashBy::Cookie(name) => write!(out, "cookie {name}"),
        }
    }
}

/// A range of addresses: one, or those that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix_bits: u8,
}

impl AddressRange {
    pub(super) fn parse(text: &str) -> Result<AddressRange, Fault> {
        const EXAMPLE: &str = "such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\"";
        let fault = || {
            let message = format!("{} isn't a range of addresses", quote(text));
            Fault::new(message, EXAMPLE)
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fault())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits.map(str::parse::<u8>) {
            None => all,
            Some(Ok(bits)) if bits <= all => bits,
            Some(_) => {
                let hint = format!("behind the slash stands a number from 0 to {all}");
                return Err(Fault::new(fault().message, hint));
            }
        };
        let range = AddressRange {
            address: first_of(address, prefix_bits),
            prefix_bits,
        };
        if range.address != address {
            let message = format!("{} has bits set behind its prefix", quote(text));
            return Err(Fault::new(message, format!("did you mean \"{range}\"?")));
        }
        Ok(range)
    }

    /// Whether `address` is one of them. An IPv4 address that came in over an IPv6 socket
    /// (`::ffff:192.0.2.7`) is looked at as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && first_of(address, self.prefix_bits) == self.address
    }
}

/// The first address of the range with this prefix.
fn first_of(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix_bits))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix_bits))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix_bits == all {
            true => write!(out, "{}", self.address),
            false => write!(out, "{}/{}", self.address, self.prefix_bits),
        }
    }
}

/// What a server is asked to find out whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET of this target.
    Http(String),
    /// A connection.
    Tcp,
}

impl Probe {
    /// Reads the probe; `None` for `off`.
    pub(super) fn parse(text: &str) -> Result<Option<Probe>, Fault> {
        const EXAMPLE: &str = "\"off\", \"tcp\" or \"http /healthz\"";
        match text.split_once(' ') {
            None if text == "off" => Ok(None),
            None if text == "tcp" => Ok(Some(Probe::Tcp)),
            // As a flag has it: `--health /healthz`.
            _ if text.starts_with('/') => Probe::parse(&format!("http {text}")),
            Some(("http", path)) => {
                let path_only = path.split('?').next().unwrap_or(path);
                let is_sound = path.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
                    && !path.contains('#')
                    && target::Path::parse(path_only.as_bytes()).is_ok();
                match is_sound {
                    true => Ok(Some(Probe::Http(path.to_owned()))),
                    false => Err(Fault::new(
                        format!("{} isn't a path that can be asked for", quote(path)),
                        "such as \"http /healthz\"; other characters as %HH",
                    )),
                }
            }
            None if text == "http" => Err(Fault::new("http needs a path", "\"http /healthz\"")),
            _ => Err(Fault::new(
                format!("{} isn't a check", quote(text)),
                EXAMPLE,
            )),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http(target) => write!(out, "http {target}"),
            Probe::Tcp => out.write_str("tcp"),
        }
    }
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl StatusRange {
    pub(super) fn parse(text: &str) -> Result<StatusRange, Fault> {
        let range = match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => {
                let first = u16::from(class - b'0') * 100;
                Some((first, first + 99))
            }
            _ => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                first.parse().ok().zip(last.parse().ok())
            }
        };
        match range {
            Some((first, last)) if (100..=last).contains(&first) && last <= 599 => {
                Ok(StatusRange { first, last })
            }
            _ => Err(Fault::new(
                format!("{} isn't a status", quote(text)),
                "such as \"200\", \"200-204\" or \"2xx\"",
            )),
        }
    }

    /// Whether `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(out, "{first}"),
            (first, last) if first % 100 == 0 && last == first + 99 => {
                write!(out, "{}xx", first / 100)
            }
            (first, last) => write!(out, "{first}-{last}"),
        }
    }
}

/// What `Host` says to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client asked for.
    Client,
    /// The server's own name, as the configuration has it.
    Upstream,
    /// This.
    Text(String),
}

impl HostPolicy {
    pub(super) fn parse(text: &str) -> Result<HostPolicy, Fault> {
        match text {
            "client" => Ok(HostPolicy::Client),
            "upstream" => Ok(HostPolicy::Upstream),
            _ if is_authority(text) => Ok(HostPolicy::Text(text.to_owned())),
            _ => Err(Fault::new(
                format!("{} can't be the value of Host", quote(text)),
                "\"client\", \"upstream\", or a host such as \"app.internal\"",
            )),
        }
    }
}

/// A host, with or without a port.
fn is_authority(text: &str) -> bool {
    host_and_port(text, Some(80)).is_ok()
}

impl fmt::Display for HostPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            HostPolicy::Client => "client",
            HostPolicy::Upstream => "upstream",
            HostPolicy::Text(text) => text,
        })
    }
}
