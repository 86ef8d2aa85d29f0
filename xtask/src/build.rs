//! Where the repository and its build products are, and building the programs that are measured.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root: the folder that holds `xtask`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the xtask folder lies in the repository")
}

/// Cargo, as the command that runs us was started, in the repository's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What `cargo metadata` says about the workspace.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Where build products go.
    pub(crate) target_directory: PathBuf,
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a member's dependencies.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Nothing for an ordinary one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Set for members of the workspace.
    pub(crate) path: Option<PathBuf>,
}

/// Asks cargo about the workspace.
pub(crate) fn metadata() -> Result<Metadata> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run cargo metadata")?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {problem}");
    serde_json::from_slice(&output.stdout).context("cargo metadata said something unexpected")
}

/// A release build of the program itself.
pub(crate) fn release_program() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "ringway"]);
    let status = build.status().context("cannot run cargo build")?;
    ensure!(status.success(), "cargo build failed");
    Ok(metadata()?.target_directory.join("release/ringway"))
}

/// The only target whose instrumented builds are tried: with a sanitizer, or for a fuzzer.
pub(crate) const INSTRUMENTED_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Cargo, which has the usual compiler take these unstable flags, for that target and in a folder of
/// its own.
///
/// # Errors
/// On any other target.
pub(crate) fn instrumented_cargo(flags: &str, folder: &Path) -> Result<Command> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_env = "gnu")),
        "this is for {INSTRUMENTED_TARGET} alone"
    );
    let mut command = cargo();
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        // Named, so that what runs within the compiler is built without the flags.
        .env("CARGO_BUILD_TARGET", INSTRUMENTED_TARGET)
        .env("CARGO_TARGET_DIR", folder);
    Ok(command)
}

/// The release builds of the yardsticks, the runtime's example and the program itself.
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds what exists.
    pub(crate) fn build() -> Result<Programs> {
        let programs = Programs {
            folder: metadata()?.target_directory.join("release"),
        };
        let mut builds = vec![
            vec!["--package", "ringway"],
            vec!["--package", "ringway-kernel", "--examples"],
        ];
        if root()
            .join("crates/runtime/examples/hello_http.rs")
            .exists()
        {
            builds.push(vec![
                "--package",
                "ringway-runtime",
                "--example",
                "hello_http",
            ]);
        }
        for arguments in builds {
            let mut build = cargo();
            build.args(["build", "--release"]).args(&arguments);
            let status = build.status().context("cannot run cargo build")?;
            ensure!(
                status.success(),
                "cargo build --release {} failed",
                arguments.join(" ")
            );
        }
        Ok(programs)
    }

    /// The programs of an earlier build.
    pub(crate) fn built() -> Result<Programs> {
        Ok(Programs {
            folder: metadata()?.target_directory.join("release"),
        })
    }

    /// A yardstick of the kernel crate.
    pub(crate) fn yardstick(&self, name: &str) -> PathBuf {
        self.folder.join("examples").join(name)
    }

    /// The runtime's smallest HTTP server, where it exists.
    pub(crate) fn hello(&self) -> Option<PathBuf> {
        Some(self.folder.join("examples/hello_http")).filter(|path| path.exists())
    }

    /// The program, if it can already serve.
    pub(crate) fn ringway(&self) -> Option<PathBuf> {
        let program = self.folder.join("ringway");
        let help = Command::new(&program)
            .args(["serve", "--help"])
            .output()
            .ok()?;
        String::from_utf8_lossy(&help.stdout)
            .contains("--listen")
            .then_some(program)
    }
}
