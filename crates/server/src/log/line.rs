//! One line of the access log: a request and its answer in the format that was chosen.
//!
//! Whatever a client sent is escaped, so a line can be neither forged nor broken, in any format:
//! it has printable ASCII only but for what the format itself has, its quotes are ours, and no
//! value contains what ends it. Nothing here allocates.

use super::format::{Format, Piece, Style, Variable};
use ringway_http::date::HttpDate;
use ringway_http::head::RequestHead;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// The longest that any of a client's values gets in a line, escapes included. What is cut off is
/// replaced by `...`.
///
/// Every sound request fits its target here, and a head full of what has to be escaped doesn't
/// make the log grow many times as fast as the network.
const FIELD_BYTES: usize = 8 << 10;
const CUT: &[u8] = b"...";

/// The most that a value from a client takes in a line: with what is cut off, and its quotes.
pub(super) const CLIENT_VALUE_BYTES: usize = FIELD_BYTES + CUT.len() + 2;
/// More than any other value takes: an address, a date, a number, or a method (32 bytes that may
/// all need an escape).
pub(super) const OWN_VALUE_BYTES: usize = 32 * ESCAPE_BYTES + 32;
/// The longest escape of one byte: `\u0000`.
const ESCAPE_BYTES: usize = 6;

/// What the access log says of one request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The client's address.
    pub peer: IpAddr,
    /// When, since the Unix epoch.
    pub time: Duration,
    /// The request; `None` when it was too malformed to be one.
    pub request: Option<&'a RequestHead<'a>>,
    /// Who was let in, by a password.
    pub user: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub body_bytes: u64,
    /// From the end of the request's head until the answer was handed over, if the log is to say
    /// it.
    pub duration: Option<Duration>,
    /// Who answered it, where it was passed on.
    pub passed: Option<Passed<'a>>,
    /// What hooks of the program's own say of it.
    pub note: Option<&'a str>,
}

/// What the access log says of who answered a request that was passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed<'a> {
    /// The address of the server that was asked last; `None` when there was none to ask.
    pub server: Option<&'a str>,
    /// The status that it answered.
    pub status: Option<u16>,
    /// How long it took until there was a connection; `None` for one that was there.
    pub connect: Option<Duration>,
    /// From the end of the request to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// What went wrong, in one word, where the client wasn't answered for it.
    pub fault: Option<&'a str>,
    /// How often a server was asked.
    pub attempts: u32,
}

impl Entry<'_> {
    /// At least as many bytes as the line takes.
    pub(super) fn bound_bytes(&self, format: &Format) -> usize {
        let of_client = format.pieces.iter().map(|piece| match piece {
            Piece::Literal(_) => 0,
            Piece::Value(variable, _) => self.client_bytes(variable),
        });
        format.fixed_bytes + of_client.sum::<usize>()
    }

    /// The most that a value takes if it comes from the client.
    fn client_bytes(&self, variable: &Variable) -> usize {
        let length = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len);
        let request = self.request;
        let sent = match variable {
            Variable::User => length(self.user.map(str::as_bytes)),
            Variable::Note | Variable::Noted => length(self.note.map(str::as_bytes)),
            Variable::Request | Variable::Target => length(request.map(|head| head.target)),
            Variable::Host => length(request.and_then(|head| head.host)),
            Variable::Referer => length(request.and_then(|head| head.referer)),
            Variable::UserAgent => length(request.and_then(|head| head.user_agent)),
            Variable::Header(name) => {
                let values = request.into_iter().flat_map(|head| head.header(name));
                values.map(|value| value.len() + 2).sum()
            }
            // The path of a socket may have what has to be escaped, too.
            Variable::Upstream | Variable::Passed => length(
                self.passed
                    .and_then(|passed| passed.server)
                    .map(str::as_bytes),
            ),
            _ => 0,
        };
        let escaped = sent.saturating_mul(ESCAPE_BYTES).min(FIELD_BYTES);
        if sent == 0 {
            0
        } else {
            escaped + CUT.len() + 2
        }
    }

    /// Appends the line. Within [`Entry::bound_bytes`] of free capacity it doesn't allocate.
    pub(super) fn emit(&self, format: &Format, stamp: &mut Stamp, line: &mut Vec<u8>) {
        for piece in &format.pieces {
            match piece {
                Piece::Literal(text) => line.extend_from_slice(text.as_bytes()),
                Piece::Value(variable, terminator) => {
                    let field = Field {
                        line,
                        style: format.style,
                        terminator: *terminator,
                    };
                    self.emit_value(variable, stamp, field);
                }
            }
        }
        line.push(b'\n');
    }

    fn emit_value(&self, variable: &Variable, stamp: &mut Stamp, mut field: Field<'_>) {
        let request = self.request;
        match variable {
            Variable::Peer => field.address(self.peer),
            Variable::User => field.client(self.user.map(str::as_bytes)),
            Variable::Time => field.own(stamp.at(self.time).local.as_slice()),
            Variable::TimeIso => {
                let mut text = *b"0000-00-00T00:00:00.000Z";
                text[..20].copy_from_slice(&stamp.at(self.time).iso);
                write_digits(&mut text[20..23], self.time.subsec_millis());
                field.own(&text);
            }
            Variable::TimeUnix => field.seconds(self.time.as_secs(), self.time.subsec_millis(), 3),
            Variable::Request => match request {
                None => field.client(None),
                Some(head) => {
                    let version = head.version.as_str().as_bytes();
                    field.joined(
                        [head.method.as_str().as_bytes(), head.target, version],
                        b" ",
                    );
                }
            },
            Variable::Method => field.client(request.map(|head| head.method.as_str().as_bytes())),
            Variable::Target => field.client(request.map(|head| head.target)),
            Variable::Version => field.client(request.map(|head| head.version.as_str().as_bytes())),
            Variable::Host => field.client(request.and_then(|head| head.host)),
            Variable::Referer => field.client(request.and_then(|head| head.referer)),
            Variable::UserAgent => field.client(request.and_then(|head| head.user_agent)),
            Variable::Header(name) => {
                let values = request.into_iter().flat_map(|head| head.header(name));
                field.joined(values, b", ");
            }
            Variable::Status => push_decimal(field.line, u64::from(self.status)),
            Variable::BodyBytes => push_decimal(field.line, self.body_bytes),
            Variable::DurationSeconds => field.micros(self.duration),
            Variable::Note => field.client(self.note.map(str::as_bytes)),
            Variable::Noted => {
                if self.note.is_some() {
                    field.line.extend_from_slice(b",\"note\":");
                    field.client(self.note.map(str::as_bytes));
                }
            }
            Variable::Passed => {
                if self.passed.is_none() {
                    return;
                }
                for (name, variable) in PASSED {
                    field.line.extend_from_slice(name.as_bytes());
                    self.emit_passed(variable, &mut field);
                }
            }
            variable => self.emit_passed(variable, &mut field),
        }
    }

    /// A value about who answered the request.
    fn emit_passed(&self, variable: &Variable, field: &mut Field<'_>) {
        let passed = self.passed.unwrap_or_default();
        match variable {
            Variable::Upstream => field.client(passed.server.map(str::as_bytes)),
            Variable::UpstreamStatus => field.number(passed.status.map(u64::from)),
            Variable::UpstreamConnectSeconds => field.micros(passed.connect),
            Variable::UpstreamFirstByteSeconds => field.micros(passed.first_byte),
            Variable::UpstreamFault => field.client(passed.fault.map(str::as_bytes)),
            // The last one there is.
            _ => field.number(self.passed.map(|passed| passed.attempts.into())),
        }
    }
}

/// What a JSON line says of it, in this order.
const PASSED: &[(&str, Variable)] = &[
    (",\"upstream\":", Variable::Upstream),
    (",\"upstream_status\":", Variable::UpstreamStatus),
    (
        ",\"upstream_connect_seconds\":",
        Variable::UpstreamConnectSeconds,
    ),
    (
        ",\"upstream_first_byte_seconds\":",
        Variable::UpstreamFirstByteSeconds,
    ),
    (",\"upstream_fault\":", Variable::UpstreamFault),
    (",\"upstream_attempts\":", Variable::UpstreamAttempts),
];

/// A place in a line where a value goes.
struct Field<'l> {
    line: &'l mut Vec<u8>,
    style: Style,
    /// The byte that ends the value, for a reader of a text.
    terminator: u8,
}

impl Field<'_> {
    fn address(&mut self, address: IpAddr) {
        self.quote();
        match address.to_canonical() {
            IpAddr::V4(address) => push_dotted(self.line, address.octets()),
            // Writing to a vector can't fail.
            IpAddr::V6(address) => drop(write!(self.line, "{address}")),
        }
        self.quote();
    }

    /// A text of ours that needs no escapes.
    fn own(&mut self, text: &[u8]) {
        self.quote();
        self.line.extend_from_slice(text);
        self.quote();
    }

    fn number(&mut self, number: Option<u64>) {
        match number {
            None => self.client(None),
            Some(number) => push_decimal(self.line, number),
        }
    }

    /// Seconds, with microseconds.
    fn micros(&mut self, time: Option<Duration>) {
        match time {
            None => self.client(None),
            Some(time) => self.seconds(time.as_secs(), time.subsec_micros(), 6),
        }
    }

    /// `digits` digits of a second's part.
    fn seconds(&mut self, whole: u64, part: u32, digits: usize) {
        push_decimal(self.line, whole);
        self.line.push(b'.');
        let start = self.line.len();
        self.line.resize(start + digits, b'0');
        write_digits(&mut self.line[start..], part);
    }

    /// Whatever a client may have sent.
    fn client(&mut self, value: Option<&[u8]>) {
        self.joined(value, b"");
    }

    /// The same of several values.
    fn joined<'v>(&mut self, values: impl IntoIterator<Item = &'v [u8]>, separator: &[u8]) {
        let mut values = values.into_iter();
        let Some(first) = values.next() else {
            let missing: &[u8] = match self.style {
                Style::Text => b"-",
                Style::Json => b"null",
            };
            return self.line.extend_from_slice(missing);
        };
        self.quote();
        let end = self.line.len() + FIELD_BYTES;
        let mut fits = self.escaped(first, end);
        for value in values {
            // The separator is as safe as the format it is from, and is escaped where it isn't.
            fits = fits && self.escaped(separator, end) && self.escaped(value, end);
        }
        if !fits {
            self.line.extend_from_slice(CUT);
        }
        self.quote();
    }

    fn quote(&mut self) {
        if self.style == Style::Json {
            self.line.push(b'"');
        }
    }

    /// Appends a value up to `end`; whether all of it fits.
    fn escaped(&mut self, value: &[u8], end: usize) -> bool {
        // Looking at every byte without a branch is vectorised; stopping at the first odd one
        // isn't.
        let terminator = match self.style {
            Style::Text => self.terminator,
            Style::Json => b'"',
        };
        let plain = |byte: u8| is_plain(byte) & (byte != terminator);
        let all = value.iter().fold(true, |all, &byte| all & plain(byte));
        if all && self.line.len() + value.len() <= end {
            self.line.extend_from_slice(value);
            return true;
        }
        match self.style {
            Style::Text => value.iter().all(|&byte| {
                if plain(byte) {
                    return self.piece(&[byte], end);
                }
                self.piece(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)], end)
            }),
            Style::Json => value.utf8_chunks().all(|chunk| {
                chunk.valid().chars().all(|character| self.json(character, end))
                    // What isn't UTF-8 can't be said in JSON (RFC 8259 §8.1).
                    && (chunk.invalid().is_empty() || self.json('\u{fffd}', end))
            }),
        }
    }

    /// Everything but printable ASCII is escaped, so that nothing of a terminal's or an editor's
    /// special characters gets into a log.
    fn json(&mut self, character: char, end: usize) -> bool {
        if character == '"' || character == '\\' {
            return self.piece(&[b'\\', character as u8], end);
        }
        if (' '..='~').contains(&character) {
            return self.piece(&[character as u8], end);
        }
        let mut escapes = [0; 2 * ESCAPE_BYTES];
        let mut length = 0;
        for unit in character.encode_utf16(&mut [0; 2]) {
            let [high, low] = unit.to_be_bytes();
            let digits = [high >> 4, high & 15, low >> 4, low & 15].map(digit);
            escapes[length..length + 2].copy_from_slice(b"\\u");
            escapes[length + 2..length + 6].copy_from_slice(&digits);
            length += ESCAPE_BYTES;
        }
        self.piece(&escapes[..length], end)
    }

    fn piece(&mut self, piece: &[u8], end: usize) -> bool {
        let fits = self.line.len() + piece.len() <= end;
        if fits {
            self.line.extend_from_slice(piece);
        }
        fits
    }
}

/// The date part of a line, made anew when the second changes.
#[derive(Debug)]
pub(super) struct Stamp {
    seconds: u64,
    /// As in `22/Nov/2026:10:00:00 +0000`.
    local: [u8; 26],
    /// As in `2026-11-22T10:00:00.`
    iso: [u8; 20],
}

impl Stamp {
    pub(super) fn new() -> Stamp {
        Stamp {
            seconds: 0,
            local: *b"01/Jan/1970:00:00:00 +0000",
            iso: *b"1970-01-01T00:00:00.",
        }
    }

    fn at(&mut self, time: Duration) -> &Stamp {
        let seconds = time.as_secs();
        if seconds != self.seconds {
            let date = HttpDate::from_unix_seconds(seconds);
            // Sun, 22 Nov 2026 10:00:00 GMT
            let date = date.as_bytes();
            let (day, month, year, clock) =
                (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
            self.local[0..2].copy_from_slice(day);
            self.local[3..6].copy_from_slice(month);
            self.local[7..11].copy_from_slice(year);
            self.local[12..20].copy_from_slice(clock);
            let names = b"JanFebMarAprMayJunJulAugSepOctNovDec".chunks(3);
            let number = names.take_while(|name| *name != month).count() + 1;
            self.iso[0..4].copy_from_slice(year);
            write_digits(&mut self.iso[5..7], number as u32);
            self.iso[8..10].copy_from_slice(day);
            self.iso[11..19].copy_from_slice(clock);
            self.seconds = seconds;
        }
        self
    }
}

/// Printable ASCII but for the quote and the backslash, as `ngx_http_log_escape` has it.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
}

fn digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble)]
}

/// The last digits of a number, as many as there is room for.
fn write_digits(room: &mut [u8], mut number: u32) {
    for place in room.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn push_dotted(line: &mut Vec<u8>, octets: [u8; 4]) {
    for (index, octet) in octets.into_iter().enumerate() {
        if index > 0 {
            line.push(b'.');
        }
        push_decimal(line, u64::from(octet));
    }
}

fn push_decimal(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringway_http::head::{HeadLimits, HeadScan, Method, parse_head};
    use std::net::Ipv4Addr;

    const HEAD: &[u8] = b"GET /x HTTP/1.1\r\nHost: example.org\r\nReferer: https://example.org/\r\n\
        User-Agent: curl/8.14.1\r\nX-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\n\r\n";

    fn head() -> RequestHead<'static> {
        let parsed = parse_head(HEAD, &mut HeadScan::default(), &HeadLimits::default());
        parsed.unwrap().unwrap().0
    }

    fn entry<'a>(request: impl Into<Option<&'a RequestHead<'a>>>) -> Entry<'a> {
        Entry {
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 105)),
            time: Duration::from_millis(1_795_341_600_012),
            request: request.into(),
            user: None,
            status: 200,
            body_bytes: 1024,
            duration: Some(Duration::from_nanos(2_000_345_999)),
            passed: None,
            note: None,
        }
    }

    fn emitted(format: &str, entry: &Entry<'_>) -> String {
        let format = Format::parse(format).unwrap();
        let mut line = Vec::with_capacity(entry.bound_bytes(&format));
        let capacity = line.capacity();
        entry.emit(&format, &mut Stamp::new(), &mut line);
        assert_eq!(line.capacity(), capacity, "it was allocated anew");
        assert!(line.len() <= super::super::access::BATCH_BYTES);
        String::from_utf8(line).unwrap()
    }

    #[track_caller]
    fn check(format: &str, entry: &Entry<'_>, expect: &str) {
        assert_eq!(emitted(format, entry), format!("{expect}\n"));
    }

    #[test]
    fn an_ordinary_line() {
        check(
            "combined",
            &entry(&head()),
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"GET /x HTTP/1.1\" 200 1024 \
             \"https://example.org/\" \"curl/8.14.1\"",
        );
        check(
            "json",
            &Entry {
                user: Some("alice"),
                ..entry(&head())
            },
            "{\"time\":\"2026-11-22T10:00:00.012Z\",\"peer\":\"192.0.2.105\",\"user\":\"alice\",\
             \"method\":\"GET\",\"target\":\"/x\",\"version\":\"HTTP/1.1\",\
             \"host\":\"example.org\",\"status\":200,\"body_bytes\":1024,\
             \"duration_seconds\":2.000345,\"referer\":\"https://example.org/\",\
             \"user_agent\":\"curl/8.14.1\"}",
        );
        check(
            "$time_unix ${duration_seconds}s $host $header_x_forwarded_for\t$header_x",
            &entry(&head()),
            "1795341600.012 2.000345s example.org 192.0.2.1, 192.0.2.2\t-",
        );
        check(
            "$peer costs $$1 for \"$header_x_forwarded_for\"",
            &entry(&head()),
            "192.0.2.105 costs $1 for \"192.0.2.1, 192.0.2.2\"",
        );
    }

    const VARIABLES: &str = "$upstream $upstream_status $upstream_connect_seconds \
        $upstream_first_byte_seconds $upstream_fault $upstream_attempts";

    #[test]
    fn who_answered() {
        let passed = Passed {
            server: Some("10.0.0.1:8080"),
            status: Some(404),
            connect: Some(Duration::from_micros(1200)),
            first_byte: Some(Duration::from_micros(30)),
            fault: None,
            attempts: 2,
        };
        let head = head();
        let entry = |passed| Entry {
            passed,
            ..entry(&head)
        };
        check(VARIABLES, &entry(None), "- - - - - -");
        let shown = "10.0.0.1:8080 404 0.001200 0.000030 - 2";
        check(VARIABLES, &entry(Some(passed)), shown);
        let json = emitted("json", &entry(Some(passed)));
        let end = "\"user_agent\":\"curl/8.14.1\",\"upstream\":\"10.0.0.1:8080\",\
                   \"upstream_status\":404,\"upstream_connect_seconds\":0.001200,\
                   \"upstream_first_byte_seconds\":0.000030,\"upstream_fault\":null,\
                   \"upstream_attempts\":2}\n";
        assert!(json.ends_with(end), "{json}");
    }

    /// The longest that all of it can be, beside what a client sends.
    #[test]
    fn who_answered_fits_its_bound() {
        let server = format!("unix:/{}", "\u{1}\"".repeat(53));
        let passed = Passed {
            server: Some(&server),
            status: Some(599),
            connect: Some(Duration::MAX),
            first_byte: Some(Duration::MAX),
            fault: Some("unexpected_upgrade"),
            attempts: u32::MAX,
        };
        let head = head();
        let entry = Entry {
            passed: Some(passed),
            ..entry(&head)
        };
        // They look at what was allocated.
        emitted("json", &entry);
        assert!(emitted(VARIABLES, &entry).contains("\\x22 599 18446744073709551615.999999 "));
    }

    #[test]
    fn what_is_missing() {
        let entry = Entry {
            status: 400,
            body_bytes: 0,
            duration: None,
            ..entry(None)
        };
        check(
            "combined",
            &entry,
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"-\" 400 0 \"-\" \"-\"",
        );
        check(
            "json",
            &entry,
            "{\"time\":\"2026-11-22T10:00:00.012Z\",\"peer\":\"192.0.2.105\",\"user\":null,\
             \"method\":null,\"target\":null,\"version\":null,\"host\":null,\"status\":400,\
             \"body_bytes\":0,\"duration_seconds\":null,\"referer\":null,\"user_agent\":null}",
        );
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let mut head = head();
        head.target = b"/\" 200 1\n\\";
        head.referer = Some(b"\x00\x1f\x7f");
        head.user_agent = Some("ü".as_bytes());
        let entry = entry(&head);
        check(
            "combined",
            &entry,
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"GET /\\x22 200 1\\x0A\\x5C HTTP/1.1\" \
             200 1024 \"\\x00\\x1F\\x7F\" \"\\xC3\\xBC\"",
        );
        check(
            "$target $status",
            &entry,
            "/\\x22\\x20200\\x201\\x0A\\x5C 200",
        );
        check("($target) $status", &entry, "(/\\x22 200 1\\x0A\\x5C) 200");
    }

    #[test]
    fn json_of_anything() {
        let mut head = head();
        head.target = b"/\"\\\n\x1b[2J\x7f";
        head.host = Some("\u{e9}\u{9b}\u{2028}\u{1f600}".as_bytes());
        head.referer = Some(b"a\xffb\xc3\xf0\x9f\x98");
        let line = emitted("json", &entry(&head));
        for expect in [
            r#""target":"/\"\\\u000A\u001B[2J\u007F""#,
            r#""host":"\u00E9\u009B\u2028\uD83D\uDE00""#,
            r#""referer":"a\uFFFDb\uFFFD\uFFFD""#,
        ] {
            assert!(line.contains(expect), "{line}");
        }
    }

    #[track_caller]
    fn check_peer(peer: &str, expect: &str) {
        let entry = Entry {
            peer: peer.parse().unwrap(),
            ..entry(None)
        };
        check("$peer", &entry, expect);
    }

    #[test]
    fn what_hooks_say() {
        let long = "\"\u{1}".repeat(5_000);
        let head = head();
        let noted = |note| Entry {
            note,
            ..entry(&head)
        };
        check("$note", &noted(None), "-");
        check(
            "$note",
            &noted(Some("tenant=a \"b\"")),
            "tenant=a \\x22b\\x22",
        );
        let json = emitted("json", &noted(Some("a\"b")));
        assert!(json.ends_with(",\"note\":\"a\\\"b\"}\n"), "{json}");
        assert!(!emitted("json", &noted(None)).contains("note"));
        for format in ["json", "$note $note"] {
            // It looks at what was allocated.
            emitted(format, &noted(Some(&long)));
        }
    }

    #[test]
    fn addresses() {
        check_peer("0.0.0.0", "0.0.0.0");
        check_peer("255.255.255.255", "255.255.255.255");
        check_peer("::ffff:10.0.0.1", "10.0.0.1");
        check_peer("2001:db8::1", "2001:db8::1");
    }

    #[test]
    fn the_date_changes_with_the_second() {
        let mut stamp = Stamp::new();
        for (time, local, iso) in [
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00."),
            (59, "01/Jan/1970:00:00:59 +0000", "1970-01-01T00:00:59."),
            (
                951_827_696,
                "29/Feb/2000:12:34:56 +0000",
                "2000-02-29T12:34:56.",
            ),
            (
                951_827_696,
                "29/Feb/2000:12:34:56 +0000",
                "2000-02-29T12:34:56.",
            ),
            (
                1_798_761_599,
                "31/Dec/2026:23:59:59 +0000",
                "2026-12-31T23:59:59.",
            ),
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00."),
        ] {
            let stamp = stamp.at(Duration::from_secs(time));
            assert_eq!(stamp.local, local.as_bytes());
            assert_eq!(stamp.iso, iso.as_bytes());
        }
    }

    #[test]
    fn long_values_are_cut_and_never_inside_an_escape() {
        let mut head = head();
        let fits = vec![b'a'; FIELD_BYTES];
        head.target = &fits;
        assert!(!emitted("$target", &entry(&head)).contains("..."));
        let long = [&b"a"[..], &vec![0; FIELD_BYTES]].concat();
        head.target = &long;
        // One byte is plain, so the last bytes of the bound can't hold another escape.
        let text = emitted("$target", &entry(&head));
        assert_eq!(text.len(), 1 + (FIELD_BYTES / 4 - 1) * 4 + "...\n".len());
        assert!(text.ends_with("\\x00...\n"));
        let json = Format {
            style: Style::Json,
            ..Format::parse("$target").unwrap()
        };
        let mut line = Vec::new();
        entry(&head).emit(&json, &mut Stamp::new(), &mut line);
        assert_eq!(
            line.len(),
            2 + 1 + (FIELD_BYTES - 1) / 6 * 6 + "...\n".len()
        );
        assert!(line.ends_with(b"\\u0000...\"\n"));
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(number: u64) {
            let mut digits = Vec::new();
            push_decimal(&mut digits, number);
            prop_assert_eq!(String::from_utf8(digits).unwrap(), number.to_string());
        }

        #[test]
        fn any_bytes_make_one_printable_line_and_can_be_read_back(
            method in "[!-~]{1,32}",
            target: Vec<u8>,
            referer: Option<Vec<u8>>,
            user_agent: Vec<u8>,
        ) {
            let mut head = head();
            head.method = Method::Other(&method);
            head.target = &target;
            head.referer = referer.as_deref();
            head.user_agent = Some(&user_agent);
            let entry = entry(&head);

            let line = emitted("combined", &entry);
            prop_assert!(line.ends_with('\n'));
            prop_assert!(line[..line.len() - 1].bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let quoted: Vec<&str> = line.split('"').collect();
            prop_assert_eq!(quoted.len(), 7, "three pairs of quotes");
            let request = [method.as_bytes(), b" ", &target[..], b" HTTP/1.1"].concat();
            prop_assert_eq!(unescaped(quoted[1]), request);
            prop_assert_eq!(unescaped(quoted[3]), referer.clone().unwrap_or(b"-".to_vec()));
            prop_assert_eq!(unescaped(quoted[5]), user_agent.clone());

            let line = emitted("json", &entry);
            prop_assert!(line[..line.len() - 1].bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            prop_assert_eq!(object["method"].as_str(), Some(&*method));
            prop_assert_eq!(object["target"].as_str(), Some(&*lossy(&target)));
            prop_assert_eq!(object["referer"].as_str().map(str::to_owned), referer.as_deref().map(lossy));
            prop_assert_eq!(object["user_agent"].as_str(), Some(&*lossy(&user_agent)));
        }

        #[test]
        fn a_value_has_nothing_of_what_ends_it(target: Vec<u8>, end in "[ !#%-/:-@\\[^_`{-~-]") {
            let mut head = head();
            head.target = &target;
            let line = emitted(&format!("${{target}}{end}$status"), &entry(&head));
            let (value, rest) = line.split_once(&end).unwrap();
            prop_assert_eq!(rest, "200\n");
            prop_assert_eq!(unescaped(value), target);
        }
    }

    fn unescaped(text: &str) -> Vec<u8> {
        let mut pieces = text.split("\\x");
        let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            bytes.extend_from_slice(&piece.as_bytes()[2..]);
        }
        bytes
    }
}
