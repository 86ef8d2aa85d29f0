//! The commands and their help, and what the program says when it can't do what it was asked.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use ringway_server::auth;

use crate::flags::{ProxyKeys, ServeKeys, SharedKeys};
use crate::usage;
use ringway_server::config::TransferMethod;

/// The exit code for wrong usage, as in `sysexits.h`; 1 is for everything that failed.
pub(crate) const WRONG_USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  ringway serve                                    Serve this directory on http://127.0.0.1:8080/
  ringway serve public --listen :80                Serve ./public to everybody on port 80
  ringway proxy --to localhost:3000                Pass requests on to a server
  ringway check --config site.toml                 Find out what is wrong with a configuration
  ringway run --config site.toml                   Run with it

`ringway help COMMAND` has examples of each command.";

/// What `-h` leaves out.
const MORE: &str =
    "--help has examples, the limits (--idle-timeout, --head-bytes, ...) and reasons.";

const SERVE_EXAMPLES: &str = "\
Examples:
  ringway serve
      Serve this directory on http://127.0.0.1:8080/, to this machine only.
  ringway serve public --listen :8080
      Serve ./public on every address of the machine, IPv4 and IPv6.
  ringway serve -p 3000 --access-log -
      On port 3000, with a line for each request on standard output.
  ringway serve --listen 127.0.0.1:80 --listen '[::1]:80'
      On two addresses. A port below 1024 needs the right to bind it:
      sudo setcap cap_net_bind_service=+ep $(command -v ringway)
  ringway serve /srv/site --workers 2 --io epoll --log-format json
      With two workers, without io_uring, with events as JSON on standard error.
  ringway serve --idle-timeout 20s --connections-per-address 100
      With tighter limits than the defaults.

Stop it with Ctrl-C: requests under way may finish. A second Ctrl-C stops it at once,
with exit code 1 if that cut connections.";

const PROXY_EXAMPLES: &str = "\
Examples:
  ringway proxy --to localhost:3000
      Pass what comes to http://127.0.0.1:8080/ on to port 3000.
  ringway proxy --to 10.0.0.1:8080 --to 10.0.0.2:8080 --health /healthz
      Share it out between two servers, and leave out one that isn't well.
  ringway proxy --to '10.0.0.1:8080 weight=3' --to '10.0.0.2:8080 backup' --lb round_robin
      With words behind a server: its share, or that it only stands in.
  ringway proxy --to unix:/run/app.sock --max-connections 32 --listen :80
      To a Unix socket, with 32 requests at once; more wait for a while.

`ringway run --config FILE` does this by host and path, beside files.";

const DUMP_EXAMPLES: &str = "\
Examples:
  ringway dump --config site.toml
      Print what holds: every key with its value, with what was included and what ${NAME} stood
      for, as one file that means the same.
  diff <(ringway dump --config old.toml) <(ringway dump --config new.toml)
      See what a change of the configuration changes.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  ringway explain GET http://example.org/api/users --config site.toml
      Say which listener and route a request gets, and why not the earlier ones; who answers; the
      request as it goes out; and what the answer's fields have of the configuration.
  ringway explain POST /login -H 'Host: example.org' -H 'X-Beta: 1' --config site.toml --json
      The same for a request with these fields, for programs.

No server has to run, and nothing is asked. Files are looked for by you, who may read others than
the server.";

const RUN_EXAMPLES: &str = "\
Examples:
  ringway run --config site.toml
      Run with what site.toml says. This is a whole one:
          [listen.main]
          address = \":8080\"
          [files.site]
          root = \"public\"
  ringway run --config site.json --workers 1 --access-log -
      The same in JSON; flags go before the file.

docs/configuration.md lists every key.";

const CHECK_EXAMPLES: &str = "\
Examples:
  ringway check --config site.toml
      Say \"site.toml: ok\" and what would be served, or every problem with its line.
  ringway check --config site.toml && sudo systemctl restart ringway
      Restart only with a configuration that is right: the exit code is 1 when it isn't.
  ringway check --print-schema > ringway.schema.json
      What an editor needs to complete keys and mark mistakes.";

const HASH_PASSWORD_EXAMPLES: &str = "\
Examples:
  ringway hash-password --user alice
      Ask for alice's password and print a line for the configuration:
          [files.members]
          root = \"members\"
          users = [\"alice:$argon2id$...\"]
  (umask 077; ringway hash-password --user alice >> /etc/ringway/users)
      Add her to a password file that only its owner can read (give it to the user that the
      server runs as), which the configuration names as
          users_file = \"/etc/ringway/users\"
      A running server sees the change by itself.
  pass show alice | ringway hash-password --algorithm bcrypt
      Take the password from another program, and print the hash alone.

The password is never taken as an argument: every process could read it there.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  ringway completions bash > ~/.local/share/bash-completion/completions/ringway
  ringway completions zsh > \"${fpath[1]}/_ringway\"
  ringway completions fish > ~/.config/fish/completions/ringway.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  ringway man | man -l -
      Read the manual page.
  ringway man serve > ~/.local/share/man/man1/ringway-serve.1
      Install the page of a command.
  ringway man bench load | man -l -
      Read the page of a command's command.";

const VERSION_EXAMPLES: &str = "\
Examples:
  ringway version
      One line, for scripts.
  ringway version --verbose
      What to put into a bug report.";

/// A thread-per-core, io_uring-first web server.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(disable_help_subcommand = false, infer_long_args = false)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a directory of files
    #[command(after_help = MORE, after_long_help = SERVE_EXAMPLES)]
    Serve(Box<Serve>),
    /// Pass requests on to servers
    #[command(after_help = MORE, after_long_help = PROXY_EXAMPLES)]
    Proxy(Box<Proxy>),
    /// Run with a configuration file
    #[command(after_help = MORE, after_long_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Check a configuration file and say everything that is wrong with it
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Print a configuration with everything that holds
    #[command(after_long_help = DUMP_EXAMPLES)]
    Dump(Dump),
    /// Say what a configuration does with a request, and why
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Measure a server
    Bench(crate::bench::Bench),
    /// Say what is wrong with this machine for a network service, and why
    #[command(after_long_help = crate::host::DOCTOR_EXAMPLES)]
    Doctor(crate::host::Doctor),
    /// Prepare this machine for a network service, and put it back exactly
    #[command(after_long_help = crate::host::TUNE_EXAMPLES)]
    Tune(Box<crate::host::Tune>),
    /// Turn a password into a hash for the configuration or a password file
    #[command(after_long_help = HASH_PASSWORD_EXAMPLES)]
    HashPassword(HashPassword),
    /// Print the completions of a shell
    #[command(after_long_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Print a manual page
    #[command(after_long_help = MAN_EXAMPLES)]
    Man(Man),
    /// Print the version
    #[command(after_long_help = VERSION_EXAMPLES)]
    Version(Version),
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The directory to serve
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) directory: String,
    /// Listen on this port of 127.0.0.1: short for --listen 127.0.0.1:PORT
    #[arg(short, long, conflicts_with = "listen", value_parser = usage::port)]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) keys: ServeKeys,
    #[command(flatten)]
    pub(crate) shared: SharedKeys,
    #[command(flatten)]
    pub(crate) forced: Forced,
    #[command(flatten)]
    pub(crate) faults: Faults,
}

/// Flags of `proxy`.
#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// Listen on this port of 127.0.0.1: short for --listen 127.0.0.1:PORT
    #[arg(short, long, conflicts_with = "listen", value_parser = usage::port)]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) keys: ProxyKeys,
    #[command(flatten)]
    pub(crate) shared: SharedKeys,
    #[command(flatten)]
    pub(crate) faults: Faults,
}

/// Flags of `dump`.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The configuration, in TOML (.toml) or JSON (.json)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: PathBuf,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The method, such as GET
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// The URL, or a path alone
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: String,
    /// A field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The configuration, in TOML (.toml) or JSON (.json)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: PathBuf,
    /// The listener that is asked, if the URL's port doesn't say which
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// The address of the client
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub(crate) client: IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration, in TOML (.toml) or JSON (.json)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) shared: SharedKeys,
    #[command(flatten)]
    pub(crate) forced: Forced,
    #[command(flatten)]
    pub(crate) faults: Faults,
}

/// For comparisons and tests, not for operators.
#[derive(Debug, Args)]
pub(crate) struct Forced {
    /// The way that files are sent from disk
    #[arg(long, value_name = "METHOD", hide = true, value_parser = method, default_value = "auto")]
    pub(crate) transfer: TransferMethod,
}

fn method(name: &str) -> Result<TransferMethod, String> {
    TransferMethod::from_name(name).ok_or_else(|| {
        let names = TransferMethod::ALL.map(TransferMethod::name);
        format!("one of {}", names.join(", "))
    })
}

/// Faults on request; release builds have no such flag.
#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// Panic when asked for this path; below it, `worker` and `failure` are faults of the worker
    #[cfg(any(debug_assertions, feature = "fault-injection"))]
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) inject_panic: Option<String>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration, in TOML (.toml) or JSON (.json)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(required_unless_present = "print_schema")]
    pub(crate) config: Option<PathBuf>,
    /// Print the JSON Schema of configurations, for editors
    #[arg(long, conflicts_with = "config")]
    pub(crate) print_schema: bool,
}

/// Flags of `hash-password`.
#[derive(Debug, Args)]
pub(crate) struct HashPassword {
    /// Print a whole line, `NAME:hash`
    #[arg(short, long, value_name = "NAME", value_parser = user_name)]
    pub(crate) user: Option<String>,
    /// How to hash it
    #[arg(short, long, value_enum, default_value = "argon2id")]
    pub(crate) algorithm: Algorithm,
}

/// How a password is hashed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Algorithm {
    /// The first choice: 19 MiB and two passes, as OWASP recommends
    Argon2id,
    /// What other servers' password files have as well: cost 12, at most 71 bytes
    Bcrypt,
}

fn user_name(name: &str) -> Result<String, String> {
    match auth::is_user_name(name) {
        true => Ok(name.to_owned()),
        false => Err("1 to 255 bytes without colons and control characters".to_owned()),
    }
}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command whose page it is; without one, the page of the program
    #[arg(value_parser = [
        "serve", "proxy", "run", "check", "dump", "explain", "bench", "doctor", "tune", "hash-password",
        "completions", "man", "version",
    ])]
    pub(crate) command: Option<String>,
    /// Of a command that has commands of its own, such as bench: which of them
    #[arg(value_name = "SUBCOMMAND")]
    pub(crate) subcommand: Option<String>,
}

/// Flags of `version`.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Also print what it was built for and what it runs on
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Says what failed.
pub(crate) fn answer_failure(error: &anyhow::Error) -> ExitCode {
    let closed = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    if closed {
        return ExitCode::SUCCESS;
    }
    complain(&format!("{error:#}"));
    ExitCode::FAILURE
}

pub(crate) fn complain(message: &str) {
    // With standard error gone there is nobody to tell; the exit code still says it.
    let _ = writeln!(std::io::stderr(), "ringway: {message}");
}
