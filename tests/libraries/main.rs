//! Other people's libraries, unmodified and pinned, against the real server: what verifies its tokens, posts nothing,
//! and reads its challenges.
//!
//! They are installed by `npm ci --prefix tests/libraries` and, for Python, as `.ci/run` does it. Where they are not,
//! their tests are reported as ignored; with `CI` in the environment they fail instead, unless `REGISTRY_AWAY` says why.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};

use support::process::{Home, PASSWORD, Server, lacks_packages};

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const ISSUER: &str = "https://auth.example";

/// What access tokens are signed with, and whom they are for where that is not the issuer.
type Kind = (&'static str, &'static str);
const KINDS: [Kind; 4] =
    [("ES256", ""), ("EdDSA", ""), ("RS256", ""), ("ES256", "https://api.example,https://b.example")];
/// Where it does not matter.
const ANY: [Kind; 1] = [("ES256", "")];
/// Authlib takes no EdDSA unless an application asks for it, since RFC 9864 gave it other names.
const AUTHLIBS: [Kind; 3] = [KINDS[0], KINDS[2], KINDS[3]];

/// A script, what runs it, and the kinds of tokens that it is run with.
const SCRIPTS: [(&str, Runner, &[Kind]); 8] = [
    ("jose_verifies", Runner::Node, &KINDS),
    ("jwks_rsa_finds_keys", Runner::Node, &KINDS),
    ("express_oauth2_lets_in", Runner::Node, &KINDS),
    ("axios_posts_nothing", Runner::Node, &ANY),
    ("pyjwt_verifies", Runner::Python, &KINDS),
    ("authlib_lets_in", Runner::Python, &AUTHLIBS),
    ("werkzeug_reads_challenges", Runner::Python, &ANY),
    ("pyotp_makes_codes", Runner::Python, &ANY),
];

#[derive(Clone, Copy)]
enum Runner {
    Node,
    Python,
}

impl Runner {
    /// How to start it; what is missing, if anything is.
    fn command(self) -> Result<Command, String> {
        match self {
            Self::Node => {
                if !folder().join("node_modules/axios").exists() {
                    return Err("run `npm ci --prefix tests/libraries`".to_owned());
                }
                Ok(Command::new("node"))
            }
            Self::Python => {
                let venv = root().join("target/libraries/venv");
                let wanted = fs::read(folder().join("requirements.txt")).ok();
                if wanted.is_none() || wanted != fs::read(venv.join("complete")).ok() {
                    return Err("make target/libraries/venv as .ci/run does".to_owned());
                }
                Ok(Command::new(venv.join("bin/python")))
            }
        }
    }

    fn file(self, name: &str) -> PathBuf {
        folder().join(match self {
            Self::Node => format!("{name}.mjs"),
            Self::Python => format!("{name}.py"),
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("tests/libraries")
}

fn main() -> ExitCode {
    let trials = SCRIPTS.map(|(name, runner, kinds)| {
        Trial::ignorable_test(name, move || match runner.command() {
            Ok(_) => run(name, runner, kinds).map(|()| Completion::Completed),
            Err(missing) => lacks_packages(missing),
        })
    });
    support::run(trials.into())
}

fn run(name: &str, runner: Runner, kinds: &[Kind]) -> Result<(), Failed> {
    for (algorithm, audience) in kinds {
        let home = Home::new();
        let server = home.serve(&[
            ("COUNTERSIGN__TOKENS__ISSUER", ISSUER),
            ("COUNTERSIGN__TOKENS__ALGORITHM", algorithm),
            ("COUNTERSIGN__TOKENS__AUDIENCE", audience),
            ("COUNTERSIGN__LIMITS__ENABLED", "false"),
        ]);
        let mut command = runner.command()?;
        command.arg(runner.file(name)).env("GIVEN", given(&home, &server, algorithm, audience).to_string());
        let output = command.current_dir(folder()).env("PYTHONDONTWRITEBYTECODE", "1").output();
        let output = output.map_err(|error| format!("{name}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{name}, {algorithm} {audience}: {said}").into());
        }
    }
    Ok(())
}

/// What the scripts work with: a token of a user without a role, and one of a user who has two.
fn given(home: &Home, server: &Server, algorithm: &str, audience: &str) -> Value {
    let plain = server.register(ADA);
    server.register(BOB);
    for role in ["admin", "ops"] {
        let granted =
            home.command(["user", "grant", BOB, role], []).env("COUNTERSIGN__TOKENS__ISSUER", ISSUER).output();
        assert!(granted.unwrap().status.success());
    }
    let with_roles = server.post("/v1/auth/login", &json!({ "email": BOB, "password": PASSWORD })).body;
    let token = |answer: &Value| json!({ "token": answer["access_token"], "user": answer["user"]["id"] });
    let (plain_token, mut token_with_roles) = (token(&plain), token(&with_roles));
    token_with_roles["roles"] = json!(["admin", "ops"]);
    json!({
        "url": format!("http://{}", server.address),
        "issuer": ISSUER,
        "audience": audience.split(',').next().filter(|audience| !audience.is_empty()).unwrap_or(ISSUER),
        "algorithm": algorithm,
        "tokens": [plain_token, token_with_roles],
        "refresh_token": plain["refresh_token"],
        "credentials": { "email": ADA, "password": PASSWORD },
    })
}
