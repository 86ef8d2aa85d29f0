//! From a question to what a client would send, and the listener that would get it.
//!
//! Nothing is judged here that the server judges: only what can't be sent, or to nobody in
//! particular, is refused.

use super::{BadQuestion, Question};
use crate::config::{Config, Listener};

/// The longest URL that is asked about; the configuration's own limits are looked at as well.
const URL_BYTES: usize = 1 << 20;

/// A URL, as far as it says which listener is asked for what.
pub(super) struct Url<'a> {
    /// Host and port; `None` for a path alone.
    authority: Option<&'a str>,
    /// Path and query.
    target: &'a str,
}

impl<'a> Url<'a> {
    pub(super) fn parse(question: &'a Question) -> Result<Url<'a>, BadQuestion> {
        let Question { method, url, .. } = question;
        let fault = |message: &str| Err(BadQuestion(format!("{url:?} {message}")));
        if url.len() > URL_BYTES {
            return Err(BadQuestion("the URL has more than 1 MiB".to_owned()));
        }
        if method.contains('/') {
            let message = "isn't a method, which comes first: such as GET http://example.org/path";
            return Err(BadQuestion(format!("{method:?} {message}")));
        }
        if url.starts_with('/') || url == "*" {
            return Ok(Url {
                authority: None,
                target: url,
            });
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return fault("isn't a URL: such as http://example.org/path, or /path");
        };
        if scheme.eq_ignore_ascii_case("https") {
            return fault(
                "is for a TLS proxy before Ringway, which speaks http to it: ask with http:// and \
                 the port of a listener, or a path alone",
            );
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return fault("isn't served: listeners speak http");
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() || authority.starts_with(':') {
            return fault("has no host");
        }
        let url = Url {
            authority: Some(authority),
            target: if target.is_empty() { "/" } else { target },
        };
        match url.written_port().map(str::parse::<u16>) {
            Some(Err(_) | Ok(0)) => {
                fault("has a port that is none: it is a number from 1 to 65535")
            }
            _ => Ok(url),
        }
    }

    /// The digits behind the host, if there are some.
    fn written_port(&self) -> Option<&'a str> {
        let (_, port) = self.authority?.rsplit_once(':')?;
        (!port.is_empty() && !port.ends_with(']')).then_some(port)
    }

    /// The port that is asked, if the URL says which.
    fn port(&self) -> Option<u16> {
        self.authority?;
        self.written_port()
            .map_or(Some(80), |port| port.parse().ok())
    }
}

/// Where a listener listens.
pub(super) fn addresses(listener: &Listener) -> Vec<String> {
    let addresses = listener.addresses.iter();
    addresses.map(ToString::to_string).collect()
}

/// The listener that a question is for, and what is to be said of the choice.
pub(super) fn find_listener(
    config: &Config,
    question: &Question,
    url: &Url<'_>,
) -> Result<(usize, Option<String>), BadQuestion> {
    let listeners = || {
        let shown = config.listeners.iter().map(|listener| {
            let addresses = addresses(listener).join(", ");
            format!("{} ({addresses})", listener.name)
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = &question.listener {
        let index = config.listeners.iter().position(|one| one.name == *name);
        let index = index.ok_or_else(|| {
            BadQuestion(format!(
                "there is no [listen.{name}]: there are {}",
                listeners()
            ))
        });
        return index.map(|index| (index, None));
    }
    // Of port 0 the kernel makes any.
    let has_port = |index: &usize, port: u16| {
        let mut addresses = config.listeners[*index].addresses.iter();
        addresses.any(|address| [port, 0].contains(&address.socket.port()))
    };
    let all = 0..config.listeners.len();
    let meant: Vec<usize> = match url.port() {
        Some(port) => all.filter(|index| has_port(index, port)).collect(),
        None => all.collect(),
    };
    match (&meant[..], config.listeners.len(), url.port()) {
        ([index], ..) => Ok((*index, None)),
        ([], 1, Some(port)) => {
            let note = format!("nothing listens on port {port}: this is the only listener");
            Ok((0, Some(note)))
        }
        ([], _, Some(port)) => Err(BadQuestion(format!(
            "nothing listens on port {port}: choose one with --listener, of {}",
            listeners()
        ))),
        _ => Err(BadQuestion(format!(
            "several listeners could be meant: choose one with --listener, of {}",
            listeners()
        ))),
    }
}

/// The request as a client sends it.
pub(super) fn written(question: &Question, url: &Url<'_>) -> Result<Vec<u8>, BadQuestion> {
    let parts = [
        &*question.method,
        url.target,
        url.authority.unwrap_or_default(),
    ];
    let mut parts = parts
        .into_iter()
        .chain(question.headers.iter().map(String::as_str));
    let is_odd = |character: char| character.is_control() && character != '\t';
    if let Some(part) = parts.find(|part| part.contains(is_odd)) {
        return Err(BadQuestion(format!("a control character in {part:?}")));
    }
    let mut text = format!("{} {} HTTP/1.1\r\n", question.method, url.target);
    let is_host = |line: &String| {
        let name = line.split(':').next().unwrap_or(line);
        name.eq_ignore_ascii_case("Host")
    };
    if !question.headers.iter().any(is_host) {
        let host = url.authority.unwrap_or("localhost");
        text += &format!("Host: {host}\r\n");
    }
    for line in &question.headers {
        if !line.contains(':') {
            return Err(BadQuestion(format!(
                "{line:?} isn't a field: such as \"Accept: text/html\""
            )));
        }
        text += &format!("{line}\r\n");
    }
    text += "\r\n";
    Ok(text.into_bytes())
}
