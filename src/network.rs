//! Places on the network: where a server listens, who is at the other end, what counts as one client, and which are our own
//! proxies.

use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::path::Path;

use ipnet::IpNet;

/// A socket that connections are accepted on.
#[derive(Debug)]
pub enum Listener {
    /// IPv4 or IPv6.
    Tcp(TcpListener),
    /// On this machine only.
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener) => listener.local_addr().map(Address::Unix),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Where a server listens. Shown as a URL, or as `unix:` and the path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Address {
    /// IP address and port.
    Tcp(SocketAddr),
    /// A path, or a name in Linux' abstract namespace.
    Unix(UnixAddress),
}

impl Address {
    /// IP address and port, unless it is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// What curl is told instead of scheme and host.
    pub(crate) fn for_curl(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(address) => match (address.as_pathname(), abstract_name(address)) {
                (None, Some(name)) => {
                    format!("--abstract-unix-socket {} http://localhost", String::from_utf8_lossy(name))
                }
                (path, _) => format!("--unix-socket {} http://localhost", path.unwrap_or(Path::new("")).display()),
            },
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(address) => match (address.as_pathname(), abstract_name(address)) {
                (Some(path), _) => write!(f, "unix:{}", path.display()),
                (None, Some(name)) => write!(f, "unix:@{}", String::from_utf8_lossy(name)),
                (None, None) => write!(f, "unix:"),
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(address: &UnixAddress) -> Option<&[u8]> {
    std::os::linux::net::SocketAddrExt::as_abstract_name(address)
}

/// Other systems have none.
#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &UnixAddress) -> Option<&[u8]> {
    None
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// On the network.
    Address(IpAddr),
    /// A program on this machine, by a Unix socket.
    Unix,
}

impl Peer {
    /// Its address. A program on this machine has that of this machine.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Address(address) => address.to_canonical(),
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// An entry of `server.trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Who comes from there.
    Network(IpNet),
    /// Who comes by a Unix socket.
    Unix,
}

/// Which peers are proxies in front of the server, whose headers are believed; `server.trusted_proxies`.
#[derive(Clone, Debug, Default)]
pub struct TrustedNetworks(Vec<Proxy>);

impl TrustedNetworks {
    /// These.
    pub fn new(proxies: Vec<Proxy>) -> Self {
        Self(proxies)
    }

    /// Whether an address is in one of the networks.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|proxy| matches!(proxy, Proxy::Network(network) if network.contains(&address)))
    }

    /// Whether a peer is one of the proxies.
    pub fn trust(&self, peer: Peer) -> bool {
        match peer {
            Peer::Address(address) => self.contain(address),
            Peer::Unix => self.0.contains(&Proxy::Unix),
        }
    }
}

/// What a client's address is counted under: itself, or, of IPv6, its /64, which is what one customer is given
/// (RFC 6177) and can choose freely within.
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// What a client's address is counted under, as people write it.
pub fn shown(address: IpAddr) -> String {
    match rate_limit_key(address) {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{v6}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy on this machine that is trusted by its address is not one that comes by a Unix socket, nor the other way.
    #[test]
    fn peers_of_unix_sockets_are_proxies_only_if_that_is_said() {
        let network = TrustedNetworks::new(vec![Proxy::Network("127.0.0.0/8".parse().unwrap())]);
        let unix = TrustedNetworks::new(vec![Proxy::Unix]);
        let mapped = Peer::Address("::ffff:127.0.0.1".parse().unwrap());
        assert_eq!((network.trust(mapped), network.trust(Peer::Unix)), (true, false));
        assert_eq!((unix.trust(mapped), unix.trust(Peer::Unix)), (false, true));
        assert_eq!(Peer::Unix.address(), mapped.address());
    }

    #[test]
    fn an_ipv6_address_counts_as_its_64_and_a_mapped_one_as_the_ipv4_it_is() {
        let counted = |text: &str| rate_limit_key(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        let shown = |text: &str| shown(text.parse().unwrap());
        assert_eq!((shown("2001:db8::7").as_str(), shown("::ffff:192.0.2.7").as_str()), ("2001:db8::/64", "192.0.2.7"));
    }
}
