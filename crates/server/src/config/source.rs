//! The texts that a configuration is read from: one file, and those that it includes.
//!
//! Places in all of them are counted through, as if the texts stood one behind the other, so that
//! a place is one range wherever it is. What is at a place, and whose directory relative paths
//! there start at, is asked here. No file is read here.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::node::Place;

/// One text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// What messages call it.
    pub(super) name: String,
    pub(super) text: String,
    /// Where relative paths start.
    directory: PathBuf,
    /// The place of its first byte.
    start: usize,
}

/// All texts, the one that includes the others first.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
}

impl Sources {
    /// Adds a text, and says where its places start.
    pub(super) fn add(&mut self, name: &str, text: &str, directory: &Path) -> usize {
        let last = self.list.last();
        // One more, so that the end of a text isn't the start of the next.
        let start = last.map_or(0, |last| last.start + last.text.len() + 1);
        self.list.push(Source {
            name: name.to_owned(),
            text: text.to_owned(),
            directory: directory.to_owned(),
            start,
        });
        start
    }

    /// The text with this place, and the place within it.
    pub(super) fn at(&self, span: Range<usize>) -> (&Source, Range<usize>) {
        let next = self
            .list
            .partition_point(|source| source.start <= span.start);
        let source = &self.list[next.saturating_sub(1)];
        let start = span.start - source.start;
        (source, start..start + span.len())
    }

    /// The place of each line's first byte.
    pub(super) fn line_starts(&self) -> Vec<usize> {
        let lines = self.list.iter().flat_map(|source| {
            let newlines = source.text.match_indices('\n').map(|(index, _)| index + 1);
            std::iter::once(0)
                .chain(newlines)
                .map(|start| source.start + start)
        });
        lines.collect()
    }

    /// A path of a file is relative to that file's directory, one of a flag to the current one.
    pub(super) fn resolve(&self, path: &Path, place: &Place) -> PathBuf {
        match place {
            Place::Text(span) => self.at(span.clone()).0.directory.join(path),
            Place::Flag(_) => path.to_owned(),
        }
    }

    /// A place as a hint names it: `sites/a.toml:3`.
    pub(super) fn show(&self, place: &Place) -> String {
        match place {
            Place::Text(span) => {
                let (source, within) = self.at(span.clone());
                let end = source.text.floor_char_boundary(within.start);
                let line = source.text[..end].matches('\n').count() + 1;
                format!("{}:{line}", source.name)
            }
            Place::Flag(flag) => flag.clone(),
        }
    }
}
