//! Where a program is, and a command that runs it no longer than this process lives.
//!
//! A process that is killed runs no `Drop`. So that its children end all the same, they are started through `setpriv`
//! (util-linux), which asks the kernel to kill them when their parent dies and then becomes them, under the same
//! process id. Where it is missing they are started plainly. The kernel goes by the *thread* that started a child:
//! start children on one that lasts as long as they are needed.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::SystemError;

/// The full path of a program in `PATH`. Programs that start others would say that they can't execute it, not that it
/// is missing.
///
/// # Errors
/// When it isn't there.
pub fn path_of(program: &str) -> Result<PathBuf, SystemError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
    let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not in PATH");
    found.ok_or_else(|| SystemError::Start { program: program.to_owned(), source: missing() })
}

/// A command that runs `program` until it ends or this process does.
pub fn tethered(program: impl AsRef<OsStr>) -> Command {
    if !setpriv_works() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

fn setpriv_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let tried = || Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).output();
    *WORKS.get_or_init(|| tried().is_ok_and(|output| output.status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tethered_program_gets_its_arguments_and_keeps_its_status() {
        let output = tethered("sh").args(["-c", "echo $0; exit 3", "--name"]).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"--name\n"[..]));
    }

    #[test]
    fn a_missing_program_is_named() {
        assert!(path_of("tidegate-no-such-program").unwrap_err().to_string().contains("tidegate-no-such-program"));
        assert!(path_of("sh").unwrap().is_absolute());
    }
}
