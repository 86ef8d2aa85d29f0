//! Which servers can be used, by what their answers and the active checks say.
