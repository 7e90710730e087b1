//! Who is at the other end, as far as one can see. Headers are believed only from trusted proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::guard::peer::peer;
use crate::network::{Peer, TrustedNetworks};
use crate::store::sessions::Device;
use actix_web::http::header::{HeaderName, USER_AGENT};
use actix_web::{HttpMessage as _, HttpRequest};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// As much of a user agent as a person reads.
const MAX_USER_AGENT: usize = 512;

/// A client's address, found once for each request.
struct Seen(Option<IpAddr>);

/// The proxies in front of us; `server.trusted_proxies`. Clones share what has been said about others.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies {
    networks: TrustedNetworks,
    warned: Arc<AtomicBool>,
}

impl TrustedProxies {
    pub(crate) fn new(networks: TrustedNetworks) -> Self {
        Self { networks, warned: Arc::default() }
    }

    /// Whether a peer is one of them.
    pub(crate) fn trust(&self, peer: Peer) -> bool {
        self.networks.trust(peer)
    }

    /// A proxy on this machine or its network that is not configured hides who its clients are, and they all share one
    /// budget of failed log-ins. Said once.
    fn suspect(&self, peer: Peer, req: &HttpRequest) {
        let near = match peer.address() {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
        };
        if near && req.headers().contains_key(FORWARDED_FOR) && !self.warned.swap(true, Ordering::Relaxed) {
            let entry = match peer {
                Peer::Address(address) => address.to_canonical().to_string(),
                Peer::Unix => "unix".to_owned(),
            };
            tracing::warn!(
                peer = entry,
                "requests come with X-Forwarded-For from a proxy that is not in server.trusted_proxies: all of its \
                 clients are counted as one; to believe it, add {entry} there"
            );
        }
    }

    /// The client's address: each proxy appends whom it spoke to, so the right-most address that is not a
    /// trusted proxy's is the last one that a trusted proxy has seen.
    pub(crate) fn client_address(&self, req: &HttpRequest) -> Option<IpAddr> {
        if let Some(Seen(address)) = req.extensions().get() {
            return *address;
        }
        let address = self.see(req);
        req.extensions_mut().insert(Seen(address));
        address
    }

    fn see(&self, req: &HttpRequest) -> Option<IpAddr> {
        let peer = peer(req)?;
        if !self.trust(peer) {
            self.suspect(peer, req);
            return Some(peer.address());
        }
        let mut client = peer.address();
        // What the client itself wrote into the line may be no text at all; what the proxy appended still counts.
        let lines: Vec<_> =
            req.headers().get_all(FORWARDED_FOR).map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let hops: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).collect();
        for hop in hops.iter().rev() {
            let Some(address) = address_of(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.networks.contain(client) {
                break;
            }
        }
        Some(client)
    }

    /// The same, as text.
    pub(crate) fn address_text(&self, req: &HttpRequest) -> Option<String> {
        self.client_address(req).map(|address| address.to_string())
    }

    /// Whether the client spoke TLS, to us or to a trusted proxy.
    pub(crate) fn is_tls(&self, req: &HttpRequest) -> bool {
        let by_proxy = peer(req).is_some_and(|peer| self.trust(peer));
        let proto = req.headers().get(FORWARDED_PROTO);
        // Where each proxy adds what it was asked by, the first in the line is the client's.
        let proto = proto.and_then(|value| value.as_bytes().split(|byte| *byte == b',').next());
        req.app_config().secure() || (by_proxy && proto.is_some_and(|p| p.trim_ascii().eq_ignore_ascii_case(b"https")))
    }

    /// What a session remembers of its client.
    pub(crate) fn device(&self, req: &HttpRequest) -> Device {
        let user_agent = req.headers().get(USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect()
        });
        Device { user_agent, ip_address: self.address_text(req) }
    }
}

/// The address of one hop; some proxies write the port, or brackets, too.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
}
