//! Content on its way through the proxy without sockets, for its fuzz target
//! (`crates/server/tests/fuzz/content.rs`). No server uses this.

use super::content::Content;
use ringway_http::body::{BodyError, BodyLimits};
use ringway_http::head::Framing;
use ringway_http::received::ReceivedFraming;

/// Whose content it is, how its sender delimits it, and whether its receiver gets it in chunks: of a
/// request, it does where it comes in such.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// From a client to a server.
    There(Framing),
    /// From a server to a client.
    Back(ReceivedFraming, bool),
}

/// What has become of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// What its receiver gets.
    pub sent: Vec<u8>,
    /// Bytes of content among that, as they are counted.
    pub content_bytes: u64,
    /// Whether its end has come.
    pub is_over: bool,
    /// What came behind its end.
    pub rest: Vec<u8>,
}

/// Passes on what comes in these pieces; behind the last of them the connection ends.
///
/// # Errors
/// It isn't delimited as it should be, or is too much.
pub fn pass_on<'p>(
    way: Way,
    limits: &BodyLimits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Passed, BodyError> {
    let mut content = match way {
        Way::There(framing) => Content::of_request(framing, limits, false)?,
        Way::Back(framing, in_chunks) => Content::of_response(framing, in_chunks, false),
    };
    let (mut sent, mut input) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while !input.is_empty() && !content.is_done() {
            let mut out = Vec::new();
            let used = content.write(&input, &mut out)?;
            sent.append(&mut out);
            input.drain(..used);
        }
    }
    if matches!(way, Way::Back(ReceivedFraming::UntilClose, _)) {
        let ended = content.source_ended(&mut sent);
        debug_assert!(ended.is_ok(), "that is how it ends");
    }
    Ok(Passed {
        content_bytes: content.passed_bytes(),
        is_over: content.is_done(),
        sent,
        rest: input,
    })
}
