//! Routes: what is done with a request, by its host, path, method, fields and query.
//!
//! The configuration's `[[route]]` tables become [`Matcher`]s and [`Rule`]s, in the order of the
//! file; the first that matches counts. Texts are understood once, when the configuration is read:
//! what a request is compared with in `pattern`, texts with variables in `template`, what is done
//! to fields in `edit`. A worker asks the `table` of a listener, and `rewrite` makes of the request
//! what goes on, or an answer.
//!
//! It only decides. Files are answered by `files`, upstreams are asked by `proxy`.

pub(crate) mod edit;
pub(crate) mod pattern;
pub(crate) mod rewrite;
pub(crate) mod table;
pub(crate) mod template;
#[cfg(test)]
mod tests;

pub(crate) use edit::Side;
pub use edit::{HeaderEdit, Operation};
pub use pattern::{HeaderPattern, HostPattern, MethodPattern, PathPattern, QueryPattern};
pub use rewrite::{edited, emit_fields, retargeted, takes_away};
pub use table::Table;
pub use template::{Template, Values, Variable};

/// Which requests a route is for: those that match one of each list, and all of the fields and
/// the query. An empty list matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Matcher {
    /// Any of these hosts.
    pub hosts: Vec<HostPattern>,
    /// Any of these paths.
    pub paths: Vec<PathPattern>,
    /// Any of these methods.
    pub methods: Vec<MethodPattern>,
    /// All of these fields.
    pub headers: Vec<HeaderPattern>,
    /// All of these parameters.
    pub query: Vec<QueryPattern>,
}

impl Matcher {
    /// Whether every request that `other` is for matches, as far as can be told from the two.
    pub(crate) fn covers(&self, other: &Matcher) -> bool {
        fn all<T>(own: &[T], others: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            // One of many is asked for: nothing means everything.
            let is_covered = |other| own.iter().any(|own| covers(own, other));
            own.is_empty() || (!others.is_empty() && others.iter().all(is_covered))
        }
        fn fewer<T: PartialEq>(own: &[T], others: &[T]) -> bool {
            own.iter().all(|own| others.contains(own))
        }
        all(&self.hosts, &other.hosts, HostPattern::covers)
            && all(&self.paths, &other.paths, PathPattern::covers)
            && all(&self.methods, &other.methods, MethodPattern::eq)
            && fewer(&self.headers, &other.headers)
            && fewer(&self.query, &other.query)
    }
}

/// What is done with a request that a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Who answers.
    pub action: Action,
    /// Who looks at what is passed on: the index in
    /// [`Config::hooks`](crate::config::Config::hooks).
    pub hooks: Option<usize>,
    /// What is taken off the front of the path before it goes on, such as `/api`: it begins with
    /// a slash and doesn't end with one. A path that doesn't lie beneath it stays as it is.
    pub strip_prefix: Option<Box<str>>,
    /// The target that the request goes on with; `{path}` in it is the path without the prefix.
    /// The request's query follows it.
    pub rewrite: Option<Template>,
    /// What is done to the request's fields before it goes on.
    pub request_headers: Vec<HeaderEdit>,
    /// What is done to the answer's fields.
    pub response_headers: Vec<HeaderEdit>,
}

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The root of this index in [`Config::roots`](crate::config::Config::roots).
    Files(usize),
    /// The upstream of this index in [`Config::upstreams`](crate::config::Config::upstreams).
    Proxy(usize),
    /// A redirect.
    Redirect(Redirect),
    /// A status, with a text.
    Status(FixedAnswer),
    /// The program's own service of this index in
    /// [`Config::services`](crate::config::Config::services).
    Service(usize),
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The value of `Location`.
    pub to: Template,
}

/// An answer that is the same for every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedAnswer {
    /// 200 to 599.
    pub status: u16,
    /// Its text, as `text/plain` in UTF-8; `None` for the usual short one.
    pub body: Option<Box<str>>,
}

impl Rule {
    /// A rule that does nothing but `action`.
    pub fn new(action: Action) -> Rule {
        Rule {
            action,
            hooks: None,
            strip_prefix: None,
            rewrite: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }
}
