//! Who runs, as the options name them: those who serve, or those who pass requests on to one of them.

use super::{FIRST_PORT, Options, SITE, UPSTREAM_PORT};
use crate::build::Programs;
use crate::contestants::proxies::{self, Course};
use crate::contestants::{BODIES, Contestant, nginx, ringway};
use crate::process::find;
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;

/// The contestants in the order in which they run.
pub(super) struct Choice<'a> {
    options: &'a Options,
    pub(super) contestants: Vec<Contestant>,
    /// How many that were asked for could not be found.
    pub(super) skipped: usize,
}

impl Choice<'_> {
    /// Those that are named, or all that are ours, and one's own.
    pub(super) fn of<'a>(
        options: &'a Options,
        programs: &Programs,
        scratch: &Path,
    ) -> Result<Choice<'a>> {
        let mut choice = Choice {
            options,
            contestants: Vec::new(),
            skipped: 0,
        };
        match options.proxy {
            true => choice.who_pass_on(programs, scratch)?,
            false => choice.who_serve(programs, scratch)?,
        }
        for pair in options.measure.chunks(2) {
            choice.contestants.push(parse_measure(pair)?);
        }
        ensure!(!choice.contestants.is_empty(), "no contestant is left");
        Ok(choice)
    }

    fn who_serve(&mut self, programs: &Programs, scratch: &Path) -> Result<()> {
        let body = BODIES[0];
        ensure!(!self.is_named("haproxy"), "HAProxy doesn't serve: --proxy");
        if self.is_wanted("yardstick") {
            for driver in ["uring", "epoll"] {
                let program = programs.yardstick(&format!("yardstick_{driver}"));
                let port = self.port();
                let one = Contestant::new(&format!("yardstick-{driver}"), &program, port, "")
                    .argument(port.to_string())
                    .argument(body.bytes.to_string());
                self.contestants.push(one);
            }
        }
        for driver in self.options.driver.names() {
            if self.is_wanted("hello") {
                let port = self.port();
                let name = format!("hello-{driver}");
                let hello = programs.hello().map(|program| {
                    Contestant::new(&name, &program, port, "")
                        .argument("--listen")
                        .argument(format!("127.0.0.1:{port}"))
                        .argument("--io")
                        .argument(*driver)
                });
                self.add(&name, hello, "the runtime has no example hello_http");
            }
        }
        for driver in self.options.driver.names() {
            if self.is_wanted("ringway") {
                let one = ringway(programs, driver, Path::new(SITE), self.port(), body.file);
                let name = format!("ringway-{driver}");
                self.add(&name, one, "the program cannot serve yet");
            }
        }
        if self.is_named("nginx") {
            let one = nginx(scratch, Path::new(SITE), self.port(), body.file, 1024)?;
            self.add("nginx", one, "nginx is not installed");
        }
        Ok(())
    }

    fn who_pass_on(&mut self, programs: &Programs, scratch: &Path) -> Result<()> {
        ensure!(!self.is_named("hello"), "hello doesn't pass requests on");
        let drivers = self.options.driver.names();
        if self.is_wanted("yardstick") {
            for driver in drivers {
                let one = proxies::relay(programs, driver, self.course());
                self.contestants.push(one);
            }
        }
        if self.is_wanted("ringway") {
            for driver in drivers {
                let one = proxies::ringway(programs, driver, self.course());
                let name = format!("ringway-{driver}");
                self.add(&name, one, "the program cannot serve yet");
            }
        }
        if self.is_named("nginx") {
            let one = proxies::nginx(scratch, self.course())?;
            self.add("nginx-proxy", one, "nginx is not installed");
        }
        if self.is_named("haproxy") {
            let one = proxies::haproxy(scratch, self.course())?;
            self.add("haproxy", one, "HAProxy is not installed");
        }
        Ok(())
    }

    fn add(&mut self, name: &str, one: Option<Contestant>, absence: &str) {
        match one {
            Some(one) => self.contestants.push(one),
            None => {
                skip(&format!("icount {name}"), absence);
                self.skipped += 1;
            }
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.options.contestants.iter().any(|named| named == name)
    }

    /// Also of those that run where none is named.
    fn is_wanted(&self, name: &str) -> bool {
        self.options.contestants.is_empty() || self.is_named(name)
    }

    /// One that none of the contestants has.
    fn port(&self) -> u16 {
        FIRST_PORT + self.contestants.len() as u16
    }

    fn course(&self) -> Course<'static> {
        Course {
            port: self.port(),
            upstream_port: UPSTREAM_PORT,
            path: BODIES[0].file,
            connections: 1024,
        }
    }
}

/// `NAME=COMMAND` and `PORT` or `PORT/PATH`.
fn parse_measure(pair: &[String]) -> Result<Contestant> {
    let [what, target] = pair else {
        bail!("--measure takes NAME=COMMAND and PORT/PATH")
    };
    let (name, command) = what
        .split_once('=')
        .context("--measure: NAME=COMMAND expected")?;
    let (port, path) = target.split_once('/').unwrap_or((target, ""));
    let port = port
        .parse()
        .with_context(|| format!("--measure: {port} is no port"))?;
    let mut words = command.split_whitespace();
    let program = words.next().context("--measure: the command is empty")?;
    let program = find(program).with_context(|| format!("--measure: no program {program}"))?;
    let one = Contestant::new(name, &program, port, path);
    Ok(words.fold(one, |one, word| one.argument(word)))
}

#[cfg(test)]
mod tests {
    use super::parse_measure;

    #[test]
    fn a_contestant_of_ones_own_is_read() {
        let pair = ["x=sh -c true".to_owned(), "80/a/b".to_owned()];
        let one = parse_measure(&pair).expect("valid");
        assert_eq!(
            (one.name.as_str(), one.port, one.path.as_str()),
            ("x", 80, "a/b")
        );
        assert_eq!(one.command[1..], ["-c", "true"]);
        assert!(parse_measure(&["x".to_owned(), "80".to_owned()]).is_err());
    }
}
