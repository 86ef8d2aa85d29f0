//! Reads what a server sends, as it comes, and compares it with what was asked for.

use crate::request::{Content, Expected};

/// The answers on one connection, up to where they have come.
pub(crate) struct Answers {
    expected: Vec<Expected>,
    /// Failures of the file system are simulated.
    may_fail: bool,
    /// Requests that are answered in full.
    pub(crate) count: usize,
    /// `100 Continue`s.
    pub(crate) continues: usize,
    is_told_to_continue: bool,
    /// Bytes of a head that isn't whole.
    head: Vec<u8>,
    content: Option<Coming>,
}

/// The rest of an answer's content.
enum Coming {
    Exactly(Vec<u8>, usize),
    Any(usize),
}

impl Answers {
    pub(crate) fn new(expected: Vec<Expected>, may_fail: bool) -> Answers {
        Answers {
            expected,
            may_fail,
            count: 0,
            continues: 0,
            is_told_to_continue: false,
            head: Vec::new(),
            content: None,
        }
    }

    /// The last answer of the connection has come.
    pub(crate) fn is_over(&self) -> bool {
        self.count
            .checked_sub(1)
            .is_some_and(|last| self.expected[last].is_last)
    }

    /// That came before the last request of the script.
    pub(crate) fn is_over_early(&self) -> bool {
        self.is_over() && self.count < self.expected.len()
    }

    /// Whether all requests that get an answer have it.
    pub(crate) fn is_complete(&self) -> bool {
        let answerable = self.expected.iter().filter(|expected| !expected.is_cut);
        self.is_over() || self.count == answerable.count()
    }

    /// An answer has begun, and not ended.
    pub(crate) fn is_cut(&self) -> bool {
        !self.head.is_empty() || self.content.is_some()
    }

    /// Takes what was received next; `begun`: as many requests have been begun to be sent.
    pub(crate) fn take(&mut self, mut bytes: &[u8], begun: usize) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = match self.content.take() {
                Some(content) => self.take_content(content, bytes)?,
                None => self.take_head(bytes, begun)?,
            };
        }
        Ok(())
    }

    fn take_content<'b>(&mut self, content: Coming, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let left = match &content {
            Coming::Exactly(all, at) => all.len() - at,
            Coming::Any(left) => *left,
        };
        let (bytes, rest) = bytes.split_at(left.min(bytes.len()));
        self.content = match content {
            Coming::Exactly(all, at) if all[at..at + bytes.len()] != *bytes => {
                return Err(self.fault(&format!("wrong bytes from {at}")));
            }
            Coming::Exactly(all, at) => Some(Coming::Exactly(all, at + bytes.len())),
            Coming::Any(left) => Some(Coming::Any(left - bytes.len())),
        };
        if bytes.len() == left {
            self.end_answer();
        }
        Ok(rest)
    }

    fn end_answer(&mut self) {
        self.content = None;
        self.is_told_to_continue = false;
        self.count += 1;
    }

    fn take_head<'b>(&mut self, bytes: &'b [u8], begun: usize) -> Result<&'b [u8], String> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.chars().take(80).collect::<String>();
        if self.is_over() {
            return Err(self.fault(&format!("bytes after the last answer: {text:?}")));
        }
        if self.count >= begun {
            return Err(self.fault(&format!("an answer to nothing: {text:?}")));
        }
        // The head ends in these bytes, or not at all: it is looked for across the seam.
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let seam = before.saturating_sub(3);
        let end = self.head[seam..]
            .windows(4)
            .position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|end| seam + end + 4) else {
            return Ok(&[]);
        };
        let head = String::from_utf8(self.head[..end].to_vec());
        self.head.clear();
        let head = head.map_err(|_| self.fault("a head that is no text"))?;
        self.begin_answer(&head)
            .map_err(|what| self.fault(&format!("{what} in {head:?}")))?;
        Ok(&bytes[end - before..])
    }

    fn begin_answer(&mut self, head: &str) -> Result<(), String> {
        let expected = &self.expected[self.count];
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status = lines.next().unwrap_or_default();
        let status = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status: u16 = status
            .and_then(|code| code.parse().ok())
            .ok_or("no status")?;
        let fields: Vec<(String, &str)> = lines
            .map(|line| {
                line.split_once(": ")
                    .ok_or_else(|| format!("no field: {line:?}"))
            })
            .map(|field| field.map(|(name, value)| (name.to_ascii_lowercase(), value)))
            .collect::<Result<_, _>>()?;
        let field = |name: &str| -> Result<Option<&str>, String> {
            let mut named = fields.iter().filter(|(other, _)| other == name);
            match (named.next(), named.next()) {
                (_, Some(_)) => Err(format!("two fields {name}")),
                (field, None) => Ok(field.map(|(_, value)| *value)),
            }
        };
        if status == 100 {
            if !expected.asks_to_continue || self.is_told_to_continue || !fields.is_empty() {
                return Err("an unasked 100".to_owned());
            }
            self.is_told_to_continue = true;
            self.continues += 1;
            return Ok(());
        }
        let has_failed = self.may_fail && expected.may_fail && matches!(status, 500 | 503);
        // What asks leave to send its body is looked up before the body is there.
        if expected.is_cut && !(has_failed && expected.asks_to_continue) {
            return Err("an answer to a part of a request".to_owned());
        }
        if status != expected.status && !has_failed {
            return Err("the wrong status".to_owned());
        }
        if field("date")?.is_none_or(|date| date.len() != 29) || field("server")?.is_none() {
            return Err("no date or server".to_owned());
        }
        let says_last = field("connection")? == Some("close");
        // Before the body or behind it, by what failed.
        let may_be_last = has_failed && expected.asks_to_continue;
        if says_last != (expected.is_last && !expected.is_old) && !may_be_last {
            return Err(format!("says that it is the last: {says_last}"));
        }
        for (name, value) in expected.fields.iter().filter(|_| !has_failed) {
            if field(name)? != Some(value) {
                return Err(format!("no {name}: {value}"));
            }
        }
        let length = field("content-length")?.map(str::parse::<usize>);
        let length = length.transpose().map_err(|_| "a bad content-length")?;
        if status == 204 && length.is_some() {
            return Err("a length of what can't be there (RFC 9110 §8.6)".to_owned());
        }
        let content = match &expected.content {
            _ if expected.is_head => Coming::Any(0),
            Content::Nothing if !has_failed => Coming::Any(0),
            Content::Exactly(all) if !has_failed => Coming::Exactly(all.clone(), 0),
            _ => Coming::Any(length.ok_or("no content-length")?),
        };
        if let Coming::Exactly(all, _) = &content
            && length != Some(all.len())
        {
            return Err(format!("not the length {}", all.len()));
        }
        self.expected[self.count].is_last |= says_last;
        if matches!(&content, Coming::Any(0)) || length == Some(0) {
            self.end_answer();
        } else {
            self.content = Some(content);
        }
        Ok(())
    }

    fn fault(&self, what: &str) -> String {
        let expected = self.expected.get(self.count);
        format!(
            "answer {}: {what}; expected {}",
            self.count,
            expected.map_or_else(
                || "none".to_owned(),
                |expected| format!("{} {:?}", expected.status, expected.fields),
            )
        )
    }
}
