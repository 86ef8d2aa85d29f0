//! A configuration as TOML: everything that holds, written out, so that it reads back as the same.
//!
//! Files that were included are one then, variables are what they stood for, and defaults are
//! written. Only what means nothing as things are is left out: reading would complain of it. The
//! names and kinds of the keys are those of the tables; nothing about a key is written here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::{Absent, Kind, Table};
use super::keys::{
    ADMIN, AdminKeys, Binding, FILES, LIMITS, LISTEN, LOG, LogKeys, SocketOptions, TOP, TRANSFER,
    Top, Transfer,
};
use super::route::{ActionKeys, MatchKeys, ROUTE, Route};
use super::server::Probe;
use super::upstream::{
    Balance, ForwardKeys, Forwarded, HealthKeys, UPSTREAM, Upstream, UpstreamKeys,
};
use super::value::{Address, Value, show_duration, show_size};
use super::{AccessLog, Admin, AdminAddress, Config, Listener};
use crate::route::Action;

impl Config {
    /// The configuration as one TOML file.
    ///
    /// Password hashes that the configuration itself has are in it; those of a `users_file`
    /// aren't, only its name.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        write_table(&mut out, &TOP, "", |table| {
            Top::of(self).write(table);
        });
        for listener in &self.listeners {
            write_table(&mut out, &LISTEN, &listener.name, |table| {
                Binding::of(listener, self).write(table);
                listener.options.write(table);
                write_socket(&listener.socket, table);
            });
        }
        for route in &self.routes {
            write_table(&mut out, &ROUTE, "", |table| {
                MatchKeys::of(route, self).write(table);
                ActionKeys::of(route, self).write(table);
            });
        }
        for root in &self.roots {
            write_table(&mut out, &FILES, &root.name, |table| {
                if !root.has_users() {
                    table.leave_out(&["realm", "password_cache"]);
                }
                root.write(table);
            });
        }
        for upstream in &self.upstreams {
            write_table(&mut out, &UPSTREAM, &upstream.name, |table| {
                write_upstream(upstream, table);
            });
        }
        write_table(&mut out, &TRANSFER, "", |table| {
            Transfer::of(self).write(table);
        });
        write_table(&mut out, &LIMITS, "", |table| self.limits.write(table));
        write_table(&mut out, &LOG, "", |table| LogKeys::of(self).write(table));
        if let Some(admin) = &self.admin {
            write_table(&mut out, &ADMIN, "", |table| {
                table.leave_out(match admin.address {
                    AdminAddress::Unix { .. } => &["allow_remote"],
                    AdminAddress::Tcp(_) => &["mode"],
                });
                AdminKeys::of(admin).write(table);
            });
        }
        out
    }
}

/// A table while it is written.
pub(crate) struct TableWriter<'a> {
    out: &'a mut String,
    table: &'static Table,
    left_out: Vec<&'static str>,
}

impl TableWriter<'_> {
    fn leave_out(&mut self, names: &[&'static str]) {
        self.left_out.extend(names);
    }

    /// Writes a key, unless it is left out or has no value.
    pub(crate) fn key(&mut self, name: &'static str, value: &dyn ToValue) {
        let Some(value) = value.to_value().filter(|_| !self.left_out.contains(&name)) else {
            return;
        };
        let key = self
            .table
            .key(name)
            .expect("a field and its key are one row");
        let is_none = matches!(&value, Value::List(list) if list.is_empty());
        if is_none && !matches!(key.absent, Absent::Is(_)) {
            return;
        }
        // Writing to a String doesn't fail.
        let _ = writeln!(self.out, "{name} = {}", shown(&key.kind, value));
    }
}

fn write_table(
    out: &mut String,
    table: &'static Table,
    name: &str,
    write: impl FnOnce(&mut TableWriter<'_>),
) {
    let header = table.header().replace("NAME", name);
    if !header.is_empty() {
        let _ = write!(out, "\n{header}\n");
    }
    write(&mut TableWriter {
        out,
        table,
        left_out: Vec::new(),
    });
}

/// A value as TOML has it.
fn shown(kind: &Kind, value: Value) -> String {
    match (kind, value) {
        (Kind::List { of, .. }, Value::List(list)) => {
            let list: Vec<String> = list.into_iter().map(|value| shown(of, value)).collect();
            format!("[{}]", list.join(", "))
        }
        (Kind::Size { .. }, Value::Integer(bytes)) => quoted(&show_size(bytes)),
        (Kind::Format, Value::Text(text)) => quoted(&text),
        (_, Value::Switch(switch)) => switch.to_string(),
        (_, Value::Integer(number)) => number.to_string(),
        (_, Value::Duration(time)) => quoted(&show_duration(time)),
        (_, Value::Address(address)) => quoted(&address.to_string()),
        // A text in which a variable seems to stand meant it as it is.
        (_, Value::Text(text)) => quoted(&text.replace("${", "$${")),
        (_, Value::List(_)) => unreachable!("only a list's kind has lists"),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn write_socket(socket: &SocketOptions, table: &mut TableWriter<'_>) {
    if !socket.keepalive {
        table.leave_out(&["keepalive_idle", "keepalive_interval", "keepalive_count"]);
    }
    socket.write(table);
}

fn write_upstream(upstream: &Upstream, table: &mut TableWriter<'_>) {
    if !matches!(upstream.balance, Balance::Hash { .. }) {
        table.leave_out(&["hash_by", "hash_load"]);
    }
    if upstream.pool.max_connections.is_none() {
        table.leave_out(&["queue", "queue_timeout"]);
    }
    match upstream.health.as_ref().map(|health| &health.probe) {
        None => table.leave_out(&[
            "health_interval",
            "health_timeout",
            "health_status",
            "healthy_after",
            "unhealthy_after",
        ]),
        Some(Probe::Tcp) => table.leave_out(&["health_status"]),
        Some(Probe::Http(_)) => {}
    }
    if upstream.forward.forwarded == Forwarded::Off {
        table.leave_out(&["trusted"]);
    }
    UpstreamKeys::of(upstream).write(table);
    upstream.pool.write(table);
    upstream.timeouts.write(table);
    upstream.retries.write(table);
    upstream.passive.write(table);
    HealthKeys::of(upstream).write(table);
    ForwardKeys::of(upstream).write(table);
    write_socket(&upstream.socket, table);
}

// What was checked, as it would be written.

impl Top {
    fn of(config: &Config) -> Top {
        Top {
            include: Vec::new(),
            workers: Some(config.workers),
            io: config.io,
            worker_cpus: config.worker_cpus.as_ref().map(ToString::to_string),
            nic: config.nic.clone(),
            pin: config.pin,
            steer: config.steer,
            huge_pages: config.huge_pages,
            shutdown_timeout: config.shutdown_timeout,
        }
    }
}

impl Binding {
    fn of(listener: &Listener, config: &Config) -> Binding {
        let (files, proxy) = named(listener.catch_all.as_ref(), config);
        Binding {
            address: listener.addresses.clone(),
            files,
            proxy,
        }
    }
}

/// The names of what an action refers to: of a root, of an upstream.
fn named(action: Option<&Action>, config: &Config) -> (Option<String>, Option<String>) {
    match action {
        Some(Action::Files(index)) => (Some(config.roots[*index].name.clone()), None),
        Some(Action::Proxy(index)) => (None, Some(config.upstreams[*index].name.clone())),
        _ => (None, None),
    }
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

impl MatchKeys {
    fn of(route: &Route, config: &Config) -> MatchKeys {
        let names = route.listeners.iter();
        let matcher = &route.matcher;
        MatchKeys {
            listen: Some(
                names
                    .map(|index| config.listeners[*index].name.clone())
                    .collect(),
            ),
            host: texts(&matcher.hosts),
            path: texts(&matcher.paths),
            method: texts(&matcher.methods),
            header: texts(&matcher.headers),
            query: texts(&matcher.query),
        }
    }
}

impl ActionKeys {
    fn of(route: &Route, config: &Config) -> ActionKeys {
        let rule = &route.rule;
        let (files, proxy) = named(Some(&rule.action), config);
        let (redirect, status, body) = match &rule.action {
            Action::Redirect(redirect) => (Some(&redirect.to), Some(redirect.status), None),
            Action::Status(answer) => (None, Some(answer.status), answer.body.as_ref()),
            Action::Files(_) | Action::Proxy(_) | Action::Service(_) => (None, None, None),
        };
        let service = match &rule.action {
            Action::Service(index) => Some(config.services[*index].clone()),
            _ => None,
        };
        ActionKeys {
            files,
            proxy,
            redirect: redirect.map(ToString::to_string),
            status,
            body: body.map(ToString::to_string),
            service,
            hooks: rule.hooks.map(|index| config.hooks[index].clone()),
            strip_prefix: rule.strip_prefix.as_ref().map(ToString::to_string),
            rewrite: rule.rewrite.as_ref().map(ToString::to_string),
            request_headers: texts(&rule.request_headers),
            response_headers: texts(&rule.response_headers),
        }
    }
}

impl UpstreamKeys {
    fn of(upstream: &Upstream) -> UpstreamKeys {
        let (hash_by, hash_load) = match &upstream.balance {
            Balance::Hash { by, load_percent } => (by.to_string(), *load_percent),
            _ => (String::new(), 0),
        };
        UpstreamKeys {
            servers: texts(&upstream.servers),
            balance: upstream.balance.word(),
            hash_by,
            hash_load,
            sticky_cookie: upstream.sticky_cookie.clone(),
        }
    }
}

impl HealthKeys {
    fn of(upstream: &Upstream) -> HealthKeys {
        let health = upstream.health.as_ref();
        HealthKeys {
            health: health.map_or("off".to_owned(), |health| health.probe.to_string()),
            health_interval: health.map_or(Duration::ZERO, |health| health.interval),
            health_timeout: health.map_or(Duration::ZERO, |health| health.timeout),
            health_status: health.map_or(Vec::new(), |health| texts(&health.status)),
            healthy_after: health.map_or(0, |health| health.healthy_after),
            unhealthy_after: health.map_or(0, |health| health.unhealthy_after),
        }
    }
}

impl ForwardKeys {
    fn of(upstream: &Upstream) -> ForwardKeys {
        let forward = &upstream.forward;
        ForwardKeys {
            host: forward.host.to_string(),
            forwarded: forward.forwarded,
            trusted: texts(&forward.trusted),
            via: forward.via.clone(),
            splice: upstream.splice,
            resolve_interval: upstream.resolve_interval,
            resolver: texts(&upstream.resolver),
        }
    }
}

impl Transfer {
    fn of(config: &Config) -> Transfer {
        let thresholds = &config.transfer.thresholds;
        Transfer {
            copy_max_bytes: thresholds.copy_max_bytes,
            step_bytes: thresholds.step_bytes,
            turn_bytes: thresholds.turn_bytes,
            look_ahead_bytes: thresholds.look_ahead_bytes,
        }
    }
}

impl LogKeys {
    fn of(config: &Config) -> LogKeys {
        LogKeys {
            access: match &config.log.access {
                AccessLog::Off => "off".to_owned(),
                AccessLog::Stdout => "-".to_owned(),
                AccessLog::File(path) => path.display().to_string(),
            },
            access_format: config.log.access_format.to_string(),
            format: config.log.events,
        }
    }
}

impl AdminKeys {
    fn of(admin: &Admin) -> AdminKeys {
        let mode = match admin.address {
            AdminAddress::Unix { mode, .. } => format!("{mode:04o}"),
            AdminAddress::Tcp(_) => String::new(),
        };
        AdminKeys {
            address: Some(admin.address.to_string()),
            mode,
            allow_remote: admin.allow_remote,
        }
    }
}

/// What a field holds, as a value of its key.
pub(crate) trait ToValue {
    /// `None` where the key isn't to be written.
    fn to_value(&self) -> Option<Value>;
}

macro_rules! to_value {
    ($($type:ty, $field:ident => $value:expr;)*) => { $(
        impl ToValue for $type {
            fn to_value(&self) -> Option<Value> {
                let $field = self;
                Some($value)
            }
        }
    )* };
}
to_value! {
    bool, field => Value::Switch(*field);
    u16, field => Value::Integer((*field).into());
    u32, field => Value::Integer((*field).into());
    u64, field => Value::Integer(*field);
    usize, field => Value::Integer(*field as u64);
    Duration, field => Value::Duration(*field);
    String, field => Value::Text(field.clone());
    PathBuf, field => Value::Text(shown_path(field));
    Address, field => Value::Address(*field);
}

/// A configuration is UTF-8 text, and so are the paths in it; only the directory that they start
/// at may not be.
fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Option<Value> {
        Some(Value::List(
            self.iter().filter_map(ToValue::to_value).collect(),
        ))
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(ToValue::to_value)
    }
}
