//! The real binary under clients that cost a lot: the most that any of them gets is a connection.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod process;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use process::{Connection, Home, PASSWORD, Server};
use serde_json::json;

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
fn a_client_that_asks_without_end_and_takes_no_answer_costs_no_work_and_little_memory() {
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
        assert!(began.elapsed() < Duration::from_secs(20), "the server finds no rest");
    }
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < 16 * 1024, "eight such clients hold {grown} KiB");
    assert_eq!(server.register("ada@example.com")["token_type"], "Bearer", "everybody else is served");
    drop(clients);
    server.stop();
}

/// With fewer files than there are clients, the rest wait their turn, and nothing else runs out of files.
#[test]
fn connections_that_the_system_has_no_files_for_wait_and_are_served_in_turn() {
    let home = Home::new();
    let workers = thread::available_parallelism().unwrap().get();
    let files = 64 + workers * 8 + 30;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {files}; exec {}", env!("CARGO_BIN_EXE_countersign"))]);
    command.current_dir(home.path("")).env_clear().envs([("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")]);
    home.migrate();
    command.envs(home.database().environment());
    let server = Server::start(command);

    let ask = || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(GET.as_bytes()).unwrap();
        stream
    };
    let is_answered = |mut stream: &TcpStream, patience: Duration| {
        stream.set_read_timeout(Some(patience)).unwrap();
        match stream.read(&mut [0; 4096]) {
            Ok(0) => panic!("refused"),
            Ok(_) => true,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                false
            }
        }
    };
    // One who was there before the crowd, and needs the database.
    let mut early = Connection::open(server.address).unwrap();
    let register = |connection: &mut Connection, name: &str| {
        let user = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
        connection.post("/v1/auth/register", &user).unwrap().status
    };
    assert_eq!(register(&mut early, "ada"), 201);
    let mut crowd: Vec<TcpStream> = (0..150).map(|_| ask()).collect();
    assert!(is_answered(&crowd[0], Duration::from_secs(10)), "the first of the crowd is served");
    thread::sleep(ms(300));
    let mut waiting = crowd.split_off(crowd.len() - 20);
    assert!(!waiting.iter().any(|stream| is_answered(stream, ms(10))), "the last of the crowd wait");
    assert_eq!(register(&mut early, "grace"), 201, "the crowd has taken no file that the database needs");
    let worked = work(&server);
    thread::sleep(ms(1000));
    let more = work(&server) - worked;
    assert!(more < ms(300), "waiting took {more:?} of work in 1 s");

    drop(crowd);
    for stream in waiting.drain(..) {
        assert!(is_answered(&stream, Duration::from_secs(10)), "whoever has waited is served");
    }
    assert_eq!(register(&mut Connection::open(server.address).unwrap(), "edsger"), 201);
    let log = server.stop();
    assert!(log.contains("the limit on open files allows 30 connections"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
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
        if one_a_core && hashers.iter().all(|stat| nice(stat) == (usual + 15).min(19)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{stats:#?}");
        thread::sleep(ms(10));
    }
}
