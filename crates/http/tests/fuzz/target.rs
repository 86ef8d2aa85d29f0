//! Targets: no path leads out, whatever it is spelled like, and a path written anew is the same.

use ringway_http::head::Method;
use ringway_http::target::{Path, Target, encode_path};

/// Fails when the parser breaks a promise on `data`.
pub(crate) fn run(data: &[u8]) {
    for method in [
        Method::Get,
        Method::Options,
        Method::Connect,
        Method::Other("X"),
    ] {
        match Target::parse(method, data) {
            Ok(Target::Resource(resource)) => {
                assert_ne!(method, Method::Connect);
                check_confined(&resource.path);
                check_written_anew(&resource.path);
                if let Some(query) = resource.query {
                    assert!(data.ends_with(query));
                }
                if resource.authority.is_none() {
                    assert_eq!(data[0], b'/');
                }
            }
            Ok(Target::Authority(authority)) => {
                assert_eq!((method, authority), (Method::Connect, data));
            }
            Ok(Target::Asterisk) => assert_eq!(method, Method::Options),
            Err(error) => assert!(error.status().is_client_error()),
        }
    }
    if let Ok(path) = Path::parse(data) {
        assert_eq!(
            path.as_bytes(),
            resolve(data),
            "as a second resolver sees it"
        );
    }
}

/// What `openat` gets to see can't name anything outside.
fn check_confined(path: &Path<'_>) {
    assert_eq!(path.as_bytes()[0], b'/');
    assert_eq!(&path.as_bytes()[1..], path.relative());
    assert!(
        !path
            .as_bytes()
            .iter()
            .any(|&byte| byte == 0 || byte == b'\\')
    );
    let inner = path
        .relative()
        .strip_suffix(b"/")
        .unwrap_or(path.relative());
    for segment in inner.split(|&byte| byte == b'/') {
        let is_root = inner.is_empty() && path.relative().is_empty();
        assert!(is_root || !matches!(segment, b"" | b"." | b".."));
    }
}

fn check_written_anew(path: &Path<'_>) {
    let mut encoded = Vec::new();
    encode_path(path.as_bytes(), &mut encoded);
    assert!(encoded.iter().all(u8::is_ascii_graphic));
    assert_eq!(Path::parse(&encoded).as_ref(), Ok(path));
}

/// The path by other means: decode all of it, then walk a stack of segments.
fn resolve(path: &[u8]) -> Vec<u8> {
    let decoded: Vec<u8> = percent_encoding::percent_decode(path).collect();
    let mut stack: Vec<&[u8]> = Vec::new();
    let mut is_directory = false;
    for segment in decoded.split(|&byte| byte == b'/') {
        is_directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => assert!(
                stack.pop().is_some(),
                "an accepted path leads above the root"
            ),
            segment => stack.push(segment),
        }
    }
    let mut resolved = b"/".to_vec();
    resolved.extend_from_slice(&stack.join(&b'/'));
    if is_directory && !stack.is_empty() {
        resolved.push(b'/');
    }
    resolved
}
