//! From what is written to what holds: reads every table and checks what one key alone doesn't
//! show (directories that don't exist, addresses used twice, limits that contradict each other).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::keys::{Binding, FILES, LIMITS, LISTEN, LOG, ListenOptions, LogKeys, TOP, Top};
use super::keys::{Root, SocketOptions};
use super::node::{Node, Place};
use super::problem::Problem;
use super::read::{Document, Section};
use super::users::{check_users, check_users_files_apart};
use super::value::{self, Address};
use super::{AccessLog, Config, Listener, Log, TransferOptions};
use crate::files::freshness::Rule;
use crate::files::headers::{FieldRule, is_origin, is_token};
use crate::files::pages::PageRule;
use crate::files::paths::{Candidate, TRIED_COUNT};
use crate::limits::Limits;
use crate::log::Format;

/// Where a configuration without a listener listens.
const DEFAULT_ADDRESS: Address = Address {
    socket: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
    every_family: false,
};

/// The configuration that `tree` describes, or everything that is wrong with it.
///
/// Relative paths that a file gives start at `base`. `problems` are those of the syntax.
pub(super) fn check(
    tree: &Node,
    base: &Path,
    problems: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    // After a syntax error what seems to be missing may only be unreadable.
    let complete = problems.is_empty();
    let mut document = Document::new(tree, problems);
    document.check_names();

    let top = Top::read(&mut document.section(&TOP));
    let workers = top.workers.unwrap_or_else(cpus_allowed);
    let limits = read_limits(&mut document.section(&LIMITS), workers);
    let log = read_log(&mut document.section(&LOG), base);
    let roots = read_roots(&mut document, base, complete);
    let listeners = read_listeners(&mut document, &roots, complete);

    match document.problems.is_empty() {
        false => Err(document.problems),
        true => Ok(Config {
            workers,
            io: top.io,
            pin: top.pin,
            shutdown_timeout: top.shutdown_timeout,
            listeners,
            roots,
            limits,
            log,
            transfer: TransferOptions::default(),
            #[cfg(any(debug_assertions, feature = "fault-injection"))]
            panic_path: None,
        }),
    }
}

/// How many CPUs the process may use, by its affinity mask and its control group.
fn cpus_allowed() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(1024))
}

/// Reads the limits. Where two contradict each other, a default gives way to what is written;
/// two that are written are a problem.
fn read_limits(section: &mut Section<'_>, workers: usize) -> Limits {
    let mut limits = Limits::read(section);
    if limits.target_bytes > limits.head_bytes {
        let message = "target_bytes is larger than head_bytes, which the target is part of";
        let head_bytes = value::show_size(limits.head_bytes as u64);
        if !report_written(
            section,
            "target_bytes",
            message,
            &format!("head_bytes is {head_bytes}"),
        ) {
            limits.target_bytes = limits.head_bytes;
        }
    }
    if limits.connections > 0 && limits.connections_per_address > limits.connections {
        let message = "connections_per_address is larger than connections";
        let hint = format!("connections is {}", limits.connections);
        if !report_written(section, "connections_per_address", message, &hint) {
            limits.connections_per_address = limits.connections;
        }
    }
    let cache_share = limits.cache_bytes / workers as u64;
    if limits.cache_bytes > 0 && limits.cache_file_bytes > cache_share {
        let message = "the largest cached file doesn't fit a worker's share of the cache";
        let cache_bytes = value::show_size(limits.cache_bytes);
        let hint = format!("cache_bytes is {cache_bytes}, for {workers} workers");
        if !report_written(section, "cache_file_bytes", message, &hint) {
            limits.cache_file_bytes = cache_share;
        }
    }
    if limits.completion_entries < limits.ring_entries {
        let message = "completion_entries is smaller than ring_entries";
        let hint = format!("at least {}", limits.ring_entries);
        if !report_written(section, "completion_entries", message, &hint) {
            limits.completion_entries = limits.ring_entries * 2;
        }
    }
    check_powers_of_two(section, &limits);
    limits
}

/// Reports a problem of the key `name` if the key is written, and says whether it is.
fn report_written(section: &mut Section<'_>, name: &str, message: &str, hint: &str) -> bool {
    let Some(place) = section.place(name) else {
        return false;
    };
    section.report(Problem::new(place, message).hint(hint));
    true
}

fn check_powers_of_two(section: &mut Section<'_>, limits: &Limits) {
    for (name, count) in [
        ("receive_buffers", limits.receive_buffers),
        ("ring_entries", limits.ring_entries),
        ("completion_entries", limits.completion_entries),
    ] {
        if !count.is_power_of_two() {
            let message = format!("{name} has to be a power of two");
            let hint = format!("such as {}", count.next_power_of_two());
            report_written(section, name, &message, &hint);
        }
    }
}

fn read_log(section: &mut Section<'_>, base: &Path) -> Log {
    let keys = LogKeys::read(section);
    let access_format = read_format(section, &keys.access_format);
    let access = match keys.access.as_str() {
        "off" => AccessLog::Off,
        "-" => AccessLog::Stdout,
        path => AccessLog::File(match section.place("access") {
            Some(place) => resolve(path.as_ref(), &place, base),
            None => path.into(),
        }),
    };
    if let (AccessLog::File(path), Some(place)) = (&access, section.place("access")) {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if path.is_dir() {
            let message = format!("{} is a directory", path.display());
            section.report(Problem::new(place, message).hint("name the file in it"));
        } else if let Some(parent) = parent
            && !parent.is_dir()
        {
            let message = format!("the directory {} doesn't exist", parent.display());
            let hint = "create it, or choose another place for the access log";
            section.report(Problem::new(place, message).hint(hint));
        }
    }
    Log {
        access,
        access_format,
        events: keys.format,
    }
}

fn read_format(section: &mut Section<'_>, text: &str) -> Format {
    let fault = match Format::parse(text) {
        Ok(format) => return format,
        Err(fault) => fault,
    };
    if let Some(place) = section.place("access_format") {
        let place = match place {
            // Quotes, and in between just what was written: then its parts can be pointed at.
            Place::Text(span) if span.len() == text.len() + 2 => {
                let start = span.start + 1;
                Place::Text(start + fault.span.start..start + fault.span.end)
            }
            place => place,
        };
        section.report(Problem::new(place, fault.message).hint(fault.hint));
    }
    Format::default()
}

/// A path of a file is relative to that file's directory, one of a flag to the current one.
pub(super) fn resolve(path: &Path, place: &Place, base: &Path) -> PathBuf {
    match place {
        Place::Text(_) => base.join(path),
        Place::Flag(_) => path.to_owned(),
    }
}

fn read_roots(document: &mut Document<'_>, base: &Path, complete: bool) -> Vec<Root> {
    let mut roots = Vec::new();
    for entry in document.named(&FILES) {
        let mut section = document.named_section(&FILES, entry);
        let mut root = Root::read(&mut section);
        if let Some(place) = section.place("root") {
            root.root = resolve(&root.root, &place, base);
            if let Some(problem) = directory_problem(&root.root, place) {
                section.report(problem);
            }
        }
        for (name, place) in root.index.iter().zip(section.places("index")) {
            if name.contains('/') || name == "." || name == ".." {
                let problem = Problem::new(place, format!("{name:?} isn't the name of a file"));
                section.report(problem.hint("a name within the directory, such as \"index.html\""));
            }
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if let Some(place) = section.place("charset")
            && !root.charset.bytes().all(token)
        {
            let problem = Problem::new(place, format!("{:?} isn't a charset", root.charset));
            section.report(problem.hint("such as \"utf-8\", or \"\" for none"));
        }
        check_paths(&mut section, &root);
        check_headers(&mut section, &root);
        check_users(&mut section, &mut root, base);
        roots.push(root);
    }
    check_users_files_apart(document, &roots);
    if roots.is_empty() && complete && document.problems.is_empty() {
        let problem = Problem::new(Place::Text(0..0), "nothing to serve");
        let hint = "add a directory: [files.site] with root = \"/var/www\"";
        document.problems.push(problem.hint(hint));
    }
    roots
}

fn check_paths(section: &mut Section<'_>, root: &Root) {
    check_lines(section, "try_files", &root.try_files, |text| {
        Candidate::parse(text).map(drop)
    });
    check_lines(section, "error_pages", &root.error_pages, |line| {
        PageRule::parse(line).map(drop)
    });
    let is_end = |text: &String| text.starts_with('=');
    if let Some((_, others)) = root.try_files.split_last()
        && others.iter().any(is_end)
    {
        let message = "a status ends the list, but something follows";
        report_written(section, "try_files", message, "put it last");
    }
    for (name, count) in [
        ("try_files", root.try_files.len()),
        ("index", root.index.len()),
    ] {
        if count > TRIED_COUNT {
            let message = format!("{count} names would be tried for one request");
            let hint = format!("at most {TRIED_COUNT}");
            report_written(section, name, &message, &hint);
        }
    }
    for (name, is_on) in [("clean_urls", root.clean_urls), ("spa", root.spa)] {
        if is_on && !root.try_files.is_empty() {
            let message = format!("{name} and try_files both say what is tried");
            report_written(section, name, &message, "leave one of them out");
        }
    }
}

fn check_headers(section: &mut Section<'_>, root: &Root) {
    check_lines(section, "headers", &root.headers, |line| {
        FieldRule::parse(line).map(drop)
    });
    check_lines(section, "cache_control", &root.cache_control, |line| {
        Rule::parse(line).map(drop)
    });
    check_lines(section, "cors", &root.cors, |origin| {
        match origin == "*" || is_origin(origin) {
            true => Ok(()),
            false => Err((
                format!("{origin:?} isn't an origin"),
                "such as \"https://app.example\": in lower case, without a path",
            )),
        }
    });
    check_lines(
        section,
        "cors_expose",
        &root.cors_expose,
        |name| match is_token(name) {
            true => Ok(()),
            false => Err((format!("{name:?} isn't a header name"), "such as \"ETag\"")),
        },
    );
    let is_open = root.cors.iter().any(|origin| origin == "*");
    if is_open && root.cors.len() > 1 {
        let message = "\"*\" and other origins";
        report_written(section, "cors", message, "\"*\" alone allows all of them");
    }
    if root.cors_credentials && (is_open || root.cors.is_empty()) {
        // Fetch Standard §3.3.5: with credentials the asterisk is an origin called asterisk.
        let message = "cors_credentials needs the origins by name";
        let hint = "such as cors = [\"https://app.example\"]";
        report_written(section, "cors_credentials", message, hint);
    }
}

/// Reports the elements of a list that `check` refuses, each at its place.
fn check_lines(
    section: &mut Section<'_>,
    name: &str,
    lines: &[String],
    check: impl Fn(&str) -> Result<(), (String, &'static str)>,
) {
    for (line, place) in lines.iter().zip(section.places(name)) {
        if let Err((message, hint)) = check(line) {
            section.report(Problem::new(place, message).hint(hint));
        }
    }
}

fn directory_problem(path: &Path, place: Place) -> Option<Problem> {
    let shown = path.display();
    let (message, hint) = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return None,
        Ok(_) => (
            format!("{shown} isn't a directory"),
            "name the directory that it is in",
        ),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => (
                format!("{shown} doesn't exist"),
                "create it, or name a directory that does",
            ),
            ErrorKind::NotADirectory => (
                format!("{shown} leads through a file"),
                "name a directory that exists",
            ),
            ErrorKind::PermissionDenied => (
                format!("{shown} can't be looked at by this user"),
                "permit it (execute on every directory above), or run as another user",
            ),
            _ => (
                format!("{shown}: {error}"),
                "name a directory that can be read",
            ),
        },
    };
    Some(Problem::new(place, message).hint(hint))
}

fn read_listeners(document: &mut Document<'_>, roots: &[Root], complete: bool) -> Vec<Listener> {
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
        let root = served_root(&mut section, binding.files.as_deref(), roots, complete);
        let name = entry.key.clone();
        listeners.push(Listener {
            name,
            addresses: binding.address,
            root,
            options,
            socket,
        });
    }
    if listeners.is_empty() && document.problems.is_empty() {
        match roots {
            [_] => listeners.push(default_listener()),
            _ => {
                let message = "several [files.NAME] tables, and no listener to say which is served";
                let hint = "add a table: [listen.main] with address and files";
                document
                    .problems
                    .push(Problem::new(Place::Text(0..0), message).hint(hint));
            }
        }
    }
    listeners
}

/// The listener of a configuration that names none; it serves the only root.
fn default_listener() -> Listener {
    Listener {
        name: "main".to_owned(),
        addresses: vec![DEFAULT_ADDRESS],
        root: 0,
        options: ListenOptions::default(),
        socket: SocketOptions::default(),
    }
}

fn check_keepalive(section: &mut Section<'_>, socket: &SocketOptions) {
    for name in ["keepalive_idle", "keepalive_interval", "keepalive_count"] {
        if let Some(place) = section.place(name)
            && !socket.keepalive
        {
            let message = format!("{name} has no effect while keepalive is off");
            section.report(Problem::new(place, message).hint("add keepalive = true"));
        }
    }
}

/// The index of the root that a listener serves.
fn served_root(
    section: &mut Section<'_>,
    name: Option<&str>,
    roots: &[Root],
    complete: bool,
) -> usize {
    let names = || roots.iter().map(|root| root.name.as_str());
    let list = || {
        names()
            .map(|name| format!("{name:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(name) = name else {
        if roots.len() > 1 && complete && section.place("files").is_none() {
            let message = format!("[listen.{}] needs \"files\"", section.name());
            let hint = format!("there are several to choose from: {}", list());
            section.report(Problem::new(section.header(), message).hint(hint));
        }
        return 0;
    };
    if let Some(index) = names().position(|root| root == name) {
        return index;
    }
    if let Some(place) = section.place("files")
        && complete
    {
        let problem = Problem::new(place, format!("there is no [files.{name}]"));
        section.report(match (value::nearest(name, names()), roots) {
            (Some(near), _) => problem.hint(format!("did you mean {near:?}?")),
            (None, []) => problem.hint("add it, with root = \"/var/www\""),
            (None, _) => problem.hint(format!("there are {}", list())),
        });
    }
    0
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
