//! Deployments under load: each response is of one version, and the new one is seen soon.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Client, Response, request};
use crate::server::{Io, Server, command, configured, on_every_driver, promptly};
use crate::tree::{Tree, content};

on_every_driver!(
    link_in_the_root_swapped,
    root_itself_swapped,
    root_renamed,
    roots_swapped_under_load,
    many_roots_swapped,
    changed_after_a_swap_under_load,
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

/// A root that links lead out of the watched directories of, so that an interval is what tells of
/// their changes: half of the default one, because two of its looks may be a second and a moment apart.
const LINKED: &str = "[listen.main]\naddress = \"127.0.0.1:0\"\nfiles = \"site\"\n\
                      [files.site]\nroot = \"root\"\nrevalidate_interval = \"500ms\"\n";

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
        promptly("every worker has the new version", || {
            let mut versions = clients
                .iter_mut()
                .flat_map(|client| ask_all(client, prefix));
            versions.all(|version| version == 2).then_some(())
        });
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
    let server = Server::start(configured(io, &tree, LINKED));
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

/// A site of many roots, all beneath one link, each at an address of its own.
struct Hosts {
    tree: Tree,
    server: Server,
    /// Some of each, so that every worker has one.
    clients: Vec<[Client; 4]>,
}

impl Hosts {
    fn start(io: Io, count: usize) -> Hosts {
        let tree = Tree::empty();
        let mut tables = String::new();
        for host in 0..count {
            for release in ["release-1", "release-2"] {
                tree.write(format!("{release}/{host}/page.html"), release);
            }
            tables += &format!(
                "[listen.h{host}]\naddress = \"127.0.0.1:0\"\nfiles = \"h{host}\"\n\
                 [files.h{host}]\nroot = \"root/current/{host}\"\n"
            );
        }
        symlink("release-1", tree.path("current")).unwrap();
        let server = Server::start(configured(io, &tree, &tables));
        let addresses = server.addresses(count).into_iter();
        let clients = addresses.map(|address| [(); 4].map(|()| Client::connect(address)));
        let clients = clients.collect();
        Hosts {
            tree,
            server,
            clients,
        }
    }

    /// How many answers are of this release.
    fn count(&mut self, release: &str) -> usize {
        let clients = self.clients.iter_mut().flatten();
        let bodies = clients.map(|client| client.get("/page.html").body);
        bodies.filter(|body| body == release.as_bytes()).count()
    }

    fn check(&mut self) {
        let all = self.clients.len() * 4;
        assert_eq!(self.count("release-1"), all);
        swap_link(&self.tree.path("current"), "release-2");
        promptly("every worker has every new root", || {
            (self.count("release-2") == all).then_some(())
        });
    }
}

/// More roots than a worker's mailbox has room for, all at once: the rest kept their old directory for
/// ever.
fn many_roots_swapped(io: Io) {
    let mut hosts = Hosts::start(io, 64);
    hosts.check();
    hosts.server.stop();
}

/// Fewer, but with workers that have other things to do than to read their mail.
fn roots_swapped_under_load(io: Io) {
    let mut hosts = Hosts::start(io, 8);
    let address = hosts.server.address();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut client = Client::connect(address);
                let requests = request("GET", "/page.html", &[]).repeat(50);
                while !is_over.load(Ordering::Relaxed) {
                    client.send(&requests);
                    for _ in 0..50 {
                        assert_eq!(client.response().status, 200);
                    }
                }
            });
        }
        let _over = Over(&is_over);
        hosts.check();
    });
    hosts.server.stop();
}

/// Workers that hadn't heard of the swap yet used to watch the old release in the name of the new one,
/// whose changes were then seen ten intervals later.
fn changed_after_a_swap_under_load(io: Io) {
    const FOLDERS: usize = 40;
    let tree = Tree::empty();
    let name = |folder: usize| format!("{folder}/page.html");
    for release in ["release-1", "release-2"] {
        (0..FOLDERS).for_each(|folder| tree.write(format!("{release}/{}", name(folder)), "first"));
    }
    let current = tree.path("current");
    symlink("release-1", &current).unwrap();
    let server = Server::start(command(io, &current, &[]));
    let is_over = AtomicBool::new(false);
    let ask = |client: &mut Client, folder| client.get(&format!("/{}", name(folder))).body;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (is_over, server, ask) = (&is_over, &server, &ask);
            scope.spawn(move || {
                let mut client = server.connect();
                while !is_over.load(Ordering::Relaxed) {
                    (0..FOLDERS).for_each(|folder| _ = ask(&mut client, folder));
                }
            });
        }
        let _over = Over(&is_over);
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        let mut are_all = |content: &[u8]| {
            let mut clients = clients.iter_mut();
            clients.all(|client| (0..FOLDERS).all(|folder| ask(client, folder) == content))
        };
        // Long enough for every folder to be watched: two looks, a second apart.
        let settle = |are_all: &mut dyn FnMut(&[u8]) -> bool, content: &[u8]| {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(2500) {
                are_all(content);
            }
        };
        settle(&mut are_all, b"first");
        swap_link(&current, "release-2");
        settle(&mut are_all, b"first");
        for folder in 0..FOLDERS {
            tree.write("next", "second");
            let page = tree.path(format!("release-2/{}", name(folder)));
            std::fs::rename(tree.path("next"), page).unwrap();
        }
        promptly("every folder's change is seen", || {
            are_all(b"second").then_some(())
        });
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
    promptly("the new version is served", || {
        let mut client = server.connect();
        let versions: Vec<u64> = (0..FILES.len())
            .filter_map(|file| {
                let response = client.get(&format!("/a/site/b/{}", FILES[file].0));
                (response.status == 200).then(|| version(&response, file))
            })
            .collect();
        (versions == [2; FILES.len()]).then_some(())
    });
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
    let limits = "[limits]\ncache_file_bytes = \"64KiB\"\n";
    let server = Server::start(configured(io, &tree, &format!("{LINKED}{limits}")));
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
    promptly("the last one is served", || {
        let mut client = server.connect();
        (ask_all(&mut client, "/current/") == [2; FILES.len()]).then_some(())
    });
    server.stop();
}
