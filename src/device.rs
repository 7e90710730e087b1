//! What a device is called: whatever its owner or its app says, as far as it can be shown in one line.

use unicode_width::UnicodeWidthChar as _;

/// The longest name, in characters.
const MAX_LENGTH: usize = 100;
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// A name that can be shown, or none if nothing is left of it. It is no reason to refuse a log-in: people do not choose
/// what their telephone calls itself.
pub fn name(text: &str) -> Option<String> {
    let shown: String = text.chars().filter(|c| !is_hidden(*c)).collect();
    let shown = cut(shown.trim()).trim_end();
    (!shown.is_empty()).then(|| shown.to_owned())
}

/// Control characters, line ends, and what changes the direction of the text around it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}')
}

/// The first characters of a text, without the last letter or picture where only a part of it would be left.
fn cut(text: &str) -> &str {
    let Some((end, _)) = text.char_indices().nth(MAX_LENGTH) else { return text };
    let whole = |at: usize| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default());
        let continues = after.chars().next().is_some_and(|c| c.width() == Some(0));
        !continues && !before.ends_with(ZERO_WIDTH_JOINER)
    };
    let ends = text.char_indices().map(|(at, _)| at).take(MAX_LENGTH).skip(1).chain([end]);
    let end = ends.filter(|at| whole(*at)).last().unwrap_or(end);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_at_most_100_characters() {
        let hundred = "d".repeat(100);
        for (text, expected) in [
            ("Ada's telephone", Some("Ada's telephone")),
            ("  \t Ada\u{a0}", Some("Ada")),
            ("", None),
            (" \u{3000}\t", None),
            ("\r\n\0\u{7f}\u{85}", None),
            ("\u{202e}\u{2066}\u{feff}", None),
            ("Ada's\r\nphone", Some("Ada'sphone")),
            ("a\u{202e}b\u{2066}c\u{200f}d\u{61c}e\u{2028}f", Some("abcdef")),
            ("\u{202e} Ada \u{202c}", Some("Ada")),
            ("Telefon \u{5d0} \u{1f4f1}", Some("Telefon \u{5d0} \u{1f4f1}")),
            (&hundred, Some(&hundred)),
            (&format!("{hundred}d"), Some(&hundred)),
            (&format!("\0{hundred}d"), Some(&hundred)),
            (&format!("{} e", "d".repeat(99)), Some(&"d".repeat(99))),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_name_is_not_cut_within_a_letter() {
        let start = "d".repeat(98);
        // As a base and a mark, a man with a laptop in three, and marks without end.
        for (end, kept) in [
            ("de\u{301}", "d"),
            ("e\u{301}d", "e\u{301}"),
            ("e\u{301}\u{302}", ""),
            ("\u{1f468}\u{200d}\u{1f4bb}", ""),
            ("\u{1f468}\u{200d}", "\u{1f468}\u{200d}"),
        ] {
            assert_eq!(name(&format!("{start}{end}")), Some(format!("{start}{kept}")), "{end:?}");
        }
        let marks = format!("e{}", "\u{301}".repeat(200));
        assert_eq!(name(&marks).unwrap().chars().count(), 100);
    }
}
