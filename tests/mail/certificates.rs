//! Certificates of an authority of one's own, made by openssl.

use std::path::PathBuf;
use std::process::Command;

use support::process::Home;

/// In the folder of a test.
pub struct Authority<'a> {
    home: &'a Home,
}

impl<'a> Authority<'a> {
    pub fn new(home: &'a Home) -> Self {
        openssl(
            home,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority \
                       -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem",
        );
        Self { home }
    }

    pub fn file(&self) -> PathBuf {
        self.home.path("ca.pem")
    }

    /// A certificate for the address `host`, and its key.
    pub fn certificate(&self, host: &str) -> (PathBuf, PathBuf) {
        openssl(
            self.home,
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout server.key -out server.csr",
        );
        self.home.write("server.ext", &format!("subjectAltName=IP:{host}\nbasicConstraints=CA:FALSE\n"));
        openssl(
            self.home,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 30 -extfile server.ext -out server.pem",
        );
        (self.home.path("server.pem"), self.home.path("server.key"))
    }
}

fn openssl(home: &Home, arguments: &str) {
    let output =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(home.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
