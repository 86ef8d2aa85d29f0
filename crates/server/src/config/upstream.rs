//! The keys of `[upstream.NAME]`, and the checked [`Upstream`] that comes of them.
//!
//! What is a number, a time or a word is read as it stands into groups ([`PoolOptions`],
//! [`Timeouts`], ...); what is a text with a meaning of its own (servers, ranges, probes) is
//! understood by `server.rs`. How they fit together is checked in `check/upstreams.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use super::key::{Shape, Table, choices, default_from_keys, settings};
use super::keys::SocketOptions;
use super::server::{AddressRange, HashBy, HostPolicy, Probe, Server, StatusRange};

pub(crate) const UPSTREAM: Table = Table {
    name: "upstream",
    shape: Shape::Named,
    doc: "Servers that answer in Ringway's place, and how they are asked. A `proxy` key of a \
          listener or a route names it.",
    groups: &[
        UpstreamKeys::KEYS,
        PoolOptions::KEYS,
        Timeouts::KEYS,
        Retries::KEYS,
        PassiveHealth::KEYS,
        HealthKeys::KEYS,
        ForwardKeys::KEYS,
        SocketOptions::KEYS,
    ],
};

const SECOND: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const NO_TIME: Duration = Duration::ZERO;

/// Servers that answer the same requests: `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upstream {
    /// The NAME of its table.
    pub name: String,
    /// The servers in the order of the file; at least one, none twice.
    pub servers: Vec<Server>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// The cookie that keeps a client with its server; `None` sends no such cookie.
    pub sticky_cookie: Option<String>,
    /// Connections: how many, and for how long.
    pub pool: PoolOptions,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How often a request is tried again.
    pub retries: Retries,
    /// What the answers to clients' requests say of a server.
    pub passive: PassiveHealth,
    /// How a server is asked whether it is well; `None` asks none.
    pub health: Option<ActiveHealth>,
    /// What servers are told about the client.
    pub forward: Forward,
    /// Whether bodies that nothing looks at go from socket to socket inside the kernel.
    pub splice: bool,
    /// The longest time that an answer of DNS counts, whatever its own says.
    pub resolve_interval: Duration,
    /// The name servers to ask; empty for the system's.
    pub resolver: Vec<SocketAddr>,
    /// Options of the connections' sockets.
    pub socket: SocketOptions,
}

/// How a server is chosen among those that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest requests under way, by weight.
    LeastConnections,
    /// Of two at random the one that promises the shorter wait.
    PowerOfTwo,
    /// The same one for the same key, on a ring of hashes.
    Hash {
        /// What the key is.
        by: HashBy,
        /// The most requests that a server may have under way, in percent of the average, before
        /// the next one on the ring takes what is its.
        load_percent: u32,
    },
}

/// Questions to servers, beside the clients' requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveHealth {
    /// What is asked.
    pub probe: Probe,
    /// From one question to the next.
    pub interval: Duration,
    /// For how long the answer is waited for.
    pub timeout: Duration,
    /// The statuses of a server that is well; at least one range.
    pub status: Vec<StatusRange>,
    /// Good answers in a row after which a server is used again.
    pub healthy_after: u32,
    /// Bad answers in a row after which it isn't.
    pub unhealthy_after: u32,
}

/// What servers are told about the client and its request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forward {
    /// What `Host` says.
    pub host: HostPolicy,
    /// Which fields name the client.
    pub forwarded: Forwarded,
    /// Whose own such fields are believed, and added to.
    pub trusted: Vec<AddressRange>,
    /// The name in `Via`; `None` sends no such field.
    pub via: Option<String>,
}

choices! {
    /// The word of [`Balance`].
    pub enum BalanceWord {
        /// In turn. With weights, in proportion to them.
        RoundRobin = "round_robin",
        /// The server with the fewest requests under way, in proportion to its weight.
        LeastConnections = "least_connections",
        /// Of two servers at random the one with the shorter expected wait: requests under way
        /// times the latency of late (a decaying average). It spreads as well as looking at all
        /// of them would, and doesn't send everybody to the same one.
        PowerOfTwo = "p2c",
        /// The same server for the same key (`hash_by`), as long as that isn't overloaded
        /// (`hash_load`): for servers with caches.
        Hash = "hash",
    }
}

choices! {
    /// Which fields tell a server who the client is.
    pub enum Forwarded {
        /// None, and what a client sends of them is removed.
        Off = "off",
        /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`: what nearly every
        /// framework reads.
        X = "x",
        /// `Forwarded` (RFC 7239).
        Rfc7239 = "rfc7239",
        /// All of them.
        Both = "both",
    }
}

settings! {
    /// Who the servers are, as it is written.
    pub(crate) struct UpstreamKeys {
        /// The servers: `"10.0.0.1:8080"`, `"[fd00::1]:8080"`, `"app.internal:8080"`,
        /// `"unix:/run/app.sock"`, or `"srv:_http._tcp.app.internal"` for whatever DNS lists
        /// there. `http://` before an address changes nothing.
        ///
        /// Words may follow: `weight=3` (1 to 256; 1 if not written), `backup` (used while none
        /// of the others can be), `slow_start=30s` (its share grows for that long after it came
        /// back), `drain` (only who is bound to it by a sticky cookie still gets there).
        servers: Vec<String> =
            List { of: &Line { example: "10.0.0.1:8080 weight=3" }, min_count: 1 }, Required, Shown("to");
        /// How a server is chosen.
        ///
        /// Nginx and HAProxy take turns. A server that is slow for a while then collects
        /// requests; `p2c` notices.
        balance: BalanceWord = Choice(BalanceWord::WORDS), Is("p2c"), Shown("lb");
        /// With `balance = "hash"`, what the key is: `"address"` (the client's), `"path"`,
        /// `"header NAME"` or `"cookie NAME"`. A request without it is balanced by `p2c`.
        hash_by: String = Text { min_length: 1, example: "header X-User" }, Is("address"), Shown("hash-by");
        /// With `balance = "hash"`, how much more than the average a server may have under way,
        /// in percent of it, before the next one takes the rest (consistent hashing with bounded
        /// loads).
        ///
        /// Without a bound one popular key takes its server down. HAProxy's guide says 125 to
        /// 200; a larger one moves fewer keys.
        hash_load: u32 = Integer { min: 101, max: 10_000 }, Is("125"), None;
        /// The name of a cookie that keeps a client with the server that it got first, as long
        /// as that can be used.
        sticky_cookie: Option<String> = Text { min_length: 1, example: "ringway_server" },
            Means("none: each request is balanced anew"), Shown("sticky-cookie");
    }
}

settings! {
    /// Connections to each server, across all workers.
    #[derive(Copy)]
    pub struct PoolOptions {
        /// Connections to each server that are open at once, across all workers. Beyond it
        /// requests wait in the queue.
        ///
        /// Clients have at most one each, so `connections` in `[limits]` bounds them already;
        /// a server that can do only so much at once needs a number of its own.
        max_connections: Option<u32> = Integer { min: 1, max: 16_777_216 },
            Means("no bound of its own"), Shown("max-connections");
        /// Requests that wait for a connection, where there is a `max_connections`; beyond it: 503.
        /// 0 lets none wait.
        queue: u32 = Integer { min: 0, max: 1_048_576 }, Is("1024"), Shown("queue");
        /// How long a request may wait for a connection. Beyond it: 503.
        ///
        /// Whoever has waited for longer has gone, or tries again and doubles the load.
        queue_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("5s"), Shown("queue-timeout");
        /// Idle connections to each server that are kept for the next request, across all
        /// workers. 0 keeps none.
        ///
        /// With fewer than requests under way at once, connections are closed only to be opened
        /// again. An idle one costs this side a descriptor and a few hundred bytes.
        idle_connections: u32 = Integer { min: 0, max: 1_048_576 }, Is("1024"), None;
        /// How long an idle connection is kept.
        ///
        /// Below the 60 to 75 s of nginx and others, so that it isn't the server that closes
        /// under a request. Where a server closes sooner (Node and Apache do after 5 s), that is
        /// noticed before its connection is used.
        idle_timeout: Duration = Duration { min: SHORTEST, max: DAY }, Is("30s"), None;
        /// How long a connection is used in all; then it ends after its request.
        ///
        /// So that load moves to servers that were added, and a name that leads elsewhere is
        /// noticed. Nginx's default, too.
        lifetime: Duration = Duration { min: SHORTEST, max: DAY }, Is("1h"), None;
    }
}

settings! {
    /// How long each step of a request to a server may take.
    #[derive(Copy)]
    pub struct Timeouts {
        /// Until a connection to a server is there. Beyond it the next one is tried, or: 504.
        ///
        /// Two lost SYNs, which are sent again after 1 and 3 s, fit in.
        connect_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("5s"), Shown("connect-timeout");
        /// From the end of the request to the first byte of the answer. Beyond it: 504.
        ///
        /// Nginx's 60 s: reports take their time, and a client that waits longer has gone.
        first_byte_timeout: Duration = Duration { min: SHORTEST, max: DAY }, Is("60s"), Shown("first-byte-timeout");
        /// From one byte of the answer to the next, and while the server takes none of the
        /// request. Beyond it the connection ends.
        ///
        /// An upgraded connection (WebSocket) has `tunnel_idle_timeout` in its stead.
        between_bytes_timeout: Duration = Duration { min: SHORTEST, max: DAY }, Is("60s"), Shown("between-bytes-timeout");
        /// From the request's head to the last byte of the answer, retries included. Upgraded
        /// connections aren't counted.
        ///
        /// Off, because downloads and streams of events last; those that stall are ended by the
        /// others.
        total_timeout: Option<Duration> = Duration { min: SHORTEST, max: DAY }, Means("off"), Shown("total-timeout");
    }
}

settings! {
    /// How often a request is tried again.
    #[derive(Copy)]
    pub struct Retries {
        /// How often a request is sent to another server after one has failed, where nothing can
        /// have happened yet or the method may be repeated. 0 never does.
        retries: u32 = Integer { min: 0, max: 10 }, Is("2"), Shown("retries");
        /// How many retries there may be in percent of the requests of late, beside a few that
        /// are always allowed.
        ///
        /// So that servers which fail because of their load aren't given twice as much. Envoy's
        /// and Finagle's default.
        retry_budget: u32 = Integer { min: 0, max: 100 }, Is("20"), None;
    }
}

settings! {
    /// What the answers to clients' requests say of a server.
    #[derive(Copy)]
    pub struct PassiveHealth {
        /// Failures in a row (no connection, no answer, 502, 503, 504) after which a server isn't
        /// used for a while. 0 never does that.
        ///
        /// Each worker counts for itself, as in Envoy: so a server that is gone fails so many
        /// requests of each worker. In how many it is left out, `/status` says.
        failures: u32 = Integer { min: 0, max: 1_000_000 }, Is("5"), None;
        /// For how long a server that has failed so often isn't used, the first time; the second
        /// time it is twice that, and so on up to ten times.
        ///
        /// Nginx's 10 s.
        ejection_time: Duration = Duration { min: SHORTEST, max: HOUR }, Is("10s"), None;
        /// How many of the servers may be left out for their failures at once, in percent. Unless
        /// it is 0, one may be in any case, if there is another.
        ///
        /// Where all fail, it is the application that does, and one more server gone only puts
        /// its load on the others. The only server of an upstream is never left out.
        max_ejected: u32 = Integer { min: 0, max: 100 }, Is("50"), None;
        /// When fewer than so many of the servers can be used, in percent, all are used whatever
        /// their health: then it is more likely that the checks are wrong. 0 never does that.
        ///
        /// Envoy's default.
        panic_threshold: u32 = Integer { min: 0, max: 100 }, Is("50"), None;
    }
}

settings! {
    /// Questions to servers, as they are written.
    pub(crate) struct HealthKeys {
        /// How servers are asked whether they are well, beside the clients' requests:
        /// `"http /healthz"` asks for that path, `"tcp"` only connects, `"off"` asks nothing.
        health: String = Text { min_length: 1, example: "http /healthz" }, Is("off"), Shown("health");
        /// From one question to the next, for each server.
        health_interval: Duration = Duration { min: SHORTEST, max: DAY }, Is("5s"), Shown("health-interval");
        /// How long the answer is waited for. Never more than `health_interval`.
        health_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("2s"), None;
        /// The statuses of a server that is well: `"200"`, `"200-204"`, `"2xx"`.
        health_status: Vec<String> =
            List { of: &Text { min_length: 1, example: "2xx" }, min_count: 1 }, Is("2xx,3xx"), None;
        /// Good answers in a row after which a server is used again.
        healthy_after: u32 = Integer { min: 1, max: 1000 }, Is("2"), None;
        /// Bad answers in a row after which a server isn't used.
        unhealthy_after: u32 = Integer { min: 1, max: 1000 }, Is("3"), None;
    }
}

settings! {
    /// How requests are passed on, as it is written.
    pub(crate) struct ForwardKeys {
        /// What `Host` says to the server: `"client"` what the client asked for, `"upstream"`
        /// the server's own name, or a text of your choice, such as `"app.internal"`.
        ///
        /// The client's, as with HAProxy and Caddy: applications make links and check cookies by
        /// it. (Nginx sends the server's.)
        host: String = Text { min_length: 1, example: "app.internal" }, Is("client"), Shown("upstream-host");
        /// Which fields tell the server the client's address, scheme and host.
        ///
        /// What a client claims in them is removed, unless it is `trusted`.
        forwarded: Forwarded = Choice(Forwarded::WORDS), Is("x"), Shown("forwarded");
        /// Addresses of proxies before this one, whose own such fields are kept and added to:
        /// `"10.0.0.0/8"`, `"fd00::/8"`, `"192.0.2.7"`.
        trusted: Vec<String> =
            List { of: &Text { min_length: 1, example: "10.0.0.0/8" }, min_count: 0 },
            Means("none"), Shown("trusted");
        /// The name that this proxy adds to `Via`, in both directions.
        ///
        /// Off, because it shows that there is a proxy. With it, loops show as well.
        via: Option<String> = Text { min_length: 1, example: "edge-1" }, Means("no such field"),
            None;
        /// Whether bodies that nothing looks at go from socket to socket inside the kernel.
        splice: bool = Switch, Is("true"), None;
        /// The longest time that an answer of DNS counts, whatever time it gives itself.
        ///
        /// Answers with a time of days exist, and so do servers that move within minutes.
        resolve_interval: Duration = Duration { min: SECOND, max: DAY }, Is("5m"), None;
        /// The name servers that are asked for servers' names: `"10.0.0.53"`, or `"[::1]:5353"` with
        /// a port of its own. `/etc/hosts` doesn't count then.
        resolver: Vec<String> =
            List { of: &Text { min_length: 1, example: "10.0.0.53" }, min_count: 0 },
            Means("the system's: `/etc/resolv.conf`, and `/etc/hosts` before it"), None;
    }
}

impl Balance {
    /// The word that stands for it in the configuration.
    pub fn word(&self) -> BalanceWord {
        match self {
            Balance::RoundRobin => BalanceWord::RoundRobin,
            Balance::LeastConnections => BalanceWord::LeastConnections,
            Balance::PowerOfTwo => BalanceWord::PowerOfTwo,
            Balance::Hash { .. } => BalanceWord::Hash,
        }
    }
}

impl PoolOptions {
    /// Whether a request may ever wait for a connection.
    pub fn has_queue(&self) -> bool {
        self.max_connections.is_some() && self.queue > 0 && self.queue_timeout > NO_TIME
    }
}

default_from_keys!(PoolOptions in &UPSTREAM);
default_from_keys!(Timeouts in &UPSTREAM);
default_from_keys!(Retries in &UPSTREAM);
default_from_keys!(PassiveHealth in &UPSTREAM);
