//! Hooks of the proxy: what they can do, and what becomes of their failures.

use crate::program::{Program, on_both_drivers, options, start_server};
use crate::tenants;
use ringway_runtime::Io;
use ringway_server::ServerError;
use ringway_server::config::Config;
use ringway_server::extensions::Extensions;
use ringway_server::hooks::{Choice, Denial, Hooks, Outcome, PassedRequest, PassedResponse};
use ringway_server::service::{Failure, Request};
use ringway_server::stats::Counter;
use std::sync::{Arc, Mutex};

on_both_drivers! {
    the_example_lets_tenants_in_and_tells_them_apart,
    hooks_choose_among_the_servers_of_an_upstream,
    hooks_that_fail_are_500,
    hooks_that_panic_end_their_connection_alone,
    hooks_hear_of_every_end,
    bodies_go_past_hooks,
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n")
}

fn the_example_lets_tenants_in_and_tells_them_apart(io: Io) {
    let servers = ["red-server", "blue-server"].map(|name| start_server(name).to_string());
    let [red, blue] = &servers;
    let config = tenants::configuration("127.0.0.1:0", "auto", [red, blue]).unwrap();
    let program = Program::start(io, config, tenants::extensions());
    for tenant in ["red", "blue", "red"] {
        let token = format!("Authorization: Bearer {tenant}-token\r\nX-Tenant: forged\r\n");
        let answer = program.answer(get("/", &token));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains(&format!("\r\nX-Served-For: {tenant}\r\n")),
            "{answer}"
        );
        let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            !head.contains("Server: ") && head.contains("\r\nX-Own: 1"),
            "{head}"
        );
        assert!(
            seen.contains(&format!("\r\nX-Tenant: {tenant}\r\n")),
            "{seen}"
        );
        assert!(
            !seen.contains("forged") && !seen.contains("Authorization"),
            "{seen}"
        );
    }
    for fields in ["", "Authorization: Bearer other\r\n"] {
        let answer = program.answer(get("/", fields));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(
            answer.contains("\r\nWWW-Authenticate: Bearer\r\n"),
            "{answer}"
        );
    }
}

/// Does what the request's path says, and tells how it ended.
struct Odd {
    ends: Arc<Mutex<Vec<Outcome>>>,
    servers: [String; 2],
}

impl Hooks for Odd {
    type Context = Vec<u8>;

    fn begin(&self, request: &Request<'_>) -> Vec<u8> {
        request.path().to_vec()
    }

    async fn request(
        &self,
        path: &mut Vec<u8>,
        request: &mut PassedRequest<'_>,
    ) -> Result<(), Denial> {
        match &**path {
            b"/split" => request.set("X-A", "a\r\nX-B: b")?,
            b"/length" => request.set("Content-Length", "5")?,
            b"/panic" => panic!("in the request"),
            _ => {}
        }
        // A wait, such as for somebody who knows.
        ringway_runtime::sleep(std::time::Duration::from_millis(1)).await;
        Ok(())
    }

    fn upstream(&self, path: &mut Vec<u8>, _: &Request<'_>) -> Choice {
        match &**path {
            b"/0" => Choice::default().preferring(&self.servers[0]),
            b"/1" => Choice::default().preferring(&self.servers[1]),
            b"/nowhere" => Choice::default().preferring("192.0.2.1:1"),
            _ => Choice::default(),
        }
    }

    fn response(
        &self,
        path: &mut Vec<u8>,
        response: &mut PassedResponse<'_>,
    ) -> Result<(), Failure> {
        match &**path {
            b"/late" => return Err("for a reason".into()),
            b"/late-split" => response.set("X-A", "a\nb")?,
            b"/late-panic" => panic!("in the response"),
            _ => {}
        }
        response.set("X-Status", &response.status().to_string())?;
        Ok(())
    }

    fn log(&self, _: &mut Vec<u8>, outcome: &Outcome) -> Option<String> {
        self.ends.lock().unwrap().push(*outcome);
        None
    }
}

struct Case {
    program: Program,
    ends: Arc<Mutex<Vec<Outcome>>>,
}

impl Case {
    /// How requests have ended so far.
    fn statuses(&self) -> Vec<Option<u16>> {
        let ends = self.ends.lock().unwrap();
        ends.iter().map(|outcome| outcome.status).collect()
    }
}

fn odd(io: Io) -> Case {
    let servers = ["first", "second"].map(|name| start_server(name).to_string());
    let [first, second] = &servers;
    let text = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\n\
         [upstream.app]\nservers = [\"{first}\", \"{second}\"]\nbalance = \"round_robin\"\n\
         [[route]]\nproxy = \"app\"\nhooks = \"odd\"\n"
    );
    let ends: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let told = Arc::clone(&ends);
    let extensions = Extensions::new().hooks("odd", move |_| {
        Ok(Odd {
            ends: Arc::clone(&told),
            servers: servers.clone(),
        })
    });
    let program = Program::start(io, Config::from_toml(&text).unwrap(), extensions);
    Case { program, ends }
}

fn hooks_choose_among_the_servers_of_an_upstream(io: Io) {
    let case = odd(io);
    for _ in 0..3 {
        for (path, server) in [("/0", "first"), ("/1", "second")] {
            let answer = case.program.answer(get(path, ""));
            assert!(
                answer.contains(&format!("\r\nServer: {server}\r\n")),
                "{answer}"
            );
            assert!(answer.contains("\r\nX-Status: 200\r\n"), "{answer}");
        }
    }
}

fn hooks_that_fail_are_500(io: Io) {
    let case = odd(io);
    for path in ["/split", "/length", "/nowhere", "/late", "/late-split"] {
        let answer = case.program.answer(get(path, ""));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path}: {answer}");
        assert!(
            !answer.contains("X-B") && !answer.contains("reason"),
            "{answer}"
        );
    }
    assert_eq!(case.statuses(), [Some(500); 5]);
    // The servers aren't to blame.
    let answer = case.program.answer(get("/0", ""));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn hooks_that_panic_end_their_connection_alone(io: Io) {
    let case = odd(io);
    for path in ["/panic", "/late-panic"] {
        let (answer, _) = case.program.ask(get(path, ""));
        assert_eq!(answer, "", "{path}");
    }
    let answer = case.program.answer(get("/", ""));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(case.program.count(Counter::Panics), 2);
}

fn hooks_hear_of_every_end(io: Io) {
    let case = odd(io);
    let two = get("/", "").replace("Connection: close\r\n", "") + &get("/", "");
    case.program.answer(two);
    assert_eq!(case.statuses(), [Some(200); 2]);
    let bodies = case
        .ends
        .lock()
        .unwrap()
        .iter()
        .map(|end| end.body_bytes)
        .min();
    assert!(bodies > Some(30), "{bodies:?}");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = case.program.answer(post);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(case.statuses().last(), Some(&Some(400)));
}

fn bodies_go_past_hooks(io: Io) {
    let case = odd(io);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let answers = case.program.answer(post.to_owned() + &get("/", ""));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(answers.contains("\r\n\r\nbodyHTTP/1.1 "), "{answers}");
}

#[test]
fn a_name_that_the_program_lacks_is_told() {
    let text = "[listen.main]\naddress = \"127.0.0.1:0\"\n\
                [upstream.app]\nservers = \"127.0.0.1:1\"\n\
                [[route]]\nproxy = \"app\"\nhooks = \"tenant\"\n";
    let config = Config::from_toml(text).unwrap();
    let told = |extensions: Extensions| match extensions.check(&config) {
        Err(ServerError::Extension(message)) => message,
        other => panic!("{other:?}"),
    };
    let near =
        "a route has hooks = \"tenant\", which this program lacks; did you mean \"tenants\"?";
    assert_eq!(told(tenants::extensions()), near);
    let none = "a route has hooks = \"tenant\", which this program lacks; it has none: that takes a \
                program of one's own, built on its library";
    assert_eq!(told(Extensions::new()), none);
    let twice = tenants::extensions().hooks("tenants", |_| -> Result<Odd, Failure> {
        Err("never made".into())
    });
    assert_eq!(told(twice), "this program has hooks \"tenants\" twice");
}

#[test]
fn hooks_that_cannot_be_made_are_told() {
    let text = "[listen.main]\naddress = \"127.0.0.1:0\"\n\
                [upstream.app]\nservers = \"127.0.0.1:1\"\n\
                [[route]]\nproxy = \"app\"\nhooks = \"tenants\"\n";
    let config = Config::from_toml(text).unwrap();
    let runtime = ringway_runtime::Runtime::new(&options(Io::Epoll)).unwrap();
    let error = tenants::extensions()
        .serve_on(&runtime, config)
        .unwrap_err();
    let expect = "hooks \"tenants\" can't be made: there is no [upstream.red]";
    assert_eq!(error.to_string(), expect);
}
