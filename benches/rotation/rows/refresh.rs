//! Refreshes on the embedded database: how many, how soon, and among how many sessions.

use std::fs;

use crate::Outcome;
use crate::floors::PATH;
use crate::load::What;
use crate::options::Options;
use crate::rows::{Bench, Measured, interleaved};
use crate::server::{SHARED, Server, Settings, folder};
use crate::sqlite::{self, Floor};
use crate::stats::{float, grouped, median, millis};
use crate::table::{Goal, Table};

/// 64 clients, each a chain.
pub fn rate(options: &Options, table: &mut Table) -> Outcome<()> {
    let home = folder()?;
    let mut floor = Floor::open(home.path())?;
    let mut bare = Bench::of_ours("floor-server", &[], What::Post, 64)?;
    let algorithms: [(&str, Settings<'_>); 2] = [("ES256", &[]), ("HS256", &SHARED)];
    for (algorithm, settings) in algorithms {
        let mut bench = Bench::sqlite(settings, What::Refresh, 64)?;
        let refresh = |bench: &mut Bench| {
            let measured = bench.run(What::Refresh, "", options.span, None)?;
            Ok((measured.rate(), measured.cpu))
        };
        let of_sqlite = || Ok(floor.run(1, options.span)?.0);
        let rounds = interleaved(options.rounds, of_sqlite, || refresh(&mut bench))?;
        let what = format!("refresh, SQLite, 64 clients, {algorithm} access tokens");
        rounds.tell(table, &what, "B", Goal::AtLeast(3.0));
        let of_http = || Ok(bare.run(What::Post, PATH, options.span, None)?.rate());
        let rounds = interleaved(options.rounds, of_http, || refresh(&mut bench))?;
        rounds.tell(table, "the same (moonshot)", "A POST", Goal::AtLeast(0.5));
    }
    let batched = floor.run(64, options.span)?.0;
    let floor = format!("C {}/s", grouped(batched));
    table.note("for orientation: 64 updates a commit", floor, "–");
    Ok(())
}

/// One client alone; and sixteen, whose slowest must not be much slower than the others.
pub fn latency(options: &Options, table: &mut Table) -> Outcome<()> {
    let home = folder()?;
    let mut floor = Floor::open(home.path())?;
    let mut alone = Bench::sqlite(&[], What::Refresh, 1)?;
    let rounds = interleaved(
        options.rounds,
        || Ok(millis(floor.run(1, options.span)?.1.permille(500))),
        || {
            let measured = alone.run(What::Refresh, "", options.span, None)?;
            Ok((millis(measured.report.latencies.permille(500)), measured.cpu))
        },
    )?;
    let (commit, p50) = (format!("B {:.3} ms a commit", rounds.floor), format!("p50 {:.3} ms", rounds.measured));
    table.add("refresh, SQLite, one client", commit, p50, rounds.ratio, Goal::AtMost(2.0));

    let mut sixteen = Bench::sqlite(&[], What::Refresh, 16)?;
    spread(options, table, "refresh, SQLite, 16 clients", || sixteen.run(What::Refresh, "", options.span, None))
}

/// p99 against p50 of the same run.
pub fn spread(
    options: &Options,
    table: &mut Table,
    what: &str,
    mut run: impl FnMut() -> Outcome<Measured>,
) -> Outcome<()> {
    run()?;
    let (mut middle, mut slow, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let latencies = run()?.report.latencies;
        let (p50, p99) = (millis(latencies.permille(500)), millis(latencies.permille(990)));
        middle.push(p50);
        slow.push(p99);
        ratios.push(p99 / p50);
    }
    let (p50, p99) = (format!("p50 {:.2} ms", median(&middle)), format!("p99 {:.2} ms", median(&slow)));
    table.add(what, p50, p99, median(&ratios), Goal::AtMost(5.0));
    Ok(())
}

/// The sessions that are refreshed lie scattered among many that are not.
pub fn many_sessions(options: &Options, table: &mut Table) -> Outcome<()> {
    let mut few = crowded(10_000)?;
    let mut many = crowded(options.many)?;
    let run = |bench: &mut Bench| {
        let measured = bench.run(What::Refresh, "", options.span, None)?;
        Ok((measured.rate(), measured.cpu))
    };
    run(&mut few)?;
    let rounds = interleaved(options.rounds, || Ok(run(&mut few)?.0), || run(&mut many))?;
    let what = format!("refresh, SQLite, {} sessions in the table", grouped(f64::from(options.many)));
    rounds.tell(table, &what, "with 10,000:", Goal::AtLeast(0.8));
    Ok(())
}

/// 64 clients with 16 sessions each, among `rows`.
pub fn crowded(rows: u32) -> Outcome<Bench> {
    let home = folder()?;
    let server = Server::start(home.path(), &SHARED)?;
    let Bench { server, mut crowd, runtime, home } = Bench::with(server, home, What::Refresh, 64, 16)?;
    server.stop()?;
    sqlite::fill(&home.path().join("data/countersign.db"), rows)?;
    let server = Server::start(home.path(), &SHARED)?;
    crowd.move_to(server.address);
    Ok(Bench { server, crowd, runtime, home })
}

/// What a refresh leaves behind in the embedded database: rows, and bytes of its file.
pub fn growth(options: &Options, table: &mut Table) -> Outcome<()> {
    let mut bench = Bench::sqlite(&[], What::Refresh, 64)?;
    let database = bench.home.path().join("data/countersign.db");
    let (rows, bytes) = (sqlite::count_rows(&database)?, fs::metadata(&database)?.len());
    let refreshes = bench.run(What::Refresh, "", options.span, None)?.report.latencies.count();
    let more = sqlite::count_rows(&database)? - rows;
    let larger = fs::metadata(&database)?.len().saturating_sub(bytes);
    let measured = format!("{more} rows, {larger} bytes after {} refreshes", grouped(float(refreshes)));
    let each = f64::from(i32::try_from(more)?) / float(refreshes);
    table.add("rows grown by one refresh, SQLite", "–", measured, each, Goal::AtMost(0.0));
    Ok(())
}
