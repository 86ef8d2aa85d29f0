//! From what is written to what holds: reads every table and checks what one key alone doesn't
//! show (directories that don't exist, addresses used twice, limits that contradict each other).

mod admin;
mod listeners;
mod routes;
mod upstreams;
mod workers;

use std::io::ErrorKind;
use std::path::Path;

use super::keys::{
    ADMIN, FILES, LIMITS, LOG, LogKeys, Root, SocketOptions, TOP, TRANSFER, Transfer,
};
use super::node::{Node, Place};
use super::problem::{Fault, Problem};
use super::read::{Document, Section};
use super::source::Sources;
use super::users::{check_users, check_users_files_apart};
use super::value;
use super::{AccessLog, Config, Log, Route, TransferOptions, TransferThresholds, Upstream};
use crate::files::freshness::Rule;
use crate::files::headers::{FieldRule, is_origin, is_token};
use crate::files::pages::PageRule;
use crate::files::paths::{Candidate, TRIED_COUNT};
use crate::limits::Limits;
use crate::log::Format;
use crate::route::Action;

/// The configuration that `tree` describes, or everything that is wrong with it.
///
/// `problems` are those that are known already.
pub(super) fn check(
    tree: &Node,
    sources: &Sources,
    problems: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    // After a syntax error, or without an included file, what seems to be missing may only be
    // unreadable.
    let complete = problems.is_empty();
    let mut document = Document::new(tree, problems);
    document.check_names();

    let (top, worker_cpus) = workers::read_top(&mut document.section(&TOP));
    let workers = workers::count(&top, worker_cpus.as_ref());
    let limits = read_limits(&mut document.section(&LIMITS), workers);
    let transfer = Transfer::read(&mut document.section(&TRANSFER));
    let log = read_log(&mut document.section(&LOG), sources);
    let admin = admin::read_admin(&mut document.section(&ADMIN), sources);
    let roots = read_roots(&mut document, sources);
    let upstreams = upstreams::read_upstreams(&mut document, sources);
    let services = Services::new(&roots, &upstreams, complete);
    let names = listeners::names(&document);
    let mut own = routes::OwnNames::default();
    let routes = routes::read_routes(&mut document, &names, &services, &mut own, sources);
    let listeners = listeners::read_listeners(&mut document, &services, &routes);
    listeners::check_loops(&mut document, &listeners, &upstreams);
    if let Some(problem) = services.problem_of_none(&routes, &document) {
        document.problems.push(problem);
    }

    match document.problems.is_empty() {
        false => Err(document.problems),
        true => Ok(Config {
            workers,
            io: top.io,
            worker_cpus,
            nic: top.nic,
            pin: top.pin,
            steer: top.steer,
            huge_pages: top.huge_pages,
            shutdown_timeout: top.shutdown_timeout,
            listeners,
            routes,
            roots,
            upstreams,
            services: own.services.0,
            hooks: own.hooks.0,
            limits,
            log,
            admin,
            transfer: TransferOptions {
                thresholds: thresholds(&transfer),
                source_timeout: limits.file_timeout,
                ..TransferOptions::default()
            },
            #[cfg(any(debug_assertions, feature = "fault-injection"))]
            panic_path: None,
        }),
    }
}

fn thresholds(keys: &Transfer) -> TransferThresholds {
    TransferThresholds {
        copy_max_bytes: keys.copy_max_bytes,
        step_bytes: keys.step_bytes,
        turn_bytes: keys.turn_bytes,
        look_ahead_bytes: keys.look_ahead_bytes,
        // Of what is sent from memory without a copy, which no file is.
        ..TransferThresholds::default()
    }
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

fn read_log(section: &mut Section<'_>, sources: &Sources) -> Log {
    let keys = LogKeys::read(section);
    let access_format = read_format(section, &keys.access_format);
    let access = match keys.access.as_str() {
        "off" => AccessLog::Off,
        "-" => AccessLog::Stdout,
        path => AccessLog::File(match section.place("access") {
            Some(place) => sources.resolve(path.as_ref(), &place),
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

/// What a listener or a route can name: the tables that answer.
struct Services<'a> {
    roots: Vec<&'a str>,
    upstreams: Vec<&'a str>,
    /// Whether all of the file could be read, so that what isn't there is missing.
    complete: bool,
}

impl<'a> Services<'a> {
    fn new(roots: &'a [Root], upstreams: &'a [Upstream], complete: bool) -> Services<'a> {
        Services {
            roots: roots.iter().map(|root| &*root.name).collect(),
            upstreams: upstreams.iter().map(|upstream| &*upstream.name).collect(),
            complete,
        }
    }

    /// All of them as a message lists them.
    fn list(&self) -> String {
        let roots = self.roots.iter().map(|name| format!("files = {name:?}"));
        let upstreams = self
            .upstreams
            .iter()
            .map(|name| format!("proxy = {name:?}"));
        roots.chain(upstreams).collect::<Vec<_>>().join(", ")
    }

    /// What the key `files` or `proxy` of a section names, if that is written and exists. A name
    /// without a table is reported.
    fn named(&self, section: &mut Section<'_>, key: &'static str, name: &str) -> Option<Action> {
        let is_files = key == "files";
        let (names, table) = match is_files {
            true => (&self.roots, "files"),
            false => (&self.upstreams, "upstream"),
        };
        if let Some(index) = names.iter().position(|known| *known == name) {
            return Some(match is_files {
                true => Action::Files(index),
                false => Action::Proxy(index),
            });
        }
        if let Some(place) = section.place(key)
            && self.complete
        {
            let problem = Problem::new(place, format!("there is no [{table}.{name}]"));
            let example = match is_files {
                true => "root = \"/var/www\"",
                false => "servers = [\"127.0.0.1:3000\"]",
            };
            let known: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let near = value::nearest(name, names.iter().copied());
            section.report(match (near, &known[..]) {
                (Some(near), _) => problem.hint(format!("did you mean {near:?}?")),
                (None, []) => problem.hint(format!("add it, with {example}")),
                (None, _) => problem.hint(format!("there are {}", known.join(", "))),
            });
        }
        None
    }

    /// What is wrong with a configuration in which nothing answers, unless more is.
    fn problem_of_none(&self, routes: &[Route], document: &Document<'_>) -> Option<Problem> {
        let has_some = !self.roots.is_empty() || !self.upstreams.is_empty() || !routes.is_empty();
        if has_some || !self.complete || !document.problems.is_empty() {
            return None;
        }
        let hint = "add a directory: [files.site] with root = \"/var/www\"";
        Some(Problem::new(Place::Text(0..0), "nothing to serve").hint(hint))
    }
}

fn read_roots(document: &mut Document<'_>, sources: &Sources) -> Vec<Root> {
    let mut roots = Vec::new();
    for entry in document.named(&FILES) {
        let mut section = document.named_section(&FILES, entry);
        let mut root = Root::read(&mut section);
        if let Some(place) = section.place("root") {
            root.root = sources.resolve(&root.root, &place);
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
        check_users(&mut section, &mut root, sources);
        roots.push(root);
    }
    check_users_files_apart(document, &roots);
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

/// What the texts of a list are, as far as `parse` knows them; the others are reported, each at
/// its place.
fn parse_lines<T>(
    section: &mut Section<'_>,
    name: &str,
    lines: &[String],
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Vec<T> {
    let mut places = section.places(name).into_iter();
    let mut parsed = Vec::new();
    for line in lines {
        // What isn't written is a default, which is right.
        let place = places.next();
        match (parse(line), place) {
            (Ok(one), _) => parsed.push(one),
            (Err(fault), Some(place)) => section.report(fault.at(place)),
            (Err(_), None) => {}
        }
    }
    parsed
}

/// The same for one text.
fn parse_line<T>(
    section: &mut Section<'_>,
    name: &str,
    line: &str,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Option<T> {
    match parse(line) {
        Ok(one) => Some(one),
        Err(fault) => {
            if let Some(place) = section.place(name) {
                section.report(fault.at(place));
            }
            None
        }
    }
}

/// Reports keys that are written but mean nothing as things are.
fn report_idle_keys(section: &mut Section<'_>, names: &[&str], without: &str, hint: &str) {
    for name in names {
        let message = format!("{name} has no effect {without}");
        report_written(section, name, &message, hint);
    }
}

fn check_keepalive(section: &mut Section<'_>, socket: &SocketOptions) {
    if !socket.keepalive {
        let keys = ["keepalive_idle", "keepalive_interval", "keepalive_count"];
        report_idle_keys(
            section,
            &keys,
            "while keepalive is off",
            "add keepalive = true",
        );
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
