//! `keys`: what signs and verifies, and never what is in it.

use std::fs;

use serde_json::json;

use super::*;

const SECRETS: [&str; 4] = [
    "0123456789abcdefghijklmnopqrstuv",
    "ZYXWVUTSRQPONMLKJIHGFEDCBA987654",
    "an-old-secret-of-more-than-32-bytes",
    "another-old-secret-of-some-more-bytes",
];

fn list(home: &Home, environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let arguments = ["keys", "list"].into_iter().chain(arguments.iter().copied());
    finish(home.command(arguments, environment.iter().copied()), b"").done()
}

fn entries(home: &Home, environment: &[(&str, &str)]) -> Vec<Value> {
    serde_json::from_str(&list(home, environment, &["--json"])).unwrap()
}

/// Kid, use, algorithm, state, and the end of the source.
fn summary(entry: &Value) -> [&str; 4] {
    ["use", "algorithm", "state", "source"].map(|member| text(entry, member))
}

#[test]
fn configured_keys_are_listed_by_name_alone() {
    let home = Home::new();
    let environment = [
        ("ACCESS_TOKEN_SECRET", SECRETS[0]),
        ("REFRESH_TOKEN_SECRET", SECRETS[1]),
        ("ACCESS_TOKEN_SECRET_PREVIOUS", SECRETS[2]),
        ("REFRESH_TOKEN_SECRET_PREVIOUS", SECRETS[3]),
    ];
    let listed = entries(&home, &environment);
    assert_eq!(
        listed.iter().map(summary).collect::<Vec<_>>(),
        [
            ["access", "HS256", "active", "configured"],
            ["access", "HS256", "verify_only", "configured"],
            ["refresh", "HS256", "active", "configured"],
            ["refresh", "HS256", "verify_only", "configured"],
        ]
    );
    assert!(listed.iter().all(|entry| entry["created_at"] == json!(null)));
    let told = list(&home, &environment, &[]) + &list(&home, &environment, &["--json"]);
    assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
    assert!(!home.path("data").exists());
}

/// Keys are made beside an embedded database only.
mod embedded {
    use super::*;

    #[test]
    fn where_there_are_no_keys_it_says_so_and_makes_none() {
        let home = Home::new();
        let told = list(&home, &[], &[]);
        assert!(told.contains("no keys yet") && told.contains("countersign serve"), "{told}");
        assert_eq!(list(&home, &[], &["--json"]), "[]\n");
        run(&home, &["migrate"]).done();
        list(&home, &[], &[]);
        assert!(!home.path("data/keys").exists());
    }

    #[test]
    fn generated_keys_are_listed_with_their_files_and_not_shown() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register(ADA);
        let listed = entries(&home, &[]);
        assert_eq!(
            members(&listed[0]),
            ["algorithm", "created_at", "kid", "needed_until", "signs_from", "source", "state", "use"]
        );
        let (access, refresh) = ("data/keys/access-0001-es256.pem", "data/keys/refresh-0001.key");
        assert_eq!(
            listed.iter().map(summary).collect::<Vec<_>>(),
            [["access", "ES256", "active", access], ["refresh", "HS256", "active", refresh],]
        );
        for (entry, token) in listed.iter().zip(["access_token", "refresh_token"]) {
            assert_eq!(entry["kid"], part(text(&pair, token), 0)["kid"]);
            assert_eq!(text(entry, "created_at").len(), "2026-11-24T06:30:09Z".len());
        }
        server.stop();

        // Another algorithm: the key of the first one still verifies.
        let other = [("COUNTERSIGN__TOKENS__ALGORITHM", "EdDSA")];
        home.serve(&other).stop();
        let listed = entries(&home, &other);
        assert_eq!(
            listed.iter().map(summary).collect::<Vec<_>>(),
            [
                ["access", "EdDSA", "active", "data/keys/access-0001-eddsa.pem"],
                ["access", "ES256", "verify_only", access],
                ["refresh", "HS256", "active", refresh],
            ]
        );
        // And the secret that a third one is made of stands beside them.
        let secret = [("COUNTERSIGN__TOKENS__ALGORITHM", "HS256")];
        let server = home.serve(&secret);
        let (status, body) = get(&server, "/v1/users/me", text(&pair, "access_token"));
        assert_eq!(status, 200, "{body}");
        server.stop();
        assert_eq!(
            entries(&home, &secret).iter().map(|entry| summary(entry)[1..3].join(" ")).collect::<Vec<_>>(),
            ["HS256 active", "ES256 verify_only", "EdDSA verify_only", "HS256 active"]
        );
        let told = list(&home, &other, &[]) + &list(&home, &other, &["--json"]);
        assert!(told.contains("verifies only"), "{told}");
        for file in fs::read_dir(home.path("data/keys")).unwrap().map(|entry| entry.unwrap().path()) {
            for line in
                fs::read_to_string(&file).unwrap().lines().filter(|line| line.len() > 30 && !line.contains("://"))
            {
                assert!(!told.contains(line), "{} is shown: {told}", file.display());
            }
        }
    }
}
