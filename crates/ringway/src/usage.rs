//! What is said of a command line that means nothing: one line with what is wrong and, where it shows
//! what was meant, the command that does that.
//!
//! Only what the parser refused comes here. Values of keys are judged by the configuration, and
//! what fails later says so itself.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{Cli, WRONG_USAGE, complain};

/// The commands whose file is given with `--config`.
const WITH_FILE: [&str; 4] = ["run", "check", "dump", "explain"];

/// Flags by which other servers are given certificates.
const FOR_TLS: [&str; 8] = [
    "--tls",
    "--https",
    "--ssl",
    "--cert",
    "--certificate",
    "--key",
    "--tls-cert",
    "--tls-key",
];

/// What somebody is told who asks for TLS.
const NO_TLS: &str = "TLS isn't there yet: Ringway speaks plain HTTP, so put a TLS proxy before it";

/// Prints the help or version that was asked for, or says in one line what is wrong with the
/// command line.
pub(crate) fn answer_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone (`| head`) has what it wanted.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(WRONG_USAGE)
        }
        _ => {
            let words: Vec<String> = std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            complain(&one_line(error, &words));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Clap's message (a paragraph, tips, usage) as one line: the paragraph, what was meant or else the
/// tips, and where to read on.
fn one_line(error: &clap::Error, words: &[String]) -> String {
    let message = error.to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let mut paragraphs = message.split("\n\n").map(join_lines);
    let mut line = paragraphs.next().unwrap_or_default();
    let command = command_given(words);
    if let Some(meant) = meant(error, command.as_deref(), words) {
        line = format!("{line}; {meant}");
    } else {
        // One of clap's tips is how to pass a flag as a value, which nobody means here.
        let tips = paragraphs.filter(|tip| !tip.contains("as a value, use"));
        for tip in tips {
            if let Some(tip) = tip.strip_prefix("tip: ") {
                line = format!("{line}; {}", tip.replace(" tip: ", "; "));
            }
        }
    }
    match command {
        Some(command) => format!("{line}; see ringway {command} --help"),
        None => format!("{line}; see ringway --help"),
    }
}

/// The command on the command line, for pointing at its help.
fn command_given(words: &[String]) -> Option<String> {
    Cli::command()
        .find_subcommand(words.first()?)
        .map(|command| command.get_name().to_owned())
}

/// What somebody meant whose command line has a word too many.
fn meant(error: &clap::Error, command: Option<&str>, words: &[String]) -> Option<String> {
    let context = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::MissingRequiredArgument => {
            return url_without_method(command?, words)
                .or_else(|| file_instead_of_flag(command?, None, words));
        }
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(context) else {
        return None;
    };
    let flag = word.split('=').next().unwrap_or(word);
    if FOR_TLS.contains(&flag) {
        return Some(NO_TLS.to_owned());
    }
    match command {
        None => command_for(word, words),
        Some(command @ ("serve" | "proxy")) if matches!(flag, "--config" | "-c") => Some(format!(
            "ringway run --config FILE runs with a file, and ringway {command} by flags alone"
        )),
        Some("proxy") if !word.starts_with('-') => Some(format!("--to {word} names the server")),
        Some("serve") if !word.starts_with('-') => Some(
            "one directory is served: a configuration has several, as ringway run --help shows"
                .to_owned(),
        ),
        Some(command) => file_instead_of_flag(command, Some(word), words),
    }
}

/// For `explain URL`.
fn url_without_method(command: &str, words: &[String]) -> Option<String> {
    let [_, rest @ ..] = words else {
        return None;
    };
    let url = rest.first().filter(|word| word.contains('/'))?;
    let is_configuration = is_configuration(url);
    (command == "explain" && !is_configuration).then(|| {
        format!(
            "the method comes first: ringway explain GET {}",
            rest.join(" ")
        )
    })
}

/// A command for what came in place of one.
fn command_for(word: &str, words: &[String]) -> Option<String> {
    let given = words.join(" ");
    if word.starts_with('-') {
        return Some(match word {
            "--to" => format!("a command comes first: ringway proxy {given}"),
            "--config" | "-c" => format!("a command comes first: ringway run {given}"),
            "--port" | "-p" | "--listen" => format!("a command comes first: ringway serve {given}"),
            _ => "a command comes first: ringway serve has such flags".to_owned(),
        });
    }
    if is_configuration(word) {
        return Some(format!("ringway run --config {word} runs with it"));
    }
    let is_directory = Path::new(word).is_dir();
    is_directory.then(|| format!("ringway serve {word} serves the directory"))
}

/// For `run site.toml` and the like, wherever the file stands.
fn file_instead_of_flag(command: &str, word: Option<&str>, words: &[String]) -> Option<String> {
    if !WITH_FILE.contains(&command) {
        return None;
    }
    let has_flag = |word: &String| word.starts_with("--config") || word.starts_with("-c");
    if words.iter().any(has_flag) {
        return None;
    }
    let rest = words.get(1..).unwrap_or_default();
    let mut rest = rest.iter().map(String::as_str);
    let file = rest.find(|word| is_configuration(word)).or(word)?;
    if file.starts_with('-') {
        return None;
    }
    if Path::new(file).is_dir() {
        return Some(format!("ringway serve {file} serves the directory"));
    }
    Some(format!("the file is given as --config {file}"))
}

/// Whether it is named as a configuration has to be.
pub(crate) fn is_configuration(word: &str) -> bool {
    !word.starts_with('-') && (word.ends_with(".toml") || word.ends_with(".json"))
}

fn join_lines(paragraph: &str) -> String {
    paragraph
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// A port of the command line; 0 is one that the kernel chooses.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        "a port is a whole number from 0 to 65535; with 0 the kernel chooses".to_owned()
    })
}

/// A number of the command line, for how many or how often.
pub(crate) fn count<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| "a whole number in digits alone, such as 50000".to_owned())
}
