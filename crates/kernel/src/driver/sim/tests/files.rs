//! Real files through the simulated kernel.

use super::{Bench, RECEIVE, token};
use crate::driver::sim::SimOptions;
use crate::driver::{Completion, Lane};
use crate::file::{Directory, OpenRequest, ReadRequest, Symlinks};
use crate::medium::Medium;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

const CONTENT: &[u8] = b"the bytes of a real file";

fn root() -> (tempfile::TempDir, Directory) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), CONTENT).unwrap();
    let directory = Directory::open(root.path()).unwrap();
    (root, directory)
}

/// Opens `path` and returns the result of the completion.
fn open(bench: &mut Bench, directory: &Directory, path: &str) -> i32 {
    let request = OpenRequest::new(directory, path.as_bytes(), Symlinks::Beneath).unwrap();
    let open = token(Lane::Open, 0);
    // SAFETY: the request lives past `settle`, which delivers the last completion.
    unsafe { bench.driver.open(open, &raw const request) };
    bench.settle();
    let [
        Completion {
            token: _,
            result,
            buffer: None,
            more: false,
        },
    ] = bench.heard[..]
    else {
        panic!("{:?}", bench.heard);
    };
    bench.heard.clear();
    result
}

/// Opens a file that is there.
fn open_file(bench: &mut Bench, directory: &Directory) -> OwnedFd {
    let number = open(bench, directory, "file");
    assert!(number >= 0);
    // SAFETY: the completion hands over a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[test]
fn a_file_is_opened_read_and_sent() {
    let (_root, directory) = root();
    let mut bench = Bench::new(1, SimOptions::calm());
    let (client, accepted) = bench.pair();
    assert_eq!(open(&mut bench, &directory, "missing"), -libc::ENOENT);
    let file = directory.file(open_file(&mut bench, &directory), Medium::Disk);

    let mut request = ReadRequest {
        file: file.clone(),
        offset: 4,
        bytes: vec![0; 5],
    };
    // SAFETY: the request lives, untouched, past `settle`, which delivers the last completion.
    unsafe { bench.driver.read(token(Lane::Read, 0), &raw mut request) };
    bench.settle();
    assert_eq!(bench.results(token(Lane::Read, 0)), [5]);
    assert_eq!(request.bytes, b"bytes");

    bench.driver.receive(token(RECEIVE, 0), &client);
    assert_eq!(
        bench
            .driver
            .send_file(&accepted, file.descriptor(), 4, 100)
            .unwrap(),
        CONTENT.len() - 4
    );
    let past_the_end =
        bench
            .driver
            .send_file(&accepted, file.descriptor(), CONTENT.len() as u64, 100);
    assert_eq!(past_the_end.unwrap(), 0);
    bench.settle();
    assert_eq!(bench.take_bytes(token(RECEIVE, 0)), &CONTENT[4..]);
}

#[test]
fn a_sent_file_may_go_out_in_pieces() {
    let (_root, directory) = root();
    let mut bench = Bench::new(
        1,
        SimOptions {
            short_write: 1.0,
            ..SimOptions::calm()
        },
    );
    let (client, accepted) = bench.pair();
    let file = open_file(&mut bench, &directory);
    let mut sent = 0;
    let mut pieces = 0;
    while sent < CONTENT.len() {
        let rest = CONTENT.len() - sent;
        sent += bench
            .driver
            .send_file(&accepted, file.as_fd(), sent as u64, rest)
            .unwrap();
        pieces += 1;
    }
    assert!(pieces > 1);
    bench.driver.receive(token(RECEIVE, 0), &client);
    bench.settle();
    assert_eq!(bench.take_bytes(token(RECEIVE, 0)), CONTENT);
}

#[test]
fn injected_errors_open_nothing() {
    let (_root, directory) = root();
    let opened = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut bench = Bench::new(
        1,
        SimOptions {
            emfile: 1.0,
            ..SimOptions::calm()
        },
    );
    assert_eq!(open(&mut bench, &directory, "file"), -libc::EMFILE);
    bench.world.set_options(SimOptions {
        eio: 1.0,
        ..SimOptions::calm()
    });
    assert_eq!(open(&mut bench, &directory, "file"), -libc::EIO);
    // Other tests open files meanwhile, so that only a leak in every round can be seen.
    let before = opened();
    let rounds = 200;
    for _ in 0..rounds {
        assert_eq!(open(&mut bench, &directory, "file"), -libc::EIO);
    }
    assert!(opened() < before + rounds / 2);
}
