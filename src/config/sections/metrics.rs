//! Section `metrics`.

use std::net::SocketAddr;

use crate::config::address;
use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `metrics`: where they can be read.
    pub struct Metrics in "metrics" {
        /// IP address and port of GET /metrics, a listener of its own; empty is off.
        ///
        /// Change it if the collector is on another machine, and keep it from the public then. Where the default is taken by
        /// another program, the server goes without. A socket that systemd passes by the name `metrics` comes before it.
        bind: Option<SocketAddr> = "127.0.0.1:9464", Key::text(address::socket).at_restart();
    }
}
