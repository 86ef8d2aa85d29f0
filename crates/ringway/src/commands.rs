//! What each command does: asks the libraries, prints the answer.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Command, CommandFactory as _};
use ringway_server::auth;
use ringway_server::config::{self, Config, ConfigError, Flags};
use ringway_server::explain::{self, Question};
use ringway_server::extensions::Extensions;
use ringway_server::route::Action;

use crate::{cli, password, usage};

/// `ringway serve [DIR]`: the flags are the configuration.
pub(crate) fn serve(flags: &cli::Serve) -> Result<()> {
    let directory = &flags.directory;
    if usage::is_configuration(directory) && Path::new(directory).is_file() {
        bail!("{directory} isn't a directory: ringway run --config {directory} runs with it");
    }
    if directory.contains("://") && !Path::new(directory).exists() {
        bail!("{directory} isn't a directory: ringway proxy --to {directory} passes requests on");
    }
    let keys = flags.keys.apply(Flags::new(), &flags.directory, flags.port);
    let keys = flags.shared.apply(keys).transfer(flags.forced.transfer);
    let keys = inject_faults(keys, &flags.faults);
    start(Config::from_flags(&keys)?)
}

/// `ringway proxy --to SERVER`: the flags are the configuration.
pub(crate) fn proxy(flags: &cli::Proxy) -> Result<()> {
    let keys = flags.keys.apply(Flags::new(), flags.port);
    let keys = inject_faults(flags.shared.apply(keys), &flags.faults);
    start(Config::from_flags(&keys)?)
}

/// `ringway run --config FILE`
pub(crate) fn run(flags: &cli::Run) -> Result<()> {
    let keys = flags.shared.apply(Flags::new());
    let keys = inject_faults(keys.transfer(flags.forced.transfer), &flags.faults);
    start(load(&flags.config, &keys)?)
}

/// Runs the server until it is told to stop.
fn start(config: Config) -> Result<()> {
    Ok(ringway_server::run(config)?)
}

/// `ringway check --config FILE`, or `--print-schema`
pub(crate) fn check(flags: &cli::Check) -> Result<()> {
    let mut out = io::stdout().lock();
    let Some(file) = &flags.config else {
        return Ok(write!(out, "{}", config::schema())?);
    };
    let config = load(file, &Flags::new())?;
    Extensions::new().check(&config)?;
    writeln!(out, "{}: ok", file.display())?;
    for listener in &config.listeners {
        let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        let serves = match &listener.catch_all {
            Some(Action::Files(index)) => format!("serves files.{}", config.roots[*index].name),
            Some(Action::Proxy(index)) => {
                format!("passes on to upstream.{}", config.upstreams[*index].name)
            }
            _ => "serves what its routes say".to_owned(),
        };
        writeln!(out, "  listen.{}: {addresses} {serves}", listener.name)?;
    }
    match config.routes.len() {
        0 => {}
        1 => writeln!(out, "  a route")?,
        count => writeln!(out, "  {count} routes")?,
    }
    for upstream in &config.upstreams {
        let servers: Vec<String> = upstream.servers.iter().map(ToString::to_string).collect();
        writeln!(out, "  upstream.{}: {}", upstream.name, servers.join(", "))?;
    }
    for root in &config.roots {
        writeln!(out, "  files.{}: {}", root.name, root.root.display())?;
        for weakness in auth::weaknesses(root) {
            writeln!(
                out,
                "  note: {weakness}; ringway hash-password makes better ones"
            )?;
        }
    }
    for note in config.notes() {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// `ringway dump --config FILE`
pub(crate) fn dump(flags: &cli::Dump) -> Result<()> {
    // Paths in it start at the file's directory: written out in full they mean the same wherever
    // the output is read.
    let file = std::path::absolute(&flags.config)?;
    let config = load(&file, &Flags::new())?;
    Ok(io::stdout().write_all(config.to_toml().as_bytes())?)
}

/// `ringway explain METHOD URL --config FILE`
pub(crate) fn explain(flags: &cli::Explain) -> Result<()> {
    let config = load(&flags.config, &Flags::new())?;
    let question = Question {
        method: flags.method.clone(),
        url: flags.url.clone(),
        headers: flags.headers.clone(),
        listener: flags.listener.clone(),
        client: flags.client,
    };
    let explanation = explain::explain(&config, &question)?;
    let mut out = io::stdout().lock();
    match flags.json {
        true => Ok(writeln!(out, "{:#}", explanation.to_json())?),
        false => Ok(write!(out, "{explanation}")?),
    }
}

/// `ringway hash-password`
pub(crate) fn hash_password(flags: &cli::HashPassword) -> Result<()> {
    let algorithm = match flags.algorithm {
        cli::Algorithm::Argon2id => auth::Algorithm::Argon2id,
        cli::Algorithm::Bcrypt => auth::Algorithm::Bcrypt,
    };
    let hash = auth::hash_password(algorithm, &password::read()?)?;
    let mut out = io::stdout().lock();
    if let Some(user) = &flags.user {
        write!(out, "{user}:")?;
    }
    Ok(writeln!(out, "{hash}")?)
}

/// `ringway completions SHELL`
pub(crate) fn completions(flags: &cli::Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        flags.shell,
        &mut cli::Cli::command(),
        "ringway",
        &mut script,
    );
    Ok(io::stdout().write_all(&script)?)
}

/// `ringway man [COMMAND]`
pub(crate) fn man(flags: &cli::Man) -> Result<()> {
    let mut program = cli::Cli::command();
    // Gives every command its full name, "ringway serve".
    program.build();
    let mut title = "ringway".to_owned();
    let mut command = &program;
    for name in flags.command.iter().chain(&flags.subcommand) {
        let inner = command.find_subcommand(name);
        command = inner.with_context(|| unknown_command(command, name))?;
        title = format!("{title}-{name}");
    }
    let page_of = clap_mangen::Man::new(command.clone()).title(title);
    let mut page = Vec::new();
    page_of
        .source(concat!("ringway ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    Ok(io::stdout().write_all(&page)?)
}

fn unknown_command(command: &Command, name: &str) -> String {
    let own = command.get_bin_name().unwrap_or("ringway");
    let names = command.get_subcommands().map(Command::get_name);
    // Each has `help`, which has no page.
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    match names.is_empty() {
        true => format!("{own} has no commands of its own, and so no {name:?}"),
        false => format!("{own} has no command {name:?}: it has {}", names.join(", ")),
    }
}

/// `ringway version`
pub(crate) fn version(flags: &cli::Version) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ringway {}", env!("CARGO_PKG_VERSION"))?;
    if flags.verbose {
        use std::env::consts::{ARCH, OS};
        writeln!(out, "target: {ARCH}-{OS}")?;
        writeln!(
            out,
            "build: {}",
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
        )?;
        writeln!(
            out,
            "fault injection: {}",
            on_off(cfg!(any(debug_assertions, feature = "fault-injection")))
        )?;
        for (what, finding) in ringway_server::describe_kernel() {
            writeln!(out, "{what}: {finding}")?;
        }
    }
    Ok(())
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The configuration in `file`, or an error that is ready to be shown.
fn load(file: &Path, flags: &Flags) -> Result<Config> {
    Config::load(file, flags).map_err(|error| match error {
        ConfigError::Invalid(problems) if problems.in_file() => {
            let count = match problems.count() {
                1 => "a problem".to_owned(),
                count => format!("{count} problems"),
            };
            anyhow!("{count} in the configuration:\n{problems}")
        }
        error => error.into(),
    })
}

#[cfg(any(debug_assertions, feature = "fault-injection"))]
fn inject_faults(flags: Flags, faults: &cli::Faults) -> Flags {
    flags.panic_path(faults.inject_panic.clone())
}

#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
fn inject_faults(flags: Flags, _faults: &cli::Faults) -> Flags {
    flags
}
