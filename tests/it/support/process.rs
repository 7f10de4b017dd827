//! A child process that cannot be left behind.
//!
//! Its output is collected line by line while it runs, so that it never blocks on a full pipe, and is printed when
//! the test that owns it fails. Plain `std::process`: killing and reaping in `Drop` must not need a runtime.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::eventually;

/// A running program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a program has written to one of its outputs so far.
#[derive(Debug)]
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

// === impl Process ===

impl Process {
    /// Starts `command`; `name` is what failure messages call it.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("was asked for above"));
        let stderr = Lines::of(child.stderr.take().expect("was asked for above"));
        Process { name: name.to_owned(), child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Whether it has ended, and how.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Asks it to end, as an orchestrator does.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Stops it where it is: its sockets stay open, and nobody answers.
    pub(crate) fn pause(&mut self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        self.signal("CONT");
    }

    /// Sends it a signal. The process still being ours, its id can't have been given to another.
    fn signal(&mut self, name: &str) {
        if self.exit_status().is_none() {
            let kill = format!("kill -{name} {}", self.id());
            let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
            assert!(status.success(), "{kill} failed");
        }
    }

    /// Ends it at once, without a chance to tidy up, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> Ended {
        let what = format!("{} ends", self.name);
        let status = eventually(&what, deadline, async || self.exit_status()).await;
        Ended { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// The memory that it holds now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS is a number of KiB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}, standard output:\n{}", self.name, self.stdout.end_of());
            eprintln!("--- {}, standard error:\n{}", self.name, self.stderr.end_of());
        }
    }
}

// === impl Lines ===

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Lines {
        let text = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let text = Arc::clone(&text);
            move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    text.lock().expect("no holder panics").push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Lines { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("no holder panics").clone()
    }

    /// Everything that an ended program wrote.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.so_far()
    }

    /// The last lines, for failure messages.
    fn end_of(&self) -> String {
        const LINES_MAX: usize = 60;
        let text = self.so_far();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }
}
