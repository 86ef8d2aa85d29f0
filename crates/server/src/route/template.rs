//! Texts with variables: where a redirect leads, what a target becomes, what a field says.
//!
//! `{path}` and the others are names in braces; braces around anything else are text, so that JSON
//! needs no escapes. `{{path}}` is the text `{path}`. What a client sends gets into the result
//! only percent-encoded, or after the parser has looked at it, so no line can be broken by it.

use std::fmt;
use std::net::IpAddr;

use ringway_http::target::encode_path;

use crate::config::problem::{Fault, quote};
use crate::config::value::nearest;

/// A text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable),
}

/// What stands in a template for a part of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client's address, without its port.
    ClientIp,
    /// The host that was asked for, in lower case and without its port.
    Host,
    /// The method.
    Method,
    /// The path, percent-encoded; it begins with a slash.
    Path,
    /// The query with its question mark, as it was sent; nothing if there is none.
    Query,
    /// `http` or `https`.
    Scheme,
}

impl Variable {
    /// All of them.
    pub(crate) const ALL: [Variable; 6] = [
        Variable::ClientIp,
        Variable::Host,
        Variable::Method,
        Variable::Path,
        Variable::Query,
        Variable::Scheme,
    ];

    /// The name that stands in the braces.
    pub fn name(self) -> &'static str {
        match self {
            Variable::ClientIp => "client_ip",
            Variable::Host => "host",
            Variable::Method => "method",
            Variable::Path => "path",
            Variable::Query => "query",
            Variable::Scheme => "scheme",
        }
    }
}

/// What the variables are worth for a request.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The client's address.
    pub client_ip: IpAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority that was asked for, with its port if it has one; empty if there is none.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a str,
    /// The path, decoded.
    pub path: &'a [u8],
    /// What follows the question mark, as it was sent.
    pub query: Option<&'a [u8]>,
    /// The target is `*`: the server as a whole (RFC 9112 §3.2.4). `path` is a slash then.
    pub is_asterisk: bool,
}

impl Template {
    /// Reads a text in which `allowed` may stand.
    pub(crate) fn parse(text: &str, allowed: &[Variable]) -> Result<Template, Fault> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            literal.push_str(&rest[..start]);
            rest = &rest[start..];
            let escaped = rest.strip_prefix("{{").and_then(name_in_braces);
            if let Some(name) = escaped
                && rest[name.len() + 3..].starts_with('}')
            {
                literal.push_str(&rest[1..name.len() + 3]);
                rest = &rest[name.len() + 4..];
                continue;
            }
            let Some(name) = name_in_braces(&rest[1..]) else {
                literal.push('{');
                rest = &rest[1..];
                continue;
            };
            let variable = find(name, allowed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Variable(variable));
            rest = &rest[name.len() + 2..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Ok(Template {
            text: text.into(),
            pieces: pieces.into(),
        })
    }

    /// A text without variables, whatever is in it.
    pub(crate) fn literal(text: &str) -> Template {
        Template {
            text: text.into(),
            pieces: [Piece::Text(text.into())].into(),
        }
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `variable` stands in it.
    pub fn has(&self, variable: Variable) -> bool {
        self.pieces.contains(&Piece::Variable(variable))
    }

    /// Whether a path, which begins with a slash, would come behind another slash: `//host` is
    /// another host to a browser.
    pub(crate) fn doubles_slash(&self) -> bool {
        let is_double = |pair: &[Piece]| match pair {
            [Piece::Text(text), Piece::Variable(Variable::Path)] => text.ends_with('/'),
            [
                Piece::Variable(Variable::Path),
                Piece::Variable(Variable::Path),
            ] => true,
            _ => false,
        };
        self.pieces.windows(2).any(is_double)
    }

    /// The text that it begins with, before any variable.
    pub(crate) fn beginning(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether a variable comes first.
    pub(crate) fn begins_with(&self, variable: Variable) -> bool {
        self.pieces.first() == Some(&Piece::Variable(variable))
    }

    /// Appends the text for a request.
    pub fn emit(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => values.emit(*variable, out),
            }
        }
    }

    /// The same for a target: behind a question mark forms read a plus as a space, so one that a
    /// path has is percent-encoded there.
    pub(crate) fn emit_target(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let mut is_query = false;
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    is_query |= text.contains('?');
                    out.extend_from_slice(text.as_bytes());
                }
                Piece::Variable(variable) => {
                    let start = out.len();
                    values.emit(*variable, out);
                    if is_query && out[start..].contains(&b'+') {
                        let emitted = out.split_off(start);
                        out.extend(emitted.into_iter().flat_map(encoded_plus));
                    }
                }
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Values<'_> {
    fn emit(&self, variable: Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ClientIp => out.extend_from_slice(self.client_ip.to_string().as_bytes()),
            Variable::Host => {
                let start = out.len();
                out.extend_from_slice(without_port(self.host));
                out[start..].make_ascii_lowercase();
            }
            Variable::Method => out.extend_from_slice(self.method.as_bytes()),
            Variable::Path => encode_path(self.path, out),
            Variable::Query => {
                if let Some(query) = self.query {
                    out.push(b'?');
                    out.extend_from_slice(query);
                }
            }
            Variable::Scheme => out.extend_from_slice(self.scheme.as_bytes()),
        }
    }
}

fn encoded_plus(byte: u8) -> impl Iterator<Item = u8> {
    let (plus, others) = match byte {
        b'+' => (&b"%2B"[..], None),
        other => (&b""[..], Some(other)),
    };
    plus.iter().copied().chain(others)
}

/// An authority without its port.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|&byte| byte == b':') {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    }
}

/// The name at the front of `text` that a brace ends.
fn name_in_braces(text: &str) -> Option<&str> {
    let end = text.find('}')?;
    let name = &text[..end];
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

fn find(name: &str, allowed: &[Variable]) -> Result<Variable, Fault> {
    if let Some(variable) = allowed.iter().find(|variable| variable.name() == name) {
        return Ok(*variable);
    }
    let names = || allowed.iter().map(|variable| variable.name());
    if let Some(known) = Variable::ALL
        .iter()
        .find(|variable| variable.name() == name)
    {
        let hint = match known {
            Variable::Query => "the query follows by itself".to_owned(),
            _ => format!("here there are {}", listed(names())),
        };
        return Err(Fault::new(format!("{{{name}}} can't stand here"), hint));
    }
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean {{{near}}}?"),
        None => format!(
            "there are {}; the text itself is {{{{{name}}}}}",
            listed(names())
        ),
    };
    Err(Fault::new(
        format!("unknown variable {}", quote(name)),
        hint,
    ))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("{{{name}}}"))
        .collect::<Vec<_>>()
        .join(", ")
}
