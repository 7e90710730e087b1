//! `healthcheck`: is the server ready?

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{Failure, say};
use crate::config::Config;

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks over plain HTTP/1.1, where the server listens.
pub fn check(config: &Config) -> Result<(), Failure> {
    let address = server_address(config)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| {
        Failure(format!("nothing answers on {address}: {error}; start it, or name its configuration with --config"))
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    if status.starts_with("HTTP/1.1 200") {
        say(format_args!("ready"))?;
        return Ok(());
    }
    Err(Failure(format!("the server on {address} is not ready: {}; its log says why", status.trim_end())))
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
