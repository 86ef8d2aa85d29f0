//! Content codings: which of a file's representations a client gets, and making them.
//!
//! What can be chosen from is found when the file is opened: siblings that hold it precompressed,
//! and codings that it is worth being compressed in. A file with neither isn't subject to
//! negotiation at all (RFC 9110 §12.4.1), whatever the client sends.
//!
//! Compressing waits for nobody's turn: whoever asks first for a file in a coding waits for it (a
//! visitor who tries it out with one request sees it work), everybody else meanwhile gets the file
//! as it is, and so does everybody when as many are under way as may be.

use super::entry::{Candidate, Entry};
use crate::config;
use ringway_http::head::{ListValue, RequestHead};
use ringway_http::negotiate::{self, AcceptEncoding, Coding};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a client's `Accept-Encoding` makes of a file.
pub(super) enum Choice<'e> {
    Identity,
    /// This one; and whether the file as it is would do as well.
    Coded(&'e Candidate, bool),
    /// 406: the client takes nothing that there is.
    Nothing,
}

/// How the name of a file in a coding ends, behind the name of its source.
pub(super) fn extension(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::Zstd => b".zst",
        Coding::Brotli => b".br",
        Coding::Gzip => b".gz",
    }
}

impl From<config::Coding> for Coding {
    fn from(coding: config::Coding) -> Coding {
        match coding {
            config::Coding::Zstd => Coding::Zstd,
            config::Coding::Br => Coding::Brotli,
            config::Coding::Gzip => Coding::Gzip,
        }
    }
}

impl Entry {
    /// What a client gets by its `Accept-Encoding`.
    #[inline(always)]
    pub(super) fn choose(&self, head: &RequestHead<'_>) -> Choice<'_> {
        if self.candidates().is_empty() {
            return Choice::Identity;
        }
        match head.accept_encoding() {
            Some(accept) => self.negotiate(&accept),
            None => Choice::Identity,
        }
    }

    #[inline(never)]
    fn negotiate(&self, accept: &ListValue<'_>) -> Choice<'_> {
        let accept = AcceptEncoding::parse(accept.lines());
        let candidates = self.candidates();
        match accept.choose(candidates.iter().map(|candidate| candidate.coding)) {
            negotiate::Choice::Identity => Choice::Identity,
            negotiate::Choice::Nothing => Choice::Nothing,
            negotiate::Choice::Coded(coding) => candidates
                .iter()
                .find(|candidate| candidate.coding == coding)
                .map_or(Choice::Identity, |candidate| {
                    Choice::Coded(candidate, accept.accepts_identity())
                }),
        }
    }
}

/// How many files are being compressed, in the whole process.
#[derive(Debug, Default)]
pub(crate) struct Jobs(AtomicUsize);

impl Jobs {
    /// A place among `limit`, given back when dropped.
    pub(super) fn enter(&self, limit: usize) -> Option<Job<'_>> {
        let job = Job(self);
        // Relaxed: nothing but the number is shared.
        (self.0.fetch_add(1, Relaxed) < limit).then_some(job)
    }
}

pub(super) struct Job<'j>(&'j Jobs);

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The body in a coding; `None` when it wouldn't save a twentieth. The same body always gives the
/// same bytes, so that a client's copy stays good after a restart. It takes its time.
pub(super) fn compress(coding: Coding, body: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::with_capacity(body.len() / 2);
    match coding {
        // The levels at which a little smaller begins to cost a lot.
        Coding::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut out, 7)?;
            encoder.set_pledged_src_size(Some(body.len() as u64))?;
            encoder.include_contentsize(true)?;
            // RFC 9659: a browser needs no larger window.
            encoder.window_log(23)?;
            encoder.write_all(body)?;
            encoder.finish()?;
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 6, 22);
            encoder.write_all(body)?;
            encoder.flush()?;
        }
        Coding::Gzip => {
            let level = flate2::Compression::new(6);
            let mut encoder = flate2::write::GzEncoder::new(&mut out, level);
            encoder.write_all(body)?;
            encoder.finish()?;
        }
    }
    let is_worth_it = out.len() < body.len() - body.len() / 20;
    Ok(is_worth_it.then_some(out))
}
