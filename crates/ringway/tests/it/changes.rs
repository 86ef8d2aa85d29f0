//! Files that change while they are sent: the old bytes, or an honest cut; never foreign bytes.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::client::{Client, Response, request};
use crate::server::{
    Io, Server, command, configured, eventually, on_both_drivers, promptly, without,
};
use crate::slowness::thin_client;
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    deleted,
    replaced,
    grown,
    grown_again_and_again,
    grown_and_overwritten,
    link_swapped,
    folder_swapped,
    truncated,
    truncated_to_nothing,
    overwritten,
    permission_lost,
    deleted_and_asked_for_no_more,
    deleted_and_asked_for,
    replaced_by_one_of_the_same_time_and_size,
);

/// Far more than the sockets' buffers hold.
const LENGTH: usize = 12 << 20;
/// How much has been read when the file changes.
const READ: usize = 256 << 10;

/// Beyond a link nothing is watched: there a change shows within the interval, which is a second
/// unless it is said, and a moment.
const SITE: &str = "[listen.main]\naddress = \"127.0.0.1:0\"\nfiles = \"site\"\n\
                    [files.site]\nroot = \"root\"\nrevalidate_interval = \"500ms\"\n\
                    precompressed = [\"gzip\"]\ncompress = [\"gzip\"]\n";

/// A download that has begun.
struct Download {
    tree: Tree,
    server: Server,
    client: Client,
    head: Response,
}

impl Download {
    fn begin(io: Io, tree: Tree, target: &str) -> Download {
        let server = Server::start(configured(io, &tree, SITE));
        let mut client = thin_client(&server);
        client.send(request("GET", target, &[]));
        let head = client.head();
        assert_eq!(head.field("Content-Length"), Some(&*LENGTH.to_string()));
        assert!(client.take(READ) == old()[..READ]);
        Download {
            tree,
            server,
            client,
            head,
        }
    }

    fn of_file(io: Io) -> Download {
        let tree = Tree::new();
        tree.write("file.bin", old());
        Download::begin(io, tree, "/file.bin")
    }

    /// The rest of the body: all of it, or what came before a cut.
    fn receive(&mut self) -> Vec<u8> {
        self.receive_at_most(LENGTH - READ)
    }

    fn receive_at_most(&mut self, length: usize) -> Vec<u8> {
        let mut rest = Vec::new();
        while rest.len() < length {
            match self.client.sip(length - rest.len()) {
                Ok(piece) if !piece.is_empty() => rest.extend_from_slice(&piece),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("never cut"),
                Ok(_) | Err(_) => break,
            }
        }
        rest
    }

    /// Checks that the old file comes whole, and that the connection goes on.
    fn expect_old(mut self) {
        let rest = self.client.take(LENGTH - READ);
        assert!(rest == old()[READ..], "not what the head promised");
        assert_eq!(self.client.get("/hello.txt").body, HELLO);
        self.server.stop();
    }
}

/// Who was let in stays, as with every open file; who comes later doesn't.
fn permission_lost(io: Io) {
    use std::os::unix::fs::PermissionsExt as _;
    let tree = Tree::new();
    tree.write("file.bin", old());
    let ways_around = ["dac_override", "dac_read_search"];
    let Some(command) = without(&ways_around, command(io, &tree.root(), &[])) else {
        return;
    };
    let server = Server::start(command);
    assert_eq!(server.get("/hello.txt").body, HELLO);
    let mut client = thin_client(&server);
    client.send(request("GET", "/file.bin", &[]));
    assert_eq!(client.head().status, 200);
    assert!(client.take(READ) == old()[..READ]);
    for name in ["file.bin", "hello.txt"] {
        let none = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(tree.path(name), none).unwrap();
    }
    for name in ["/file.bin", "/hello.txt"] {
        promptly("what is kept of it is no longer answered", || {
            let response = server.get(name);
            (response.status == 403).then_some(())
        });
    }
    assert!(client.take(LENGTH - READ) == old()[READ..]);
    server.stop();
}

fn old() -> Vec<u8> {
    content(1, LENGTH)
}

fn deleted(io: Io) {
    let download = Download::of_file(io);
    std::fs::remove_file(download.tree.path("file.bin")).unwrap();
    download.expect_old();
}

fn replaced(io: Io) {
    let download = Download::of_file(io);
    download.tree.write("new.bin", content(2, LENGTH));
    std::fs::rename(
        download.tree.path("new.bin"),
        download.tree.path("file.bin"),
    )
    .unwrap();
    // Somebody who asks now gets the new one, with a tag of its own.
    let tag = download.head.field("ETag").unwrap().to_owned();
    let new = download.server.get("/file.bin");
    assert!(new.body == content(2, LENGTH));
    assert_ne!(new.field("ETag"), Some(&*tag));
    download.expect_old();
}

fn append(path: &std::path::Path, bytes: &[u8]) {
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

/// Appended to, as logs are: what was promised is still there, and is sent.
fn grown(io: Io) {
    let mut download = Download::of_file(io);
    append(&download.tree.path("file.bin"), &content(3, 1 << 20));
    let rest = download.client.take(LENGTH - READ);
    assert!(rest == old()[READ..], "not what the head promised");
    let again = download.client.get("/file.bin").body;
    assert!(again == [old(), content(3, 1 << 20)].concat());
    download.server.stop();
}

/// A log that is written to all the while can be fetched all the same.
fn grown_again_and_again(io: Io) {
    let mut download = Download::of_file(io);
    let path = download.tree.path("file.bin");
    let mut rest = Vec::new();
    while rest.len() < LENGTH - READ {
        append(&path, b"another line\n");
        rest.extend_from_slice(
            &download
                .client
                .take((LENGTH - READ - rest.len()).min(1 << 20)),
        );
    }
    assert!(rest == old()[READ..], "not what the head promised");
    assert_eq!(download.client.get("/hello.txt").body, HELLO);
    download.server.stop();
}

/// That it grew before is no excuse for what was written over.
fn grown_and_overwritten(io: Io) {
    let mut download = Download::of_file(io);
    let path = download.tree.path("file.bin");
    append(&path, b"another line\n");
    // More than the sockets' buffers hold: the server has looked at the file since.
    let seen = download.client.take(LENGTH / 2);
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, &content(4, 1000)).unwrap();
    let rest = download.receive_at_most(LENGTH - READ - seen.len());
    assert!(
        seen.len() + rest.len() < LENGTH - READ,
        "a clean end of a mixture"
    );
    download.server.expect_alive("/hello.txt", HELLO);
    download.server.stop();
}

fn link_swapped(io: Io) {
    let tree = Tree::new();
    tree.write("old.bin", old());
    tree.write("new.bin", content(2, LENGTH));
    symlink("old.bin", tree.path("link")).unwrap();
    let download = Download::begin(io, tree, "/link");
    symlink("new.bin", download.tree.path("other")).unwrap();
    std::fs::rename(download.tree.path("other"), download.tree.path("link")).unwrap();
    promptly("the new file is served", || {
        (download.server.get("/link").body == content(2, LENGTH)).then_some(())
    });
    download.expect_old();
}

/// How sites are deployed: the folder itself is another one at once.
fn folder_swapped(io: Io) {
    let tree = Tree::new();
    tree.write("release-1/file.bin", old());
    tree.write("release-2/file.bin", content(2, LENGTH));
    symlink("release-1", tree.path("current")).unwrap();
    let download = Download::begin(io, tree, "/current/file.bin");
    symlink("release-2", download.tree.path("next")).unwrap();
    std::fs::rename(download.tree.path("next"), download.tree.path("current")).unwrap();
    std::fs::remove_dir_all(download.tree.path("release-1")).unwrap();
    promptly("the new folder is served", || {
        (download.server.get("/current/file.bin").body == content(2, LENGTH)).then_some(())
    });
    download.expect_old();
}

/// Checks that a body whose rest doesn't exist any more is cut, soon and without a spin.
fn check_truncated(io: Io, length: usize) {
    let mut download = Download::of_file(io);
    let (old, before) = (old(), download.server.cpu_time());
    let path = download.tree.path("file.bin");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length as u64).unwrap();
    let rest = download.receive();
    assert!(
        rest.len() < LENGTH - READ,
        "a clean end of a file that is cut"
    );
    for (index, byte) in rest.iter().enumerate() {
        // What sendfile has queued are the pages themselves, of which the kernel clears some that
        // lie behind the new end. What was before it is as it was.
        let is_cleared = *byte == 0 && READ + index >= length;
        assert!(
            *byte == old[READ + index] || is_cleared,
            "a foreign byte at {index}"
        );
    }
    let used = download.server.cpu_time() - before;
    assert!(used < Duration::from_secs(1), "{used:?} for a cut");
    download.server.expect_alive("/hello.txt", HELLO);
    assert!(download.server.get("/file.bin").body == old[..length]);
    download.server.stop();
}

fn truncated(io: Io) {
    check_truncated(io, 1 << 20);
}

fn truncated_to_nothing(io: Io) {
    check_truncated(io, 0);
}

/// Written over in place, while most of it was still to be handed to the kernel: what comes is of this
/// file, old or new (what was queued by then is the file's pages), and is cut.
fn overwritten(io: Io) {
    let mut download = Download::of_file(io);
    let (old, new) = (old(), content(4, LENGTH));
    let path = download.tree.path("file.bin");
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, &new).unwrap();
    let rest = download.receive();
    assert!(rest.len() < LENGTH - READ, "a clean end of a mixture");
    // By pieces first: a test build is slow with single bytes.
    for (index, piece) in rest.chunks(64).enumerate() {
        let at = READ + index * 64..READ + index * 64 + piece.len();
        let (old, new) = (&old[at.clone()], &new[at]);
        let is_either = |(index, &byte): (usize, &u8)| byte == old[index] || byte == new[index];
        let sound = piece == old || piece == new || piece.iter().enumerate().all(is_either);
        assert!(sound, "a foreign byte");
    }
    download.server.expect_alive("/hello.txt", HELLO);
    download.server.stop();
}

/// Files that are kept open: too large for memory, and one beside its source.
fn open_files(io: Io) -> (Tree, Server, Vec<String>) {
    let tree = Tree::new();
    let mut names: Vec<String> = (0..20).map(|number| format!("{number}.bin")).collect();
    for (seed, name) in names.iter().enumerate() {
        tree.write(name, content(seed as u64, 300_000));
    }
    tree.write("page.html", "<!doctype html>");
    tree.write("page.html.gz", content(30, 300_000));
    names.push("page.html".to_owned());
    let server = Server::start(configured(io, &tree, SITE));
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    // The second time they are watched, and kept.
    for _ in 0..2 {
        for client in &mut clients {
            for name in &names {
                let get = request("GET", &format!("/{name}"), &["Accept-Encoding: gzip"]);
                assert_eq!(client.ask(&get).body.len(), 300_000, "{name}");
            }
        }
    }
    assert!(server.descriptors() > names.len());
    assert_eq!(server.nameless_files(), 0);
    for name in &names {
        std::fs::remove_file(tree.path(name)).unwrap();
    }
    std::fs::remove_file(tree.path("page.html.gz")).unwrap();
    assert!(server.nameless_files() > 0, "nothing was kept open");
    (tree, server, names)
}

/// The disk space of deleted files was taken for as long as the server ran.
fn deleted_and_asked_for_no_more(io: Io) {
    let (_tree, server, _) = open_files(io);
    eventually("deleted files are closed", || {
        (server.nameless_files() == 0).then_some(())
    });
    server.stop();
}

fn deleted_and_asked_for(io: Io) {
    let (_tree, server, names) = open_files(io);
    eventually("deleted files are closed", || {
        for name in &names {
            server.get(&format!("/{name}"));
        }
        (server.nameless_files() == 0).then_some(())
    });
    for name in names {
        assert_eq!(server.get(&format!("/{name}")).status, 404);
    }
    server.stop();
}

/// As builds have them that are to be reproducible: all times are the same. Clients that had the old
/// file were told that they had the new one, or were given the rest of it.
fn replaced_by_one_of_the_same_time_and_size(io: Io) {
    let tree = Tree::new();
    // In memory, open, compressed when it is asked for, and beside its source.
    let names = ["small.bin", "large.bin", "made.txt", "there.txt"];
    let body = |version: u64, name: &str| match name {
        "small.bin" => content(version, 1000),
        "large.bin" => content(version, 300_000),
        name => format!("{name} of version {version}, again and again\n")
            .repeat(100)
            .into_bytes(),
    };
    let lay = |path: &std::path::Path, bytes: &[u8]| {
        let new = tree.path("new");
        std::fs::write(&new, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&new).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(315_532_800);
        file.set_modified(time).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    let write = |version| {
        for name in names {
            lay(&tree.path(name), &body(version, name));
        }
        lay(&tree.path("there.txt.gz"), &content(version, 700));
    };
    write(1);
    let server = Server::start(configured(io, &tree, SITE));
    let mut client = server.connect();
    let mut ask = |name: &str, fields: &[&str]| {
        let coding = [["Accept-Encoding: gzip"].as_slice(), fields].concat();
        client.ask(&request("GET", &format!("/{name}"), &coding))
    };
    let old: Vec<Response> = names.iter().map(|name| ask(name, &[])).collect();
    write(2);
    for (name, old) in std::iter::zip(names, &old) {
        assert_eq!(old.status, 200, "{name}");
        let tag = old.field("ETag").unwrap();
        let is_old = format!("If-None-Match: {tag}");
        let new = promptly("the new version has another tag", || {
            Some(ask(name, &[&is_old])).filter(|answer| answer.status == 200)
        });
        assert!(
            new.body != old.body && new.field("ETag") != Some(tag),
            "{name}"
        );
        let part = ask(name, &["Range: bytes=5-9", &format!("If-Range: {tag}")]);
        assert!(part.status == 200 && part.body == new.body, "{name}");
        let tag = new.field("ETag").unwrap();
        assert_eq!(
            ask(name, &[&format!("If-None-Match: {tag}")]).status,
            304,
            "{name}"
        );
        let part = ask(name, &["Range: bytes=5-9", &format!("If-Range: {tag}")]);
        assert!(part.status == 206 && part.body == new.body[5..=9], "{name}");
    }
    server.stop();
}
