//! A browser that plays a video: by ranges, with a jump to where it hasn't been.
//!
//! The video is made here, as WebM with one black picture over and over, and padding that makes it
//! large enough that nobody fetches all of it to see the middle.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::peers;
use crate::server::{Io, Server, on_both_drivers, within};
use crate::tree::Tree;

on_both_drivers!(played_and_sought);

/// How long a browser may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A whole key frame of VP8, one pixel in size (RFC 6386 §9.1).
const FRAME: [u8; 22] = [
    0x30, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x01, 0x00, 0x01, 0x00, 0x0e, 0xc0, 0xfe, 0x25, 0xa4, 0x00,
    0x03, 0x70, 0x00, 0x00, 0x00, 0x00,
];

const SECONDS: u64 = 120;
const FRAMES_A_SECOND: u64 = 10;
const PADDING_BYTES: usize = 250_000;

/// An element of EBML (RFC 8794) with a size of eight bytes.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let mut out = id.to_vec();
    out.extend((content.len() as u64 | 1 << 56).to_be_bytes());
    out.extend(content);
    out
}

fn number(id: &[u8], value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

/// One second of the video.
fn cluster(second: u64) -> Vec<u8> {
    let mut content = number(&[0xe7], second * 1000);
    for frame in 0..FRAMES_A_SECOND {
        let at = (frame * 1000 / FRAMES_A_SECOND) as i16;
        // Track 1, a time after the cluster's, and that it is a key frame.
        let mut block = vec![0x81];
        block.extend(at.to_be_bytes());
        block.push(0x80);
        block.extend(FRAME);
        content.extend(element(&[0xa3], &block));
    }
    content.extend(element(&[0xec], &vec![0; PADDING_BYTES]));
    element(&[0x1f, 0x43, 0xb6, 0x75], &content)
}

/// The index: where each second begins, counted from the first byte in the segment.
fn cues(clusters_at: u64, cluster_bytes: u64) -> Vec<u8> {
    let point = |second: u64| {
        let place = [
            number(&[0xf7], 1),
            number(&[0xf1], clusters_at + second * cluster_bytes),
        ];
        let content = [
            number(&[0xb3], second * 1000),
            element(&[0xb7], &place.concat()),
        ];
        element(&[0xbb], &content.concat())
    };
    let points: Vec<u8> = (0..SECONDS).flat_map(point).collect();
    element(&[0x1c, 0x53, 0xbb, 0x6b], &points)
}

fn video() -> Vec<u8> {
    let header = [
        number(&[0x42, 0x86], 1),
        number(&[0x42, 0xf7], 1),
        number(&[0x42, 0xf2], 4),
        number(&[0x42, 0xf3], 8),
        element(&[0x42, 0x82], b"webm"),
        number(&[0x42, 0x87], 2),
        number(&[0x42, 0x85], 2),
    ];
    let information = [
        number(&[0x2a, 0xd7, 0xb1], 1_000_000),
        element(&[0x44, 0x89], &(SECONDS as f64 * 1000.0).to_be_bytes()),
        element(&[0x4d, 0x80], b"ringway"),
        element(&[0x57, 0x41], b"ringway"),
    ];
    let information = element(&[0x15, 0x49, 0xa9, 0x66], &information.concat());
    let track = [
        number(&[0xd7], 1),
        number(&[0x73, 0xc5], 1),
        number(&[0x83], 1),
        element(&[0x86], b"V_VP8"),
        element(&[0xe0], &[number(&[0xb0], 1), number(&[0xba], 1)].concat()),
    ];
    let tracks = element(
        &[0x16, 0x54, 0xae, 0x6b],
        &element(&[0xae], &track.concat()),
    );
    let clusters: Vec<Vec<u8>> = (0..SECONDS).map(cluster).collect();
    let seek_head = |cues_at: u64| {
        let seek = [
            element(&[0x53, 0xab], &[0x1c, 0x53, 0xbb, 0x6b]),
            number(&[0x53, 0xac], cues_at),
        ];
        element(
            &[0x11, 0x4d, 0x9b, 0x74],
            &element(&[0x4d, 0xbb], &seek.concat()),
        )
    };
    // Every number has eight bytes, so sizes don't depend on what they say.
    let cues_at = (seek_head(0).len() + information.len() + tracks.len()) as u64;
    let clusters_at = cues_at + cues(0, 0).len() as u64;
    let segment = [
        seek_head(cues_at),
        information,
        tracks,
        cues(clusters_at, clusters[0].len() as u64),
        clusters.concat(),
    ];
    [
        element(&[0x1a, 0x45, 0xdf, 0xa3], &header.concat()),
        element(&[0x18, 0x53, 0x80, 0x67], &segment.concat()),
    ]
    .concat()
}

/// Plays, jumps, plays on, and tells.
const PAGE: &str = "<!doctype html><title>Film</title><video muted src=film.webm></video><script>
    const video = document.querySelector('video');
    const tell = text => fetch('/' + text, { cache: 'no-store' });
    let is_sought = false;
    video.onerror = () => tell('failed?' + encodeURIComponent(video.error.message));
    video.ontimeupdate = () => {
        if (!is_sought && video.currentTime > 0.2) { is_sought = true; video.currentTime = 100; }
        if (is_sought && !video.seeking && video.currentTime > 100.2)
            { video.ontimeupdate = null; tell('done?' + Math.round(video.duration)); }
    };
    video.play().catch(error => tell('failed?' + encodeURIComponent(error)));
    </script>";

/// A browser, which ends with this value.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn played_and_sought(io: Io) {
    let tree = Tree::empty();
    let Some(mut command) = peers::browser(tree.outside()) else {
        return;
    };
    let video = video();
    tree.write("index.html", PAGE);
    tree.write("film.webm", &video);
    let format = "\"$request\" $status $header_range";
    let server = Server::serve(
        io,
        &tree.root(),
        &["--access-log", "-", "--access-format", format],
    );
    command.args(["--mute-audio", "--remote-debugging-port=0"]);
    command.arg("--autoplay-policy=no-user-gesture-required");
    command.arg(format!("http://{}/", server.address()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let browser = Browser(command.spawn().unwrap());
    let told = within(LONG, || {
        let log = server.output();
        let is_told = log.contains("GET /done?") || log.contains("GET /failed?");
        is_told.then_some(log)
    });
    let told = told.unwrap_or_else(|| server.output());
    drop(browser);
    assert!(told.contains("GET /done?120 "), "{told}");
    let log = server.stop().stdout;
    let begins: Vec<usize> = log
        .split("\"GET /film.webm HTTP/1.1\" 206 bytes=")
        .skip(1)
        .filter_map(|rest| rest.split('-').next()?.parse().ok())
        .collect();
    let middle = video.len() / 2;
    assert!(
        begins.contains(&0) && begins.iter().any(|at| *at > middle),
        "{log}"
    );
}
