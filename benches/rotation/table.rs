//! The one table that comes out.

use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// Nothing is promised; it explains others.
    Shown,
}

impl Goal {
    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::AtLeast(least) if value >= least => "yes",
            Self::AtMost(most) if value <= most => "yes",
            Self::AtLeast(_) | Self::AtMost(_) => "**no**",
            Self::Shown => "",
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Shown => f.write_str("–"),
        }
    }
}

/// Rows of markdown.
#[derive(Default)]
pub struct Table(Vec<[String; 6]>);

impl Table {
    /// A row. `value` is what the goal is about, usually a ratio.
    pub fn add(&mut self, what: &str, floor: impl Into<String>, measured: impl Into<String>, value: f64, goal: Goal) {
        let cells = [
            what.to_owned(),
            floor.into(),
            measured.into(),
            format!("{value:.2}"),
            goal.to_string(),
            goal.verdict(value).to_owned(),
        ];
        eprintln!("  {}", cells.join(" | "));
        self.0.push(cells);
    }

    /// A row that explains others.
    pub fn note(&mut self, what: &str, floor: impl Into<String>, measured: impl Into<String>) {
        self.0.push([what.to_owned(), floor.into(), measured.into(), "–".into(), "–".into(), String::new()]);
    }

    /// Rows that could not be measured.
    pub fn skip(&mut self, what: &str, why: &str) {
        let why = format!("skipped: {}", why.replace('\n', " ").replace('|', "/"));
        eprintln!("  {why}");
        self.0.push([what.to_owned(), "–".into(), why, "–".into(), "–".into(), "–".into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | floor | measured | ratio | target | met |\n|---|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|cells| writeln!(f, "| {} |", cells.join(" | ")))
    }
}
