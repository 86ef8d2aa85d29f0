//! The names of servers: looked up when the server starts, and again when what was heard has had its
//! time.
//!
//! What DNS says counts for as long as it says itself, but not longer than `resolve_interval`, and a
//! second at least. A failure, or an answer without any address, leaves the servers as they were: most
//! likely it is the resolver that has gone, and not all of them. Each look reads the system's
//! configuration anew, so that a change of `/etc/resolv.conf` or `/etc/hosts` is noticed.

use super::{State, part_of};
use crate::config::{Config, Server, ServerAddress, Upstream};
use crate::proxy::{KnownServer, ServiceTarget, SharedUpstream, without_repeats};
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, Record};
use hickory_resolver::{Resolver, TokioResolver};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// For how long names are looked up before the first request.
const START_PATIENCE: Duration = Duration::from_secs(8);
/// How soon a failed look is repeated at most.
const RETRY: Duration = Duration::from_secs(5);
/// What lasts shorter isn't asked for sooner.
const SHORTEST: Duration = Duration::from_secs(1);
/// Servers of one service that are used.
const TARGETS_MAX: usize = 64;

/// The servers of all upstreams, as far as they are known.
pub(super) struct Names {
    config: Arc<Config>,
    secret: [u8; 32],
    /// By the clock of those who serve.
    now: Instant,
    upstreams: Vec<Arc<SharedUpstream>>,
    /// For each upstream, for each of its configured servers: what it is, or leads to.
    found: Vec<Vec<Vec<KnownServer>>>,
    /// For each upstream, for each of its configured servers: how long that counts. `None` for what
    /// needs no looking up.
    due: Vec<Vec<Option<Duration>>>,
}

/// What a name leads to, and for how long.
type Found = (Vec<KnownServer>, Duration);

/// Why a name leads nowhere.
#[derive(Debug)]
enum LookupError {
    Resolver(NetError),
    /// There is such a name, without an address.
    Empty,
    Late,
}

impl Names {
    /// Nothing is looked up yet. `now` is by the clock of those who serve, which may be a simulated one.
    pub(super) fn new(config: &Arc<Config>, secret: [u8; 32], now: Instant) -> Names {
        let fixed = |upstream: &Upstream| {
            let servers = upstream.servers.iter().enumerate();
            let fixed = servers.map(|(index, server)| KnownServer::fixed(index, server));
            fixed
                .map(Option::into_iter)
                .map(Iterator::collect)
                .collect()
        };
        let found: Vec<Vec<Vec<KnownServer>>> = config.upstreams.iter().map(fixed).collect();
        let due = found.iter().map(|servers| {
            let due = servers
                .iter()
                .map(|known| known.is_empty().then_some(RETRY));
            due.collect()
        });
        let mut names = Names {
            config: Arc::clone(config),
            secret,
            now,
            upstreams: Vec::new(),
            due: due.collect(),
            found,
        };
        if !names.has_some() {
            names.share();
        }
        names
    }

    /// Whether there are names to be looked up.
    pub(super) fn has_some(&self) -> bool {
        self.due.iter().flatten().any(Option::is_some)
    }

    /// The upstreams with the servers that are known.
    pub(super) fn upstreams(&self) -> Vec<Arc<SharedUpstream>> {
        self.upstreams.clone()
    }

    fn share(&mut self) {
        let pairs = std::iter::zip(&self.config.upstreams, &self.found);
        let share = |(upstream, found): (&Upstream, &Vec<Vec<KnownServer>>)| {
            let (known, workers) = (without_repeats(found.concat()), self.config.workers);
            Arc::new(SharedUpstream::new(
                upstream,
                known,
                workers,
                &self.secret,
                self.now,
                None,
            ))
        };
        self.upstreams = pairs.map(share).collect();
    }

    /// Looks every name up, all at the same time.
    ///
    /// # Errors
    /// No server of an upstream is known then: which, and why the last of its names isn't.
    pub(super) async fn look_up_all(&mut self) -> Result<(), (usize, io::Error)> {
        let config = Arc::clone(&self.config);
        let mut looks = Vec::new();
        for (upstream, one) in config.upstreams.iter().enumerate() {
            for (index, server) in one.servers.iter().enumerate() {
                if self.due[upstream][index].is_some() {
                    let (one, server) = (one.clone(), server.clone());
                    let look = async move { look_up_in_time(&one, index, &server).await };
                    looks.push((upstream, index, tokio::spawn(look)));
                }
            }
        }
        let mut errors: Vec<Option<io::Error>> = config.upstreams.iter().map(|_| None).collect();
        for (upstream, index, look) in looks {
            // A panic in there is told on standard error.
            match look.await.unwrap_or(Err(LookupError::Empty)) {
                Ok((known, lasts)) => {
                    self.found[upstream][index] = known;
                    self.due[upstream][index] = Some(lasts);
                }
                Err(error) => {
                    let address = &config.upstreams[upstream].servers[index].address;
                    let text = format!("{address}: {error}");
                    errors[upstream] = Some(io::Error::other(text));
                }
            }
        }
        for (upstream, error) in errors.into_iter().enumerate() {
            let Some(error) = error else { continue };
            if self.found[upstream].iter().all(Vec::is_empty) {
                return Err((upstream, error));
            }
            let name = &config.upstreams[upstream].name;
            tracing::warn!(upstream = name, %error, "a name leads nowhere; it is tried again");
        }
        self.share();
        Ok(())
    }

    /// Has a task for each name, which looks it up again and again.
    pub(super) fn watch(self, state: &Rc<State>) {
        let upstreams = self.found.into_iter().zip(self.due).enumerate();
        for (index, (found, due)) in upstreams {
            let watched = Rc::new(Watched {
                state: Rc::clone(state),
                index,
                secret: self.secret,
                found: RefCell::new(found),
            });
            for (server, lasts) in due.into_iter().enumerate() {
                if let Some(lasts) = lasts {
                    tokio::task::spawn_local(Rc::clone(&watched).watch(server, lasts));
                }
            }
        }
    }
}

/// The names of one upstream while the server runs.
struct Watched {
    state: Rc<State>,
    index: usize,
    secret: [u8; 32],
    found: RefCell<Vec<Vec<KnownServer>>>,
}

impl Watched {
    fn config(&self) -> &Upstream {
        &self.state.facts.config.upstreams[self.index]
    }

    /// Looks one name up whenever what is known has had its time.
    async fn watch(self: Rc<Watched>, server: usize, mut lasts: Duration) {
        let config = self.config();
        let configured = &config.servers[server];
        let (upstream, name) = (&*config.name, configured.address.to_string());
        let mut is_failing = self.found.borrow()[server].is_empty();
        loop {
            sleep(bounded(lasts, config.resolve_interval)).await;
            match look_up_in_time(config, server, configured).await {
                Ok((known, time)) => {
                    lasts = time;
                    if std::mem::replace(&mut is_failing, false) {
                        tracing::info!(upstream, name, "the name can be looked up again");
                    }
                    self.note(server, &name, known);
                }
                Err(error) => {
                    lasts = RETRY;
                    if !std::mem::replace(&mut is_failing, true) {
                        let kept = "the name can't be looked up; its servers stay as they were";
                        tracing::warn!(upstream, name, %error, "{kept}");
                    }
                }
            }
        }
    }

    /// Goes on with these servers, if they are others than before.
    fn note(&self, server: usize, name: &str, known: Vec<KnownServer>) {
        if self.found.borrow()[server] == known {
            return;
        }
        let config = self.config();
        let labels: Vec<&str> = known.iter().map(|one| &*one.label).collect();
        let servers = labels.join(", ");
        tracing::info!(
            upstream = config.name,
            name,
            servers,
            "the name leads elsewhere now"
        );
        let mut found = self.found.borrow_mut();
        found[server] = known;
        let (known, workers) = (
            without_repeats(found.concat()),
            self.state.facts.stats.len(),
        );
        let before = self.state.upstream(self.index);
        let (secret, now) = (&self.secret, Instant::now());
        let shared = SharedUpstream::new(config, known, workers, secret, now, Some(&before));
        self.state.replace(self.index, Arc::new(shared));
    }
}

/// How long what is known counts, and a little less at random, so that names aren't all asked for at
/// once.
fn bounded(lasts: Duration, longest: Duration) -> Duration {
    let time = lasts.clamp(SHORTEST, longest.max(SHORTEST));
    time - part_of(time / 16)
}

async fn look_up_in_time(
    upstream: &Upstream,
    index: usize,
    server: &Server,
) -> Result<Found, LookupError> {
    match timeout(START_PATIENCE, look_up(upstream, index, server)).await {
        Ok(found) => found,
        Err(_) => Err(LookupError::Late),
    }
}

async fn look_up(upstream: &Upstream, index: usize, server: &Server) -> Result<Found, LookupError> {
    let resolver = resolver(&upstream.resolver).map_err(LookupError::Resolver)?;
    let (known, lasts) = match &server.address {
        ServerAddress::Name(name, port) => {
            let (addresses, lasts) = addresses(&resolver, name).await?;
            let known = KnownServer::named(index, server, name, *port, &addresses);
            (known, lasts)
        }
        ServerAddress::Service(name) => {
            let (targets, lasts) = targets(&resolver, name).await?;
            (KnownServer::of_service(index, server, &targets), lasts)
        }
        ServerAddress::Socket(_) | ServerAddress::Unix(_) => (
            KnownServer::fixed(index, server).into_iter().collect(),
            Duration::MAX,
        ),
    };
    match known.is_empty() {
        true => Err(LookupError::Empty),
        false => Ok((known, lasts)),
    }
}

/// The addresses of a name, of both families.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
) -> Result<(Vec<IpAddr>, Duration), LookupError> {
    let found = resolver.lookup_ip(name).await;
    let found = found.map_err(LookupError::Resolver)?;
    Ok((found.iter().collect(), lasting(found.as_lookup().answers())))
}

/// The servers of a service, with their addresses. One whose name leads nowhere is left out, and asked
/// for soon again.
async fn targets(
    resolver: &TokioResolver,
    name: &str,
) -> Result<(Vec<ServiceTarget>, Duration), LookupError> {
    let found = resolver.srv_lookup(name).await;
    let found = found.map_err(LookupError::Resolver)?;
    let mut lasts = lasting(found.answers());
    let mut targets = Vec::new();
    let mut last_error = LookupError::Empty;
    let services = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // RFC 2782: the root as a target says that there is no such service.
            RData::SRV(service) if !service.target.is_root() => Some(service),
            _ => None,
        });
    for service in services.take(TARGETS_MAX) {
        let target = service.target.to_ascii();
        match addresses(resolver, &target).await {
            Ok((addresses, time)) => {
                lasts = lasts.min(time);
                targets.push(ServiceTarget {
                    priority: service.priority,
                    weight: service.weight,
                    port: service.port,
                    name: target.trim_end_matches('.').to_ascii_lowercase(),
                    addresses,
                });
            }
            Err(error) => {
                lasts = lasts.min(RETRY);
                last_error = error;
            }
        }
    }
    match targets.is_empty() {
        true => Err(last_error),
        false => {
            // However the answer was shuffled.
            targets.sort_by(|one, other| {
                (one.priority, &one.name, one.port).cmp(&(other.priority, &other.name, other.port))
            });
            Ok((targets, lasts))
        }
    }
}

/// How long the first of the records to go counts.
fn lasting(records: &[Record]) -> Duration {
    let shortest = records.iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or_default().into())
}

/// One that asks these name servers; without any, those of the system.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        [] => match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            // resolv.conf(5): without the file, the name server of this machine is asked.
            Err(_) => asking(&[SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)]),
        },
        servers => asking(servers),
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Each look is to be one.
    options.cache_size = 0;
    options.use_hosts_file = match servers {
        [] => ResolveHosts::Always,
        _ => ResolveHosts::Never,
    };
    builder.build()
}

fn asking(servers: &[SocketAddr]) -> hickory_resolver::ResolverBuilder<TokioRuntimeProvider> {
    let server = |address: &SocketAddr| {
        let at_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let servers = servers.iter().map(server).collect();
    let config = ResolverConfig::from_name_servers(servers);
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
}

impl fmt::Display for LookupError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::Resolver(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                match none.response_code {
                    ResponseCode::NXDomain => out.write_str("there is no such name"),
                    ResponseCode::NoError => LookupError::Empty.fmt(out),
                    code => write!(out, "the name server answers {code}"),
                }
            }
            LookupError::Resolver(NetError::Dns(DnsError::ResponseCode(code))) => {
                write!(out, "the name server answers {code}")
            }
            LookupError::Resolver(NetError::Timeout) => LookupError::Late.fmt(out),
            LookupError::Resolver(NetError::NoConnections) => {
                out.write_str("no name server can be reached")
            }
            LookupError::Resolver(NetError::Io(error)) => {
                write!(out, "the name server can't be asked: {error}")
            }
            LookupError::Resolver(error) => error.fmt(out),
            LookupError::Empty => out.write_str("there is no address under that name"),
            LookupError::Late => out.write_str("no name server has answered in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::net::NoRecords;
    use hickory_resolver::proto::op::Query;

    #[test]
    fn why_a_name_leads_nowhere_is_said_in_words() {
        let none = |code| {
            let none = NoRecords::new(Query::default(), code);
            LookupError::Resolver(none.into()).to_string()
        };
        assert_eq!(none(ResponseCode::NXDomain), "there is no such name");
        let empty = "there is no address under that name";
        assert_eq!(none(ResponseCode::NoError), empty);
        assert_eq!(
            none(ResponseCode::ServFail),
            "the name server answers Server Failure"
        );
        let said = |error: NetError| LookupError::Resolver(error).to_string();
        assert_eq!(
            said(NetError::NoConnections),
            "no name server can be reached"
        );
        assert_eq!(said(NetError::Timeout), LookupError::Late.to_string());
    }

    #[test]
    fn an_answer_counts_for_its_time_within_bounds() {
        let check = |lasts: u64, longest: u64, expect: u64| {
            let time = bounded(Duration::from_secs(lasts), Duration::from_secs(longest));
            let expect = Duration::from_secs(expect);
            assert!((expect - expect / 16..=expect).contains(&time), "{time:?}");
        };
        check(0, 300, 1);
        check(30, 300, 30);
        check(86_400, 300, 300);
        check(86_400, 1, 1);
    }
}
