//! One line of the access log, in the "combined" format of Apache and nginx.
//!
//! Whatever a client sent is escaped as nginx does it, so a line can be neither forged nor broken:
//! it has printable ASCII only, and its quotes are ours. Nothing here allocates.

use ringway_http::date::HttpDate;
use ringway_http::head::Version;
use std::io::Write;
use std::net::IpAddr;

/// The longest that any of a client's fields gets in a line, escapes included. What is cut off is
/// replaced by `...`.
///
/// Every sound request fits its target here, and a head full of what has to be escaped doesn't
/// make the log grow four times as fast as the network.
const FIELD_BYTES: usize = 8 << 10;
const CUT: &[u8] = b"...";
/// More than all the rest of a line: an IPv6 address, the date, the version and two numbers.
const REST_BYTES: usize = 192;

/// The longest line: four fields come from the client.
pub(super) const LINE_BYTES: usize = 4 * (FIELD_BYTES + CUT.len()) + REST_BYTES;

/// What the access log says of one request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The client's address.
    pub peer: IpAddr,
    /// When, in seconds since the Unix epoch.
    pub time: u64,
    /// The method; empty when the request was too malformed to have one, and then the whole
    /// request line is logged as `"-"`.
    pub method: &'a str,
    /// The target as it was sent.
    pub target: &'a [u8],
    /// The version of the request.
    pub version: Version,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
}

impl Entry<'_> {
    /// At least as many bytes as the line takes, and at most [`LINE_BYTES`].
    pub(super) fn bound_bytes(&self) -> usize {
        let fields = [
            self.method.len(),
            self.target.len(),
            self.referer.map_or(0, <[u8]>::len),
            self.user_agent.map_or(0, <[u8]>::len),
        ];
        let escaped = |length: usize| length.saturating_mul(4).min(FIELD_BYTES) + CUT.len();
        fields.map(escaped).iter().sum::<usize>() + REST_BYTES
    }

    /// Appends the line. Within [`Entry::bound_bytes`] of free capacity it doesn't allocate.
    pub(super) fn emit(&self, stamp: &mut Stamp, line: &mut Vec<u8>) {
        match self.peer.to_canonical() {
            IpAddr::V4(address) => push_dotted(line, address.octets()),
            // Writing to a vector can't fail.
            IpAddr::V6(address) => drop(write!(line, "{address}")),
        }
        line.extend_from_slice(b" - - [");
        line.extend_from_slice(stamp.at(self.time));
        line.extend_from_slice(b"] \"");
        if self.method.is_empty() {
            line.push(b'-');
        } else {
            push_escaped(line, self.method.as_bytes());
            line.push(b' ');
            push_escaped(line, self.target);
            line.push(b' ');
            line.extend_from_slice(self.version.as_str().as_bytes());
        }
        line.extend_from_slice(b"\" ");
        push_decimal(line, u64::from(self.status));
        line.push(b' ');
        push_decimal(line, self.bytes);
        for field in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            push_escaped(line, field.unwrap_or(b"-"));
            line.push(b'"');
        }
        line.push(b'\n');
    }
}

/// The date part of a line, made anew when the second changes.
#[derive(Debug)]
pub(super) struct Stamp {
    time: u64,
    text: [u8; 26],
}

impl Stamp {
    pub(super) fn new() -> Stamp {
        Stamp {
            time: 0,
            text: *b"01/Jan/1970:00:00:00 +0000",
        }
    }

    /// As in `22/Nov/2026:10:00:00 +0000`.
    fn at(&mut self, time: u64) -> &[u8; 26] {
        if time != self.time {
            let date = HttpDate::from_unix_seconds(time);
            // Sun, 22 Nov 2026 10:00:00 GMT
            let date = date.as_bytes();
            self.text[0..2].copy_from_slice(&date[5..7]);
            self.text[3..6].copy_from_slice(&date[8..11]);
            self.text[7..11].copy_from_slice(&date[12..16]);
            self.text[12..20].copy_from_slice(&date[17..25]);
            self.time = time;
        }
        &self.text
    }
}

/// As `ngx_http_log_escape` does it: `\xHH` for everything but printable ASCII, and for the quote
/// and the backslash.
fn push_escaped(line: &mut Vec<u8>, field: &[u8]) {
    // Looking at every byte without a branch is vectorised; stopping at the first odd one isn't.
    let is_plain = field.iter().fold(true, |all, &byte| all & plain(byte));
    if is_plain && field.len() <= FIELD_BYTES {
        return line.extend_from_slice(field);
    }
    let end = line.len() + FIELD_BYTES;
    for &byte in field {
        let escape = [b'\\', b'x', digit(byte >> 4), digit(byte & 15)];
        let piece = if plain(byte) { &[byte][..] } else { &escape };
        if line.len() + piece.len() > end {
            return line.extend_from_slice(CUT);
        }
        line.extend_from_slice(piece);
    }
}

fn plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\')
}

fn digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble)]
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
    use super::{CUT, Entry, FIELD_BYTES, LINE_BYTES, Stamp, push_decimal};
    use proptest::prelude::*;
    use ringway_http::head::Version;
    use std::net::{IpAddr, Ipv4Addr};

    const ENTRY: Entry<'_> = Entry {
        peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 105)),
        time: 1_795_341_600,
        method: "GET",
        target: b"/x",
        version: Version::Http11,
        status: 200,
        bytes: 1024,
        referer: Some(b"https://example.org/"),
        user_agent: Some(b"curl/8.14.1"),
    };

    fn emitted(entry: &Entry<'_>) -> String {
        let mut line = Vec::with_capacity(entry.bound_bytes());
        let capacity = line.capacity();
        entry.emit(&mut Stamp::new(), &mut line);
        assert_eq!(line.capacity(), capacity, "it was allocated anew");
        assert!(line.len() <= LINE_BYTES);
        String::from_utf8(line).unwrap()
    }

    fn check(entry: &Entry<'_>, expect: &str) {
        assert_eq!(emitted(entry), format!("{expect}\n"));
    }

    #[test]
    fn an_ordinary_line() {
        check(
            &ENTRY,
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"GET /x HTTP/1.1\" 200 1024 \
             \"https://example.org/\" \"curl/8.14.1\"",
        );
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let entry = Entry {
            method: "",
            status: 400,
            bytes: 0,
            referer: None,
            user_agent: None,
            ..ENTRY
        };
        check(
            &entry,
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"-\" 400 0 \"-\" \"-\"",
        );
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        let entry = Entry {
            target: b"/\" 200 1\n\\",
            referer: Some(b"\x00\x1f\x7f"),
            user_agent: Some("ü".as_bytes()),
            ..ENTRY
        };
        check(
            &entry,
            "192.0.2.105 - - [22/Nov/2026:10:00:00 +0000] \"GET /\\x22 200 1\\x0A\\x5C HTTP/1.1\" \
             200 1024 \"\\x00\\x1F\\x7F\" \"\\xC3\\xBC\"",
        );
    }

    fn check_peer(peer: &str, expect: &str) {
        let entry = Entry {
            peer: peer.parse().unwrap(),
            ..ENTRY
        };
        let line = emitted(&entry);
        assert_eq!(line.split(' ').next(), Some(expect));
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
        for (time, expect) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (59, "01/Jan/1970:00:00:59 +0000"),
            (951_827_696, "29/Feb/2000:12:34:56 +0000"),
            (951_827_696, "29/Feb/2000:12:34:56 +0000"),
            (0, "01/Jan/1970:00:00:00 +0000"),
        ] {
            assert_eq!(stamp.at(time), expect.as_bytes());
        }
    }

    #[test]
    fn long_fields_are_cut_and_never_inside_an_escape() {
        let fits = vec![b'a'; FIELD_BYTES];
        let line = emitted(&Entry {
            target: &fits,
            ..ENTRY
        });
        assert!(!line.contains("..."));
        let long = [&b"a"[..], &vec![0; FIELD_BYTES]].concat();
        let line = emitted(&Entry {
            target: &long,
            ..ENTRY
        });
        let target = line.split(' ').nth(6).unwrap();
        // One byte is plain, so the last three of the bound can't hold another escape.
        assert_eq!(target.len(), 1 + (FIELD_BYTES / 4 - 1) * 4 + CUT.len());
        assert!(target.ends_with("\\x00..."));
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
            method in "[!-~]{1,40}",
            target: Vec<u8>,
            referer: Option<Vec<u8>>,
            user_agent: Vec<u8>,
        ) {
            let line = emitted(&Entry {
                method: &method,
                target: &target,
                referer: referer.as_deref(),
                user_agent: Some(&user_agent),
                ..ENTRY
            });
            prop_assert!(line.ends_with('\n'));
            prop_assert!(line[..line.len() - 1].bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let quoted: Vec<&str> = line.split('"').collect();
            prop_assert_eq!(quoted.len(), 7, "three pairs of quotes");
            let request = [method.as_bytes(), b" ", &target[..], b" HTTP/1.1"].concat();
            prop_assert_eq!(unescaped(quoted[1]), request);
            prop_assert_eq!(unescaped(quoted[3]), referer.unwrap_or(b"-".to_vec()));
            prop_assert_eq!(unescaped(quoted[5]), user_agent);
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
