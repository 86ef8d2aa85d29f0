//! Replays the corpora of this crate's fuzz targets, so that what fuzzing once found stays found.

#[path = "fuzz/content.rs"]
mod content;
#[path = "../../http/tests/fuzz/replay.rs"]
mod replay;

#[test]
fn passed_content() -> std::io::Result<()> {
    replay::replay("content", content::run)
}
