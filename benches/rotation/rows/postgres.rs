//! The same on PostgreSQL, and several servers on one of it.

use tempfile::TempDir;

use crate::Outcome;
use crate::load::{Crowd, What, runtime};
use crate::options::Options;
use crate::postgres::{Cluster, Database};
use crate::rows::{Bench, interleaved, login, refresh};
use crate::server::{SHARED, Server, folder, run};
use crate::stats::{float, grouped, millis};
use crate::table::{Goal, Table};

/// Every rate and latency.
pub fn rate(options: &Options, table: &mut Table) -> Outcome<()> {
    let cluster = Cluster::find()?;
    let floor = cluster.floor()?;
    for clients in [1, 4, 16, 64] {
        let rate = floor.run(clients, options.span)?;
        let what = format!("for orientation: pgbench, {clients} clients");
        table.note(&what, format!("D {}/s", grouped(rate)), "–");
    }
    let database = cluster.database()?;
    let home = migrated(&database)?;

    let mut bench = bench(&database, &home, 64, 1)?;
    let rounds = interleaved(
        options.rounds,
        || floor.run(64, options.span),
        || {
            let measured = bench.run(What::Refresh, "", options.span, None)?;
            Ok((measured.rate(), measured.cpu))
        },
    )?;
    rounds.tell(table, "refresh, PostgreSQL, 64 clients, HS256", "D at 64", Goal::AtLeast(1.0));
    drop(bench);

    let mut alone = self::bench(&database, &home, 1, 1)?;
    let rounds = interleaved(
        options.rounds,
        || Ok(1e3 / floor.run(1, options.span)?),
        || {
            let measured = alone.run(What::Refresh, "", options.span, None)?;
            Ok((millis(measured.report.latencies.permille(500)), measured.cpu))
        },
    )?;
    let (mean, p50) = (format!("D at 1: {:.3} ms", rounds.floor), format!("p50 {:.3} ms", rounds.measured));
    table.add("refresh, PostgreSQL, one client", mean, p50, rounds.ratio, Goal::AtMost(2.0));
    drop(alone);

    let mut sixteen = self::bench(&database, &home, 16, 1)?;
    let run = || sixteen.run(What::Refresh, "", options.span, None);
    refresh::spread(options, table, "refresh, PostgreSQL, 16 clients", run)?;
    drop(sixteen);

    written(options, table, &database, &home)?;
    many_sessions(options, table, &cluster)
}

/// Refreshes amid log-ins.
pub fn storm(options: &Options, table: &mut Table) -> Outcome<()> {
    let cluster = Cluster::find()?;
    let database = cluster.database()?;
    let home = migrated(&database)?;
    let Bench { server, mut crowd, runtime, home: keys } = bench(&database, &home, 16, 1)?;
    server.stop()?;
    let server = Server::start(home.path(), &[&settings(&database)[..], login::COST].concat())?;
    crowd.move_to(server.address);
    login::weather(options, table, "PostgreSQL", Bench { server, crowd, runtime, home: keys })
}

/// Two servers that share a database, against one that has it alone.
pub fn nodes(options: &Options, table: &mut Table) -> Outcome<()> {
    let cluster = Cluster::find()?;
    let database = cluster.database()?;
    let home = migrated(&database)?;
    let mut one = bench(&database, &home, 64, 1)?;
    let second = start(&database, &home)?;
    let runtime = runtime()?;
    let mut both = runtime.block_on(async {
        let here = Crowd::open(one.server.address, What::Refresh, 32, 1).await?;
        Ok::<_, crate::Fault>(here.and(Crowd::open(second.address, What::Refresh, 32, 1).await?))
    })?;
    let rounds = interleaved(
        options.rounds,
        || Ok(one.run(What::Refresh, "", options.span, None)?.rate()),
        || {
            let report = runtime.block_on(both.run(What::Refresh, "", options.span, None))?.sound()?;
            Ok((report.rate(), 0.0))
        },
    )?;
    let (alone, together) = (format!("one {}/s", grouped(rounds.floor)), format!("{}/s", grouped(rounds.measured)));
    // "No slower" as far as two cores can tell.
    table.add("refresh, two nodes, 64 clients", alone, together, rounds.ratio, Goal::AtLeast(0.95));
    Ok(())
}

/// The database made ready, as an operator does it.
fn migrated(database: &Database<'_>) -> Outcome<TempDir> {
    let home = folder()?;
    run(home.path(), &settings(database), &["migrate"])?;
    Ok(home)
}

fn settings<'a>(database: &'a Database<'_>) -> Vec<(&'a str, &'a str)> {
    SHARED.into_iter().chain([("DATABASE_URL", database.url.as_str())]).collect()
}

fn start(database: &Database<'_>, home: &TempDir) -> Outcome<Server> {
    Server::start(home.path(), &settings(database))
}

fn bench(database: &Database<'_>, home: &TempDir, clients: usize, sessions: usize) -> Outcome<Bench> {
    Bench::with(start(database, home)?, folder()?, What::Refresh, clients, sessions)
}

/// Rows written, and how: from what PostgreSQL counts, which is told when connections end.
fn written(options: &Options, table: &mut Table, database: &Database<'_>, home: &TempDir) -> Outcome<()> {
    let sum = |column: &str| database.number(&format!("SELECT coalesce(sum({column}), 0) FROM pg_stat_user_tables"));
    let counts = || -> Outcome<[f64; 4]> {
        let size = database.number("SELECT pg_total_relation_size('sessions')")?;
        Ok([sum("n_tup_upd")?, sum("n_tup_hot_upd")?, sum("n_tup_ins")? + sum("n_tup_del")?, size])
    };
    let mut bench = bench(database, home, 64, 16)?;
    bench.run(What::Refresh, "", options.longer(3), None)?;
    let Bench { server, mut crowd, runtime, home: unused } = bench;
    server.stop()?;
    let before = counts()?;

    let server = start(database, home)?;
    crowd.move_to(server.address);
    let mut bench = Bench { server, crowd, runtime, home: unused };
    let refreshes = float(bench.run(What::Refresh, "", options.longer(3), None)?.report.latencies.count());
    bench.server.stop()?;
    let after = counts()?;

    let [updates, hot, others, size] = before;
    let [updates, hot, others] = [after[0] - updates, after[1] - hot, after[2] - others];
    let said = format!("{} updates, {} inserts and deletes", grouped(updates), grouped(others));
    let goal = Goal::AtMost(1.01);
    table.add(
        "rows written by one refresh, PostgreSQL",
        format!("{} refreshes", grouped(refreshes)),
        said,
        updates / refreshes,
        goal,
    );
    let said = format!("{} of {} updates", grouped(hot), grouped(updates));
    table.add("HOT share of rotations", "–", said, hot / updates, Goal::AtLeast(0.99));
    let said = format!("{:.2} MB, then {:.2} MB", size / 1e6, after[3] / 1e6);
    table.add(
        "`sessions` with its indexes, after as many refreshes again",
        "–",
        said,
        after[3] / size,
        Goal::AtMost(1.05),
    );
    Ok(())
}

fn many_sessions(options: &Options, table: &mut Table, cluster: &Cluster) -> Outcome<()> {
    let (database, large) = (cluster.database()?, cluster.database()?);
    let (home, elsewhere) = (migrated(&database)?, migrated(&large)?);
    let mut few = bench(&database, &home, 64, 16)?;
    let mut many = bench(&large, &elsewhere, 64, 16)?;
    database.fill(10_000)?;
    large.fill(options.many)?;
    let run = |bench: &mut Bench| {
        let measured = bench.run(What::Refresh, "", options.span, None)?;
        Ok((measured.rate(), measured.cpu))
    };
    run(&mut few)?;
    let rounds = interleaved(options.rounds, || Ok(run(&mut few)?.0), || run(&mut many))?;
    let what = format!("refresh, PostgreSQL, {} sessions in the table", grouped(f64::from(options.many)));
    rounds.tell(table, &what, "with 10,000:", Goal::AtLeast(0.8));
    Ok(())
}
