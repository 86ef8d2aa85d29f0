//! Ringway: http.
