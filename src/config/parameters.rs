//! What may stand behind the `?` of a PostgreSQL URL: the connection parameters of libpq 18, which this program is built
//! with. libpq itself would refuse an unknown one only when it connects, and then every request is a 503.

use strsim::levenshtein;

/// What a parameter's value may be.
enum Value {
    Any,
    Number,
    OneOf(&'static [&'static str]),
}

use Value::{Any, Number, OneOf};

const SWITCH: Value = OneOf(&["0", "1"]);

/// As in the documentation of PostgreSQL, section "Parameter Key Words".
#[rustfmt::skip] // a table
const PARAMETERS: [(&str, Value); 50] = [
    ("host", Any), ("hostaddr", Any), ("port", Any), ("dbname", Any), ("user", Any), ("password", Any), ("passfile", Any),
    ("require_auth", Any), ("channel_binding", OneOf(&["disable", "prefer", "require"])),
    ("connect_timeout", Number), ("client_encoding", Any), ("options", Any), ("application_name", Any),
    ("fallback_application_name", Any), ("keepalives", Number), ("keepalives_idle", Number),
    ("keepalives_interval", Number), ("keepalives_count", Number), ("tcp_user_timeout", Number), ("replication", Any),
    ("gssencmode", OneOf(&["disable", "prefer", "require"])),
    ("sslmode", OneOf(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])),
    ("sslnegotiation", OneOf(&["postgres", "direct"])), ("sslcompression", SWITCH),
    ("sslcert", Any), ("sslkey", Any), ("sslkeylogfile", Any), ("sslpassword", Any),
    ("sslcertmode", OneOf(&["disable", "allow", "require"])), ("sslrootcert", Any), ("sslcrl", Any), ("sslcrldir", Any),
    ("sslsni", SWITCH), ("requirepeer", Any), ("ssl_min_protocol_version", Any), ("ssl_max_protocol_version", Any),
    ("min_protocol_version", Any), ("max_protocol_version", Any), ("krbsrvname", Any), ("gsslib", Any),
    ("gssdelegation", SWITCH), ("scram_client_key", Any), ("scram_server_key", Any), ("service", Any),
    ("target_session_attrs", OneOf(&["any", "read-write", "read-only", "primary", "standby", "prefer-standby"])),
    ("load_balance_hosts", OneOf(&["disable", "random"])), ("oauth_issuer", Any), ("oauth_client_id", Any),
    ("oauth_client_secret", Any), ("oauth_scope", Any),
];

/// Checks `parameters`, as in `sslmode=require&connect_timeout=5`. What is wrong is told without values, and without a name
/// that could be the rest of a password.
pub(super) fn check(parameters: &str) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in parameters.split('&').filter_map(|one| one.split_once('=')) {
        // As drivers of other languages write it; libpq knows just this form.
        if name == "ssl" && value == "true" {
            continue;
        }
        let Some((_, kind)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            let after_secret =
                seen.iter().any(|before| ["password", "key", "secret"].iter().any(|part| before.contains(part)));
            return Err(unknown(name, after_secret));
        };
        if seen.contains(&name) {
            return Err(format!("has the parameter {name} twice behind the ?: keep one"));
        }
        seen.push(name);
        let fits = match kind {
            _ if value.contains('%') => true,
            Any => true,
            Number => !value.is_empty() && value.trim_start_matches('-').chars().all(|c| c.is_ascii_digit()),
            OneOf(values) => values.contains(&value),
        };
        if !fits {
            let right = match kind {
                OneOf(values) => format!("one of {}", values.join(", ")),
                Any | Number => "a whole number".to_owned(),
            };
            return Err(format!("has a value of the parameter {name} behind the ? that is not {right}"));
        }
    }
    Ok(())
}

fn unknown(name: &str, after_secret: bool) -> String {
    let is_plain = name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if after_secret || !is_plain {
        return "has a parameter behind the ? that libpq does not know (not shown, it could be part of a password: write & as \
                %26 in one)"
            .to_owned();
    }
    let plain = name.to_ascii_lowercase().replace(['_', '-'], "");
    let distance = |known: &str| levenshtein(&plain, &known.replace('_', ""));
    let nearest = PARAMETERS.iter().map(|(known, _)| *known).min_by_key(|known| distance(known));
    let nearest = if plain == "ssl" { Some("sslmode") } else { nearest.filter(|known| distance(known) <= 2) };
    let hint = nearest.map_or_else(|| "take it away".to_owned(), |known| format!("did you mean {known}?"));
    format!("has the parameter {name} behind the ?, which libpq does not know: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_knows_is_taken() {
        for (name, kind) in &PARAMETERS {
            let value = match kind {
                Any => "x",
                Number => "5",
                OneOf(values) => values[0],
            };
            assert_eq!(check(&format!("{name}={value}")), Ok(()));
        }
        for fine in [
            "",
            "ssl=true",
            "sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem",
            "options=-csearch_path%3Dx&connect_timeout=5",
            "sslmode=verify%2Dfull",
            "host=one,two&port=5432,5433&target_session_attrs=read-write",
            "keepalives=0",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn what_libpq_does_not_know_is_refused_by_name_with_what_was_meant() {
        for (wrong, told) in [
            ("ssl_mode=require", "did you mean sslmode?"),
            ("sslMode=require", "did you mean sslmode?"),
            ("sslmod=require", "did you mean sslmode?"),
            ("ssl=on", "did you mean sslmode?"),
            ("connectTimeout=5", "did you mean connect_timeout?"),
            ("connect_timeuot=5", "did you mean connect_timeout?"),
            ("schema=public", "schema"),
            ("pgbouncer=true", "pgbouncer"),
            ("sslmode=require&statement_cache_size=0", "statement_cache_size"),
            ("SSLMODE=require", "did you mean sslmode?"),
        ] {
            let refusal = check(wrong).unwrap_err();
            assert!(refusal.contains(told), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn a_value_that_libpq_would_refuse_is_refused_by_its_name() {
        for (wrong, name) in [
            ("sslmode=verify_full", "sslmode"),
            ("sslmode=REQUIRE", "sslmode"),
            ("sslmode=", "sslmode"),
            ("target_session_attrs=master", "target_session_attrs"),
            ("connect_timeout=5s", "connect_timeout"),
            ("keepalives_idle=hunter2", "keepalives_idle"),
            ("sslmode=require&sslmode=disable", "twice"),
        ] {
            let refusal = check(wrong).unwrap_err();
            assert!(refusal.contains(name) && !refusal.contains("hunter2"), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn what_could_be_the_rest_of_a_password_is_not_shown() {
        for wrong in ["password=a&hunter2=b", "sslpassword=a&hunter2=b", "hunter2%40=a", "hunter2@db=b"] {
            let refusal = check(wrong).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}
