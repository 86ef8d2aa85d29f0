//! The servers of an upstream as they are known now: those of the configuration, with what DNS says
//! of their names.
//!
//! A name may lead to several addresses, and a service (SRV) to several servers; each is a server of
//! its own then: balanced, checked, counted and left out by itself. Nothing is looked up here.

use crate::config::{Server, ServerAddress};
use ringway_runtime::Destination;
use std::net::{IpAddr, SocketAddr};

/// Addresses of one name that are used; who has more has a mistake, or means harm.
const ADDRESSES_MAX: usize = 256;

/// A server, where it is, and what the configuration or DNS says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownServer {
    /// What it is called in logs and metrics, told from the others by and recognised by: its address.
    pub(crate) label: String,
    /// Where it is: the first that answers is taken.
    pub(crate) destinations: Vec<Destination>,
    /// What it is called in `Host`, where it is to hear its own name.
    pub(crate) host: String,
    /// Which of the configuration's servers it is, or comes from.
    pub(crate) configured: usize,
    /// Its share, in proportion to the others'; at least 1.
    pub(crate) weight: u32,
    /// Used only while no other can be.
    pub(crate) is_backup: bool,
}

/// One of the servers that DNS lists for a service (RFC 2782), with the addresses of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceTarget {
    /// The lower one goes first.
    pub(crate) priority: u16,
    /// Its share among those of the same priority.
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl KnownServer {
    /// The server of the configuration's index that needs no looking up; `None` for a name.
    pub(crate) fn fixed(index: usize, server: &Server) -> Option<KnownServer> {
        let destination = match &server.address {
            ServerAddress::Socket(socket) => (*socket).into(),
            ServerAddress::Unix(path) => Destination::Unix(path.clone()),
            ServerAddress::Name(..) | ServerAddress::Service(_) => return None,
        };
        Some(KnownServer {
            label: server.address.to_string(),
            destinations: vec![destination],
            host: host_of(&server.address)?,
            configured: index,
            weight: server.weight,
            is_backup: server.backup,
        })
    }

    /// Those that a name leads to: one for each address. Where it has some of both families, they are
    /// the two ways to one server, as far as there are pairs: which of a machine's addresses belong
    /// together can't be told, but `localhost` is one server.
    pub(crate) fn named(
        index: usize,
        server: &Server,
        name: &str,
        port: u16,
        addresses: &[IpAddr],
    ) -> Vec<KnownServer> {
        let host = with_port(name, port);
        let made = paired(addresses).into_iter().map(|pair| {
            let sockets = pair.into_iter().map(|ip| SocketAddr::new(ip, port));
            KnownServer::at(index, server, &host, sockets.collect())
        });
        made.collect()
    }

    /// Those that DNS lists for a service: the ones of the first priority, the others as backups.
    pub(crate) fn of_service(
        index: usize,
        server: &Server,
        targets: &[ServiceTarget],
    ) -> Vec<KnownServer> {
        let first = targets.iter().map(|target| target.priority).min();
        let mut known: Vec<KnownServer> = Vec::new();
        for target in targets {
            let named =
                KnownServer::named(index, server, &target.name, target.port, &target.addresses);
            known.extend(named.into_iter().map(|one| KnownServer {
                weight: u32::from(target.weight).max(1),
                is_backup: server.backup || Some(target.priority) != first,
                ..one
            }));
        }
        known
    }

    fn at(index: usize, server: &Server, host: &str, sockets: Vec<SocketAddr>) -> KnownServer {
        KnownServer {
            label: sockets[0].to_string(),
            destinations: sockets.into_iter().map(Destination::Tcp).collect(),
            host: host.to_owned(),
            configured: index,
            weight: server.weight,
            is_backup: server.backup,
        }
    }
}

/// What a server is called in `Host`, where it is to hear its own name; `None` where only DNS knows.
pub(crate) fn host_of(address: &ServerAddress) -> Option<String> {
    match address {
        ServerAddress::Socket(socket) => Some(socket.to_string()),
        ServerAddress::Name(name, port) => Some(with_port(name, *port)),
        // There is no name of a machine in it.
        ServerAddress::Unix(_) => Some("localhost".to_owned()),
        ServerAddress::Service(_) => None,
    }
}

fn with_port(name: &str, port: u16) -> String {
    match port {
        80 => name.to_owned(),
        port => format!("{name}:{port}"),
    }
}

/// The servers without those that are there already under the same address.
pub(crate) fn without_repeats(servers: Vec<KnownServer>) -> Vec<KnownServer> {
    let mut known: Vec<KnownServer> = Vec::with_capacity(servers.len());
    for server in servers {
        if !known.iter().any(|other| other.label == server.label) {
            known.push(server);
        }
    }
    known
}

/// Addresses in an order that is always the same, one of IPv4 with one of IPv6 as far as both last.
fn paired(addresses: &[IpAddr]) -> Vec<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(IpAddr::is_ipv4);
    if second.len() > first.len() {
        std::mem::swap(&mut first, &mut second);
    }
    let mut second = second.into_iter();
    let pairs = first.into_iter().map(|ip| [Some(ip), second.next()]);
    pairs
        .take(ADDRESSES_MAX)
        .map(|pair| pair.into_iter().flatten().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn server(text: &str) -> Server {
        let text = format!("[upstream.app]\nservers = [\"{text}\"]");
        Config::from_toml(&text).unwrap().upstreams[0].servers[0].clone()
    }

    #[track_caller]
    fn check(addresses: &[&str], expect: &[&[&str]]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let known = KnownServer::named(3, &server("app:81 weight=2"), "app", 81, &addresses);
        let shown = known.iter().map(|server| {
            let destinations = server.destinations.iter();
            destinations.map(ToString::to_string).collect()
        });
        let shown: Vec<Vec<String>> = shown.collect();
        assert_eq!(shown, expect);
        for one in known {
            assert_eq!(one.label, one.destinations[0].to_string());
            assert_eq!((one.configured, one.weight, one.is_backup), (3, 2, false));
            assert_eq!(one.host, "app:81");
        }
    }

    #[test]
    fn each_address_is_a_server_in_an_order_that_lasts() {
        check(
            &["10.0.0.2", "10.0.0.1"],
            &[&["10.0.0.1:81"], &["10.0.0.2:81"]],
        );
        check(&["10.0.0.1", "10.0.0.1"], &[&["10.0.0.1:81"]]);
        check(&["::ffff:10.0.0.1"], &[&["10.0.0.1:81"]]);
        check(&[], &[]);
    }

    #[test]
    fn two_families_are_two_ways_to_one_server() {
        check(&["::1", "127.0.0.1"], &[&["127.0.0.1:81", "[::1]:81"]]);
        check(
            &["fd00::1", "fd00::2", "10.0.0.1"],
            &[&["[fd00::1]:81", "10.0.0.1:81"], &["[fd00::2]:81"]],
        );
    }

    #[test]
    fn a_name_has_a_bound() {
        let many = (0..1000_u32).map(|number| IpAddr::V4(number.into()));
        let many: Vec<IpAddr> = many.collect();
        let known = KnownServer::named(0, &server("app:80"), "app", 80, &many);
        assert_eq!(known.len(), 256);
        assert_eq!(known[0].host, "app", "80 is what goes without saying");
    }

    #[test]
    fn a_service_lists_servers_with_weights_and_what_stands_in_for_them() {
        let target = |priority, weight, port, ip: &str| ServiceTarget {
            priority,
            weight,
            port,
            name: format!("host-{port}.test"),
            addresses: vec![ip.parse().unwrap()],
        };
        let targets = [
            target(20, 7, 83, "10.0.0.3"),
            target(10, 60, 81, "10.0.0.1"),
            target(10, 0, 82, "10.0.0.2"),
        ];
        let known = KnownServer::of_service(0, &server("srv:_http._tcp.test"), &targets);
        let shown = known
            .iter()
            .map(|one| (one.label.as_str(), one.weight, one.is_backup));
        let expect = [
            ("10.0.0.3:83", 7, true),
            ("10.0.0.1:81", 60, false),
            ("10.0.0.2:82", 1, false),
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expect);
        assert_eq!(known[0].host, "host-83.test:83");
    }

    #[test]
    fn the_same_address_twice_is_one_server() {
        let fixed = KnownServer::fixed(0, &server("10.0.0.1:80")).unwrap();
        let ip = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let named = KnownServer::named(1, &server("app:80"), "app", 80, &ip);
        let all = without_repeats([vec![fixed.clone()], named.clone()].concat());
        assert_eq!(all, [fixed, named[1].clone()]);
    }
}
