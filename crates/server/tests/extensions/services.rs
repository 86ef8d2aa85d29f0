//! Services: what they can do, and what becomes of what they must not.

use crate::program::{Program, on_both_drivers, without_date};
use crate::word_count;
use ringway_runtime::Io;
use ringway_server::config::Config;
use ringway_server::extensions::Extensions;
use ringway_server::service::{
    Completed, Exchange, Failure, Look, OwnedRequest, Reply, Request, Service, StatusCode,
};
use ringway_server::stats::Counter;
use std::io::{Read, Write};

on_both_drivers! {
    the_example_counts_and_tells,
    the_example_tells_piece_by_piece,
    bodies_nobody_wants_are_thrown_away,
    a_client_that_asks_leave_gets_it_when_its_body_is_wanted,
    refusals_of_routes_are_the_last_to_who_asks_leave,
    larger_bodies_than_a_service_takes_are_refused,
    a_body_that_is_none_is_refused_for_the_service,
    lengths_are_kept_to,
    replies_that_cannot_be_sent_are_500,
    failures_are_500_or_a_cut,
    a_panic_ends_its_connection_alone,
    a_route_changes_what_a_service_replies,
    old_clients_get_no_chunks,
    old_clients_take_no_cut_for_an_end,
}

fn example(io: Io) -> Program {
    let config = word_count::configuration("127.0.0.1:0", "auto").unwrap();
    Program::start(io, config, word_count::extensions())
}

/// Does what its path says.
struct Odd;

impl Service for Odd {
    type Kept = OwnedRequest;

    fn look(&self, request: &Request<'_>) -> Look<OwnedRequest> {
        let ok = Reply::new(StatusCode::OK);
        match request.path() {
            b"/now" => ok.text("now").into(),
            b"/now-split" => ok.field("X-A", "a\r\nX-B: b").into(),
            b"/now-length" => ok.field("Content-Length", "7").into(),
            b"/now-panic" => panic!("at first sight"),
            _ => Look::Later(request.to_owned()),
        }
    }

    async fn answer<'e>(
        &self,
        kept: OwnedRequest,
        mut exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        let ok = || Reply::new(StatusCode::OK);
        match kept.path() {
            b"/whole" => {
                let body = exchange.receive_all(10).await?;
                let about = format!(
                    "{} {} {:?} {}",
                    kept.method(),
                    String::from_utf8_lossy(kept.host()),
                    kept.query().map(String::from_utf8_lossy),
                    String::from_utf8_lossy(&body)
                );
                Ok(exchange.reply(ok().text(about)).await?)
            }
            b"/two-lengths" => Ok(exchange.reply(ok().field("Content-Length", "1")).await?),
            b"/long" => {
                let mut body = exchange.begin(ok(), Some(4)).await?;
                body.write("abcd").await?;
                body.write("X").await?;
                Ok(body.finish().await?)
            }
            b"/corrected" => {
                let mut body = exchange.begin(ok(), Some(4)).await?;
                assert!(body.write("abcdX").await.is_err());
                body.write("abcd").await?;
                Ok(body.finish().await?)
            }
            b"/short" => {
                let mut body = exchange.begin(ok(), Some(4)).await?;
                body.write("abc").await?;
                Ok(body.finish().await?)
            }
            b"/pieces" => {
                let mut body = exchange.begin(ok().text("a"), None).await?;
                for piece in ["b", "", "c"] {
                    body.write(piece).await?;
                }
                Ok(body.finish().await?)
            }
            b"/interim" => Ok(exchange.reply(Reply::new(StatusCode::CONTINUE)).await?),
            b"/fails" => Err("for a reason".into()),
            b"/fails-late" => {
                let mut body = exchange.begin(ok(), None).await?;
                body.write("begun").await?;
                Err("for a reason".into())
            }
            b"/panics" => panic!("later"),
            b"/panics-late" => {
                let mut body = exchange.begin(ok().text("begun"), None).await?;
                body.write("on").await?;
                panic!("later still")
            }
            _ => Ok(exchange.reply(Reply::new(StatusCode::NOT_FOUND)).await?),
        }
    }
}

fn odd(io: Io, keys: &str) -> Program {
    let text = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\n[limits]\nbody_bytes = 1000\n\
         [[route]]\nservice = \"odd\"\n{keys}"
    );
    let extensions = Extensions::new().service("odd", |_| Ok(Odd));
    Program::start(io, Config::from_toml(&text).unwrap(), extensions)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn the_example_counts_and_tells(io: Io) {
    let program = example(io);
    let text = "two words\n".repeat(5_000);
    let put = format!(
        "PUT /words HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let head = "HTTP/1.1 201 Created\r\nServer: ringway\r\nContent-Length: 30\r\n\
                Content-Type: application/json\r\n\r\n";
    let told = "HTTP/1.1 200 OK\r\nServer: ringway\r\nConnection: close\r\nContent-Length: 31\r\n\
                Content-Type: application/json\r\n\r\n";
    let answers = program.answer(put.clone() + &put + &get("/words"));
    let counted = format!("{head}{{\"words\":10000,\"bytes\":50000}}\n");
    let total = format!("{told}{{\"words\":20000,\"bytes\":100000}}\n");
    assert_eq!(without_date(&answers), format!("{counted}{counted}{total}"));
    let refused = program.answer(get("/words").replace("GET", "DELETE"));
    assert!(
        refused.contains("\r\nAllow: GET, HEAD, POST, PUT\r\n"),
        "{refused}"
    );
}

fn the_example_tells_piece_by_piece(io: Io) {
    let answer = example(io).answer(get("/words/live"));
    let line = "16\r\n{\"words\":0,\"bytes\":0}\n\r\n";
    let expect = format!("\r\n\r\n{line}{line}{line}0\r\n\r\n");
    assert!(answer.ends_with(&expect), "{answer}");
}

fn bodies_nobody_wants_are_thrown_away(io: Io) {
    let program = odd(io, "");
    for path in ["/now", "/else", "/fails"] {
        let post = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\n");
        let body = "GET /now HTTP/1.1\r\nHost: hidden\r\n\r";
        assert_eq!(body.len(), 34);
        let answers = program.answer(post + body + &get("/now"));
        let count = answers.matches("HTTP/1.1 ").count();
        // After a failure nobody reads on.
        let expect = if path == "/fails" { 1 } else { 2 };
        assert_eq!(count, expect, "{path}: {answers}");
    }
}

fn a_client_that_asks_leave_gets_it_when_its_body_is_wanted(io: Io) {
    let program = odd(io, "");
    let asking = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
    };
    let mut client = program.connect();
    client.write_all(asking("/whole").as_bytes()).unwrap();
    let mut told = [0; 25];
    client.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").unwrap();
    client.write_all(get("/now").as_bytes()).unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert!(answers.contains("POST a None hi"), "{answers}");
    // Who isn't told to go on may send its body or not: nothing can follow.
    let answer = program.answer(asking("/else"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

/// The body came all the same, and was taken for the next request.
fn refusals_of_routes_are_the_last_to_who_asks_leave(io: Io) {
    let keys = "path = \"/odd\"\n\
                [[route]]\npath = \"/gone\"\nstatus = 410\n\
                [[route]]\npath = \"/moved\"\nredirect = \"/new\"\n";
    let program = odd(io, keys);
    for (path, status) in [
        ("/gone", 410),
        ("/moved", 302),
        ("/nothing", 404),
        ("/%2f", 404),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        let hidden = "GET /gone HTTP/1.1\r\nHost: hidden\r\n\r\n";
        let answers = program.answer(format!("{head}Content-Length: 38\r\n\r\n{hidden}"));
        let begins = format!("HTTP/1.1 {status} ");
        assert!(answers.starts_with(&begins), "{path}: {answers}");
        assert!(
            answers.contains("\r\nConnection: close\r\n"),
            "{path}: {answers}"
        );
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{path}: {answers}");
    }
}

fn larger_bodies_than_a_service_takes_are_refused(io: Io) {
    let program = odd(io, "");
    let post = |body: &str| {
        let length = body.len();
        format!("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let answer = program.answer(post("eleven byte"));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // By the server's own limit, whatever the service would take.
    for path in ["/whole", "/now"] {
        let answer = program.answer(post(&"x".repeat(1001)).replace("/whole", path));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
    }
}

fn a_body_that_is_none_is_refused_for_the_service(io: Io) {
    let program = odd(io, "");
    for path in ["/whole", "/now"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let answer = program.answer(head + "2\r\nhi\r\nzz\r\n");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

fn lengths_are_kept_to(io: Io) {
    let program = odd(io, "");
    let whole = program.answer(get("/corrected"));
    assert!(whole.ends_with("Content-Length: 4\r\n\r\nabcd"), "{whole}");
    // The one keeps its promise, but not by what it returns; the other breaks it.
    for (path, sent) in [("/long", "\r\n\r\nabcd"), ("/short", "\r\n\r\nabc")] {
        let (answer, is_orderly) = program.ask(get(path));
        assert!(
            answer.is_empty() || answer.ends_with(sent),
            "{path}: {answer}"
        );
        assert!(!is_orderly, "{path} looks whole: {answer}");
    }
    let head = program.answer(get("/short").replace("GET", "HEAD"));
    assert!(head.ends_with("Content-Length: 4\r\n\r\n"), "{head}");
}

fn replies_that_cannot_be_sent_are_500(io: Io) {
    let program = odd(io, "");
    for path in ["/two-lengths", "/interim", "/now-split", "/now-length"] {
        let answer = program.answer(get(path));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path}: {answer}");
        assert_eq!(answer.matches("Content-Length").count(), 1, "{answer}");
        assert!(!answer.contains("X-B"), "{answer}");
    }
}

fn failures_are_500_or_a_cut(io: Io) {
    let program = odd(io, "");
    let answers = program.answer(get("/fails").replace("Connection: close\r\n", "") + &get("/now"));
    assert!(answers.starts_with("HTTP/1.1 500 "), "{answers}");
    assert!(answers.ends_with("\r\n\r\nnow"), "{answers}");
    assert!(
        !answers.contains("reason"),
        "it is nobody else's: {answers}"
    );
    let (answer, is_orderly) = program.ask(get("/fails-late"));
    assert!(!is_orderly && !answer.contains("\r\n0\r\n"), "{answer}");
}

fn a_panic_ends_its_connection_alone(io: Io) {
    let program = odd(io, "");
    let mut other = program.connect();
    for path in ["/now-panic", "/panics"] {
        let (answer, _) = program.ask(get(path));
        assert_eq!(answer, "", "{path}");
    }
    other.write_all(get("/now").as_bytes()).unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nnow"), "{answer}");
    assert_eq!(program.count(Counter::Panics), 2);
}

fn a_route_changes_what_a_service_replies(io: Io) {
    let keys = "response_headers = [\"-Server\", \"X-Route: {path}\", \"Content-Type: text/own\"]";
    let program = odd(io, keys);
    for (path, body) in [("/now", "now"), ("/pieces", "0\r\n\r\n")] {
        let answer = program.answer(get(path));
        assert!(answer.ends_with(body), "{answer}");
        assert!(
            answer.contains(&format!("\r\nX-Route: {path}\r\n")),
            "{answer}"
        );
        assert!(
            !answer.contains("Server") && !answer.contains("text/plain"),
            "{answer}"
        );
    }
}

/// To them the end of the connection is that of the content.
fn old_clients_take_no_cut_for_an_end(io: Io) {
    let program = odd(io, "");
    for path in ["/fails-late", "/panics-late"] {
        let (answer, is_orderly) = program.ask(format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert!(!is_orderly, "{path} looks whole: {answer}");
    }
}

fn old_clients_get_no_chunks(io: Io) {
    let program = odd(io, "");
    let answer = program.answer("GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert!(
        !answer.contains("chunked") && !answer.contains("keep-alive"),
        "{answer}"
    );
    let answer = program.answer(get("/pieces"));
    let body = "\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";
    assert!(answer.ends_with(body), "{answer}");
}
