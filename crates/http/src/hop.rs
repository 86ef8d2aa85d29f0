//! What concerns one connection alone, and isn't passed on to the next (RFC 9110 §7.6.1).

use crate::field::{elements, name_is};
use crate::head::{Headers, RequestHead};
use crate::received::ReceivedHead;

/// Tells the fields of one head that stay behind from those that go on.
#[derive(Debug, Clone)]
pub struct HopByHop<'a> {
    /// The fields among which others are named by `Connection`, where any are.
    naming: Option<Headers<'a>>,
}

impl<'a> HopByHop<'a> {
    /// Of a request.
    pub fn of_request(head: &RequestHead<'a>) -> HopByHop<'a> {
        HopByHop {
            naming: head.has_connection_options.then(|| head.headers()),
        }
    }

    /// Of a response.
    pub fn of_response(head: &ReceivedHead<'a>) -> HopByHop<'a> {
        HopByHop {
            naming: head.has_connection_options.then(|| head.headers()),
        }
    }

    /// Whether the field of this name stays behind: always, or because `Connection` names it.
    #[inline]
    pub fn keeps_back(&self, name: &[u8]) -> bool {
        is_hop_by_hop(name) || self.names(name)
    }

    /// Whether `Connection` has this option, which may be the name of a field.
    #[inline]
    pub fn names(&self, option: &[u8]) -> bool {
        match &self.naming {
            None => false,
            Some(fields) => is_named(fields.clone(), option),
        }
    }
}

#[cold]
fn is_named(fields: Headers<'_>, option: &[u8]) -> bool {
    fields
        .filter(|(name, _)| name_is(name, b"connection"))
        .flat_map(|(_, value)| elements(value))
        .any(|named| named.eq_ignore_ascii_case(option))
}

/// The fields that need not be named. `Trailer` isn't one of them: trailers are passed on.
#[inline]
fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => name_is(name, b"te"),
        7 => name_is(name, b"upgrade"),
        10 => name_is(name, b"connection") || name_is(name, b"keep-alive"),
        16 => name_is(name, b"proxy-connection"),
        17 => name_is(name, b"transfer-encoding"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{HeadLimits, HeadScan, Method, parse_head};
    use crate::received::{ReceivedLimits, parse_received};

    fn passed_on(lines: &str) -> Vec<String> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scan = HeadScan::default();
        let parsed = parse_head(text.as_bytes(), &mut scan, &HeadLimits::default());
        let (head, _) = parsed.unwrap().unwrap();
        let hop = HopByHop::of_request(&head);
        let named = |(name, _): (&[u8], _)| String::from_utf8(name.to_vec()).unwrap();
        let fields = head.headers().filter(|(name, _)| !hop.keeps_back(name));
        fields.map(named).collect()
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let always = "TE: trailers\r\nUpgrade: x\r\nKeep-Alive: timeout=5\r\n\
                      Proxy-Connection: close\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(passed_on(always), ["Host"]);
        assert_eq!(
            passed_on("te2: a\r\nTrailer: b\r\n"),
            ["Host", "te2", "Trailer"]
        );
    }

    #[test]
    fn named_fields_stay_behind_wherever_they_stand() {
        let named = "X-A: 1\r\nX-B: 2\r\nConnection: x-a\r\nX-C: 3\r\nconnection: close, X-C\r\n";
        assert_eq!(passed_on(named), ["Host", "X-B"]);
    }

    #[test]
    fn responses_are_treated_alike() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\n";
        let mut scan = HeadScan::default();
        let limits = ReceivedLimits::default();
        let parsed = parse_received(text, &mut scan, &limits, Method::Get);
        let (head, _) = parsed.unwrap().unwrap();
        let hop = HopByHop::of_response(&head);
        assert!(hop.keeps_back(b"x-a") && !hop.keeps_back(b"X-B"));
        assert!(hop.names(b"X-a") && !hop.names(b"upgrade"));
    }
}
