//! Ringway: runtime.
