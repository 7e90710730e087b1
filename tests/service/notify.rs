//! What the service manager is told, as sd_notify(3) says it: by a datagram of lines to the socket that it names.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

use support::manager::Manager;

use super::*;

#[test]
fn the_manager_is_told_when_it_is_ready_that_it_lives_and_when_it_stops() {
    let home = Home::new();
    let path = home.path("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let server = home.serve(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")]);
    let told = manager.hears_until("READY=1");
    assert_eq!(told[0], "STATUS=starting");
    let answers = format!("STATUS=answers on http://{}", server.address);
    assert!(told.contains(&answers) || manager.hears().contains(&answers), "{told:?}");
    assert_eq!(told.iter().filter(|line| *line == "READY=1").count(), 1);
    for _ in 0..3 {
        assert_eq!(manager.hears(), ["WATCHDOG=1"]);
    }
    server.signal(Signal::TERM);
    let told = manager.hears_until("STOPPING=1");
    assert!(!told.contains(&"READY=1".to_owned()), "{told:?}");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!log.contains("\"level\":\"ERROR\""), "a server that stops has not failed: {log}");
}

/// That is where systemd has its own.
#[test]
fn a_manager_may_listen_in_the_abstract_namespace() {
    let home = Home::new();
    let name = format!("countersign-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    let manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap());
    let server = home.serve(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
    manager.hears_until("READY=1");
    server.stop();
    // Without a watchdog nothing else is said.
    assert!(!manager.hears_until("STOPPING=1").contains(&"WATCHDOG=1".to_owned()));
}

/// As where its socket has gone, or was never there.
#[test]
fn a_manager_that_does_not_listen_changes_nothing() {
    let home = Home::new();
    let nowhere = home.path("nowhere");
    for socket in ["", "@", "relative", nowhere.to_str().unwrap()] {
        let server = home.serve(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "many")]);
        assert_eq!(server.post("/v1/auth/login", &json!({ "email": "ada@example.com", "password": "x" })).status, 401);
        server.stop();
    }
}
