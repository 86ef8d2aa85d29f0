//! The keys of `[[route]]`, and the checked [`Route`] that comes of them.
//!
//! The texts are understood by [`crate::route`]; how they fit together is checked in
//! `check/routes.rs`.

use super::key::{Shape, Table, settings};
use crate::route::{Matcher, Rule};

pub(crate) const ROUTE: Table = Table {
    name: "route",
    shape: Shape::Listed,
    doc: "What is done with some of the requests. Each `[[route]]` has conditions and one action \
          (`files`, `proxy`, `redirect`, `status` or `service`). They are looked at in the order of the file, \
          and the first whose conditions all hold counts; behind them comes what the listener \
          names.",
    groups: &[MatchKeys::KEYS, ActionKeys::KEYS],
};

/// A route: `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// For which of [`Config::listeners`](super::Config::listeners) it is, by index, in ascending
    /// order; at least one.
    pub listeners: Vec<usize>,
    /// Which requests it is for.
    pub matcher: Matcher,
    /// What is done with them.
    pub rule: Rule,
}

settings! {
    /// The conditions of a route, as they are written.
    pub(crate) struct MatchKeys {
        /// The NAMEs of the listeners that it is for.
        listen: Option<Vec<String>> =
            List { of: &Text { min_length: 1, example: "main" }, min_count: 1 },
            Means("all of them"), None;
        /// Hosts: `"example.org"`, `"*.example.org"` for all beneath it (but not for itself), or
        /// `"*"`. Case and port don't count.
        host: Vec<String> =
            List { of: &Text { min_length: 1, example: "example.org" }, min_count: 1 },
            Means("every host"), None;
        /// Paths: `"/about"` is that one, `"/api/*"` is `/api` and whatever lies beneath it, and
        /// anything else with `*`, `**` or `?` is a pattern as in `headers` of `[files.NAME]`.
        ///
        /// They are compared with the path decoded and without `.`, `..` and empty names, so that
        /// no spelling of it gets past a route.
        path: Vec<String> =
            List { of: &Text { min_length: 1, example: "/api/*" }, min_count: 1 },
            Means("every path"), None;
        /// Methods, such as `"POST"`. `"GET"` is for HEAD as well.
        method: Vec<String> =
            List { of: &Text { min_length: 1, example: "POST" }, min_count: 1 },
            Means("every method"), None;
        /// Fields that all have to be there: `"X-Beta"` with any value, `"Accept: *json*"` with
        /// one that matches, where `*` stands for anything and `?` for one byte.
        header: Vec<String> =
            List { of: &Line { example: "Accept: *json*" }, min_count: 1 },
            Means("whatever they are"), None;
        /// Parameters of the query that all have to be there: `"debug"` with any value,
        /// `"version=2"` with that one, where `*` and `?` stand for the same as in `header`.
        query: Vec<String> =
            List { of: &Line { example: "version=2" }, min_count: 1 },
            Means("whatever it is"), None;
    }
}

settings! {
    /// What a route does, as it is written.
    pub(crate) struct ActionKeys {
        /// Answer with files: the name of a `[files.NAME]` table.
        files: Option<String> = Text { min_length: 1, example: "site" }, Means("not files"), None;
        /// Pass the request on: the name of an `[upstream.NAME]` table.
        proxy: Option<String> = Text { min_length: 1, example: "app" }, Means("not passed on"),
            None;
        /// Send the client elsewhere: `"https://{host}{path}{query}"`. In it `{path}` is the path
        /// that was asked for, from its slash on, and `{query}` the query with its question mark;
        /// there are `{host}` (without a port), `{scheme}`, `{method}` and `{client_ip}` as well.
        redirect: Option<String> =
            Text { min_length: 1, example: "https://{host}{path}{query}" }, Means("no redirect"),
            None;
        /// Answer with this status and `body`; with `redirect`, its status: 301, 302, 303, 307
        /// or 308.
        ///
        /// A redirect is 302 if nothing is written. Browsers keep a permanent one (301, 308) for
        /// ever, mistakes included.
        status: Option<u16> = Integer { min: 200, max: 599 }, Means("302 for a redirect"), None;
        /// The text of the answer with `status`. It is `text/plain` unless `response_headers` say
        /// something else.
        body: Option<String> = Prose { example: "Back soon." }, Means("a line with the status"),
            None;
        /// Answer by a service of the program's own, by the name that it has there. The program
        /// `ringway` has none: it is for those that are built on its library.
        service: Option<String> = Text { min_length: 1, example: "api" }, Means("no service"), None;
        /// Have what is passed on looked at by hooks of the program's own, by the name that they
        /// have there.
        hooks: Option<String> = Text { min_length: 1, example: "tenants" }, Means("no hooks"), None;
        /// What is taken off the front of the path: with `"/api"`, `/api/users` goes on as
        /// `/users`, and `/api` as `/`.
        ///
        /// A server that answers doesn't know of it: links and redirects that it makes lack it.
        /// (Those of `files` don't.)
        strip_prefix: Option<String> = Text { min_length: 1, example: "/api" }, Means("nothing"),
            None;
        /// The target that the request goes on with: `"/v1{path}"`. `{path}` is the path, without
        /// `strip_prefix`; the query follows by itself.
        rewrite: Option<String> = Text { min_length: 1, example: "/v1{path}" },
            Means("the path as it is"), None;
        /// Changes of the request's fields before it is passed on: `"Name: value"` sets one,
        /// `"+Name: value"` adds to it, `"-Name"` removes it. Values may have the variables of
        /// `redirect`.
        request_headers: Vec<String> =
            List { of: &Line { example: "X-Client: {client_ip}" }, min_count: 0 }, Means("none"),
            None;
        /// Changes of the answer's fields, written alike.
        response_headers: Vec<String> =
            List { of: &Line { example: "X-Frame-Options: DENY" }, min_count: 0 }, Means("none"),
            None;
    }
}
