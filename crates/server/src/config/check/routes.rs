//! Reads the routes: one action each, listeners that exist, keys that need each other.

use std::collections::HashMap;

use super::{Services, parse_line, parse_lines, report_idle_keys, report_written};
use crate::config::problem::{Fault, Problem, quote};
use crate::config::read::{Document, Section};
use crate::config::route::{ActionKeys, MatchKeys, ROUTE, Route};
use crate::config::source::Sources;
use crate::config::value::nearest;
use crate::route::edit::{HeaderEdit, Operation, Side};
use crate::route::pattern::{
    HeaderPattern, HostPattern, MethodPattern, PathPattern, QueryPattern, is_normal,
};
use crate::route::template::{Template, Variable};
use crate::route::{Action, FixedAnswer, Matcher, Redirect, Rule};

/// The keys of which a route has exactly one; `status` may go with `redirect`.
const ACTIONS: [&str; 5] = ["files", "proxy", "redirect", "status", "service"];

/// Statuses that send a browser elsewhere (RFC 9110 §15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// What routes call what only the program has, each name once.
#[derive(Default)]
pub(super) struct OwnNames {
    pub(super) services: Names,
    pub(super) hooks: Names,
}

/// Names in the order in which they were first said.
#[derive(Default)]
pub(super) struct Names(pub(super) Vec<String>);

impl Names {
    fn index(&mut self, name: &str) -> usize {
        let known = self.0.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        })
    }
}

/// `listeners` are the NAMEs of the listeners, in their order.
pub(super) fn read_routes(
    document: &mut Document<'_>,
    listeners: &[String],
    services: &Services<'_>,
    own: &mut OwnNames,
    sources: &Sources,
) -> Vec<Route> {
    let nodes = document.listed(&ROUTE);
    let mut routes: Vec<Route> = Vec::new();
    let mut before = Before::default();
    for node in &nodes {
        let problems_before = document.problems.len();
        let mut section = document.listed_section(&ROUTE, node);
        let route = read_route(&mut section, listeners, services, own);
        // What is wrong with a route may be just what would tell it from the other.
        let is_sound = document.problems.len() == problems_before;
        if let Some(index) = before.find_hiding(&route, &routes)
            && is_sound
        {
            let problem = Problem::new(node.place.clone(), "a route that no request gets to");
            let place = sources.show(&nodes[index].place);
            let hint = format!(
                "the one at {place} takes all of them: put this before it, or leave it out"
            );
            document.problems.push(problem.hint(hint));
        }
        before.add(routes.len(), &route);
        routes.push(route);
    }
    routes
}

/// The routes that were read, by what could hide another: those for the same host, and those that
/// don't spell hosts out.
#[derive(Default)]
struct Before {
    named: HashMap<Box<str>, Vec<usize>>,
    open: Vec<usize>,
}

impl Before {
    /// How many of each kind are compared with a route: thousands of sites have few that aren't
    /// for one host, and reading is to be quick for whatever is written.
    const COMPARED: usize = 1000;

    fn add(&mut self, index: usize, route: &Route) {
        let hosts = &route.matcher.hosts;
        let is_open = |host: &HostPattern| !matches!(host, HostPattern::Exact(_));
        if hosts.is_empty() || hosts.iter().any(is_open) {
            self.open.push(index);
        }
        for host in hosts {
            if let HostPattern::Exact(name) = host {
                self.named.entry(name.clone()).or_default().push(index);
            }
        }
    }

    /// The first route because of which `route` gets nothing.
    fn find_hiding(&self, route: &Route, routes: &[Route]) -> Option<usize> {
        // Whatever hides it takes its first host as well.
        let named = match route.matcher.hosts.first() {
            Some(HostPattern::Exact(name)) => self.named.get(name),
            _ => None,
        };
        let named = named.into_iter().flatten().take(Before::COMPARED);
        let all = named.chain(self.open.iter().take(Before::COMPARED));
        all.filter(|&&index| routes[index].hides(route))
            .min()
            .copied()
    }
}

impl Route {
    /// Whether `later` gets nothing because of this.
    fn hides(&self, later: &Route) -> bool {
        let mut listeners = later.listeners.iter();
        listeners.all(|listener| self.listeners.contains(listener))
            && self.matcher.covers(&later.matcher)
    }
}

fn read_route(
    section: &mut Section<'_>,
    listeners: &[String],
    services: &Services<'_>,
    own: &mut OwnNames,
) -> Route {
    let conditions = MatchKeys::read(section);
    let keys = ActionKeys::read(section);
    let matcher = Matcher {
        hosts: parse_lines(section, "host", &conditions.host, HostPattern::parse),
        paths: parse_lines(section, "path", &conditions.path, PathPattern::parse),
        methods: parse_lines(section, "method", &conditions.method, MethodPattern::parse),
        headers: parse_lines(section, "header", &conditions.header, HeaderPattern::parse),
        query: parse_lines(section, "query", &conditions.query, QueryPattern::parse),
    };
    let action = read_action(section, &keys, services, own);
    check_idle(section, &keys);
    Route {
        listeners: read_listeners(section, conditions.listen, listeners, services),
        matcher,
        rule: Rule {
            action,
            hooks: keys.hooks.as_deref().map(|name| own.hooks.index(name)),
            strip_prefix: read_prefix(section, keys.strip_prefix),
            rewrite: read_rewrite(section, keys.rewrite),
            request_headers: read_edits(
                section,
                "request_headers",
                &keys.request_headers,
                Side::Request,
            ),
            response_headers: read_edits(
                section,
                "response_headers",
                &keys.response_headers,
                Side::Response,
            ),
        },
    }
}

fn read_listeners(
    section: &mut Section<'_>,
    written: Option<Vec<String>>,
    listeners: &[String],
    services: &Services<'_>,
) -> Vec<usize> {
    let Some(names) = written else {
        return (0..listeners.len()).collect();
    };
    let mut indices = Vec::new();
    for (name, place) in names.iter().zip(section.places("listen")) {
        let index = listeners.iter().position(|known| known == name);
        let problem = match index {
            Some(index) if indices.contains(&index) => {
                Problem::new(place, format!("{name} twice")).hint("once is enough")
            }
            Some(index) => {
                indices.push(index);
                continue;
            }
            None if !services.complete => continue,
            None => {
                let hint = match nearest(name, listeners.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("there are {}", listeners.join(", ")),
                };
                Problem::new(place, format!("there is no [listen.{name}]")).hint(hint)
            }
        };
        section.report(problem);
    }
    indices.sort_unstable();
    indices
}

/// What the route does. After a problem it is something that lets the reading go on.
fn read_action(
    section: &mut Section<'_>,
    keys: &ActionKeys,
    services: &Services<'_>,
    own: &mut OwnNames,
) -> Action {
    const NOTHING: Action = Action::Status(FixedAnswer {
        status: 404,
        body: None,
    });
    let written: Vec<&str> = ACTIONS
        .into_iter()
        .filter(|name| section.is_written(name))
        .collect();
    match written[..] {
        [] => {
            let problem = Problem::new(section.header(), "a route that does nothing");
            section.report(problem.hint("add one of files, proxy, redirect, status and service"));
        }
        [_] | ["redirect", "status"] => {}
        [first, other, ..] => {
            let message = format!("{first} and {other} both say what is done");
            report_written(section, other, &message, "a route has one action");
        }
    }
    if let Some(name) = &keys.files {
        return services.named(section, "files", name).unwrap_or(NOTHING);
    }
    if let Some(name) = &keys.proxy {
        return services.named(section, "proxy", name).unwrap_or(NOTHING);
    }
    if let Some(name) = &keys.service {
        return Action::Service(own.services.index(name));
    }
    if let Some(to) = &keys.redirect {
        let status = keys.status.unwrap_or(302);
        if !REDIRECTS.contains(&status) {
            let message = format!("{status} sends nobody elsewhere");
            report_written(section, "status", &message, "301, 302, 303, 307 or 308");
        }
        let to = parse_line(section, "redirect", to, redirect_to);
        return to.map_or(NOTHING, |to| Action::Redirect(Redirect { status, to }));
    }
    keys.status.map_or(NOTHING, |status| {
        fixed(section, status, keys.body.as_deref())
    })
}

fn fixed(section: &mut Section<'_>, status: u16, body: Option<&str>) -> Action {
    // RFC 9110 §15.3.5, §15.3.6, §15.4.5; a 206 or 416 answers what nobody asked here.
    if REDIRECTS.contains(&status) {
        let hint = "add redirect = \"https://…\"";
        report_written(section, "status", "a redirect that leads nowhere", hint);
    } else if matches!(status, 206 | 304 | 416) {
        let message = format!("{status} is the answer to a question that isn't asked here");
        report_written(section, "status", &message, "such as 404");
    } else if matches!(status, 204 | 205) {
        report_written(
            section,
            "body",
            &format!("{status} has no body"),
            "leave it out",
        );
    }
    Action::Status(FixedAnswer {
        status,
        body: body.map(Into::into),
    })
}

/// The template of a redirect: an absolute URL, or a path of this site.
fn redirect_to(text: &str) -> Result<Template, Fault> {
    let template = Template::parse(text, &Variable::ALL)?;
    check_slashes(&template)?;
    if text.contains(|character: char| character == ' ' || !character.is_ascii()) {
        let message = format!("{} has characters that a URL doesn't", quote(text));
        return Err(Fault::new(message, "write them as %HH"));
    }
    let beginning = template.beginning();
    let behind_scheme = beginning
        .strip_prefix("http://")
        .or_else(|| beginning.strip_prefix("https://"))
        .or_else(|| {
            let is_scheme = template.begins_with(Variable::Scheme);
            is_scheme
                .then(|| text.strip_prefix("{scheme}://"))
                .flatten()
        });
    let is_url = match behind_scheme {
        Some("") => text.contains("://{host}"),
        Some(rest) => !rest.starts_with('/'),
        None => false,
    };
    let is_path = (beginning.starts_with('/') && !beginning.starts_with("//"))
        || template.begins_with(Variable::Path);
    match is_url || is_path {
        true => Ok(template),
        false => Err(Fault::new(
            format!("{} is nowhere to go", quote(text)),
            "such as \"https://{host}{path}{query}\" or \"/new{path}\"",
        )),
    }
}

/// Behind a slash `{path}` would make a second one: to a browser `//name` is another host.
fn check_slashes(template: &Template) -> Result<(), Fault> {
    match template.doubles_slash() {
        false => Ok(()),
        true => Err(Fault::new(
            "a slash before {path}, which begins with one",
            "leave the slash out",
        )),
    }
}

fn read_prefix(section: &mut Section<'_>, prefix: Option<String>) -> Option<Box<str>> {
    let parse = |text: &str| match text {
        "/" => Err(Fault::new(
            "the slash alone can't be taken off",
            "leave it out",
        )),
        _ if is_normal(text) && !text.ends_with('/') => Ok(text.into()),
        _ => Err(Fault::new(
            format!("{} isn't the beginning of a path", quote(text)),
            "such as \"/api\": without a slash at the end, and decoded",
        )),
    };
    parse_line(section, "strip_prefix", &prefix?, parse)
}

fn read_rewrite(section: &mut Section<'_>, target: Option<String>) -> Option<Template> {
    const ALLOWED: [Variable; 5] = [
        Variable::ClientIp,
        Variable::Host,
        Variable::Method,
        Variable::Path,
        Variable::Scheme,
    ];
    let parse = |text: &str| {
        let template = Template::parse(text, &ALLOWED)?;
        check_slashes(&template)?;
        let fault = |message: String, hint: &str| Err(Fault::new(message, hint));
        if !text.starts_with('/') && !template.begins_with(Variable::Path) {
            let message = format!("{} doesn't begin with a slash", quote(text));
            return fault(message, "such as \"/v1{path}\"");
        }
        if text.starts_with("//") {
            let message = format!("{} begins with two slashes", quote(text));
            return fault(message, "such as \"/v1{path}\"");
        }
        let is_odd =
            |character: char| character == ' ' || character == '#' || !character.is_ascii();
        if text.contains(is_odd) {
            let message = format!("{} has characters that a target doesn't", quote(text));
            return fault(message, "write them as %HH");
        }
        Ok(template)
    };
    parse_line(section, "rewrite", &target?, parse)
}

fn read_edits(
    section: &mut Section<'_>,
    key: &'static str,
    lines: &[String],
    side: Side,
) -> Vec<HeaderEdit> {
    let edits = parse_lines(section, key, lines, |line| HeaderEdit::parse(line, side));
    let is_whole = |edit: &HeaderEdit| !matches!(edit.operation, Operation::Add(_));
    for (index, edit) in edits.iter().enumerate() {
        let is_same = |other: &&HeaderEdit| other.name.eq_ignore_ascii_case(&edit.name);
        let before = edits[..index].iter().find(is_same);
        // Places are those of the lines only when all of them were understood.
        if before.is_some() && is_whole(edit) && edits.len() == lines.len() {
            let place = section.places(key).into_iter().nth(index);
            let message = format!("{} is said twice", edit.name);
            let hint = format!("\"+{}: value\" adds one", edit.name);
            if let Some(place) = place {
                section.report(Problem::new(place, message).hint(hint));
            }
        }
    }
    edits
}

/// Reports keys that the route's action makes no use of.
fn check_idle(section: &mut Section<'_>, keys: &ActionKeys) {
    let is_status = keys.status.is_some() && keys.redirect.is_none();
    if !is_status {
        report_idle_keys(section, &["body"], "without a status", "add status = 200");
    }
    if keys.proxy.is_none() {
        let hint = "it is for routes with proxy";
        let names: &[&str] = match keys.files {
            Some(_) => &["request_headers", "hooks"],
            None => &["request_headers", "hooks", "rewrite"],
        };
        report_idle_keys(section, names, "where the request isn't passed on", hint);
    }
    if is_status && keys.files.is_none() && keys.proxy.is_none() {
        let hint = "it is for routes that pass on or redirect";
        report_idle_keys(section, &["strip_prefix"], "on a fixed answer", hint);
    }
}
