//! Flags made from the configuration's keys: a key that names a flag has one here, with its
//! explanation, default and check. Nothing about a key is written twice.

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueHint};
use ringway_server::config::{self, Absent, Flag, Flags, Key, Table};

/// The NAMEs that `serve` and `proxy` give their only listener, directory and upstream.
const LISTENER: &str = "main";
const ROOT: &str = "site";
const UPSTREAM: &str = "app";

/// The tables that any configuration has once.
const SHARED: &[&str] = &["", "limits", "log", "admin"];
/// Those that `serve` and `proxy` have one of.
const SERVE: &[&str] = &["listen", "files"];
const PROXY: &[&str] = &["listen", "upstream"];

/// Keys that any configuration has once: the top level, `[limits]`, `[log]`, `[admin]`.
#[derive(Debug, Clone)]
pub(crate) struct SharedKeys(Vec<Given>);

/// Keys of the listener and the directory of `serve`.
#[derive(Debug, Clone)]
pub(crate) struct ServeKeys(Vec<Given>);

/// Keys of the listener and the upstream of `proxy`.
#[derive(Debug, Clone)]
pub(crate) struct ProxyKeys(Vec<Given>);

/// A flag that was given.
#[derive(Debug, Clone)]
struct Given {
    path: String,
    flag: String,
    is_list: bool,
    values: Vec<String>,
}

impl SharedKeys {
    /// `flags` with these.
    pub(crate) fn apply(&self, flags: Flags) -> Flags {
        apply(&self.0, flags)
    }
}

impl ServeKeys {
    /// `flags` with these; `directory` and `port` are what `serve` has beside them.
    pub(crate) fn apply(&self, flags: Flags, directory: &str, port: Option<u16>) -> Flags {
        let path = format!("files.{ROOT}.root");
        let flags = apply(&self.0, flags.set(&path, "", directory));
        with_port(flags, port)
    }
}

impl ProxyKeys {
    /// `flags` with these; `port` is what `proxy` has beside them.
    pub(crate) fn apply(&self, flags: Flags, port: Option<u16>) -> Flags {
        with_port(apply(&self.0, flags), port)
    }
}

fn with_port(flags: Flags, port: Option<u16>) -> Flags {
    match port {
        None => flags,
        Some(port) => {
            let path = format!("listen.{LISTENER}.address");
            flags.set(&path, "--listen", &format!("127.0.0.1:{port}"))
        }
    }
}

fn apply(given: &[Given], flags: Flags) -> Flags {
    given.iter().fold(flags, |flags, given| {
        let Given { path, flag, .. } = given;
        match &given.values[..] {
            [value] if !given.is_list => flags.set(path, flag, value),
            values => flags.set_list(path, flag, values),
        }
    })
}

/// What people look for in `-h`. The limits and most properties of files are seldom set.
fn is_for_a_glance(table: &Table, flag: &str) -> bool {
    const OF_FILES: [&str; 5] = ["browse", "clean-urls", "index", "show-dotfiles", "spa"];
    const OF_UPSTREAM: [&str; 5] = ["to", "lb", "health", "max-connections", "sticky-cookie"];
    const SELDOM: [&str; 5] = ["huge-pages", "pin", "nic", "steer", "worker-cpus"];
    match table.name {
        "" => !SELDOM.contains(&flag),
        "limits" => false,
        "files" => OF_FILES.contains(&flag),
        "upstream" => OF_UPSTREAM.contains(&flag),
        _ => true,
    }
}

/// Keys of these tables with a flag, each with that.
fn keys(tables: &[&str]) -> impl Iterator<Item = (&'static Table, &'static Key, &'static str)> {
    config::tables()
        .iter()
        .filter(|table| tables.contains(&table.name))
        .flat_map(|table| {
            table.keys().filter_map(move |key| match key.flag {
                Flag::Shown(flag) | Flag::Hidden(flag) => Some((table, key, flag)),
                Flag::None => None,
            })
        })
}

fn path(table: &Table, key: &Key) -> String {
    match table.name {
        "" => key.name.to_owned(),
        "listen" => format!("listen.{LISTENER}.{}", key.name),
        "files" => format!("files.{ROOT}.{}", key.name),
        "upstream" => format!("upstream.{UPSTREAM}.{}", key.name),
        name => format!("{name}.{}", key.name),
    }
}

fn heading(table: &Table) -> &'static str {
    match table.name {
        "limits" => "Limits",
        "log" => "Logs",
        "listen" | "files" => "Site",
        "upstream" => "Upstream",
        _ => "Process",
    }
}

fn arg(table: &'static Table, key: &'static Key, flag: &'static str) -> Arg {
    let default = match (table.name, key.absent) {
        ("listen", Absent::Required) => "127.0.0.1:8080",
        (_, Absent::Is(text)) => text,
        (_, Absent::Means(text)) => text,
        (_, Absent::Required) => "none",
    };
    let is_required = table.name == "upstream" && matches!(key.absent, Absent::Required);
    let (default, or_default) = match is_required {
        true => ("required".to_owned(), String::new()),
        false => (
            format!("default: {default}"),
            format!(" [default: {default}]"),
        ),
    };
    let summary = format!("{}{or_default}", plain(&key.summary()));
    let place = match table.header() {
        header if header.is_empty() => "above the first table".to_owned(),
        header => format!("in {header}"),
    };
    let doc = paragraphs(key.doc);
    let long = format!("{doc}\n\n[{default}; in a file: {} {place}]", key.name);
    let arg = Arg::new(flag)
        .long(flag)
        .help(summary)
        .long_help(long)
        .help_heading(heading(table))
        .value_name(key.placeholder())
        .required(is_required)
        .hide_short_help(!is_for_a_glance(table, flag))
        .hide(matches!(key.flag, Flag::Hidden(_)));
    let arg = match flag {
        "to" => arg.value_name("SERVER"),
        "health" => arg.value_name("PATH|tcp|off"),
        "admin" => arg.value_name("unix:PATH|ADDR"),
        "access-log" => arg.value_name("PATH|-|off").value_hint(ValueHint::FilePath),
        _ => arg,
    };
    if key.is_switch() && matches!(key.absent, Absent::Is("false")) {
        return arg.action(ArgAction::SetTrue);
    }
    let arg = match key.is_list() {
        true => arg.action(ArgAction::Append),
        false => arg,
    };
    match key.choices() {
        [] => arg.value_parser(move |text: &str| key.validate(text).map(|()| text.to_owned())),
        choices => {
            let values: Vec<PossibleValue> = choices
                .iter()
                .map(|(word, doc)| PossibleValue::new(*word).help(plain(&join(doc))))
                .collect();
            arg.value_parser(values)
        }
    }
}

fn join(doc: &str) -> String {
    doc.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

fn paragraphs(doc: &str) -> String {
    let lines = doc
        .trim()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n");
    plain(
        &lines
            .split("\n\n")
            .map(join)
            .collect::<Vec<_>>()
            .join("\n\n"),
    )
}

/// Markdown's marks say nothing in a terminal.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn augment(command: Command, tables: &[&str]) -> Command {
    keys(tables).fold(command, |command, (table, key, flag)| {
        command.arg(arg(table, key, flag))
    })
}

fn given(matches: &ArgMatches, tables: &[&str]) -> Vec<Given> {
    let mut list = Vec::new();
    for (table, key, flag) in keys(tables) {
        let values: Vec<String> = if key.is_switch() && matches!(key.absent, Absent::Is("false")) {
            matches
                .get_flag(flag)
                .then(|| "true".to_owned())
                .into_iter()
                .collect()
        } else {
            matches
                .get_many::<String>(flag)
                .into_iter()
                .flatten()
                .flat_map(|text| match key.splits_at_commas() {
                    true => text.split(',').map(str::to_owned).collect(),
                    false => vec![text.clone()],
                })
                .collect()
        };
        if !values.is_empty() {
            list.push(Given {
                path: path(table, key),
                flag: format!("--{flag}"),
                is_list: key.is_list(),
                values,
            });
        }
    }
    list
}

macro_rules! args_from_keys {
    ($type:ident, $tables:expr) => {
        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                augment(command, $tables)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $tables)
            }
        }

        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<$type, Error> {
                Ok($type(given(matches, $tables)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                self.0 = given(matches, $tables);
                Ok(())
            }
        }
    };
}
args_from_keys!(SharedKeys, SHARED);
args_from_keys!(ServeKeys, SERVE);
args_from_keys!(ProxyKeys, PROXY);
