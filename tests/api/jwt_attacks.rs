//! The table of attacks on access tokens, row by row, against the real server with its real keys.
//!
//! Unless a row says otherwise its token is signed with the server's own key: what has to refuse it is
//! the reading of the token, not the signature. Rows that are legal by RFC 7515 and 7519 are asserted
//! to be accepted, so that a change of mind is seen.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto};
use reqwest::Method;
use serde_json::{Map, Value, json};

use support::harness::{Answer, Home, PASSWORD, Pair, START, TestApp, clock, config, in_database};

const SECRET: &str = "an access secret that only this test knows";
const ALGORITHMS: [&str; 4] = ["HS256", "ES256", "EdDSA", "RS256"];
/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 8 * 1024;

/// The order of P-256's group, big-endian.
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
/// The order of Ed25519's group, little-endian.
const ED25519_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// A server, a user signed in there, and the server's signing key in the attacker's hand.
struct Victim {
    app: TestApp,
    _home: Home,
    name: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    pair: Pair,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Victim {
    fn new(name: &'static str) -> Self {
        let home = Home::new();
        let settings = match name {
            "HS256" => config(&home).with("tokens.access_secret", SECRET),
            other => config(&home).with("tokens.algorithm", other),
        };
        let app = TestApp::start_with(settings, clock());
        let pem = || {
            let file = format!("data/keys/access-0001-{}.pem", name.to_ascii_lowercase());
            std::fs::read(home.path().join(file)).unwrap()
        };
        let (algorithm, key) = match name {
            "HS256" => (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes())),
            "ES256" => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem()).unwrap()),
            "EdDSA" => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem()).unwrap()),
            _ => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem()).unwrap()),
        };
        app.sign_up("ada@example.com");
        // With a role, so that the claim is there to be attacked.
        in_database(&home, r#"UPDATE users SET roles = '["admin"]'"#);
        let pair = app.log_in("ada@example.com");
        let (header, claims) = (part(&pair.access, 0), part(&pair.access, 1));
        Self { app, _home: home, name, algorithm, key, pair, header, claims }
    }

    /// Signs whatever bytes are given as header and payload.
    fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        sign_with(self.algorithm, &self.key, header, payload)
    }

    /// The genuine payload under another header.
    fn with_header(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut header = self.header.clone();
        change(&mut header);
        self.sign(text(&header), text(&self.claims))
    }

    /// Another payload under the genuine header.
    fn with_claims(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.sign(text(&self.header), text(&claims))
    }

    fn with_member(&self, name: &str, value: Value) -> String {
        self.with_header(|header| drop(header.insert(name.to_owned(), value)))
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        self.with_claims(|claims| drop(claims.insert(name.to_owned(), value)))
    }

    /// The genuine payload, as text to which a member is added in front.
    fn with_claim_text(&self, member: &str) -> String {
        let claims = text(&self.claims);
        self.sign(text(&self.header), format!("{{{member},{}", &claims[1..]))
    }

    fn with_header_text(&self, member: &str) -> String {
        let header = text(&self.header);
        self.sign(format!("{{{member},{}", &header[1..]), text(&self.claims))
    }

    fn with_signature(&self, signature: &[u8]) -> String {
        let (message, _) = self.pair.access.rsplit_once('.').unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(self.pair.access.rsplit_once('.').unwrap().1).unwrap()
    }

    /// Every request has the same id, so that bodies can be compared to the byte.
    fn present(&self, token: &str) -> Answer {
        let request = self.app.get("/v1/users/me").header("X-Request-Id", "same");
        Answer::to(request.header("Authorization", format!("Bearer {token}")))
    }

    /// What is wrong with the answer to a token that has to be refused, if anything is.
    fn complaint(&self, token: &str, expected: &Answer) -> Option<String> {
        let answer = self.present(token);
        let challenge = |answer: &Answer| answer.header("www-authenticate").map(str::to_owned);
        let same =
            (answer.status, &answer.text, challenge(&answer)) == (expected.status, &expected.text, challenge(expected));
        (!same).then(|| format!("{} {:?} {}", answer.status, challenge(&answer), answer.text))
    }

    #[track_caller]
    fn accepts(&self, row: &str, token: &str) {
        let answer = self.present(token);
        assert_eq!(answer.status, 200, "{} {row}: {}", self.name, answer.text);
    }
}

fn part(token: &str, number: usize) -> Map<String, Value> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).unwrap()
}

fn sign_with(algorithm: Algorithm, key: &EncodingKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Big-endian `a - b`, where `a` is the larger.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut result = a.to_vec();
    let mut borrow = 0_i16;
    for (digit, subtrahend) in result.iter_mut().zip(b).rev() {
        let difference = i16::from(*digit) - i16::from(*subtrahend) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    result
}

/// Little-endian `a + b`, modulo 2^256.
fn plus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut result = a.to_vec();
    let mut carry = 0_u16;
    for (digit, summand) in result.iter_mut().zip(b) {
        let sum = u16::from(*digit) + u16::from(*summand) + carry;
        carry = sum >> 8;
        *digit = u8::try_from(sum & 0xff).unwrap();
    }
    result
}

type Rows = Vec<(String, String)>;

/// J01 to J08 and J58: which algorithm, and who chooses it.
fn algorithm_rows(victim: &Victim) -> Rows {
    let mut rows = Rows::new();
    let message = |header: &Map<String, Value>| {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(text(header)), URL_SAFE_NO_PAD.encode(text(&victim.claims)))
    };
    for none in ["none", "None", "NONE", "nOnE"] {
        let mut header = victim.header.clone();
        header.insert("alg".into(), none.into());
        rows.push((format!("J01 {none}, unsigned"), format!("{}.", message(&header))));
        rows.push((format!("J01 {none}, two parts"), message(&header)));
        rows.push((format!("J01 {none}, signed"), victim.with_member("alg", none.into())));
    }
    rows.push(("J02 alg missing".into(), victim.with_header(|header| drop(header.remove("alg")))));
    for alg in [json!(null), json!([victim.name]), json!(256), json!({})] {
        rows.push((format!("J02 alg {alg}"), victim.with_member("alg", alg)));
    }
    rows.push(("J03 alg as an object".into(), victim.with_member("alg", json!({ victim.name: null }))));
    for alg in [victim.name.to_lowercase(), format!("{} ", victim.name), format!("\u{feff}{}", victim.name)] {
        if alg != victim.name {
            rows.push((format!("J04 alg {alg:?}"), victim.with_member("alg", alg.into())));
        }
    }
    for alg in ["HS256", "HS384", "HS512", "ES256", "ES384", "RS256", "RS512", "PS256", "EdDSA", "Ed25519", ""] {
        if alg != victim.name {
            rows.push((format!("J07, J58 alg {alg}"), victim.with_member("alg", alg.into())));
        }
    }
    let mut hmac_header = victim.header.clone();
    hmac_header.insert("alg".into(), "HS256".into());
    for (form, key) in public_key_forms(victim) {
        let token =
            sign_with(Algorithm::HS256, &EncodingKey::from_secret(&key), text(&hmac_header), text(&victim.claims));
        rows.push((format!("J05 HS256 keyed with the public key, {form}"), token));
    }
    let secrets: [&[u8]; 9] =
        [b"", b"secret", b"changeme", b"password", b"\0", b"your-256-bit-secret", b"jwt", b"key", b"countersign"];
    for secret in secrets {
        let key = EncodingKey::from_secret(secret);
        let token = sign_with(Algorithm::HS256, &key, text(&hmac_header), text(&victim.claims));
        rows.push((format!("J13 secret {secret:?}"), token));
    }
    rows
}

/// The public key in every form in which it may be taken for a shared secret.
fn public_key_forms(victim: &Victim) -> Vec<(&'static str, Vec<u8>)> {
    let set = Answer::to(victim.app.get("/.well-known/jwks.json")).expect(200).json();
    let Some(jwk) = set["keys"].get(0) else { return Vec::new() };
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
    let mut forms = vec![("JWK", jwk.to_string().into_bytes()), ("JWK Set", set.to_string().into_bytes())];
    let der = match victim.name {
        "ES256" => {
            let prefix = bytes("3059301306072a8648ce3d020106082a8648ce3d03010703420004");
            [prefix, member("x"), member("y")].concat()
        }
        "EdDSA" => [bytes("302a300506032b6570032100"), member("x")].concat(),
        _ => {
            // RSAPublicKey of RFC 8017, appendix A.1.1, for a modulus of 256 bytes and e = 65537.
            [bytes("3082010a0282010100"), member("n"), bytes("0203010001")].concat()
        }
    };
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    for line in STANDARD.encode(&der).as_bytes().chunks(64) {
        writeln!(pem, "{}", String::from_utf8_lossy(line)).unwrap();
    }
    pem.push_str("-----END PUBLIC KEY-----");
    for name in ["x", "n"] {
        if let Some(text) = jwk[name].as_str() {
            forms.push(("a member, decoded", member(name)));
            forms.push(("a member, as text", text.as_bytes().to_vec()));
        }
    }
    forms.push(("DER", der));
    forms.push(("PEM", pem.clone().into_bytes()));
    forms.push(("PEM and a newline", format!("{pem}\n").into_bytes()));
    forms
}

/// J08, J10 to J12, J45, J46: signatures, and the text they are written in.
fn signature_rows(victim: &Victim) -> Rows {
    let mut rows = Rows::new();
    let genuine = victim.signature();
    let order = bytes(P256_ORDER);
    let one = {
        let mut one = vec![0; 32];
        one[31] = 1;
        one
    };
    let edge = [vec![0; 32], one.clone(), minus(&order, &one), order.clone()];
    for r in &edge {
        for s in &edge {
            rows.push(("J08 r and s at the edge".into(), victim.with_signature(&[r.clone(), s.clone()].concat())));
        }
    }
    for at in [0, genuine.len() / 2, genuine.len() - 1] {
        let mut flipped = genuine.clone();
        flipped[at] ^= 1;
        rows.push((format!("J11 bit flipped in byte {at}"), victim.with_signature(&flipped)));
    }
    rows.push(("J11 truncated".into(), victim.with_signature(&genuine[..genuine.len() - 1])));
    rows.push(("J11 a zero byte more".into(), victim.with_signature(&[genuine.clone(), vec![0]].concat())));
    rows.push(("J11 a zero byte before".into(), victim.with_signature(&[vec![0], genuine.clone()].concat())));
    rows.push(("J11 all zero".into(), victim.with_signature(&vec![0; genuine.len()])));
    if victim.name == "ES256" {
        let integer = |number: &[u8]| {
            let pad = if number[0] >= 0x80 { vec![0] } else { Vec::new() };
            let length = u8::try_from(number.len() + pad.len()).unwrap();
            [vec![2, length], pad, number.to_vec()].concat()
        };
        let inner = [integer(&genuine[..32]), integer(&genuine[32..])].concat();
        let der = [vec![0x30, u8::try_from(inner.len()).unwrap()], inner].concat();
        rows.push(("J11 DER".into(), victim.with_signature(&der)));
    }
    if victim.name == "EdDSA" {
        let larger = plus(&genuine[32..], &bytes(ED25519_ORDER));
        rows.push(("J10 s + L".into(), victim.with_signature(&[&genuine[..32], &larger[..]].concat())));
    }
    let token = &victim.pair.access;
    let parts: Vec<&str> = token.split('.').collect();
    rows.push(("J12 no signature".into(), format!("{}.{}.", parts[0], parts[1])));
    rows.push(("J12 two parts".into(), format!("{}.{}", parts[0], parts[1])));
    rows.push(("J12 one part".into(), parts[0].into()));
    rows.push(("J12 nothing but dots".into(), "..".into()));

    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = token.bytes().last().unwrap();
    let index = alphabet.iter().position(|letter| *letter == last).unwrap();
    // The unused bits of the last character: two of them, or four.
    let unused = if genuine.len() % 3 == 1 { 4 } else { 2 };
    assert_ne!(genuine.len() % 3, 0, "the signature has unused bits");
    for variant in 1..(1 << unused) {
        let other = char::from(alphabet[index ^ variant]);
        rows.push((format!("J45 last character {other}"), format!("{}{other}", &token[..token.len() - 1])));
    }
    rows.push(("J46 padded".into(), format!("{token}=")));
    rows.push(("J46 padded twice".into(), format!("{token}==")));
    rows.push(("J46 header padded".into(), format!("{}=.{}.{}", parts[0], parts[1], parts[2])));
    rows.push(("J46 a space within".into(), format!("{} {}", &token[..20], &token[20..])));
    rows.push(("J46 a tab within".into(), format!("{}\t{}", &token[..20], &token[20..])));
    rows.push(("J46 a tab before".into(), format!(" \t{token}")));
    rows.push(("J46 quoted".into(), format!("\"{token}\"")));
    rows.push(("J46 a byte order mark before".into(), format!("\u{feff}{token}")));
    rows.push(("J46 the other alphabet".into(), format!("{}.{}.{}", parts[0], parts[1], STANDARD.encode(&genuine))));
    rows
}

/// J14 to J20 and J22: members that a header must not have, and those it must.
fn header_rows(victim: &Victim, sink: &str) -> Rows {
    let mut rows = Rows::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": victim.header["kid"],
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) });
    let own_key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let members = [
        ("J14 jwk", "jwk", jwk.clone()),
        ("J15 jku", "jku", json!(format!("{sink}/keys.json"))),
        ("J15 x5u", "x5u", json!(format!("{sink}/chain.pem"))),
        ("J16 x5c", "x5c", json!([STANDARD.encode(point)])),
        ("J16 x5t", "x5t", json!("AAAA")),
        ("J16 x5t#S256", "x5t#S256", json!("AAAA")),
        ("J19 crit names a stranger", "crit", json!(["x"])),
        ("J19 crit is empty", "crit", json!([])),
        ("J19 crit names exp", "crit", json!(["exp"])),
        ("J19 crit is null", "crit", json!(null)),
        ("J19 b64 false", "b64", json!(false)),
        ("J19 b64 true", "b64", json!(true)),
        ("J22 zip", "zip", json!("DEF")),
        ("J22 enc", "enc", json!("A256GCM")),
        ("J25 cty", "cty", json!("JWT")),
        ("J29 a member nobody knows", "x", json!(1)),
    ];
    for (row, name, value) in members {
        rows.push((format!("{row}, our key"), victim.with_member(name, value.clone())));
        let mut header = victim.header.clone();
        header.insert("alg".into(), "ES256".into());
        header.insert(name.into(), value);
        let token = sign_with(Algorithm::ES256, &own_key, text(&header), text(&victim.claims));
        rows.push((format!("{row}, the attacker's key"), token));
    }
    let crit_present = victim.with_header(|header| {
        header.insert("crit".into(), json!(["x"]));
        header.insert("x".into(), json!(true));
    });
    rows.push(("J19 crit names a member that is there".into(), crit_present));

    let mut own_header = victim.header.clone();
    own_header.insert("alg".into(), "ES256".into());
    rows.push((
        "J14 another key".into(),
        sign_with(Algorithm::ES256, &own_key, text(&own_header), text(&victim.claims)),
    ));

    let kids = [
        "../../dev/null",
        "/proc/self/environ",
        "' UNION SELECT 'k",
        "$(id)",
        "\0",
        "",
        "unknown",
        "*",
        "0",
        "https://issuer.test/key",
    ];
    for kid in kids {
        rows.push((format!("J17 kid {kid:?}"), victim.with_member("kid", kid.into())));
    }
    let own = victim.header["kid"].as_str().unwrap();
    for kid in [format!("{own}\0"), format!(" {own}"), format!("{own} "), own.to_uppercase(), "k".repeat(5_000)] {
        rows.push((format!("J17 kid {:.60}", format!("{kid:?}")), victim.with_member("kid", kid.into())));
    }
    for kid in [json!(null), json!(1), json!([own]), json!({ "kid": own })] {
        rows.push((format!("J17 kid {kid}"), victim.with_member("kid", kid)));
    }
    rows.push(("J18 no kid".into(), victim.with_header(|header| drop(header.remove("kid")))));
    for typ in [
        json!("JWT"),
        json!("jwt"),
        json!("rt+jwt"),
        json!("dpop+jwt"),
        json!("application/jwt"),
        json!(""),
        json!(1),
        json!(null),
        json!(["at+jwt"]),
        json!("at+jwt "),
        json!("at+jwt;x=1"),
        json!("text/at+jwt"),
    ] {
        rows.push((format!("J20 typ {typ}"), victim.with_member("typ", typ)));
    }
    rows.push(("J20 no typ".into(), victim.with_header(|header| drop(header.remove("typ")))));
    for name in ["alg", "kid", "typ"] {
        let member = format!("\"{name}\":{}", victim.header[name]);
        rows.push((format!("J29 {name} twice"), victim.with_header_text(&member)));
    }
    let values: Vec<&Value> = ["alg", "typ", "kid"].iter().map(|name| &victim.header[*name]).collect();
    rows.push(("J26 header as an array".into(), victim.sign(json!(values).to_string(), text(&victim.claims))));
    rows.push(("J48 two headers".into(), victim.sign(format!("{}{{}}", text(&victim.header)), text(&victim.claims))));
    rows.push(("J48 NUL after the header".into(), victim.sign(text(&victim.header) + "\0", text(&victim.claims))));
    rows.push((
        "J48 BOM before the header".into(),
        victim.sign("\u{feff}".to_owned() + &text(&victim.header), text(&victim.claims)),
    ));
    rows
}

/// J21, J23 to J26, J48, J53, J54, J60: what is not a compact JWS of one JSON object.
fn shape_rows(victim: &Victim) -> Rows {
    let token = &victim.pair.access;
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = (text(&victim.header), text(&victim.claims));
    let order = ["iss", "aud", "sub", "client_id", "sid", "jti", "iat", "exp", "roles", "gen", "br"];
    let in_order: Vec<&Value> = order.iter().map(|name| &victim.claims[*name]).collect();
    let mut padded = in_order.clone();
    let null = Value::Null;
    padded.extend([&null, &null]);
    let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
    let general = json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
    let longer = |length: usize| {
        let mut pad = 0;
        loop {
            let token = victim.with_claim("x", "p".repeat(pad).into());
            if token.len() > length {
                return token;
            }
            pad += (length + 1 - token.len()).div_ceil(2).max(1);
        }
    };
    [
        ("J21 the refresh token", victim.pair.refresh.clone()),
        ("J21 any text", "not-a-token".into()),
        ("J23 four parts", format!("{token}.{}", parts[2])),
        ("J23 five parts", format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[1], parts[2])),
        ("J23 a dot behind", format!("{token}.")),
        ("J23 a dot before", format!(".{token}")),
        ("J23 a dot doubled", format!("{}..{}", parts[0], parts[2])),
        ("J24 flattened JSON", flattened.to_string()),
        ("J24 general JSON", general.to_string()),
        ("J25 a token as payload", victim.sign(&header, token)),
        ("J25 a token in quotes as payload", victim.sign(&header, format!("\"{token}\""))),
        ("J26 claims as an array", victim.sign(&header, json!(in_order).to_string())),
        ("J26 claims as a full array", victim.sign(&header, json!(padded).to_string())),
        ("J26 claims in an array", victim.sign(&header, json!([victim.claims]).to_string())),
        ("J26 null", victim.sign(&header, "null")),
        ("J26 nothing", victim.sign(&header, "")),
        ("J48 NUL behind", victim.sign(&header, format!("{claims}\0"))),
        ("J48 BOM before", victim.sign(&header, format!("\u{feff}{claims}"))),
        ("J48 another object behind", victim.sign(&header, format!("{claims}{{}}"))),
        ("J48 text behind", victim.sign(&header, format!("{claims}x"))),
        ("J48 cut off", victim.sign(&header, &claims[..claims.len() - 1])),
        ("J53 over 8 KiB", longer(MAX_TOKEN)),
        ("J54 dots", ".".repeat(8_000)),
        ("J60 header and claims swapped", victim.sign(&claims, &header)),
        ("J60 twice", format!("{token} {token}")),
        ("J60 twice, comma", format!("{token},{token}")),
        ("J60 twice, comma and scheme", format!("{token}, Bearer {token}")),
        ("J60 joined", format!("{token}{token}")),
    ]
    .map(|(row, token)| (row.to_owned(), token))
    .into()
}

/// J27, J28, J30 to J44, J49, J50, J52, J56, J59: what the claims say.
fn claim_rows(victim: &Victim) -> Rows {
    let mut rows = Rows::new();
    let now = START;
    for name in ["iss", "aud", "sub", "client_id", "sid", "jti", "iat", "exp", "roles", "gen", "br"] {
        let mistyped =
            [json!(null), json!({}), json!([]), json!(true), json!(-1), json!(""), json!("1800000000"), json!(1.5)];
        if name != "roles" {
            rows.push((format!("J38 to J44 no {name}"), victim.with_claims(|claims| drop(claims.remove(name)))));
        }
        for value in mistyped {
            // An empty list of roles is one, and so is an empty text as the client's name.
            let fine = match name {
                "roles" => value == json!([]),
                "client_id" => value.is_string(),
                _ => false,
            };
            // iat may lie however far back, as long as exp is near it.
            if !fine {
                rows.push((format!("J30 to J44 {name} {value}"), victim.with_claim(name, value)));
            }
        }
        let member = format!("\"{name}\":{}", victim.claims[name]);
        rows.push((format!("J27, J28 {name} twice"), victim.with_claim_text(&member)));
        let escaped = format!("\"\\u{:04x}{}\":{}", u32::from(name.as_bytes()[0]), &name[1..], victim.claims[name]);
        rows.push((format!("J27 {name} twice, once escaped"), victim.with_claim_text(&escaped)));
    }
    let numbers =
        ["1e300", "1e999", "-1e18", "18446744073709551615", "99999999999999999999999", "1800000899.5", "1.8000009e9"];
    for number in numbers {
        for name in ["exp", "iat"] {
            let claims = text(&victim.claims);
            let changed =
                claims.replace(&format!("\"{name}\":{}", victim.claims[name]), &format!("\"{name}\":{number}"));
            assert_ne!(claims, changed);
            rows.push((format!("J30, J31 {name} {number}"), victim.sign(text(&victim.header), changed)));
        }
    }
    let times = |row: &str, iat: i64, exp: i64| {
        let token = victim.with_claims(|claims| {
            claims.insert("iat".into(), iat.into());
            claims.insert("exp".into(), exp.into());
        });
        (
            format!(
                "{row}: iat now{:+}, exp now{:+}",
                i128::from(iat) - i128::from(now),
                i128::from(exp) - i128::from(now)
            ),
            token,
        )
    };
    rows.push(times("J32 a second too long", now, now + 901));
    rows.push(times("J32 in milliseconds", now, now * 1000));
    rows.push(times("J32 the year 9999", now, 253_402_300_799));
    rows.push(times("J32 for ever", now, i64::MAX));
    rows.push(times("J32 overflowing", i64::MIN, i64::MAX));
    rows.push(times("J32 overflowing", i64::MIN, now + 900));
    rows.push(times("J33 exp is now", now - 900, now));
    rows.push(times("J34 a second ago", now - 900, now - 1));
    rows.push(times("J34 a minute ago", now - 900, now - 59));
    rows.push(times("J37 issued six seconds from now", now + 6, now + 900));
    rows.push(times("J37 issued an hour from now", now + 3600, now + 4500));
    for nbf in
        [json!(now + 6), json!(now + 3600), json!(now.to_string()), json!("0"), json!([now]), json!(1.5), json!({})]
    {
        rows.push((format!("J35, J36 nbf {nbf}"), victim.with_claim("nbf", nbf)));
    }
    let ours = "http://issuer.test";
    for name in ["iss", "aud"] {
        let mut values = vec![
            json!(["http://evil.test", ours]),
            json!([ours, "http://evil.test"]),
            json!([[ours]]),
            json!([ours, null]),
            json!([ours, 17]),
            json!({ "0": ours }),
            json!("HTTP://issuer.test"),
            json!("http://issuer.test/"),
            json!("http://issuer.test\0"),
            json!("http://issuer.tes"),
            json!(" http://issuer.test"),
            json!("http://other.test"),
            json!("http://issuer.test/v1/auth/refresh"),
            json!(17),
        ];
        if name == "iss" {
            values.extend([json!([ours]), json!([ours, ours])]);
        }
        for value in values {
            rows.push((format!("J39 to J42, J56 {name} {value}"), victim.with_claim(name, value)));
        }
    }
    let stranger = "01890a5d-ac96-774b-bcce-b302099a8057";
    for name in ["sub", "sid"] {
        let own = victim.claims[name].as_str().unwrap();
        for value in
            [stranger.to_owned(), format!("{own}\0"), format!("{own} "), format!("\u{0441}{}", &own[1..]), "\0".into()]
        {
            rows.push((format!("J43, J44, J50, J52 {name} {value:?}"), victim.with_claim(name, value.into())));
        }
    }
    let other = victim.app.sign_up("eve@example.com");
    let (sub, sid) = (part(&other.access, 1)["sub"].clone(), part(&other.access, 1)["sid"].clone());
    rows.push(("J43 another user's session".into(), victim.with_claim("sid", sid)));
    rows.push(("J43 another user".into(), victim.with_claim("sub", sub)));
    for cnf in [json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }), json!({}), json!([]), json!(1)] {
        rows.push((format!("J59 cnf {cnf}"), victim.with_claim("cnf", cnf)));
    }
    for (row, raw) in
        [("J49 invalid UTF-8", &b"\xff"[..]), ("J49 overlong", b"\xc0\xaf"), ("J49 surrogate", b"\xed\xa0\x80")]
    {
        for name in ["client_id", "x"] {
            let mut claims = victim.claims.clone();
            claims.insert(name.into(), "PLACE".into());
            let claims = text(&claims);
            let (before, after) = claims.split_once("PLACE").unwrap();
            let payload = [before.as_bytes(), raw, after.as_bytes()].concat();
            rows.push((format!("{row} in {name}"), victim.sign(text(&victim.header), payload)));
        }
    }
    let lone = text(&victim.claims).replace("\"client_id\":\"", "\"client_id\":\"\\ud800");
    rows.push(("J49 lone surrogate".into(), victim.sign(text(&victim.header), lone)));
    rows
}

/// What RFC 7515 and 7519 allow, and so do we.
fn legal_rows(victim: &Victim) -> Rows {
    let now = START;
    let name = victim.name;
    let escaped = format!("\"\\u{:04x}{}\"", u32::from(name.as_bytes()[0]), &name[1..]);
    let header = text(&victim.header).replace(&format!("\"{name}\""), &escaped);
    assert!(header.contains("\\u"), "{header}");
    let pretty = |object: &Map<String, Value>| format!("\r\n\t {}\n", serde_json::to_string_pretty(object).unwrap());
    let claims = text(&victim.claims).replace("\"aud\"", "\"\\u0061ud\"").replace("http:", "\\u0068ttp:");
    let times = |iat: i64, exp: i64| {
        victim.with_claims(|claims| {
            claims.insert("iat".into(), iat.into());
            claims.insert("exp".into(), exp.into());
        })
    };
    let mut rows: Vec<(&str, String)> = vec![
        ("the issued token", victim.pair.access.clone()),
        ("the issued claims, signed again", victim.with_claims(|_| ())),
        ("J04 alg escaped", victim.sign(header, text(&victim.claims))),
        ("J20 typ with its tree", victim.with_member("typ", "application/at+jwt".into())),
        ("J20 typ in capitals", victim.with_member("typ", "AT+JWT".into())),
        ("J20 typ with its tree in capitals", victim.with_member("typ", "APPLICATION/AT+JWT".into())),
        ("J31 exp in a second", times(now - 899, now + 1)),
        ("J32 as long as a lifetime", times(now, now + 900)),
        ("J35 nbf is now", victim.with_claim("nbf", now.into())),
        ("J35 nbf in five seconds", victim.with_claim("nbf", (now + 5).into())),
        ("J37 iat in five seconds", times(now + 5, now + 900)),
        ("J38 no roles", victim.with_claims(|claims| drop(claims.remove("roles")))),
        ("J38 an empty list of roles", victim.with_claim("roles", json!([]))),
        ("J40 aud as a list of one", victim.with_claim("aud", json!(["http://issuer.test"]))),
        ("J40 aud twice the same", victim.with_claim("aud", json!(["http://issuer.test", "http://issuer.test"]))),
        ("J47 white space", victim.sign(pretty(&victim.header), pretty(&victim.claims))),
        ("J51 claims escaped", victim.sign(text(&victim.header), claims)),
        ("a claim nobody knows", victim.with_claim("x", json!({ "y": [1, 2, { "z": null }] }))),
    ];
    if name == "ES256" {
        let signature = victim.signature();
        let (r, s) = signature.split_at(32);
        let twin = [r.to_vec(), minus(&bytes(P256_ORDER), s)].concat();
        rows.push(("J09 n - s", victim.with_signature(&twin)));
    }
    rows.into_iter().map(|(row, token)| (row.to_owned(), token)).collect()
}

#[test]
fn every_attack_on_a_token_gives_the_same_401() {
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    sink.set_nonblocking(true).unwrap();
    let sink_url = format!("http://{}", sink.local_addr().unwrap());
    for name in ALGORITHMS {
        let victim = Victim::new(name);
        let rows = [
            algorithm_rows(&victim),
            signature_rows(&victim),
            header_rows(&victim, &sink_url),
            shape_rows(&victim),
            claim_rows(&victim),
        ]
        .concat();
        assert!(rows.len() > 200, "{}", rows.len());
        let expected = victim.present("junk").expect_error(401, "invalid_token");
        assert_eq!(expected.header("content-type"), Some("application/problem+json"));
        let challenge = expected.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"countersign\""), "{challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        let complaints: Vec<String> = rows
            .iter()
            .filter_map(|(row, token)| Some(format!("{row}: {}", victim.complaint(token, &expected)?)))
            .collect();
        assert!(complaints.is_empty(), "{name}:\n{}", complaints.join("\n"));
        // What was refused has harmed no session.
        assert!(victim.app.works(&victim.pair.access));
        victim.app.refresh(&victim.pair.refresh).expect(200);
    }
    assert!(sink.accept().is_err(), "J15: nobody fetches what a header points to");
}

#[test]
fn tokens_that_the_standards_allow_are_accepted() {
    for name in ALGORITHMS {
        let victim = Victim::new(name);
        for (row, token) in legal_rows(&victim) {
            victim.accepts(&row, &token);
        }
    }
}

#[test]
fn a_token_of_just_under_the_limit_is_read() {
    let victim = Victim::new("HS256");
    let token = victim.with_claim("x", "p".repeat(5_500).into());
    assert!((MAX_TOKEN - 500..=MAX_TOKEN).contains(&token.len()), "{}", token.len());
    victim.accepts("J53 under 8 KiB", &token);
    let deep = format!("\"x\":{}1{}", "[".repeat(2_500), "]".repeat(2_500));
    victim.accepts("J53 2 500 deep, in a claim that nobody reads", &victim.with_claim_text(&deep));
}

/// J17, J53, J54.
#[test]
fn a_token_that_is_too_large_for_a_head_is_refused_unread() {
    let victim = Victim::new("ES256");
    for token in [
        victim.with_member("kid", "k".repeat(15_000).into()),
        victim.with_claim("x", "p".repeat(60_000).into()),
        victim.with_claim_text(&format!("\"x\":{}1{}", "[".repeat(10_000), "]".repeat(10_000))),
        ".".repeat(60_000),
    ] {
        victim.present(&token).expect_error(431, "headers_too_large");
    }
    assert!(victim.app.works(&victim.pair.access));
}

#[test]
fn a_million_dots_are_refused_unread() {
    let app = TestApp::start(&Home::new());
    // More than a head may have: the connection may be gone before the answer is read.
    if let Ok(answer) = app.get("/v1/users/me").bearer_auth(".".repeat(1_000_000)).send() {
        assert!(matches!(answer.status().as_u16(), 400 | 401 | 431), "{}", answer.status());
    }
    Answer::to(app.get("/health/live")).expect(200);
}

#[test]
fn two_authorization_headers_are_a_400() {
    let victim = Victim::new("ES256");
    let bearer = format!("Bearer {}", victim.pair.access);
    for second in [bearer.as_str(), "Bearer junk", "Basic YTpi", ""] {
        for headers in [[&bearer, second], [second, &bearer]] {
            let request = victim.app.get("/v1/users/me").header("Authorization", headers[0]);
            Answer::to(request.header("Authorization", headers[1])).expect_error(400, "invalid_request");
        }
    }
}

#[test]
fn an_access_token_is_no_refresh_token_and_harms_no_session() {
    let victim = Victim::new("HS256");
    let pair = &victim.pair;
    victim.app.refresh(&pair.access).expect_refused("malformed");
    // The same secret for nothing: the refresh claims under the access key.
    let forged = victim.sign(text(&part(&pair.refresh, 0)), text(&part(&pair.refresh, 1)));
    victim.app.refresh(&forged).expect_refused("malformed");
    assert!(victim.app.works(&pair.access));
    victim.app.refresh(&pair.refresh).expect(200);
}

#[test]
fn a_token_of_a_retired_secret_works_until_the_secret_is_gone() {
    let home = Home::new();
    let start = |active: &str, previous: &str| {
        let settings = config(&home).with("tokens.access_secret", active);
        let settings =
            if previous.is_empty() { settings } else { settings.with("tokens.access_secret_previous", previous) };
        TestApp::start_with(settings, clock())
    };
    let second = "another access secret, which comes after it";
    let pair = start(SECRET, "").sign_up("ada@example.com");
    assert!(start(second, SECRET).works(&pair.access), "J55 before");
    home.database().connect().execute(support::harness::KEYS_FORGOTTEN);
    assert!(!start(second, "").works(&pair.access), "J55 after");
}

#[test]
fn a_token_dies_with_its_session_its_password_and_its_user() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let me = |method, path: &str, pair: &Pair, body: &Value| {
        Answer::to(app.request(method, path).bearer_auth(&pair.access).json(body)).expect(204);
    };
    let first = app.sign_up("ada@example.com");
    let second = app.log_in("ada@example.com");
    let third = app.log_in("ada@example.com");
    me(Method::POST, "/v1/auth/logout", &first, &json!({}));
    assert!(!app.works(&first.access), "J57 logout");
    assert!(app.works(&second.access));
    me(Method::DELETE, &format!("/v1/sessions/{}", second.session_id), &third, &json!({}));
    assert!(!app.works(&second.access), "J57 session ended");
    let fourth = app.log_in("ada@example.com");
    let change = json!({ "current_password": PASSWORD, "new_password": "another good one" });
    me(Method::POST, "/v1/users/me/password", &third, &change);
    assert!(!app.works(&fourth.access), "J57 password changed");
    assert!(app.works(&third.access));
    me(Method::DELETE, "/v1/users/me", &third, &json!({ "password": "another good one" }));
    assert!(!app.works(&third.access), "J57 user deleted");
    let eve = app.sign_up("eve@example.com");
    in_database(&home, "UPDATE users SET disabled_at = 1 WHERE email_key = 'eve@example.com'");
    assert!(!app.works(&eve.access), "J57 user disabled");
}

#[test]
fn an_issued_token_has_the_form_of_rfc_9068_and_nothing_personal() {
    for name in ALGORITHMS {
        let victim = Victim::new(name);
        let (header, claims) = (&victim.header, &victim.claims);
        assert_eq!(header.len(), 3, "{header:?}");
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!(name)));
        assert!(!header["kid"].as_str().unwrap().is_empty());
        let mut names: Vec<&str> = claims.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["amr", "aud", "auth_time", "br", "client_id", "exp", "gen", "iat", "iss", "jti", "roles", "sid", "sub"]
        );
        assert_eq!(claims["iss"], "http://issuer.test");
        assert_eq!(claims["aud"], "http://issuer.test");
        assert_eq!(claims["client_id"], "countersign");
        assert_eq!(claims["sid"], victim.pair.session_id);
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(START), &json!(START + 900)));
        assert_eq!(claims["roles"], json!(["admin"]));
        assert!(claims["gen"].is_u64() && claims["br"].is_u64());
        for id in ["sub", "sid", "jti"] {
            uuid::Uuid::parse_str(claims[id].as_str().unwrap()).unwrap();
        }
        let me = victim.app.get_as("/v1/users/me", &victim.pair.access).expect(200).json();
        assert_eq!(claims["sub"], me["id"]);
        assert!(!text(claims).contains("example.com"), "{claims:?}");
    }
}

/// Validators by RFC 9068 refuse an empty array; without the claim they ask for nothing.
#[test]
fn a_user_without_a_role_has_a_token_without_the_claim() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let first = app.sign_up("ada@example.com");
    let names = |token: &str| part(token, 1).keys().cloned().collect::<Vec<_>>();
    let with_roles = |token: &str| part(token, 1).get("roles").cloned();
    assert_eq!(
        names(&first.access),
        ["amr", "aud", "auth_time", "br", "client_id", "exp", "gen", "iat", "iss", "jti", "sid", "sub"]
    );
    assert_eq!(app.get_as("/v1/users/me", &first.access).expect(200).json()["roles"], json!([]));
    in_database(&home, r#"UPDATE users SET roles = '["admin"]'"#);
    assert_eq!(with_roles(&app.log_in("ada@example.com").access), Some(json!(["admin"])));
    in_database(&home, "UPDATE users SET roles = '[]'");
    let third = app.log_in("ada@example.com");
    assert_eq!(with_roles(&third.access), None);
    let third = app.refresh(&third.refresh).expect(200).pair();
    assert_eq!(with_roles(&third.access), None);
    assert!(app.works(&third.access));
}

/// RFC 7519 section 4.1.3: a string or an array. Whatever an array names must be ours.
#[test]
fn a_token_names_every_audience_and_is_good_if_all_of_them_are_ours() {
    let (orders, bills) = ("https://orders.example", "https://bills.example");
    for (configured, expected) in
        [(orders.to_owned(), json!(orders)), (format!("{orders},{bills}"), json!([orders, bills]))]
    {
        let home = Home::new();
        let settings = config(&home).with("tokens.access_secret", SECRET).with("tokens.audience", &configured);
        let app = TestApp::start_with(settings, clock());
        let pair = app.sign_up("ada@example.com");
        let (header, claims) = (part(&pair.access, 0), part(&pair.access, 1));
        assert_eq!(claims["aud"], expected, "{configured}");
        assert!(app.works(&pair.access), "{configured}");
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        for (audience, good) in [
            (json!(orders), true),
            (json!([orders]), true),
            (json!(bills), expected.is_array()),
            (json!([bills, orders]), expected.is_array()),
            (json!([]), false),
            (json!("http://issuer.test"), false),
            (json!([orders, "http://issuer.test"]), false),
            (json!(["https://evil.example", orders]), false),
            (json!(configured), !expected.is_array()),
        ] {
            let mut claims = claims.clone();
            claims.insert("aud".into(), audience.clone());
            let token = sign_with(Algorithm::HS256, &key, text(&header), text(&claims));
            assert_eq!(app.works(&token), good, "{configured}: {audience}");
        }
    }
}

#[test]
fn two_tokens_never_share_a_jti() {
    let app = TestApp::start(&Home::new());
    let first = app.sign_up("ada@example.com");
    let second = app.refresh(&first.refresh).expect(200).pair();
    assert_ne!(part(&first.access, 1)["jti"], part(&second.access, 1)["jti"]);
}

#[test]
fn the_key_set_verifies_tokens_and_holds_nothing_private() {
    for name in ALGORITHMS {
        let victim = Victim::new(name);
        let answer = Answer::to(victim.app.get("/.well-known/jwks.json")).expect(200);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        let set = answer.json();
        let keys = set["keys"].as_array().unwrap();
        if name == "HS256" {
            assert_eq!(set, json!({ "keys": [] }));
            continue;
        }
        assert_eq!(keys.len(), 1);
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(keys[0].get(private).is_none(), "{private} in {set}");
        }
        assert_eq!((&keys[0]["alg"], &keys[0]["use"]), (&json!(name), &json!("sig")));
        let set: JwkSet = serde_json::from_value(set).unwrap();
        let jwk = set.find(victim.header["kid"].as_str().unwrap()).unwrap();
        let mut validation = Validation::new(victim.algorithm);
        validation.validate_exp = false;
        validation.set_audience(&["http://issuer.test"]);
        validation.set_issuer(&["http://issuer.test"]);
        let key = DecodingKey::from_jwk(jwk).unwrap();
        let verified = jsonwebtoken::decode::<Value>(&victim.pair.access, &key, &validation).unwrap();
        assert_eq!(verified.claims, Value::Object(victim.claims.clone()));
    }
}

#[test]
fn a_token_ends_to_the_second() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up("ada@example.com");
    app.pass(Duration::from_secs(899));
    assert!(app.works(&pair.access));
    app.pass(Duration::from_secs(1));
    assert!(!app.works(&pair.access));
}
