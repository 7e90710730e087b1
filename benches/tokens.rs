//! What tokens cost: minting a successor, verifying, signing for each algorithm, and judging.
//!
//! ```text
//! cargo bench --bench tokens
//! ```
//!
//! The library does not show its insides, so the files they are in are compiled into this program as they are. None of them
//! knows the database.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use criterion::{Criterion, criterion_group, criterion_main};

use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};
use crate::rotation::{Claim, Policy, Verdict, judge};
use crate::secret::Secret;
use crate::store::columns::Roles;
use crate::store::sessions::{Expiry, Origin, SessionClient, SessionRow, TokenChain, Transport};
use crate::tokens::access::{AccessTokens, Authentication, Bearer};
use crate::tokens::claims::ExtraClaims;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::keys::{Asymmetric, Key, KeyRing};
use crate::tokens::refresh::RefreshTokens;
use crate::tokens::{ChainPosition, SignError};

macro_rules! ours {
    ($($name:ident $path:literal)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, unused_imports, clippy::allow_attributes, reason = "less of it is used here than in the server")]
            mod $name;
        )*
    };
}

ours! {
    clock "../src/clock.rs"
    columns "../src/store/tables/columns.rs"
    config "../src/config/mod.rs"
    email "../src/email.rs"
    files "../src/files.rs"
    ids "../src/ids.rs"
    network "../src/network.rs"
    rotation "../src/sessions/rotation.rs"
    rows "../src/store/tables/sessions/rows.rs"
    secret "../src/secret.rs"
    tokens "../src/tokens/mod.rs"
}

/// Where those files look for each other.
mod store {
    pub(crate) use super::columns;
    pub mod sessions {
        pub(crate) use crate::rows;
        pub use crate::rows::*;
    }
}

const ISSUER: &str = "https://tokens.example.com";
const HOUR: Duration = Duration::from_secs(3600);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn refresh(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let tokens = RefreshTokens::new(&Secret::new([7; 32]), &[], ISSUER.to_owned(), Vec::new())?;
    let end = NOW.plus(24 * HOUR);
    let first = tokens.first(UserId::generate(), SessionId::generate(), end, NOW, end)?;
    let token = first.token.expose();
    let Ok(presented) = tokens.verify(token, NOW) else { return Err("our own token is refused".into()) };
    let position = presented.position().next_generation();

    criterion.bench_function("refresh token/verify", |bencher| {
        bencher.iter(|| tokens.verify(black_box(token), NOW).is_ok());
    });
    criterion.bench_function("refresh token/mint a successor", |bencher| {
        bencher.iter(|| {
            tokens.successor(black_box(&presented), tokens.active_kid(), position, &[3; 16], NOW, end).is_ok()
        });
    });

    let row = SessionRow {
        user_id: presented.user_id(),
        roles: Roles::default(),
        chain: TokenChain {
            position: presented.position(),
            token_hash: presented.digest(),
            previous_hash: None,
            salt: [3; 16],
            key_id: tokens.active_kid().to_owned(),
            rotated_at: NOW,
            branched_at: NOW,
            confirmed_at: None,
        },
        expiry: Expiry {
            access_expires_at: end,
            idle_expires_at: end,
            expires_at: end,
            revoked_at: None,
            remember: true,
        },
        client: SessionClient { transport: Transport::Body, ip_address: None, repeat_streak: 0, streak_generation: 0 },
        origin: Origin { mfa: false, created_at: NOW, claims: None },
    };
    let claim = Claim {
        position: presented.position(),
        digest: presented.digest(),
        expired: false,
        active_key: true,
        kid: presented.kid(),
        issued_at: presented.issued_at(),
        ip_address: None,
    };
    let policy = Policy {
        overlap: Duration::from_secs(30),
        recovery: 24 * HOUR,
        max_recoveries: 16,
        adopt_ahead: true,
        max_repeat_streak: 0,
    };
    assert_eq!(judge(Some(&row), &claim, NOW, &policy), Verdict::Current);
    criterion.bench_function("judge", |bencher| {
        bencher.iter(|| judge(black_box(Some(&row)), black_box(&claim), NOW, &policy));
    });
    Ok(())
}

fn access(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let bearer = Bearer {
        user_id: UserId::generate(),
        session_id: SessionId::generate(),
        position: ChainPosition { generation: 3, branch: 0 },
        roles: vec!["member".to_owned()],
        expires_at: NOW.plus(HOUR),
        authentication: Authentication { at: Some(NOW), mfa: false },
        claims: ExtraClaims::default(),
    };
    for key in keys()? {
        let algorithm = key.algorithm_name();
        let ring = KeyRing::new(key, Vec::new());
        let tokens = AccessTokens::new(ring, ISSUER.to_owned(), &[], Vec::new(), "countersign".to_owned(), HOUR);
        let issue = || -> Result<String, SignError> { Ok(tokens.issue(black_box(&bearer), NOW)?.0) };
        let token = issue()?;
        assert!(tokens.read(&token).is_ok());
        criterion.bench_function(&format!("access token/{algorithm}/sign"), |bencher| bencher.iter(issue));
        criterion.bench_function(&format!("access token/{algorithm}/verify"), |bencher| {
            bencher.iter(|| tokens.read(black_box(&token)).is_ok());
        });
    }
    Ok(())
}

/// What the cryptography alone takes, with keys that were read once.
fn alone(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let (random, message) = (SystemRandom::new(), [b'a'; 450]);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let signature = pair.sign(&random, &message)?;
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())?;
    criterion.bench_function("alone/ES256/sign", |bencher| {
        bencher.iter(|| pair.sign(&random, black_box(&message)).is_ok());
    });
    criterion.bench_function("alone/ES256/verify", |bencher| {
        bencher.iter(|| public.verify_sig(black_box(&message), signature.as_ref()).is_ok());
    });
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
    criterion.bench_function("alone/HS256/sign", |bencher| bencher.iter(|| hmac::sign(&secret, black_box(&message))));
    Ok(())
}

/// A key of each algorithm, as a first start makes it.
fn keys() -> Result<Vec<Key>, Box<dyn std::error::Error>> {
    let mut keys = vec![Key::from_secret(&Secret::new([8; 32]))?];
    for algorithm in [Asymmetric::Es256, Asymmetric::EdDsa, Asymmetric::Rs256] {
        let home = tempfile::tempdir()?;
        let files = KeyFiles::below(home.path());
        files.generate_access(Some(algorithm), None)?;
        keys.extend(files.generated()?.access.into_iter().map(|held| held.key));
    }
    Ok(keys)
}

fn all(criterion: &mut Criterion) {
    if let Err(fault) = refresh(criterion).and_then(|()| access(criterion)).and_then(|()| alone(criterion)) {
        panic!("{fault}");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
