//! A mail server, as long as it is held.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::{python, script};

const PATIENCE: Duration = Duration::from_secs(60);

/// Dropping it ends it.
pub struct MailServer {
    child: Child,
    lines: Receiver<Value>,
    pub host: String,
    pub port: u16,
}

impl MailServer {
    /// `given` is explained by `server.py`.
    pub fn start(given: &Value) -> Self {
        let mut command = python().unwrap();
        command.arg(script("server.py")).env("GIVEN", given.to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel::<Value>();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        let port: Value = lines.recv_timeout(PATIENCE).unwrap();
        let port = u16::try_from(port.as_u64().unwrap()).unwrap();
        let host = given["host"].as_str().unwrap_or("127.0.0.1").to_owned();
        Self { child, lines, host, port }
    }

    /// Its URL: `scheme://login@host:port`.
    pub fn url(&self, scheme: &str, login: &str) -> String {
        format!("{scheme}://{login}{}:{}", self.host, self.port)
    }

    /// The next message, or the next log-in.
    pub fn next(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// All that has come, when the server has ended.
    pub fn rest(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that is not a loopback one. Nothing is sent to find it.
pub fn outer_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.254:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}
