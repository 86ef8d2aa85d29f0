//! What a root's answers say beside what a file itself says: headers of the configuration, the
//! preset for security, what other origins may do (CORS).
//!
//! Nearly all of it is the same for every request, and becomes part of the responses that are kept
//! ready. Only where a list of origins is allowed does an answer depend on the request, and then
//! on nothing but which of them asks: a [`Frame`] carries that as a number.

use super::freshness::{ASK, Rule, cache_control, private};
use crate::answer::Frame;
use crate::auth::challenge;
use crate::config;
use ringway_http::StatusCode;
use ringway_http::glob::Glob;
use ringway_http::head::RequestHead;
use ringway_http::header_name;
use ringway_http::response::{HeaderName, ResponseHead, name};
use std::borrow::Cow;
use std::rc::Rc;

const ALLOW_ORIGIN: HeaderName = header_name!("Access-Control-Allow-Origin");
const ALLOW_CREDENTIALS: HeaderName = header_name!("Access-Control-Allow-Credentials");
const ALLOW_METHODS: HeaderName = header_name!("Access-Control-Allow-Methods");
const ALLOW_HEADERS: HeaderName = header_name!("Access-Control-Allow-Headers");
const EXPOSE_HEADERS: HeaderName = header_name!("Access-Control-Expose-Headers");
const MAX_AGE: HeaderName = header_name!("Access-Control-Max-Age");

/// What `security_headers` adds. Each is replaced by one of the same name in `headers`.
pub(crate) const SECURITY: [(&str, &str); 5] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "frame-ancestors 'self'"),
    // For browsers from before `frame-ancestors`.
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

/// Fields that a configuration can't set: what frames a message or belongs to the connection
/// (RFC 9110 §7.6.1), and what says what was asked and found.
const RESERVED: [&str; 20] = [
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Content-Length",
    "Content-Range",
    "Content-Encoding",
    "Content-Type",
    "Accept-Ranges",
    "Allow",
    "Date",
    "ETag",
    "Last-Modified",
    "Location",
    "Server",
    "Vary",
    "WWW-Authenticate",
];

const EXAMPLE: &str = "such as \"X-Robots-Tag: noindex\"";

/// The longest `Access-Control-Request-Headers` that is answered; browsers name a handful.
const REQUESTED_BYTES: usize = 1024;

/// A field that is sent as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    name: Box<str>,
    value: Box<str>,
}

/// An element of `headers`: a field, for all answers or for files alone that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldRule {
    glob: Option<Glob>,
    field: Field,
}

impl FieldRule {
    /// Reads `Name: value` or `GLOB Name: value`.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(line: &str) -> Result<FieldRule, (String, &'static str)> {
        // What looks like no header's name.
        let is_pattern = |first: &str| !first.contains(':') && first.contains(['/', '*', '?', '.']);
        let (glob, line) = match line.split_once(' ') {
            Some((first, rest)) if is_pattern(first) => {
                let glob = Glob::parse(first);
                let glob = glob.map_err(|error| (format!("{first:?}: {error}"), EXAMPLE))?;
                (Some(glob), rest.trim())
            }
            _ => (None, line),
        };
        Field::parse(line).map(|field| FieldRule { glob, field })
    }
}

impl Field {
    fn parse(line: &str) -> Result<Field, (String, &'static str)> {
        let Some((name, value)) = line.split_once(':') else {
            return Err((format!("{line:?} isn't a header"), EXAMPLE));
        };
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) {
            return Err((format!("{name:?} isn't a header name"), EXAMPLE));
        }
        if value.chars().any(char::is_control) {
            return Err((format!("control character in the value of {name}"), EXAMPLE));
        }
        if RESERVED
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
        {
            return Err((format!("{name} is for the server to say"), "leave it out"));
        }
        if name.eq_ignore_ascii_case("Cache-Control") {
            return Err((format!("{name} has a key of its own"), "cache_control"));
        }
        if name.to_ascii_lowercase().starts_with("access-control-") {
            return Err((format!("{name} comes with a key of its own"), "cors"));
        }
        Ok(Field {
            name: name.into(),
            value: value.into(),
        })
    }

    fn new(name: &str, value: &str) -> Field {
        Field {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `origin` can be the value of an `Origin` field: `scheme://host[:port]` in lower case
/// (RFC 6454 §6.2), or `null`.
pub(crate) fn is_origin(origin: &str) -> bool {
    if origin == "null" {
        return true;
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let is_scheme =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}

/// The headers of a root.
#[derive(Default)]
pub(crate) struct Headers {
    /// On every answer.
    always: Vec<Field>,
    by_path: Vec<(Glob, Field)>,
    cache_rules: Vec<Rule>,
    /// Only users may have the files, so no cache that others share may keep them.
    is_private: bool,
    /// `WWW-Authenticate`, for 401.
    challenge: Option<Box<[u8]>>,
    cors: Option<Cors>,
}

/// What the answers with one file say beside what is in it.
#[derive(Clone, Default)]
pub(super) struct FileHeaders {
    root: Rc<Headers>,
    /// In place of the root's of the same names.
    own: Rc<[Field]>,
    cache_control: Option<Rc<str>>,
    vary: Cow<'static, str>,
}

/// Which other origins may read the answers (Fetch Standard §3.3).
struct Cors {
    /// Whose name an answer has to repeat; empty when everybody may.
    origins: Vec<String>,
    with_credentials: bool,
    exposed: String,
    max_age_seconds: u64,
}

impl Headers {
    pub(super) fn new(root: &config::Root) -> Headers {
        let (mut always, mut by_path) = (Vec::new(), Vec::new());
        // The configuration was checked: every line is one.
        for rule in root
            .headers
            .iter()
            .filter_map(|line| FieldRule::parse(line).ok())
        {
            match rule.glob {
                None => always.push(rule.field),
                Some(glob) => by_path.push((glob, rule.field)),
            }
        }
        let cache_rules = root.cache_control.iter();
        if root.security_headers {
            for (name, value) in SECURITY {
                if !contains(&always, name) {
                    always.push(Field::new(name, value));
                }
            }
        }
        let is_open = root.cors.iter().any(|origin| origin == "*");
        let cors = (!root.cors.is_empty()).then(|| Cors {
            origins: match is_open {
                true => Vec::new(),
                false => root.cors.clone(),
            },
            with_credentials: root.cors_credentials,
            exposed: root.cors_expose.join(", "),
            max_age_seconds: root.cors_max_age.as_secs(),
        });
        Headers {
            always,
            by_path,
            cache_rules: cache_rules
                .filter_map(|line| Rule::parse(line).ok())
                .collect(),
            is_private: root.has_users(),
            challenge: root.has_users().then(|| challenge(root)),
            cors,
        }
    }

    /// Those of the file at `path`, which begins with a slash. `varies` when there are others to
    /// choose from by `Accept-Encoding`.
    pub(super) fn of_file(
        self: &Rc<Headers>,
        path: &[u8],
        content_type: &str,
        varies: bool,
    ) -> FileHeaders {
        let matching = self.by_path.iter().filter(|(glob, _)| glob.matches(path));
        let is_page = content_type.starts_with("text/html");
        FileHeaders {
            own: matching.map(|(_, field)| field.clone()).collect(),
            cache_control: match cache_control(&self.cache_rules, path, is_page) {
                said if self.is_private => Some(private(said.unwrap_or_default()).into()),
                said => said.map(Into::into),
            },
            vary: self.vary(if varies { "Accept-Encoding" } else { "" }),
            root: Rc::clone(self),
        }
    }

    /// Those of a page that the server makes of a directory, in a form that the client chooses.
    /// `policy` is what the page may do.
    pub(super) fn of_listing(
        self: &Rc<Headers>,
        policy: Option<&str>,
        varies: bool,
    ) -> FileHeaders {
        let policy = policy.map(|policy| Field::new("Content-Security-Policy", policy));
        let nosniff = Field::new("X-Content-Type-Options", "nosniff");
        FileHeaders {
            own: policy.into_iter().chain([nosniff]).collect(),
            cache_control: Some(match self.is_private {
                true => private(ASK).into(),
                false => ASK.into(),
            }),
            vary: self.vary(match varies {
                true => "Accept, Accept-Encoding",
                false => "Accept",
            }),
            root: Rc::clone(self),
        }
    }

    /// Which of the allowed origins asks.
    #[inline]
    pub(super) fn origin_of(&self, head: &RequestHead<'_>) -> Option<u16> {
        self.cors.as_ref()?.origin_of(head)
    }

    /// Whether what an answer says depends on the origin that asks.
    pub(super) fn depend_on_origin(&self) -> bool {
        let cors = self.cors.as_ref();
        cors.is_some_and(|cors| !cors.origins.is_empty())
    }

    /// What of a request the choice of an answer depends on (RFC 9110 §12.5.5), beside `others`.
    fn vary(&self, others: &'static str) -> Cow<'static, str> {
        match (others, self.depend_on_origin()) {
            (_, false) => others.into(),
            ("", true) => "Origin".into(),
            (_, true) => format!("{others}, Origin").into(),
        }
    }

    /// Adds what belongs on every answer, but for what `own` has of its own.
    fn add<'o>(&self, head: ResponseHead<'o>, frame: Frame, own: &[Field]) -> ResponseHead<'o> {
        let shared = self.always.iter();
        let shared = shared.filter(|field| !contains(own, &field.name));
        let head = shared.chain(own).fold(head, |head, field| {
            head.named(field.name.as_bytes(), field.value.as_bytes())
        });
        match &self.cors {
            Some(cors) => cors.add(head, frame),
            None => head,
        }
    }

    /// Adds what belongs to 401: how to say who one is (RFC 9110 §11.6.1).
    pub(super) fn explain<'o>(
        &self,
        head: ResponseHead<'o>,
        status: StatusCode,
    ) -> ResponseHead<'o> {
        match &self.challenge {
            Some(challenge) if status == StatusCode::UNAUTHORIZED => {
                head.header(name::WWW_AUTHENTICATE, challenge)
            }
            _ => head,
        }
    }

    /// Adds what belongs on an answer that isn't a file's.
    pub(super) fn add_brief<'o>(&self, head: ResponseHead<'o>, frame: Frame) -> ResponseHead<'o> {
        self.add_private(add_vary(self.add(head, frame, &[]), &self.vary("")))
    }

    fn add_private<'o>(&self, head: ResponseHead<'o>) -> ResponseHead<'o> {
        match self.is_private {
            true => head.header(name::CACHE_CONTROL, b"private"),
            false => head,
        }
    }

    /// Adds what a preflight asks for: whether the request that it announces may be sent
    /// (Fetch Standard §3.3.2). To others than browsers it is an OPTIONS like any other.
    pub(super) fn add_preflight<'o>(
        &self,
        head: ResponseHead<'o>,
        frame: Frame,
        request: &RequestHead<'_>,
    ) -> ResponseHead<'o> {
        let is_preflight = request
            .header("access-control-request-method")
            .next()
            .is_some()
            && request.header("origin").next().is_some();
        match &self.cors {
            Some(cors) if is_preflight && cors.allows(frame) => cors.add_preflight(head, request),
            _ => head,
        }
    }
}

impl FileHeaders {
    /// As [`Headers::explain`].
    pub(super) fn explain<'o>(
        &self,
        head: ResponseHead<'o>,
        status: StatusCode,
    ) -> ResponseHead<'o> {
        self.root.explain(head, status)
    }

    /// Adds what belongs on every answer that is about the file.
    pub(super) fn add<'o>(&self, head: ResponseHead<'o>, frame: Frame) -> ResponseHead<'o> {
        self.root.add(head, frame, &self.own)
    }

    /// Adds what the file says where it stands for an error, which nobody is to keep.
    pub(super) fn add_uncached<'o>(
        &self,
        head: ResponseHead<'o>,
        frame: Frame,
    ) -> ResponseHead<'o> {
        let head = self
            .add(head, frame)
            .header(name::CACHE_CONTROL, b"no-store");
        add_vary(head, &self.root.vary(""))
    }

    /// Adds what tells caches how to keep the file.
    pub(super) fn add_caching<'o>(&self, head: ResponseHead<'o>) -> ResponseHead<'o> {
        let head = match &self.cache_control {
            Some(value) => head.header(name::CACHE_CONTROL, value.as_bytes()),
            None => head,
        };
        add_vary(head, &self.vary)
    }
}

fn add_vary<'o>(head: ResponseHead<'o>, value: &str) -> ResponseHead<'o> {
    match value.is_empty() {
        true => head,
        false => head.header(name::VARY, value.as_bytes()),
    }
}

impl Cors {
    /// The index of the origin that a request comes from, if that matters and is one of those that
    /// may read the answer.
    #[inline(never)]
    fn origin_of(&self, head: &RequestHead<'_>) -> Option<u16> {
        if self.origins.is_empty() {
            return None;
        }
        // Two of them are none: no browser sends that.
        let mut sent = head.header("origin");
        let (Some(origin), None) = (sent.next(), sent.next()) else {
            return None;
        };
        let index = self.origins.iter().position(|one| one.as_bytes() == origin);
        index.and_then(|index| u16::try_from(index).ok())
    }

    fn allows(&self, frame: Frame) -> bool {
        self.origins.is_empty() || frame.origin.is_some()
    }

    fn add<'o>(&self, head: ResponseHead<'o>, frame: Frame) -> ResponseHead<'o> {
        let origin = match frame.origin {
            _ if self.origins.is_empty() => "*",
            Some(index) => &self.origins[usize::from(index)],
            None => return head,
        };
        let mut head = head.header(ALLOW_ORIGIN, origin.as_bytes());
        if self.with_credentials {
            head = head.header(ALLOW_CREDENTIALS, b"true");
        }
        if !self.exposed.is_empty() {
            head = head.header(EXPOSE_HEADERS, self.exposed.as_bytes());
        }
        head
    }

    fn add_preflight<'o>(
        &self,
        head: ResponseHead<'o>,
        request: &RequestHead<'_>,
    ) -> ResponseHead<'o> {
        // What can't be done here isn't among them, whatever was asked for.
        let head = head
            .header(ALLOW_METHODS, b"GET, HEAD")
            .header(MAX_AGE, self.max_age_seconds.to_string().as_bytes());
        // Whoever may read the files may say with what: no field makes a GET write.
        let requested = request.header("access-control-request-headers").next();
        let is_list = |value: &&[u8]| {
            let is_known = |byte: &u8| is_token_byte(*byte) || matches!(byte, b',' | b' ');
            value.len() <= REQUESTED_BYTES && value.iter().all(is_known)
        };
        match requested.filter(is_list) {
            Some(fields) if !fields.is_empty() => head.header(ALLOW_HEADERS, fields),
            _ => head,
        }
    }
}

fn contains(fields: &[Field], name: &str) -> bool {
    fields
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_a_name_and_a_value() {
        let parse = |line| FieldRule::parse(line);
        let field = |name, value| Field::new(name, value);
        for (line, name, value) in [
            ("X-A: b", "X-A", "b"),
            ("X-A:b", "X-A", "b"),
            ("X-A:  b: c  ", "X-A", "b: c"),
            ("X-A:", "X-A", ""),
            ("X-A: \u{fc}", "X-A", "\u{fc}"),
        ] {
            let rule = parse(line).unwrap();
            assert_eq!(
                (rule.glob, rule.field),
                (None, field(name, value)),
                "{line}"
            );
        }
        let rule = parse("/a/*.b X-A: b c").unwrap();
        assert_eq!(rule.glob, Some(Glob::parse("/a/*.b").unwrap()));
        assert_eq!(rule.field, field("X-A", "b c"));
    }

    #[test]
    fn what_would_break_a_message_is_refused() {
        for line in [
            "",
            ":",
            ": b",
            "X-A",
            "X A: b",
            "X-A : b",
            "X-\u{fc}: b",
            "X-A: b\r\nX-B: c",
            "X-A: b\nc",
            "X-A: \0",
            "X-A\r\nX-B: c",
            "*.js X-A",
            "a** X-A: b",
            "Transfer-Encoding: chunked",
            "content-length: 5",
            "CONNECTION: close",
            "*.js Content-Type: text/plain",
            "ETag: \"a\"",
            "Vary: *",
            "Cache-Control: no-store",
            "Access-Control-Allow-Origin: *",
        ] {
            assert!(FieldRule::parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        for origin in [
            "https://example.org",
            "http://localhost:3000",
            "http://[::1]:80",
            "null",
            "chrome-extension://abcdefgh",
            "https://xn--mnchen-3ya.de",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for other in [
            "",
            "example.org",
            "https://",
            "://x",
            "https://example.org/",
            "https://Example.org",
            "https://*.example.org",
            "https://a b",
            "https://a@b",
            "NULL",
            "*",
        ] {
            assert!(!is_origin(other), "{other}");
        }
    }
}
