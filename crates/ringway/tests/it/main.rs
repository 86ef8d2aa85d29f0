//! The real program, driven from outside. One module a subject; this file only lists them.

mod cli;
