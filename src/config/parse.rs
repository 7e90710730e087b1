//! From text to durations, numbers and switches. Every error is the end of a sentence that begins
//! with the value: what is wrong with it, and what would be right.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration past this would overflow somewhere sooner or later, and is never meant: 100 years.
const MAX_SECONDS: u64 = 36_500 * 86_400;

/// `900` (seconds), `15m`, `30d`, `1h30m`: units w, d, h, m, s, the largest first, each at most once.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a duration: write 900 (seconds), 15m, 30d or 1h30m (units w, d, h, m, s)".to_owned();
    let too_long = || "is too long: the longest duration is 36500d".to_owned();
    if text.is_empty() {
        return Err(wrong());
    }
    let bare = text.chars().all(|c| c.is_ascii_digit());
    let mut rest = format!("{text}{}", if bare { "s" } else { "" });
    let mut total = 0_u64;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let mut after = rest.chars().skip(digits.len());
        let unit = match after.next() {
            Some('w') => 604_800,
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        if digits.is_empty() || unit >= last_unit {
            return Err(wrong());
        }
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .and_then(|seconds| seconds.checked_add(total))
            .filter(|seconds| *seconds <= MAX_SECONDS)
            .ok_or_else(too_long)?;
        last_unit = unit;
        rest = after.collect();
    }
    Ok(Duration::from_secs(total))
}

/// A duration of so many seconds at least and at most.
pub(super) fn duration_within(text: &str, seconds: &RangeInclusive<u64>) -> Result<Duration, String> {
    let (least, most) = (*seconds.start(), *seconds.end());
    match duration(text)? {
        time if seconds.contains(&time.as_secs()) => Ok(time),
        _ if most == u64::MAX => Err(format!("is too short: at least {least}s is needed")),
        _ => Err(format!("is not between {least} and {most} seconds")),
    }
}

/// A whole number in `range`.
pub(super) fn number<T: TryFrom<u64>>(text: &str, range: &RangeInclusive<u64>) -> Result<T, String> {
    Some(text)
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| text.parse().ok())
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("is not a whole number from {} to {}", range.start(), range.end()))
}

/// `true` or `false`; `1` and `0` mean the same.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// Any text that can be printed and is not empty.
pub(super) fn words(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("is empty or holds a control character".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        duration(text).ok().map(|duration| duration.as_secs())
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        assert_eq!(seconds("900"), Some(900));
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("45s"), Some(45));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("30d"), Some(2_592_000));
        assert_eq!(seconds("2w"), Some(1_209_600));
        assert_eq!(seconds("1w1d1h1m1s"), Some(694_861));
    }

    #[test]
    fn what_is_not_quite_a_duration_is_refused() {
        for text in [
            "", " ", "m", "-5", "-5s", "+5s", "1.5h", "1h30", "30m1h", "1h1h", "15 m", "15M", "5ms", "1y", "15m ",
            "٣s", "0x10", "1e3", "forever",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_duration_that_overflows_is_refused_as_too_long() {
        for text in
            ["18446744073709551615", "18446744073709551616", "99999999999999999999999d", "30500568904943w", "36500d1s"]
        {
            let refusal = duration(text).unwrap_err();
            assert!(refusal.contains("too long"), "{text}: {refusal}");
        }
        assert_eq!(seconds("36500d"), Some(MAX_SECONDS));
    }

    #[test]
    fn a_lifetime_is_at_least_a_second() {
        let lifetime = |text: &str| duration_within(text, &(1..=u64::MAX));
        assert!(lifetime("0").is_err());
        assert!(lifetime("0m").is_err());
        assert_eq!(lifetime("1"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        let cost = |text: &str| number::<u32>(text, &(4..=31));
        assert_eq!(cost("4"), Ok(4));
        assert_eq!(cost("31"), Ok(31));
        for text in ["3", "32", "", "+5", "-5", "5.0", "five", "99999999999"] {
            let refusal = cost(text).unwrap_err();
            assert_eq!(refusal, "is not a whole number from 4 to 31", "{text:?}");
        }
    }

    #[test]
    fn switches_are_true_or_false() {
        assert_eq!(switch("true"), Ok(true));
        assert_eq!(switch("1"), Ok(true));
        assert_eq!(switch("false"), Ok(false));
        assert_eq!(switch("0"), Ok(false));
        for text in ["", "yes", "TRUE", "on", "2", "no"] {
            assert!(switch(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_can_be_printed() {
        assert_eq!(words("countersign=debug,info").as_deref(), Ok("countersign=debug,info"));
        assert!(words("").is_err());
        assert!(words("info\n").is_err());
    }
}
