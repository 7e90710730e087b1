//! `healthcheck`: is the server ready?

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::listing::visible;
use super::{Failure, say};
use crate::config::Config;
use crate::network::Address;

/// How long each step may take. A server whose database does not answer needs some seconds to say so.
const TIMEOUT: Duration = Duration::from_secs(15);
/// More than the answer has.
const MAX_BYTES: u64 = 64 << 10;

/// Asks where the server listens.
pub fn check(config: &Config) -> Result<(), Failure> {
    let address = server_address(config)?;
    let answer = ask(&Address::Tcp(address), "/health/ready", TIMEOUT).map_err(|error| {
        Failure(format!("nothing answers on {address}: {error}; start it, or name its configuration with --config"))
    })?;
    match answer {
        Ok(()) => say(format_args!("ready")),
        Err(why) => Err(Failure(format!("the server on {address} is not ready: {} Its log says more", visible(&why)))),
    }
}

/// Asks the server that listens there over plain HTTP/1.1, with so much patience at each step. An answer that is
/// not 200 says why.
pub fn ask(address: &Address, path: &str, patience: Duration) -> io::Result<Result<(), String>> {
    let answer = match address {
        Address::Tcp(address) => {
            let address = reached(*address);
            let stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            get(stream, &address.to_string(), path)?
        }
        Address::Unix(address) => {
            let stream = UnixStream::connect_addr(address)?;
            stream.set_read_timeout(Some(patience))?;
            get(stream, "localhost", path)?
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") {
        return Ok(Ok(()));
    }
    let detail =
        serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
    Ok(Err(detail.unwrap_or_else(|| head.lines().next().unwrap_or_default().trim_end().to_owned())))
}

fn get(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A server that listens everywhere is asked on this machine.
fn reached(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let here = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(here);
    }
    address
}

fn server_address(config: &Config) -> Result<SocketAddr, Failure> {
    let host = config.server.host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, config.server.port).to_socket_addrs()?.next();
    found.ok_or_else(|| Failure(format!("{host} has no address")))
}
