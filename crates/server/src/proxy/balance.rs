//! Which server gets a request.
