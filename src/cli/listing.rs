//! What is read: a table for people, JSON for programs, both written while they are being read.
//!
//! Names, addresses and user agents were chosen by others. Whatever in them would steer a terminal rather
//! than be seen on it is written out instead, in both forms.

use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write as _};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::Failure;

/// What stands between two columns.
const GAP: &str = "  ";

/// One line of a table, or one element of a JSON array.
pub trait Row {
    /// What stands above each column.
    const HEADINGS: &'static [&'static str];
    /// What stands in each column.
    fn cells(&self) -> Vec<String>;
    /// The same for programs.
    fn json(&self) -> impl Serialize;
}

/// Rows on standard output, page by page.
pub struct Listing {
    out: BufWriter<Stdout>,
    json: bool,
    /// Of each column, as far as one can know by now.
    widths: Vec<usize>,
    rows: u64,
}

impl Listing {
    /// Nothing is written yet.
    pub fn new(json: bool) -> Self {
        Self { out: BufWriter::new(io::stdout()), json, widths: Vec::new(), rows: 0 }
    }

    /// Writes a page. `false`: it is not read any more.
    pub fn page<R: Row>(&mut self, rows: &[R]) -> Result<bool, Failure> {
        heard(if self.json { self.elements(rows) } else { self.lines(rows) })
    }

    /// Writes what belongs behind the last page: where there was none, that there is `nothing`.
    pub fn end(mut self, nothing: &str) -> Result<(), Failure> {
        let last = match (self.json, self.rows) {
            (true, 0) => writeln!(self.out, "[]"),
            (true, _) => writeln!(self.out, "\n]"),
            (false, 0) => writeln!(self.out, "{nothing}"),
            (false, _) => Ok(()),
        };
        heard(last.and_then(|()| self.out.flush())).map(|_| ())
    }

    fn elements<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        for row in rows {
            let before = if self.rows == 0 { "[\n" } else { ",\n" };
            write!(self.out, "{before}  {}", json(&row.json())?)?;
            self.rows += 1;
        }
        self.out.flush()
    }

    fn lines<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| row.cells().iter().map(|cell| visible(cell)).collect()).collect();
        let headings: Vec<String> = R::HEADINGS.iter().map(|heading| (*heading).to_owned()).collect();
        let begins = self.rows == 0 && !rows.is_empty();
        self.widths.resize(headings.len(), 0);
        for row in cells.iter().chain(begins.then_some(&headings)) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        for row in begins.then_some(&headings).into_iter().chain(&cells) {
            writeln!(self.out, "{}", line(row, &self.widths))?;
        }
        self.rows += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.out.flush()
    }
}

/// Cells in columns of these widths.
fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line += cell;
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
        line += GAP;
    }
    line.truncate(line.trim_end().len());
    line
}

/// A value as one line of JSON.
pub fn json(value: &impl Serialize) -> io::Result<String> {
    let text = serde_json::to_string(value)?;
    // Outside of strings JSON has no such character, and inside of one it may always be written like this.
    Ok(replace(&text, |escaped, c| {
        c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04x}"))
    }))
}

/// A text that others chose, for a terminal.
pub fn visible(text: &str) -> String {
    replace(text, |escaped, c| write!(escaped, "{}", c.escape_unicode()))
}

fn replace(text: &str, escape: impl Fn(&mut String, char) -> std::fmt::Result) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !steers(c) || escape(&mut escaped, c).is_err() {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character moves the cursor, changes the terminal, breaks the line or turns the direction of what follows.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether what was written can have been read. That it is not read is no error.
fn heard(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What stands where there is nothing.
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_written_out_and_all_else_stays() {
        assert_eq!(visible("a\u{1b}[2J\u{9b}b\u{202e}c\n\u{7f}"), "a\\u{1b}[2J\\u{9b}b\\u{202e}c\\u{a}\\u{7f}");
        for fine in ["Åsa O'Neill \"Öz\" \\", "阿部", "नमस्ते", "e\u{301}", "👩\u{200d}🔬"] {
            assert_eq!(visible(fine), fine);
        }
    }

    #[test]
    fn json_says_the_same_without_steering() {
        let text = "a\u{1b}b\u{9b}c\u{202e}d\u{7f}\"e\\";
        let written = json(&text).unwrap();
        assert!(!written.chars().any(steers), "{written:?}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn columns_are_as_wide_as_they_look() {
        let cells = |texts: [&str; 2]| texts.map(str::to_owned);
        assert_eq!(line(&cells(["阿部", "x"]), &[6, 1]), "阿部    x");
        assert_eq!(line(&cells(["ada", ""]), &[6, 1]), "ada");
    }
}
