//! Section `database`.

use std::time::Duration;

use crate::config::key::Key;
use crate::config::section::section;
use crate::config::{Database, Postgres};

/// A name that other programs use too, for databases of theirs. It does not count where any other variable or credential
/// sets the same key, whichever of the two is in the later place.
pub(in crate::config) const SHARED_NAME: &str = "DATABASE_URL";

section! {
    /// Section `database`, which becomes a [`Database`].
    pub(crate) struct DatabaseKeys in "database" {
        /// sqlite:PATH for one node, or postgres://user:password@host/database for several; nothing else is understood.
        ///
        /// Under systemd the default is countersign.db in $STATE_DIRECTORY. The folder of any other path must be there.
        /// Generated keys are kept in the same folder. PostgreSQL may be several hosts
        /// (postgres://user:password@one,two/database: the one that takes writes is used), and takes whatever libpq takes
        /// behind a ?, such as sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt for TLS. Other programs
        /// read DATABASE_URL too: it counts only if neither of the other two is set, whether in .env, in the environment or
        /// as a credential.
        url: Database = "sqlite:data/countersign.db",
            Key::database_url().short(&["COUNTERSIGN_DATABASE_URL", SHARED_NAME]).at_restart();

        /// PostgreSQL only: connections of this node.
        ///
        /// More do not make one node faster; all nodes together must stay below max_connections of the server.
        pool_size: u32 = "10", Key::number(5..=1_000).at_restart();

        /// PostgreSQL only: how long a request waits for a connection before it is answered 503.
        ///
        /// Raise it only where a late answer is better than none.
        pool_wait: Duration = "2s", Key::duration(1..=10).at_restart();

        /// PostgreSQL only: how long connecting to one host may take.
        ///
        /// With several hosts, this is what a dead one costs before the next one is asked.
        connect_timeout: Duration = "3s", Key::duration(2..=30).at_restart(); // libpq takes anything below two seconds for two

        /// PostgreSQL only: how long one statement may take, waiting for locks included.
        ///
        /// Past it the request is answered 503.
        statement_timeout: Duration = "2s", Key::duration(1..=10).at_restart();
    }
}

impl DatabaseKeys {
    /// The database to use, with what only PostgreSQL needs.
    pub(in crate::config) fn database(self) -> Database {
        let Self { url, pool_size, pool_wait, connect_timeout, statement_timeout } = self;
        match url {
            Database::Postgres(Postgres { url, .. }) => {
                Database::Postgres(Postgres { url, pool_size, pool_wait, connect_timeout, statement_timeout })
            }
            sqlite @ Database::Sqlite(_) => sqlite,
        }
    }
}
