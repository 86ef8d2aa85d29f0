//! Patterns of paths: as if every way to read them were tried. And names: their folders don't count.

use ringway_http::fingerprint::is_fingerprinted;
use ringway_http::glob::Glob;

/// Fails when a promise is broken on `data`: a pattern, a line end, a path.
pub(crate) fn run(data: &[u8]) {
    let end = data
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(data.len());
    let (pattern, path) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    check_fingerprint(path);
    let Some(glob) = str::from_utf8(pattern)
        .ok()
        .and_then(|text| Glob::parse(text).ok())
    else {
        return;
    };
    let matches = glob.matches(path);
    if let Some(relative) = path.strip_prefix(b"/") {
        assert!(relative.starts_with(b"/") || glob.matches(relative) == matches);
    }
    // The table grows with the product.
    if path.len() < 200 {
        assert_eq!(matches, reference(pattern, path));
    }
}

fn check_fingerprint(path: &[u8]) {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    assert_eq!(is_fingerprinted(path), is_fingerprinted(name));
    if is_fingerprinted(name) {
        assert!(name.len() >= "a.0a1b2c3d.js".len() && name.iter().any(u8::is_ascii_digit));
    }
}

/// The same by tables: which rests of the pattern match which rests of the path.
fn reference(pattern: &[u8], path: &[u8]) -> bool {
    let is_name = !pattern.contains(&b'/') && pattern != b"**";
    let names = |text: &'_ [u8]| -> Vec<Vec<u8>> {
        let text = text.strip_prefix(b"/").unwrap_or(text);
        text.split(|&byte| byte == b'/')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (pattern, mut path) = (names(pattern), names(path));
    if is_name {
        path.drain(..path.len() - 1);
    }
    let mut table = vec![vec![false; path.len() + 1]; pattern.len() + 1];
    for at in (0..=pattern.len()).rev() {
        for from in (0..=path.len()).rev() {
            table[at][from] = match pattern.get(at).map(Vec::as_slice) {
                None => from == path.len(),
                Some(b"**") if at + 1 == pattern.len() => from < path.len(),
                Some(b"**") => table[at + 1][from] || (from < path.len() && table[at][from + 1]),
                Some(one) => {
                    from < path.len() && table[at + 1][from + 1] && reference_name(one, &path[from])
                }
            };
        }
    }
    table[0][0]
}

fn reference_name(pattern: &[u8], name: &[u8]) -> bool {
    let mut table = vec![vec![false; name.len() + 1]; pattern.len() + 1];
    for at in (0..=pattern.len()).rev() {
        for from in (0..=name.len()).rev() {
            let behind = |count: usize| name.len() >= from + count && table[at + 1][from + count];
            table[at][from] = match pattern.get(at) {
                None => from == name.len(),
                Some(b'*') => behind(0) || (from < name.len() && table[at][from + 1]),
                Some(b'?') => {
                    let further = name
                        .iter()
                        .skip(from + 1)
                        .take_while(|byte| (0x80..0xc0).contains(*byte));
                    behind(1 + further.count())
                }
                Some(byte) => name.get(from) == Some(byte) && behind(1),
            };
        }
    }
    table[0][0]
}
