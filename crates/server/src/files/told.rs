//! What a root's answers say because of its configuration, told without a server: for `explain`.
//!
//! It asks the same [`Headers`] as the answers that are sent. What only a look at the bytes can tell
//! (tags, times, whether there are codings to choose from) isn't here.

use super::headers::{FileHeaders, Headers};
use super::listing::Form;
use super::location;
use super::media::content_type;
use crate::answer::{self, ALLOWED, Frame};
use crate::config;
use ringway_http::StatusCode;
use ringway_http::head::RequestHead;
use ringway_http::response::{ResponseHead, name};
use std::rc::Rc;

/// How a root answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the file of this path, which begins with a slash.
    File(Vec<u8>),
    /// With a listing of the directory.
    Listing,
    /// By leading to another path, which is decoded.
    Moved(Vec<u8>),
    /// With what may be asked.
    Options,
    /// With an error, and the path of the site's page for it if there is one.
    Refused(StatusCode, Option<Vec<u8>>),
}

impl Ending {
    /// The status without conditions and ranges, which depend on the file's bytes.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Ending::File(_) | Ending::Listing => StatusCode::OK,
            Ending::Moved(_) => StatusCode::MOVED_PERMANENTLY,
            Ending::Options => StatusCode::NO_CONTENT,
            Ending::Refused(status, _) => *status,
        }
    }

    /// The path of the file whose bytes are sent.
    pub(crate) fn file(&self) -> Option<&[u8]> {
        match self {
            Ending::File(path) | Ending::Refused(_, Some(path)) => Some(path),
            _ => None,
        }
    }
}

/// A head with the fields that the answer has because of the configuration, and those that its
/// status needs.
pub(crate) fn head(root: &config::Root, ending: &Ending, request: &RequestHead<'_>) -> Vec<u8> {
    let headers = Rc::new(Headers::new(root));
    let frame = Frame {
        origin: headers.origin_of(request),
        ..Frame::of(request, true)
    };
    let of_file = |path: &[u8]| headers.of_file(path, &content_type(path, &root.charset), false);
    let add = |own: FileHeaders, head| own.add_caching(own.add(head, frame));
    let mut out = Vec::new();
    let head = ResponseHead::new(&mut out, ending.status(), request.version);
    let head = match ending {
        Ending::File(path) => add(of_file(path), head),
        Ending::Listing => {
            let policy = Form::choose(request).policy();
            add(headers.of_listing(policy, false), head)
        }
        Ending::Moved(path) => {
            let head = headers.add_brief(head, frame);
            head.header(name::LOCATION, &location(request, path))
        }
        Ending::Options => {
            let head = headers.add_brief(head.header(name::ALLOW, ALLOWED), frame);
            headers.add_preflight(head, frame, request)
        }
        Ending::Refused(status, page) => {
            let head = headers.explain(answer::explain(head, *status), *status);
            match page {
                Some(path) => of_file(path).add_uncached(head, frame),
                None => headers.add_brief(head, frame),
            }
        }
    };
    // What is added was checked, or is percent-encoded.
    let _ = head.finish();
    out
}
