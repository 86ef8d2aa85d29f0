//! Which crate may depend on which, and that only one of them may use unsafe code.

use super::source::Source;
use crate::build::Metadata;

/// The crates that each crate may depend on. Tests and examples (dev-dependencies) are free.
const EDGES: &[(&str, &[&str])] = &[
    ("ringway-kernel", &[]),
    ("ringway-runtime", &["ringway-kernel"]),
    ("ringway-http", &[]),
    ("ringway-host", &["ringway-kernel"]),
    (
        "ringway-server",
        &["ringway-runtime", "ringway-http", "ringway-host"],
    ),
    (
        "ringway-bench",
        &[
            "ringway-kernel",
            "ringway-runtime",
            "ringway-http",
            "ringway-host",
            "ringway-server",
        ],
    ),
    (
        "ringway",
        &[
            "ringway-kernel",
            "ringway-runtime",
            "ringway-http",
            "ringway-host",
            "ringway-server",
            "ringway-bench",
        ],
    ),
    ("xtask", &["ringway-kernel"]),
];

/// The one crate that may contain unsafe code.
const UNSAFE_CRATE: &str = "ringway-kernel";

/// Checks every member of the workspace.
pub(super) fn check(metadata: &Metadata, sources: &[Source], problems: &mut Vec<String>) {
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = EDGES.iter().find(|(listed, _)| *listed == name) else {
            problems.push(format!(
                "{name}: a new crate needs its place in ARCHITECTURE and tidy"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let inside = dependency.path.is_some();
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if inside && !for_tests && !allowed.contains(&dependency.name.as_str()) {
                problems.push(format!("{name}: must not depend on {}", dependency.name));
            }
        }
        if name != UNSAFE_CRATE {
            let manifest = package.manifest_path.to_string_lossy();
            let folder = manifest.trim_end_matches("Cargo.toml");
            forbids_unsafe(folder, sources, problems);
        }
    }
}

/// The roots of the crate in `folder` (absolute, with a slash at its end) say so themselves.
fn forbids_unsafe(folder: &str, sources: &[Source], problems: &mut Vec<String>) {
    for root in ["src/lib.rs", "src/main.rs"] {
        let path = format!("{folder}{root}");
        let Some(source) = sources
            .iter()
            .find(|source| path.ends_with(&format!("/{}", source.path)))
        else {
            continue;
        };
        if !source
            .code
            .iter()
            .any(|line| line == "#![forbid(unsafe_code)]")
        {
            problems.push(format!("{}: lacks #![forbid(unsafe_code)]", source.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::build::Metadata;

    fn check(package: &str, text: &str, expect: &[&str]) {
        let metadata = format!(r#"{{"target_directory": "/t", "packages": [{package}]}}"#);
        let metadata: Metadata = serde_json::from_str(&metadata).expect("valid");
        let mut problems = Vec::new();
        super::check(
            &metadata,
            &[Source::new("crates/http/src/lib.rs", text)],
            &mut problems,
        );
        assert_eq!(problems, expect);
    }

    fn package(name: &str, dependencies: &str) -> String {
        format!(
            r#"{{"name": "{name}", "manifest_path": "/r/crates/http/Cargo.toml",
                 "dependencies": [{dependencies}]}}"#
        )
    }

    const GOOD: &str = "//! H.\n#![forbid(unsafe_code)]\n";

    #[test]
    fn an_edge_against_the_direction_is_found() {
        let kernel = r#"{"name": "ringway-kernel", "kind": null, "path": "/r/crates/kernel"}"#;
        let expect = ["ringway-http: must not depend on ringway-kernel"];
        check(&package("ringway-http", kernel), GOOD, &expect);
        let for_tests = kernel.replace("null", "\"dev\"");
        check(&package("ringway-http", &for_tests), GOOD, &[]);
        let outside = r#"{"name": "httparse", "kind": null, "path": null}"#;
        check(&package("ringway-http", outside), GOOD, &[]);
    }

    #[test]
    fn a_crate_without_the_attribute_is_found() {
        let expect = ["crates/http/src/lib.rs: lacks #![forbid(unsafe_code)]"];
        check(
            &package("ringway-http", ""),
            "//! H.\n// #![forbid(unsafe_code)]\n",
            &expect,
        );
    }

    #[test]
    fn a_crate_that_no_one_placed_is_found() {
        let expect = ["ringway-new: a new crate needs its place in ARCHITECTURE and tidy"];
        check(&package("ringway-new", ""), GOOD, &expect);
    }
}
