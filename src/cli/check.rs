//! `check-config`: the configuration in force, or whatever `serve` would refuse. Nothing is made by checking.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs as _};

use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use serde_json::json;

use super::{Failure, say, warn};
use crate::app::way_out;
use crate::config::{Config, DatabaseKeys, Metrics, Mistake, Mistakes, RawConfig, Server, Shown, Source, keys};
use crate::mail::Mailroom;
use crate::startup;

/// Prints the configuration, or every mistake in it.
pub fn run(raw: RawConfig, json: bool) -> Result<(), Failure> {
    let shown = raw.describe();
    let config = match raw.resolve() {
        Ok(config) => config,
        Err(mistakes) => return refuse(mistakes, json),
    };
    let (mistakes, warnings) = at_start(&config, &shown);
    if !mistakes.0.is_empty() {
        return refuse(mistakes, json);
    }
    if json {
        say(format_args!("{}", serde_json::to_string_pretty(&shown)?))?;
    } else {
        for entry in &shown {
            say(format_args!("{entry}"))?;
        }
    }
    for warning in config.warnings.iter().chain(&warnings) {
        warn(format_args!("warning: {warning}"));
    }
    Ok(())
}

fn refuse(mistakes: Mistakes, json: bool) -> Result<(), Failure> {
    if !json {
        return Err(mistakes.into());
    }
    say(format_args!("{}", serde_json::to_string_pretty(&json!({ "mistakes": mistakes }))?))?;
    let (count, plural) = (mistakes.0.len(), if mistakes.0.len() == 1 { "" } else { "s" });
    Err(Failure(format!("the configuration has {count} mistake{plural}, listed on standard output")))
}

/// What is refused although every value is right: the address to listen on, the database, and keys.
fn at_start(config: &Config, shown: &[Shown]) -> (Mistakes, Vec<String>) {
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    let mut refuse = |key: &str, problem: String| {
        let entry = shown.iter().find(|entry| entry.key == key);
        let source = entry.map_or(Source::Default, |entry| entry.source.clone());
        mistakes.push(Mistake { key: Some(key.to_owned()), source, problem });
    };
    match listening(config) {
        Listening::Possible => {}
        Listening::InUse(address) => warnings.push(format!(
            "{}: {address} is in use: by the server, if it runs; if it does not, set PORT to another",
            Server::port
        )),
        Listening::Impossible(key, problem) => refuse(key, problem),
    }
    if let Some(address) = config.metrics.bind.filter(|_| !config.metrics_by_default)
        && let Listening::Impossible(_, problem) = can_bind(address)
    {
        refuse(Metrics::bind.name, problem);
    }
    if let Err(error) = Mailroom::open(config, "") {
        refuse(error.key(), error.problem().to_owned());
    }
    // What is said of a secret begins with its name; everything else is about the folder that the database is in.
    for problem in startup::check(config) {
        let about = keys().find(|key| key.short.iter().any(|short| problem.starts_with(short)));
        refuse(about.map_or(DatabaseKeys::url.name, |key| key.name), problem);
    }
    (Mistakes(mistakes), warnings)
}

/// Whether the server's address can be had.
#[derive(Debug)]
enum Listening {
    Possible,
    InUse(SocketAddr),
    Impossible(&'static str, String),
}

fn listening(config: &Config) -> Listening {
    let host = config.server.host.as_str();
    let addresses = match (host, config.server.port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            let problem =
                format!("\"{host}\" is the name of no address: {error}; set HOST to an address of this machine");
            return Listening::Impossible(Server::host.name, problem);
        }
    };
    let none = Listening::Impossible(Server::host.name, format!("\"{host}\" is the name of no address"));
    any_of(addresses, none, can_bind)
}

/// As the server does it: the first address that can be had. If there is none, one that is in use explains it.
fn any_of(
    addresses: impl IntoIterator<Item = SocketAddr>,
    none: Listening,
    can_bind: impl Fn(SocketAddr) -> Listening,
) -> Listening {
    addresses.into_iter().fold(none, |before, address| match before {
        Listening::Possible => before,
        used @ Listening::InUse(_) => match can_bind(address) {
            Listening::Possible => Listening::Possible,
            _ => used,
        },
        Listening::Impossible(..) => can_bind(address),
    })
}

/// Takes the address for a moment without listening on it, which disturbs no server that does.
fn can_bind(address: SocketAddr) -> Listening {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bound = socket(family, SocketType::STREAM, None).and_then(|socket| {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)
    });
    let Err(error) = bound.map_err(std::io::Error::from) else { return Listening::Possible };
    let key = match error.kind() {
        ErrorKind::AddrInUse => return Listening::InUse(address),
        ErrorKind::PermissionDenied => Server::port.name,
        _ => Server::host.name,
    };
    Listening::Impossible(key, format!("cannot listen on {address}: {error}; {}", way_out(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name may have several addresses, as `localhost` has one of each family, and a machine not all of them.
    #[test]
    fn one_address_of_a_name_that_can_be_had_is_enough() {
        let address = |last: u8| SocketAddr::from(([127, 0, 0, last], 8080));
        let [free, taken, foreign, another] = [1, 2, 3, 4].map(address);
        let can_bind = |address: SocketAddr| match address {
            _ if address == free => Listening::Possible,
            _ if address == taken => Listening::InUse(taken),
            _ => Listening::Impossible(Server::host.name, address.to_string()),
        };
        for (addresses, expected) in [
            (&[free][..], "Possible".to_owned()),
            (&[free, foreign], "Possible".to_owned()),
            (&[foreign, free], "Possible".to_owned()),
            (&[free, taken], "Possible".to_owned()),
            (&[taken, free], "Possible".to_owned()),
            (&[taken, foreign, free], "Possible".to_owned()),
            (&[taken], format!("InUse({taken})")),
            (&[taken, foreign], format!("InUse({taken})")),
            (&[foreign, taken], format!("InUse({taken})")),
            (&[foreign, another], format!("Impossible(\"server.host\", \"{another}\")")),
            (&[], "Impossible(\"server.host\", \"none\")".to_owned()),
        ] {
            let none = Listening::Impossible(Server::host.name, "none".into());
            let found = any_of(addresses.iter().copied(), none, can_bind);
            assert_eq!(format!("{found:?}"), expected, "{addresses:?}");
        }
    }
}
