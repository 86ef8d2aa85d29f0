//! Deployments under load: each response is of one version, and the new one is seen soon.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Response, request};
use crate::server::{Io, Server, command, on_every_driver};
use crate::tree::{Tree, content};

on_every_driver!(
    link_in_the_root_swapped,
    root_itself_swapped,
    root_renamed,
    files_renamed_over,
    folder_renamed,
    rolled_back_and_forth,
);

/// In memory, open, and open in more than one step of sendfile.
const FILES: [(&str, usize); 4] = [
    ("page.html", 3_000),
    ("app.js", 200_000),
    ("photo.jpg", 700_000),
    ("film.mp4", 3 << 20),
];

/// What the issue promises, and what a busy machine may need beyond it.
const SOON: Duration = Duration::from_secs(1);
const LENIENCE: Duration = Duration::from_secs(4);

/// The bodies of both versions, of the same lengths, so that only the bytes tell them apart. The
/// first byte is the version's number.
fn bodies() -> &'static [Vec<Vec<u8>>; 2] {
    static BODIES: OnceLock<[Vec<Vec<u8>>; 2]> = OnceLock::new();
    BODIES.get_or_init(|| {
        [1, 2].map(|version| {
            let body = |(name, length): &(&str, usize)| {
                let mut body = content(version * 1000 + name.len() as u64, *length);
                body[0] = version as u8;
                body
            };
            FILES.iter().map(body).collect()
        })
    })
}

fn write_release(folder: &Path, version: u64) {
    std::fs::create_dir_all(folder).unwrap();
    for (index, (name, _)) in FILES.iter().enumerate() {
        let path = folder.join(name);
        std::fs::write(&path, &bodies()[version as usize - 1][index]).unwrap();
        // Releases are older than the swap; two that were built at once have other times.
        let time = std::time::SystemTime::now() - Duration::from_secs(1000 * version);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }
}

/// Which version a whole response is of; it has to be of one.
#[track_caller]
fn version(response: &Response, file: usize) -> u64 {
    let (name, _) = FILES[file];
    assert_eq!(response.status, 200, "{name}");
    let is_of = |version: &usize| response.body == bodies()[*version - 1][file];
    [1, 2].into_iter().find(is_of).expect("of one version") as u64
}

fn ask_all(client: &mut Client, prefix: &str) -> Vec<u64> {
    let ask = |file: usize| version(&client.get(&format!("{prefix}{}", FILES[file].0)), file);
    (0..FILES.len()).map(ask).collect()
}

/// Ends the other threads also when this one fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks for everything on several connections while `swap` makes version 2 of version 1, checks
/// that nothing else is ever answered, and that the new version is soon the only one.
fn check_swap(server: &Server, prefix: &str, swap: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (file, (name, _)) in FILES.iter().enumerate() {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut client = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let target = format!("{prefix}{name}");
                    let response = client.ask(&request("GET", &target, &["Accept-Encoding: zstd"]));
                    version(&response, file);
                    ask_all(&mut client, prefix);
                }
            });
        }
        let _over = Over(&is_over);
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(ask_all(client, prefix), [1; FILES.len()]);
        }
        swap();
        let swapped = Instant::now();
        loop {
            let versions: Vec<u64> = clients
                .iter_mut()
                .flat_map(|client| ask_all(client, prefix))
                .collect();
            if versions.iter().all(|version| *version == 2) {
                break;
            }
            assert!(swapped.elapsed() < SOON + LENIENCE, "{versions:?}");
        }
    });
    let mut client = server.connect();
    assert_eq!(ask_all(&mut client, prefix), [2; FILES.len()]);
}

fn swap_link(link: &Path, target: &str) {
    let next = link.with_extension("next");
    symlink(target, &next).unwrap();
    std::fs::rename(next, link).unwrap();
}

fn link_in_the_root_swapped(io: Io) {
    let tree = Tree::new();
    write_release(&tree.path("release-1"), 1);
    write_release(&tree.path("release-2"), 2);
    symlink("release-1", tree.path("current")).unwrap();
    let server = Server::serve(io, &tree.root(), &[]);
    check_swap(&server, "/current/", || {
        swap_link(&tree.path("current"), "release-2");
        std::fs::remove_dir_all(tree.path("release-1")).unwrap();
    });
    server.stop();
}

/// The usual way: the root's own path is the link. The old release stays for a while, as deployment
/// tools have it: the link is looked at twice a second.
fn root_itself_swapped(io: Io) {
    let tree = Tree::empty();
    write_release(&tree.path("release-1"), 1);
    write_release(&tree.path("release-2"), 2);
    let current = tree.path("current");
    symlink("release-1", &current).unwrap();
    let server = Server::start(command(io, &current, &[]));
    check_swap(&server, "/", || {
        swap_link(&current, "release-2");
    });
    // No root for a moment: what was there is still served.
    std::fs::remove_file(&current).unwrap();
    let mut client = server.connect();
    assert_eq!(ask_all(&mut client, "/"), [2; FILES.len()]);
    server.stop();
}

fn root_renamed(io: Io) {
    let tree = Tree::empty();
    write_release(&tree.path("site"), 1);
    write_release(&tree.path("new"), 2);
    let server = Server::start(command(io, &tree.path("site"), &[]));
    check_swap(&server, "/", || {
        std::fs::rename(tree.path("site"), tree.path("old")).unwrap();
        std::fs::rename(tree.path("new"), tree.path("site")).unwrap();
    });
    server.stop();
}

fn files_renamed_over(io: Io) {
    let tree = Tree::new();
    write_release(&tree.path("site"), 1);
    write_release(&tree.path("new"), 2);
    let server = Server::serve(io, &tree.root(), &[]);
    check_swap(&server, "/site/", || {
        for (name, _) in FILES {
            let new = tree.path(format!("new/{name}"));
            std::fs::rename(new, tree.path(format!("site/{name}"))).unwrap();
        }
    });
    server.stop();
}

/// A folder above the files, and no link at all: between the two renames there is none.
fn folder_renamed(io: Io) {
    let tree = Tree::new();
    write_release(&tree.path("a/site/b"), 1);
    write_release(&tree.path("a/new/b"), 2);
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(ask_all(&mut client, "/a/site/b/"), [1; FILES.len()]);
    }
    std::fs::rename(tree.path("a/site"), tree.path("a/old")).unwrap();
    std::fs::rename(tree.path("a/new"), tree.path("a/site")).unwrap();
    let swapped = Instant::now();
    loop {
        let mut client = server.connect();
        let versions: Vec<u64> = (0..FILES.len())
            .filter_map(|file| {
                let response = client.get(&format!("/a/site/b/{}", FILES[file].0));
                (response.status == 200).then(|| version(&response, file))
            })
            .collect();
        if versions == [2; FILES.len()] {
            break;
        }
        assert!(swapped.elapsed() < SOON + LENIENCE, "{versions:?}");
    }
    server.stop();
}

/// Swapped every few milliseconds: whatever is answered is of one version, and in the end of the
/// last.
fn rolled_back_and_forth(io: Io) {
    let tree = Tree::new();
    write_release(&tree.path("release-1"), 1);
    write_release(&tree.path("release-2"), 2);
    let link = tree.path("current");
    symlink("release-1", &link).unwrap();
    let server = Server::serve(io, &tree.root(), &["--cache-file-bytes", "64KiB"]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        for _ in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    ask_all(&mut client, "/current/");
                }
            });
        }
        let _over = Over(is_over);
        let mut client = server.connect();
        for turn in 0..60 {
            swap_link(&link, ["release-2", "release-1"][turn % 2]);
            ask_all(&mut client, "/current/");
        }
        swap_link(&link, "release-2");
    });
    crate::server::eventually("the last one is served", || {
        let mut client = server.connect();
        (ask_all(&mut client, "/current/") == [2; FILES.len()]).then_some(())
    });
    server.stop();
}
