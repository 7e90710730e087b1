//! Which language a mail is wanted in.

/// More than this many are not looked at.
const MOST: usize = 10;
/// Nor what stands further behind in a header.
const LONGEST: usize = 1_000;

/// The languages that are wanted, best first, in small letters: `locale` of the request, then those of its `Accept-Language`
/// (RFC 9110 section 12.5.4), without those of weight 0. What is no tag is passed over.
pub fn wanted_languages(locale: Option<&str>, accept_language: Option<&str>) -> Vec<String> {
    let accepted = accept_language.filter(|header| header.len() <= LONGEST).unwrap_or_default();
    let mut weighted: Vec<(u32, String)> = accepted.split(',').take(MOST * 2).filter_map(range).collect();
    // Of the same weight, those that come first.
    weighted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let all = locale.and_then(tag).into_iter().chain(weighted.into_iter().map(|(_, tag)| tag));
    let mut wanted: Vec<String> = Vec::new();
    for language in all {
        if !wanted.contains(&language) && wanted.len() < MOST {
            wanted.push(language);
        }
    }
    wanted
}

/// One language and its weight in thousandths.
fn range(text: &str) -> Option<(u32, String)> {
    let (language, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parameters = parameters.trim();
    let weight = match parameters.strip_prefix("q=").or_else(|| parameters.strip_prefix("Q=")) {
        Some(weight) => thousandths(weight.trim())?,
        None if parameters.is_empty() => 1_000,
        None => return None,
    };
    (weight > 0).then_some((weight, tag(language)?))
}

/// `0`, `0.5` or `1.000`.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|c| c.is_ascii_digit()) && fraction.len() <= 3;
    match whole {
        "0" if digits => format!("{fraction:0<3}").parse().ok(),
        "1" if digits && fraction.bytes().all(|c| c == b'0') => Some(1_000),
        _ => None,
    }
}

/// A language tag (RFC 5646 section 2.1, as far as it matters here), in small letters and with hyphens.
pub(super) fn tag(text: &str) -> Option<String> {
    let tag = text.trim().replace('_', "-").to_ascii_lowercase();
    let mut parts = tag.split('-');
    let first = parts.next().unwrap_or_default();
    let is_language = (2..=8).contains(&first.len()) && first.bytes().all(|c| c.is_ascii_lowercase());
    let fits = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_alphanumeric());
    (is_language && tag.len() <= 35 && parts.all(fits)).then_some(tag)
}

/// A language and the wider ones that it is one of: `de-CH-1901`, `de-CH`, `de` (RFC 4647 section 3.4).
pub(super) fn from_narrow_to_wide(tag: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(tag), |tag| tag.rsplit_once('-').map(|(wider, _)| wider))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_wanted_by_weight_and_the_locale_comes_first() {
        for (locale, header, wanted) in [
            (None, None, &[][..]),
            (Some("de_CH"), None, &["de-ch"]),
            (Some("DE"), Some("fr, en;q=0.5"), &["de", "fr", "en"]),
            (None, Some("da, en-GB;q=0.8, en;q=0.7"), &["da", "en-gb", "en"]),
            (None, Some("en;q=0.7,de;q=0.8,fr;q=0.8,*;q=0.1"), &["de", "fr", "en"]),
            (None, Some("de;q=0,fr;q=0.001,en;q=1.000"), &["en", "fr"]),
            (Some("fr"), Some("FR;Q=0.4 , it ; q=0.9"), &["fr", "it"]),
            (Some("../../etc"), Some("de;q=2,fr;q=0.1234,it;level=1,<b>,,;q=1,e"), &[]),
        ] {
            assert_eq!(wanted_languages(locale, header), wanted, "{locale:?} {header:?}");
        }
    }

    #[test]
    fn a_long_header_costs_little() {
        assert!(wanted_languages(None, Some(&"de,".repeat(1_000))).is_empty());
        let many: Vec<String> = (b'a'..=b'z').map(|c| format!("x{}", char::from(c))).collect();
        assert_eq!(wanted_languages(None, Some(&many.join(","))).len(), MOST);
    }

    #[test]
    fn a_language_is_one_of_wider_ones() {
        assert_eq!(from_narrow_to_wide("de-ch-1901").collect::<Vec<_>>(), ["de-ch-1901", "de-ch", "de"]);
    }
}
