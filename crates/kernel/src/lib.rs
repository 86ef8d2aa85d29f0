//! Ringway: kernel.
