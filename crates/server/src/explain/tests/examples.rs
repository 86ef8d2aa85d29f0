//! The example configurations say what they do in their comments; here that is found to be so.

use std::path::{Path, PathBuf};

use super::super::*;
use crate::config::Flags;

/// The example configurations, without those that they include.
fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let entries = directory.read_dir().expect("the repository has examples");
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect()
}

/// The environment of the examples: empty, so that their defaults hold.
fn flags() -> Flags {
    let names = [
        "RINGWAY_LISTEN",
        "RINGWAY_ADMIN_LISTEN",
        "APP_1",
        "APP_2",
        "APP_SPARE",
        "API_1",
        "API_2",
        "ADMIN",
    ];
    let set = |flags: Flags, name: &&str| flags.variable(name, "");
    names.iter().fold(Flags::new(), set)
}

/// The questions in the comments of an example, each with the lines that answer it.
fn questions(text: &str) -> Vec<(Question, Vec<String>)> {
    let mut questions: Vec<(Question, Vec<String>)> = Vec::new();
    let mut is_answer = false;
    for line in text.lines() {
        if let Some(asked) = line.strip_prefix("# $ ringway explain ") {
            let (method, url) = asked.split_once(' ').expect("a method and a URL");
            let question = Question {
                method: method.to_owned(),
                url: url.to_owned(),
                headers: Vec::new(),
                listener: None,
                client: "127.0.0.1".parse().unwrap(),
            };
            questions.push((question, Vec::new()));
            is_answer = true;
            continue;
        }
        match line.strip_prefix("# ") {
            Some(line) if is_answer => questions.last_mut().unwrap().1.push(line.to_owned()),
            _ => is_answer = false,
        }
    }
    questions
}

#[test]
fn examples_do_what_they_say() {
    let mut question_count = 0;
    for path in examples() {
        let name = path.display();
        let config = Config::load(&path, &flags());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        for (question, lines) in questions(&std::fs::read_to_string(&path).unwrap()) {
            let answer = explain(&config, &question).unwrap().to_string();
            // The directory is where the test runs, not where the example is tried.
            let base = path.parent().unwrap().display().to_string();
            let answer = answer.replace(&base, "docs/examples");
            assert!(!lines.is_empty(), "{name}: {}", question.url);
            for line in lines {
                let is_there = answer.lines().any(|shown| shown == line);
                assert!(is_there, "{name}: {line} isn't in\n{answer}");
            }
            question_count += 1;
        }
    }
    assert!(question_count >= 8, "{question_count} questions were found");
}

#[test]
fn examples_are_dumped_and_read_again() {
    for path in examples() {
        let config = Config::load(&path, &flags()).unwrap();
        let again = Config::from_toml(&config.to_toml());
        assert_eq!(again.unwrap(), config, "{}", path.display());
    }
}
