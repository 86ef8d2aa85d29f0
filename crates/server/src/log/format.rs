//! The shape of the access log's lines: text with variables, read once at start.
//!
//! `combined` and `json` are formats like any other, with names of their own. What a variable is
//! worth for a request, and how it is escaped, is in [`line`](super::line).

use super::access::BATCH_BYTES;
use super::line::{CLIENT_VALUE_BYTES, OWN_VALUE_BYTES};
use crate::config::value::nearest;
use std::fmt;
use std::ops::Range;

/// The words that stand for whole formats, with what each means.
pub(crate) const WORDS: &[(&str, &str)] = &[
    (
        "combined",
        "The \"combined\" format that Apache, nginx and every log reader know.",
    ),
    (
        "json",
        "One JSON object a line, with the variables' names as keys; what isn't there is null.",
    ),
];

const COMBINED: &str =
    r#"$peer - $user [$time] "$request" $status $body_bytes "$referer" "$user_agent""#;

const JSON: &str = r#"{"time":$time_iso,"peer":$peer,"user":$user,"method":$method,"target":$target,"version":$version,"host":$host,"status":$status,"body_bytes":$body_bytes,"duration_seconds":$duration_seconds,"referer":$referer,"user_agent":$user_agent$passed$noted}"#;

/// What precedes the name of a header field in a variable's name.
const HEADER: &str = "header_";

/// Every variable but `$header_NAME`: name, meaning, explanation.
const VARIABLES: &[(&str, Variable, &str)] = &[
    ("peer", Variable::Peer, "The client's address."),
    (
        "user",
        Variable::User,
        "The user whose password was right, where one is asked for.",
    ),
    (
        "time",
        Variable::Time,
        "When it was answered, as in `22/Nov/2026:10:00:00 +0000`.",
    ),
    (
        "time_iso",
        Variable::TimeIso,
        "The same as in `2026-11-22T10:00:00.000Z`.",
    ),
    (
        "time_unix",
        Variable::TimeUnix,
        "The same in seconds since 1970, with milliseconds: `1795341600.000`.",
    ),
    (
        "request",
        Variable::Request,
        "The request line: `$method $target $version`.",
    ),
    ("method", Variable::Method, "The method, such as `GET`."),
    ("target", Variable::Target, "The target as it was sent."),
    (
        "version",
        Variable::Version,
        "The version of the request: `HTTP/1.1` or `HTTP/1.0`.",
    ),
    ("host", Variable::Host, "The field `Host`."),
    (
        "status",
        Variable::Status,
        "The status of the answer; 499 where the client left before there was one, 444 where the server's own end came before.",
    ),
    (
        "body_bytes",
        Variable::BodyBytes,
        "Bytes of the answer's body that were sent.",
    ),
    (
        "duration_seconds",
        Variable::DurationSeconds,
        "Seconds, with microseconds, from the end of the request's head until the answer was \
         handed over: what is answered from memory, to the connection; what is longer, its last \
         byte to the kernel. A body that the client sends is waited for in between.",
    ),
    ("referer", Variable::Referer, "The field `Referer`."),
    ("user_agent", Variable::UserAgent, "The field `User-Agent`."),
    (
        "upstream",
        Variable::Upstream,
        "The address of the server that was asked last, where the request was passed on. JSON lines \
         have this and what follows of such requests alone.",
    ),
    (
        "upstream_status",
        Variable::UpstreamStatus,
        "The status that the server answered.",
    ),
    (
        "upstream_connect_seconds",
        Variable::UpstreamConnectSeconds,
        "Seconds until there was a connection to the server, the wait for a place included; `-` for \
         one that was there.",
    ),
    (
        "upstream_first_byte_seconds",
        Variable::UpstreamFirstByteSeconds,
        "Seconds from the end of the request to the first byte of the server's answer.",
    ),
    (
        "upstream_fault",
        Variable::UpstreamFault,
        "Why no server answered, or not to the end, in one word: `no_server`, `connect`, \
         `first_byte_timeout` and so on, as in the event log and the metrics.",
    ),
    (
        "upstream_attempts",
        Variable::UpstreamAttempts,
        "How often a server was asked.",
    ),
    (
        "note",
        Variable::Note,
        "What `hooks` of the program's own say of the request. JSON lines have this where it was \
         said.",
    ),
];

/// What the same things are called by nginx.
const FOREIGN: &[(&str, &str)] = &[
    ("remote_addr", "peer"),
    ("remote_user", "user"),
    ("time_local", "time"),
    ("time_iso8601", "time_iso"),
    ("msec", "time_unix"),
    ("request_method", "method"),
    ("request_uri", "target"),
    ("uri", "target"),
    ("server_protocol", "version"),
    ("http_host", "host"),
    ("body_bytes_sent", "body_bytes"),
    ("bytes_sent", "body_bytes"),
    ("request_time", "duration_seconds"),
    ("http_referer", "referer"),
    ("http_user_agent", "user_agent"),
    ("upstream_addr", "upstream"),
    ("upstream_connect_time", "upstream_connect_seconds"),
    ("upstream_header_time", "upstream_first_byte_seconds"),
];

/// The shape of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub(super) style: Style,
    pub(super) pieces: Vec<Piece>,
    /// Bytes of the literals, the line's end, and the most that our own values take.
    pub(super) fixed_bytes: usize,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As they are, with `\xHH` for what has to be escaped.
    Text,
    /// As JSON: strings with their quotes, numbers, null.
    Json,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Box<str>),
    /// A value, and the mark or space that follows it: where a reader finds its end, so that it
    /// has to be escaped in the value. A quote if there is none, which always is.
    Value(Variable, u8),
}

/// What stands in a line for a part of the request or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    Peer,
    User,
    Time,
    TimeIso,
    TimeUnix,
    Request,
    Method,
    Target,
    Version,
    Host,
    Status,
    BodyBytes,
    DurationSeconds,
    Referer,
    UserAgent,
    Upstream,
    UpstreamStatus,
    UpstreamConnectSeconds,
    UpstreamFirstByteSeconds,
    UpstreamFault,
    UpstreamAttempts,
    /// All of these, of a JSON line, where the request was passed on.
    Passed,
    /// What hooks have to say.
    Note,
    /// The same of a JSON line, where it was said.
    Noted,
    /// Any field by its name.
    Header(Box<str>),
}

/// Why a text is no format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FormatFault {
    /// Which bytes of it are wrong.
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Default for Format {
    /// `combined`
    fn default() -> Format {
        Format::of_template(COMBINED, Style::Text).expect("a test parses it")
    }
}

impl Format {
    /// The format that `text` names or is.
    ///
    /// # Errors
    /// An unknown word or variable, braces without an end, or lines that could be too long.
    pub(crate) fn parse(text: &str) -> Result<Format, FormatFault> {
        match text {
            "combined" => Format::of_template(COMBINED, Style::Text),
            "json" => Format::of_template(JSON, Style::Json),
            _ if text.contains('$') => Format::of_template(text, Style::Text),
            _ => Err(unknown_word(text)),
        }
    }

    fn of_template(text: &str, style: Style) -> Result<Format, FormatFault> {
        let pieces = split(text)?;
        let of_client = pieces.iter().filter(|piece| piece.is_of_client()).count();
        let sizes = pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => text.len(),
            // Six values with their names.
            // With its name.
            Piece::Value(Variable::Noted, _) => OWN_VALUE_BYTES,
            Piece::Value(Variable::Passed, _) => 2 * OWN_VALUE_BYTES,
            Piece::Value(..) => OWN_VALUE_BYTES,
        });
        let format = Format {
            style,
            fixed_bytes: sizes.sum::<usize>() + 1,
            pieces,
        };
        if format.fixed_bytes + of_client * CLIENT_VALUE_BYTES > BATCH_BYTES {
            return Err(FormatFault {
                span: 0..text.len(),
                message: format!(
                    "a line could be longer than {} KiB: {of_client} of these variables are what \
                     a client sends",
                    BATCH_BYTES >> 10
                ),
                hint: "leave some out; each can take 8 KiB".to_owned(),
            });
        }
        Ok(format)
    }

    /// Whether a line says how long the answer took, so that somebody has to look at the clock.
    pub(super) fn wants_duration(&self) -> bool {
        let wants = |piece: &Piece| matches!(piece, Piece::Value(Variable::DurationSeconds, _));
        self.pieces.iter().any(wants)
    }
}

impl fmt::Display for Format {
    /// As the configuration has it; one of the two words, if the format is theirs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.style == Style::Json {
            return out.write_str("json");
        }
        if *self == Format::default() {
            return out.write_str("combined");
        }
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.write_str(&text.replace('$', "$$"))?,
                Piece::Value(Variable::Header(name), _) => {
                    write!(out, "${{{HEADER}{}}}", name.replace('-', "_"))?;
                }
                Piece::Value(variable, _) => {
                    let mut all = VARIABLES.iter();
                    let known = all.find(|(_, known, _)| known == variable);
                    let (name, ..) = known.expect("all but headers are in the table");
                    write!(out, "${{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

impl Piece {
    fn is_of_client(&self) -> bool {
        use Variable::{
            Header, Host, Note, Noted, Passed, Referer, Request, Target, Upstream, User, UserAgent,
        };
        matches!(
            self,
            Piece::Value(
                User | Request
                    | Target
                    | Host
                    | Referer
                    | UserAgent
                    | Header(_)
                    | Upstream
                    | Passed
                    | Note
                    | Noted,
                _
            )
        )
    }
}

/// The names of all variables and what they are, for the reference.
pub(crate) fn variables() -> impl Iterator<Item = (String, &'static str)> {
    let header = (
        format!("${HEADER}NAME"),
        "Any field of the request, in lower case with `_` for `-`: `$header_x_forwarded_for`. If \
         it was sent more than once, all values with `, ` in between.",
    );
    let own = VARIABLES
        .iter()
        .map(|(name, _, doc)| (format!("${name}"), *doc));
    own.chain([header])
}

fn split(text: &str) -> Result<Vec<Piece>, FormatFault> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let Some(dollar) = rest.find('$') else {
            literal.push_str(rest);
            break;
        };
        literal.push_str(&rest[..dollar]);
        at += dollar;
        if text[at + 1..].starts_with('$') {
            literal.push('$');
            at += 2;
            continue;
        }
        let (name, end) = name_at(text, at)?;
        let variable = match name {
            "passed" if text == JSON => Variable::Passed,
            "noted" if text == JSON => Variable::Noted,
            name => variable(name, at..end)?,
        };
        push_literal(&mut pieces, &mut literal);
        pieces.push(Piece::Value(variable, b'"'));
        at = end;
    }
    push_literal(&mut pieces, &mut literal);
    Ok(pieces)
}

/// Ends a literal, whose first byte ends the value before it.
fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    let Some(&first) = literal.as_bytes().first() else {
        return;
    };
    if let Some(Piece::Value(_, terminator)) = pieces.last_mut()
        // A letter or digit ends nothing, and is what escapes are made of.
        && (first == b' ' || first.is_ascii_punctuation())
    {
        *terminator = first;
    }
    pieces.push(Piece::Literal(std::mem::take(literal).into()));
}

/// The name of the variable whose dollar is at `at`, and where it ends.
fn name_at(text: &str, at: usize) -> Result<(&str, usize), FormatFault> {
    let rest = &text[at + 1..];
    if let Some(inner) = rest.strip_prefix('{') {
        return match inner.find('}') {
            Some(length) => Ok((&inner[..length], at + 2 + length + 1)),
            None => Err(FormatFault {
                span: at..text.len(),
                message: "a brace without its end".to_owned(),
                hint: "write ${name}".to_owned(),
            }),
        };
    }
    let is_other = |character: char| !(character.is_ascii_alphanumeric() || character == '_');
    match rest.find(is_other).unwrap_or(rest.len()) {
        0 => Err(FormatFault {
            span: at..at + 1,
            message: "a dollar without a name".to_owned(),
            hint: "write $$ for a dollar".to_owned(),
        }),
        length => Ok((&rest[..length], at + 1 + length)),
    }
}

fn variable(name: &str, span: Range<usize>) -> Result<Variable, FormatFault> {
    if let Some((_, variable, _)) = VARIABLES.iter().find(|(known, ..)| *known == name) {
        return Ok(variable.clone());
    }
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        !name.is_empty() && name.bytes().all(allowed)
    };
    match name.strip_prefix(HEADER).filter(|field| is_name(field)) {
        // They carry passwords, which whoever reads a log mustn't learn.
        Some("authorization" | "proxy_authorization") => Err(FormatFault {
            span,
            message: format!("${name} would write passwords into the log"),
            hint: "$user is the name of who was let in".to_owned(),
        }),
        Some(field) => Ok(Variable::Header(field.replace('_', "-").into())),
        None => Err(FormatFault {
            span,
            message: format!("unknown variable ${name}"),
            hint: variable_hint(name),
        }),
    }
}

fn variable_hint(name: &str) -> String {
    let known = || VARIABLES.iter().map(|(known, ..)| *known);
    if let Some((_, ours)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        return format!("did you mean ${ours}?");
    }
    if let Some(field) = name.strip_prefix("http_") {
        return format!("did you mean ${HEADER}{}?", field.to_ascii_lowercase());
    }
    match nearest(name, known().chain([HEADER])) {
        Some(HEADER) => format!("write ${HEADER}NAME, such as ${HEADER}x_forwarded_for"),
        Some(near) => format!("did you mean ${near}?"),
        None => {
            let known: Vec<String> = known().map(|name| format!("${name}")).collect();
            format!("known are {}, ${HEADER}NAME", known.join(", "))
        }
    }
}

fn unknown_word(text: &str) -> FormatFault {
    let words = WORDS.iter().map(|(word, _)| *word);
    let hint = match nearest(text, words) {
        Some(word) => format!("did you mean {word:?}?"),
        None => "\"combined\", \"json\", or variables: '$peer \"$request\" $status'".to_owned(),
    };
    FormatFault {
        span: 0..text.len(),
        message: "neither a format's name nor a variable in it".to_owned(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_fault(text: &str, span: Range<usize>, message: &str, hint: &str) {
        let expect = FormatFault {
            span,
            message: message.to_owned(),
            hint: hint.to_owned(),
        };
        assert_eq!(Format::parse(text).unwrap_err(), expect, "{text}");
    }

    #[test]
    fn a_value_knows_what_ends_it() {
        let format = Format::parse("$method|${target}x$$ [$header_x_real_ip]$status").unwrap();
        let expect = [
            Piece::Value(Variable::Method, b'|'),
            Piece::Literal("|".into()),
            Piece::Value(Variable::Target, b'"'),
            Piece::Literal("x$ [".into()),
            Piece::Value(Variable::Header("x-real-ip".into()), b']'),
            Piece::Literal("]".into()),
            Piece::Value(Variable::Status, b'"'),
        ];
        assert_eq!(format.pieces, expect);
        assert!(!format.wants_duration());
        assert!(Format::parse("json").unwrap().wants_duration());
    }

    #[test]
    fn every_variable_can_be_written() {
        for (name, _) in variables() {
            Format::parse(&name.to_lowercase()).unwrap();
        }
    }

    #[test]
    fn every_foreign_name_leads_to_one_of_ours() {
        for (foreign, ours) in FOREIGN {
            assert!(VARIABLES.iter().any(|(name, ..)| name == ours), "{foreign}");
            assert!(Format::parse(&format!("${foreign}")).is_err(), "{foreign}");
        }
    }

    #[test]
    fn unknown_variables() {
        check_fault(
            "- $statos",
            2..9,
            "unknown variable $statos",
            "did you mean $status?",
        );
        check_fault(
            "${remote_addr}",
            0..14,
            "unknown variable $remote_addr",
            "did you mean $peer?",
        );
        check_fault(
            "$http_x_forwarded_for",
            0..21,
            "unknown variable $http_x_forwarded_for",
            "did you mean $header_x_forwarded_for?",
        );
        check_fault(
            "$header_",
            0..8,
            "unknown variable $header_",
            "write $header_NAME, such as $header_x_forwarded_for",
        );
    }

    #[test]
    fn passwords_are_not_logged() {
        check_fault(
            "$header_authorization",
            0..21,
            "$header_authorization would write passwords into the log",
            "$user is the name of who was let in",
        );
    }

    #[test]
    fn what_is_no_format() {
        check_fault(
            "$ ",
            0..1,
            "a dollar without a name",
            "write $$ for a dollar",
        );
        check_fault("ü${peer", 2..8, "a brace without its end", "write ${name}");
        let message = "neither a format's name nor a variable in it";
        check_fault("jason", 0..5, message, "did you mean \"json\"?");
        let hint = "\"combined\", \"json\", or variables: '$peer \"$request\" $status'";
        check_fault("%h %u", 0..5, message, hint);
    }

    #[test]
    fn lines_have_a_bound() {
        let text = "$target ".repeat(7);
        assert!(Format::parse(&text).is_ok());
        let text = "$target ".repeat(8);
        check_fault(
            &text,
            0..64,
            "a line could be longer than 64 KiB: 8 of these variables are what a client sends",
            "leave some out; each can take 8 KiB",
        );
    }
}
