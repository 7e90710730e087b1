//! `$` in `.env`: it begins the name of a variable, and quietly shortens a value that merely contains one.

/// Whether a line of `body` that sets `name` has a `$` which the parser of `.env` takes for the start of a variable, and
/// which is not plainly meant so: with braces, around the name of one that is set.
pub(super) fn is_likely_a_mistake(body: &str, name: &str) -> bool {
    let mut before: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some((line, after)) = rest.split_once('\n') {
        if let Some((set, value)) = assignment(line) {
            // It may go on behind the end of the line, between quotes.
            let value = rest.get(line.len() - value.len()..).unwrap_or(value);
            let is_set = |wanted: &str| before.contains(&wanted) || std::env::var_os(wanted).is_some();
            if set == name
                && names_in(value).iter().any(|wanted| wanted.as_deref().is_none_or(|wanted| !is_set(wanted)))
            {
                return true;
            }
            before.push(set);
        }
        rest = after;
    }
    false
}

/// What the operator is told.
pub(super) fn warning(name: &str) -> String {
    format!(
        ".env: the $ in {name} was taken as the start of a variable, and cut the value short if there is none of that \
         name; if it is part of the value, put the value between single quotes"
    )
}

/// Name and value of a line that sets something.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.').then_some((name, value))
}

/// For each `$` of the value at the beginning of `text` that is neither escaped nor between single quotes: the name that
/// stands in braces behind it, if there is one.
fn names_in(text: &str) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let (mut single, mut double, mut begun) = (false, false, false);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' if single => single = false,
            _ if single => {}
            '\\' => {
                rest.next();
            }
            '$' => {
                let after = rest.as_str();
                let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
                found.push(braced.map(|(name, _)| name.to_owned()).filter(|name| !name.contains('\n')));
            }
            '"' => double = !double,
            _ if double => {}
            '\'' => single = true,
            // The value ends with its line, or before a comment behind it.
            '\n' => break,
            ' ' | '\t' if begun => break,
            _ => {}
        }
        begun |= !matches!(c, ' ' | '\t');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_counts_where_the_parser_takes_it_for_a_variable() {
        let found = |text: &str| names_in(text).len();
        for (text, count) in [
            ("abc$def", 1),
            ("\"abc$def\"", 1),
            ("'abc$def'", 0),
            ("'abc'$def", 1),
            ("\"it's $x\"", 1),
            ("abc\\$def", 0),
            ("abc # $x", 0),
            (" abc$x # $y", 1),
            ("abc\nB=$x", 0),
            ("\"a\nb$x\"", 1),
            ("$$a$", 3),
            ("", 0),
        ] {
            assert_eq!(found(text), count, "{text:?}");
        }
        assert_eq!(names_in("a${B}c$d"), [Some("B".to_owned()), None]);
    }

    #[test]
    fn braces_around_the_name_of_a_variable_that_is_set_are_meant() {
        let is_wrong = |body: &str| is_likely_a_mistake(body, "HOST");
        assert!(!is_wrong("A=1\nHOST=${A}\n"));
        assert!(is_wrong("A=1\nHOST=$A\n"), "it could be part of a password");
        assert!(is_wrong("HOST=${A}\nA=1\n"), "set only afterwards");
        assert!(!is_wrong("HOST=${PATH}\n"), "of the environment");
        assert!(!is_wrong("OTHER=$x\nHOST=a\n"));
        assert!(is_wrong("export HOST = a$b\n"));
    }
}
