//! The way to the server encrypted, and who it is known by.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use support::cluster::Cluster;
use support::process::{Connection, Home, Server};

const ADA: &str = "ada@example.com";

const PASSWORD: &str = "canary-of-thirty-characters-xyz";

/// How long it may take until a node has noticed that all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the program that makes certificates is. `Err` says that it is missing.
pub fn installed() -> Result<(), String> {
    let version = Command::new("openssl").arg("version").stdin(Stdio::null()).output();
    let there = version.is_ok_and(|output| output.status.success());
    if there { Ok(()) } else { Err("openssl is not in PATH".to_owned()) }
}

/// A key and a certificate that vouches for itself, as files in `folder` that begin with `name`.
fn certificate(folder: &Path, name: &str, host: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=countersign.test", "-addext", &format!("subjectAltName={host}")]);
    openssl.arg("-keyout").arg(folder.join(format!("{name}.key"))).arg("-out").arg(folder.join(format!("{name}.crt")));
    let output = openssl.current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server that shows the certificate `own`, for `localhost` and its address, beside which lies another.
fn with_tls() -> Cluster {
    let mut cluster = Cluster::start().unwrap();
    certificate(cluster.folder(), "own", "DNS:localhost,IP:127.0.0.1");
    certificate(cluster.folder(), "other", "DNS:localhost,IP:127.0.0.1");
    cluster.halt();
    let key = cluster.folder().join("own.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    cluster.give(&key).unwrap();
    let of = |name: &str| cluster.folder().join(name).display().to_string();
    let (key, certificate) = (format!("ssl_key_file={}", of("own.key")), format!("ssl_cert_file={}", of("own.crt")));
    cluster.set(&["ssl=on", &key, &certificate]);
    cluster.resume().unwrap();
    cluster
}

/// The URL of the home's database, with a password, which is not asked for, and more parameters.
fn url(home: &Home, parameters: &str) -> String {
    let url = home.database().url().replace("postgres@", &format!("postgres:{PASSWORD}@"));
    assert!(url.contains(PASSWORD) && url.contains('?'), "{url}");
    format!("{url}&{parameters}")
}

fn readiness(server: &Server) -> (u16, Value) {
    let answer = Connection::open(server.address).unwrap().send("GET", "/health/ready", &[], "").unwrap();
    (answer.status, answer.body["code"].clone())
}

/// The node lives, is not ready, and says why, to its operator alone.
#[track_caller]
fn is_refused(home: &Home, url: &str, why: &str) {
    let server = home.serve(&[
        ("DATABASE_URL", url),
        ("COUNTERSIGN__LOG__LEVEL", "trace"),
        ("COUNTERSIGN__DATABASE__POOL_WAIT", "1s"),
    ]);
    let alive = Connection::open(server.address).unwrap().send("GET", "/health/live", &[], "").unwrap();
    assert_eq!(alive.status, 200);
    for _ in 0..2 {
        assert_eq!(readiness(&server), (503, "unavailable".into()));
        thread::sleep(Duration::from_millis(300));
    }
    let log = server.stop();
    assert!(log.contains(why), "{why:?} is not in {log}");
    assert!(!log.contains(PASSWORD), "{log}");

    let output = home
        .command(["user", "list"], [("DATABASE_URL", url), ("COUNTERSIGN__DATABASE__POOL_WAIT", "1s")])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(why) && !errors.contains(PASSWORD), "{errors}");
}

pub fn a_server_with_the_right_certificate_is_spoken_to_in_secret() {
    let cluster = with_tls();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    let root = cluster.folder().join("own.crt").display().to_string();
    let verified = url(&home, &format!("sslmode=verify-full&sslrootcert={root}"));
    for url in [verified.clone(), verified.replace("@127.0.0.1:", "@localhost:"), url(&home, "sslmode=require")] {
        let server = home.serve(&[("DATABASE_URL", &url)]);
        let began = Instant::now();
        while readiness(&server).0 != 200 {
            assert!(began.elapsed() < PATIENCE, "{:?}", readiness(&server));
            thread::sleep(Duration::from_millis(50));
        }
        let pair = server.register(&format!("user{}@example.com", server.id()));
        let next = Connection::open(server.address).unwrap().refresh(pair["refresh_token"].as_str().unwrap()).unwrap();
        assert_eq!(next.status, 200, "{}", next.body);
        let mut database = home.database().connect();
        let of_ours = |secret: &str| {
            format!(
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name = 'countersign' AND {secret}"
            )
        };
        assert!(database.number(&of_ours("ssl")) > 1);
        assert_eq!(database.number(&of_ours("NOT ssl")), 0);
        server.stop();
    }
    let listed = home.command(["user", "list"], [("DATABASE_URL", verified.as_str())]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

pub fn a_server_that_is_not_the_right_one_is_not_spoken_to() {
    let cluster = with_tls();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    let path = |name: &str| cluster.folder().join(name).display().to_string();
    let verified = |name: &str| url(&home, &format!("sslmode=verify-full&sslrootcert={}", path(name)));
    // Another authority vouches for it.
    is_refused(&home, &verified("other.crt"), "certificate verify failed");
    // None does.
    is_refused(&home, &verified("missing.crt"), "does not exist");
    // It is the right one, by a name that is not its own.
    let elsewhere = verified("own.crt").replace("@127.0.0.1:", "@127.0.0.2:");
    is_refused(&home, &format!("{elsewhere}&hostaddr=127.0.0.1"), "does not match host name");
    // What it will not do for one is no harm to others.
    home.serve(&[("DATABASE_URL", &verified("own.crt"))]).register(ADA);
}

pub fn a_server_that_does_not_encrypt_is_not_spoken_to_where_that_is_required() {
    let cluster = Cluster::start().unwrap();
    let home = Home::on_postgres(&cluster.url());
    home.migrate();
    is_refused(&home, &url(&home, "sslmode=require"), "server does not support SSL");
    home.serve(&[("DATABASE_URL", &url(&home, "sslmode=prefer"))]).register(ADA);
}
