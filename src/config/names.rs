//! Names that set nothing: other programs' own, and those that were meant to be ours.
//!
//! Nothing is as hard to find as a setting that is passed over because of a slip in its name. So a name that nearly is one
//! of ours is refused, unless another program may well have made it.

use strsim::levenshtein;

use super::key::{KeyInfo, PREFIX};
use super::lookup;
use super::sections::{SHARED_NAME, keys};

/// What begins the name of everything that is meant for this program.
const START: &str = "COUNTERSIGN_";

/// Named in the documentation without being a key: where `countersign transfer` copies to.
const NO_KEYS: [&str; 1] = ["COUNTERSIGN_TRANSFER_TO"];

/// Shorter names of ours are near too many others.
const LONG_ENOUGH: usize = 15;

/// How many letters may be wrong in a name that was meant to be ours.
const SLIPS: usize = 2;

/// What a name that sets nothing is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stray {
    /// Another program's.
    Foreign,
    /// Meant for us: a mistake, and what is wrong.
    Wrong(String),
    /// It may have been: a warning.
    Odd(String),
}

/// What a name is told that is no key.
pub(super) fn not_a_key(suggestion: Option<String>) -> String {
    match suggestion {
        Some(name) => format!("is not a key; did you mean {name}?"),
        None => "is not a key: `countersign check-config` lists them all".to_owned(),
    }
}

/// What the variable `name`, which is no key, is; in the environment or in `.env`.
pub(super) fn variable(name: &str, value: &str) -> Stray {
    let upper = name.to_ascii_uppercase();
    if NO_KEYS.contains(&name) {
        return Stray::Foreign;
    }
    let Some(rest) = upper.strip_prefix(START) else { return near(&upper, false) };
    if name == "COUNTERSIGN_PORT" && value.parse::<u16>().is_ok() {
        return Stray::Odd("sets nothing, since Kubernetes makes variables of that name; the port is PORT".to_owned());
    }
    if name.starts_with(START) && is_of_kubernetes(rest, value) {
        return Stray::Foreign;
    }
    Stray::Wrong(not_a_key(lookup::nearest(name).map(KeyInfo::variable)))
}

/// What the credential `name`, which is no key, is.
pub(super) fn credential(name: &str) -> Stray {
    let upper = name.to_ascii_uppercase();
    if NO_KEYS.contains(&upper.as_str()) {
        return Stray::Foreign;
    }
    if upper.starts_with(PREFIX) || upper.starts_with(START) {
        return Stray::Wrong(not_a_key(
            lookup::nearest(name).map(|key| format!("{}, as a credential is called", key.name)),
        ));
    }
    near(&upper, true)
}

/// Whether `rest`, which stands behind `COUNTERSIGN_`, is what Kubernetes tells every container of a service that is called
/// `countersign`, or `countersign-` and something.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let transports = ["TCP", "UDP", "SCTP"];
    let is_url =
        transports.iter().any(|transport| value.starts_with(&format!("{}://", transport.to_ascii_lowercase())));
    let port_of_one = || {
        let behind = rest.split("_PORT_").nth(1)?;
        let (number, behind) = behind.split_once('_')?;
        let transport = transports.iter().find_map(|transport| behind.strip_prefix(transport))?;
        let of_one = ["", "_PROTO", "_PORT", "_ADDR"].contains(&transport);
        Some(of_one && number.chars().all(|c| c.is_ascii_digit()))
    };
    rest.starts_with("SERVICE_")
        || rest.starts_with("PORT")
        || rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && is_url)
        || port_of_one() == Some(true)
}

/// What a name is that begins like no name of ours. Signs between words count alike. A variable may be that of another
/// program, and only short names are variables; a credential was meant for us, and keys are names of credentials too.
fn near(upper: &str, is_credential: bool) -> Stray {
    let plain = |name: &str| name.to_ascii_uppercase().replace(['.', '-'], "_");
    let wanted = plain(upper);
    let is_near = |name: &&str| {
        let name = plain(name);
        name.len().abs_diff(wanted.len()) <= SLIPS && levenshtein(&wanted, &name) <= SLIPS
    };
    let ours = || keys().flat_map(|key| key.short.iter().copied().chain(is_credential.then_some(key.name)));
    if let Some(name) = ours().filter(|name| name.len() >= LONG_ENOUGH).find(is_near) {
        return Stray::Wrong(format!("sets nothing: did you mean {name}? Rename it, or take it away"));
    }
    if is_near(&SHARED_NAME) {
        return Stray::Odd(format!("sets nothing; did you mean {SHARED_NAME}?"));
    }
    Stray::Foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(stray: Stray) -> String {
        match stray {
            Stray::Wrong(problem) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_begins_like_ours_and_is_no_key_is_wrong() {
        for (name, meant) in [
            ("COUNTERSIGN_SERVER_PORT", "COUNTERSIGN__SERVER__PORT"),
            ("COUNTERSIGN__SERVER__PROT", "COUNTERSIGN__SERVER__PORT"),
            ("COUNTERSIGN_LOG_LEVEL", "COUNTERSIGN__LOG__LEVEL"),
            ("COUNTERSIGN_DATABASE_URI", "COUNTERSIGN__DATABASE__URL"),
            ("COUNTERSIGN_REFRESH_TOKEN_SECRET", "COUNTERSIGN__TOKENS__REFRESH_SECRET"),
            ("countersign__server__port", "COUNTERSIGN__SERVER__PORT"),
            ("COUNTERSIGN_TRANSFER_TOO", "not a key"),
            ("COUNTERSIGN_", "not a key"),
            ("COUNTERSIGN_WHATEVER", "check-config"),
        ] {
            let told = suggestion(variable(name, "x"));
            assert!(told.contains(meant), "{name}: {told}");
        }
    }

    #[test]
    fn what_kubernetes_makes_and_what_the_documentation_names_is_passed_over() {
        for (name, value) in [
            ("COUNTERSIGN_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERSIGN_SERVICE_PORT", "80"),
            ("COUNTERSIGN_SERVICE_PORT_HTTP", "80"),
            ("COUNTERSIGN_PORT", "tcp://10.0.0.1:80"),
            ("COUNTERSIGN_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("COUNTERSIGN_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("COUNTERSIGN_DB_SERVICE_HOST", "10.0.0.1"),
            ("COUNTERSIGN_DB_SERVICE_PORT", "5432"),
            ("COUNTERSIGN_DB_SERVICE_PORT_SQL", "5432"),
            ("COUNTERSIGN_DB_PORT", "tcp://10.0.0.1:5432"),
            ("COUNTERSIGN_DB_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
            ("COUNTERSIGN_DB_PORT_5432_TCP_PROTO", "tcp"),
            ("COUNTERSIGN_TRANSFER_TO", "postgres://db/app"),
        ] {
            assert_eq!(variable(name, value), Stray::Foreign, "{name}");
        }
        assert!(matches!(variable("COUNTERSIGN_PORT", "8080"), Stray::Odd(told) if told.contains("PORT")));
    }

    #[test]
    fn a_slip_in_a_long_name_is_wrong_and_in_that_of_the_database_odd() {
        for (name, meant) in [
            ("ACCESS_TOKEN_EXPIRES", "ACCESS_TOKEN_EXPIRY"),
            ("ACCESS_TOKEN_SECRETS", "ACCESS_TOKEN_SECRET"),
            ("ACCES_TOKEN_SECRET", "ACCESS_TOKEN_SECRET"),
            ("REFRESH_TOKEN_SECRET_PREVIUOS", "REFRESH_TOKEN_SECRET_PREVIOUS"),
            ("REFRESHTOKENSECRET", "REFRESH_TOKEN_SECRET"),
            ("REFRESH_TOKEN_EXPIRE", "REFRESH_TOKEN_EXPIRY"),
            ("PASSWORDS_PEPPER", "PASSWORD_PEPPER"),
            ("access_token_secret", "ACCESS_TOKEN_SECRET"),
        ] {
            for stray in [variable(name, "x"), credential(name)] {
                let told = suggestion(stray);
                assert!(told.contains(&format!("did you mean {meant}?")), "{name}: {told}");
            }
        }
        for name in ["DATABASE_URI", "DATABASE_URLS", "DATABSE_URL", "database_url", "DATABASE-URL"] {
            assert!(matches!(variable(name, "x"), Stray::Odd(told) if told.contains("DATABASE_URL")), "{name}");
        }
        for name in [
            "CORS_ALLOWED_ORIGINS",
            "DATABASE_POOL_SIZE",
            "REGISTRATION_ENABLED",
            "COOKIES_SAME_SITE",
            "PATH",
            "HOST_",
            "PORTS",
            "PORT_",
            "GHOST",
            "TEST_DATABASE_URL",
            "DATABASE_HOST",
            "ACCESS_TOKEN",
            "ACCESS_TOKEN_EXPIRES_IN",
            "JWT_ACCESS_TOKEN_SECRET",
            "REFRESH_TOKEN",
            "PEPPER",
        ] {
            assert_eq!(variable(name, "x"), Stray::Foreign, "{name}");
        }
    }

    /// A credential is also wrong if it nearly is a key or is called like a variable.
    #[test]
    fn a_credential_that_is_nearly_a_key_is_wrong() {
        for (name, meant) in [
            ("tokens.refresh_secrets", "tokens.refresh_secret"),
            ("tokens-access-secret", "tokens.access_secret"),
            ("password.pepper", "PASSWORD_PEPPER"),
            ("COUNTERSIGN__LOG__LEVEL", "log.level"),
            ("countersign_tokens_issuer", "tokens.issuer"),
        ] {
            let told = suggestion(credential(name));
            assert!(told.contains(meant), "{name}: {told}");
        }
        for name in ["tls.key", "server.crt", "server.key", "database.pem", "tokens.txt"] {
            assert_eq!(credential(name), Stray::Foreign, "{name}");
        }
    }
}
