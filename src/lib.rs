//! Countersign: a self-hosted token server, and its parts for other actix-web applications.
//!
//! The server is [`App`]; the routes and guards for an application of your own are [`Countersign`] and
//! [`guard`]; both are built from a [`Config`]. What it promises to clients is in `docs/api.md`, how refresh
//! tokens rotate in `docs/rotation.md`, how to write a client in `docs/clients.md`.
//!
//! # In an application of your own
//!
//! ```no_run
#![doc = include_str!("../examples/own_app.rs")]
//! ```
//!
//! All of it logs through [`tracing`](https://docs.rs/tracing): requests under the target `countersign::access`,
//! security events under `countersign::security`, failures with what caused them. The application says where to.
//!
//! Accounts and sessions from Rust are [`admin`]; tokens for the application's own tests are `testing`, with the feature of
//! that name.
//!
//! # Features
//!
//! - `sqlite` (default): the embedded database, with a SQLite built in. A program can hold one crate with
//!   `links = "sqlite3"`; where it has another one, leave this feature out, or have both use the same `libsqlite3-sys`.
//! - `postgres` (default): PostgreSQL, with libpq and the OpenSSL that it needs built in.
//! - `testing`: `testing::TestServer`. For `[dev-dependencies]`.
//!
//! # Layout
//!
//! A module imports only from lower floors; `tests/floors/main.rs` holds it to that.
//!
//! ```text
//! F9 main.rs              hand over, exit code
//!    cli/                 serve, migrate, check-config, user, session, keys, backup, and more
//!    testing.rs           tokens for the tests of an application of one's own (feature `testing`)
//! F8 app.rs  app/         Countersign::open, App::build, App::run: keys, services, socket, drain
//!    telemetry/           the log: form, filter, what is never recorded
//! F7 services.rs          the composition root: every service, for the server, the commands and the library
//!    key_rotation.rs      the next keys are made and published; those that no token can name are taken away
//!    http/mod.rs          what the routes are mounted in
//!    http/route.rs        Route: method, path, handler, operation
//!    http/routes/         the handlers, a file for each subject, and the route table beside them
//!    http/extract/        what handlers take from a request: JSON, tokens, cookies, the client's address
//!    http/middleware/     what every request and answer goes through: the stack in its mod.rs, a file for each part
//!    http/state.rs        AppState: what handlers compose their answers from
//!    http/outcomes.rs     counts the outcomes of refreshes, log-ins and limits
//!    http/metrics.rs      GET /metrics, on a listener of its own
//!    http/error.rs        From<each service error> for Problem
//!    http/openapi/        the OpenAPI document, from the routes: headers and errors, bodies, examples
//!    http/server/         the socket: how many connections, how long and how much each may keep us busy, how it ends
//! F6 startup/             the database and the keys that belong to it, found or made; what would sign people out is refused
//!    sign_in/mod.rs  sign_in/mfa_token.rs
//!                         the flow of a log-in: password, second factor, session; what carries it from one to the next
//!    guard/mod.rs         Principal, CurrentUser, Role: who may
//!    guard/authentication.rs
//!                         Fresh, Mfa: who signed in lately, or with a second factor
//!    guard/verified.rs    the access tokens that a worker has verified lately
//!    guard/credentials.rs where tokens are looked for: the header, the cookies
//!    guard/caller.rs      Caller: a signed-in user, or a request without credentials
//!    guard/peer.rs        who is at the other end of a request's connection
//!    guard/cross_site.rs  whether another site may have sent a request
//!    admin/mod.rs  admin/users.rs  admin/sessions.rs
//!                         accounts and sessions in the hands of a program that uses this library
//! F5 sessions/mod.rs      confirm, list, revoke
//!    sessions/administration.rs
//!                         the sessions of all users, listed and ended by an operator
//!    sessions/claims.rs   what access tokens say besides, of the account and of the application
//!    sessions/opening.rs  how a session begins, and which ones it displaces
//!    sessions/refresh.rs  sessions/plan.rs
//!                         one refresh; the rotation that it hopes to be
//!    sessions/handing_over.rs
//!                         the pair of tokens that comes of it
//!    sessions/inspect.rs  which of several refresh tokens counts
//!    sessions/rotation.rs what a presented token means: a pure function
//!    sessions/outcome.rs  what a refresh came to, and what is told of it
//!    sessions/refresh_limiter.rs
//!                         who asks for refreshes as no honest client does
//!    users/mod.rs         register; what accounts must be like
//!    users/changes.rs     what a signed-in user changes
//!    users/recovery.rs  users/address_proof.rs  users/address_change.rs
//!                         what goes through a mail: a forgotten password, the proof of an address, another address
//!    users/mailing.rs  users/mail_limits.rs
//!                         what these have in common; how many mails may be asked for
//!    users/authentication.rs
//!                         whether a password is a user's
//!    users/second_factor.rs
//!                         the second factor: begun, confirmed, checked, removed
//!    users/administration.rs  users/administration/
//!                         accounts in the hands of an operator; their claims, their second factors
//!    users/search.rs      accounts that contain a text
//!    users/login_limiter.rs
//!                         how many guesses at a password there are
//!    users/guess_keys.rs  users/undecided.rs
//!                         what they are counted under; those in flight
//!    users/allowance.rs   how many passwords one address may have hashed
//!    views.rs             accounts, sessions and events as their user sees them
//!    background/janitor.rs
//!                         removes what is over, a little at a time
//!    background/mail_sender.rs
//!                         sends the mails that wait
//!    background/session_count.rs
//!                         counts the live sessions
//!    signing_keys.rs      the list of keys that have signed: which must still be there
//!    sealed_keys.rs       generated access keys in a database that nodes share
//! F4 outbox.rs            mails as they are written: rendered, and sealed until they are sent
//!    revocation/mod.rs    the sessions that have ended lately, in memory
//!    revocation/poll.rs   which of them others have ended, and what time it is for all nodes
//!    revocation/ending.rs  revocation/unfinished.rs
//!                         the end of many sessions, a few in each transaction; those that are not all marked yet
//! F3 store/mod.rs         Store: read, write
//!    store/engine/        connections, transactions, the queues of writes: knows no table
//!    store/tables/        every query, a file or folder for each table
//!    store/reading.rs     queries on readers
//!    store/rotation_batch.rs
//!                         the batched refresh: what knows both the queue of writes and the sessions table
//!    store/health.rs      whether the database is fit for work
//!    store/opening.rs  store/migrations.rs  store/upkeep.rs
//!                         how it is found, made and brought up to date; what is done for it
//! F2 tokens/mod.rs        ChainPosition
//!    tokens/access.rs  tokens/refresh.rs
//!                         the two kinds: issue, derive, verify
//!    tokens/jws.rs        the one strict reading of a signed token
//!    tokens/keys.rs  tokens/generated.rs  tokens/key_selection.rs
//!                         the key ring; what is known of a key; which keys are used, and what may be told of them
//!    tokens/key_making.rs  tokens/key_files.rs  tokens/sealing.rs
//!                         generated keys: made; in the data folder; sealed, for a database that nodes share
//!    tokens/mailed.rs     tokens and codes that are mailed
//!    tokens/key_reading.rs
//!                         when generated keys were last read
//!    tokens/claims.rs     what access tokens say besides
//!    second_factor/mod.rs  second_factor/recovery_codes.rs
//!                         codes of authenticators (RFC 6238), and what stands in for them
//!    passwords/mod.rs     hashing on threads of its own
//!    passwords/password.rs
//!                         what is acceptable
//!    passwords/queue.rs  passwords/begun.rs
//!                         the queue before those threads; whether a comparison has begun
//!    mail/mod.rs          texts, links and the way out of mail, as they are configured
//!    mail/kind.rs  mail/values.rs
//!                         what a mail is about; what is put into its text
//!    mail/templates.rs  mail/parsing.rs  mail/rendering.rs
//!                         the texts, built in or from files; one file read; one text filled in
//!    mail/languages.rs  mail/links.rs
//!                         which language is wanted; where links lead
//!    mail/message.rs  mail/format.rs
//!                         a mail as it waits to be sent; as RFC 5322 writes it
//!    mail/transport.rs    sending, and what became of it
//!    mail/smtp.rs  mail/stream.rs  mail/command.rs  mail/folder.rs
//!                         to a server, whose answers must end; through a program; into files
//! F1 config/              every key, its source, its bounds: RawConfig -> Config
//!    audit/               security events, and when they are made known
//!    background/mod.rs    the runner of background tasks
//!    systemd/             what the service manager tells us, hands over, and is told
//!    metrics/             what is counted and measured, for Prometheus
//! F0 problem.rs  problem/  the table from code to status, the error body, and challenges
//!    current.rs           what is in force, and can be replaced while requests are answered
//!    device.rs            what a device may be called
//!    ids.rs  secret.rs  clock.rs
//!    json_schema.rs       schemas of what occurs in many bodies
//!    files.rs             private files and folders, and what is said when the system refuses
//!    network.rs           where to listen; who is at the other end; which are our own proxies
//!    email.rs             what an e-mail address is, and which are the same
//! ```

#![cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "some is there for the sake of the database that is not built in")
)]

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("Countersign needs a database: build it with the feature `sqlite`, with `postgres`, or with both");

pub mod admin;
mod app;
mod audit;
mod background;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
mod current;
mod device;
mod email;
mod files;
pub mod guard;
mod http;
mod ids;
mod json_schema;
mod key_rotation;
mod mail;
mod metrics;
mod network;
mod outbox;
mod passwords;
pub mod problem;
mod revocation;
mod sealed_keys;
mod second_factor;
mod secret;
mod services;
mod sessions;
mod sign_in;
mod signing_keys;
mod startup;
mod store;
mod systemd;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod tokens;
mod users;
mod views;

pub use app::{App, BuildError, Countersign, FirstStart};
pub use clock::Clock;
pub use config::Config;
#[doc(hidden)]
pub use http::server::Bounds;
pub use ids::{InvalidId, SessionId, UserId};
pub use network::Address;

/// The page's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
