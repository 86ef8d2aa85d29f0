//! Explanations in words, for people and as JSON.

use std::fmt::{self, Display};

use ringway_http::head::RequestHead;
use ringway_http::hop::HopByHop;
use ringway_http::target::origin_form;
use serde_json::{Value as Json, json};

use super::{Answered, Considered, Explanation};
use crate::config::Upstream;
use crate::proxy::{Passage, asks_for_upgrade, host_of, write};
use crate::route::{Matcher, Rule, Values};

/// The conditions of a route in words.
pub(super) fn conditions(matcher: &Matcher) -> String {
    fn push<T: Display>(parts: &mut Vec<String>, key: &str, list: &[T], word: &str) {
        if !list.is_empty() {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            parts.push(format!("{key} {}", list.join(word)));
        }
    }
    let mut parts = Vec::new();
    push(&mut parts, "host", &matcher.hosts, " or ");
    push(&mut parts, "path", &matcher.paths, " or ");
    push(&mut parts, "method", &matcher.methods, " or ");
    push(&mut parts, "header", &matcher.headers, " and ");
    push(&mut parts, "query", &matcher.query, " and ");
    match parts.is_empty() {
        true => "everything".to_owned(),
        false => parts.join(", "),
    }
}

/// Some patterns, of which one would do.
pub(super) fn any<T: Display>(patterns: &[T]) -> String {
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    patterns.join(" or ")
}

/// The lines of a part of a head.
pub(super) fn lines(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// The head of the request as it goes out, by the code that sends it.
pub(super) fn request(
    upstream: &Upstream,
    rule: &Rule,
    head: &RequestHead<'_>,
    values: &Values<'_>,
    max_forwards: Option<u32>,
) -> Vec<String> {
    let hop = HopByHop::of_request(head);
    let mut target = origin_form(head.method, head.target).into_owned();
    if rule.changes_target() {
        target.clear();
        rule.emit_target(values, &mut target);
    }
    let passage = Passage {
        peer: values.client_ip,
        target: &target,
        host: values.host,
        forward: &upstream.forward,
        is_upgrade: asks_for_upgrade(head, &hop),
        max_forwards,
        edits: &rule.request_headers,
        values,
    };
    let mut written = write(head, &hop, passage);
    written.name_server(server_names(upstream).as_bytes());
    lines(&written.bytes)
}

/// What the servers are called where each is to hear its own name: all of them, because one is
/// chosen when it is asked.
fn server_names(upstream: &Upstream) -> String {
    let mut names: Vec<String> = Vec::new();
    for server in &upstream.servers {
        let name = host_of(&server.address);
        let name = name.unwrap_or_else(|| format!("what DNS lists for {}", server.address));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

impl Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "listener  {} ({})",
            self.listener,
            self.addresses.join(", ")
        )?;
        if let Some(note) = &self.note {
            writeln!(out, "note      {note}")?;
        }
        if !matches!(self.answer, Answered::Refused { .. }) {
            let path = self.path.as_deref().unwrap_or("none");
            writeln!(out, "asked     host {}, path {path}", shown(&self.host))?;
        }
        for Considered {
            number,
            conditions,
            mismatch,
        } in &self.considered
        {
            let outcome = mismatch.as_deref().unwrap_or("matches");
            writeln!(out, "route {number:<3} {conditions}: {outcome}")?;
        }
        let has_matched = self.considered.iter().any(|one| one.mismatch.is_none());
        if !has_matched && !matches!(self.answer, Answered::Refused { .. }) {
            writeln!(out, "no route  what the listener names answers")?;
        }
        write!(out, "{}", self.answer)?;
        for line in &self.response_headers {
            writeln!(out, "response  {line}")?;
        }
        Ok(())
    }
}

fn shown(host: &str) -> &str {
    if host.is_empty() { "none" } else { host }
}

impl Display for Answered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answered::Refused { status, reason } => writeln!(out, "refused   {status}: {reason}"),
            Answered::Files {
                name,
                root,
                path,
                asks_password,
                looked,
                ..
            } => {
                writeln!(out, "files     files.{name}: {path} in {root}")?;
                if *asks_password {
                    writeln!(out, "password  users only")?;
                }
                for line in looked {
                    writeln!(out, "tried     {line}")?;
                }
                Ok(())
            }
            Answered::Proxy {
                name,
                servers,
                balance,
                hooks,
                request,
            } => {
                let servers = servers.join(", ");
                writeln!(out, "proxy     upstream.{name}, {balance} of {servers}")?;
                if let Some(hooks) = hooks {
                    writeln!(out, "hooks     {hooks}, which may change what follows")?;
                }
                for line in request {
                    writeln!(out, "request   {line}")?;
                }
                Ok(())
            }
            Answered::Redirect {
                status,
                location: Some(location),
            } => writeln!(out, "redirect  {status} to {location}"),
            Answered::Redirect { location: None, .. } => {
                writeln!(
                    out,
                    "refused   400: a redirect needs a host, and the request has none"
                )
            }
            Answered::Service { name, path } => writeln!(out, "service   {name}: {path}"),
            Answered::Status { status, body } => match body {
                Some(body) => writeln!(out, "status    {status}: {body:?}"),
                None => writeln!(out, "status    {status}"),
            },
        }
    }
}

impl Explanation {
    /// The same for programs.
    pub fn to_json(&self) -> Json {
        let considered = self.considered.iter().map(|one| {
            json!({
                "route": one.number,
                "conditions": one.conditions,
                "matches": one.mismatch.is_none(),
                "reason": one.mismatch,
            })
        });
        json!({
            "listener": self.listener,
            "addresses": self.addresses,
            "note": self.note,
            "host": self.host,
            "path": self.path,
            "routes": considered.collect::<Vec<_>>(),
            "answer": self.answer.to_json(),
            "response_headers": self.response_headers,
        })
    }
}

impl Answered {
    fn to_json(&self) -> Json {
        match self {
            Answered::Refused { status, reason } => {
                json!({ "by": "refusal", "status": status, "reason": reason })
            }
            Answered::Files {
                name,
                root,
                path,
                asks_password,
                looked,
                status,
                file,
            } => json!({
                "by": "files",
                "name": name,
                "root": root,
                "path": path,
                "asks_password": asks_password,
                "looked": looked,
                "status": status,
                "file": file,
            }),
            Answered::Proxy {
                name,
                servers,
                balance,
                hooks,
                request,
            } => json!({
                "by": "proxy",
                "name": name,
                "servers": servers,
                "balance": balance,
                "hooks": hooks,
                "request": request,
            }),
            Answered::Redirect { status, location } => {
                json!({ "by": "redirect", "status": status, "location": location })
            }
            Answered::Service { name, path } => {
                json!({ "by": "service", "name": name, "path": path })
            }
            Answered::Status { status, body } => {
                json!({ "by": "status", "status": status, "body": body })
            }
        }
    }
}
