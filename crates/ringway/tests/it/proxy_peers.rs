//! The proxy before other people's servers: nginx, Node, Python; and what nginx makes of requests
//! that two programs could read differently.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::client::{Client, request};
use crate::peers;
use crate::server::{Io, Server, eventually, on_both_drivers};
use crate::tree::{HELLO, Tree, content};
use crate::upstream;

on_both_drivers!(nginx_files, smuggled_requests, node, python);

/// A program that is killed with its test.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        Program(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// nginx on a socket in `folder`, with these directives for its server and these parameters of the
/// socket.
pub(crate) fn nginx(folder: &Path, parameters: &str, directives: &str) -> (Program, String) {
    let socket = folder.join("nginx.socket");
    let (at, folder) = (socket.display(), folder.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr; events {{ }}\n\
         http {{ access_log {folder}/access.log; {temporary}\n\
         server {{ listen unix:{at} {parameters}; {directives} }} }}\n"
    );
    let file = Path::new(&folder.to_string()).join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(peers::find("nginx").unwrap());
    command.args(["-e", "stderr", "-c"]).arg(&file);
    let program = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("nginx listens", || UnixStream::connect(&socket).ok());
    (program, format!("unix:{at}"))
}

fn nginx_files(io: Io) {
    if !peers::has("nginx") {
        return;
    }
    let tree = Tree::new();
    let sizes = [0, 1, 1_000, 65_536, 100_000, 1 << 20, 20 << 20];
    for bytes in sizes {
        tree.write(format!("{bytes}.bin"), content(7, bytes));
    }
    let root = format!("root {};", tree.root().display());
    let (_nginx, address) = nginx(tree.outside(), "", &root);
    let server = upstream::run(io, &upstream::config(&[address], ""));
    let mut client = server.connect();
    for bytes in sizes {
        let target = format!("/{bytes}.bin");
        let response = client.ask_through(&request("GET", &target, &[]));
        assert!(response.body == content(7, bytes), "{target}");
        let head = client.ask_through(&request("HEAD", &target, &[]));
        assert_eq!(head.field("Content-Length"), Some(&*bytes.to_string()));
        let tag = format!("If-None-Match: {}", response.field("ETag").unwrap());
        assert_eq!(
            client.ask_through(&request("GET", &target, &[&tag])).status,
            304
        );
    }
    let part = client.ask_through(&request(
        "GET",
        "/1048576.bin",
        &["Range: bytes=1000-400999"],
    ));
    assert_eq!(part.status, 206);
    assert!(part.body == content(7, 1 << 20)[1_000..401_000]);
    assert_eq!(
        client.ask_through(&request("GET", "/nothing", &[])).status,
        404
    );
    assert_eq!(
        client.ask_through(&request("GET", "/hello.txt", &[])).body,
        HELLO
    );
}

/// The request that nobody may see, hidden in what is none.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Heads of a POST and bodies behind them, known from attacks on chains of servers.
fn ambiguous() -> Vec<String> {
    let length = HIDDEN.len();
    let framings = [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked",
            length + 5
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}",
            length + 5
        ),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        format!("Content-Length: 0, {length}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: {length}\u{b}"),
        format!("Content-Length : {length}"),
        format!("Content-Length\t: {length}"),
        format!("X: y\nContent-Length: {length}"),
        format!("X: y\rContent-Length: {length}"),
        format!("X: y\r\n Content-Length: {length}"),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: \"chunked\"".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding: chunked\0".to_owned(),
        "Transfer-Encoding: \u{b}chunked".to_owned(),
        "Transfer-Encoding:\r\n chunked".to_owned(),
        "Transfer_Encoding\n: chunked".to_owned(),
        "X: y\nTransfer-Encoding: chunked".to_owned(),
        " Transfer-Encoding: chunked".to_owned(),
    ];
    let mut requests: Vec<String> = framings
        .iter()
        .map(|lines| format!("POST /first HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n0\r\n\r\n{HIDDEN}"))
        .collect();
    let chunks = [
        format!("0x0\r\n\r\n{HIDDEN}"),
        format!("0\n\n{HIDDEN}"),
        format!("0;a\n\r\n{HIDDEN}"),
        format!("-0\r\n\r\n{HIDDEN}"),
        format!("1\r\na\n0\r\n\r\n{HIDDEN}"),
        format!("1\r\nab\r\n0\r\n\r\n{HIDDEN}"),
        format!("0\r\nX: y\n\r\n{HIDDEN}"),
        format!("00000000000000000000000\r\n\r\n{HIDDEN}"),
        format!("10000000000000000\r\n\r\n{HIDDEN}"),
    ];
    let chunked = "POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    requests.extend(chunks.iter().map(|body| format!("{chunked}{body}")));
    requests.extend([
        format!("POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("GET /first\r\nHost: h\r\n\r\n{HIDDEN}"),
        format!("GET /first HTTP/1.1\nHost: h\n\n{HIDDEN}"),
        format!("GET /first HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}"),
        format!("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}"),
        format!("GET /first HTTP/1.1\r\nHost: h\r\nHost: x\r\n\r\n{HIDDEN}"),
    ]);
    requests
}

/// Requests whose content looks like one, and is content.
fn unambiguous() -> Vec<String> {
    let length = HIDDEN.len();
    let sized = |line: &str| {
        format!("POST /first HTTP/1.1\r\nHost: h\r\n{line}Content-Length: {length}\r\n\r\n{HIDDEN}")
    };
    let chunked = |line: &str| {
        format!(
            "POST /first HTTP/1.1\r\nHost: h\r\n{line}Transfer-Encoding: chunked\r\n\r\n\
             {length:x};x=\"0\"\r\n{HIDDEN}\r\n0\r\nContent-Length: 3\r\n\r\n"
        )
    };
    vec![
        sized(""),
        sized("Connection: Content-Length\r\n"),
        sized("Connection: close, Content-Length\r\n").replace("close, ", ""),
        sized("Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        sized("Content-Length-X: 0\r\n"),
        sized("").replace("POST", "GET"),
        sized("").replace("POST", "DELETE"),
        chunked(""),
        chunked("Connection: Transfer-Encoding\r\n"),
        chunked("").replace("chunked", "ChUnKeD"),
        chunked("").replace("Transfer-Encoding: ", "Transfer-Encoding:\t"),
    ]
}

/// Each is refused, or goes on as the one request that it is here.
fn smuggled_requests(io: Io) {
    if !peers::has("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_nginx, address) = nginx(
        folder.path(),
        "",
        "location / { return 200 $request_method; }",
    );
    let server = upstream::run(io, &upstream::config(&[address], ""));
    for text in ambiguous() {
        let mut client = server.connect();
        client.send(&text);
        let response = client.passed_response_to("GET");
        assert!(
            (400..600).contains(&response.status),
            "{text:?}: {}",
            response.status
        );
        assert!(response.closes(), "{text:?}");
        client.expect_end();
    }
    for text in unambiguous() {
        let mut client = server.connect();
        client.send(format!("{text}{}", request("GET", "/after", &[])));
        let method = text.split(' ').next().unwrap();
        assert_eq!(
            client.passed_response_to("GET").body,
            method.as_bytes(),
            "{text:?}"
        );
        assert_eq!(client.passed_response_to("GET").body, b"GET", "{text:?}");
    }
    let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert!(!log.contains("smuggled"), "{log}");
    let count = |path: &str| log.lines().filter(|line| line.contains(path)).count();
    assert_eq!(count(" /after "), unambiguous().len());
    server.stop();
}

/// What Node's own server does: trailers, hints, events, and an echo.
const NODE: &str = r#"
const server = require('http').createServer((request, response) => {
  if (request.url === '/trailers') {
    response.writeHead(200, { Trailer: 'X-Sum' });
    response.write('one'); response.addTrailers({ 'X-Sum': '3' }); response.end('two');
  } else if (request.url === '/hints') {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' }, () => response.end('hinted'));
  } else if (request.url === '/refuse') {
    response.writeHead(413, { Connection: 'close' }); response.end('no');
  } else {
    request.pipe(response);
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"#;

/// A program that prints its port, and the proxy before it.
fn before(io: Io, mut command: Command, port: impl Fn(&str) -> Option<u16>) -> (Program, Server) {
    let mut program = Program::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let output = BufReader::new(program.0.stdout.take().unwrap());
    let port = output
        .lines()
        .find_map(|line| port(&line.unwrap()))
        .expect("a port");
    let config = upstream::config(
        &[format!("127.0.0.1:{port}")],
        "[limits]\nbody_bytes = \"8MiB\"",
    );
    (program, upstream::run(io, &config))
}

fn node(io: Io) {
    if !peers::has("node") {
        return;
    }
    let mut command = Command::new("node");
    command.args(["-e", NODE]);
    let (_node, server) = before(io, command, |line| line.parse().ok());
    let mut client = server.connect();
    let trailed = client.ask_through(&request("GET", "/trailers", &[]));
    assert_eq!(
        (&trailed.body[..], trailed.field("X-Sum")),
        (&b"onetwo"[..], Some("3"))
    );
    client.send(request("GET", "/hints", &[]));
    let hints = client.head();
    assert_eq!(
        (hints.status, hints.field("Link")),
        (103, Some("</a.css>; rel=preload"))
    );
    assert_eq!(client.passed_response_to("GET").body, b"hinted");
    for bytes in [1, 1_000, 70_000, 5 << 20] {
        echo(&mut client, &content(3, bytes));
    }
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("abc");
    assert_eq!(client.passed_response_to("PUT").body, b"abc");
    client.send("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n");
    let _ = client.try_send(content(4, 1 << 20));
    assert_eq!(client.passed_response_to("POST").status, 413);
}

fn echo(client: &mut Client, body: &[u8]) {
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let (first, rest) = body.split_at(body.len() / 2);
    // It answers while it is still being asked.
    let mut sender = client.stream().try_clone().unwrap();
    let pieces = [first.to_vec(), rest.to_vec()];
    let sending = std::thread::spawn(move || {
        for piece in pieces {
            std::io::Write::write_all(&mut sender, &piece).unwrap();
        }
    });
    let response = client.passed_response_to("POST");
    sending.join().unwrap();
    assert!(response.body == body, "{} bytes", body.len());
    // Its answer had begun before the body was read.
    if response.closes() {
        let address = client.stream().peer_addr().unwrap();
        *client = Client::connect(address);
    }
}

fn python(io: Io) {
    if !peers::has("python3") {
        return;
    }
    let tree = Tree::new();
    tree.write("large.bin", content(5, 1 << 20));
    let mut command = Command::new("python3");
    command.args([
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
    ]);
    command.arg(tree.root());
    // "Serving HTTP on 127.0.0.1 port 1234 (http://127.0.0.1:1234/) ..."
    let port = |line: &str| line.split(" port ").nth(1)?.split(' ').next()?.parse().ok();
    let (_python, server) = before(io, command, port);
    let mut client = server.connect();
    for _ in 0..3 {
        assert!(client.get("/large.bin").body == content(5, 1 << 20));
        assert_eq!(client.get("/hello.txt").body, HELLO);
        assert_eq!(
            client
                .ask_through(&request("HEAD", "/hello.txt", &[]))
                .status,
            200
        );
        assert_eq!(client.get("/nothing").status, 404);
    }
}
