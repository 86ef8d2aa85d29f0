//! What may be tried a second time, and how often.
