//! The routes of one listener, ready to be looked up: from a request to its [`Rule`].
//!
//! Hosts that are spelt out are found by their hash, so that a thousand sites cost no more than
//! one; the routes that name it, and those that take other hosts as well, are tried in the order of
//! the file. Nothing is allocated. A listener without routes has no cost at all: [`Table::only`].
//!
//! A request that can't be understood has no business here: its target was parsed before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use foldhash::fast::RandomState;
use ringway_http::head::RequestHead;
use ringway_http::target::Target;

use super::template::without_port;
use super::{Action, FixedAnswer, HostPattern, Matcher, Rule};
use crate::config::{Config, Route};

/// Longest host that is looked at whole; no name has more than 253 bytes. Of a longer one the end
/// is looked at, which is all that `*.example.org` asks for.
const HOST_BYTES: usize = 255;

/// The routes of a listener.
#[derive(Debug)]
pub struct Table {
    entries: Box<[Entry]>,
    /// For each host that is spelt out, the entries that do so; in the order of the file.
    hosts: Hosts,
    /// The entries that can be for other hosts too, in the order of the file.
    open: Box<[usize]>,
    /// Whether any entry asks for a host.
    asks_host: bool,
    /// What is done where none matches.
    last: Rule,
}

type Hosts = HashMap<Box<[u8]>, Box<[usize]>, RandomState>;

#[derive(Debug)]
struct Entry {
    /// Which of the configuration's routes it is.
    route: usize,
    matcher: Matcher,
    rule: Rule,
}

/// What routes look at in a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    head: &'a RequestHead<'a>,
    /// As [`normal_host`] makes it.
    host: &'a [u8],
    /// `None` where the target has none: `OPTIONS *`, CONNECT.
    path: Option<&'a [u8]>,
    query: &'a [u8],
}

impl Table {
    /// The routes of the listener with this index.
    pub fn new(config: &Config, listener: usize) -> Table {
        let is_for_it = |(_, route): &(usize, &Route)| route.listeners.contains(&listener);
        let routes = config.routes.iter().enumerate().filter(is_for_it);
        let entries: Box<[Entry]> = routes
            .map(|(index, route)| Entry {
                route: index,
                matcher: route.matcher.clone(),
                rule: route.rule.clone(),
            })
            .collect();
        let (hosts, open) = by_host(&entries);
        let nothing = Action::Status(FixedAnswer {
            status: 404,
            body: None,
        });
        let catch_all = config.listeners[listener].catch_all.clone();
        Table {
            hosts,
            open,
            asks_host: entries.iter().any(|entry| !entry.matcher.hosts.is_empty()),
            entries,
            last: Rule::new(catch_all.unwrap_or(nothing)),
        }
    }

    /// What is done with every request, where there are no routes: then nothing has to be looked
    /// up.
    #[inline]
    pub fn only(&self) -> Option<&Rule> {
        self.entries.is_empty().then_some(&self.last)
    }

    /// What is done with a request whose target was parsed as `target`: by the first route that
    /// matches, or what the listener names.
    pub fn find(&self, head: &RequestHead<'_>, target: &Target<'_>) -> &Rule {
        match self.find_entry(head, target) {
            Some(entry) => &entry.rule,
            None => &self.last,
        }
    }

    /// What is done where no route matches.
    pub fn last(&self) -> &Rule {
        &self.last
    }

    /// The index in the configuration of the route that matches.
    pub fn find_route(&self, head: &RequestHead<'_>, target: &Target<'_>) -> Option<usize> {
        self.find_entry(head, target).map(|entry| entry.route)
    }

    fn find_entry(&self, head: &RequestHead<'_>, target: &Target<'_>) -> Option<&Entry> {
        if self.entries.is_empty() {
            return None;
        }
        let mut buffer = HostBuffer::new();
        let host = match self.asks_host {
            true => buffer.normal_host(authority_of(head, target)),
            false => b"",
        };
        let asked = Asked::new(head, target, host);
        let matches = |entry: &Entry| entry.matcher.mismatch_beside_host(&asked).is_none();
        let mut named = self.hosts.get(host).map_or(&[][..], |named| named);
        let mut open = &self.open[..];
        // Both are in the order of the file, and so is what they are together.
        loop {
            let is_named = match (named, open) {
                ([], []) => return None,
                (_, []) => true,
                ([], _) => false,
                ([first, ..], [other, ..]) => first <= other,
            };
            let list = if is_named { &mut named } else { &mut open };
            let (index, rest) = list.split_first()?;
            *list = rest;
            let entry = &self.entries[*index];
            if (is_named || entry.matcher.takes_open_host(host)) && matches(entry) {
                return Some(entry);
            }
        }
    }
}

/// The entries that spell out a host, for each, and those that can be for any other.
fn by_host(entries: &[Entry]) -> (Hosts, Box<[usize]>) {
    let mut named: HashMap<Box<[u8]>, Vec<usize>, RandomState> = HashMap::default();
    let mut open = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let hosts = &entry.matcher.hosts;
        if hosts.is_empty() {
            open.push(index);
        }
        for pattern in hosts {
            let list = match pattern {
                HostPattern::Exact(name) => named.entry(name.as_bytes().into()).or_default(),
                HostPattern::Any | HostPattern::Beneath(_) => &mut open,
            };
            if list.last() != Some(&index) {
                list.push(index);
            }
        }
    }
    let named = named.into_iter().map(|(name, list)| (name, list.into()));
    (named.collect(), open.into())
}

impl<'a> Asked<'a> {
    /// `host` is what [`HostBuffer::normal_host`] made of the request's authority.
    pub(crate) fn new(
        head: &'a RequestHead<'a>,
        target: &'a Target<'a>,
        host: &'a [u8],
    ) -> Asked<'a> {
        let (path, query) = match target {
            Target::Resource(resource) => (
                Some(resource.path.as_bytes()),
                resource.query.unwrap_or_default(),
            ),
            Target::Authority(_) | Target::Asterisk => (None, &b""[..]),
        };
        Asked {
            head,
            host,
            path,
            query,
        }
    }
}

/// A condition of a route that a request doesn't meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch<'a> {
    Host,
    Path,
    Method,
    /// This field.
    Header(&'a super::HeaderPattern),
    /// This parameter.
    Query(&'a super::QueryPattern),
}

impl Matcher {
    /// The first condition that the request doesn't meet.
    pub(crate) fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch<'_>> {
        match self.takes_host(asked.host) {
            true => self.mismatch_beside_host(asked),
            false => Some(Mismatch::Host),
        }
    }

    fn mismatch_beside_host(&self, asked: &Asked<'_>) -> Option<Mismatch<'_>> {
        let takes_path = match asked.path {
            Some(path) => self.paths.iter().any(|pattern| pattern.matches(path)),
            None => false,
        };
        if !self.paths.is_empty() && !takes_path {
            return Some(Mismatch::Path);
        }
        let mut methods = self.methods.iter();
        if !self.methods.is_empty() && !methods.any(|method| method.matches(asked.head.method)) {
            return Some(Mismatch::Method);
        }
        let mut headers = self.headers.iter();
        if let Some(pattern) = headers.find(|pattern| !pattern.matches(asked.head)) {
            return Some(Mismatch::Header(pattern));
        }
        let mut query = self.query.iter();
        let missing = query.find(|pattern| !pattern.matches(asked.query));
        missing.map(Mismatch::Query)
    }

    fn takes_host(&self, host: &[u8]) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether it takes a host that it doesn't spell out.
    fn takes_open_host(&self, host: &[u8]) -> bool {
        let is_taken = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => false,
            HostPattern::Any | HostPattern::Beneath(_) => pattern.matches(host),
        };
        self.hosts.is_empty() || self.hosts.iter().any(is_taken)
    }
}

/// The authority that a request is for: that of its target, before that of `Host` (RFC 9112
/// §3.2.2). Empty if it has none.
pub(crate) fn authority_of<'a>(head: &RequestHead<'a>, target: &Target<'a>) -> &'a [u8] {
    match target {
        Target::Authority(authority) => authority,
        Target::Resource(resource) => resource.authority.or(head.host).unwrap_or_default(),
        Target::Asterisk => head.host.unwrap_or_default(),
    }
}

/// Room for a host.
pub(crate) struct HostBuffer {
    bytes: [u8; HOST_BYTES],
    used: usize,
}

impl HostBuffer {
    pub(crate) fn new() -> HostBuffer {
        HostBuffer {
            bytes: [0; HOST_BYTES],
            used: 0,
        }
    }

    /// The host of an authority as patterns have it: in lower case, without port and final dot,
    /// an IPv6 address in its one canonical spelling (RFC 5952).
    pub(crate) fn normal_host(&mut self, authority: &[u8]) -> &[u8] {
        let host = without_port(authority);
        if host.starts_with(b"[") {
            return self.canonical_address(host);
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        let end = &host[host.len().saturating_sub(HOST_BYTES)..];
        let bytes = &mut self.bytes[..end.len()];
        bytes.copy_from_slice(end);
        bytes.make_ascii_lowercase();
        bytes
    }

    #[cold]
    fn canonical_address(&mut self, host: &[u8]) -> &[u8] {
        let inner = host
            .strip_prefix(b"[")
            .and_then(|host| host.strip_suffix(b"]"));
        let text = inner.and_then(|inner| std::str::from_utf8(inner).ok());
        self.used = 0;
        if let Some(address) = text.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
            // It has at most 47 bytes, which fit.
            let _ = write!(self, "[{address}]");
        }
        &self.bytes[..self.used]
    }
}

impl std::fmt::Write for HostBuffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.used + text.len();
        let room = self.bytes.get_mut(self.used..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}
