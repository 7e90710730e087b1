//! What touches the database, once more on PostgreSQL: the tests of the other programs, each in a process of its own with
//! a schema of its own, and beside them what only PostgreSQL has (`clocks`, `hot`, `keys`, `mail`, `nodes`, `outage`,
//! `pooler`, `schema`, `start`, `tls`).
//!
//! The server is the one that `TEST_POSTGRES_URL` names, else a private one of the binaries on this machine. Where there
//! is neither, these tests are reported as ignored; with `CI` in the environment they fail instead. Tests about the files
//! of an embedded database are in modules named `embedded`, and are not run here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail anywhere")]

mod again;
mod clocks;
mod hot;
mod keys;
mod mail;
mod nodes;
mod outage;
mod pooler;
mod schema;
mod start;
mod tls;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};

use support::cluster::Cluster;
use support::{cluster, database};

/// Tells a test where its server is. This program, told so, runs the tests of its own and no others.
const TOLD: &str = "TEST_DATABASE_URL";

type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),+),+]
    };
}

/// Those that a server is enough for.
const WITH_A_SERVER: &[Test] = tests! {
    schema: both_folders_of_migrations_make_the_same_schema;
    start: processes_that_migrate_at_once_do_not_trip_over_each_other,
        without_what_all_nodes_share_it_does_not_start_and_names_the_key,
        with_migrations_pending_it_lives_and_is_not_ready_until_they_are_done,
        the_password_of_the_database_is_told_nobody;
    nodes: a_session_opened_on_one_node_goes_on_on_any_other,
        what_one_node_ends_is_over_on_all_within_a_second,
        identical_refreshes_on_two_nodes_at_once_are_one_rotation,
        many_sessions_refresh_on_two_nodes_at_once,
        a_refresh_on_one_node_and_a_log_out_on_the_other_leave_no_live_session,
        a_node_that_cannot_learn_who_has_signed_out_is_not_ready,
        a_code_of_a_second_factor_is_accepted_by_one_node_once;
    clocks: nodes_whose_clocks_are_an_hour_wrong_agree_with_all_others,
        a_node_that_does_not_know_yet_what_time_it_is_judges_no_token;
    outage: a_table_that_somebody_holds_is_an_outage_with_an_end,
        a_row_that_somebody_holds_makes_nobody_else_wait,
        a_commit_of_unknown_fate_is_tried_again_only_for_a_refresh,
        a_database_that_answers_nothing_makes_the_node_not_ready,
        a_table_that_nobody_can_write_makes_the_node_not_ready;
    keys: nodes_that_start_at_once_make_one_key_and_keep_it_sealed,
        a_rotation_at_once_refuses_no_request_on_any_node,
        another_refresh_secret_opens_the_keys_only_with_the_one_before_it,
        generated_keys_that_a_secret_displaces_are_asked_for,
        a_key_that_signs_no_more_can_be_given_up;
    mail: each_mail_is_sent_once_by_one_of_two_nodes;
};

/// Those that start, stop and fill servers of their own.
const WITH_PROGRAMS: &[Test] = tests! {
    outage: a_server_that_is_restarted_is_an_outage_and_then_none,
        connections_that_are_cut_are_made_anew_and_nobody_is_refused,
        one_connection_that_is_found_cut_speaks_for_all,
        a_server_without_a_free_connection_is_an_outage_and_then_none,
        a_node_may_start_before_its_database,
        of_several_hosts_the_one_that_takes_writes_is_found,
        a_server_that_takes_no_writes_makes_the_node_not_ready,
        a_promoted_standby_is_found_without_a_restart;
    start: a_database_that_is_not_utf8_is_not_migrated_and_its_operator_is_told,
        a_standby_alone_is_not_asked_until_it_is_promoted;
    keys: a_node_that_starts_before_its_database_reads_its_keys_when_it_comes,
        a_reload_while_the_database_is_away_keeps_the_keys_it_had;
    hot: a_refresh_updates_its_row_in_place_and_the_table_does_not_grow;
    tls: a_server_that_does_not_encrypt_is_not_spoken_to_where_that_is_required;
};

/// Those that also make certificates.
const WITH_OPENSSL: &[Test] = tests! {
    tls: a_server_with_the_right_certificate_is_spoken_to_in_secret,
        a_server_that_is_not_the_right_one_is_not_spoken_to;
};

/// Those that also start a pooler.
const WITH_A_POOLER: &[Test] = tests! {
    pooler: everything_works_through_a_pooler_in_transaction_mode,
        everything_works_through_a_pooler_in_session_mode,
        what_somebody_holds_is_not_waited_for_for_long_behind_a_pooler,
        processes_behind_a_pooler_start_without_waiting_for_each_other,
        a_pooler_that_changes_its_mode_needs_no_restart_of_the_nodes;
};

fn main() -> ExitCode {
    if std::env::var_os(TOLD).is_some() {
        let trial = |(name, test): &Test| {
            let test = *test;
            Trial::test(*name, move || {
                test();
                Ok(())
            })
        };
        let trials = [WITH_A_SERVER, WITH_PROGRAMS, WITH_OPENSSL, WITH_A_POOLER].concat().iter().map(trial).collect();
        return support::run(trials);
    }

    let programs = cluster::installed().err();
    let server = if std::env::var_os(cluster::URL).is_some() { None } else { programs.clone() };
    let openssl = programs.clone().or(tls::installed().err());
    let pooler = programs.clone().or(pooler::installed().err());
    if let Some(missing) = [&programs, &server, &openssl, &pooler].into_iter().flatten().next() {
        eprintln!("postgres: {missing} (Debian: postgresql, openssl, pgbouncer)");
        if std::env::var_os("CI").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let own = std::env::current_exe().unwrap();
    let own = |tests: &'static [Test], missing: bool| {
        let own = own.clone();
        tests.iter().map(move |(name, _)| {
            let run = Run { program: own.clone(), name: (*name).to_owned() };
            Trial::test(*name, move || run.finish()).with_ignored_flag(missing)
        })
    };
    let mut trials: Vec<Trial> = own(WITH_A_SERVER, server.is_some())
        .chain(own(WITH_PROGRAMS, programs.is_some()))
        .chain(own(WITH_OPENSSL, openssl.is_some()))
        .chain(own(WITH_A_POOLER, pooler.is_some()))
        .collect();
    let again = match again::programs() {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("postgres: {error}");
            return ExitCode::FAILURE;
        }
    };
    trials.extend(
        again
            .into_iter()
            .map(|(name, run)| Trial::test(name, move || run.finish()).with_ignored_flag(server.is_some())),
    );
    let _stopped = Stopped;
    support::run(trials)
}

/// One test of one program.
struct Run {
    program: PathBuf,
    name: String,
}

impl Run {
    /// Runs it by itself: what it said, if it failed.
    fn finish(&self) -> Result<(), Failed> {
        let url = url()?;
        let mut command = Command::new(&self.program);
        command.args(["--exact", &self.name]).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        let output = command.env(TOLD, url).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && said.contains("test result: ok. 1 passed") {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}\n{}\n{}", output.status, said.trim(), errors.trim()).into())
    }
}

/// The server of all tests that need none of their own. Not asked for yet: it is not there.
static SERVER: Mutex<Option<Result<Server, String>>> = Mutex::new(None);

struct Server {
    url: String,
    /// None: it is not ours.
    _cluster: Option<Cluster>,
}

/// Where it is; it is started if it has not been.
fn url() -> Result<String, Failed> {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || match std::env::var(cluster::URL) {
        Ok(url) => {
            database::sweep(&url);
            Ok(Server { url, _cluster: None })
        }
        Err(_) => Cluster::start().map(|cluster| Server { url: cluster.url(), _cluster: Some(cluster) }),
    };
    match server.get_or_insert_with(start) {
        Ok(server) => Ok(server.url.clone()),
        Err(error) => Err(error.clone().into()),
    }
}

/// Dropping it stops the server, if it was started.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(SERVER.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
