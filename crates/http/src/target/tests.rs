use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(target: &str, expect: &str) {
    match Target::parse(Method::Get, target.as_bytes()) {
        Ok(Target::Resource(resource)) => {
            let path = String::from_utf8_lossy(resource.path.as_bytes()).into_owned();
            assert_eq!(path, expect, "{target:?}");
            assert_eq!(resource.path.relative(), &expect.as_bytes()[1..]);
        }
        other => panic!("{target:?}: {other:?}"),
    }
}

#[track_caller]
fn check_error(target: &str, expect: TargetError) {
    assert_eq!(
        Target::parse(Method::Get, target.as_bytes()),
        Err(expect),
        "{target:?}"
    );
}

/// The path of a target in origin form is lent, not copied.
fn is_borrowed(target: &str) -> bool {
    let path = Path::parse(target.as_bytes()).unwrap();
    matches!(path.into_bytes(), Cow::Borrowed(_))
}

#[test]
fn normal_paths_are_borrowed() {
    for target in [
        "/",
        "/a",
        "/a/",
        "/a/b.c",
        "/.a",
        "/..a",
        "/...",
        "/a./b../",
        "/.well-known/x",
    ] {
        check(target, target);
        assert!(is_borrowed(target), "{target}");
    }
    assert!(!is_borrowed("/%61"));
    assert!(!is_borrowed("//"));
}

#[test]
fn percent_decoding() {
    check("/%61%62", "/ab");
    check("/a%20b", "/a b");
    check("/%C3%A9", "/é");
    check("/é", "/é");
    check("/%25%32%65", "/%2e");
    check("/a%3Fb%23c", "/a?b#c");
    for bad in [
        "/%", "/%1", "/%g0", "/%0g", "/a%2", "/%%", "/%+1", "/% 1", "/%2/e",
    ] {
        let expect = if bad.contains(' ') {
            TargetError::Character
        } else {
            TargetError::Encoding
        };
        check_error(bad, expect);
    }
}

#[test]
fn decoding_happens_once() {
    check("/%252e%252e/a", "/%2e%2e/a");
}

#[test]
fn dot_segments() {
    check("/./a", "/a");
    check("/a/.", "/a/");
    check("/a/./", "/a/");
    check("/a/..", "/");
    check("/a/../b", "/b");
    check("/a/b/../c", "/a/c");
    check("/a/b/..", "/a/");
    check("/a/b/../..", "/");
    check("/a/b/c/./../../g", "/a/g");
    check("/%2e/a", "/a");
    check("/a/%2E%2e/b", "/b");
    check("/a/.%2e/b", "/b");
    check("/a/..?x", "/");
    check("/a/.?x", "/a/");
}

#[test]
fn slashes_are_merged() {
    check("//", "/");
    check("//a//b//", "/a/b/");
    check("/a//../b", "/b");
    check("//example.com/x", "/example.com/x");
}

#[test]
fn above_the_root() {
    for target in [
        "/..",
        "/../",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/%2e%2e/a",
        "/.%2E/",
        "/%2e./a",
        "/a//../..",
        "/./..",
        "/..?x",
        "//..",
        "/a/%2e%2E/%2e%2e/b",
    ] {
        check_error(target, TargetError::AboveRoot);
    }
    assert_eq!(TargetError::AboveRoot.status(), 403);
}

#[test]
fn hidden_separators() {
    check_error("/..%2f..%2fetc/passwd", TargetError::EncodedSlash);
    check_error("/a%2Fb", TargetError::EncodedSlash);
    check_error("/..\\..\\etc", TargetError::Backslash);
    check_error("/..%5c..%5Cetc", TargetError::Backslash);
    check_error("/a%00.html", TargetError::Nul);
    assert_eq!(TargetError::EncodedSlash.status(), 404);
    assert_eq!(TargetError::Nul.status(), 400);
}

#[test]
fn queries() {
    let query = |target: &'static str| match Target::parse(Method::Get, target.as_bytes()) {
        Ok(Target::Resource(resource)) => resource.query,
        other => panic!("{other:?}"),
    };
    assert_eq!(query("/a"), None);
    assert_eq!(query("/a?"), Some(&b""[..]));
    assert_eq!(query("/a?b=/../%zz?c\\"), Some(&b"b=/../%zz?c\\"[..]));
    assert_eq!(query("/%61?b"), Some(&b"b"[..]));
    check_error("/a?b#c", TargetError::Character);
    check_error("/a#c", TargetError::Character);
}

#[test]
fn absolute_form() {
    let parse = |target: &'static str| match Target::parse(Method::Get, target.as_bytes()) {
        Ok(Target::Resource(Resource {
            authority,
            path,
            query,
        })) => Ok((
            authority.map(<[u8]>::to_vec),
            path.as_bytes().to_vec(),
            query,
        )),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let some = |authority: &str| Some(authority.as_bytes().to_vec());
    assert_eq!(
        parse("http://a.b:80/c?d"),
        Ok((some("a.b:80"), b"/c".to_vec(), Some(&b"d"[..])))
    );
    assert_eq!(parse("HTTPS://a"), Ok((some("a"), b"/".to_vec(), None)));
    assert_eq!(
        parse("http://a?b"),
        Ok((some("a"), b"/".to_vec(), Some(&b"b"[..])))
    );
    assert_eq!(
        parse("http://[::1]:8080/"),
        Ok((some("[::1]:8080"), b"/".to_vec(), None))
    );
    assert_eq!(parse("http://a/../b"), Err(TargetError::AboveRoot));
    assert_eq!(parse("http:///a"), Err(TargetError::Authority));
    assert_eq!(parse("http://:80/a"), Err(TargetError::Authority));
    assert_eq!(parse("http://u@a/"), Err(TargetError::Authority));
    assert_eq!(parse("http://a#b"), Err(TargetError::Character));
    assert_eq!(parse("http:/a"), Err(TargetError::Form));
    assert_eq!(parse("ftp://a/"), Err(TargetError::Form));
}

#[test]
fn forms_and_methods() {
    let parse = |method, target: &'static str| Target::parse(method, target.as_bytes());
    assert_eq!(parse(Method::Options, "*"), Ok(Target::Asterisk));
    assert_eq!(parse(Method::Options, "http://a"), Ok(Target::Asterisk));
    assert_eq!(parse(Method::Get, "*"), Err(TargetError::Form));
    assert_eq!(parse(Method::Get, ""), Err(TargetError::Form));
    assert_eq!(parse(Method::Get, "a/b"), Err(TargetError::Form));
    assert_eq!(parse(Method::Get, "a:80"), Err(TargetError::Form));
    assert_eq!(
        parse(Method::Connect, "a:80"),
        Ok(Target::Authority(b"a:80"))
    );
    assert_eq!(
        parse(Method::Connect, "[::1]:80"),
        Ok(Target::Authority(b"[::1]:80"))
    );
    for bad in [
        "a",
        "/",
        "*",
        "http://a/",
        "a:",
        ":80",
        "u@a:80",
        "a:b",
        "[::1]",
    ] {
        assert!(parse(Method::Connect, bad).is_err(), "{bad}");
    }
}

#[test]
fn authorities() {
    for good in [
        "a",
        "a.b",
        "a:80",
        "a:",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:80",
        "a_b",
        "xn--a",
    ] {
        assert!(is_authority(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        ":80",
        "a:65536",
        "a:+1",
        "a:1:2",
        "a b",
        "a/b",
        "a?b",
        "a@b",
        "a,b",
        "a%41",
        "[",
        "[]",
        "[::1",
        "[::1]a",
        "[::1]:x",
        "::1",
        "a]",
        "é",
        "a\\b",
        "a:99999999999999999999",
    ] {
        assert!(!is_authority(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn segments() {
    let path = Path::parse(b"/a/b//c/").unwrap();
    assert_eq!(path.segments().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert!(path.is_directory());
    assert_eq!(Path::parse(b"/").unwrap().segments().count(), 0);
    assert_eq!(Path::parse(b"/a?b"), Err(TargetError::Form));
    assert_eq!(Path::parse(b""), Err(TargetError::Form));
    assert_eq!(Path::parse(b"a"), Err(TargetError::Form));
}

/// What must hold of every path that is accepted.
fn assert_confined(path: &Path<'_>) {
    let relative = path.relative();
    assert_eq!(path.as_bytes()[0], b'/');
    assert!(!relative.starts_with(b"/"));
    assert!(
        !path
            .as_bytes()
            .iter()
            .any(|&byte| byte == 0 || byte == b'\\')
    );
    let inner = relative.strip_suffix(b"/").unwrap_or(relative);
    if !inner.is_empty() {
        for segment in inner.split(|&byte| byte == b'/') {
            assert!(!matches!(segment, b"" | b"." | b".."), "{:?}", path);
        }
    }
}

/// Every path of up to six of the pieces that matter, against a stack of segments.
#[test]
fn all_short_paths() {
    const PIECES: [&str; 6] = ["/", ".", "%2e", "x", "%2F", "%"];
    for length in 0..6 {
        for mut code in 0..PIECES.len().pow(length) {
            let mut target = "/".to_owned();
            for _ in 0..length {
                target.push_str(PIECES[code % PIECES.len()]);
                code /= PIECES.len();
            }
            let result = Path::parse(target.as_bytes());
            let decoded = target.replace("%2e", ".");
            if decoded.contains('%') {
                // Which of several faults is named depends on their order.
                assert!(result.is_err(), "{target}");
                continue;
            }
            let mut stack = Vec::new();
            let mut above = false;
            let mut directory = true;
            for segment in decoded.split('/').skip(1) {
                directory = matches!(segment, "" | "." | "..");
                match segment {
                    "" | "." => {}
                    ".." => above |= stack.pop().is_none(),
                    name => stack.push(name),
                }
            }
            if above {
                assert_eq!(result, Err(TargetError::AboveRoot), "{target}");
                continue;
            }
            let mut expect = format!("/{}", stack.join("/"));
            if directory && !stack.is_empty() {
                expect.push('/');
            }
            let path = result.unwrap();
            assert_eq!(String::from_utf8_lossy(path.as_bytes()), expect, "{target}");
            assert_confined(&path);
        }
    }
}

proptest! {
    #[test]
    fn decoding_is_the_inverse_of_encoding(
        segments in prop::collection::vec(prop::collection::vec(1u8.., 1..8), 0..5),
    ) {
        let unfit = |segment: &Vec<u8>| {
            segment == b"." || segment == b".." || segment.iter().any(|b| matches!(b, b'/' | b'\\'))
        };
        prop_assume!(!segments.iter().any(unfit));
        let path = [&b"/"[..], &segments.join(&b'/')].concat();
        let mut encoded = Vec::new();
        encode_path(&path, &mut encoded);
        prop_assert!(encoded.iter().all(u8::is_ascii_graphic));
        let parsed = Path::parse(&encoded).unwrap();
        prop_assert_eq!(parsed.as_bytes(), &path[..]);
    }

    #[test]
    fn accepted_paths_are_confined(target in "/([./a%25]|%2[eEfF]|%5c|%00){0,12}") {
        if let Ok(path) = Path::parse(target.as_bytes()) {
            assert_confined(&path);
        }
    }

    #[test]
    fn normalising_twice_changes_nothing(target in "/([./a]|%2e){0,12}") {
        if let Ok(path) = Path::parse(target.as_bytes()) {
            let again = Path::parse(path.as_bytes()).unwrap();
            prop_assert_eq!(again.as_bytes(), path.as_bytes());
            prop_assert!(matches!(again.into_bytes(), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(target in any::<Vec<u8>>()) {
        for method in [Method::Get, Method::Options, Method::Connect] {
            if let Ok(Target::Resource(resource)) = Target::parse(method, &target) {
                assert_confined(&resource.path);
            }
        }
    }
}

#[test]
fn the_origin_form_has_no_authority() {
    for (target, expect) in [
        ("/a/b?c", "/a/b?c"),
        ("*", "*"),
        ("http://h/a?b", "/a?b"),
        ("https://h:1/", "/"),
        ("http://h", "/"),
        ("http://h?q=/x", "/?q=/x"),
        ("/a/http://b/c", "/a/http://b/c"),
    ] {
        assert_eq!(
            &*origin_form(Method::Get, target.as_bytes()),
            expect.as_bytes(),
            "{target}"
        );
    }
    for (target, expect) in [("http://h", "*"), ("http://h/", "/"), ("http://h?a", "/?a")] {
        let origin = origin_form(Method::Options, target.as_bytes());
        assert_eq!(&*origin, expect.as_bytes(), "OPTIONS {target}");
    }
}
