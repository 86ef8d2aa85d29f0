//! Targets, requests and mixes, good and bad.

use super::*;

fn target() -> Target {
    Target::parse("http://127.0.0.1:8080/index.html").unwrap()
}

#[track_caller]
fn check_target(url: &str, authority: &str, address: &str, path: &str) {
    let target = Target::parse(url).unwrap();
    assert_eq!(target.authority, authority, "{url}");
    assert_eq!(target.addresses, [address.parse().unwrap()], "{url}");
    assert_eq!(target.path, path, "{url}");
}

#[test]
fn urls_are_understood() {
    check_target(
        "http://127.0.0.1:8080/a?b=c#d",
        "127.0.0.1:8080",
        "127.0.0.1:8080",
        "/a?b=c",
    );
    check_target("127.0.0.1", "127.0.0.1", "127.0.0.1:80", "/");
    check_target(
        "http://127.0.0.1:81?x",
        "127.0.0.1:81",
        "127.0.0.1:81",
        "/?x",
    );
    check_target("http://[::1]:8080/", "[::1]:8080", "[::1]:8080", "/");
    check_target("http://[::1]/", "[::1]", "[::1]:80", "/");
}

#[test]
fn a_port_without_http_is_understood() {
    let target = Target::parse("tcp://127.0.0.1:7000").unwrap();
    assert!(target.is_tcp);
    assert_eq!(target.addresses, ["127.0.0.1:7000".parse().unwrap()]);
    assert!(!Target::parse("http://127.0.0.1:7000").unwrap().is_tcp);
    for url in [
        "tcp://127.0.0.1",
        "tcp://[::1]",
        "tcp://127.0.0.1:7000/",
        "tcp://127.0.0.1:7?x",
    ] {
        assert_eq!(Target::parse(url), Err(TargetError::NotAPort), "{url}");
    }
    assert_eq!(Target::parse("tcp://"), Err(TargetError::Malformed));
}

#[test]
fn bytes_that_come_back_are_known_apart() {
    let requests = Talk::PingPong(1000).requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.bytes.len() == 1000));
    let pairs = requests[0].bytes.iter().zip(&requests[1].bytes);
    assert!(pairs.clone().all(|(first, second)| first != second));
    assert!(Talk::Http.requests().is_empty());
}

#[test]
fn what_is_no_url_is_refused() {
    let https = TargetError::Scheme("https".to_owned());
    assert_eq!(Target::parse("https://127.0.0.1/"), Err(https));
    for url in [
        "",
        "http://",
        "http:///path",
        "http://user@127.0.0.1/",
        "http://127.0.0.1/a b",
        "127.0.0.1\r\nX: y",
    ] {
        assert_eq!(Target::parse(url), Err(TargetError::Malformed), "{url:?}");
    }
    for url in ["http://127.0.0.1:99999/", "http://no.such.name.invalid/"] {
        assert!(
            matches!(Target::parse(url), Err(TargetError::Unresolved(_))),
            "{url:?}"
        );
    }
}

fn request(
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Result<String, RequestError> {
    let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
    let request = Request::new(method, &target(), path, &headers, body, true)?;
    Ok(String::from_utf8(request.bytes).unwrap())
}

#[test]
fn requests_are_written_out() {
    let plain = "GET /a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    assert_eq!(request("GET", "/a", &[], b"").unwrap(), plain);
    let post = "POST /a HTTP/1.1\r\nHost: other\r\nContent-Length: 2\r\n\r\nhi";
    let post = post.replace("\r\nContent", "\r\nX: y\r\nContent");
    assert_eq!(
        request("POST", "/a", &["host: other", "X: y"], b"hi").unwrap(),
        post.replace("Host", "host")
    );
    assert!(
        request("POST", "/", &[], b"")
            .unwrap()
            .contains("Content-Length: 0\r\n")
    );
}

#[test]
fn what_would_be_another_request_is_refused() {
    for (method, path, headers) in [
        ("GE T", "/", vec![]),
        ("", "/", vec![]),
        ("GET", "a", vec![]),
        ("GET", "/a b", vec![]),
        ("GET", "/\r\n", vec![]),
        ("GET", "/", vec!["no colon"]),
        ("GET", "/", vec!["X: y\r\nZ: w"]),
        ("GET", "/", vec!["bad name: y"]),
    ] {
        assert!(
            request(method, path, &headers, b"").is_err(),
            "{method:?} {path:?} {headers:?}"
        );
    }
}

fn mix(text: &str) -> Result<Vec<String>, String> {
    let requests = parse_mix(text, &target(), &[], b"", true).map_err(|error| error.to_string())?;
    let first_line = |request: &Request| {
        let text = String::from_utf8(request.bytes.clone()).unwrap();
        text.lines().next().unwrap().replace(" HTTP/1.1", "")
    };
    Ok(requests.iter().map(first_line).collect())
}

#[test]
fn a_mix_is_read_line_by_line() {
    let text = "# popular\n3x GET /a\n/b\n\nHEAD /c  # once\n";
    assert_eq!(
        mix(text).unwrap(),
        ["GET /a", "GET /a", "GET /a", "GET /b", "HEAD /c"]
    );
}

#[test]
fn a_bad_mix_names_its_line() {
    for (text, part) in [
        ("GET /a\nGET /b HTTP/1.1\n", "line 2"),
        ("GET a\n", "line 1"),
        ("2x\n", "line 1"),
        ("# nothing\n", "no request"),
        ("", "no request"),
    ] {
        let error = mix(text).unwrap_err();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}
