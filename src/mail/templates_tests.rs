//! What the texts become, and which of them is taken.

use std::fs;

use super::*;

fn all_values() -> Values<'static> {
    Values {
        link: Some("https://auth.example.com/account/reset?token=abc"),
        code: Some("12345678"),
        minutes: Some(15),
        email: Some("ada@example.com"),
        new_email: Some("countess@example.com"),
        issuer: Some("https://auth.example.com"),
        name: Some("Ada Lovelace"),
        event: Some("The password was changed"),
    }
}

fn render(templates: &Templates, kind: Kind, languages: &[&str], values: &Values<'_>) -> Message {
    let languages: Vec<String> = languages.iter().map(|&language| language.to_owned()).collect();
    templates.render(kind, "ada@example.com", &languages, values)
}

/// A folder with these files in it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn mistake(files: &[(&str, &str)]) -> String {
    Templates::load(Some(folder(files).path())).unwrap_err().to_string()
}

#[test]
fn every_kind_has_english_texts_with_all_that_it_needs() {
    let (templates, values) = (Templates::load(None).unwrap(), all_values());
    for kind in Kind::ALL {
        let message = render(&templates, kind, &[], &values);
        let html = message.html.unwrap();
        assert!(
            !message.subject.is_empty() && !message.text.contains(['{', '}']) && !html.contains(['{', '}']),
            "{kind:?}"
        );
        for placeholder in kind.placeholders() {
            let value = values.get(placeholder).unwrap();
            assert!(message.text.contains(&*value) && html.contains(&*value), "{kind:?} {placeholder}");
        }
        assert!(message.text.lines().all(|line| line.len() < 998), "{kind:?}");
    }
}

#[test]
fn a_text_reads_well_without_what_is_not_known() {
    let templates = Templates::load(None).unwrap();
    for kind in Kind::ALL {
        let values = Values { name: None, code: None, minutes: None, ..all_values() };
        let message = render(&templates, kind, &[], &values);
        let html = message.html.unwrap();
        assert!(!message.text.contains("Hello") && !html.contains("Hello"), "{kind:?}: {}", message.text);
        assert!(message.text.starts_with(char::is_uppercase), "{kind:?}: {}", message.text);
        assert!(!message.text.contains("\n\n\n") && !message.text.starts_with('\n'), "{kind:?}");
        assert!(!message.text.contains("code:") || kind == Kind::Test, "{kind:?}: {}", message.text);
    }
}

#[test]
fn nothing_in_a_value_becomes_markup_or_another_line() {
    let templates = Templates::load(None).unwrap();
    let evil = "<b onclick='x'>\"&\r\nBcc: eve@example.com\n\u{202e}\u{2028}\u{0}{link}";
    for kind in Kind::ALL {
        let values = Values {
            code: Some(evil),
            email: Some(evil),
            new_email: Some(evil),
            issuer: Some(evil),
            name: Some(evil),
            event: Some(evil),
            ..all_values()
        };
        let (fine, message) = (render(&templates, kind, &[], &all_values()), render(&templates, kind, &[], &values));
        assert_eq!(message.text.lines().count(), fine.text.lines().count(), "{kind:?}");
        let html = message.html.unwrap();
        assert!(html.contains("&lt;b onclick=&#39;x&#39;&gt;&quot;&amp;"), "{kind:?}: {html}");
        assert!(!html.contains("<b ") && !html.contains("onclick='"), "{kind:?}");
        assert_eq!(html.lines().count(), fine.html.unwrap().lines().count(), "{kind:?}");
        for text in [&message.subject, &message.text, &html] {
            assert!(!text.contains(['\r', '\0', '\u{202e}', '\u{2028}']), "{kind:?}");
        }
        // A value is put in once, and not looked through for placeholders.
        assert!(message.text.contains("{link}"), "{kind:?}");
    }
}

#[test]
fn a_subject_is_one_short_line() {
    let folder = folder(&[("test.en.txt", "Mail from {issuer} {email}\n\nText")]);
    let templates = Templates::load(Some(folder.path())).unwrap();
    let (long, lines) = ("x".repeat(5_000), "a\r\nBcc: eve@example.com");
    let values = Values { issuer: Some(lines), ..Values::default() };
    assert_eq!(render(&templates, Kind::Test, &[], &values).subject, "Mail from a Bcc: eve@example.com");
    let values = Values { issuer: Some(&long), ..Values::default() };
    assert_eq!(render(&templates, Kind::Test, &[], &values).subject.len(), 200);
}

#[test]
fn a_file_takes_the_place_of_the_built_in_one_alone() {
    let folder =
        folder(&[("reset.en.html", "<p>Ours: {link}</p>"), ("README", "not looked at"), (".x.txt", "nor this")]);
    let templates = Templates::load(Some(folder.path())).unwrap();
    let message = render(&templates, Kind::Reset, &[], &all_values());
    assert_eq!(message.subject, "Set a new password");
    assert_eq!(message.html.as_deref(), Some("<p>Ours: https://auth.example.com/account/reset?token=abc</p>\n"));
    assert!(render(&templates, Kind::Verify, &[], &all_values()).html.unwrap().contains("Confirm"));
}

#[test]
fn the_first_wanted_language_that_there_is_is_taken() {
    let folder = folder(&[
        ("reset.de.txt", "Deutsch\n\n{link}"),
        ("reset.de.html", "<p>Deutsch {link}"),
        ("reset.de-CH.txt", "Schweiz\n\n{link}"),
        ("reset.fr.txt", "Français\n\n{link}"),
    ]);
    let templates = Templates::load(Some(folder.path())).unwrap();
    for (wanted, subject, has_html) in [
        (&[][..], "Set a new password", true),
        (&["de"], "Deutsch", true),
        (&["de-AT"], "Deutsch", true),
        (&["de-CH-1901"], "Schweiz", false),
        (&["DE_ch"], "Schweiz", false),
        (&["it", "fr-FR", "de"], "Français", false),
        (&["it", "en", "de"], "Set a new password", true),
        (&["it"], "Set a new password", true),
        (&["../../etc"], "Set a new password", true),
    ] {
        let message = render(&templates, Kind::Reset, wanted, &all_values());
        assert_eq!((message.subject.as_str(), message.html.is_some()), (subject, has_html), "{wanted:?}");
    }
    // The other kinds are there in English only.
    assert_eq!(render(&templates, Kind::Test, &["de"], &all_values()).subject, "Mail works");
}

#[test]
fn a_mistake_names_the_key_the_file_and_the_line() {
    for (name, text, told) in [
        ("reset.de.txt", "Betreff\n\n{link}\n{pasword}", "reset.de.txt, line 4: holds {pasword}"),
        ("reset.de.txt", "Betreff\nText", "reset.de.txt, line 2: is not blank"),
        ("reset.de.txt", "", "reset.de.txt, line 1: is empty"),
        ("reset.en.html", "<p>\n{name} {link}", "reset.en.html, line 2: holds {name} and {link}"),
        ("reset.de.html", "<p>{link}", "reset.de.html has no reset.de.txt beside it"),
        ("rest.de.txt", "Betreff\n\nText", "rest.de.txt: is not called KIND.LANG.txt"),
        ("reset.txt", "Betreff\n\nText", "reset.txt: is not called KIND.LANG.txt"),
        ("reset.d.txt", "Betreff\n\nText", "reset.d.txt: is not called KIND.LANG.txt"),
    ] {
        let mistake = mistake(&[(name, text)]);
        assert!(mistake.starts_with("mail.templates: /") && mistake.contains(told), "{mistake}");
    }
    let large = format!("Subject\n\n{}", "x".repeat(64 * 1024));
    assert!(mistake(&[("test.en.txt", &large)]).contains("larger than 65536 bytes"));
    let twice = [("test.de-ch.txt", "S\n\nT"), ("test.de-CH.txt", "S\n\nT")];
    assert!(mistake(&twice).contains("remove one of the two"));
    let gone = Templates::load(Some(Path::new("/no/such/folder"))).unwrap_err().to_string();
    assert!(gone.starts_with("mail.templates: /no/such/folder cannot be read"), "{gone}");
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("reset.de.txt")).unwrap();
    assert!(Templates::load(Some(folder.path())).unwrap_err().to_string().contains("is no file"));
}

#[test]
fn no_secret_is_shown() {
    let message = render(&Templates::load(None).unwrap(), Kind::Reset, &[], &all_values());
    assert!(!format!("{message:?}").contains("token=abc"));
}
