//! Bodies: where the content is among the bytes, and where the message ends.
//!
//! [`BodyDecoder`] is fed whatever arrived and hands back slices of it; it keeps no bytes. It is
//! as strict as the head parser. Chunk extensions are skipped and trailer fields are checked and
//! dropped (RFC 9110 §6.5.1 allows it), so none of them can ever be taken for a header: there is
//! nothing in a trailer that could change framing, routing or authentication. Only a decoder that
//! is asked to keep them does, for whoever passes them on as what they are.

use std::fmt;

use http::StatusCode;

use crate::field::{is_token_byte, is_value_byte};
use crate::head::Framing;
use crate::target::hex_digit;

/// Bounds of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of content; beyond it 413.
    pub body_bytes: u64,
    /// Bytes of chunk extensions in the whole body; beyond it 400. Nobody needs any, and without
    /// a bound they are content that isn't counted (CVE-2023-39326).
    pub extension_bytes: u32,
    /// Bytes of all trailer fields; beyond it 431.
    pub trailer_bytes: u32,
    /// Number of trailer fields; beyond it 431.
    pub trailer_count: u32,
}

impl Default for BodyLimits {
    /// 1 MiB of content, 4 KiB of extensions, 32 trailer fields in 4 KiB.
    fn default() -> Self {
        BodyLimits {
            body_bytes: 1 << 20,
            extension_bytes: 4 << 10,
            trailer_bytes: 4 << 10,
            trailer_count: 32,
        }
    }
}

/// Why a body was refused. Where the next request would begin is unknown: the connection must
/// be closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// A line of the chunked framing ends with LF alone, or a CR isn't followed by LF.
    LineEnd,
    /// A chunk size isn't one to sixteen hexadecimal digits.
    ChunkSize,
    /// A chunk extension has a control character.
    Extension,
    /// More chunk extensions than [`BodyLimits::extension_bytes`].
    ExtensionsTooLarge,
    /// The content of a chunk isn't followed by CRLF.
    ChunkEnd,
    /// A malformed trailer field.
    Trailer,
    /// More trailer fields than [`BodyLimits`] allows.
    TrailersTooLarge,
    /// More content than [`BodyLimits::body_bytes`].
    TooLarge,
}

impl BodyError {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TrailersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether a bound was exceeded, by a body that may be sound otherwise.
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            BodyError::ExtensionsTooLarge | BodyError::TrailersTooLarge | BodyError::TooLarge
        )
    }

    /// One line for the log.
    pub fn reason(self) -> &'static str {
        match self {
            BodyError::LineEnd => "line of the chunked framing doesn't end with CRLF",
            BodyError::ChunkSize => "malformed chunk size",
            BodyError::Extension => "malformed chunk extension",
            BodyError::ExtensionsTooLarge => "too many chunk extensions",
            BodyError::ChunkEnd => "chunk isn't followed by CRLF",
            BodyError::Trailer => "malformed trailer field",
            BodyError::TrailersTooLarge => "too many trailer fields",
            BodyError::TooLarge => "request body too large",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BodyError {}

/// What a decoder found at the beginning of its input. In every case `consumed` bytes of the
/// input are done with, and the next call begins behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Some content, never empty. It ends where the consumed bytes end.
    Data {
        /// The content.
        data: &'a [u8],
        /// Bytes of input done with: the content and the framing before it.
        consumed: usize,
    },
    /// All of the input is framing; more is needed.
    More {
        /// Bytes of input done with: all of them.
        consumed: usize,
    },
    /// The body is over, and what follows is the next request.
    End {
        /// Bytes of input done with.
        consumed: usize,
    },
}

/// Decodes one body.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    /// Content that may still come.
    budget: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailer_count: u32,
    /// The lines of the trailer section, where they are wanted.
    trailers: Option<Vec<u8>>,
}

/// Where in the framing the next byte stands (RFC 9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a body of known length: bytes left.
    Sized(u64),
    /// In the size of a chunk.
    Size { size: u64, digits: u8 },
    /// In whitespace between a size and a semicolon.
    SizeSpace { size: u64 },
    /// In extensions.
    Extension { size: u64 },
    /// Behind the CR of a size line.
    SizeLf { size: u64 },
    /// In a chunk: bytes left, never zero.
    Chunk(u64),
    /// Behind a chunk.
    ChunkCr,
    /// Behind the CR behind a chunk.
    ChunkLf,
    /// At the beginning of a line of the trailer section.
    TrailerStart,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Behind the CR of a trailer.
    TrailerLf,
    /// Behind the CR of the empty line that ends it all.
    EndLf,
    /// Behind the body.
    Done,
}

/// More digits than this don't fit in 64 bits; leading zeros count, because nobody sends them.
const MAX_SIZE_DIGITS: u8 = 16;

impl BodyDecoder {
    /// A decoder for a body that is framed so.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLarge`] when the announced length is beyond the limit already.
    pub fn new(framing: Framing, limits: &BodyLimits) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(bytes) if bytes > limits.body_bytes => return Err(BodyError::TooLarge),
            Framing::Length(bytes) => State::Sized(bytes),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Ok(BodyDecoder {
            state,
            budget: limits.body_bytes,
            extension_bytes: limits.extension_bytes,
            trailer_bytes: limits.trailer_bytes,
            trailer_count: limits.trailer_count,
            trailers: None,
        })
    }

    /// Keeps the trailer fields for [`BodyDecoder::trailers`].
    pub fn keeping_trailers(mut self) -> Self {
        self.trailers = Some(Vec::new());
        self
    }

    /// The fields of the trailer section that were read so far, each line with its CRLF: checked as
    /// those of a head are, and nothing that only a head may say (RFC 9110 §6.5.1: framing, routing,
    /// authentication, request modifiers), or a proxy of its client. Empty unless they are kept.
    pub fn trailers(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.trailers.as_deref().unwrap_or_default();
        lines
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| may_be_trailer(line))
    }

    /// Whether the body is over. If the connection ends before it is, the message is incomplete
    /// (RFC 9112 §8).
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of content that come next, with nothing between them: the rest of a sized body, or of the
    /// chunk under way, behind which there may be more. See [`BodyDecoder::remaining_bytes`].
    pub fn expected_bytes(&self) -> u64 {
        match self.state {
            State::Sized(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Bytes of content until the body's end: the rest of a sized body. `None` for a chunked one, of
    /// which nobody knows how much is to come.
    pub fn remaining_bytes(&self) -> Option<u64> {
        match self.state {
            State::Sized(left) => Some(left),
            _ => None,
        }
    }

    /// Decodes the beginning of `input`. After the end it says [`Step::End`] again and consumes
    /// nothing.
    ///
    /// # Errors
    ///
    /// The framing is malformed or a limit exceeded; the decoder is of no use afterwards.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step::End { consumed: at }),
                _ if at == input.len() => return Ok(Step::More { consumed: at }),
                State::Sized(left) | State::Chunk(left) => {
                    let data = take(&input[at..], left);
                    self.state = self.after_data(left - data.len() as u64);
                    return Ok(Step::Data {
                        data,
                        consumed: at + data.len(),
                    });
                }
                _ => {
                    self.state = self.framing_byte(input[at])?;
                    at += 1;
                }
            }
        }
    }

    fn after_data(&self, left: u64) -> State {
        match self.state {
            State::Sized(_) if left == 0 => State::Done,
            State::Sized(_) => State::Sized(left),
            _ if left == 0 => State::ChunkCr,
            _ => State::Chunk(left),
        }
    }

    /// The state behind one byte that isn't content.
    fn framing_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { size, digits } => self.size_byte(byte, size, digits),
            State::SizeSpace { size } => match byte {
                b' ' | b'\t' => self.extension().map(|()| State::SizeSpace { size }),
                b';' => self.extension().map(|()| State::Extension { size }),
                _ => Err(BodyError::ChunkSize),
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                b'\n' => Err(BodyError::LineEnd),
                // §7.1.1: unknown extensions must be ignored, and all are unknown. A quoted
                // string can't hide a line end, because it can't contain one.
                _ if is_value_byte(byte) => self.extension().map(|()| State::Extension { size }),
                _ => Err(BodyError::Extension),
            },
            State::SizeLf { size } => match byte {
                b'\n' if size == 0 => Ok(State::TrailerStart),
                b'\n' => self.chunk(size),
                _ => Err(BodyError::LineEnd),
            },
            State::ChunkCr if byte == b'\r' => Ok(State::ChunkLf),
            State::ChunkLf if byte == b'\n' => Ok(State::Size { size: 0, digits: 0 }),
            State::ChunkCr | State::ChunkLf => Err(BodyError::ChunkEnd),
            _ => self.trailer_byte(byte),
        }
    }

    fn size_byte(&mut self, byte: u8, size: u64, digits: u8) -> Result<State, BodyError> {
        if let Some(digit) = hex_digit(byte) {
            if digits == MAX_SIZE_DIGITS {
                return Err(BodyError::ChunkSize);
            }
            return Ok(State::Size {
                size: size << 4 | u64::from(digit),
                digits: digits + 1,
            });
        }
        if digits == 0 {
            return Err(BodyError::ChunkSize);
        }
        match byte {
            b'\r' => Ok(State::SizeLf { size }),
            b'\n' => Err(BodyError::LineEnd),
            b';' => self.extension().map(|()| State::Extension { size }),
            // §7.1.1: whitespace before the semicolon is bad but must be understood.
            b' ' | b'\t' => self.extension().map(|()| State::SizeSpace { size }),
            _ => Err(BodyError::ChunkSize),
        }
    }

    /// Counts a byte of extensions.
    fn extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes = self
            .extension_bytes
            .checked_sub(1)
            .ok_or(BodyError::ExtensionsTooLarge)?;
        Ok(())
    }

    fn chunk(&mut self, size: u64) -> Result<State, BodyError> {
        self.budget = self.budget.checked_sub(size).ok_or(BodyError::TooLarge)?;
        Ok(State::Chunk(size))
    }

    /// The trailer section (RFC 9112 §7.1.2), by the grammar of header fields.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        if !matches!(
            (self.state, byte),
            (State::TrailerStart, b'\r') | (State::EndLf, _)
        ) {
            self.trailer_bytes = self
                .trailer_bytes
                .checked_sub(1)
                .ok_or(BodyError::TrailersTooLarge)?;
            if let Some(kept) = &mut self.trailers {
                kept.push(byte);
            }
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerStart, byte) if is_token_byte(byte) => {
                self.trailer_count = self
                    .trailer_count
                    .checked_sub(1)
                    .ok_or(BodyError::TrailersTooLarge)?;
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, byte) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, byte) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::TrailerLf | State::EndLf, _) | (_, b'\n') => Err(BodyError::LineEnd),
            _ => Err(BodyError::Trailer),
        }
    }
}

/// Whether a line of a trailer section is one that may stand there.
fn may_be_trailer(line: &[u8]) -> bool {
    const OF_HEADS: [&str; 27] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy",
        "proxy-authorization",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    let Some(colon) = memchr::memchr(b':', line) else {
        return false;
    };
    let name = &line[..colon];
    line.ends_with(b"\r\n")
        && !OF_HEADS
            .iter()
            .any(|of| name.eq_ignore_ascii_case(of.as_bytes()))
}

/// The first `left` bytes of `input`, or all there are.
fn take(input: &[u8], left: u64) -> &[u8] {
    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    &input[..bytes]
}

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line that opens a chunk of `bytes` bytes, never zero. Behind the content goes CRLF.
pub fn push_chunk_size(out: &mut Vec<u8>, bytes: u64) {
    debug_assert!(bytes != 0, "a chunk of zero bytes ends the body");
    let digits = (u64::BITS - bytes.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(bytes >> (digit * 4) & 15) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
