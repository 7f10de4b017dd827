//! The command line: which words mean what, and the exit codes.
//!
//! Only definitions: [`parse`] is a function of its arguments, and printing and exiting are `main`'s. What can be set
//! by file and environment has no flag: three ways to set a port are one too many.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::admin::cli::Adaptive;
use crate::ask::Ask;
use crate::simulate::command::{Form, Options};

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Serve {
        /// The operator's settings file, if the command line names one.
        settings: Option<PathBuf>,
    },
    /// Check rule files without serving.
    Check {
        /// The operator's settings file, for the defaults that rules inherit.
        settings: Option<PathBuf>,
        /// Files, and directories of files; at least one.
        files: Vec<PathBuf>,
    },
    /// Run the law over a described service or a recorded series.
    Simulate {
        /// The operator's settings file, for where rule files are and for what they inherit.
        settings: Option<PathBuf>,
        /// What to run it over.
        options: Options,
    },
    /// Ask the admin listener of a replica that serves.
    Adaptive {
        /// The operator's settings file, for where the listener is.
        settings: Option<PathBuf>,
        /// What to ask.
        asked: Adaptive,
    },
    /// Make one rate limit call.
    Ask {
        /// The operator's settings file, for where the gRPC port is.
        settings: Option<PathBuf>,
        /// What to ask.
        asked: Ask,
    },
}

/// How the process ends: the codes of BSD's `sysexits.h`, which service managers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done as asked, a signal to stop included.
    Success,
    /// 1: `tidegate ask` was answered that the request is over a limit.
    OverLimit,
    /// 64: the command line can't be understood.
    Usage,
    /// 69: something needed isn't to be had, such as a port that another process holds.
    Unavailable,
    /// 71: the operating system refused, such as threads or file descriptors.
    OperatingSystem,
    /// 74: what was asked for can't be written, such as to a full disk.
    Output,
    /// 78: settings or rules are wrong. Another start will fail likewise.
    Configuration,
}

const CODES: &str = "\
Exit codes: 0 success; 1 the answer to `tidegate ask` is OVER_LIMIT; 64 the command line is wrong; 69 something needed is not available (a port is taken, \
nobody answers); \
71 the operating system refused; 74 the output can't be written; 78 settings or rules are wrong. The first SIGTERM \
or SIGINT ends the process in order, with 0; a SIGINT more than a second later at once, with 130.

Every setting, with its default and its environment variable: config/settings.yaml.";

const ASK_CODES: &str = "\
Exit codes: 0 OK; 1 OVER_LIMIT; 64 the question is wrong; 69 nobody answered in time, or with an error; 74 the answer \
can't be written; 78 the settings are wrong.

Example: tidegate ask --domain shop user=ada path=/cart --descriptor user=bob --look";

/// A global rate limit service for Envoy.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, after_help = CODES, args_conflicts_with_subcommands = false)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    word: Option<Word>,
}

#[derive(Debug, Args)]
struct Common {
    /// Settings file; without it the one that TIDEGATE_SETTINGS names, if any
    #[arg(long, value_name = "FILE", global = true)]
    settings: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Word {
    /// Serve; what `tidegate` alone does
    Serve,
    /// Check rule files as a server would and report every mistake
    Check {
        /// Rule files, or directories of them
        #[arg(required = true, value_name = "FILES")]
        files: Vec<PathBuf>,
    },
    /// Run the law of adaptive limits over a described service, or over a recorded series
    Simulate(SimulateArguments),
    /// See adaptive limits and the reasons for them, freeze, set or reset them
    Adaptive(Adaptive),
    /// Make one rate limit call, as Envoy would, and tell the answer
    #[command(after_help = ASK_CODES)]
    Ask(Ask),
}

#[derive(Debug, Args)]
struct SimulateArguments {
    /// Scenario file; config/simulate/inventory.yaml shows every key
    #[arg(value_name = "SCENARIO", required_unless_present = "service")]
    scenario: Option<PathBuf>,
    /// Try this service of the rule files: its block is taken, not that of the scenario
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Rule files, or directories of them [default: those of the settings]
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "service")]
    rules: Vec<PathBuf>,
    /// Instead of the plant, what `tidegate adaptive record` wrote, or counters as CSV:
    /// time,offered,admitted,answered,failed,slow,latency_sum
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Instead of the plant, what the service's Prometheus says of a past range that begins here: RFC 3339, or -6h
    #[arg(long, value_name = "TIME", requires = "service", conflicts_with_all = ["replay", "scenario"], allow_hyphen_values = true)]
    from: Option<String>,
    /// Where the range ends, likewise
    #[arg(long, value_name = "TIME", requires = "from", default_value = "now", allow_hyphen_values = true)]
    to: String,
    /// Chance, instead of the scenario's; a recording and a past have none
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["replay", "from"])]
    seed: Option<u64>,
    /// Print comma-separated values, a line for each second (of a replay, for each decision)
    #[arg(long, conflicts_with = "json_lines")]
    csv: bool,
    /// Print a JSON object for each second and each decision
    #[arg(long)]
    json_lines: bool,
    /// Also write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Reads the command line; the first argument is the program's own name.
///
/// # Errors
/// What to print and how to exit ([`status_of`]): a mistake, or `--help` or `--version`, which are no command either.
pub fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<Command, clap::Error>
where
    A: Into<OsString> + Clone,
{
    let CommandLine { common: Common { settings }, word } = CommandLine::try_parse_from(arguments)?;
    Ok(match word {
        None | Some(Word::Serve) => Command::Serve { settings },
        Some(Word::Check { files }) => Command::Check { settings, files },
        Some(Word::Simulate(arguments)) => Command::Simulate { settings, options: arguments.options() },
        Some(Word::Adaptive(asked)) => Command::Adaptive { settings, asked },
        Some(Word::Ask(asked)) => Command::Ask { settings, asked },
    })
}

// === impl SimulateArguments ===

impl SimulateArguments {
    fn options(self) -> Options {
        let SimulateArguments { scenario, service, rules, replay, from, to, seed, csv, json_lines, html } = self;
        let form = match (csv, json_lines) {
            (true, _) => Form::Csv,
            (_, true) => Form::JsonLines,
            _ => Form::Table,
        };
        Options { scenario, service, rules, replay, range: from.map(|from| (from, to)), seed, form, html }
    }
}

/// How to exit after `error` has been printed: help and version, printed to standard output, are successes.
#[must_use]
pub fn status_of(error: &clap::Error) -> ExitStatus {
    if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success }
}

// === impl ExitStatus ===

impl ExitStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::OverLimit => 1,
            ExitStatus::Usage => 64,
            ExitStatus::Unavailable => 69,
            ExitStatus::OperatingSystem => 71,
            ExitStatus::Output => 74,
            ExitStatus::Configuration => 78,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> std::process::ExitCode {
        std::process::ExitCode::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn command(line: &str) -> Result<Command, ExitStatus> {
        parse(line.split(' ')).map_err(|error| status_of(&error))
    }

    #[test]
    fn the_definitions_hold_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_help_tells_every_exit_code() {
        let help = CommandLine::command().render_help().to_string();
        let codes = [
            ExitStatus::Success,
            ExitStatus::OverLimit,
            ExitStatus::Usage,
            ExitStatus::Unavailable,
            ExitStatus::OperatingSystem,
            ExitStatus::Output,
            ExitStatus::Configuration,
        ];
        for code in codes.map(ExitStatus::code).into_iter().chain([130]) {
            let is_told = help.split(|c: char| !c.is_ascii_digit()).any(|word| word == code.to_string());
            assert!(is_told, "{code}");
        }
    }

    #[test]
    fn serving_is_what_is_done_without_a_word() {
        let with = |settings: Option<&str>| Ok(Command::Serve { settings: settings.map(PathBuf::from) });
        assert_eq!(command("tidegate"), with(None));
        assert_eq!(command("tidegate serve"), with(None));
        assert_eq!(command("tidegate --settings a.yaml"), with(Some("a.yaml")));
        assert_eq!(command("tidegate serve --settings a.yaml"), with(Some("a.yaml")));
    }

    #[test]
    fn checking_takes_files_and_settings_in_any_order() {
        let expected =
            Ok(Command::Check { settings: Some("s.yaml".into()), files: vec!["a.yaml".into(), "rules".into()] });
        assert_eq!(command("tidegate check a.yaml rules --settings s.yaml"), expected);
        assert_eq!(command("tidegate --settings s.yaml check a.yaml rules"), expected);
    }

    #[test]
    fn adaptive_limits_have_words_of_their_own() {
        for line in [
            "status --json",
            "record a --for 10m",
            "why a --admin http://127.0.0.1:1",
            "freeze a --reason b --for 10m",
            "override a 90/s --reason b --force",
            "--admin 127.0.0.1:1 resume a",
            "reset a --reason b --by ada --settings s.yaml",
        ] {
            assert!(matches!(command(&format!("tidegate adaptive {line}")), Ok(Command::Adaptive { .. })), "{line}");
        }
    }

    #[test]
    fn a_question_names_its_domain_and_something_to_ask_about() {
        for line in ["user=ada", "--descriptor user=ada", "user=ada path=/ --hits 2 --json", "user=ada --look"] {
            assert!(
                matches!(command(&format!("tidegate ask --domain shop {line}")), Ok(Command::Ask { .. })),
                "{line}"
            );
        }
        for line in ["user=ada", "--domain shop", "--domain shop a=b --hits 0", "--domain shop a=b --look --hits 2"] {
            assert_eq!(command(&format!("tidegate ask {line}")), Err(ExitStatus::Usage), "{line}");
        }
    }

    #[test]
    fn help_and_version_succeed_and_mistakes_are_usage_errors() {
        for line in ["tidegate --version", "tidegate --help", "tidegate check --help", "tidegate adaptive why --help"] {
            assert_eq!(command(line), Err(ExitStatus::Success), "{line}");
        }
        let wrong = ["tidegate check", "tidegate nonsense", "tidegate --settings", "tidegate --port 1"];
        let unsigned = ["tidegate adaptive", "tidegate adaptive freeze a", "tidegate adaptive override a --reason b"];
        let seeds =
            ["tidegate simulate a.yaml --replay b --seed 1", "tidegate simulate --service a --from -1h --seed 1"];
        for line in wrong.into_iter().chain(unsigned).chain(seeds) {
            assert_eq!(command(line), Err(ExitStatus::Usage), "{line}");
        }
        assert_eq!(ExitStatus::Usage.code(), 64);
    }
}
