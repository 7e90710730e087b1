//! Section `metrics`.

use std::net::SocketAddr;

use crate::config::address;
use crate::config::key::Key;
use crate::config::section::section;

section! {
    /// Section `metrics`: where they can be read. This version has none, so it has no effect yet.
    pub struct Metrics in "metrics" {
        /// IP address and port of GET /metrics, a listener of its own; empty is off. It has no effect yet.
        ///
        /// Change it if the collector is on another machine, and keep it from the public then.
        bind: Option<SocketAddr> = "127.0.0.1:9464", Key::text(address::socket).at_restart();
    }
}
