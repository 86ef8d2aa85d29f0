//! The machine below the server: what it is, what is wrong with it for a network service, what to
//! change, doing and undoing that, and where workers go.
//!
//! In the order of the work: a [`machine::Machine`] is read into [`facts`] (with [`probes`] for what
//! no file tells). With what the operator says ([`intent`]) they decide where workers go
//! ([`placement`]), what to change ([`plan`]) and what is wrong ([`checks`]), which is told as a [`report`]; and [`apply`]
//! does it, by a [`journal`] that knows its [`origin`]; [`undo`] looks whether it holds and puts it back, and
//! [`persist`] keeps it for the next run of the kernel. [`capture`] takes the facts to another machine.

#![forbid(unsafe_code)]

pub mod apply;
pub mod capture;
pub mod checks;
pub mod cpulist;
pub mod facts;
pub mod guard;
pub mod intent;
pub mod journal;
pub mod machine;
pub mod origin;
pub mod persist;
pub mod placement;
pub mod plan;
pub mod probes;
pub mod report;
pub mod undo;
