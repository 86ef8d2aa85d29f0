//! HTTP as bytes and meaning: what a request says, what a response must look like.
//!
//! Nothing here reads a socket, opens a file, asks for the time or starts a task, and nothing on
//! the path of an ordinary request allocates. Everything borrows from the bytes it was given. The
//! modules, in the order a request meets them:
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`head`] | is there a whole request head yet, is it sound, and how is its body framed? |
//! | [`target`] | which path, beneath the root and nowhere else, is asked for? |
//! | [`body`] | where does the body end, and which of these bytes are its content? |
//! | [`glob`] | is this path one of those that a rule is for? |
//! | [`fingerprint`] | does this name say what is in the file? |
//! | [`negotiate`] | which of several representations suits the client? |
//! | [`condition`] | does the client have it already? |
//! | [`range`] | which part of it does the client want? |
//! | [`multipart`] | and several parts at once? |
//! | [`date`] | the one text format of time |
//! | [`response`] | the head of the answer |
//! | [`received`] | and, for a client: what does a server's answer say? |
//! | [`hop`] | which fields of a head does a proxy not pass on? |
//!
//! Strictness is the rule: where RFC 9112 allows a recipient to repair a malformed message, this
//! crate refuses it, because two programs that repair differently can be played against each other
//! (request smuggling). Every such decision stands at the line that makes it, with its section.

#![forbid(unsafe_code)]

mod field;

pub mod head;

pub mod target;

pub mod body;

pub mod glob;

pub mod fingerprint;

pub mod negotiate;

pub mod condition;

pub mod range;

pub mod multipart;

pub mod date;

pub mod response;

pub mod received;

pub mod hop;

pub use http::StatusCode;
