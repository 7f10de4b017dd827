//! A child process that cannot be left behind: killed by its id and reaped when dropped.
//!
//! Its output is read while it runs, so that it never blocks on a full pipe; the last lines are kept for errors.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::interrupt::Interrupt;
use super::{PATIENCE, SystemError};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// What a program has written so far.
#[derive(Debug)]
struct Output {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// Most bytes that are kept of an output. No program here says so much; a broken one must not fill the memory.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// The address on the line of a start-up text whose first word is `name`, once that line is whole.
#[must_use]
pub fn announced(name: &str, text: &str) -> Option<SocketAddr> {
    let whole_lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut words =
        whole_lines.map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then_some(words))?;
    words.find_map(|word| word.parse().ok())
}

// === impl Process ===

impl Process {
    /// Starts `command`; `name` is what errors call it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Process, SystemError> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| SystemError::Start { program: name.to_owned(), source })?;
        let stdout = Output::of(child.stdout.take().expect("was asked for above"));
        let stderr = Output::of(child.stderr.take().expect("was asked for above"));
        Ok(Process { name: name.to_owned(), child, stdout, stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.stdout.so_far()
    }

    /// Ends it at once, and waits until it has ended.
    pub fn kill(&mut self) {
        // It may have ended by itself, which is as good. It isn't reaped yet, so its id can't be another's.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Stops it where it is: its sockets stay open, and nobody answers.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        // A process that has ended needs no signal; its id could be another's.
        if self.exit_status().is_none()
            && let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw)
        {
            // It may have ended meanwhile, and is not reaped yet.
            kill_process(id, signal).ok();
        }
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn logged(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits until `find` finds something in what it has written to standard output, whole lines only.
    ///
    /// # Errors
    /// When it ends first, takes longer than [`PATIENCE`], or an interrupt comes.
    pub fn wait_for<T>(
        &mut self,
        interrupt: &Interrupt,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, SystemError> {
        let started = Instant::now();
        loop {
            // Asked before the text is read, so that the last words of a program that has ended are not missed.
            let ended = self.exit_status();
            if let Some(found) = find(&self.stdout.so_far()) {
                return Ok(found);
            }
            if let Some(status) = ended {
                return Err(self.ended(status));
            }
            if started.elapsed() > PATIENCE {
                return Err(SystemError::Late { program: self.name.clone(), what: "start", waited: PATIENCE });
            }
            interrupt.step()?;
        }
    }

    /// Goes on, unless it has ended.
    ///
    /// # Errors
    /// When it has, with the last lines that it wrote.
    pub fn check(&mut self) -> Result<(), SystemError> {
        self.exit_status().map_or(Ok(()), |status| Err(self.ended(status)))
    }

    /// Waits for its end, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it ends with a failure, takes longer than `patience`, or an interrupt comes.
    pub fn finish(mut self, interrupt: &Interrupt, patience: Duration) -> Result<String, SystemError> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.exit_status() {
                break status;
            }
            if started.elapsed() > patience {
                return Err(SystemError::Late { program: self.name.clone(), what: "finish", waited: patience });
            }
            interrupt.step()?;
        };
        if status.success() { Ok(self.stdout.all()) } else { Err(self.ended(status)) }
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        // It is our child, so asking can't fail; if it did, it would count as running until somebody's patience ends.
        self.child.try_wait().ok().flatten()
    }

    fn ended(&mut self, status: ExitStatus) -> SystemError {
        let written = format!("{}\n{}", self.stdout.all(), self.stderr.all());
        SystemError::Ended { program: self.name.clone(), status: status.to_string(), output: last_lines(&written) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_lines(text: &str) -> String {
    const LINES_MAX: usize = 12;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

// === impl Output ===

impl Output {
    fn of(output: impl Read + Send + 'static) -> Output {
        let text = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let text = Arc::clone(&text);
            move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                    if text.len() + line.len() <= OUTPUT_BYTES_MAX {
                        text.push_str(&String::from_utf8_lossy(&line));
                    }
                    line.clear();
                }
            }
        });
        Output { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that an ended program wrote.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // It doesn't panic, and what it has read is there even if it did.
            drop(reader.join());
        }
        self.so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::start("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn addresses_are_read_from_whole_lines_of_the_start_up_text() {
        let text = "tidegate 0.1.0\n  grpc   127.0.0.1:4711  a, b\nlistening on 127.0.0.1:9\n  http   127.0.0.1:47";
        assert_eq!(announced("grpc", text), Some(([127, 0, 0, 1], 4711).into()));
        assert_eq!(announced("listening", text), Some(([127, 0, 0, 1], 9).into()));
        assert_eq!(announced("http", text), None, "the line may go on");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = shell("echo ready; exec sleep 1000");
        let id = process.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_paused_process_stands_still_until_it_goes_on() {
        let mut process = shell("exec sleep 1000");
        let stat = format!("/proc/{}/stat", process.id());
        let becomes = |is_stopped: bool| {
            let started = Instant::now();
            while std::fs::read_to_string(&stat).unwrap().contains(") T ") != is_stopped {
                assert!(started.elapsed() < PATIENCE, "stopped should be {is_stopped}");
                Interrupt::default().step().unwrap();
            }
        };
        process.pause();
        becomes(true);
        process.resume();
        becomes(false);
        process.kill();
        assert!(process.check().is_err());
    }

    #[test]
    fn what_a_process_said_is_part_of_its_failure() {
        let error = shell("echo bad luck >&2; exit 3").finish(&Interrupt::default(), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("bad luck"), "{error}");
        let error = shell("echo gone").wait_for(&Interrupt::default(), |_| None::<()>).unwrap_err();
        assert!(matches!(error, SystemError::Ended { .. }), "{error}");
    }

    #[test]
    fn an_interrupt_ends_the_waiting() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let waited = shell("exec sleep 1000").finish(&interrupt, PATIENCE);
        assert!(matches!(waited, Err(SystemError::Interrupted)));
    }
}
