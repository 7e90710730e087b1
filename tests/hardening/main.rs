//! The real binary under clients that cost a lot: the most that any of them gets is a connection.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::process::{Connection, Home, PASSWORD, Server};
use support::reading::{peek, read};

const GET: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Processor time that the server has used so far, all threads together.
fn work(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    // The second field is a name in brackets; the 14th and 15th count hundredths of a second (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    ms((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// HTT-07. The HTTP stack, left to itself, would ask the socket of such a client for more without a pause.
#[test]
fn a_client_that_takes_no_answer_costs_no_work_and_little_memory() {
    let home = Home::new();
    let server = home.serve(&[]);
    let memory = |server: &Server| {
        let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory(&server);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for client in &clients {
        client.set_nonblocking(true).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(client, 4096).unwrap();
    }
    let requests = GET.repeat(2000);
    let began = Instant::now();
    // What the system holds for both is worked off; then there is nothing to do, however much is asked.
    loop {
        let worked = work(&server);
        let until = Instant::now() + ms(1000);
        while Instant::now() < until {
            for client in &mut clients {
                if let Err(error) = client.write(requests.as_bytes()) {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                }
            }
            thread::sleep(ms(5));
        }
        if work(&server) - worked < ms(100) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "the server finds no rest");
    }
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < 16 * 1024, "eight such clients hold {grown} KiB");
    assert_eq!(server.register("ada@example.com")["token_type"], "Bearer", "everybody else is served");
    drop(clients);
    server.stop();
}

/// The server with room for thirty connections, which is what the system has files for.
fn with_few_files(home: &Home) -> Server {
    let workers = thread::available_parallelism().unwrap().get();
    let files = 64 + workers * 8 + 30;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec {}", env!("CARGO_BIN_EXE_countersign"))]);
    command.current_dir(home.path("")).env_clear().envs([("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")]);
    home.migrate();
    if !home.database().is_embedded() {
        command.envs(home.database().environment());
    }
    Server::start(command)
}

fn register(connection: &mut Connection, name: &str) -> u16 {
    let user = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
    connection.post("/v1/auth/register", &user).unwrap().status
}

/// With fewer files than there are clients, those that have been idle for longest make way, and nothing else runs out of
/// files.
#[test]
fn connections_beyond_the_open_files_are_served_idle_ones_make_way() {
    let home = Home::new();
    let server = with_few_files(&home);
    let mut crowd: Vec<TcpStream> = (0..150)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            stream.write_all(GET.as_bytes()).unwrap();
            assert!(read(&mut stream, &mut [0; 4096]).unwrap() > 0, "{number} is served");
            stream
        })
        .collect();
    let closed = |stream: &mut TcpStream| matches!(read(stream, &mut [0; 16]), Ok(0) | Err(_));
    let gone = crowd.iter_mut().take(120).map(closed).filter(|closed| *closed).count();
    assert_eq!(gone, 120, "idle ones have made way");
    assert_eq!(register(&mut Connection::open(server.address).unwrap(), "ada"), 201, "the database finds its files");
    let worked = work(&server);
    thread::sleep(ms(1000));
    let more = work(&server) - worked;
    assert!(more < ms(300), "waiting took {more:?} of work in 1 s");
    drop(crowd);
    assert_eq!(register(&mut Connection::open(server.address).unwrap(), "edsger"), 201);
    let log = server.stop();
    assert!(log.contains("the limit on open files allows 30 connections"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// A fifth of the connections that there may be. Each may hold as much as leaves all of them below 300 MB: kept ones, and
/// those of clients that ask without end and take no answer.
#[test]
fn kept_connections_and_slow_readers_hold_little_memory_each() {
    const MANY: usize = 2000;
    let memory = |server: &Server| {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.id())).unwrap();
        // Not its share of the program's own pages, which grows whenever another server of these tests ends.
        let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let large = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let padded = format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Padding: {}\r\n\r\n", "x".repeat(3000));
    for (what, request, reads, most) in
        [("kept", padded, true, 20_000), ("slow readers", large.repeat(20), false, 28_000)]
    {
        // One for each: what the first clients have left behind would be there for the next.
        let home = Home::new();
        let server = home.serve(&[]);
        let before = memory(&server);
        let mut clients = Vec::new();
        for _ in 0..MANY {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            if reads {
                stream.write_all(request.as_bytes()).unwrap();
                assert!(read(&mut stream, &mut [0; 4096]).unwrap() > 0);
            } else {
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                // The first of what it is sent has come: the rest waits on the other side.
                assert!(peek(&stream).unwrap() > 0);
            }
            clients.push(stream);
        }
        let each = memory(&server).saturating_sub(before) * 1024 / MANY;
        println!("{what}: {each} bytes each");
        assert!(each < most, "{what} hold {each} bytes each");
        assert_eq!(Connection::open(server.address).unwrap().send("GET", "/health/live", &[], "").unwrap().status, 200);
    }
}

#[test]
fn an_idle_connection_is_closed_when_the_configuration_says() {
    let home = Home::new();
    let server = home.serve(&[("COUNTERSIGN__SERVER__KEEP_ALIVE", "1s")]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    // Less than the default.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(GET.as_bytes()).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("closed");
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
}

/// Passwords are hashed on threads of their own, one a core, that give way to everything else.
#[test]
fn each_core_has_a_thread_for_passwords_at_a_lower_priority() {
    let home = Home::new();
    let server = home.serve(&[]);
    server.register("ada@example.com");
    // The name in brackets; then, the 17th field behind it is how nice the thread is (proc(5)).
    let nice =
        |stat: &String| stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap();
    let began = Instant::now();
    loop {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
        // A thread may end meanwhile, and a new one has yet to take its name and priority.
        let stats: Vec<String> =
            tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok()).collect();
        let (hashers, others): (Vec<_>, Vec<_>) = stats.iter().partition(|stat| stat.contains("(hasher-"));
        let usual = others.iter().map(|stat| nice(stat)).max().unwrap();
        let one_a_core = hashers.len() == thread::available_parallelism().unwrap().get();
        if one_a_core && hashers.iter().all(|stat| nice(stat) == (usual + 2).min(19)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{stats:#?}");
        thread::sleep(ms(10));
    }
}
