//! Requests of every kind, each with the answer that it has to get.

use crate::random::Random;
use crate::site::{BODY_BYTES, HEAD_BYTES, MODIFIED, Page, Site, TARGET_BYTES};

/// What a request has to be answered with.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// The answer needs the file system, which may fail (500) or lack descriptors (503).
    pub(crate) may_fail: bool,
    /// It has no content, whatever its head says (RFC 9110 §9.3.2).
    pub(crate) is_head: bool,
    pub(crate) content: Content,
    /// Fields that the answer has.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The connection ends with this answer.
    pub(crate) is_last: bool,
    /// It is for HTTP/1.0, where that needs no word.
    pub(crate) is_old: bool,
    /// The request is never whole, so there is no answer.
    pub(crate) is_cut: bool,
    /// The client asks whether to send the body. `100 Continue` may come before an answer that is a
    /// success; with another the connection ends (RFC 9110 §10.1.1).
    pub(crate) asks_to_continue: bool,
}

/// What comes after a response's head.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Exactly(Vec<u8>),
    /// As many bytes as the head says, whatever they are: an error's page.
    Page,
    /// Nothing, by its status.
    Nothing,
}

/// A request, and its answer.
pub(crate) struct Request {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// The client sends the body only when it was told to continue.
    pub(crate) waits_to_continue: bool,
    pub(crate) expected: Expected,
}

impl Expected {
    pub(crate) fn page(status: u16) -> Expected {
        Expected {
            status,
            may_fail: false,
            is_head: false,
            content: Content::Page,
            fields: Vec::new(),
            is_last: false,
            is_old: false,
            is_cut: false,
            asks_to_continue: false,
        }
    }

    /// The answer after which the connection ends.
    pub(crate) fn last(status: u16) -> Expected {
        Expected {
            is_last: true,
            ..Expected::page(status)
        }
    }
}

impl Request {
    /// A request without a body: `line` is method and target, `fields` have CRLF behind each.
    fn new(line: &str, fields: &str, expected: Expected) -> Request {
        Request {
            head: format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes(),
            body: Vec::new(),
            waits_to_continue: false,
            expected,
        }
    }

    pub(crate) fn get(page: &Page) -> Request {
        let expected = Expected {
            status: 200,
            may_fail: true,
            content: Content::Exactly(page.bytes.clone()),
            fields: vec![
                ("content-length", page.bytes.len().to_string()),
                ("last-modified", MODIFIED.0.to_owned()),
                ("accept-ranges", "bytes".to_owned()),
            ],
            ..Expected::page(200)
        };
        Request::new(&format!("GET {}", page.target), "", expected)
    }

    fn with_fields(mut self, fields: &str) -> Request {
        self.head.truncate(self.head.len() - 2);
        self.head.extend_from_slice(fields.as_bytes());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn head(page: &Page) -> Request {
        let mut expected = Request::get(page).expected;
        expected.is_head = true;
        Request::new(&format!("HEAD {}", page.target), "", expected)
    }

    /// One of those that don't end the connection.
    pub(crate) fn ordinary(site: &Site, random: &mut Random) -> Request {
        let page = &site.pages[random.below(site.pages.len())];
        match random.below(16) {
            0..5 => Request::get(page),
            5 => Request::head(page),
            6 | 7 => Request::range(page, random),
            8 => Request::conditional(page, random),
            9 => {
                let (target, status, fields) = random.pick(&[
                    ("/no/such/file", 404, None),
                    ("/bare/", 404, None),
                    ("/.secret", 404, None),
                    ("/%2e%2e/etc/passwd", 403, None),
                    ("/folder?query", 301, Some(("location", "/folder/?query"))),
                    ("/bad%zz", 400, None),
                ]);
                let fields = fields.map(|(name, value): (_, &str)| (name, value.to_owned()));
                let expected = Expected {
                    may_fail: true,
                    fields: fields.into_iter().collect(),
                    ..Expected::page(status)
                };
                Request::new(&format!("GET {target}"), "", expected)
            }
            10 => {
                let allowed = ("allow", "GET, HEAD, OPTIONS".to_owned());
                let (method, status) = random.pick(&[("OPTIONS", 204), ("DELETE", 405)]);
                let mut expected = Expected {
                    fields: vec![allowed],
                    ..Expected::page(status)
                };
                if status == 204 {
                    expected.content = Content::Nothing;
                }
                Request::new(&format!("{method} {}", page.target), "", expected)
            }
            11..14 => Request::get(page).with_body(random),
            14 => Request::head(page).with_body(random),
            _ => Request::new("POST /form", "", Expected::page(405)).with_body(random),
        }
    }

    fn range(page: &Page, random: &mut Random) -> Request {
        let total = page.bytes.len();
        if total < 2 || random.one_in(5) {
            // Nothing of an empty file can be asked for either (RFC 9110 §14.1.2).
            let fields = vec![("content-range", format!("bytes */{total}"))];
            let expected = Expected {
                may_fail: true,
                content: Content::Exactly(Vec::new()),
                fields,
                ..Expected::page(416)
            };
            let line = format!("GET {}", page.target);
            return Request::new(&line, &format!("Range: bytes={total}-\r\n"), expected);
        }
        let first = random.below(total);
        let last = first + random.below(total - first);
        let (range, last) = match random.below(3) {
            0 => (format!("{first}-"), total - 1),
            1 => (format!("-{}", total - first), total - 1),
            _ => (format!("{first}-{last}"), last),
        };
        let mut request = Request::get(page).with_fields(&format!("Range: bytes={range}\r\n"));
        request.expected.status = 206;
        request.expected.content = Content::Exactly(page.bytes[first..=last].to_vec());
        request.expected.fields = vec![
            ("content-range", format!("bytes {first}-{last}/{total}")),
            ("content-length", (last - first + 1).to_string()),
        ];
        request
    }

    fn conditional(page: &Page, random: &mut Random) -> Request {
        let modified = format!("If-Modified-Since: {}\r\n", MODIFIED.0);
        let later = "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n";
        let earlier = "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n";
        let (fields, status) = random.pick(&[
            (&*modified, 304),
            ("If-None-Match: *\r\n", 304),
            ("If-None-Match: \"another\"\r\n", 200),
            (earlier, 200),
            (later, 412),
            ("If-Match: \"another\"\r\n", 412),
        ]);
        let mut request = Request::get(page).with_fields(fields);
        let expected = &mut request.expected;
        expected.status = status;
        match status {
            304 => {
                expected.content = Content::Nothing;
                expected.fields = vec![("last-modified", MODIFIED.0.to_owned())];
            }
            412 => (expected.content, expected.fields) = (Content::Exactly(Vec::new()), Vec::new()),
            _ => {}
        }
        request
    }

    /// Gives it a body, which nobody looks at.
    fn with_body(self, random: &mut Random) -> Request {
        let most = random.pick(&[10, 300, 20_000]);
        let size = 1 + random.below(most);
        let body = random.bytes(size);
        let is_chunked = random.one_in(2);
        let mut request = if is_chunked {
            self.with_fields("Transfer-Encoding: chunked\r\n")
        } else {
            self.with_fields(&format!("Content-Length: {size}\r\n"))
        };
        if random.one_in(3) {
            request = request.with_fields("Expect: 100-continue\r\n");
            request.expected.asks_to_continue = true;
            request.expected.is_last |= request.expected.status >= 300;
            request.waits_to_continue = random.one_in(2);
        }
        request.body = if is_chunked {
            chunked(&body, random)
        } else {
            body
        };
        request
    }

    /// One of those after which nobody can know where the next request begins, or doesn't want
    /// one.
    pub(crate) fn final_one(site: &Site, random: &mut Random) -> Request {
        let page = &site.pages[random.below(site.pages.len())];
        if random.one_in(3) {
            let mut request = if random.one_in(2) {
                Request::get(page).with_fields("Connection: close\r\n")
            } else {
                let mut request = Request::get(page);
                request.head = format!("GET {} HTTP/1.0\r\n\r\n", page.target).into_bytes();
                request.expected.is_old = true;
                request
            };
            request.expected.is_last = true;
            return request;
        }
        let (text, status) = random.pick(MALFORMED);
        let (head, body) = match text {
            "long target" => (get_with(&"a".repeat(TARGET_BYTES), ""), ""),
            "long head" => (
                get_with("", &format!("X: {}\r\n", "x".repeat(HEAD_BYTES))),
                "",
            ),
            "large body" => (
                get_with("", &format!("Content-Length: {}\r\n", BODY_BYTES + 1)),
                "",
            ),
            "bad chunk" => (
                get_with("", "Transfer-Encoding: chunked\r\n"),
                "3\r\nabc\r\nzz\r\n",
            ),
            _ => (text.to_owned(), ""),
        };
        Request {
            head: head.into_bytes(),
            body: body.as_bytes().to_vec(),
            waits_to_continue: false,
            expected: Expected::last(status),
        }
    }
}

fn get_with(target: &str, fields: &str) -> String {
    format!("GET /{target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// Heads that have to be refused, with the status. Names stand for what has to be made.
const MALFORMED: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nName : value\r\n\r\n", 400),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nName: value\r\n folded\r\n\r\n",
        400,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        400,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
    ),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("\x16\x03\x01\x02\x01\r\n\r\n", 400),
    ("long target", 414),
    ("long head", 431),
    ("large body", 413),
    ("bad chunk", 400),
];

fn chunked(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, piece) in random.cut(body).into_iter().enumerate() {
        // The server takes 4 KiB of them.
        let extension = if number < 100 && random.one_in(3) {
            ";name=value"
        } else {
            ""
        };
        out.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(&piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(
        random
            .pick(&["0\r\n\r\n", "0\r\nTrailer: value\r\n\r\n"])
            .as_bytes(),
    );
    out
}
