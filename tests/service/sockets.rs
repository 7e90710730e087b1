//! Sockets that the service manager has opened, as sd_listen_fds(3) says it: from descriptor 3 on, with names.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use support::manager::Manager;
use support::sockets::with_sockets;

use super::*;

/// Asks over any connection: the status, and what follows it.
fn ask(mut stream: impl io::Read + io::Write, request: &str, body: &str) -> (u16, String) {
    let head = format!("{request}Host: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\n";

/// The order is not the same each time where there are several units, and there may be any number of sockets.
#[test]
fn sockets_of_any_kind_are_taken_by_name_in_any_order() {
    for turned in [false, true] {
        let home = Home::new();
        let path = home.path("http.sock");
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = UnixListener::bind(&path).unwrap();
        let mut sockets: Vec<(&str, &dyn AsFd)> =
            vec![("metrics", &metrics), ("countersign.socket", &local), ("unknown", &first), ("", &second)];
        if turned {
            sockets.reverse();
        }
        let (command, inherited) = with_sockets(&home, &sockets, &[]);
        let server = Server::start(command);
        drop(inherited);
        let reached = [&first, &second].map(|listener| listener.local_addr().unwrap());
        assert!(reached.contains(&server.address), "it says where it can be reached: {}", server.address);
        for address in reached {
            assert_eq!(ask(tcp(address), LIVE, "").0, 200, "{address}");
        }
        assert_eq!(ask(unix(&path), LIVE, "").0, 200);
        assert_eq!(ask(tcp(metrics.local_addr().unwrap()), "GET /metrics HTTP/1.1\r\n", "").0, 200);
        server.stop();
        assert!(path.exists(), "it belongs to the manager");
    }
}

#[test]
fn a_socket_that_is_no_use_is_refused_with_its_number_and_name() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = UnixDatagram::bind(home.path("datagram")).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let cases: [&dyn AsFd; 4] = [&udp, &datagram, &connected, &file];
    for useless in cases {
        let (mut command, _inherited) = with_sockets(&home, &[("web", &listener), ("odd", useless)], &[]);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert_tells(&told, &["number 2", "odd", "ListenStream="]);
        assert!(!home.path("data").exists(), "nothing was made");
    }
}

/// As in a shell that systemd started, where these variables are still there.
#[test]
fn sockets_of_another_process_are_left_alone() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (command, _inherited) = with_sockets(&home, &[("web", &listener)], &[("LISTEN_PID", "1")]);
    let server = Server::start(command);
    assert_ne!(server.address, listener.local_addr().unwrap());
    server.stop();
}

/// The watchdog is told by way of that socket, too.
#[test]
fn a_unix_socket_alone_is_enough_and_its_path_is_told() {
    let home = Home::new();
    let (path, notify) = (home.path("http.sock"), home.path("notify"));
    let manager = Manager::new(UnixDatagram::bind(&notify).unwrap());
    let local = UnixListener::bind(&path).unwrap();
    let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let (mut command, _inherited) = with_sockets(&home, &[("http", &local)], &environment);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let told = manager.hears_until("READY=1");
    assert!(told.contains(&format!("STATUS=answers on unix:{}", path.display())), "{told:?}");
    manager.hears_until("WATCHDOG=1");
    assert_eq!(ask(unix(&path), LIVE, "").0, 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    manager.hears_until("STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// `unix` in `server.trusted_proxies`; an address there says nothing of them.
#[test]
fn peers_of_a_unix_socket_are_proxies_if_that_is_configured() {
    for (trusted, seen) in [("127.0.0.1", "127.0.0.1"), ("10.0.0.0/8, unix", "203.0.113.9")] {
        let home = Home::new();
        let path = home.path("http.sock");
        let (web, local) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let environment = [("COUNTERSIGN__SERVER__TRUSTED_PROXIES", trusted)];
        let (command, _inherited) = with_sockets(&home, &[("web", &web), ("local", &local)], &environment);
        let server = Server::start(command);
        let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
        let request = "POST /v1/auth/register HTTP/1.1\r\nContent-Type: application/json\r\n\
                       X-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n";
        let (status, answer) = ask(unix(&path), request, &body);
        assert_eq!(status, 201, "{answer}");
        let pair: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let token = pair["access_token"].as_str().unwrap();
        let list = format!("GET /v1/sessions HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        let (status, sessions) = ask(unix(&path), &list, "");
        assert_eq!(status, 200, "{sessions}");
        assert!(sessions.contains(&format!("\"ip_address\":\"{seen}\"")), "{trusted}: {sessions}");
        server.stop();
    }
}

/// Connections made during the restart wait for the next process; requests in flight are finished.
#[test]
fn a_restart_on_the_same_socket_refuses_and_drops_nothing() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        let (command, inherited) = with_sockets(&home, &[("web", &listener)], &[]);
        let server = Server::start(command);
        drop(inherited);
        server
    };
    let mut server = start();
    let pair = server.register("ada@example.com");
    let request =
        format!("GET /v1/users/me HTTP/1.1\r\nAuthorization: Bearer {}\r\n", pair["access_token"].as_str().unwrap());
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (over, answered, request) = (Arc::clone(&over), Arc::clone(&answered), request.clone());
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(ask(tcp(address), &request, "").0, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more = |than: u32| {
        let began = Instant::now();
        while answered.load(Ordering::SeqCst) < than + 50 {
            assert!(began.elapsed() < PATIENCE, "requests are answered");
            thread::sleep(Duration::from_millis(5));
        }
    };
    for _ in 0..3 {
        more(answered.load(Ordering::SeqCst));
        server.stop();
        server = start();
    }
    more(answered.load(Ordering::SeqCst));
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    server.stop();
}
