//! The server's socket: how many connections there are, and what each may take.

mod body_time;
mod connection;
mod connections;
mod draining;
mod http10;
mod origin_line;
mod socket;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_service::{IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, map_config};
use actix_web::dev::{AppConfig, Server, fn_service};
use actix_web::web::ServiceConfig;
use actix_web::{App, rt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpStream, UnixStream};

pub(crate) use self::body_time::limit_body_time;
pub use self::connection::Bounds;
pub(crate) use self::connection::ConnectionState;
use self::connection::TimedStream;
use self::connections::{Connections, IsProxy};
pub(crate) use self::draining::Draining;
use self::socket::Socket;
use self::wire::Wire;
use crate::guard::cross_site::Origins;
use crate::network::Listener;

/// How long what a client still sends is read behind an answer that did not wait for it. Closed at once, the connection
/// would be reset, and the answer could be lost with it (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// So many bytes of an answer are made ready beyond what its client has taken. With one slice of a large body on top, that is
/// no more than the buffer has room for from the start, so that it never grows.
const UNWRITTEN: usize = 4 * 1024;
/// Connections that the system keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Open files besides connections: the database, the log, keys while they are read.
const OTHER_FILES: usize = 64;
/// Open files that a worker waits with.
const FILES_OF_A_WORKER: usize = 8;
/// How long requests in flight may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(30);

/// Says which pages may read answers, at the time of asking.
pub(crate) type OriginsInForce = Arc<dyn Fn() -> Arc<Origins> + Send + Sync>;

/// Whom the server answers, and how patiently.
pub(crate) struct Settings {
    pub(crate) bounds: Bounds,
    pub(crate) is_proxy: IsProxy,
    pub(crate) draining: Draining,
    pub(crate) origins: OriginsInForce,
    /// Whether others keep the sockets open, for a server that comes after this one.
    pub(crate) are_kept_open: bool,
}

/// Binds a TCP socket: `host` is a name or an IP address, in brackets or not.
///
/// # Errors
///
/// What the system says.
pub(crate) fn bind(host: &str, port: u16) -> std::io::Result<Listener> {
    let listener = TcpListener::bind((host.trim_start_matches('[').trim_end_matches(']'), port))?;
    // It listens already, but with as short a queue as the standard library asks for.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(Listener::Tcp(listener))
}

/// Answers on all `listeners` until `shutdown` resolves, then finishes the requests in flight. Where a service
/// manager keeps the sockets open, connections made after that wait for the next process.
///
/// # Errors
///
/// If the socket fails.
pub(crate) async fn run(
    listeners: Vec<Listener>,
    settings: Settings,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    shutdown: impl Future<Output = ()> + 'static,
) -> std::io::Result<()> {
    let draining = settings.draining.clone();
    let are_kept_open = settings.are_kept_open;
    let server = start(listeners, settings, routes)?;
    let handle = server.handle();
    rt::spawn(async move {
        shutdown.await;
        draining.begin();
        if are_kept_open {
            handle.pause().await;
            draining.until_silent().await;
        } else {
            draining.until_gone().await;
            // What has been accepted by now is answered before the end.
            handle.pause().await;
            draining.until_gone().await;
        }
        handle.stop(true).await;
    });
    server.await
}

/// Starts answering. Like `actix_web::HttpServer`, which is these parts put together, but with
/// [`TimedStream`] and [`Wire`] between HTTP and the socket, and [`Connections`] that make way where the server would accept no
/// more.
fn start(
    listeners: Vec<Listener>,
    Settings { bounds, is_proxy, draining, origins, .. }: Settings,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> std::io::Result<Server> {
    // More than 512 the server does not take.
    let workers = thread::available_parallelism()?.get().min(512);
    let others = OTHER_FILES + workers * FILES_OF_A_WORKER;
    let most = affordable(bounds.connections, others);
    let connections = Connections::new(most, is_proxy);
    let mut server = Server::build()
        .workers(workers)
        .max_concurrent_connections(most.div_ceil(workers))
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let http = move || {
        let (routes, draining, stopping) = (routes.clone(), draining.clone(), stopping.clone());
        let app = App::new().configure(routes).into_factory().map_err(|error| error.error_response());
        HttpService::build()
            .keep_alive(bounds.keep_alive)
            .client_request_timeout(bounds.head)
            .client_disconnect_timeout(LINGER)
            // A client that hangs up is not worked for any longer; above all, it leaves the queue of log-ins.
            .h1_allow_half_closed(false)
            .h1_write_buffer_size(UNWRITTEN)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(move |wire: &Wire, data: &mut actix_http::Extensions| {
                data.insert(wire.connection().state().clone());
                data.insert(draining.connected());
                if let Some(peer) = wire.peer() {
                    data.insert(peer);
                }
            })
            .h1(map_config(app, |()| AppConfig::default()))
    };
    let entrance = Entrance { bounds, connections, origins };
    for listener in listeners {
        let (http, entrance) = (http.clone(), entrance.clone());
        server = match listener {
            Listener::Tcp(listener) => {
                server.listen("countersign", listener, move || entrance.accept::<TcpStream>().and_then(http()))?
            }
            Listener::Unix(listener) => {
                server.listen_uds("countersign", listener, move || entrance.accept::<UnixStream>().and_then(http()))?
            }
        };
    }
    Ok(server.run())
}

/// What a connection passes before HTTP is spoken on it.
#[derive(Clone)]
struct Entrance {
    bounds: Bounds,
    connections: Connections,
    origins: OriginsInForce,
}

impl Entrance {
    fn accept<S: Into<Socket> + 'static>(
        &self,
    ) -> impl ServiceFactory<
        S,
        Config = (),
        Response = (Wire, Option<SocketAddr>),
        Error = DispatchError,
        InitError = (),
    > + use<S> {
        let Self { bounds, connections, origins } = self.clone();
        fn_service(move |socket: S| {
            let socket: Socket = socket.into();
            let (peer, address) = (socket.peer(), socket.peer_address());
            let open = connections.enter(peer);
            let wire = Wire::new(TimedStream::new(socket, bounds, open), peer, origins());
            async move { Ok((wire, address)) }
        })
    }
}

/// As many connections as were asked for, or as there can be files: a server that runs out of them answers
/// no client, and one that takes no more than it has lets the rest wait their turn.
fn affordable(connections: usize, others: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections + others).unwrap_or(u64::MAX);
    let possible = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let mut files = limit.current.unwrap_or(u64::MAX);
    if files < possible {
        // The soft limit is for programs that watch files by number, as select(2) does.
        match setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum }) {
            Ok(()) => files = possible,
            Err(error) => tracing::debug!(%error, "the limit on open files stays as it is"),
        }
    }
    if files >= wanted {
        return connections;
    }
    let fewer = usize::try_from(files).unwrap_or(connections).saturating_sub(others).max(1);
    tracing::warn!(files, "the limit on open files allows {fewer} connections; LimitNOFILE= or ulimit -n raises it");
    fewer
}
