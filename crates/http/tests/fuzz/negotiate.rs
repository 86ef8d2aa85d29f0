//! Negotiation: what a simple reader finds in the fields decides, and nothing else.

use ringway_http::negotiate::{AcceptEncoding, Choice, Coding, media_type};

const OFFERED: [&str; 2] = ["text/html", "application/json"];

/// Fails when a promise is broken on `data`: the lines of a field.
pub(crate) fn run(data: &[u8]) {
    let lines = || data.split(|&byte| byte == b'\n');
    check_codings(&AcceptEncoding::parse(lines()), data);
    let chosen = media_type(lines(), OFFERED);
    // Without strings, it reads as simply.
    if !data.contains(&b'"') {
        assert_eq!(chosen, best_type(data), "{}", data.escape_ascii());
    }
    // As one line, it is the same list.
    let joined: Vec<u8> = data
        .iter()
        .map(|&byte| if byte == b'\n' { b',' } else { byte })
        .collect();
    assert_eq!(
        AcceptEncoding::parse([&*joined]),
        AcceptEncoding::parse(lines())
    );
    // A string may not go over the end of a line, so the lines may differ from the whole there.
    if !data.contains(&b'"') {
        assert_eq!(media_type([&*joined], OFFERED), chosen);
    }
}

fn check_codings(accept: &AcceptEncoding, data: &[u8]) {
    let named = |names: &[&str]| {
        let found = elements(data).into_iter().filter_map(|element| {
            let (name, parameters) = element.split_first()?;
            let weight = match parameters {
                [] => 1000,
                [weight] => quality(weight)?,
                _ => return None,
            };
            names
                .contains(&&*name.to_ascii_lowercase())
                .then_some(weight)
        });
        found.min()
    };
    let any = named(&["*"]);
    let weight = |coding: Coding| {
        let own = match coding {
            Coding::Gzip => named(&["gzip", "x-gzip"]),
            coding => named(&[coding.token()]),
        };
        own.or(any).unwrap_or(0)
    };
    for coding in Coding::ALL {
        assert_eq!(accept.weight(coding), weight(coding), "{coding:?}");
    }
    let identity = named(&["identity"]).or(any);
    assert_eq!(accept.accepts_identity(), identity != Some(0));
    for available in [&Coding::ALL[..], &[Coding::Gzip, Coding::Zstd], &[]] {
        let most = available
            .iter()
            .map(|coding| weight(*coding))
            .max()
            .unwrap_or(0);
        let first = available
            .iter()
            .copied()
            .find(|coding| weight(*coding) == most);
        let expect = match first.filter(|_| most > 0 && identity.is_none_or(|own| own <= most)) {
            Some(coding) => Choice::Coded(coding),
            None if most == 0 && identity == Some(0) => Choice::Nothing,
            None => Choice::Identity,
        };
        assert_eq!(accept.choose(available.iter().copied()), expect);
    }
}

/// The type with the highest weight by the most specific range.
fn best_type(data: &[u8]) -> Option<&'static str> {
    let separators = [b',', b' ', b'\t', b'\n'];
    if data.iter().all(|byte| separators.contains(byte)) {
        return Some(OFFERED[0]);
    }
    let weight = |offer: &str| {
        let kind = format!("{}/*", offer.split('/').next().unwrap_or_default());
        let found = elements(data).into_iter().filter_map(|element| {
            let (name, parameters) = element.split_first()?;
            let (mut weight, mut others) = (1000, 0);
            for parameter in parameters {
                match parameter.get(..2) {
                    Some("q=" | "Q=") => weight = quality(parameter)?,
                    _ => others += usize::from(!parameter.is_empty()),
                }
            }
            let name = name.to_ascii_lowercase();
            let specificity = match &*name {
                "*/*" => 1,
                name if name == kind => 2,
                name if name == offer => 4 - usize::from(others > 0),
                _ => return None,
            };
            Some((specificity, weight))
        });
        found.max().map_or(0, |(_, weight)| weight)
    };
    let weights = OFFERED.map(weight);
    match weights {
        [0, 0] => None,
        [html, json] if html >= json => Some(OFFERED[0]),
        _ => Some(OFFERED[1]),
    }
}

/// The elements of all lines, each cut at its semicolons.
fn elements(data: &[u8]) -> Vec<Vec<String>> {
    data.split(|byte| b",\n".contains(byte))
        .map(String::from_utf8_lossy)
        .map(|element| {
            let pieces = element.split(';');
            pieces
                .map(|piece| piece.trim_matches([' ', '\t']).to_owned())
                .collect()
        })
        .collect()
}

/// A weight with its name, in thousandths.
fn quality(parameter: &str) -> Option<u16> {
    let value = parameter
        .strip_prefix("q=")
        .or(parameter.strip_prefix("Q="))?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let is_sound = matches!(whole, "0" | "1")
        && decimals.len() <= 3
        && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{whole}{decimals:0<3}")
        .parse()
        .ok()
        .filter(|_| is_sound)?;
    (thousandths <= 1000).then_some(thousandths)
}
