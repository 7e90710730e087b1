//! PostgreSQL: how it is reached, how long it is waited for, and what stands between.
//!
//! libpq reads the URL, so everything it knows works: several hosts, `sslmode`, `sslrootcert`, a Unix socket. What the URL
//! does not say is added: a single host must not be a standby; of several the one that takes writes is wanted, a promoted
//! standby therefore found by connecting anew; and a network that has gone silent is given up after seconds.
//!
//! A pooler in transaction mode (PgBouncer) gives each transaction another session of the server, so nothing may be left
//! behind in a session: no prepared statement, no setting. Whether there is one is found out by looking who answers, and
//! again each time the server was lost: its mode may have been changed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::{CacheSize, Connection as _, SimpleConnection as _};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::config::{Parts, Postgres};

/// How often a pooler is looked for at each start: other users of one can hide it from a single look.
const LOOKS: usize = 4;

/// How libpq begins what it says of a server, and not of the URL.
const TELLABLE: [&str; 2] = ["connection to server ", "could not translate host name "];

/// Holds a session of the server, but not for long.
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '500ms'";

/// Whatever the server's default is: conditional statements decide on rows as they are when their turn comes.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// One server, or several of which one takes writes.
pub struct Server {
    url: String,
    /// For one statement, and for one lock.
    statement_timeout: Duration,
    /// Whether sessions outlive transactions. None: there was no connection yet.
    sessions_last: Mutex<Option<Finding>>,
}

/// What was found out.
#[derive(Clone, Copy)]
struct Finding {
    /// Whether sessions outlive transactions.
    sessions_last: bool,
    /// How often the server had been lost by then.
    losses: u64,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("statement_timeout", &self.statement_timeout).finish_non_exhaustive()
    }
}

impl Server {
    /// The server that the configuration names; one statement may take as long as `statement_timeout`.
    ///
    /// # Errors
    ///
    /// If the URL is no text.
    pub fn new(configured: &Postgres, statement_timeout: Duration) -> Result<Self, StoreError> {
        let url = std::str::from_utf8(configured.url.expose());
        let url = url.map_err(|_not_text| StoreError::Unavailable("the URL is not UTF-8".into()))?;
        Ok(Self { url: completed(url, configured.connect_timeout), statement_timeout, sessions_last: Mutex::new(None) })
    }

    /// A new connection, whose statements wait as long as `lock_timeout` for a locked row, and the process of the server
    /// that answers it. None: a pooler gives it another one for each transaction. `losses`: how often the server has been
    /// lost.
    ///
    /// # Errors
    ///
    /// If there is none to be had.
    pub fn connect(&self, lock_timeout: Duration, losses: u64) -> Result<(PgConnection, Option<i32>), StoreError> {
        let mut connection = self.establish()?;
        if !self.sessions_last(&mut connection, losses)? {
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
            return Ok((connection, None));
        }
        // Every query here is by an index, and its plan never depends on what is asked for. A plan that is made while a
        // table is still empty must be right for the same table with a million rows.
        connection.batch_execute(&format!(
            "{}; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off",
            self.bounds("SET", lock_timeout),
        ))?;
        let process = process(&mut connection)?;
        Ok((connection, Some(process)))
    }

    /// What begins a transaction.
    pub fn begin(&self, lock_timeout: Duration, sessions_last: bool) -> String {
        if sessions_last { BEGIN.to_owned() } else { format!("{BEGIN}; {}", self.bounds("SET LOCAL", lock_timeout)) }
    }

    /// For one statement.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// How long anything may take, as settings.
    fn bounds(&self, set: &str, lock_timeout: Duration) -> String {
        let (statement, lock) = (self.statement_timeout.as_millis(), lock_timeout.as_millis());
        let idle = statement.saturating_mul(4);
        format!(
            "{set} statement_timeout = {statement}; {set} lock_timeout = {lock}; \
             {set} idle_in_transaction_session_timeout = {idle}"
        )
    }

    fn establish(&self) -> Result<PgConnection, StoreError> {
        PgConnection::establish(&self.url).map_err(|error| match error {
            // Where libpq cannot read the URL, it quotes what may be the password.
            ConnectionError::BadConnection(text) if TELLABLE.iter().any(|start| text.starts_with(start)) => {
                // libpq writes for terminals.
                StoreError::Unavailable(text.split_whitespace().collect::<Vec<_>>().join(" ").into())
            }
            ConnectionError::BadConnection(_) | ConnectionError::InvalidConnectionUrl(_) => StoreError::Unavailable(
                "database.url cannot be read as the URL of a PostgreSQL server (it is not shown: it could hold a password)"
                    .into(),
            ),
            other => StoreError::Unavailable(other.into()),
        })
    }

    /// One finds out, and others who connect meanwhile wait for what is found.
    fn sessions_last(&self, connection: &mut PgConnection, losses: u64) -> Result<bool, StoreError> {
        let mut known = self.sessions_last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.map(|finding| finding.sessions_last);
        if let Some(Finding { sessions_last, losses: then }) = *known
            && then == losses
        {
            return Ok(sessions_last);
        }
        let sessions_last = match self.find_out(connection) {
            Ok(kept) => kept == Kept::Yes,
            // A server that has no second connection for us now is asked again by the next; until then it is as it was.
            Err(error) => return before.ok_or(error),
        };
        *known = Some(Finding { sessions_last, losses });
        match (before, sessions_last) {
            (None | Some(true), false) => tracing::info!(
                "a pooler in transaction mode stands before PostgreSQL: statements are not prepared, which costs some speed"
            ),
            (Some(false), true) => tracing::info!("no pooler in transaction mode stands before PostgreSQL any more"),
            (None | Some(true), true) | (Some(false), false) => {}
        }
        Ok(sessions_last)
    }

    fn find_out(&self, connection: &mut PgConnection) -> Result<Kept, StoreError> {
        let mut kept = do_sessions_last(connection, &mut self.establish()?)?;
        // The server cuts off clients that were merely slow, too.
        for looks_again in [true, false] {
            if kept != Kept::CutOff {
                break;
            }
            *connection = self.establish()?;
            if looks_again {
                kept = do_sessions_last(connection, &mut self.establish()?)?;
            }
        }
        Ok(kept)
    }
}

/// Whether two connections keep the sessions that they have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
    /// One held its session for longer than the server allows.
    CutOff,
}

/// Looks which process of the server answers two connections. Each has its own, for good, unless a pooler gives them to
/// the next that asks; then the one that was given back last is mostly the next to be had. Other users of a pooler can hide that
/// from such looks, so at last one connection holds its process while the other asks. Where the pooler has none left, since
/// several look at once, that one waits until the server has cut off the first; twice in a row, that tells as much.
fn do_sessions_last(connection: &mut PgConnection, other: &mut PgConnection) -> QueryResult<Kept> {
    let (mine, theirs) = (process(connection)?, process(other)?);
    if mine == theirs {
        return Ok(Kept::No);
    }
    for _ in 0..LOOKS {
        if process(connection)? != mine || process(other)? != theirs {
            return Ok(Kept::No);
        }
    }
    match is_kept(other, theirs, connection, mine)? {
        Kept::Yes => is_kept(connection, mine, other, theirs),
        otherwise => Ok(otherwise),
    }
}

/// Whether each has its process still, while the first holds it.
fn is_kept(holder: &mut PgConnection, held: i32, other: &mut PgConnection, theirs: i32) -> QueryResult<Kept> {
    holder.batch_execute(HOLD)?;
    let same = process(holder)? == held && process(other)? == theirs;
    match holder.batch_execute("COMMIT") {
        _ if !same => Ok(Kept::No),
        Ok(()) => Ok(Kept::Yes),
        Err(_) => Ok(Kept::CutOff),
    }
}

/// The process of the server that answers.
fn process(connection: &mut PgConnection) -> QueryResult<i32> {
    diesel::select(sql::<Integer>("pg_backend_pid()")).get_result(connection)
}

/// `url` with what it leaves open.
fn completed(url: &str, connect_timeout: Duration) -> String {
    let parts = Parts::of(url);
    let says = |name: &str| parts.parameter(name).is_some();
    let several = parts.hosts().contains(',') || says("host") || says("hostaddr");
    let mut parameters: Vec<String> =
        parts.parameters.split('&').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    let mut add = |name: &str, value: &str| {
        if !says(name) {
            parameters.push(format!("{name}={value}"));
        }
    };
    add("application_name", "countersign");
    add("connect_timeout", &connect_timeout.as_secs().to_string());
    // Of what was sent and never acknowledged, and of an answer that never comes.
    add("tcp_user_timeout", "5000");
    add("keepalives_idle", "5");
    add("keepalives_interval", "2");
    add("keepalives_count", "3");
    // A standby knows of revocations late. A server that takes no writes for a while may be read.
    add("target_session_attrs", if several { "read-write" } else { "primary" });
    format!("{}{}?{}", parts.user, parts.place, parameters.join("&"))
}

/// What time it is for the server, and which of its processes says so.
///
/// # Errors
///
/// If it cannot be asked.
pub fn now(connection: &mut PgConnection) -> QueryResult<(Timestamp, i32)> {
    let now = sql::<BigInt>("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    diesel::select((now, sql::<Integer>("pg_backend_pid()"))).get_result(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(url: &str) -> String {
        super::completed(url, Duration::from_secs(3))
    }

    #[test]
    fn what_the_url_says_stands_and_the_rest_is_added() {
        let added = "connect_timeout=3&tcp_user_timeout=5000&keepalives_idle=5&keepalives_interval=2&keepalives_count=3\
             &target_session_attrs=primary";
        assert_eq!(completed("postgres://a@b/c"), format!("postgres://a@b/c?application_name=countersign&{added}"));
        assert_eq!(
            completed("postgres://a@b/c?application_name=x&sslmode=require"),
            format!("postgres://a@b/c?application_name=x&sslmode=require&{added}")
        );
        assert_eq!(completed("postgres://a@b/c?connect_timeout=9").matches("connect_timeout").count(), 1);
        assert!(completed("postgres://a:b?c,d@e/f").starts_with("postgres://a:b?c,d@e/f?application_name="));
    }

    /// Of several hosts the one that takes writes is wanted and one must be no standby unless the url says otherwise.
    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_wanted() {
        let wanted = "target_session_attrs=read-write";
        for url in ["postgres://a@b,c:5433/d", "postgres:///d?host=b,c", "postgresql://b,c"] {
            assert!(completed(url).ends_with(wanted), "{url}");
        }
        for url in ["postgres://a@b/d,e", "postgres://a:b,c@d/e", "postgres://a:b?host=c@d/e"] {
            assert!(completed(url).ends_with("target_session_attrs=primary"), "{url}");
        }
        for url in ["postgres://b,c/d?target_session_attrs=any", "postgres://b/d?target_session_attrs=any"] {
            assert_eq!(completed(url).matches("target_session_attrs").count(), 1, "{url}");
        }
    }
}
