//! What is in a directory, as a page and as data.

use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::client::{Client, Response, request};
use crate::peers;
use crate::server::{Io, Server, eventually, on_both_drivers, on_every_driver};
use crate::tree::Tree;

on_every_driver!(
    a_page,
    data,
    only_when_it_is_wanted,
    only_what_would_be_served,
    hostile_names,
    conditions_and_codings,
    changes_show,
    nothing_to_list,
    a_large_directory,
    a_crowd,
    without_a_cache,
    fetched_whole_by_wget,
);

mod in_a_browser {
    super::on_both_drivers!(seen_in_a_browser);
    use super::seen_in_a_browser;
}

fn serve(io: Io, tree: &Tree, flags: &[&str]) -> Server {
    let flags = [&["--browse"], flags].concat();
    Server::serve(io, &tree.root(), &flags)
}

fn ask(client: &mut Client, target: &str, fields: &[&str]) -> Response {
    client.ask(&request("GET", target, fields))
}

fn json(server: &Server, target: &str) -> serde_json::Value {
    let response = ask(&mut server.connect(), target, &["Accept: application/json"]);
    assert_eq!(response.status, 200, "{target}");
    assert_eq!(response.field("Content-Type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

fn names(server: &Server, target: &str) -> Vec<String> {
    let listing = json(server, target);
    let entries = listing["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Where the links of a page lead, as they are written.
fn links(page: &Response) -> Vec<String> {
    let text = String::from_utf8(page.body.clone()).expect("a page is UTF-8");
    let links = text.split("<a href=\"").skip(1);
    links
        .map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"))
        .collect()
}

fn a_page(io: Io) {
    let tree = Tree::empty();
    tree.write("docs/b.txt", "12345");
    tree.write("docs/a b.txt", "1");
    tree.write("docs/sub/x", "x");
    let server = serve(io, &tree, &[]);
    let moved = server.get("/docs?sort=size");
    assert_eq!(
        (moved.status, moved.field("Location")),
        (301, Some("/docs/?sort=size"))
    );
    for _ in 0..2 {
        let page = ask(&mut server.connect(), "/docs/", &[]);
        assert_eq!(page.status, 200);
        assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.field("Cache-Control"), Some("no-cache"));
        assert!(page.field("Vary").unwrap().starts_with("Accept"));
        assert_eq!(page.field("X-Content-Type-Options"), Some("nosniff"));
        let policy = page.field("Content-Security-Policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"));
        let own = links(&page);
        for link in ["./sub/", "./a%20b.txt", "./b.txt", "../"] {
            assert!(own.iter().any(|known| known == link), "{link} {own:?}");
        }
        let head = server.connect().ask(&request("HEAD", "/docs/", &[]));
        assert_eq!(head.lasting_fields(), page.lasting_fields());
    }
    // Every link of it leads somewhere.
    for link in links(&server.get("/docs/")) {
        let target = match link.strip_prefix("../") {
            Some(rest) => format!("/{rest}"),
            None => format!("/docs/{}", link.strip_prefix("./").unwrap()),
        };
        assert_eq!(server.get(&target).status, 200, "{link}");
    }
    let order = |query: &str| {
        let links = links(&server.get(&format!("/docs/{query}")));
        links
            .into_iter()
            .filter(|link| link.ends_with(".txt"))
            .collect::<Vec<_>>()
    };
    assert_eq!(order(""), ["./a%20b.txt", "./b.txt"]);
    assert_eq!(order("?sort=size&order=desc"), ["./b.txt", "./a%20b.txt"]);
    assert_eq!(order("?sort=name&order=desc"), ["./b.txt", "./a%20b.txt"]);
    assert_eq!(order("?order=%3Cscript%3E"), ["./a%20b.txt", "./b.txt"]);
}

fn data(io: Io) {
    let tree = Tree::empty();
    tree.write("a.txt", "12345");
    std::fs::create_dir(tree.path("sub")).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(784_111_777);
    for name in ["a.txt", "sub"] {
        std::fs::File::open(tree.path(name))
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    let server = serve(io, &tree, &[]);
    let modified = "1994-11-06T08:49:37Z";
    let expected = serde_json::json!({
        "path": "/",
        "truncated": false,
        "entries": [
            { "name": "sub", "type": "directory", "url": "./sub/", "modified": modified },
            { "name": "a.txt", "type": "file", "url": "./a.txt", "size": 5, "modified": modified },
        ],
    });
    assert_eq!(json(&server, "/"), expected);
    // Both are kept, and neither is taken for the other.
    let mut client = server.connect();
    for _ in 0..2 {
        let page = ask(
            &mut client,
            "/",
            &["Accept: text/html, application/json;q=0.9"],
        );
        assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
        let data = ask(
            &mut client,
            "/",
            &["Accept: text/html;q=0.5, application/json"],
        );
        assert_eq!(data.field("Content-Type"), Some("application/json"));
        assert_ne!(page.field("ETag"), data.field("ETag"));
    }
}

fn only_when_it_is_wanted(io: Io) {
    let tree = Tree::empty();
    tree.write("bare/x", "x");
    tree.write("full/index.html", "an index");
    let server = serve(io, &tree, &[]);
    assert_eq!(server.get("/full/").body, b"an index");
    assert_eq!(server.get("/bare/").status, 200);
    let server = Server::serve(io, &tree.root(), &[]);
    for target in ["/", "/bare/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    // With an application the directory goes before it.
    tree.write("index.html", "the page");
    let server = serve(io, &tree, &["--spa"]);
    assert_eq!(server.get("/bare").field("Location"), Some("/bare/"));
    assert!(links(&server.get("/bare/")).contains(&"./x".to_owned()));
    assert_eq!(server.get("/nothing/").body, b"the page");
}

fn only_what_would_be_served(io: Io) {
    let tree = Tree::empty();
    std::fs::write(tree.outside().join("secret"), "secret").unwrap();
    for name in ["file", ".hidden", ".git/config", ".well-known/x", "sub/y"] {
        tree.write(name, "x");
    }
    for (target, name) in [
        ("file", "link"),
        ("sub", "folder link"),
        ("../secret", "out"),
        ("/etc/passwd", "absolute"),
        ("..", "up"),
        ("nothing", "dangling"),
        ("loop", "loop"),
    ] {
        symlink(target, tree.path(name)).unwrap();
    }
    symlink("../file", tree.path("sub/inside")).unwrap();
    let server = serve(io, &tree, &[]);
    let listed = names(&server, "/");
    assert_eq!(
        listed,
        [".well-known", "folder link", "sub", "file", "link"]
    );
    for name in listed {
        let target = format!("/{}", name.replace(' ', "%20"));
        assert!([200, 301].contains(&server.get(&target).status), "{name}");
    }
    assert_eq!(names(&server, "/sub/"), ["inside", "y"]);
    assert_eq!(names(&server, "/folder%20link/"), ["inside", "y"]);
    for target in ["/up/", "/loop/", "/dangling/", "/.git/", "/file/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let server = serve(io, &tree, &["--symlinks", "deny", "--show-dotfiles"]);
    let all = [".git", ".well-known", "sub", ".hidden", "file"];
    assert_eq!(names(&server, "/"), all);
    assert_eq!(server.get("/folder%20link/").status, 404);
}

/// What is in names is never markup, and each link leads to the file that it stands for.
fn hostile_names(io: Io) {
    let tree = Tree::empty();
    let long = "ü".repeat(127) + "x";
    let hostile: [&[u8]; 12] = [
        b"<script>alert(1)<",
        b"\"><img src=x onerror=alert(1)>",
        b"'quotes' & \"quotes\"",
        b"new\nline\r\nX-Injected: yes",
        b"not utf-8 \xff\xfe\xc3",
        b"javascript:alert(1)",
        b"percent%2e%2e%2f%00",
        b"question?a=b#fragment",
        "turned \u{202e}gpj.exe".as_bytes(),
        b"\x01\x1b[31m\x7f",
        b" spaces ",
        long.as_bytes(),
    ];
    for name in hostile {
        tree.write(name, name);
    }
    tree.write(b"back\\slash", "not to be had");
    let server = serve(io, &tree, &[]);
    let page = server.get("/");
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(
        !text.contains("<script") && !text.contains("<img"),
        "{text}"
    );
    let odd = |character: char| character.is_control() && character != '\n';
    assert!(!text.contains(odd) && !text.contains('\u{202e}'), "{text}");
    assert!(!text.contains("X-Injected: yes\n"));
    let links = links(&page);
    let files: Vec<&String> = links
        .iter()
        .filter(|link| !link.contains('?') && *link != "./")
        .collect();
    assert_eq!(files.len(), hostile.len(), "{files:?}");
    let mut found: Vec<Vec<u8>> = files
        .iter()
        .map(|link| {
            server
                .get(&format!("/{}", link.strip_prefix("./").unwrap()))
                .body
        })
        .collect();
    found.sort();
    let mut expected: Vec<Vec<u8>> = hostile.iter().map(|name| name.to_vec()).collect();
    expected.sort();
    assert_eq!(found, expected);
    let listing = json(&server, "/");
    assert_eq!(
        listing["entries"].as_array().unwrap().len(),
        hostile.len() + 1
    );
}

fn conditions_and_codings(io: Io) {
    let tree = Tree::empty();
    for number in 0..100 {
        tree.write(format!("a file with a name {number}.txt"), "x");
    }
    let server = serve(io, &tree, &["--security-headers", "--cors", "*"]);
    let mut client = server.connect();
    let page = ask(&mut client, "/", &[]);
    let tag = page.field("ETag").unwrap();
    assert!(tag.starts_with('"'), "{tag}");
    assert_eq!(page.field("Last-Modified"), None);
    let same = ask(&mut client, "/", &[&format!("If-None-Match: {tag}")]);
    assert_eq!((same.status, same.field("ETag")), (304, Some(tag)));
    let part = ask(&mut client, "/", &["Range: bytes=0-14"]);
    assert_eq!(
        (part.status, part.field("Accept-Ranges")),
        (200, Some("none"))
    );
    assert!(part.body == page.body);
    // Its own policy in place of the preset's, and the rest of that.
    let policy = page.field("Content-Security-Policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(page.field("X-Frame-Options"), Some("SAMEORIGIN"));
    assert_eq!(page.field("Access-Control-Allow-Origin"), Some("*"));
    let coded = ask(&mut client, "/", &["Accept-Encoding: gzip"]);
    assert_eq!(coded.field("Content-Encoding"), Some("gzip"));
    assert_eq!(coded.field("Vary"), Some("Accept, Accept-Encoding"));
    assert!(coded.body.len() * 3 < page.body.len());
    assert_ne!(coded.field("ETag"), Some(tag));
    for method in ["POST", "PUT", "DELETE"] {
        let response = client.ask(&request(method, "/", &["Content-Length: 0"]));
        assert_eq!(response.status, 405, "{method}");
    }
}

fn changes_show(io: Io) {
    let tree = Tree::empty();
    tree.write("a", "x");
    let server = serve(io, &tree, &[]);
    assert_eq!(names(&server, "/"), ["a"]);
    let before = server.get("/").field("ETag").unwrap().to_owned();
    tree.write("b", "x");
    eventually("the new file is listed", || {
        (names(&server, "/") == ["a", "b"]).then_some(())
    });
    eventually("the page is another", || {
        (server.get("/").field("ETag") != Some(&before)).then_some(())
    });
    tree.write("a", "longer than before");
    eventually("the size is listed", || {
        (json(&server, "/")["entries"][0]["size"] == 18).then_some(())
    });
    tree.write("index.html", "an index");
    eventually("the index goes before", || {
        (server.get("/").body == b"an index").then_some(())
    });
}

fn nothing_to_list(io: Io) {
    let tree = Tree::empty();
    let server = serve(io, &tree, &[]);
    assert_eq!(json(&server, "/")["entries"], serde_json::json!([]));
    let page = server.get("/");
    assert!(String::from_utf8_lossy(&page.body).contains("0 folders, 0 files"));
    for target in ["/nothing/", "/nothing", "/a/b/c/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    let long = format!("/{}/", "x".repeat(300));
    assert_eq!(server.get(&long).status, 404);
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir(tree.path("shut")).unwrap();
        let none = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(tree.path("shut"), none).unwrap();
        assert_eq!(server.get("/shut/").status, 403);
    }
}

/// A directory costs no more than the bound, however much is in it.
fn a_large_directory(io: Io) {
    let tree = Tree::empty();
    std::fs::create_dir(tree.path("large")).unwrap();
    for number in 0..3000 {
        std::fs::File::create(tree.path(format!("large/{number}"))).unwrap();
    }
    let server = serve(io, &tree, &["--listing-entries", "1000"]);
    let listing = json(&server, "/large/");
    assert_eq!(listing["truncated"], true);
    assert_eq!(listing["entries"].as_array().unwrap().len(), 1000);
    let page = server.get("/large/");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(text.contains("more than 1,000 entries"));
    assert_eq!(
        text.matches("<tr>").count(),
        1001,
        "with the head of the table"
    );
    let server = serve(io, &tree, &["--listing-entries", "3000"]);
    assert_eq!(json(&server, "/large/")["truncated"], false);
}

/// A listing that a crowd asks for is made a few times, not once for each.
fn a_crowd(io: Io) {
    let tree = Tree::empty();
    for number in 0..2000 {
        std::fs::File::create(tree.path(number.to_string())).unwrap();
    }
    let flags = [
        "--workers",
        "1",
        "--blocking-threads",
        "1",
        "--blocking-queue",
        "8",
    ];
    let server = serve(io, &tree, &flags);
    // That there is no index is known, so what comes is the listing alone.
    assert_eq!(names(&server, "/").len(), 2000);
    let mut clients: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", &[]));
    }
    // One thread and a queue of eight would refuse most of them at once.
    let pages: Vec<Response> = clients.iter_mut().map(Client::response).collect();
    for page in &pages {
        assert_eq!(page.status, 200);
        assert!(page.body == pages[0].body);
    }
}

fn without_a_cache(io: Io) {
    let tree = Tree::empty();
    tree.write("a", "x");
    let server = serve(io, &tree, &["--cache-bytes", "0"]);
    let mut client = server.connect();
    let first = ask(&mut client, "/", &[]);
    let second = ask(&mut client, "/", &[]);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.lasting_fields(), second.lasting_fields());
    tree.write("b", "x");
    assert_eq!(names(&server, "/"), ["a", "b"]);
}

/// The headings that sort were links, which wget follows: it had each listing five times.
fn fetched_whole_by_wget(io: Io) {
    if !peers::has("wget") {
        return;
    }
    let tree = Tree::empty();
    for name in ["a.txt", "sub/b.txt", "sub/deep/c.txt"] {
        tree.write(name, name);
    }
    let server = serve(io, &tree, &[]);
    let target = tree.outside().join("copy");
    let mut wget = std::process::Command::new("wget");
    wget.args(["--recursive", "--no-verbose", "--no-host-directories"]);
    wget.args(["-e", "robots=off", "--directory-prefix"]);
    wget.arg(&target)
        .arg(format!("http://{}/", server.address()));
    let output = peers::run(&mut wget, Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("URL:").count(), 6, "{said}");
    assert!(!said.contains('?'), "{said}");
    let copied = std::fs::read(target.join("sub/deep/c.txt")).unwrap();
    assert_eq!(copied, b"sub/deep/c.txt");
}

/// The policy of the page lets its style in, and nothing of a name runs.
fn seen_in_a_browser(io: Io) {
    let tree = Tree::empty();
    if peers::browser(tree.outside()).is_none() {
        return;
    }
    tree.write("<script>document.title='ran'<", "x");
    tree.write("\"><img src=x onerror=\"document.title='ran'\">", "x");
    tree.write("sub/x", "x");
    let server = serve(io, &tree, &[]);
    let picture = |theme: &str| {
        let picture = tree.outside().join(format!("{theme}.png"));
        let mut command = peers::browser(tree.outside()).unwrap();
        command.arg("--dump-dom");
        command.arg(format!("--blink-settings=preferredColorScheme={theme}"));
        command.arg(format!("--screenshot={}", picture.display()));
        command.arg(format!("http://{}/", server.address()));
        let output = peers::run(&mut command, Duration::from_secs(60));
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(page.contains("<title>Files</title>"), "{page}");
        std::fs::read(picture).unwrap_or_default()
    };
    // Chromium's numbers for the schemes. Without its style the page would look the same in both.
    let (dark, light) = (picture("0"), picture("1"));
    assert!(dark.starts_with(b"\x89PNG\r\n") && light.starts_with(b"\x89PNG\r\n"));
    assert!(dark != light, "the style isn't let in");
}
