//! The units of `config/systemd/`, and what `docs/operations.md` says of them, under real ones of two releases of systemd:
//! 252, of Debian 12, and 257, of Debian 13.
//!
//! Each test boots a system of its own (see `system.rs`). That takes root and trees that `.ci/systemd-trees` makes; else these
//! tests are reported as ignored.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod system;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use libtest_mimic::{Completion, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::process::{PASSWORD, lacks_packages};

use self::system::{PATIENCE, System, wait_for};

const RELEASES: [&str; 2] = ["bookworm", "trixie"];

type Test = (&'static str, fn(&System));

macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), $name as fn(&System))),+]
    };
}

fn main() -> ExitCode {
    let tests: [Test; 13] = tests![
        the_units_are_correct_and_expose_little,
        the_steps_of_the_page_lead_to_a_signed_in_user,
        it_has_no_more_rights_than_it_needs,
        credentials_are_used_and_shown_nobody,
        a_restart_behind_its_socket_refuses_and_drops_nothing,
        a_restart_behind_nginx_refuses_and_drops_nothing,
        a_reload_is_told_to_the_manager_and_changes_what_can_change,
        keys_are_rotated_in_the_running_service,
        configured_secrets_are_rotated_and_sessions_go_on,
        a_backup_is_restored_and_moved_and_sessions_go_on,
        a_server_that_hangs_is_started_again,
        after_a_kill_it_is_back_and_nobody_is_signed_out,
        a_refused_niceness_is_a_warning,
    ];
    let trials = RELEASES.iter().flat_map(|release| {
        tests.map(|(name, test)| {
            Trial::ignorable_test(format!("{release}::{name}"), move || match System::boot(release) {
                Ok(_) if name.contains("nginx") && Command::new("nginx").arg("-v").output().is_err() => {
                    lacks_packages("nginx is not installed".to_owned())
                }
                Ok(system) => {
                    test(&system);
                    Ok(Completion::Completed)
                }
                Err(why_not) => Ok(Completion::ignored_with(why_not)),
            })
        })
    });
    support::run(trials.collect())
}

/// The service as the page says, and with it `changes` to its unit, as `systemctl edit` makes them.
fn start(system: &System, changes: &str) {
    system.run("install -m 755 target/release/countersign /usr/local/bin/");
    system.run("cp config/systemd/countersign.service config/systemd/*.socket /etc/systemd/system/");
    // A test is no time for expensive hashes.
    system.write(
        "/etc/countersign/countersign.toml",
        "[passwords]\nbcrypt_cost = 10\n[server]\ntrusted_proxies = [\"unix\"]\n",
    );
    if !changes.is_empty() {
        system.write("/etc/systemd/system/countersign.service.d/override.conf", changes);
    }
    system.run("systemctl daemon-reload && systemctl start countersign");
}

fn post(system: &System, path: &str, body: &Value) -> Value {
    let curl = "curl -sS --fail-with-body -H 'Content-Type: application/json'";
    serde_json::from_str(&system.run(&format!("{curl} -d '{body}' http://127.0.0.1:8080{path}"))).unwrap()
}

fn register(system: &System) -> Value {
    post(system, "/v1/auth/register", &json!({ "email": "ada@example.com", "password": PASSWORD }))
}

fn the_units_are_correct_and_expose_little(system: &System) {
    system.run("install -m 755 target/release/countersign /usr/local/bin/");
    system.run("cp config/systemd/*.service config/systemd/*.socket /etc/systemd/system/");
    if release(system) >= 254 {
        system.run("cp -r config/systemd/countersign.service.d /etc/systemd/system/");
    }
    let said =
        system.run("systemctl daemon-reload; systemd-analyze verify countersign.service countersign.socket countersign-metrics.socket 2>&1");
    assert_eq!(said, "");
    // Tenths: 1.2, as the best that Debian ships.
    system.run("systemd-analyze security --offline=true --threshold=12 countersign.service");
}

/// Every block of commands of a part of the page, in their order.
fn commands_of_page(title: &str) -> Vec<String> {
    let page = fs::read_to_string(support::root().join("docs/operations.md")).unwrap();
    let part = page.split("\n## ").find(|part| part.starts_with(&format!("{title}\n"))).unwrap();
    let blocks: Vec<_> =
        part.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!blocks.is_empty(), "{part}");
    blocks
}

/// As one who copies them does it.
fn the_steps_of_the_page_lead_to_a_signed_in_user(system: &System) {
    for block in commands_of_page("Under systemd") {
        system.run(&format!("set -e\n{block}"));
    }
    let pair = register(system);
    let token = pair["access_token"].as_str().unwrap();
    let me =
        system.run(&format!("curl -sS --fail -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/v1/users/me"));
    assert!(me.contains("ada@example.com"), "{me}");
    assert_eq!(system.property("ActiveState"), "active");
}

fn it_has_no_more_rights_than_it_needs(system: &System) {
    start(system, "");
    assert_eq!(system.property("StatusText"), "answers on http://127.0.0.1:8080");
    let process = system.property("MainPID");
    let status = system.run(&format!("cat /proc/{process}/status"));
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(!line("Uid:").split_whitespace().any(|user| user == "0"), "{status}");
    for capabilities in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(capabilities).trim_matches('0'), "", "{status}");
    }
    assert_eq!((line("NoNewPrivs:").as_str(), line("Seccomp:").as_str()), ("1", "2"));
    let modes = system.run("find /var/lib/countersign/ -printf '%y %m %f\\n'");
    assert!(modes.contains("f 600 countersign.db\n"), "{modes}");
    for line in modes.lines() {
        assert!(line.starts_with("f 600 ") || line.starts_with("d 700 "), "{modes}");
    }
    // The threads that hash passwords give way to the others, whatever nice value all of them were given.
    let threads = system.run(&format!("ps -L -o ni=,comm= -p {process}"));
    let values = |is_hasher: bool| {
        let threads = threads.lines().filter(move |line| line.contains("hasher") == is_hasher);
        threads.map(|line| line.split_whitespace().next().unwrap().parse::<i32>().unwrap())
    };
    assert!(values(true).count() > 0, "{threads}");
    assert!(values(true).min() > values(false).max(), "{threads}");
    let warnings = system.run("journalctl -b -t countersign -p warning --no-pager -q");
    assert_eq!(warnings, "", "nothing needs a look");
}

/// Plain and encrypted ones.
fn credentials_are_used_and_shown_nobody(system: &System) {
    let (plain, sealed) = ("k8Jq2mW0zRt5Yb7Nc4Xd9Lf1Hg6Pv3Ua", "Zw3Ke7Rp1Mx9Tb5Qn2Vd8Lc4Hy6Gs0Fj");
    system.write("/etc/credstore/REFRESH_TOKEN_SECRET", plain);
    system.run("chmod 700 /etc/credstore && chmod 600 /etc/credstore/*");
    system.run("mkdir -p -m 700 /etc/credstore.encrypted");
    system.run(&format!(
        "printf %s {sealed} | systemd-creds encrypt --name=ACCESS_TOKEN_SECRET - /etc/credstore.encrypted/ACCESS_TOKEN_SECRET"
    ));
    start(system, "[Service]\nLoadCredentialEncrypted=ACCESS_TOKEN_SECRET\n");
    let jwks = system.run("curl -sS http://127.0.0.1:8080/.well-known/jwks.json");
    assert_eq!(jwks, "{\"keys\":[]}", "access tokens are signed with a secret, which is not published");
    register(system);
    let told =
        system.run("journalctl -b --no-pager -o export; systemctl show countersign; systemctl status countersign");
    assert!(!told.contains("signing keys were made"), "there was no need of any");
    for secret in [plain, sealed, PASSWORD] {
        assert!(!told.contains(secret), "a secret is told");
    }
}

/// One request over a connection of its own.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The service behind a Unix socket that systemd keeps: where it is, and what asks for a signed-in user.
fn behind_a_socket(system: &System) -> (PathBuf, String) {
    system.write(
        "/etc/systemd/system/countersign.socket.d/override.conf",
        "[Socket]\nListenStream=/run/countersign.sock\n",
    );
    system.run("cp config/systemd/countersign.socket /etc/systemd/system/");
    system.run("install -m 755 target/release/countersign /usr/local/bin/");
    system.run("cp config/systemd/countersign.service /etc/systemd/system/ && systemctl daemon-reload");
    system.run("systemctl start countersign.socket");
    start(system, "");
    let pair = register(system);
    let token = pair["access_token"].as_str().unwrap();
    let request =
        format!("GET /v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    (system.path("/run/countersign.sock"), request)
}

/// Clients ask at `socket` while the service is started again, three times. Each answer is 200.
fn all_are_answered_over_restarts(system: &System, socket: &Path, request: &str) {
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let (socket, request) = (socket.to_owned(), request.to_owned());
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let answer = ask(&socket, &request);
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more = || {
        let before = answered.load(Ordering::SeqCst);
        wait_for("answers", || (answered.load(Ordering::SeqCst) > before + 20).then_some(()));
    };
    for _ in 0..3 {
        more();
        let process = system.property("MainPID");
        system.run("systemctl restart countersign");
        assert_ne!(system.property("MainPID"), process);
    }
    more();
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
}

fn a_restart_behind_its_socket_refuses_and_drops_nothing(system: &System) {
    let (socket, request) = behind_a_socket(system);
    all_are_answered_over_restarts(system, &socket, &request);
}

/// Dropping it ends it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// With connections to the server that it keeps, as a busy proxy has them.
fn a_restart_behind_nginx_refuses_and_drops_nothing(system: &System) {
    let (socket, request) = behind_a_socket(system);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", path(name)))
        .concat();
    let config = format!(
        "daemon off; user root; pid {}; error_log {}; events {{}}\nhttp {{ access_log off;\n{temporary}\
         upstream countersign {{ server unix:{}; keepalive 8; }}\n\
         server {{ listen unix:{}; location / {{ proxy_pass http://countersign; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host; }} }} }}\n",
        path("pid"),
        path("errors"),
        socket.display(),
        path("nginx.sock")
    );
    fs::write(path("nginx.conf"), config).unwrap();
    let _nginx = Proxy(Command::new("nginx").args(["-c", &path("nginx.conf")]).stdin(Stdio::null()).spawn().unwrap());
    let proxy = folder.path().join("nginx.sock");
    wait_for("nginx", || UnixStream::connect(&proxy).ok());
    all_are_answered_over_restarts(system, &proxy, &request);
}

/// Of systemd.
fn release(system: &System) -> u32 {
    system.run("systemctl --version").split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How long an access token of a log-in lives.
fn access_life(system: &System) -> Value {
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    post(system, "/v1/auth/login", &body)["expires_in"].clone()
}

fn a_reload_is_told_to_the_manager_and_changes_what_can_change(system: &System) {
    let file = "/etc/countersign/countersign.toml";
    let waits = release(system) >= 253;
    if waits {
        system.run("cp -r config/systemd/countersign.service.d /etc/systemd/system/");
    }
    start(system, "");
    register(system);
    let process = system.property("MainPID");
    for (life, expected) in [("6m", 360), ("7m", 420)] {
        system.write(file, &format!("[tokens]\naccess_ttl = \"{life}\"\n"));
        system.run("systemctl reload countersign");
        if waits {
            assert_eq!(access_life(system), expected, "the reload is done when the command returns");
        } else {
            wait_for("the reload", || (access_life(system) == expected).then_some(()));
        }
    }
    system.write(file, "[tokens]\naccess_ttl = \"soon\"\n");
    system.run("systemctl reload countersign");
    wait_for("the refusal", || system.property("StatusText").contains("could not be reloaded").then_some(()));
    assert_eq!(access_life(system), 420);
    assert_eq!((system.property("MainPID"), system.property("ActiveState")), (process, "active".to_owned()));
    let errors = system.run("journalctl -b -t countersign -p err --no-pager -q -o cat");
    assert!(errors.contains("tokens.access_ttl (/etc/countersign/countersign.toml)"), "{errors}");
    system.write(file, "");
    system.run("systemctl reload countersign");
    wait_for("the next one", || (!system.property("StatusText").contains("could not")).then_some(()));
}

/// As root, who owns none of the files that the service has.
fn keys_are_rotated_in_the_running_service(system: &System) {
    start(system, "");
    let pair = register(system);
    let process = system.property("MainPID");
    system.run("STATE_DIRECTORY=/var/lib/countersign /usr/local/bin/countersign keys rotate --now");
    let jwks: Value =
        serde_json::from_str(&system.run("curl -sS http://127.0.0.1:8080/.well-known/jwks.json")).unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2, "{jwks}");
    let next = post(system, "/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] }));
    let kid = |pair: &Value| support::clients::kid(pair["refresh_token"].as_str().unwrap());
    assert_ne!(kid(&next), kid(&pair));
    for block in commands_of_page("Signing keys") {
        system.run(&format!("set -e\nexport STATE_DIRECTORY=/var/lib/countersign\n{block}"));
    }
    assert_eq!(system.property("MainPID"), process);
    // And a start reads them.
    system.run("systemctl restart countersign");
    let last = post(system, "/v1/auth/refresh", &json!({ "refresh_token": next["refresh_token"] }));
    assert_eq!(kid(&last), kid(&next));
}

fn refresh(system: &System, pair: &Value) -> Value {
    post(system, "/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] }))
}

fn configured_secrets_are_rotated_and_sessions_go_on(system: &System) {
    for name in ["ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET", "PASSWORD_PEPPER"] {
        system.write(&format!("/etc/credstore/{name}"), &format!("the-first-secret-called-{name}"));
    }
    system.run("chmod 700 /etc/credstore && chmod 600 /etc/credstore/*");
    start(system, "");
    let pair = register(system);
    let blocks = commands_of_page("Configured secrets");
    system.run(&format!("set -e\n{}", blocks.join("\n")));
    assert_eq!(system.run("ls /etc/credstore | wc -l").trim(), "6");
    assert_eq!(access_life(system), 900, "the password is right");
    let token = pair["access_token"].as_str().unwrap();
    system.run(&format!("curl -sS --fail -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/v1/users/me"));
    let next = refresh(system, &pair);
    let kid = |pair: &Value| support::clients::kid(pair["access_token"].as_str().unwrap());
    assert_ne!(kid(&next), kid(&pair));
}

/// Onto the same machine, onto one that has nothing yet, and under another URL.
fn a_backup_is_restored_and_moved_and_sessions_go_on(system: &System) {
    start(system, "");
    system.write(
        "/etc/countersign/countersign.toml",
        "[tokens]\nissuer = \"https://auth.example.com\"\n[passwords]\nbcrypt_cost = 10\n",
    );
    system.run("systemctl restart countersign");
    let mut pair = register(system);
    let blocks = commands_of_page("Backup, restore, moving");
    let [backup, restore, url] = blocks.as_slice() else { panic!("{blocks:?}") };
    system.run(&format!("set -e\n{backup}"));
    // Clients go on, and the copy grows old.
    for _ in 0..3 {
        pair = refresh(system, &pair);
    }
    system.run(&format!("set -e\n{restore}"));
    pair = refresh(system, &pair);
    system.run("systemctl stop countersign && rm -rf /var/lib/private/countersign /var/lib/countersign");
    system.run(&format!("set -e\n{restore}"));
    pair = refresh(system, &pair);
    let owners = system.run("find /var/lib/countersign/ -printf '%U %m %f\n' | sort -u");
    assert!(!owners.lines().any(|line| line.starts_with("0 ")), "the files are the service's: {owners}");
    system.run(&format!("set -e\n{url}"));
    pair = refresh(system, &pair);
    let token = pair["access_token"].as_str().unwrap();
    let claims = support::clients::claims(token);
    assert_eq!(claims["iss"], "https://login.example.com");
    system.run(&format!("curl -sS --fail -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/v1/users/me"));
}

fn a_server_that_hangs_is_started_again(system: &System) {
    start(system, "[Service]\nWatchdogSec=5s\n");
    system.run("kill -STOP $(systemctl show countersign -p MainPID --value)");
    system.is_back();
    register(system);
}

fn after_a_kill_it_is_back_and_nobody_is_signed_out(system: &System) {
    start(system, "");
    let pair = register(system);
    system.run("kill -KILL $(systemctl show countersign -p MainPID --value)");
    system.is_back();
    let next = post(system, "/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] }));
    assert_ne!(next["refresh_token"], pair["refresh_token"]);
}

/// As `SystemCallFilter=~@resources` does it, unless the unit gives it back.
fn a_refused_niceness_is_a_warning(system: &System) {
    start(system, "[Service]\nSystemCallFilter=~setpriority\n");
    let warnings = system.run("journalctl -b -t countersign -p warning --no-pager -q -o cat");
    assert_eq!(warnings.matches("setpriority").count(), 1, "{warnings}");
    register(system);
}
