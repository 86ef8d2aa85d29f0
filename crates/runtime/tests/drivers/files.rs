//! Files: opened beneath a root, read, and sent inside the kernel.

use crate::harness::{Case, Pattern, complete, give_up, pair, pair_with_std, settle};
use ringway_runtime::{
    BlockingPool, Directory, File, FileKind, Runtime, Symlinks, TcpStream, spawn, spawn_blocking,
};
use rustix::fs::Advice;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

on_both_drivers! {
    files_are_found_and_read,
    nothing_outside_the_root_is_opened,
    cold_files_are_read_like_warm_ones,
    unknown_names_fail_even_when_they_have_to_be_looked_up,
    a_file_is_sent_to_a_slow_reader,
    a_truncated_file_sends_nothing,
    after_a_short_send_the_wait_is_for_room_alone,
}

/// A folder, and the same as a root.
fn folder() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let root = Directory::open(folder.path()).unwrap();
    (folder, root)
}

async fn open(root: &Directory, path: &str) -> io::Result<File> {
    root.open_beneath(path.as_bytes(), Symlinks::Beneath).await
}

async fn read_whole(file: &File, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut space = vec![0; step];
    loop {
        let (bytes, count) = file.read_at(space, all.len() as u64).await.unwrap();
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&bytes[..count]);
        space = bytes;
        assert_eq!(space.len(), step, "the whole buffer comes back");
    }
}

fn files_are_found_and_read(case: &Case) {
    let mut runtime = case.runtime();
    let (folder, root) = folder();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let bytes = Pattern::new(1).chunk(0, 100_000);
    std::fs::write(folder.path().join("sub/file"), &bytes).unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    complete(&mut runtime, async move {
        let file = open(&root, "sub/file").await.unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(
            (metadata.kind, metadata.bytes),
            (FileKind::Regular, 100_000)
        );
        assert!(read_whole(&file, 9973).await == bytes);
        let (_, past_the_end) = file.read_at(vec![0; 10], 200_000).await.unwrap();
        assert_eq!(past_the_end, 0);
        let (_, nothing) = file.read_at(Vec::new(), 0).await.unwrap();
        assert_eq!(nothing, 0);
        let empty = open(&root, "empty").await.unwrap();
        assert_eq!(read_whole(&empty, 10).await, b"");
        for path in ["", "sub", "sub/."] {
            let directory = open(&root, path).await.unwrap();
            assert_eq!(
                directory.metadata().unwrap().kind,
                FileKind::Directory,
                "{path}"
            );
            let read = directory.read_at(vec![0; 10], 0).await.unwrap_err();
            assert_eq!(read.kind(), ErrorKind::IsADirectory);
        }
        let missing = open(&root, "sub/missing").await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let below_a_file = open(&root, "sub/file/x").await.unwrap_err();
        assert_eq!(below_a_file.kind(), ErrorKind::NotADirectory);
        assert_eq!(
            open(&root, "nul\0").await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
    settle(&mut runtime, 256);
}

fn nothing_outside_the_root_is_opened(case: &Case) {
    let mut runtime = case.runtime();
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("root");
    std::fs::create_dir_all(inner.join("sub")).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    std::fs::write(inner.join("file"), "file").unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, inner.join(name));
    link("../secret", "out").unwrap();
    link("/etc/passwd", "absolute").unwrap();
    link("/proc/self/cwd", "magic").unwrap();
    link("../file", "sub/inside").unwrap();
    let root = Directory::open(&inner).unwrap();
    complete(&mut runtime, async move {
        const EXDEV: i32 = 18;
        const ELOOP: i32 = 40;
        for path in [
            "../secret",
            "sub/../../secret",
            "out",
            "absolute",
            "magic",
            "/etc/passwd",
        ] {
            let error = open(&root, path).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EXDEV), "{path}");
        }
        let inside = open(&root, "sub/inside").await.unwrap();
        assert_eq!(read_whole(&inside, 10).await, b"file");
        let denied = root
            .open_beneath(b"sub/inside", Symlinks::Deny)
            .await
            .unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(ELOOP));
    });
    settle(&mut runtime, 256);
}

/// Puts a file's bytes on the disk and, where the file system allows it, out of memory.
fn cool(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
}

fn cold_files_are_read_like_warm_ones(case: &Case) {
    let mut runtime = case.runtime();
    let (folder, root) = folder();
    let bytes = Pattern::new(2).chunk(0, 3 << 20);
    for number in 0..8 {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, &bytes).unwrap();
        cool(&path);
    }
    complete(&mut runtime, async move {
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let (root, bytes) = (root.clone(), bytes.clone());
                spawn(async move {
                    let file = open(&root, &number.to_string()).await.unwrap();
                    assert!(read_whole(&file, 100_003).await == bytes);
                    assert!(read_whole(&file, 1 << 20).await == bytes);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    settle(&mut runtime, 256);
}

fn unknown_names_fail_even_when_they_have_to_be_looked_up(case: &Case) {
    let mut options = case.options();
    options.blocking = BlockingPool::new(2, 1000);
    let mut runtime = Runtime::new(&options).unwrap();
    let (_folder, root) = folder();
    complete(&mut runtime, async move {
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let root = root.clone();
                spawn(async move { open(&root, &format!("unknown-{number}")).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
        }
    });
    settle(&mut runtime, 256);
}

/// Sends `count` bytes of a file; how many there were.
async fn send_file(stream: &mut TcpStream, file: &File, count: usize) -> io::Result<usize> {
    let mut sent = 0;
    while sent < count {
        match stream.send_file_now(file, sent as u64, count - sent) {
            Ok(0) => return Ok(sent),
            Ok(more) => sent += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn a_file_is_sent_to_a_slow_reader(case: &Case) {
    const BYTES: usize = 24 << 20;
    let mut runtime = case.runtime();
    let (folder, root) = folder();
    std::fs::write(folder.path().join("file"), Pattern::new(3).chunk(0, BYTES)).unwrap();
    complete(&mut runtime, async move {
        let (mut stream, mut peer) = pair_with_std().await;
        let file = open(&root, "file").await.unwrap();
        let reader = spawn(spawn_blocking(move || {
            let pattern = Pattern::new(3);
            let (mut offset, mut space) = (5, vec![0; 65_521]);
            peer.read_exact(&mut [0; 5]).unwrap();
            loop {
                let count = peer.read(&mut space).unwrap();
                if count == 0 {
                    return offset - 5;
                }
                pattern.check(offset - 5, &space[..count]);
                offset += count;
            }
        }));
        stream.send(b"head:".as_slice()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(send_file(&mut stream, &file, BYTES).await.unwrap(), BYTES);
        assert_eq!(stream.sent_bytes(), BYTES as u64 + 5);
        drop(stream);
        assert_eq!(reader.await.unwrap().unwrap(), BYTES);
    });
    settle(&mut runtime, 256);
}

fn a_truncated_file_sends_nothing(case: &Case) {
    const BYTES: usize = 16 << 20;
    let mut runtime = case.runtime();
    let (folder, root) = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, Pattern::new(4).chunk(0, BYTES)).unwrap();
    complete(&mut runtime, async move {
        let _folder = folder;
        let (mut stream, mut peer) = pair().await;
        let file = open(&root, "file").await.unwrap();
        let mut sent = 0;
        let full = loop {
            match stream.send_file_now(&file, sent as u64, BYTES - sent) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(0 < sent && sent < BYTES, "{sent}");
        let writable = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        writable.set_len(1000).unwrap();
        let mut received = 0;
        while received < sent {
            received += peer.receive().await.unwrap().unwrap().len();
        }
        stream.writable().await.unwrap();
        assert_eq!(
            stream
                .send_file_now(&file, sent as u64, BYTES - sent)
                .unwrap(),
            0
        );
        assert_eq!(file.metadata().unwrap().bytes, 1000);
    });
    settle(&mut runtime, 256);
}

/// Nobody asks a second time before the wait, so that the first call has to note whether it was for
/// want of room: with an edge-triggered epoll the wait is for ever otherwise, or for nothing.
fn after_a_short_send_the_wait_is_for_room_alone(case: &Case) {
    const BYTES: usize = 16 << 20;
    let mut runtime = case.runtime();
    let (folder, root) = folder();
    std::fs::write(folder.path().join("short"), [7; 1000]).unwrap();
    let large = Pattern::new(5).chunk(0, BYTES);
    std::fs::write(folder.path().join("large"), &large).unwrap();
    complete(&mut runtime, async move {
        let _folder = folder;
        let (mut stream, mut peer) = pair().await;
        let short = open(&root, "short").await.unwrap();
        assert_eq!(stream.send_file_now(&short, 0, 2000).unwrap(), 1000);
        let room = give_up(20, stream.writable()).await;
        room.expect("there is room, but the file has ended")
            .unwrap();

        let large = open(&root, "large").await.unwrap();
        let sent = stream.send_file_now(&large, 0, BYTES).unwrap();
        assert!(sent < BYTES, "{sent}");
        let room = give_up(20, stream.writable()).await;
        assert!(room.is_none(), "nobody has read");
        let mut received = 0;
        while received < 1000 + sent {
            received += peer.receive().await.unwrap().unwrap().len();
        }
        stream.writable().await.unwrap();
        assert!(stream.send_file_now(&large, 0, BYTES).unwrap() > 0);
    });
    settle(&mut runtime, 256);
}
