//! What is right, and yet most likely not what was meant: a table that nothing uses, a page that
//! isn't there.
//!
//! None of it keeps the server from starting, because files may come later. `ringway check` prints
//! the notes, and so does the start of a server.

use std::collections::HashSet;
use std::path::Path;

use super::{Config, Root};
use crate::files::freshness::doubts;
use crate::files::pages::PageRule;
use crate::route::Action;

impl Config {
    /// The notes, each a sentence. Looks at the directories of the roots, so this may wait for a
    /// disk.
    pub fn notes(&self) -> Vec<String> {
        let catch_all = self
            .listeners
            .iter()
            .filter_map(|one| one.catch_all.as_ref());
        let routed = self.routes.iter().map(|route| &route.rule.action);
        let (mut files, mut upstreams) = (HashSet::new(), HashSet::new());
        for action in catch_all.clone().chain(routed) {
            match action {
                Action::Files(index) => files.insert(*index),
                Action::Proxy(index) => upstreams.insert(*index),
                _ => false,
            };
        }
        let is_front = |index: usize| catch_all.clone().any(|one| *one == Action::Files(index));
        let mut notes = Vec::new();
        for (index, root) in self.roots.iter().enumerate() {
            match files.contains(&index) {
                true => notes.extend(root.notes(is_front(index))),
                false => notes.push(unused("files", &root.name)),
            }
        }
        for (index, upstream) in self.upstreams.iter().enumerate() {
            if !upstreams.contains(&index) {
                notes.push(unused("upstream", &upstream.name));
            }
        }
        notes
    }
}

fn unused(table: &str, name: &str) -> String {
    format!("[{table}.{name}] is there for nothing: no listener and no route names it")
}

impl Root {
    /// `is_front` is whether requests for `/` come here.
    fn notes(&self, is_front: bool) -> Vec<String> {
        let shown = self.root.display();
        let has_index = self.index.iter().any(|name| self.has(name));
        let index = self.index.join(" or ");
        let mut notes = Vec::new();
        if self.spa && !has_index {
            notes.push(format!(
                "no {index} in {shown}, which is the page that --spa (spa = true) answers with"
            ));
        } else if is_front && !has_index && !self.browse && self.try_files.is_empty() {
            notes.push(match self.index.is_empty() {
                true => format!("{shown} has no index: --browse (browse = true) lists directories"),
                false => {
                    format!("no {index} in {shown}: --browse (browse = true) lists directories")
                }
            });
        }
        // That `404.html` may be there is a default, not a wish.
        let wished = self
            .error_pages
            .iter()
            .filter(|line| *line != "404 /404.html");
        let rules = wished.filter_map(|line| PageRule::parse(line).ok());
        let missing = rules.filter(|rule| !self.has(&rule.path()[1..]));
        notes.extend(missing.map(|rule| {
            format!(
                "error_pages: no {} in {shown}: a few words stand in for it",
                rule.path()
            )
        }));
        let doubts = self.cache_control.iter().flat_map(|line| doubts(line));
        notes.extend(doubts.map(|doubt| format!("cache_control: {doubt}")));
        notes
    }

    /// Whether there is a file of this name, relative to the root. One that can't be looked at
    /// counts: that is told when it is asked for.
    fn has(&self, name: &str) -> bool {
        match std::fs::metadata(self.root.join(Path::new(name))) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
}
