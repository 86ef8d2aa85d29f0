//! The example that is a small product: the file service.

#[path = "../../examples/send_file.rs"]
#[allow(dead_code, reason = "the program's own main")]
mod send_file;

use crate::harness::{Case, Pattern, complete, listen, settle, std_connect};
use ringway_runtime::{Directory, TransferMethod, spawn, spawn_blocking};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

on_both_drivers! {
    the_file_service_sends_a_length_and_the_file,
    the_file_service_serves_nothing_else,
}

/// What the service answers to `request`, to the end of the stream or a reset.
fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut peer = std_connect(address);
    peer.write_all(request).unwrap();
    if !request.ends_with(b"\n") {
        peer.shutdown(Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    let _ = peer.read_to_end(&mut answer);
    answer
}

fn the_file_service_sends_a_length_and_the_file(case: &Case) {
    let mut runtime = case.runtime();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let bytes = Pattern::new(7).chunk(0, 700_001);
    std::fs::write(folder.path().join("sub/file"), &bytes).unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let root = Directory::open(folder.path()).unwrap();
    complete(&mut runtime, async move {
        for method in TransferMethod::ALL {
            let (listener, address) = listen();
            let root = root.clone();
            let service = spawn(async move {
                let _ = send_file::serve(listener, root, method).await;
            });
            for request in [b"sub/file\n".as_slice(), b"sub/file"] {
                let answer = spawn_blocking(move || ask(address, request)).await.unwrap();
                let (length, body) = answer.split_at(8);
                assert_eq!(length, 700_001u64.to_be_bytes(), "{method}");
                assert!(body == bytes, "{method}");
            }
            let answer = spawn_blocking(move || ask(address, b"empty\n")).await;
            assert_eq!(answer.unwrap(), [0; 8]);
            service.cancel();
        }
    });
    settle(&mut runtime, 256);
}

fn the_file_service_serves_nothing_else(case: &Case) {
    let mut runtime = case.runtime();
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
    let root = Directory::open(&root).unwrap();
    complete(&mut runtime, async move {
        let (listener, address) = listen();
        let service = spawn(async move {
            let _ = send_file::serve(listener, root, TransferMethod::Auto).await;
        });
        let long = [b'x'; 5000];
        for request in [
            b"../secret\n".as_slice(),
            b"out\n",
            b"/etc/passwd\n",
            b"\n",
            b"",
            b"missing\n",
            b"nul\0\n",
            &long,
        ] {
            let request = request.to_vec();
            let answer = spawn_blocking(move || ask(address, &request)).await;
            assert_eq!(answer.unwrap(), b"");
        }
        service.cancel();
    });
    settle(&mut runtime, 256);
}
