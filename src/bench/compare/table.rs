//! Tables that read well as text and are Markdown, and figures with as many digits as mean something.

use crate::bench::statistics::Spread;

/// Rows of cells below a head.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// What stands in a cell for which there is no figure.
pub const NOTHING: &str = "–";

// === impl Table ===

impl Table {
    /// A table without rows. The first column is text, the others are figures.
    #[must_use]
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as the head has.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table without the columns in which no row has a figure.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Table {
        for column in (1..self.head.len()).rev() {
            if self.rows.iter().all(|row| row[column] == NOTHING) {
                self.head.remove(column);
                self.rows.iter_mut().for_each(|row| drop(row.remove(column)));
            }
        }
        self
    }

    /// As Markdown, padded so that it reads as text.
    #[must_use]
    pub fn markdown(&self) -> String {
        let head: Vec<String> = self.head.iter().map(|cell| (*cell).to_owned()).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&head]).map(|row| row[column].chars().count());
                cells.max().unwrap_or_default().max(3)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = widths.iter().enumerate().map(|(column, width)| {
            if column == 0 { "-".repeat(width + 2) } else { format!("{}:", "-".repeat(width + 1)) }
        });
        let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
        format!("{}{rule}{}", line(&head), self.rows.iter().map(line).collect::<String>())
    }
}

/// A figure with three digits that count, and all of those before the point.
#[must_use]
pub fn figure(number: f64) -> String {
    let size = number.abs();
    match size {
        _ if size >= 1_000.0 => super::plan::grouped(number.round() as usize),
        _ if size >= 100.0 || size == 0.0 => format!("{number:.0}"),
        _ if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A median.
#[must_use]
pub fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| NOTHING.to_owned(), |spread| figure(spread.median))
}

/// A median with the lowest and the highest, where there were several rounds.
#[must_use]
pub fn with_spread(spread: Option<Spread>) -> String {
    let Some(Spread { median, lowest, highest, rounds }) = spread else { return NOTHING.to_owned() };
    if rounds == 1 { figure(median) } else { format!("{} ({} to {})", figure(median), figure(lowest), figure(highest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        let figures = [0.0, 0.05, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(figure);
        assert_eq!(figures, ["0", "0.05", "1.23", "12.3", "123", "1,235", "1,234,567"]);
    }

    #[test]
    fn a_table_is_padded_and_loses_its_empty_columns() {
        let mut table = Table::new(&["case", "empty", "a"]);
        table.row(["long name".to_owned(), NOTHING.to_owned(), "1".to_owned()]);
        table.row(["b".to_owned(), NOTHING.to_owned(), NOTHING.to_owned()]);
        let lines = ["| case      |   a |", "|-----------|----:|", "| long name |   1 |", "| b         |   – |", ""];
        assert_eq!(table.without_empty_columns().markdown(), lines.join("\n"));
    }

    #[test]
    fn a_spread_is_shown_where_there_were_several_rounds() {
        assert_eq!(with_spread(Spread::of([1.0])), "1.00");
        assert_eq!(with_spread(Spread::of([0.5, 1.0, 2.0])), "1.00 (0.50 to 2.00)");
        assert_eq!((with_spread(None), median(None)), ("–".to_owned(), "–".to_owned()));
    }
}
