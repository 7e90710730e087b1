//! One file of text, read and checked.

use super::Kind;

/// Text with places for values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Piece>);

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The value of a placeholder.
    Value(&'static str),
}

/// A plain text.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Its first line.
    pub subject: Line,
    /// What follows the blank line after it.
    pub body: Vec<Line>,
}

/// What is wrong with a file, and in which line, if in one.
#[derive(Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Counted from 1.
    pub line: Option<usize>,
    /// The end of a sentence that begins with the file and the line.
    pub problem: String,
}

impl Flaw {
    fn at(line: usize, problem: impl Into<String>) -> Self {
        Self { line: Some(line), problem: problem.into() }
    }

    fn whole(problem: impl Into<String>) -> Self {
        Self { line: None, problem: problem.into() }
    }
}

impl Line {
    /// Whether it has a place for that value.
    fn holds(&self, placeholder: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(value) if *value == placeholder))
    }
}

/// Reads a plain text: the subject, a blank line, the text.
pub fn plain(kind: Kind, bytes: &[u8]) -> Result<Plain, Flaw> {
    let mut lines = lines(kind, bytes)?;
    let blank = |line: Option<&Line>| line.is_none_or(|line| line.0.iter().all(is_blank));
    if blank(lines.first()) {
        return Err(Flaw::at(1, "is empty: it is the subject"));
    }
    if !blank(lines.get(1)) {
        return Err(Flaw::at(2, "is not blank: a blank line separates the subject, line 1, from the text"));
    }
    let body = lines.split_off(lines.len().min(2));
    let subject = lines.into_iter().next().unwrap_or_default();
    if let Some(wrong) = ["name", "link"].into_iter().find(|wrong| subject.holds(wrong)) {
        return Err(Flaw::at(1, format!("holds {{{wrong}}}, which cannot stand in a subject")));
    }
    check(kind, &body, 3)?;
    if body.iter().all(|line| blank(Some(line))) {
        return Err(Flaw::whole("has no text behind the subject"));
    }
    Ok(Plain { subject, body })
}

/// Reads a text in HTML.
pub fn html(kind: Kind, bytes: &[u8]) -> Result<Vec<Line>, Flaw> {
    let lines = lines(kind, bytes)?;
    check(kind, &lines, 1)?;
    Ok(lines)
}

/// What must be there is not left out with a name that is not known.
fn check(kind: Kind, body: &[Line], first: usize) -> Result<(), Flaw> {
    for (number, line) in body.iter().enumerate() {
        if let (true, Some(other)) = (line.holds("name"), ["link", "code"].into_iter().find(|other| line.holds(other)))
        {
            let problem = format!(
                "holds {{name}} and {{{other}}}: a line with {{name}} is left out of mail to addresses that are not proven, so \
                 give it a line of its own"
            );
            return Err(Flaw::at(number + first, problem));
        }
    }
    if kind.needs_link() && !body.iter().any(|line| line.holds("link")) {
        return Err(Flaw::whole(format!(
            "has no {{link}}, without which a mail of the kind {} is of no use",
            kind.name()
        )));
    }
    Ok(())
}

fn lines(kind: Kind, bytes: &[u8]) -> Result<Vec<Line>, Flaw> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let before = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            return Err(Flaw::at(before + 1, "is not UTF-8"));
        }
    };
    let line = |(number, text): (usize, &str)| line(kind, text).map_err(|problem| Flaw::at(number + 1, problem));
    text.lines().map(|line| line.trim_end()).enumerate().map(line).collect()
}

/// A placeholder is small letters and underscores between braces; any other brace is text, as in a style sheet.
fn line(kind: Kind, text: &str) -> Result<Line, String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("holds a control character".to_owned());
    }
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, behind)) = rest.split_once('{') {
        plain.push_str(before);
        let name = behind
            .split_once('}')
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'));
        let Some((name, behind)) = name else {
            plain.push('{');
            rest = behind;
            continue;
        };
        let Some(known) = kind.placeholders().iter().find(|known| **known == name) else {
            let known: Vec<String> = kind.placeholders().iter().map(|known| format!("{{{known}}}")).collect();
            return Err(format!(
                "holds {{{name}}}: in mails of the kind {} there are {}",
                kind.name(),
                known.join(", ")
            ));
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Value(known));
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(Line(pieces))
}

fn is_blank(piece: &Piece) -> bool {
    matches!(piece, Piece::Text(text) if text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(kind: Kind, text: impl AsRef<[u8]>) -> (Option<usize>, String) {
        let Flaw { line, problem } = plain(kind, text.as_ref()).unwrap_err();
        (line, problem)
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, word) in [
            (&b""[..], Some(1), "subject"),
            (b"  \n\ntext", Some(1), "subject"),
            (b"Subject\ntext", Some(2), "blank"),
            (b"Subject {link}\n\n{link}", Some(1), "{link}"),
            (b"Subject {name}\n\n{link}", Some(1), "{name}"),
            (b"Subject\n\n{link}\nyour {pasword}", Some(4), "{pasword}"),
            (b"Subject\n\n{event} {link}", Some(3), "{event}"),
            (b"Subject\n\nno way on", None, "{link}"),
            (b"Subject\n\nDear {name}, go to {link}", Some(3), "{name}"),
            (b"Subject\n\n{link}\n\xff", Some(4), "UTF-8"),
            (b"Subject\n\n{link}\n\x1b[31m", Some(4), "control"),
            (b"Sub\rject\n\n{link}", Some(1), "control"),
        ] {
            let (found, problem) = flaw(Kind::Reset, text);
            assert!(found == line && problem.contains(word), "{text:?}: {found:?} {problem}");
        }
        assert!(flaw(Kind::Test, "Subject").1.contains("no text"));
    }

    #[test]
    fn braces_that_are_no_placeholder_are_text() {
        let lines = html(Kind::Test, b"<style>p { color: red } a{b:c}</style>{}{ email}{EMAIL}{email}{").unwrap();
        let text = "<style>p { color: red } a{b:c}</style>{}{ email}{EMAIL}".to_owned();
        assert_eq!(lines, [Line(vec![Piece::Text(text), Piece::Value("email"), Piece::Text("{".to_owned())])]);
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
        let text = plain(Kind::Test, b"\xef\xbb\xbfSubject\r\n\r\nText\r\n").unwrap();
        assert_eq!(text.subject, Line(vec![Piece::Text("Subject".to_owned())]));
        assert_eq!(text.body, [Line(vec![Piece::Text("Text".to_owned())])]);
    }
}
