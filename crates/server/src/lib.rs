//! Ringway: server.
