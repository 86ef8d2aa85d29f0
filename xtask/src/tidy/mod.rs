//! `cargo xtask tidy`: what ARCHITECTURE.md and CONTRIBUTING.md promise, where a program can tell.
//!
//! The same checks are an ordinary test below. Sizes have a list of exceptions, which may only
//! shrink: an entry has to be as large as what it excuses, and goes when nothing needs it.

mod edges;
mod limits;
mod map;
mod rules;
mod sizes;
mod source;

use crate::build::root;
use anyhow::{Context, Result, bail};
use source::Source;
use std::path::Path;

/// Prints what is out of order, and fails when anything is.
pub(crate) fn run() -> Result<()> {
    let problems = check(root())?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} things to put in order", problems.len());
    }
    println!("everything is in order");
    Ok(())
}

/// All problems, each on a line that starts with where it is.
fn check(root: &Path) -> Result<Vec<String>> {
    let files = read_files(root)?;
    let sources: Vec<Source> = files
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| Source::new(path, text))
        .collect();
    let mut problems = Vec::new();
    for (path, text) in &files {
        rules::machine_paths(path, text, &mut problems);
    }
    for source in &sources {
        rules::check(source, &mut problems);
    }
    rules::changelog(&files, &mut problems);
    limits::check(&files, &sources, &mut problems);
    map::check(&files, &mut problems);
    sizes::check(
        &sources,
        &read(&root.join(sizes::EXCEPTIONS))?,
        &mut problems,
    );
    edges::check(&crate::build::metadata()?, &sources, &mut problems);
    Ok(problems)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Every text file below the root, as its relative path and its content, sorted.
fn read_files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let context = || folder.display().to_string();
        for entry in std::fs::read_dir(&folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let kind = entry.file_type().with_context(context)?;
            let name = entry.file_name();
            if name == ".git" || name == "target" {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).with_context(context)?;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue; // a picture, a font, an input of a fuzz target
                };
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap_or(&path);
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use crate::build::root;

    #[test]
    fn the_repository_is_tidy() {
        let problems = super::check(root()).expect("the repository can be read");
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    }
}
