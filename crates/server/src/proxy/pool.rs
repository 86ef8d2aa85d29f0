//! Idle connections to a server, and how many there may be.
