//! Messages on a connection, read by rules written down a second time, for clients and servers that
//! are played.

use ringway_runtime::ReadHalf;
use std::io;

/// What was received of a connection and isn't used yet.
pub(crate) struct Wire<'s> {
    half: ReadHalf<'s>,
    input: Vec<u8>,
    /// The trailer section of the last content in chunks, without its end.
    pub(crate) trailers: String,
}

/// A head as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its first line.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
}

/// How content is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunks,
    UntilClose,
}

/// Why reading doesn't go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The peer has ended its side.
    End,
    /// The connection has failed.
    Failed(#[expect(dead_code, reason = "shown where a test fails")] io::ErrorKind),
    /// What came isn't a message.
    Malformed(String),
}

impl Head {
    /// The only value of a field, if there is one.
    pub(crate) fn field(&self, name: &str) -> Result<Option<&str>, Stop> {
        let mut named = self.fields.iter().filter(|(other, _)| other == name);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(Stop::Malformed(format!("two fields {name}"))),
            (field, None) => Ok(field.map(|(_, value)| value.as_str())),
        }
    }

    /// What delimits the content, by the fields alone.
    pub(crate) fn framing(&self) -> Result<Option<Framing>, Stop> {
        let length = self.field("content-length")?;
        let coding = self.field("transfer-encoding")?;
        match (length, coding) {
            (None, None) => Ok(None),
            (Some(length), None) => match length.parse() {
                Ok(length) => Ok(Some(Framing::Length(length))),
                Err(_) => Err(Stop::Malformed(format!("a length of {length:?}"))),
            },
            (None, Some("chunked")) => Ok(Some(Framing::Chunks)),
            both => Err(Stop::Malformed(format!("framed by {both:?}"))),
        }
    }
}

impl<'s> Wire<'s> {
    pub(crate) fn new(half: ReadHalf<'s>) -> Wire<'s> {
        Wire {
            half,
            input: Vec::new(),
            trailers: String::new(),
        }
    }

    /// Whether something is there that nobody has asked for.
    pub(crate) fn has_more(&self) -> bool {
        !self.input.is_empty()
    }

    /// Receives more; its count.
    pub(crate) async fn more(&mut self) -> Result<usize, Stop> {
        match self.half.receive().await {
            Ok(Some(buffer)) => {
                self.input.extend_from_slice(&buffer);
                Ok(buffer.len())
            }
            Ok(None) => Err(Stop::End),
            Err(error) => Err(Stop::Failed(error.kind())),
        }
    }

    /// Everything up to this, without it.
    async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Stop> {
        loop {
            let found = self.input.windows(end.len()).position(|part| part == end);
            if let Some(at) = found {
                let taken = self.input.drain(..at + end.len());
                return Ok(taken.take(at).collect());
            }
            self.more().await?;
        }
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Stop> {
        let text = self.until(b"\r\n\r\n").await?;
        let text = String::from_utf8(text).map_err(|_| Stop::Malformed("no text".to_owned()))?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        let fields = lines.map(|line| field(line).ok_or_else(|| Stop::Malformed(line.to_owned())));
        Ok(Head {
            line,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// Content, into `content` as it comes, so that a part of it is there when it is cut off.
    pub(crate) async fn content(
        &mut self,
        framing: Framing,
        content: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        match framing {
            Framing::Length(count) => self.exactly(count, content).await,
            Framing::UntilClose => loop {
                content.append(&mut self.input);
                match self.more().await {
                    Ok(_) => {}
                    Err(Stop::End) => return Ok(()),
                    Err(stop) => return Err(stop),
                }
            },
            Framing::Chunks => loop {
                let line = self.until(b"\r\n").await?;
                let size = std::str::from_utf8(&line).ok();
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.ok_or_else(|| Stop::Malformed(format!("a chunk of {line:?}")))?;
                if size == 0 {
                    return self.trailers().await;
                }
                self.exactly(size, content).await?;
                let end = self.until(b"\r\n").await?;
                if !end.is_empty() {
                    return Err(Stop::Malformed(format!("{end:?} behind a chunk")));
                }
            },
        }
    }

    async fn trailers(&mut self) -> Result<(), Stop> {
        self.trailers.clear();
        loop {
            let line = self.until(b"\r\n").await?;
            if line.is_empty() {
                return Ok(());
            }
            let line =
                String::from_utf8(line).map_err(|_| Stop::Malformed("no text".to_owned()))?;
            self.trailers.push_str(&line);
        }
    }

    async fn exactly(&mut self, count: usize, content: &mut Vec<u8>) -> Result<(), Stop> {
        let mut left = count;
        loop {
            let taken = left.min(self.input.len());
            content.extend(self.input.drain(..taken));
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }
}
