//! Reads the upstreams: servers that are there twice, and keys that need each other.

use super::{check_keepalive, parse_line, parse_lines, report_idle_keys, report_written};
use crate::config::keys::SocketOptions;
use crate::config::problem::{Fault, Problem, quote};
use crate::config::read::{Document, Section};
use crate::config::server::StatusRange;
use crate::config::server::{AddressRange, HashBy, HostPolicy, Probe, Server, ServerAddress};
use crate::config::source::Sources;
use crate::config::upstream::{
    ActiveHealth, Balance, BalanceWord, Forward, ForwardKeys, Forwarded, HealthKeys, PassiveHealth,
    PoolOptions, Retries, Timeouts, UPSTREAM, Upstream, UpstreamKeys,
};
use crate::config::value::show_duration;
use crate::files::headers::is_token;
use std::net::{IpAddr, SocketAddr};

pub(super) fn read_upstreams(document: &mut Document<'_>, sources: &Sources) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for entry in document.named(&UPSTREAM) {
        let mut section = document.named_section(&UPSTREAM, entry);
        upstreams.push(read_upstream(&mut section, sources));
    }
    upstreams
}

fn read_upstream(section: &mut Section<'_>, sources: &Sources) -> Upstream {
    let keys = UpstreamKeys::read(section);
    let pool = PoolOptions::read(section);
    let mut timeouts = Timeouts::read(section);
    let retries = Retries::read(section);
    let passive = PassiveHealth::read(section);
    let health = HealthKeys::read(section);
    let forward = ForwardKeys::read(section);
    let socket = SocketOptions::read(section);
    check_keepalive(section, &socket);
    check_pool(section, &pool);
    check_timeouts(section, &mut timeouts);
    Upstream {
        name: section.name().to_owned(),
        servers: read_servers(section, &keys, sources),
        balance: read_balance(section, &keys),
        sticky_cookie: read_cookie(section, keys.sticky_cookie),
        pool,
        timeouts,
        retries,
        passive,
        health: read_health(section, &health),
        splice: forward.splice,
        resolve_interval: forward.resolve_interval,
        resolver: parse_lines(section, "resolver", &forward.resolver, name_server),
        forward: read_forward(section, forward),
        socket,
    }
}

fn read_servers(section: &mut Section<'_>, keys: &UpstreamKeys, sources: &Sources) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for (line, place) in keys.servers.iter().zip(section.places("servers")) {
        let mut server = match Server::parse(line) {
            Ok(server) => server,
            Err(fault) => {
                section.report(fault.at(place));
                continue;
            }
        };
        if let ServerAddress::Unix(path) = &mut server.address {
            *path = sources.resolve(path, &place);
        }
        if matches!(server.address, ServerAddress::Service(_)) && server.weight != 1 {
            let message = "the weights of a service's servers are those that DNS has";
            let problem = Problem::new(place.clone(), message);
            section.report(problem.hint("leave `weight` out"));
        }
        if servers.iter().any(|other| other.address == server.address) {
            let message = format!("{} is there already", server.address);
            let hint = "a larger share is `weight=2`";
            section.report(Problem::new(place, message).hint(hint));
        }
        servers.push(server);
    }
    if !servers.is_empty() && servers.iter().all(|server| server.backup) {
        let message = "every server is a backup, of nothing";
        report_written(section, "servers", message, "leave `backup` out");
    }
    servers
}

fn read_balance(section: &mut Section<'_>, keys: &UpstreamKeys) -> Balance {
    if keys.balance != BalanceWord::Hash {
        let hint = "add balance = \"hash\"";
        report_idle_keys(
            section,
            &["hash_by", "hash_load"],
            "with this balance",
            hint,
        );
    }
    match keys.balance {
        BalanceWord::RoundRobin => Balance::RoundRobin,
        BalanceWord::LeastConnections => Balance::LeastConnections,
        BalanceWord::PowerOfTwo => Balance::PowerOfTwo,
        BalanceWord::Hash => Balance::Hash {
            by: parse_line(section, "hash_by", &keys.hash_by, HashBy::parse)
                .unwrap_or(HashBy::Address),
            load_percent: keys.hash_load,
        },
    }
}

/// An address of a name server, with the port of DNS where none is written.
fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    bare.or_else(|_| text.parse()).map_err(|_| {
        let message = format!("{} isn't the address of a name server", quote(text));
        Fault::new(message, "such as \"10.0.0.53\" or \"[::1]:5353\"")
    })
}

/// RFC 6265 §4.1.1: the name of a cookie is a token.
fn read_cookie(section: &mut Section<'_>, name: Option<String>) -> Option<String> {
    let parse = |name: &str| match is_token(name) {
        true => Ok(name.to_owned()),
        false => Err(Fault::new(
            format!("{} isn't the name of a cookie", quote(name)),
            "such as \"ringway_server\"",
        )),
    };
    parse_line(section, "sticky_cookie", &name?, parse)
}

fn check_pool(section: &mut Section<'_>, pool: &PoolOptions) {
    if pool.max_connections.is_none() {
        let without = "where max_connections isn't set: nothing waits";
        report_idle_keys(
            section,
            &["queue", "queue_timeout"],
            without,
            "add max_connections",
        );
    }
}

/// No part takes longer than the whole: a default gives way, what is written is a problem.
fn check_timeouts(section: &mut Section<'_>, timeouts: &mut Timeouts) {
    let Some(total) = timeouts.total_timeout else {
        return;
    };
    for (name, part) in [
        ("connect_timeout", &mut timeouts.connect_timeout),
        ("first_byte_timeout", &mut timeouts.first_byte_timeout),
        ("between_bytes_timeout", &mut timeouts.between_bytes_timeout),
    ] {
        if *part > total {
            let message = format!("{name} is longer than total_timeout");
            let hint = format!("total_timeout is {}", show_duration(total));
            report_written(section, name, &message, &hint);
            *part = total;
        }
    }
}

fn read_health(section: &mut Section<'_>, keys: &HealthKeys) -> Option<ActiveHealth> {
    const OTHERS: [&str; 5] = [
        "health_interval",
        "health_timeout",
        "health_status",
        "healthy_after",
        "unhealthy_after",
    ];
    let status = parse_lines(
        section,
        "health_status",
        &keys.health_status,
        StatusRange::parse,
    );
    let probe = parse_line(section, "health", &keys.health, Probe::parse)?;
    let Some(probe) = probe else {
        let hint = "add health = \"http /healthz\" or \"tcp\"";
        report_idle_keys(section, &OTHERS, "while health is off", hint);
        return None;
    };
    if probe == Probe::Tcp {
        let hint = "statuses come with health = \"http /healthz\"";
        report_idle_keys(section, &["health_status"], "with health = \"tcp\"", hint);
    }
    let mut timeout = keys.health_timeout;
    if timeout > keys.health_interval {
        let message = "health_timeout is longer than health_interval";
        let hint = format!("health_interval is {}", show_duration(keys.health_interval));
        report_written(section, "health_timeout", message, &hint);
        timeout = keys.health_interval;
    }
    Some(ActiveHealth {
        probe,
        interval: keys.health_interval,
        timeout,
        status,
        healthy_after: keys.healthy_after,
        unhealthy_after: keys.unhealthy_after,
    })
}

fn read_forward(section: &mut Section<'_>, keys: ForwardKeys) -> Forward {
    if keys.forwarded == Forwarded::Off {
        let without = "where forwarded = \"off\" removes what it says";
        report_idle_keys(section, &["trusted"], without, "leave it out");
    }
    // RFC 9110 §7.6.3: a token, or a host with a port, which is more than anybody should know.
    let via = |name: &str| match is_token(name) {
        true => Ok(name.to_owned()),
        false => Err(Fault::new(
            format!("{} can't be a name in Via", quote(name)),
            "letters, digits, `.`, `-` and `_`, such as \"edge-1\"",
        )),
    };
    Forward {
        host: parse_line(section, "host", &keys.host, HostPolicy::parse)
            .unwrap_or(HostPolicy::Client),
        forwarded: keys.forwarded,
        trusted: parse_lines(section, "trusted", &keys.trusted, AddressRange::parse),
        via: keys
            .via
            .and_then(|name| parse_line(section, "via", &name, via)),
    }
}
