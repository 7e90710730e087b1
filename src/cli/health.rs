//! `healthcheck`: is the server ready?

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

use super::listing::visible;
use super::{Failure, say};
use crate::config::Config;

/// How long each step may take. A server whose database does not answer needs some seconds to say so.
const TIMEOUT: Duration = Duration::from_secs(15);
/// More than the answer has.
const MAX_BYTES: u64 = 64 << 10;

/// Asks over plain HTTP/1.1, where the server listens.
pub fn check(config: &Config) -> Result<(), Failure> {
    let address = server_address(config)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| {
        Failure(format!("nothing answers on {address}: {error}; start it, or name its configuration with --config"))
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") {
        say(format_args!("ready"))?;
        return Ok(());
    }
    let status = head.lines().next().unwrap_or_default().trim_end();
    let told = serde_json::from_str::<Value>(body).ok().and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
    let told = visible(told.as_deref().unwrap_or(status));
    Err(Failure(format!("the server on {address} is not ready: {told} Its log says more")))
}

fn server_address(config: &Config) -> Result<SocketAddr, Failure> {
    let host = config.server.host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, config.server.port).to_socket_addrs()?.next();
    let mut address = found.ok_or_else(|| Failure(format!("{host} has no address")))?;
    // A server that listens everywhere is asked here.
    if address.ip().is_unspecified() {
        let here =
            if address.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) };
        address.set_ip(here);
    }
    Ok(address)
}
