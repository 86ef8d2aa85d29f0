//! What a request is compared with: hosts, paths, methods, fields, parameters of the query.
//!
//! Everything is compared as it means, not as it is spelt: hosts without case and port, paths and
//! queries decoded, so that no encoding dodges a route. Nothing is allocated by a comparison, and
//! what one costs is bounded by the pattern's length times the text's.

use std::fmt;
use std::net::Ipv6Addr;

use ringway_http::glob::Glob;
use ringway_http::head::{Method, RequestHead};

use crate::config::problem::{Fault, quote};
use crate::files::headers::is_token;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// This one, in lower case.
    Exact(Box<str>),
    /// `*.example.org`: whatever ends with this, which begins with a dot.
    Beneath(Box<str>),
}

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<HostPattern, Fault> {
        const EXAMPLE: &str = "such as \"example.org\" or \"*.example.org\"";
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        if text.contains("://") {
            let message = format!("{} is a URL, not a host", quote(text));
            return Err(Fault::new(message, EXAMPLE));
        }
        if !text.is_ascii() {
            let message = format!("{} has letters that no request has", quote(text));
            let hint = "write the name as DNS has it: \"xn--…\"";
            return Err(Fault::new(message, hint));
        }
        if let Some(inner) = text.strip_prefix('[') {
            let ip = inner.strip_suffix(']').and_then(|ip| ip.parse().ok());
            let ip: Ipv6Addr = ip.ok_or_else(|| {
                Fault::new(
                    format!("{} isn't an address in brackets", quote(text)),
                    EXAMPLE,
                )
            })?;
            return Ok(HostPattern::Exact(format!("[{ip}]").into()));
        }
        if text.contains(':') {
            let message = format!("{} has a port", quote(text));
            let hint = "a listener has ports: `listen` names it";
            return Err(Fault::new(message, hint));
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, is_wild) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (&*lower, false),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
        if name.len() > 253 || !name.split('.').all(is_label) {
            let message = format!("{} isn't a host", quote(text));
            let hint = match text.contains('*') {
                true => "a star stands at the front, with a dot behind it: \"*.example.org\"",
                false => EXAMPLE,
            };
            return Err(Fault::new(message, hint));
        }
        Ok(match is_wild {
            true => HostPattern::Beneath(lower[1..].into()),
            false => HostPattern::Exact(lower.into()),
        })
    }

    /// Whether whatever `other` means is meant, as far as can be told.
    pub(crate) fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (HostPattern::Beneath(_), HostPattern::Exact(name)) => self.matches(name.as_bytes()),
            (HostPattern::Beneath(end), HostPattern::Beneath(longer)) => longer.ends_with(&**end),
            _ => self == other,
        }
    }

    /// Whether `host` is meant: in lower case, without port and final dot.
    pub fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => host == name.as_bytes(),
            HostPattern::Beneath(end) => host.len() > end.len() && host.ends_with(end.as_bytes()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => out.write_str("*"),
            HostPattern::Exact(name) => out.write_str(name),
            HostPattern::Beneath(end) => write!(out, "*{end}"),
        }
    }
}

/// A path, compared with the decoded and normalised one of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(Box<str>),
    /// `/api/*`: `/api` and whatever lies beneath it. Without the final slash; empty for `/*`.
    Prefix(Box<str>),
    /// A pattern of names.
    Glob(Glob),
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<PathPattern, Fault> {
        const EXAMPLE: &str = "such as \"/about\", \"/api/*\" or \"/media/**/*.png\"";
        let fault = |message: String, hint: &str| Err(Fault::new(message, hint));
        if is_encoded(text) {
            let message = format!("{} is percent-encoded", quote(text));
            return fault(
                message,
                "write it decoded: requests are decoded before they are compared",
            );
        }
        let is_name_pattern = !text.contains('/') && text.contains(['*', '?']);
        if !text.starts_with('/') && !is_name_pattern {
            let message = format!("{} doesn't begin with a slash", quote(text));
            return fault(message, EXAMPLE);
        }
        let prefix = text.strip_suffix("/*").unwrap_or(text);
        if !prefix.contains(['*', '?']) {
            if !prefix.is_empty() && !is_normal(prefix) {
                let message = format!("{} is a path that no request has", quote(text));
                return fault(message, "without `//`, `/./`, `/../` and backslashes");
            }
            return Ok(match prefix.len() == text.len() {
                true => PathPattern::Exact(text.into()),
                false => PathPattern::Prefix(prefix.into()),
            });
        }
        match Glob::parse(text) {
            Ok(glob) => Ok(PathPattern::Glob(glob)),
            Err(error) => fault(format!("{}: {error}", quote(text)), EXAMPLE),
        }
    }

    /// Whether whatever `other` means is meant, as far as can be told.
    pub(crate) fn covers(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (_, PathPattern::Exact(path)) => self.matches(path.as_bytes()),
            (PathPattern::Prefix(prefix), PathPattern::Prefix(longer)) => {
                beneath(longer.as_bytes(), prefix).is_some()
            }
            _ => self == other,
        }
    }

    /// Whether `path` is meant: decoded, normalised, with its first slash.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Exact(own) => path == own.as_bytes(),
            PathPattern::Prefix(prefix) => beneath(path, prefix).is_some(),
            PathPattern::Glob(glob) => glob.matches(path),
        }
    }
}

/// What is left of `path` beneath `prefix`: nothing, or what begins with a slash.
pub(crate) fn beneath<'a>(path: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix.as_bytes())?;
    matches!(rest, [] | [b'/', ..]).then_some(rest)
}

/// Whether a decoded path is one that a request can have.
pub(crate) fn is_normal(path: &str) -> bool {
    let mut segments = path.split('/');
    let is_rooted = segments.next() == Some("");
    let names: Vec<&str> = segments.collect();
    let is_odd = |(index, name): (usize, &&str)| {
        matches!(*name, "." | "..") || (name.is_empty() && index + 1 < names.len())
    };
    is_rooted
        && !names.iter().enumerate().any(is_odd)
        && !path.contains('\\')
        && !path.contains(char::is_control)
}

/// Whether there is a `%HH` in it.
fn is_encoded(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|three| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(path) => out.write_str(path),
            PathPattern::Prefix(prefix) => write!(out, "{prefix}/*"),
            PathPattern::Glob(glob) => out.write_str(glob.as_str()),
        }
    }
}

/// A method. `GET` is for HEAD as well, which asks for the same without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodPattern(Box<str>);

impl MethodPattern {
    pub(crate) fn parse(text: &str) -> Result<MethodPattern, Fault> {
        if !is_token(text) || text.len() > 32 {
            let message = format!("{} isn't a method", quote(text));
            return Err(Fault::new(message, "such as \"GET\" or \"POST\""));
        }
        let upper = text.to_ascii_uppercase();
        if upper != text {
            // RFC 9110 §9.1: methods are case-sensitive, and the registered ones in upper case.
            let message = format!("{} is a method that nobody uses", quote(text));
            return Err(Fault::new(message, format!("did you mean {upper:?}?")));
        }
        Ok(MethodPattern(upper.into()))
    }

    /// Whether `method` is meant.
    pub fn matches(&self, method: Method<'_>) -> bool {
        *self.0 == *method.as_str() || (method == Method::Head && *self.0 == *"GET")
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A field that is there, or whose value matches; where it came more often, one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderPattern {
    name: Box<str>,
    value: Option<Box<str>>,
}

impl HeaderPattern {
    pub(crate) fn parse(text: &str) -> Result<HeaderPattern, Fault> {
        const EXAMPLE: &str = "such as \"X-Beta\" or \"Accept: *json*\"";
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim_matches([' ', '\t']))),
            None => (text, None),
        };
        if !is_token(name) {
            let message = format!("{} isn't a header name", quote(name));
            return Err(Fault::new(message, EXAMPLE));
        }
        if name.eq_ignore_ascii_case("Host") {
            let hint = "`host`, which a target in absolute form goes before as well";
            return Err(Fault::new("Host has a key of its own", hint));
        }
        if value.is_some_and(str::is_empty) {
            let message = format!("{} asks for an empty value", quote(text));
            let hint = format!("\"{name}\" alone asks for any value");
            return Err(Fault::new(message, hint));
        }
        Ok(HeaderPattern {
            name: name.into(),
            value: value.map(Into::into),
        })
    }

    /// Whether one of the head's fields is meant.
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        let mut values = head.header(&self.name);
        match &self.value {
            None => values.next().is_some(),
            Some(pattern) => {
                values.any(|value| wildcard(pattern.as_bytes(), value.iter().copied()))
            }
        }
    }
}

impl fmt::Display for HeaderPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => out.write_str(&self.name),
            Some(value) => write!(out, "{}: {value}", self.name),
        }
    }
}

/// A parameter of the query that is there, or whose value matches; where it came more often, one
/// of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryPattern {
    name: Box<str>,
    value: Option<Box<str>>,
}

impl QueryPattern {
    pub(crate) fn parse(text: &str) -> Result<QueryPattern, Fault> {
        const EXAMPLE: &str = "such as \"debug\" or \"version=2\"";
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        if name.is_empty() || name.contains(['&', '?', '#']) {
            let message = format!("{} isn't the name of a parameter", quote(name));
            return Err(Fault::new(message, EXAMPLE));
        }
        if is_encoded(text) {
            let message = format!("{} is percent-encoded", quote(text));
            let hint = "write it decoded: requests are decoded before they are compared";
            return Err(Fault::new(message, hint));
        }
        Ok(QueryPattern {
            name: name.into(),
            value: value.map(Into::into),
        })
    }

    /// Whether one of the parameters is meant. `query` is what follows the question mark, as it was sent.
    pub fn matches(&self, query: &[u8]) -> bool {
        query.split(|&byte| byte == b'&').any(|parameter| {
            let end = parameter.iter().position(|&byte| byte == b'=');
            let (name, value) = match end {
                Some(end) => (&parameter[..end], &parameter[end + 1..]),
                None => (parameter, &b""[..]),
            };
            decoded(name).eq(self.name.bytes())
                && match &self.value {
                    None => true,
                    Some(pattern) => wildcard(pattern.as_bytes(), decoded(value)),
                }
        })
    }
}

impl fmt::Display for QueryPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => out.write_str(&self.name),
            Some(value) => write!(out, "{}={value}", self.name),
        }
    }
}

/// The bytes of a name or value of a query as forms encode them: `%HH`, and `+` for a space. What
/// is no `%HH` stays as it is, as URL libraries have it.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> + Clone {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        let digit = |at: usize| tail.get(at).and_then(|&byte| (byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                rest = &tail[2..];
                Some((high << 4 | low) as u8)
            }
            (b'+', ..) => {
                rest = tail;
                Some(b' ')
            }
            _ => {
                rest = tail;
                Some(first)
            }
        }
    })
}

/// Whether `text` is what `pattern` means, where `*` stands for any bytes and `?` for one. When it
/// fails, what the last `*` stands for grows; what an earlier one stands for never has to.
fn wildcard(pattern: &[u8], text: impl Iterator<Item = u8> + Clone) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut again = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            again = Some((behind, text.clone()));
            pattern = behind;
            continue;
        }
        let matched = match (pattern, text.next()) {
            ([], None) => return true,
            // Whatever a star is given, there is less of the text than of the pattern.
            (_, None) => return false,
            ([b'?', behind @ ..], Some(_)) => Some(behind),
            ([literal, behind @ ..], Some(byte)) if *literal == byte => Some(behind),
            _ => None,
        };
        match (matched, &mut again) {
            (Some(behind), _) => pattern = behind,
            (None, Some((behind, from))) => {
                from.next();
                (pattern, text) = (behind, from.clone());
            }
            (None, None) => return false,
        }
    }
}
