//! A password from whoever runs the program: from a terminal without showing it, or from a pipe.
//! Never from an argument, which every process on the machine could read.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, StdinLock, Write as _};

use anyhow::{Context as _, Result, bail};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// More than anybody's password: beyond it something else was piped in.
const PASSWORD_BYTES: u64 = 64 << 10;

const INTERRUPT: u8 = 0x03;

/// Asks for a password, twice where it can't be seen; from a pipe its first and only line.
pub(crate) fn read() -> Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    if !input.is_terminal() {
        return read_piped(&mut input);
    }
    let hidden = Hidden::begin()?;
    let password = ask(&mut input, "Password: ")?;
    let again = ask(&mut input, "The same again: ")?;
    drop(hidden);
    if password != again {
        bail!("the two passwords differ: try again");
    }
    Ok(password)
}

fn read_piped(input: &mut StdinLock<'_>) -> Result<Vec<u8>> {
    let mut password = Vec::new();
    let read = input.take(PASSWORD_BYTES + 1).read_to_end(&mut password);
    read.context("can't read the password from standard input")?;
    if password.len() as u64 > PASSWORD_BYTES {
        bail!("standard input is longer than any password");
    }
    if password.ends_with(b"\n") {
        password.pop();
        // From a file that was written on Windows.
        if password.ends_with(b"\r") {
            password.pop();
        }
    }
    if password.contains(&b'\n') {
        bail!("standard input has more than one line: a password is one");
    }
    Ok(password)
}

/// Asks on standard error, so that standard output has nothing but the hash.
fn ask(input: &mut StdinLock<'_>, prompt: &str) -> Result<Vec<u8>> {
    let mut errors = io::stderr();
    write!(errors, "{prompt}")?;
    errors.flush()?;
    // A terminal gives one line at a time, at most 4 KiB.
    let read = input.fill_buf().map(<[u8]>::to_vec);
    let mut line = read.context("can't read the password from the terminal")?;
    input.consume(line.len());
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => {
            // What was typed isn't echoed, nor is the end of its line.
            writeln!(errors)?;
            bail!("interrupted");
        }
    }
}

/// The terminal while it shows nothing; dropping it brings back what was.
///
/// Ctrl-C doesn't end the program meanwhile, which would leave the terminal like this, but the line
/// that is being typed.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn begin() -> Result<Hidden> {
        let input = io::stdin();
        let before = tcgetattr(&input).context("can't ask the terminal how it is set")?;
        let mut hidden = before.clone();
        hidden
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden
            .local_modes
            .insert(LocalModes::ICANON | LocalModes::ECHONL);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // What was typed before the prompt isn't the password.
        tcsetattr(&input, OptionalActions::Flush, &hidden)
            .context("can't keep the terminal from showing the password")?;
        Ok(Hidden { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Without a terminal there is nothing to bring back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
