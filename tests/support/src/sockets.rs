//! A server that is given sockets, as sd_listen_fds(3) says it: from descriptor 3 on, with names.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::process::Home;

/// The server, with sockets and what each is called, as systemd starts it.
pub fn with_sockets(
    home: &Home,
    sockets: &[(&str, &dyn AsFd)],
    environment: &[(&str, &str)],
) -> (Command, Vec<OwnedFd>) {
    home.migrate();
    // Out of the way of those that the server is to find them as.
    let inherited: Vec<OwnedFd> = sockets.iter().map(|(_, socket)| fcntl_dupfd_cloexec(socket, 100).unwrap()).collect();
    let mut script = String::new();
    for (number, socket) in (3..).zip(&inherited) {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
        script += &format!("exec {number}<&{};", std::os::fd::AsRawFd::as_raw_fd(socket));
    }
    script += "export LISTEN_PID=${LISTEN_PID:-$$}; exec \"$@\"";
    let names = sockets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(":");
    let mut command = home.command([], []);
    let program = command.get_program().to_owned();
    let variables: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
    command = Command::new("bash"); // whose descriptors may have more than one digit
    command.arg("-c").arg(script).arg("bash").arg(program).current_dir(home.path("")).stdin(Stdio::null());
    command.env_clear().envs(variables).envs([("PORT", "0"), ("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4")]);
    command.env("COUNTERSIGN__METRICS__BIND", "").env("LISTEN_FDS", sockets.len().to_string());
    command.env("LISTEN_FDNAMES", names).envs(environment.iter().copied());
    (command, inherited)
}
