//! What every report says of its run: where and how it was made, and what makes its figures worthless.

use super::plan::grouped;
use super::table::Table;
use crate::bench::system::machine::Machine;

/// A run, but for what was measured in it.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'r> {
    /// Where it was made.
    pub machine: &'r Machine,
    /// What was asked for, as one would type it.
    pub command: &'r str,
    /// Which process ran on which core.
    pub placement: &'r str,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it was the full length.
    pub is_full: bool,
    /// What differs from Tidegate's defaults.
    pub settings: &'r [(&'r str, &'r str)],
}

// === impl Surroundings ===

impl Surroundings<'_> {
    /// Why nobody should quote the figures; empty where they may be.
    #[must_use]
    pub fn warnings(&self) -> String {
        let mut text = String::new();
        if !self.is_full {
            text.push_str("\n**This was a short run**: it shows that everything works. Don't quote its figures.\n");
        }
        if !self.machine.optimised {
            text.push_str("\n**This was a build without optimisation.** Its figures mean nothing.\n");
        }
        text
    }

    /// The table of all, `more` rows at its end, and the settings.
    #[must_use]
    pub fn markdown(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let machine = self.machine;
        let mut table = Table::new(&["", "value"]);
        let rows = [
            ("processor", machine.cpu.clone()),
            ("cores", machine.cores.to_string()),
            ("memory", format!("{} MiB", grouped(usize::try_from(machine.memory_mib).unwrap_or(usize::MAX)))),
            ("kernel", machine.kernel.clone()),
            ("tidegate", machine.tidegate.clone()),
            ("redis-server", machine.redis.clone()),
            ("rustc", machine.rustc.clone()),
            ("command", format!("`{}`", self.command)),
            ("placement", self.placement.to_owned()),
            ("time", format!("{:.0} s", self.seconds)),
        ];
        for (name, value) in rows.into_iter().chain(more) {
            table.row([name.to_owned(), value]);
        }
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(
            "{}\nTidegate's settings besides its defaults:\n\n```\n{}\n```\n",
            table.markdown(),
            settings.join("\n")
        )
    }
}
