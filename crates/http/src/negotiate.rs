//! Proactive negotiation (RFC 9110 §12.5): which of several representations suits a client best.
//!
//! [`AcceptEncoding`] chooses among the content codings in which a file is at hand, and
//! [`media_type`] among the types in which something can be written. Both read a field once, keep
//! nothing of it, and skip what is malformed in it, element by element: a preference that can't be
//! understood is none.
//!
//! Representations in different codings are different: each has its own length, to which ranges
//! apply, and a strong entity tag of its own (§8.8.3.3), which
//! [`Coding::tag_suffix`] makes of the one without a coding.

use crate::field::{elements, is_token, name_is, trim};

/// A content coding (RFC 9110 §8.4.1) that a representation may be in; without one it is as it is,
/// which the field calls `identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// As `Content-Encoding` has it.
    pub const fn token(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// What to put behind the entity tag of the representation without a coding, so that it names
    /// the one in this coding.
    ///
    /// The tags stay distinct as long as those without a suffix don't end in one, as no hexadecimal
    /// number does.
    pub const fn tag_suffix(self) -> &'static str {
        match self {
            Coding::Zstd => "-zst",
            Coding::Brotli => "-br",
            Coding::Gzip => "-gz",
        }
    }
}

/// Which representation an `Accept-Encoding` field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The one without a coding.
    Identity,
    /// The one in this coding.
    Coded(Coding),
    /// None of them: the client takes neither a coding that there is nor `identity`.
    ///
    /// RFC 9110 §12.4.1 leaves the choice between 406 and sending the one without a coding all the
    /// same, which is what nginx does. It is also what fits a file that is in no coding at all:
    /// that isn't subject to negotiation.
    Nothing,
}

/// What `Accept-Encoding` (RFC 9110 §12.5.3) says, in weights of thousandths: zero for what is
/// refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    /// In the order of [`Coding::ALL`].
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    /// `*`: for whatever isn't named.
    any: Option<u16>,
}

impl AcceptEncoding {
    /// Reads the lines of a field; without any, or if they are empty, no coding is asked for.
    ///
    /// (§12.5.3 would let a server take any coding where the field isn't there at all. But who can
    /// decode one says so, and those who don't are scripts that save what they get.)
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> AcceptEncoding {
        let mut accept = AcceptEncoding::default();
        for line in lines {
            for element in elements(line) {
                let (name, parameter) = parameter(element);
                let Some(slot) = accept.slot(name) else {
                    continue;
                };
                if let Some(weight) = parameter.map_or(Some(1000), weight) {
                    // Where one is named twice, the lower: what was refused is never sent.
                    *slot = Some(slot.map_or(weight, |before| before.min(weight)));
                }
            }
        }
        accept
    }

    /// What a name is for; `None` for codings that aren't known. RFC 9110 §8.4.1: they are compared
    /// without regard to case; §8.4.1.3: `x-gzip` is gzip.
    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<u16>> {
        let coding = match name.len() {
            1 if name == b"*" => return Some(&mut self.any),
            2 if name_is(name, b"br") => Coding::Brotli,
            4 if name_is(name, b"gzip") => Coding::Gzip,
            4 if name_is(name, b"zstd") => Coding::Zstd,
            6 if name_is(name, b"x-gzip") => Coding::Gzip,
            8 if name_is(name, b"identity") => return Some(&mut self.identity),
            _ => return None,
        };
        Some(&mut self.codings[coding as usize])
    }

    /// The weight of a coding, 0 to 1,000; zero when it isn't acceptable, named or not.
    pub fn weight(&self, coding: Coding) -> u16 {
        self.codings[coding as usize].or(self.any).unwrap_or(0)
    }

    /// Whether a representation without a coding is acceptable: always, unless it is refused by
    /// name or by `*` (§12.5.3).
    pub fn accepts_identity(&self) -> bool {
        self.identity.or(self.any) != Some(0)
    }

    /// The best of the codings at hand, which come in the order in which the server prefers them,
    /// or none of them.
    ///
    /// The client's weights decide, the server's preference where they are equal. Who names a
    /// coding prefers it to `identity`, unless that is given the higher weight.
    pub fn choose(&self, available: impl IntoIterator<Item = Coding>) -> Choice {
        let mut best: Option<(Coding, u16)> = None;
        for coding in available {
            let weight = self.weight(coding);
            if weight > best.map_or(0, |(_, best)| best) {
                best = Some((coding, weight));
            }
        }
        match (best, self.identity.or(self.any)) {
            (None, Some(0)) => Choice::Nothing,
            (None, _) => Choice::Identity,
            (Some((_, weight)), Some(identity)) if identity > weight => Choice::Identity,
            (Some((coding, _)), _) => Choice::Coded(coding),
        }
    }
}

/// The best of the media types that are offered, which come in the order in which the server
/// prefers them, by the lines of `Accept` (RFC 9110 §12.5.1). `None` when the client takes none of
/// them: §12.4.1 leaves the choice between 406 and the first of them.
///
/// Without a line, or if they are empty, it is the first one. The most specific range decides about
/// a type. Parameters of a range are ignored, because a client that asks for
/// `application/json;charset=utf-8` wants JSON; but one without them is taken for more specific.
///
/// ```
/// use ringway_http::negotiate::media_type;
///
/// let offered = ["text/html", "application/json"];
/// let accept = b"application/json, */*;q=0.1";
/// assert_eq!(media_type([&accept[..]], offered), Some("application/json"));
/// ```
pub fn media_type<'a, 'o, const N: usize>(
    accept: impl IntoIterator<Item = &'a [u8]>,
    offered: [&'o str; N],
) -> Option<&'o str> {
    let mut found: [Option<(Specificity, u16)>; N] = [None; N];
    let mut is_empty = true;
    for line in accept {
        for element in unquoted(line, b',').map(trim) {
            is_empty &= element.is_empty();
            let Some((range, weight)) = MediaRange::parse(element) else {
                continue;
            };
            for (offer, found) in offered.iter().zip(&mut found) {
                let specificity = range.specificity(offer);
                // Of two equally specific ones, the one that gives more.
                *found = (*found).max(specificity.map(|specificity| (specificity, weight)));
            }
        }
    }
    if is_empty {
        return offered.first().copied();
    }
    let mut best = (None, 0);
    for (offer, found) in offered.into_iter().zip(found) {
        let weight = found.map_or(0, |(_, weight)| weight);
        if weight > best.1 {
            best = (Some(offer), weight);
        }
    }
    best.0
}

/// How exactly a media range names a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    /// `*/*`
    Any,
    /// `type/*`
    Type,
    /// `type/subtype`, with parameters that it may not have.
    Parameters,
    /// `type/subtype`
    Exact,
}

/// An element of `Accept` without its weight.
struct MediaRange<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    has_parameters: bool,
}

impl<'a> MediaRange<'a> {
    /// The range, and its weight.
    fn parse(element: &'a [u8]) -> Option<(MediaRange<'a>, u16)> {
        let mut pieces = unquoted(element, b';').map(trim);
        let name = pieces.next()?;
        let slash = memchr::memchr(b'/', name)?;
        let (kind, subtype) = (&name[..slash], &name[slash + 1..]);
        let is_sound = is_token(kind) && is_token(subtype) && (kind != b"*" || subtype == b"*");
        if !is_sound {
            return None;
        }
        let (mut weight, mut has_parameters) = (1000, false);
        for piece in pieces {
            match piece {
                [b'q' | b'Q', b'=', value @ ..] => weight = quality(value)?,
                _ => has_parameters |= !piece.is_empty(),
            }
        }
        let range = MediaRange {
            kind,
            subtype,
            has_parameters,
        };
        Some((range, weight))
    }

    /// How exactly it names what is offered, if it does.
    fn specificity(&self, offer: &str) -> Option<Specificity> {
        // RFC 9110 §8.3.1: types are compared without regard to case.
        let (kind, subtype) = offer.split_once('/').unwrap_or((offer, ""));
        let is = |name: &[u8], offered: &str| name.eq_ignore_ascii_case(offered.as_bytes());
        match (self.kind, self.subtype) {
            (b"*", _) => Some(Specificity::Any),
            (named, _) if !is(named, kind) => None,
            (_, b"*") => Some(Specificity::Type),
            (_, named) if !is(named, subtype) => None,
            _ if self.has_parameters => Some(Specificity::Parameters),
            _ => Some(Specificity::Exact),
        }
    }
}

/// What stands before a semicolon, and what behind it, if there is one.
#[inline]
fn parameter(element: &[u8]) -> (&[u8], Option<&[u8]>) {
    // Elements are short, so there is nothing to gain by looking at many bytes at once.
    match element.iter().position(|&byte| byte == b';') {
        None => (element, None),
        Some(at) => (trim(&element[..at]), Some(trim(&element[at + 1..]))),
    }
}

/// A weight with its name; strings in the grammar have no case (RFC 5234 §2.3).
fn weight(parameter: &[u8]) -> Option<u16> {
    match parameter {
        [b'q' | b'Q', b'=', value @ ..] => quality(value),
        _ => None,
    }
}

/// A weight (RFC 9110 §12.4.2) in thousandths: 0 to 1 with at most three decimal places.
fn quality(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = decimals
            .get(place)
            .map_or(0, |byte| byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        thousandths = thousandths * 10 + u16::from(digit);
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// Splits where `separator` stands outside of a quoted string (RFC 9110 §5.6.4). A string that
/// doesn't end takes all the rest.
fn unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |&byte| {
        let is_literal = std::mem::take(&mut is_escaped);
        match byte {
            _ if is_literal => {}
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => return byte == separator && !is_quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests;
