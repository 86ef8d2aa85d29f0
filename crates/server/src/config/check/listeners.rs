//! Reads the listeners: addresses that exclude each other, and what is answered there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Services, check_keepalive};
use crate::config::keys::{Binding, LISTEN, ListenOptions, SocketOptions};
use crate::config::node::Place;
use crate::config::problem::Problem;
use crate::config::read::{Document, Section};
use crate::config::server::ServerAddress;
use crate::config::upstream::UPSTREAM;
use crate::config::value::Address;
use crate::config::{Listener, Route, Upstream};
use crate::route::Action;

/// Where a configuration without a listener listens.
const DEFAULT_ADDRESS: Address = Address {
    socket: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
    every_family: false,
};
/// What that listener is called.
const DEFAULT_NAME: &str = "main";

/// The NAMEs of the listeners, in the order in which they are read.
pub(super) fn names(document: &Document<'_>) -> Vec<String> {
    let entries = document.named(&LISTEN);
    match &entries[..] {
        [] => vec![DEFAULT_NAME.to_owned()],
        entries => entries.iter().map(|entry| entry.key.clone()).collect(),
    }
}

pub(super) fn read_listeners(
    document: &mut Document<'_>,
    services: &Services<'_>,
    routes: &[Route],
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut bound: Vec<Bound> = Vec::new();
    for entry in document.named(&LISTEN) {
        let mut section = document.named_section(&LISTEN, entry);
        let binding = Binding::read(&mut section);
        let options = ListenOptions::read(&mut section);
        let socket = SocketOptions::read(&mut section);
        check_keepalive(&mut section, &socket);
        for (address, place) in binding.address.iter().zip(section.places("address")) {
            if address.every_family && options.ipv6_only {
                let message = format!("{address} is for IPv4 as well, but ipv6_only is on");
                let hint = format!("write \"{}\", or leave ipv6_only out", address.socket);
                section.report(Problem::new(place.clone(), message).hint(hint));
            }
            let new = Bound::new(*address, &options, section.name());
            if let Some(old) = bound.iter().find(|old| old.overlaps(&new)) {
                let problem = Problem::new(place, format!("{address} is already listened on"));
                section.report(problem.hint(format!("[listen.{}] has {}", old.name, old.address)));
            }
            bound.push(new);
        }
        let index = listeners.len();
        let is_routed = routes.iter().any(|route| route.listeners.contains(&index));
        listeners.push(Listener {
            name: entry.key.clone(),
            addresses: binding.address.clone(),
            catch_all: catch_all(&mut section, &binding, services, is_routed),
            options,
            socket,
        });
    }
    if listeners.is_empty() && document.problems.is_empty() {
        let only = services.only();
        if only.is_none() && routes.is_empty() && services.count() > 0 {
            let message = format!(
                "several {} tables, and no listener to say which is served",
                services.kinds()
            );
            let hint = "add a table: [listen.main] with address and files or proxy";
            let problem = Problem::new(Place::Text(0..0), message);
            document.problems.push(problem.hint(hint));
        }
        listeners.push(default_listener(only.filter(|_| routes.is_empty())));
    }
    listeners
}

/// The listener of a configuration that names none.
fn default_listener(catch_all: Option<Action>) -> Listener {
    Listener {
        name: DEFAULT_NAME.to_owned(),
        addresses: vec![DEFAULT_ADDRESS],
        catch_all,
        options: ListenOptions::default(),
        socket: SocketOptions::default(),
    }
}

/// What answers where no route does.
fn catch_all(
    section: &mut Section<'_>,
    binding: &Binding,
    services: &Services<'_>,
    is_routed: bool,
) -> Option<Action> {
    let places = (section.place("files"), section.place("proxy"));
    if let (Some(_), Some(place)) = places {
        let message = "files and proxy both say what answers where no route does";
        section.report(Problem::new(place, message).hint("leave one of them out"));
        return None;
    }
    if let Some(name) = &binding.files {
        return services.named(section, "files", name);
    }
    if let Some(name) = &binding.proxy {
        return services.named(section, "proxy", name);
    }
    if is_routed {
        return None;
    }
    let only = services.only();
    if only.is_none() && services.count() > 1 && services.complete {
        let keys = match services.upstreams.is_empty() {
            true => "\"files\"",
            false => "\"files\" or \"proxy\"",
        };
        let message = format!("[listen.{}] needs {keys}", section.name());
        let hint = format!("there are several to choose from: {}", services.list());
        section.report(Problem::new(section.header(), message).hint(hint));
    }
    only
}

/// Reports a listener that passes everything on to itself: `--to localhost:8080` is written
/// easily, and takes all descriptors with the first request.
pub(super) fn check_loops(
    document: &mut Document<'_>,
    listeners: &[Listener],
    upstreams: &[Upstream],
) {
    for (upstream, entry) in upstreams.iter().zip(document.named(&UPSTREAM)) {
        let section = document.named_section(&UPSTREAM, entry);
        let places = section.places("servers");
        for (server, place) in upstream.servers.iter().zip(places) {
            let is_itself = |listener: &&Listener| {
                let catch_all = match listener.catch_all {
                    Some(Action::Proxy(index)) => Some(&upstreams[index]),
                    _ => None,
                };
                let mut addresses = listener.addresses.iter();
                catch_all.is_some_and(|gets| gets.name == upstream.name)
                    && addresses.any(|address| is_at(&server.address, address))
            };
            if let Some(listener) = listeners.iter().find(is_itself) {
                let name = &listener.name;
                let message = format!("[listen.{name}] would pass requests on to itself");
                let hint = "choose another address for the one or the other";
                document
                    .problems
                    .push(Problem::new(place, message).hint(hint));
            }
        }
    }
}

/// Whether who connects to `server` comes to who listens on `address`.
fn is_at(server: &ServerAddress, address: &Address) -> bool {
    let own = address.socket;
    match server {
        ServerAddress::Socket(socket) => {
            let is_reached =
                socket.ip() == own.ip() || (own.ip().is_unspecified() && socket.ip().is_loopback());
            is_reached && socket.port() == own.port()
        }
        ServerAddress::Name(name, port) => {
            let is_reached = own.ip().is_loopback() || own.ip().is_unspecified();
            name == "localhost" && is_reached && *port == own.port()
        }
        ServerAddress::Service(_) | ServerAddress::Unix(_) => false,
    }
}

impl Services<'_> {
    fn count(&self) -> usize {
        self.roots.len() + self.upstreams.len()
    }

    /// The table that is served where nothing says which: the only one.
    fn only(&self) -> Option<Action> {
        match (&self.roots[..], &self.upstreams[..]) {
            ([_], []) => Some(Action::Files(0)),
            ([], [_]) => Some(Action::Proxy(0)),
            _ => None,
        }
    }

    /// Which kinds of table there are.
    fn kinds(&self) -> &'static str {
        match (self.roots.is_empty(), self.upstreams.is_empty()) {
            (false, true) => "[files.NAME]",
            (true, _) => "[upstream.NAME]",
            (false, false) => "[files.NAME] and [upstream.NAME]",
        }
    }
}

/// An address that is listened on, for finding those that exclude each other.
struct Bound {
    address: Address,
    ipv6_only: bool,
    name: String,
}

impl Bound {
    fn new(address: Address, options: &ListenOptions, name: &str) -> Bound {
        Bound {
            address,
            ipv6_only: options.ipv6_only,
            name: name.to_owned(),
        }
    }

    /// Whether the kernel would refuse the second of the two, or leave it without connections.
    fn overlaps(&self, other: &Bound) -> bool {
        let port = self.address.socket.port();
        port != 0
            && port == other.address.socket.port()
            && (self.address.socket.ip() == other.address.socket.ip()
                || self.covers(other.address.socket.ip())
                || other.covers(self.address.socket.ip()))
    }

    fn covers(&self, ip: IpAddr) -> bool {
        match (self.address.socket.ip(), ip) {
            (IpAddr::V4(own), IpAddr::V4(_)) => own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V6(_)) => own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !self.ipv6_only,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }
}
