//! Section `server`.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::config::address;
use crate::config::key::Key;
use crate::config::section::section;
use crate::network::Proxy;

section! {
    /// Section `server`: where to listen, and which proxies to believe.
    pub struct Server in "server" {
        /// IP address or host name to listen on.
        ///
        /// Change it where the proxy that ends TLS is not on this machine, as in a container: `0.0.0.0`.
        host: String = "127.0.0.1", Key::text(address::host).short(&["HOST"]).at_restart();

        /// TCP port to listen on; 0 takes any free one, for tests.
        ///
        /// Change it if another program has this one.
        port: u16 = "8080", Key::number(0..=65_535).short(&["PORT"]).at_restart();

        /// Proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses, networks (10.0.0.0/8), or `unix` for all
        /// that come by a Unix socket.
        ///
        /// Set it behind a proxy, else all clients share the proxy's address where failed log-ins are counted. Never wider
        /// than the proxies: a client in it can choose the address it is counted under.
        trusted_proxies: Vec<Proxy> = "", Key::text(address::proxy);

        /// Further http(s) URLs that clients know this server by, beside tokens.issuer: their pages count as this host.
        ///
        /// Name them where one server answers under several names, or a proxy rewrites Host.
        public_urls: Vec<String> = "", Key::text(address::issuer);

        /// How long an idle connection stays open.
        ///
        /// Keep it above the idle time of the proxy before this server, or a request now and then meets a connection that is
        /// just being closed.
        keep_alive: Duration = "75s", Key::duration(1..=3_600).at_restart();
    }
}

impl Server {
    /// Host and port as they stand in a URL, an IPv6 address in brackets (RFC 3986 section 3.2.2).
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}
