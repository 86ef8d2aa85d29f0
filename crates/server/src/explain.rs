//! What a configuration does with a request, told without a server: which listener and route, why
//! not the earlier ones, who answers, and which fields are changed on the way.
//!
//! It asks the code that serves requests: the same parser, table of routes and templates. Files it
//! looks for itself (`looked`), as whoever asks. What only a server can know (what an upstream
//! answers) it doesn't say.

mod looked;
mod question;
mod tell;

use std::fmt;
use std::net::IpAddr;

use question::{Url, find_listener, written};
use ringway_http::head::{HeadLimits, HeadScan, Method, RequestHead, parse_head};
use ringway_http::target::{Target, TargetError};

use crate::config::{Config, Root, Upstream};
use crate::files::told;
use crate::proxy::max_forwards;
use crate::route::table::{Asked, HostBuffer, Mismatch, authority_of};
use crate::route::{Action, HeaderEdit, Matcher, Rule, Table, Values, rewrite};

/// A request to ask about.
#[derive(Debug, Clone)]
pub struct Question {
    /// The method, such as `GET`.
    pub method: String,
    /// `http://host:port/path?query`, or a path alone.
    pub url: String,
    /// Fields, each as `Name: value`.
    pub headers: Vec<String>,
    /// The NAME of the listener; by the port of the URL if there is none.
    pub listener: Option<String>,
    /// Who asks.
    pub client: IpAddr,
}

/// Why a question has no answer: one line with what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadQuestion(String);

impl fmt::Display for BadQuestion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BadQuestion {}

/// What is done with a request. Its `Display` is for people, [`Explanation::to_json`] for
/// programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The NAME of the listener.
    pub listener: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// That the URL has a port on which nothing listens, and the only listener was asked all the
    /// same.
    pub note: Option<String>,
    /// The host as routes compare it; empty if there is none.
    pub host: String,
    /// The path as routes compare it; `None` if the target has none.
    pub path: Option<String>,
    /// The routes of the listener that were looked at, in their order.
    pub considered: Vec<Considered>,
    /// Who answers.
    pub answer: Answered,
    /// Fields that the answer has because of the configuration or, from a root, its status needs
    /// (`Allow`, `Location`), each as `Name: value`; and those that are taken away, each as `-Name`.
    pub response_headers: Vec<String>,
}

/// A route that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Considered {
    /// Which `[[route]]` it is, from 1.
    pub number: usize,
    /// Its conditions, in words.
    pub conditions: String,
    /// Why it isn't for the request; `None` if it is.
    pub mismatch: Option<String>,
}

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answered {
    /// Nobody: it isn't understood, or breaks a rule of HTTP.
    Refused {
        /// The status of the answer.
        status: u16,
        /// Why.
        reason: String,
    },
    /// A root.
    Files {
        /// The NAME of its table.
        name: String,
        /// The directory.
        root: String,
        /// What is looked up in it.
        path: String,
        /// Whether a password is asked for.
        asks_password: bool,
        /// The names that are tried, each with what is there now, to the one that decides.
        looked: Vec<String>,
        /// The status of the answer, to a request without conditions and ranges from somebody who is
        /// let in.
        status: u16,
        /// The path below the root of the file that is sent, be it the page for an error.
        file: Option<String>,
    },
    /// An upstream.
    Proxy {
        /// The NAME of its table.
        name: String,
        /// Its servers.
        servers: Vec<String>,
        /// How one is chosen.
        balance: String,
        /// What the program's own hooks are called that look at the request, and may do something
        /// else with it.
        hooks: Option<String>,
        /// The head of the request as it goes out, line by line. Where `Host` is to be the server's
        /// own, it has the names of all servers, with " or " between them.
        request: Vec<String>,
    },
    /// A redirect.
    Redirect {
        /// The status.
        status: u16,
        /// Where to; `None` where the request names no host, which is answered 400.
        location: Option<String>,
    },
    /// A service of the program's own.
    Service {
        /// What it is called there.
        name: String,
        /// The path that it gets.
        path: String,
    },
    /// A status of the configuration's.
    Status {
        /// The status.
        status: u16,
        /// Its text.
        body: Option<String>,
    },
}

/// Says what `config` does with a request.
///
/// # Errors
/// The question isn't a request, or could be to several listeners.
pub fn explain(config: &Config, question: &Question) -> Result<Explanation, BadQuestion> {
    let url = Url::parse(question)?;
    let (listener, note) = find_listener(config, question, &url)?;
    let raw = written(question, &url)?;
    let own = &config.listeners[listener];
    let mut explanation = Explanation {
        listener: own.name.clone(),
        addresses: question::addresses(own),
        note,
        host: String::new(),
        path: None,
        considered: Vec::new(),
        answer: Answered::Status {
            status: 404,
            body: None,
        },
        response_headers: Vec::new(),
    };
    let limits = HeadLimits {
        head_bytes: config.limits.head_bytes,
        header_count: config.limits.header_count,
        target_bytes: config.limits.target_bytes,
    };
    let mut scan = HeadScan::default();
    let head = match parse_head(&raw, &mut scan, &limits) {
        Ok(Some((head, _))) => head,
        Ok(None) => return Err(BadQuestion("the request has no end".to_owned())),
        Err(error) => {
            explanation.answer = Answered::Refused {
                status: error.status().as_u16(),
                reason: error.to_string(),
            };
            return Ok(explanation);
        }
    };
    match Target::parse(head.method, head.target) {
        Ok(target) => {
            let request = Request {
                head: &head,
                target: &target,
                client: question.client,
            };
            explanation.follow(config, listener, &request);
        }
        // A server may well have names with such in them, where nothing is decided by the path.
        Err(TargetError::EncodedSlash | TargetError::Backslash)
            if passes_all_on(config, listener) =>
        {
            let request = Request {
                head: &head,
                target: &Target::Asterisk,
                client: question.client,
            };
            explanation.follow(config, listener, &request);
        }
        Err(error) => {
            explanation.answer = Answered::Refused {
                status: error.status().as_u16(),
                reason: error.to_string(),
            };
        }
    }
    Ok(explanation)
}

/// Whether an upstream gets everything that a listener gets.
fn passes_all_on(config: &Config, listener: usize) -> bool {
    let table = Table::new(config, listener);
    let only = table.only();
    only.is_some_and(|rule| matches!(rule.action, Action::Proxy(_)))
}

/// A request that was understood.
struct Request<'a> {
    head: &'a RequestHead<'a>,
    target: &'a Target<'a>,
    client: IpAddr,
}

impl Explanation {
    /// Follows a request through the routes of a listener.
    fn follow(&mut self, config: &Config, listener: usize, request: &Request<'_>) {
        let Request { head, target, .. } = request;
        let mut buffer = HostBuffer::new();
        let host = buffer.normal_host(authority_of(head, target));
        let asked = Asked::new(head, target, host);
        self.host = lossy(host);
        if let Target::Resource(resource) = target {
            self.path = Some(lossy(resource.path.as_bytes()));
        }
        for (index, route) in config.routes.iter().enumerate() {
            if !route.listeners.contains(&listener) {
                continue;
            }
            let mismatch = route.matcher.mismatch(&asked);
            self.considered.push(Considered {
                number: index + 1,
                conditions: tell::conditions(&route.matcher),
                mismatch: mismatch.map(|mismatch| self.why_not(&route.matcher, mismatch, head)),
            });
            if mismatch.is_none() {
                break;
            }
        }
        let table = Table::new(config, listener);
        let rule = table.find(head, target);
        let (answer, fields) = answered(config, rule, request);
        self.answer = answer;
        self.response_headers = response_headers(fields, rule, request);
    }

    fn why_not(&self, matcher: &Matcher, mismatch: Mismatch<'_>, head: &RequestHead<'_>) -> String {
        let path = self.path.as_deref().unwrap_or("none");
        match mismatch {
            Mismatch::Host => format!(
                "the host {:?} isn't {}",
                self.host,
                tell::any(&matcher.hosts)
            ),
            Mismatch::Path => format!("the path {path:?} isn't {}", tell::any(&matcher.paths)),
            Mismatch::Method => {
                let method = head.method.as_str();
                format!("the method {method} isn't {}", tell::any(&matcher.methods))
            }
            Mismatch::Header(pattern) => format!("no field is {:?}", pattern.to_string()),
            Mismatch::Query(pattern) => {
                format!("nothing in the query is {:?}", pattern.to_string())
            }
        }
    }
}

/// Who answers, and what fields the answer has before the route changes them.
fn answered(config: &Config, rule: &Rule, request: &Request<'_>) -> (Answered, Vec<String>) {
    let values = Values::of(request.head, request.target, request.client);
    let answer = match &rule.action {
        Action::Files(index) => return by_files(&config.roots[*index], rule, request, &values),
        Action::Proxy(index) => {
            let hooks = rule.hooks.map(|index| config.hooks[index].clone());
            passed_on(&config.upstreams[*index], rule, hooks, request, &values)
        }
        Action::Service(index) => Answered::Service {
            name: config.services[*index].clone(),
            path: lossy(rule.stripped(values.path)),
        },
        Action::Redirect(redirect) => {
            let path = rule.stripped(values.path);
            let mut location = Vec::new();
            let leads = redirect.emit_location(&Values { path, ..values }, &mut location);
            Answered::Redirect {
                status: redirect.status,
                location: leads.then(|| lossy(&location)),
            }
        }
        Action::Status(answer) => Answered::Status {
            status: answer.status,
            body: answer.body.as_ref().map(ToString::to_string),
        },
    };
    (answer, Vec::new())
}

fn by_files(
    root: &Root,
    rule: &Rule,
    request: &Request<'_>,
    values: &Values<'_>,
) -> (Answered, Vec<String>) {
    let path = rule.stripped(values.path);
    let wanted = if values.path.is_empty() { &[] } else { path };
    let looked = looked::looked(root, wanted, request.head);
    let status = looked.ending.status();
    let mut head = told::head(root, &looked.ending, request.head);
    if let Some(prefix) = &rule.strip_prefix
        && path != values.path
        && status.is_redirection()
    {
        head = rewrite::relocated(&head, prefix);
    }
    // Behind the line with the status.
    let fields = tell::lines(&head).split_off(1);
    let answer = Answered::Files {
        name: root.name.clone(),
        root: root.root.display().to_string(),
        path: lossy(path),
        asks_password: root.has_users(),
        looked: looked.lines,
        status: status.as_u16(),
        file: looked.ending.file().map(lossy),
    };
    (answer, fields)
}

fn passed_on(
    upstream: &Upstream,
    rule: &Rule,
    hooks: Option<String>,
    request: &Request<'_>,
    values: &Values<'_>,
) -> Answered {
    if request.head.method == Method::Connect {
        return Answered::Refused {
            status: 405,
            reason: "CONNECT isn't passed on".to_owned(),
        };
    }
    let max_forwards = match (max_forwards(request.head), request.head.method) {
        (Some(0), Method::Options) => {
            return Answered::Status {
                status: 204,
                body: None,
            };
        }
        (Some(0), _) => {
            return Answered::Refused {
                status: 405,
                reason: "Max-Forwards lets it go no further, and traces aren't shown".to_owned(),
            };
        }
        (count, _) => count.map(|count| count - 1),
    };
    Answered::Proxy {
        name: upstream.name.clone(),
        servers: upstream.servers.iter().map(ToString::to_string).collect(),
        balance: upstream.balance.word().word().to_owned(),
        hooks,
        request: tell::request(upstream, rule, request.head, values, max_forwards),
    }
}

/// What the configuration says beside the answer itself.
fn response_headers(fields: Vec<String>, rule: &Rule, request: &Request<'_>) -> Vec<String> {
    let values = Values::of(request.head, request.target, request.client);
    let edits: &[HeaderEdit] = &rule.response_headers;
    let mut lines = fields;
    lines.retain(|line| {
        let name = line.split(':').next().unwrap_or(line);
        !rewrite::takes_away(edits, name.as_bytes())
    });
    let mut added = Vec::new();
    rewrite::emit_fields(edits, &values, &mut added);
    lines.extend(tell::lines(&added));
    let removed = edits.iter().map(ToString::to_string);
    lines.extend(removed.filter(|edit| edit.starts_with('-')));
    lines
}

/// As a terminal may show it: what was asked must not be able to send escape sequences.
fn lossy(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
