//! Places on the network: what counts as one, and which are our own proxies.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The networks of the proxies in front of the server, whose headers are believed; `server.trusted_proxies`.
#[derive(Clone, Debug, Default)]
pub struct TrustedNetworks(Vec<IpNet>);

impl TrustedNetworks {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
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
