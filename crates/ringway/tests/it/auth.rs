//! Roots that ask for a password: who is let in, who isn't, and what neither can do to the others.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::client::{Client, Response, request};
use crate::peers;
use crate::server::{Io, Server, eventually, on_every_driver, run_by, without};
use crate::tree::{HELLO, Tree, content};

on_every_driver!(
    right_and_wrong,
    as_a_browser_does,
    hostile_credentials,
    by_curl,
    names_in_the_access_log,
    a_flood_of_wrong_passwords,
    a_flood_has_bounded_memory,
    a_changed_password_file,
    without_remembering,
    with_a_page_of_its_own,
);

/// Of the password "secret", by crypt(3): at a cost that takes no time, and one that takes some
/// tenths of a second.
const QUICK: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
const SLOW: &str = "$2b$13$abcdefghijklmnopqrstuuyd9ipDgNyTEie103vumVuve9x.2WtxW";

/// "alice:secret" in base64, as RFC 7617 has it.
const ALICE: &str = "Authorization: Basic YWxpY2U6c2VjcmV0";
/// "alice:Secret"
const WRONG: &str = "Authorization: Basic YWxpY2U6U2VjcmV0";
/// "bob:secret"
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==";

/// A root for members, and one for everybody at another address.
struct Site {
    tree: Tree,
    server: Server,
}

impl Site {
    /// `members` are lines of the members' table, `others` whole tables.
    fn start(io: Io, members: &str, others: &str) -> Site {
        let tree = Tree::new();
        tree.write("open/hello.txt", "for everybody");
        tree.write("large.bin", content(1, 1 << 20));
        Site::of(io, tree, members, others)
    }

    fn of(io: Io, tree: Tree, members: &str, others: &str) -> Site {
        let text = format!(
            "io = \"{}\"\nworkers = 2\n\
             [listen.members]\naddress = \"127.0.0.1:0\"\nfiles = \"members\"\n\
             [listen.open]\naddress = \"127.0.0.1:0\"\nfiles = \"open\"\n\
             [files.members]\nroot = \"root\"\n{members}\n\
             [files.open]\nroot = \"root/open\"\n{others}\n",
            io.word()
        );
        let file = tree.outside().join("site.toml");
        std::fs::write(&file, text).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
        run.args(["run", "--config"]).arg(&file);
        let run = match io {
            Io::Refused => run_by(peers::refuse_calls(), &["io_uring"], &run),
            Io::Uring | Io::Epoll => run,
        };
        Site {
            tree,
            server: Server::start(run),
        }
    }

    fn of_alice(io: Io) -> Site {
        Site::start(io, &format!("users = \"alice:{QUICK}\""), "")
    }

    fn members(&self) -> Client {
        Client::connect(self.server.addresses(2)[0])
    }

    fn open(&self) -> Client {
        Client::connect(self.server.addresses(2)[1])
    }

    /// The status of a GET with these credentials.
    #[track_caller]
    fn status(&self, credentials: &str) -> u16 {
        let answer = self
            .members()
            .ask(&request("GET", "/hello.txt", &[credentials]));
        answer.status
    }
}

/// Checks that a client is asked who it is, and told nothing else.
#[track_caller]
fn check_asked(answer: &Response) {
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.field("WWW-Authenticate"),
        Some("Basic realm=\"members\", charset=\"UTF-8\"")
    );
    assert_eq!(answer.field("Cache-Control"), Some("private"));
    for field in ["ETag", "Last-Modified", "Location", "Allow"] {
        assert_eq!(answer.field(field), None);
    }
    assert!(!answer.closes());
}

fn right_and_wrong(io: Io) {
    let site = Site::of_alice(io);
    // On one connection after the other, so on both workers, cold and from memory.
    for _ in 0..8 {
        let mut client = site.members();
        for target in [
            "/hello.txt",
            "/large.bin",
            "/nothing",
            "/open",
            "/.git",
            "/%",
        ] {
            check_asked(&client.get(target));
            check_asked(&client.ask(&request("GET", target, &[WRONG])));
            check_asked(&client.ask(&request("GET", target, &[BOB])));
            let head = client.ask(&request("HEAD", target, &[WRONG]));
            check_asked(&head);
        }
        for _ in 0..2 {
            let answer = client.ask(&request("GET", "/hello.txt", &[ALICE]));
            assert_eq!((answer.status, &answer.body[..]), (200, HELLO));
            assert_eq!(answer.field("Cache-Control"), Some("private, no-cache"));
            assert_eq!(answer.field("WWW-Authenticate"), None);
            let etag = format!("If-None-Match: {}", answer.field("ETag").unwrap());
            check_asked(&client.ask(&request("GET", "/hello.txt", &[&etag])));
            let same = client.ask(&request("GET", "/hello.txt", &[&etag, ALICE]));
            assert_eq!(same.status, 304);
            assert_eq!(same.field("Cache-Control"), Some("private, no-cache"));
        }
        let large = client.ask(&request("GET", "/large.bin", &[ALICE]));
        assert!(large.body == content(1, 1 << 20));
        assert_eq!(large.field("Cache-Control"), Some("private, no-cache"));
        for (target, status) in [("/nothing", 404), ("/open", 301), ("/%", 400)] {
            let answer = client.ask(&request("GET", target, &[ALICE]));
            assert_eq!(answer.status, status, "{target}");
        }
        // What everybody may have says nothing of all this.
        let answer = site.open().get("/hello.txt");
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, &b"for everybody"[..])
        );
        assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
    }
    let mut client = site.members();
    let body = ["Content-Length: 4", "Content-Type: text/plain"];
    let post = |more: &[&str]| request("POST", "/hello.txt", &[&body[..], more].concat()) + "body";
    check_asked(&client.ask(&post(&[])));
    assert_eq!(client.ask(&post(&[ALICE])).status, 405);
    // A browser asks without credentials whether it may ask with them.
    let preflight = [
        "Origin: http://elsewhere",
        "Access-Control-Request-Method: GET",
    ];
    assert_eq!(
        client
            .ask(&request("OPTIONS", "/hello.txt", &preflight))
            .status,
        204
    );
    site.server.stop();
}

/// Asks, is asked back, asks again on the same connection; then six requests at once, and a page
/// with what belongs to it.
fn as_a_browser_does(io: Io) {
    let site = Site::start(
        io,
        &format!("users = \"alice:{SLOW}\"\nrealm = \"A \\\"quoted\\\" \\\\ place\""),
        "",
    );
    let mut first = site.members();
    let asked = first.get("/");
    assert_eq!(asked.status, 401);
    assert_eq!(
        asked.field("WWW-Authenticate"),
        Some("Basic realm=\"A \\\"quoted\\\" \\\\ place\", charset=\"UTF-8\"")
    );
    assert!(!asked.body.is_empty(), "who cancels sees why");
    let mut clients: Vec<Client> = (0..5).map(|_| site.members()).collect();
    clients.push(first);
    for client in &mut clients {
        client.send(request("GET", "/", &[ALICE]));
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    // Pipelined: each with credentials of its own.
    let client = &mut clients[0];
    client.send(
        [ALICE, "X: y", WRONG, ALICE]
            .map(|field| request("GET", "/hello.txt", &[field]))
            .concat(),
    );
    let statuses: Vec<u16> = (0..4).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 401, 401, 200]);
    site.server.stop();
}

fn hostile_credentials(io: Io) {
    let site = Site::of_alice(io);
    let mut client = site.members();
    let long = "A".repeat(8000);
    let mut values: Vec<Vec<u8>> = [
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Basic Og==",
        "Basic YWxpY2U=",
        "Basic YWxpY2U6c2VjcmV0=",
        "Basic YWxpY2U6c2VjcmV",
        "Basic YWxpY2U6c2VjcmV0, Basic YWxpY2U6c2VjcmV0",
        "Bearer YWxpY2U6c2VjcmV0",
        "Digest username=\"alice\"",
        "YWxpY2U6c2VjcmV0",
        "Basic alice:secret",
        &format!("Basic {long}"),
        &long,
    ]
    .map(|value| value.as_bytes().to_vec())
    .to_vec();
    values.push(b"Basic \xff\xfe\xfd".to_vec());
    values.push(b"\xc3\xa9 YWxpY2U6c2VjcmV0".to_vec());
    for value in values {
        let head = b"GET /hello.txt HTTP/1.1\r\nHost: test\r\nAuthorization: ";
        client.send([head, &value[..], b"\r\n\r\n"].concat());
        check_asked(&client.response());
    }
    // The first counts.
    assert_eq!(
        client
            .ask(&request("GET", "/hello.txt", &[WRONG, ALICE]))
            .status,
        401
    );
    // The scheme's case doesn't.
    let shouted = ALICE.replace("Basic", "BASIC");
    assert_eq!(
        client
            .ask(&request("GET", "/hello.txt", &[&shouted]))
            .status,
        200
    );
    site.server.stop();
}

fn by_curl(io: Io) {
    if !peers::has("curl") {
        return;
    }
    let site = Site::of_alice(io);
    let url = format!("http://{}/hello.txt", site.server.address());
    let curl = |user: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--user", user, &url]);
        peers::run(&mut curl, Duration::from_secs(20))
    };
    assert_eq!(curl("alice:secret").stdout, HELLO);
    for user in ["alice:Secret", "alice:", "bob:secret", ":"] {
        let output = curl(user);
        // An answer of 400 or more.
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(22), &b""[..]),
            "{user}"
        );
    }
    site.server.stop();
}

fn names_in_the_access_log(io: Io) {
    let log = "[log]\naccess = \"-\"\naccess_format = '=$user $status $target'\n";
    let site = Site::start(io, &format!("users = \"alice:{QUICK}\""), log);
    let mut client = site.members();
    for target in [
        "/hello.txt?cold",
        "/hello.txt?warm",
        "/large.bin",
        "/nothing",
    ] {
        client.ask(&request("GET", target, &[ALICE]));
    }
    client.ask(&request("GET", "/hello.txt", &[WRONG]));
    client.ask(&request("OPTIONS", "/hello.txt", &[ALICE]));
    client.ask(&(request("POST", "/hello.txt", &[ALICE, "Content-Length: 1"]) + "x"));
    // Where nobody is asked, nobody's claim is believed.
    site.open()
        .ask(&request("GET", "/hello.txt?open", &[ALICE]));
    let output = site.server.stop().stdout;
    let mut lines: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with('='))
        .collect();
    lines.sort_unstable();
    let mut expect = [
        "=alice 200 /hello.txt?cold",
        "=alice 200 /hello.txt?warm",
        "=alice 200 /large.bin",
        "=alice 404 /nothing",
        "=- 401 /hello.txt",
        "=- 204 /hello.txt",
        "=alice 405 /hello.txt",
        "=- 200 /hello.txt?open",
    ];
    expect.sort_unstable();
    assert_eq!(lines, expect);
}

/// `number` credentials that are wrong, none like another.
fn wrong(number: usize) -> String {
    // Three bytes are four characters: "x:" and one that differs.
    let letter = char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[number % 52]);
    format!(
        "Authorization: Basic eDp{letter}{}",
        "eDp4".repeat(number / 52)
    )
}

/// Forty wrong passwords for one slow thread with four places to wait: few are checked, the others
/// hear that there is no place; and all the while everybody's files are served.
fn a_flood_of_wrong_passwords(io: Io) {
    let limits = "[limits]\npassword_threads = 1\npassword_queue = 4\n";
    let site = Site::start(io, &format!("users = \"alice:{SLOW}\""), limits);
    let mut flood: Vec<Client> = (0..40).map(|_| site.members()).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        client.send(request("GET", "/hello.txt", &[&wrong(number)]));
    }
    for number in 0..20 {
        // Cold and warm, small and from disk.
        site.tree
            .write(format!("open/{number}.txt"), content(number, 300_000));
        let mut client = site.open();
        let answer = client.get(&format!("/{number}.txt"));
        assert!(answer.status == 200 && answer.body == content(number, 300_000));
        assert_eq!(client.get("/hello.txt").body, b"for everybody");
    }
    let unanswered = flood
        .iter_mut()
        .filter_map(|client| (!client.is_answered_within(Duration::from_millis(1))).then_some(()));
    assert!(
        unanswered.count() > 0,
        "the flood was over before the others were answered"
    );
    let (mut wrong, mut busy) = (0, 0);
    for client in &mut flood {
        let answer = client.response();
        assert_eq!(answer.field("Retry-After").is_some(), answer.status == 503);
        match answer.status {
            401 => wrong += 1,
            503 => busy += 1,
            status => panic!("{status}"),
        }
    }
    // How many exactly depends on when the thread takes the first.
    assert!(wrong >= 4 && busy >= 20, "{wrong} checked, {busy} refused");
    assert_eq!(site.status(ALICE), 200);
    site.server.stop();
}

/// Sixty wrong passwords for hashes of 19 MiB take the memory of two, not of sixteen threads.
fn a_flood_has_bounded_memory(io: Io) {
    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg\
                        $UbwNcvhR/pppSRNYTpRcuOs8cr2s6f69+GyF1Cbq50Q";
    let site = Site::start(io, &format!("users = \"alice:{HASH}\""), "");
    // The most that the process ever had.
    let peak = || {
        let path = format!("/proc/{}/status", site.server.pid().as_raw_pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = peak();
    let mut flood: Vec<Client> = (0..60).map(|_| site.members()).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        client.send(request("GET", "/hello.txt", &[&wrong(number)]));
    }
    for client in &mut flood {
        assert_eq!(client.response().status, 401);
    }
    let more = peak() - before;
    assert!(more > 19 << 10, "{more} KiB: no hash was computed");
    assert!(more < 80 << 10, "{more} KiB");
    site.server.stop();
}

/// Nobody tells the server: the next check sees the new file. A file with a mistake changes
/// nothing.
fn a_changed_password_file(io: Io) {
    let tree = Tree::new();
    tree.write("open/hello.txt", "for everybody");
    let file: PathBuf = tree.outside().join("users");
    let write = |text: String| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    write(format!("# members\nalice:{QUICK}\n"));
    let site = Site::of(io, tree, "users_file = \"users\"", "");
    assert_eq!((site.status(ALICE), site.status(BOB)), (200, 401));
    write(format!("bob:{QUICK}\n"));
    // Bob's was refused, so his is checked, which ends what was remembered of alice.
    assert_eq!((site.status(BOB), site.status(ALICE)), (200, 401));
    write("bob:plain\n".to_owned());
    assert_eq!((site.status(WRONG), site.status(BOB)), (401, 200));
    eventually("the event log tells of the mistake", || {
        let errors = site.server.errors();
        let told = errors.contains("users:1: user \"bob\": no hash") && !errors.contains("plain\"");
        told.then_some(())
    });
    write(format!("alice:{QUICK}\n"));
    assert_eq!((site.status(ALICE), site.status(BOB)), (200, 401));
    site.server.stop();
}

/// Checked by the user that the server runs as, it is told what hinders that user.
#[test]
fn a_password_file_of_somebody_else() {
    let tree = Tree::new();
    let file = tree.outside().join("users");
    std::fs::write(&file, format!("alice:{QUICK}\n")).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
    let config = tree.outside().join("site.toml");
    let text = "[files.members]\nroot = \"root\"\nusers_file = \"users\"\n";
    std::fs::write(&config, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_ringway"));
    check.args(["check", "--config"]).arg(config);
    let Some(mut check) = without(&["dac_override", "dac_read_search"], check) else {
        return;
    };
    let output = check.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let hint = "= let the user read it that the server runs as\n";
    assert!(
        told.contains("Permission denied") && told.contains(hint),
        "{told}"
    );
}

fn without_remembering(io: Io) {
    let lines = format!("users = \"alice:{QUICK}\"\npassword_cache = \"0s\"");
    let site = Site::start(io, &lines, "");
    let mut client = site.members();
    for _ in 0..3 {
        let answer = client.ask(&request("GET", "/hello.txt", &[ALICE]));
        assert_eq!((answer.status, &answer.body[..]), (200, HELLO));
        check_asked(&client.get("/hello.txt"));
    }
    site.server.stop();
}

/// The site's own page for 401 asks as well, and is no way to anything else.
fn with_a_page_of_its_own(io: Io) {
    let tree = Tree::new();
    tree.write("open/hello.txt", "for everybody");
    tree.write("who.html", "Who are you?");
    let lines = format!(
        "users = \"alice:{QUICK}\"\nerror_pages = [\"401 /who.html\"]\n\
         cors = [\"http://elsewhere\"]\ncache_control = [\"* public, s-maxage=60, max-age=9\"]"
    );
    let site = Site::of(io, tree, &lines, "");
    let mut client = site.members();
    for target in ["/hello.txt", "/who.html", "/nothing"] {
        for credentials in ["X: y", WRONG] {
            let answer = client.ask(&request("GET", target, &[credentials]));
            assert_eq!(
                (answer.status, &answer.body[..]),
                (401, &b"Who are you?"[..])
            );
            let challenge = Some("Basic realm=\"members\", charset=\"UTF-8\"");
            assert_eq!(answer.field("WWW-Authenticate"), challenge);
            assert_eq!(answer.field("Cache-Control"), Some("no-store"));
            assert_eq!(answer.field("ETag"), None);
        }
    }
    // A script of another site that may read the files sees that it has to log in.
    let fields = [WRONG, "Origin: http://elsewhere"];
    let answer = client.ask(&request("GET", "/hello.txt", &fields));
    let origin = answer.field("Access-Control-Allow-Origin");
    assert_eq!((answer.status, origin), (401, Some("http://elsewhere")));
    // No rule makes a cache that others share keep what is for members.
    let answer = client.ask(&request("GET", "/hello.txt", &[ALICE]));
    assert_eq!(answer.field("Cache-Control"), Some("private, max-age=9"));
    site.server.stop();
}
