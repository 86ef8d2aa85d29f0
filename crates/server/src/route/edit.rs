//! What is done to a field of a request or an answer: set, add, remove.
//!
//! Fields that frame a message or belong to one connection can't be touched: what they say is
//! decided where the message is written.

use std::fmt;

use super::template::{Template, Variable};
use crate::config::problem::{Fault, quote};
use crate::files::headers::is_token;

/// Which message's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// What frames a message or belongs to a connection (RFC 9110 §7.6.1), and would be wrong in
/// another place.
const FRAMING: [&str; 8] = [
    "Connection",
    "Content-Length",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

impl Side {
    /// Whether a field has a key of its own, or says what is decided elsewhere.
    pub(crate) fn keeps(self, name: &str) -> bool {
        let kept: [&str; 2] = match self {
            Side::Request => ["Host", "Expect"],
            Side::Response => ["Content-Encoding", "Content-Range"],
        };
        kept.iter().any(|other| name.eq_ignore_ascii_case(other))
    }
}

/// What is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// It has this value, in place of all that it had.
    Set(Template),
    /// It has this value as well, on a line of its own.
    Add(Template),
    /// It isn't there.
    Remove,
}

/// What is done to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEdit {
    /// The field's name, as it is written.
    pub name: Box<str>,
    /// What is done with it.
    pub operation: Operation,
}

impl HeaderEdit {
    /// Reads `Name: value`, `+Name: value` or `-Name`.
    pub(crate) fn parse(line: &str, side: Side) -> Result<HeaderEdit, Fault> {
        let example = match side {
            Side::Request => "such as \"X-Client: {client_ip}\", \"+Via: x\" or \"-Cookie\"",
            Side::Response => "such as \"X-Frame-Options: DENY\", \"+Vary: Cookie\" or \"-Server\"",
        };
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, Some(value.trim_matches([' ', '\t']))),
            None => (line, None),
        };
        let (mark, name) = match name.as_bytes() {
            [mark @ (b'+' | b'-'), ..] => (Some(*mark), &name[1..]),
            _ => (None, name),
        };
        if !is_token(name) {
            return Err(Fault::new(
                format!("{} isn't a header name", quote(name)),
                example,
            ));
        }
        check_name(name, side)?;
        let operation = match (mark, value) {
            (Some(b'-'), None) => Operation::Remove,
            (Some(b'-'), Some(_)) => {
                let message = format!("-{name} removes whatever value there is");
                return Err(Fault::new(message, format!("write \"-{name}\"")));
            }
            (_, None) => {
                let message = format!("{} has no value", quote(line));
                return Err(Fault::new(message, example));
            }
            (mark, Some(value)) => {
                if value.chars().any(char::is_control) {
                    let message = format!("control character in the value of {name}");
                    return Err(Fault::new(message, "leave it out"));
                }
                let value = Template::parse(value, &Variable::ALL)?;
                match mark {
                    None => Operation::Set(value),
                    Some(_) => Operation::Add(value),
                }
            }
        };
        Ok(HeaderEdit {
            name: name.into(),
            operation,
        })
    }
}

/// Whether a field frames a message or belongs to a connection.
pub(crate) fn is_framing(name: &str) -> bool {
    FRAMING.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn check_name(name: &str, side: Side) -> Result<(), Fault> {
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    if is_framing(name) {
        let message = format!("{name} says how the message is sent, which isn't yours to change");
        return Err(Fault::new(message, "leave it out"));
    }
    match side {
        _ if !side.keeps(name) => Ok(()),
        Side::Request if is(&"Host") => Err(Fault::new(
            "Host has a key of its own",
            "`host` in [upstream.NAME]",
        )),
        Side::Request => Err(Fault::new(
            "Expect is answered before the request goes on",
            "leave it out",
        )),
        Side::Response => Err(Fault::new(
            format!("{name} says what the body is, which stays as it is"),
            "leave it out",
        )),
    }
}

impl fmt::Display for HeaderEdit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.operation {
            Operation::Set(value) => write!(out, "{name}: {value}"),
            Operation::Add(value) => write!(out, "+{name}: {value}"),
            Operation::Remove => write!(out, "-{name}"),
        }
    }
}
