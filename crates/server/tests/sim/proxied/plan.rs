//! A request with what its server is to do, which it finds in the target, so that whoever is asked
//! does the same; and what the client is to get for it.

use crate::random::Random;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers with content of known length.
    Sized,
    Chunked,
    /// With content until the end of the connection.
    UntilClose,
    /// 204.
    Empty,
    /// Three interim answers before the final one.
    Hints,
    /// With chunks that have extensions, and with a trailer.
    Trailers,
    /// Answers, and ends the connection without having said so.
    Stale,
    /// Answers 413 before it has read the body, which it goes on to throw away.
    Early,
    /// Nothing at all.
    Silent,
    Close,
    Reset,
    /// What is no answer.
    Garbage,
    TwoLengths,
    LengthAndCoding,
    EndlessHead,
    InterimFlood,
    /// An upgrade that nobody asked for.
    Upgrade,
    /// Less content than it said, and the end of the connection.
    Short,
    /// All of it in chunks, and then a chunk that is none.
    BadChunk,
    /// Some content, and then nothing.
    Stall,
}

/// All of them; a target has an index of this. The first [`GOOD_ACTS`] do nothing wrong.
const ACTS: [Act; 20] = [
    Act::Sized,
    Act::Chunked,
    Act::UntilClose,
    Act::Empty,
    Act::Hints,
    Act::Trailers,
    Act::Stale,
    Act::Early,
    Act::Silent,
    Act::Close,
    Act::Reset,
    Act::Garbage,
    Act::TwoLengths,
    Act::LengthAndCoding,
    Act::EndlessHead,
    Act::InterimFlood,
    Act::Upgrade,
    Act::Short,
    Act::BadChunk,
    Act::Stall,
];

const GOOD_ACTS: usize = 6;

/// Bytes of content: none, one, a receive buffer, from where on a rest is spliced, and beside these; and
/// often so much that more than that is left when the first of it has been passed on.
const SIZES: [usize; 14] = [
    0, 1, 255, 256, 1_024, 4_095, 4_096, 5_000, 65_535, 65_536, 65_537, 70_000, 300_000, 300_000,
];

/// What a client gets where neither it nor the network does anything wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The server's answer, whole.
    Whole(u16),
    /// An answer of the proxy's own.
    Own(u16),
    /// A part of the server's answer, and then a cut.
    Cut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Nobody else's.
    pub(crate) id: u64,
    pub(crate) method: &'static str,
    pub(crate) act: Act,
    /// Bytes of the answer's content.
    pub(crate) answer_bytes: usize,
    /// Bytes of the request's.
    pub(crate) body_bytes: usize,
    pub(crate) in_chunks: bool,
    /// The client asks leave to send the body (RFC 9110 §10.1.1).
    pub(crate) expects: bool,
}

impl Plan {
    pub(crate) fn new(id: u64, act: Act, answer_bytes: usize) -> Plan {
        Plan {
            id,
            method: "GET",
            act,
            answer_bytes,
            body_bytes: 0,
            in_chunks: false,
            expects: false,
        }
    }

    /// One at random; every other is answered as it should be.
    pub(crate) fn any(id: u64, random: &mut Random) -> Plan {
        let method = random.pick(&["GET", "GET", "HEAD", "POST", "PUT"]);
        let act = match random.one_in(2) {
            true => ACTS[random.below(GOOD_ACTS)],
            false => random.pick(&ACTS),
        };
        let act = match act {
            // What is wrong with content doesn't show where nobody asks for it.
            Act::Short | Act::BadChunk | Act::Stall if method == "HEAD" => Act::Sized,
            act => act,
        };
        let has_body = matches!(method, "POST" | "PUT") && !random.one_in(4);
        let body_bytes = if has_body { random.pick(&SIZES) } else { 0 };
        let in_chunks = has_body && random.one_in(2);
        Plan {
            id,
            method,
            act,
            answer_bytes: random.pick(&SIZES),
            body_bytes,
            in_chunks,
            expects: (body_bytes > 0 || in_chunks) && random.one_in(4),
        }
    }

    /// The plan that a target tells; `None` for one that no client has sent.
    pub(crate) fn of_target(method: &str, target: &str) -> Option<Plan> {
        let mut parts = target.strip_prefix('/')?.split('/');
        let mut number = || parts.next()?.parse::<usize>().ok();
        let (id, act, answer_bytes) = (number()?, number()?, number()?);
        let (body_bytes, in_chunks, expects) = (number()?, number()? == 1, number()? == 1);
        let methods = ["GET", "HEAD", "POST", "PUT"];
        Some(Plan {
            id: id as u64,
            method: methods.into_iter().find(|known| *known == method)?,
            act: *ACTS.get(act)?,
            answer_bytes,
            body_bytes,
            in_chunks,
            expects,
        })
    }

    /// What is done once does no harm when it is done twice.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether the request has content, even if that is empty.
    pub(crate) fn has_body(&self) -> bool {
        self.body_bytes > 0 || self.in_chunks
    }

    /// The request as the client sends it, in one piece.
    pub(crate) fn request(&self, version: &str) -> Vec<u8> {
        let (mut head, body) = self.request_parts(version);
        head.extend(body);
        head
    }

    /// Its head, and what follows that.
    pub(crate) fn request_parts(&self, version: &str) -> (Vec<u8>, Vec<u8>) {
        let act = ACTS.iter().position(|act| *act == self.act).unwrap();
        let mut out = format!(
            "{} /{}/{act}/{}/{}/{}/{} HTTP/{version}\r\nHost: app\r\n",
            self.method,
            self.id,
            self.answer_bytes,
            self.body_bytes,
            u8::from(self.in_chunks),
            u8::from(self.expects)
        )
        .into_bytes();
        if version == "1.0" && self.id.is_multiple_of(2) {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        if self.expects {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        let body = self.body();
        if self.in_chunks {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            (out, chunks(&body, self.id, ""))
        } else if self.body_bytes > 0 {
            out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            (out, body)
        } else {
            out.extend_from_slice(b"\r\n");
            (out, body)
        }
    }

    /// The request's content.
    pub(crate) fn body(&self) -> Vec<u8> {
        Random::new(!self.id).bytes(self.body_bytes)
    }

    /// The line of the answer's trailer, where it has one.
    pub(crate) fn trailer(&self) -> Option<String> {
        let has_trailer = self.act == Act::Trailers && !self.is_head();
        has_trailer.then(|| format!("X-Sum: {}", self.id))
    }

    /// The answer's.
    pub(crate) fn content(&self) -> Vec<u8> {
        Random::new(self.id).bytes(self.answer_bytes)
    }

    /// What the client gets if nothing else goes wrong.
    pub(crate) fn due(&self) -> Due {
        match self.act {
            Act::Sized
            | Act::Chunked
            | Act::UntilClose
            | Act::Hints
            | Act::Trailers
            | Act::Stale => Due::Whole(200),
            Act::Empty => Due::Whole(204),
            Act::Early => Due::Whole(413),
            Act::Silent => Due::Own(504),
            Act::Close
            | Act::Reset
            | Act::Garbage
            | Act::TwoLengths
            | Act::LengthAndCoding
            | Act::EndlessHead
            | Act::InterimFlood
            | Act::Upgrade => Due::Own(502),
            Act::Short | Act::BadChunk | Act::Stall => Due::Cut,
        }
    }

    /// What the server sends, all of it.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let (id, count) = (self.id, self.answer_bytes);
        let status = match self.act {
            Act::Early => "413 Content Too Large",
            _ => "200 OK",
        };
        let head = |fields: &str| format!("HTTP/1.1 {status}\r\nX-Id: {id}\r\n{fields}\r\n");
        let sized = head(&format!("Content-Length: {count}\r\n"));
        let chunked = head("Transfer-Encoding: chunked\r\n");
        let content = match self.is_head() {
            true => Vec::new(),
            false => self.content(),
        };
        let with = |head: String, content: &[u8]| [head.as_bytes(), content].concat();
        match self.act {
            Act::Sized | Act::Stale | Act::Early => with(sized, &content),
            Act::Hints => {
                let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(3);
                with(hint + &sized, &content)
            }
            Act::Chunked | Act::Trailers if self.is_head() => with(chunked, b""),
            Act::Chunked => with(chunked, &chunks(&content, self.id, "")),
            Act::Trailers => {
                let mut out = with(chunked, &chunks(&content, self.id, ";a=\"b;c\""));
                // Before the empty line.
                out.truncate(out.len() - 2);
                out.extend(format!("X-Sum: {id}\r\n\r\n").into_bytes());
                out
            }
            Act::UntilClose => with(head("Connection: close\r\n"), &content),
            Act::Empty => format!("HTTP/1.1 204 No Content\r\nX-Id: {id}\r\n\r\n").into_bytes(),
            Act::Silent | Act::Close | Act::Reset => Vec::new(),
            Act::Garbage => [b"\x16\x03\x01".as_slice(), &self.content()].concat(),
            Act::TwoLengths => with(head("Content-Length: 5\r\nContent-Length: 5\r\n"), b"12345"),
            Act::LengthAndCoding => with(
                head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
                b"0\r\n\r\n",
            ),
            Act::EndlessHead => with(
                "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(20_000),
                b"",
            ),
            Act::InterimFlood => "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40).into_bytes(),
            Act::Upgrade => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec(),
            Act::Short | Act::Stall => {
                let longer = head(&format!("Content-Length: {}\r\n", count + 10));
                with(longer, &content)
            }
            Act::BadChunk => {
                let mut out = with(chunked, &chunks(&content, self.id, ""));
                // Instead of the last chunk.
                out.truncate(out.len() - 5);
                out.extend_from_slice(b"zz\r\n");
                out
            }
        }
    }
}

/// Content in chunks, with its end: in one, in some that are as long as what is spliced from, or in ever
/// larger ones; by what the request is called. Some of them have this extension.
fn chunks(content: &[u8], id: u64, extension: &str) -> Vec<u8> {
    const LARGE: [usize; 4] = [65_537, 100_000, 65_535, 65_536];
    let mut out = Vec::new();
    let (mut rest, mut number) = (content, 0);
    while !rest.is_empty() {
        let size = match id % 4 {
            0 => rest.len(),
            1 | 2 => LARGE[number % LARGE.len()],
            _ => 3_usize.pow(number as u32),
        };
        let (piece, after) = rest.split_at(size.min(rest.len()));
        let extension = if number.is_multiple_of(5) {
            extension
        } else {
            ""
        };
        out.extend(format!("{:x}{extension}\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        (rest, number) = (after, number + 1);
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
