//! What is put into the texts.

use std::borrow::Cow;

/// The longest value, in characters: a link is shorter, an address as well.
const LONGEST: usize = 2_000;

/// What takes the place of the placeholders; `None` where there is no such thing. A line that holds a placeholder without a
/// value is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `{link}`: where to go on.
    pub link: Option<&'a str>,
    /// `{code}`: what can be typed in place of following the link.
    pub code: Option<&'a str>,
    /// `{minutes}`: for how long the code is good.
    pub minutes: Option<u32>,
    /// `{email}`: the address of the account.
    pub email: Option<&'a str>,
    /// `{new_email}`: what is to take its place, or has.
    pub new_email: Option<&'a str>,
    /// `{issuer}`: the public URL of this server.
    pub issuer: Option<&'a str>,
    /// `{name}`: what its owner is called. `None` unless the address that the mail goes to is proven.
    pub name: Option<&'a str>,
    /// `{event}`: what has happened, a sentence without its full stop.
    pub event: Option<&'a str>,
}

impl<'a> Values<'a> {
    /// The value of a placeholder, in one line.
    pub(super) fn get(&self, placeholder: &str) -> Option<Cow<'a, str>> {
        let value = match placeholder {
            "link" => self.link,
            "code" => self.code,
            "minutes" => return self.minutes.map(|minutes| minutes.to_string().into()),
            "email" => self.email,
            "new_email" => self.new_email,
            "issuer" => self.issuer,
            "name" => self.name.filter(|name| !name.trim().is_empty()),
            "event" => self.event,
            _ => None,
        };
        value.map(one_line)
    }
}

/// A text without what ends a line, steers a terminal, or changes the order of other text.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    let is_fine = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') && !steers(c);
    if text.len() <= LONGEST && text.chars().all(is_fine) {
        return text.into();
    }
    text.chars().take(LONGEST).filter(|c| !steers(*c)).map(|c| if is_fine(c) { c } else { ' ' }).collect()
}

/// Whether a character changes in which direction those after it are read.
const fn steers(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
