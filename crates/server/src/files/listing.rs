//! Directory listings: what is in a directory, for people and for programs.
//!
//! A listing is made by the blocking pool from a bounded number of names, and kept with the cached
//! files, so that asking for it a thousand times costs one read for each interval. It is in the order
//! that the query asks for, `?sort=name|size|time&order=asc|desc`; folders come first.

mod page;

use super::entry::{Entry, Variant};
use super::find::status_of;
use super::respond::Representation;
use super::{Root, is_dotted};
use ringway_http::StatusCode;
use ringway_http::head::RequestHead;
use ringway_http::negotiate::media_type;
use ringway_http::target::{Target, encode_path};
use ringway_runtime::{Contents, DirectoryEntry, FileKind, Metadata};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::rc::Rc;

impl Root {
    /// Whether `path` would be answered with a listing, if it is a directory without an index.
    pub(super) fn lists(&self, path: &[u8]) -> bool {
        self.config.browse && path.ends_with(b"/")
    }

    /// The listing of the directory at `path`, which has a slash at its end, as the client wants
    /// it; and where it is kept.
    pub(super) async fn list(
        &self,
        path: &[u8],
        head: &RequestHead<'_>,
    ) -> Result<(Rc<Entry>, Vec<u8>), StatusCode> {
        let form = Form::choose(head);
        let query = match Target::parse(head.method, head.target) {
            Ok(Target::Resource(resource)) => resource.query,
            _ => None,
        };
        let order = Order::parse(query);
        // No path of a request has a NUL in it, so nothing else is kept there.
        let mut key = [path, b"\0", form.content_type().as_bytes()].concat();
        key.extend_from_slice(order.query().as_bytes());
        loop {
            let now = ringway_runtime::now();
            if let Some(entry) = self.cached(&key).filter(|entry| entry.is_fresh(now)) {
                return Ok((entry, key));
            }
            // A crowd that asks for the same waits for one of them to have it made.
            match self.listings.board(&key) {
                Ok(pilot) => {
                    let made = self.make_listing(path, form, order).await;
                    if let (Ok(entry), Some(kept)) = (&made, &self.kept) {
                        kept.keep(&key, Rc::clone(entry));
                    }
                    pilot.land(made.clone());
                    return made.map(|entry| (entry, key));
                }
                Err(flight) => {
                    // Without a result whoever had it made has left: the next one tries.
                    if let Some(made) = flight.landed().await {
                        return made.map(|entry| (entry, key));
                    }
                }
            }
        }
    }

    async fn make_listing(
        &self,
        path: &[u8],
        form: Form,
        order: Order,
    ) -> Result<Rc<Entry>, StatusCode> {
        let directory = self.directory.borrow().clone();
        let (symlinks, limit) = (self.symlinks, self.limits.listing_entries);
        let shows_dotted = self.config.show_dotfiles;
        let (own_path, listed) = (path.to_vec(), directory.clone());
        let made = directory.spawn_blocking(move || {
            let contents = listed.contents(&own_path[1..], symlinks, limit, |name| {
                shows_dotted || !is_dotted(name)
            })?;
            std::io::Result::Ok(render(&own_path, contents, form, order, limit))
        });
        let made = made.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let made = self.telling(&path[1..], made);
        let body = made.map_err(|error| status_of(&error))?;
        let metadata = Metadata {
            kind: FileKind::Regular,
            bytes: body.len() as u64,
            modified_seconds: 0,
            modified_nanoseconds: 0,
            changed: (0, 0),
            inode: 0,
            device: 0,
        };
        let candidates = self.candidates(Vec::new(), &metadata, form.content_type());
        let headers = self
            .headers
            .of_listing(form.policy(), !candidates.is_empty());
        let representation = Representation::made(form.content_type(), headers);
        let now = ringway_runtime::now();
        let identity = Variant::in_memory(representation, &body, now);
        let fresh_until = now + self.config.revalidate_interval;
        let entry = Entry::new(
            identity,
            &path[1..],
            metadata,
            candidates,
            fresh_until,
            None,
        );
        Ok(Rc::new(entry))
    }
}

/// Whether the listing is a page or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Json,
}

impl Form {
    /// What the client would rather have; the page when it wants neither.
    pub(super) fn choose(head: &RequestHead<'_>) -> Form {
        let offered = ["text/html", "application/json"];
        match media_type(head.header("accept"), offered) {
            Some("application/json") => Form::Json,
            _ => Form::Html,
        }
    }

    pub(super) fn policy(self) -> Option<&'static str> {
        match self {
            Form::Html => Some(page::POLICY),
            Form::Json => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json",
        }
    }
}

/// What a listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    by: By,
    is_descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    Size,
    Time,
}

impl By {
    /// The word for it in a query.
    fn word(self) -> &'static str {
        match self {
            By::Name => "name",
            By::Size => "size",
            By::Time => "time",
        }
    }
}

impl Order {
    /// What a query asks for; what it says otherwise means nothing.
    fn parse(query: Option<&[u8]>) -> Order {
        let mut order = Order {
            by: By::Name,
            is_descending: false,
        };
        for parameter in query.unwrap_or_default().split(|byte| *byte == b'&') {
            match parameter {
                b"sort=name" => order.by = By::Name,
                b"sort=size" => order.by = By::Size,
                b"sort=time" => order.by = By::Time,
                b"order=asc" => order.is_descending = false,
                b"order=desc" => order.is_descending = true,
                _ => {}
            }
        }
        order
    }

    /// The query that asks for it, as it stands in a link; nothing for what is so anyway.
    fn query(self) -> &'static str {
        match (self.by, self.is_descending) {
            (By::Name, false) => "",
            (By::Name, true) => "?sort=name&amp;order=desc",
            (By::Size, false) => "?sort=size&amp;order=asc",
            (By::Size, true) => "?sort=size&amp;order=desc",
            (By::Time, false) => "?sort=time&amp;order=asc",
            (By::Time, true) => "?sort=time&amp;order=desc",
        }
    }

    fn compare(self, a: &DirectoryEntry, b: &DirectoryEntry) -> Ordering {
        let by_kind = is_directory(b).cmp(&is_directory(a));
        let modified = |entry: &DirectoryEntry| {
            let metadata = &entry.metadata;
            (metadata.modified_seconds, metadata.modified_nanoseconds)
        };
        let by_key = match self.by {
            By::Name => natural(&a.name, &b.name),
            // A folder has no size that would mean anything.
            By::Size if is_directory(a) => Ordering::Equal,
            By::Size => a.metadata.bytes.cmp(&b.metadata.bytes),
            By::Time => modified(a).cmp(&modified(b)),
        };
        let by_key = match self.is_descending {
            true => by_key.reverse(),
            false => by_key,
        };
        by_kind.then(by_key).then_with(|| natural(&a.name, &b.name))
    }
}

/// The listing of the directory at `path`, which is decoded and has a slash at both ends, from
/// the `limit` names that were looked at.
fn render(path: &[u8], mut contents: Contents, form: Form, order: Order, limit: usize) -> Vec<u8> {
    contents
        .entries
        .sort_unstable_by(|a, b| order.compare(a, b));
    match form {
        Form::Html => page::render(path, &contents, order, limit),
        Form::Json => data(path, &contents),
    }
}

/// For programs: names as text, and links that lead to whatever bytes they are.
fn data(path: &[u8], contents: &Contents) -> Vec<u8> {
    let entry = |entry: &DirectoryEntry| {
        let link = link_to(entry).map_or(Value::Null, |link| text(&link));
        let modified = page::iso_time(entry.metadata.modified_seconds);
        let name = text(&entry.name);
        match is_directory(entry) {
            true => {
                json!({ "name": name, "type": "directory", "url": link, "modified": modified })
            }
            false => json!({
                "name": name,
                "type": "file",
                "url": link,
                "size": entry.metadata.bytes,
                "modified": modified,
            }),
        }
    };
    let entries: Vec<Value> = contents.entries.iter().map(entry).collect();
    let listing = json!({
        "path": text(path),
        "truncated": contents.is_cut,
        "entries": entries,
    });
    format!("{listing}\n").into_bytes()
}

fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// A relative link to an entry, percent-encoded; `None` when no request can name it.
///
/// It begins with `./`, or a name with a colon would be taken for a scheme.
fn link_to(entry: &DirectoryEntry) -> Option<Vec<u8>> {
    // The target's parser refuses them, encoded or not.
    if entry.name.contains(&b'\\') {
        return None;
    }
    let mut link = b"./".to_vec();
    encode_path(&entry.name, &mut link);
    if is_directory(entry) {
        link.push(b'/');
    }
    Some(link)
}

fn is_directory(entry: &DirectoryEntry) -> bool {
    entry.metadata.kind == FileKind::Directory
}

/// The order in which people look for names: ASCII letters without their case, and runs of digits
/// as numbers. Names that differ are never equal.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(first), Some(second)) = (left.first(), right.first()) {
        let ordering = if first.is_ascii_digit() && second.is_ascii_digit() {
            let (one, other) = (take_number(&mut left), take_number(&mut right));
            // Without leading zeros the longer number is the larger.
            one.len().cmp(&other.len()).then(one.cmp(other))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            first.to_ascii_lowercase().cmp(&second.to_ascii_lowercase())
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    left.len().cmp(&right.len()).then(a.cmp(b))
}

/// The digits that `text` begins with, without leading zeros.
fn take_number<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    let zeros = digits.iter().position(|digit| *digit != b'0');
    &digits[zeros.unwrap_or(digits.len())..]
}

#[cfg(test)]
mod tests;
