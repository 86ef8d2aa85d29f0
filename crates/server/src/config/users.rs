//! Checks who may have a root's files: users, password files, realms.
//!
//! What is written in the place of a hash may be a password, so no problem here shows it.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::keys::{FILES, Root};
use super::node::Place;
use super::problem::Problem;
use super::read::{Document, Section};
use super::source::Sources;
use crate::auth::{UserFault, parse_user, read_file};

/// Reads who may have a root's files, as far as it takes to know what is wrong.
pub(super) fn check_users(section: &mut Section<'_>, root: &mut Root, sources: &Sources) {
    let mut names = HashSet::new();
    let texts = root.users.as_deref().unwrap_or_default();
    for (text, place) in texts.iter().zip(section.places("users")) {
        let fault = match parse_user(text) {
            Ok((name, _)) if names.insert(name.to_owned()) => continue,
            Ok((name, _)) => UserFault::Twice(name.to_owned()),
            Err(fault) => fault,
        };
        let problem = Problem::new(place, fault.to_string()).hint(fault.remedy());
        section.report(problem.secret());
    }
    if let (Some(path), Some(place)) = (&mut root.users_file, section.place("users_file")) {
        *path = sources.resolve(path, &place);
        check_users_file(section, path, &place, &mut names);
    }
    let is_printable = |realm: &String| realm.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if let Some(place) = section.place("realm")
        && !root.realm.as_ref().is_none_or(is_printable)
    {
        let problem = Problem::new(place, "a realm has printable ASCII characters only");
        section.report(problem.hint("HTTP has no way to say in which characters the others are"));
    }
    for name in ["realm", "password_cache"] {
        if let Some(place) = section.place(name)
            && !root.has_users()
        {
            let message = format!("{name} has no effect where nobody is asked for a password");
            section.report(Problem::new(place, message).hint("add users or users_file"));
        }
    }
}

fn check_users_file(
    section: &mut Section<'_>,
    path: &Path,
    place: &Place,
    names: &mut HashSet<String>,
) {
    let shown = path.display();
    let mut report = |message: String, hint: String| {
        section.report(Problem::new(place.clone(), message).hint(hint));
    };
    let lines = match read_file(path) {
        Ok(lines) => lines,
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => {
                    "make it with ringway hash-password --user alice >> FILE"
                }
                io::ErrorKind::PermissionDenied => "let the user read it that the server runs as",
                _ => "a line is NAME:HASH, as ringway hash-password --user NAME prints it",
            };
            return report(format!("{shown} can't be read: {error}"), hint.to_owned());
        }
    };
    let is_empty = lines.users.is_empty() && lines.faults.is_empty();
    if is_empty && names.is_empty() {
        let hint = "add one with ringway hash-password --user alice >> FILE";
        report(format!("{shown} has no user in it"), hint.to_owned());
    }
    let mut faults = lines.faults;
    for (line, name, _) in lines.users {
        if !names.insert(name.to_string()) {
            faults.push((line, UserFault::Twice(name.into())));
        }
    }
    faults.sort_by_key(|(line, _)| *line);
    for (line, fault) in faults {
        report(format!("{shown}:{line}: {fault}"), fault.remedy());
    }
}

/// A password file in a directory that is served is one request away from everybody.
pub(super) fn check_users_files_apart(document: &mut Document<'_>, roots: &[Root]) {
    for entry in document.named(&FILES) {
        let mut section = document.named_section(&FILES, entry);
        let root = roots.iter().find(|root| root.name == entry.key);
        let (Some(place), Some(file)) = (
            section.place("users_file"),
            root.and_then(|root| root.users_file.as_ref()?.canonicalize().ok()),
        ) else {
            continue;
        };
        let is_over_it = |root: &&Root| {
            let directory = root.root.canonicalize();
            directory.is_ok_and(|directory| file.starts_with(directory))
        };
        if let Some(root) = roots.iter().find(is_over_it) {
            let message = format!(
                "the password file lies in what [files.{}] serves",
                root.name
            );
            section.report(Problem::new(place, message).hint("keep it outside of every root"));
        }
    }
}
