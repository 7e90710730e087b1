//! Where the server listens: a port that takes a privilege, and an address of IPv6.
//!
//! Not every machine has these: some have no IPv6, and in many containers any user may listen on any port. A case that
//! cannot be tried is reported as ignored, with the reason; with `CI` in the environment, too, since that cannot be
//! installed. For root, the server runs as another user.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Completion, Trial};
use support::process::Home;

const PORT: u16 = 80;
/// A user to whom nothing belongs.
const NOBODY: u32 = 65_534;

fn main() -> ExitCode {
    let trial = |name: &str, case: fn() -> Result<(), String>| {
        Trial::ignorable_test(name, move || match case() {
            Ok(()) => Ok(Completion::Completed),
            Err(reason) => Ok(Completion::ignored_with(reason)),
        })
    };
    let trials = vec![
        trial(
            "a_port_that_takes_a_privilege_is_refused_with_what_to_do",
            a_port_that_takes_a_privilege_is_refused_with_what_to_do,
        ),
        trial("the_issuer_of_an_ipv6_address_has_brackets", the_issuer_of_an_ipv6_address_has_brackets),
    ];
    support::run(trials)
}

/// `Err`: why that cannot be tested here.
fn the_issuer_of_an_ipv6_address_has_brackets() -> Result<(), String> {
    if let Err(error) = TcpListener::bind(("::1", 0)) {
        return Err(format!("this machine has no IPv6: {error}"));
    }
    let home = Home::new();
    let log = home.serve(&[("HOST", "::1")]).stop();
    assert!(log.contains("\"issuer\":\"http://[::1]:0\""), "{log}");
    Ok(())
}

/// `Err`: why that cannot be tested here.
fn a_port_that_takes_a_privilege_is_refused_with_what_to_do() -> Result<(), String> {
    let is_root = rustix::process::geteuid().is_root();
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first_free.trim().parse::<u16>().is_ok_and(|first| first <= PORT) {
        return Err(format!("any user may listen on port {PORT} here"));
    }
    let refused = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    if !is_root && !TcpListener::bind(("127.0.0.1", PORT)).is_err_and(refused) {
        return Err(format!("this user may listen on port {PORT}"));
    }
    let home = Home::new();
    // What was built may be where another user cannot go.
    let program = home.path("program");
    fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).unwrap();
    if is_root {
        chown(home.path("."), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    for (arguments, named) in
        [("serve", "cannot listen on"), ("check-config", "server.port (environment variable PORT): ")]
    {
        let mut command = Command::new(&program);
        command.arg(arguments).current_dir(home.path(".")).stdin(Stdio::null());
        command.env_clear().env("PORT", PORT.to_string());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let outcome = match command.output() {
            Ok(outcome) => outcome,
            Err(error) => return Err(format!("nothing can be run as another user: {error}")),
        };
        let told = String::from_utf8(outcome.stderr).unwrap();
        assert_eq!(outcome.status.code(), Some(1), "{arguments}: {told}");
        let ways =
            ["127.0.0.1:80", "ports below 1024", "CAP_NET_BIND_SERVICE", "AmbientCapabilities=", "set PORT to 1024"];
        for part in ways.iter().chain([&named]) {
            assert!(told.contains(part), "{arguments}, {part}: {told}");
        }
    }
    assert!(!home.path("data").exists(), "nothing is made before a refusal");
    Ok(())
}
