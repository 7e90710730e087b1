//! A text filled in.

use std::borrow::Cow;

use super::Values;
use super::parsing::{Line, Piece, Plain};

/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;

/// The subject, in one line. A placeholder without a value is nothing.
pub fn subject(plain: &Plain, values: &Values<'_>) -> String {
    let filled: String = plain.subject.0.iter().map(|piece| piece_of(piece, values).unwrap_or_default()).collect();
    filled.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST_SUBJECT).collect()
}

/// The plain text. Where a line is left out, no two blank ones stay behind.
pub fn text(plain: &Plain, values: &Values<'_>) -> String {
    let mut text = String::new();
    for line in plain.body.iter().filter_map(|line| fill(line, values, |value| value)) {
        let is_blank = line.trim().is_empty();
        if !is_blank || !(text.is_empty() || text.ends_with("\n\n")) {
            text.push_str(if is_blank { "" } else { &line });
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// The text in HTML, every value escaped.
pub fn html(lines: &[Line], values: &Values<'_>) -> String {
    lines.iter().filter_map(|line| fill(line, values, escaped)).map(|line| line + "\n").collect()
}

/// `None`: a value is missing.
fn fill(line: &Line, values: &Values<'_>, form: impl Fn(Cow<'_, str>) -> Cow<'_, str>) -> Option<String> {
    let mut filled = String::new();
    for piece in &line.0 {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Value(_) => filled.push_str(&form(piece_of(piece, values)?)),
        }
    }
    Some(filled)
}

fn piece_of<'a>(piece: &'a Piece, values: &Values<'a>) -> Option<Cow<'a, str>> {
    match piece {
        Piece::Text(text) => Some(text.into()),
        Piece::Value(placeholder) => values.get(placeholder),
    }
}

/// For the text of an element and for the value of an attribute in quotes.
fn escaped(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.contains(['&', '<', '>', '"', '\'']) {
        return value;
    }
    let mut text = String::with_capacity(value.len() + 16);
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            other => text.push(other),
        }
    }
    text.into()
}
