//! More connections than there is room for: the address that has most of them makes way, and nothing in flight is lost.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use countersign::Bounds;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use support::harness::{Home, PASSWORD, TestApp, clock, config};
use support::reading::{peek, read};

/// How long what comes in the end may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Room for so many; of these, two are spare.
const ROOM: usize = 32;
const GET: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

fn start(home: &Home) -> TestApp {
    let bounds = Bounds { connections: ROOM, keep_alive: PATIENCE * 2, head: PATIENCE, ..Bounds::default() };
    TestApp::start_within(config(home).with("server.trusted_proxies", "127.0.0.77"), clock(), bounds)
}

/// A connection of the client at an address of this machine.
fn connect_from(from: Ipv4Addr, app: &TestApp) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &app.address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks, and reads the answer: whether there was one.
fn is_answered(stream: &mut TcpStream) -> bool {
    if stream.write_all(GET.as_bytes()).is_err() {
        return false;
    }
    let mut answer = [0; 4096];
    match read(stream, &mut answer) {
        Ok(0) => false,
        Ok(length) => {
            assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..length]));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            false
        }
    }
}

/// Connections that have been used, and are kept.
fn kept(from: Ipv4Addr, app: &TestApp, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = connect_from(from, app);
        assert!(is_answered(&mut stream), "a new connection is let in");
        stream
    };
    (0..count).map(open).collect()
}

/// Waits until the server has closed one that says nothing.
#[track_caller]
fn expect_closed(stream: &mut TcpStream) {
    match read(stream, &mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("still open: {other:?}"),
    }
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let silent = matches!(peek(stream), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    silent
}

/// One address with more connections than there is room for shuts no other out.
#[test]
fn one_address_with_very_many_connections_shuts_no_other_out() {
    let home = Home::new();
    let app = start(&home);
    let mut honest = kept(HONEST, &app, 3);
    let mut greedy = kept(GREEDY, &app, 3 * ROOM);
    // All others go on: on new connections, and on those that they have kept.
    for stream in &mut honest {
        assert!(is_answered(stream), "one of an address that has few is kept");
    }
    honest.extend(kept(HONEST, &app, 5));
    assert!(honest.iter_mut().all(is_answered));
    let gone = 3 * ROOM - ROOM;
    greedy.iter_mut().take(gone).for_each(expect_closed);
    assert!(greedy.iter().filter(|stream| is_open(stream)).count() >= ROOM / 4, "it keeps its share");
}

#[test]
fn where_no_address_has_more_than_its_share_the_longest_idle_makes_way() {
    let home = Home::new();
    let app = start(&home);
    let mut clients: Vec<_> = (1..=3 * ROOM)
        .map(|last| kept(Ipv4Addr::new(127, 0, 1, u8::try_from(last).unwrap()), &app, 1).remove(0))
        .collect();
    let kept = clients.split_off(clients.len() - ROOM / 2);
    clients.iter_mut().take(ROOM).for_each(expect_closed);
    assert!(kept.iter().all(is_open), "those that came last are there");
}

/// Bytes of a request that never ends, on each connection: the server waits for its client.
#[test]
fn unfinished_requests_of_one_address_shut_no_other_out() {
    let home = Home::new();
    let app = start(&home);
    let login = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    for unfinished in ["GET /health/li", login] {
        let _greedy: Vec<_> = (0..3 * ROOM)
            .map(|_| {
                let mut stream = connect_from(GREEDY, &app);
                stream.write_all(unfinished.as_bytes()).unwrap();
                stream
            })
            .collect();
        let mut honest = kept(HONEST, &app, 5);
        assert!(honest.iter_mut().all(is_answered), "{unfinished}");
    }
}

#[test]
fn what_is_in_flight_is_not_closed() {
    let home = Home::new();
    let app = start(&home);
    app.sign_up("ada@example.com");
    let body = json!({ "email": "ada@example.com", "password": PASSWORD }).to_string();
    let head = "POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close";
    let mut stream = connect_from(HONEST, &app);
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{}", body.len(), &body[..9]).unwrap();
    drop(kept(GREEDY, &app, 3 * ROOM));
    let others = kept(GREEDY, &app, 3 * ROOM);
    write!(stream, "{}", &body[9..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(others);
}

/// It has many clients, and cannot send again what it had sent on a connection that was closed at that moment.
#[test]
fn a_trusted_proxy_has_no_share_and_makes_way_last() {
    let home = Home::new();
    let app = start(&home);
    let proxy = kept(PROXY, &app, ROOM / 2);
    let _clients: Vec<_> = (1..=2 * ROOM)
        .map(|last| kept(Ipv4Addr::new(127, 0, 1, u8::try_from(last).unwrap()), &app, 1).remove(0))
        .collect();
    assert!(proxy.iter().all(is_open));
}

/// All that a client that was closed has to do is to connect again.
#[test]
fn clients_of_one_address_that_come_back_are_all_served() {
    let home = Home::new();
    let app = start(&home);
    let began = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let from = Ipv4Addr::new(127, 0, 2, number + 1);
            let streams = kept(from, &app, 8);
            (from, streams)
        })
        .collect();
    thread::scope(|scope| {
        for (from, mut streams) in clients {
            let app = &app;
            scope.spawn(move || {
                for round in 0..24 {
                    let stream = &mut streams[round % 8];
                    while !is_answered(stream) {
                        assert!(began.elapsed() < PATIENCE, "never served");
                        *stream = connect_from(from, app);
                    }
                }
            });
        }
    });
}
