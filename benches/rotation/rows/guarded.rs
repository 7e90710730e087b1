//! Guarded routes.

use crate::Outcome;
use crate::floors::PATH;
use crate::guarded;
use crate::load::What;
use crate::options::Options;
use crate::rows::{Bench, interleaved};
use crate::server::{SHARED, Settings};
use crate::table::{Goal, Table};

const CLIENTS: usize = 16;

/// A route that only `Principal` stands before.
pub fn alone(options: &Options, table: &mut Table) -> Outcome<()> {
    let algorithms: [(&str, Settings<'_>); 2] = [("HS256", &SHARED), ("ES256", &[])];
    for (algorithm, settings) in algorithms {
        let mut bench = Bench::of_ours("guarded-server", settings, What::Guarded, CLIENTS)?;
        let what = format!("guarded GET (`Principal`), 16 clients, {algorithm}");
        against_floor(options, table, &what, Goal::AtLeast(0.85), &mut bench, What::Guarded, guarded::PATH)?;
    }
    // No guard, no query: what the server's own socket, envelope and access line cost.
    let mut bench = Bench::sqlite(&[], What::Get, CLIENTS)?;
    let what = "GET of the key set from the server itself, 16 clients";
    against_floor(options, table, what, Goal::Shown, &mut bench, What::Get, "/.well-known/jwks.json")
}

/// The caller's own account, which is read from the database.
pub fn with_user(options: &Options, table: &mut Table) -> Outcome<()> {
    let algorithms: [(&str, Settings<'_>); 2] = [("HS256", &SHARED), ("ES256", &[])];
    for (algorithm, settings) in algorithms {
        let mut bench = Bench::sqlite(settings, What::Me, CLIENTS)?;
        let what = format!("`GET /v1/users/me`, SQLite, 16 clients, {algorithm}");
        against_floor(options, table, &what, Goal::AtLeast(0.5), &mut bench, What::Me, "")?;
    }
    Ok(())
}

fn against_floor(
    options: &Options,
    table: &mut Table,
    what: &str,
    goal: Goal,
    bench: &mut Bench,
    act: What,
    path: &str,
) -> Outcome<()> {
    let mut bare = Bench::of_ours("floor-server", &[], What::Get, CLIENTS)?;
    let mut floor_cpu = 0.0;
    let rounds = interleaved(
        options.rounds,
        || {
            let measured = bare.run(What::Get, PATH, options.span, None)?;
            floor_cpu = measured.cpu;
            Ok(measured.rate())
        },
        || {
            let measured = bench.run(act, path, options.span, None)?;
            Ok((measured.rate(), measured.cpu))
        },
    )?;
    rounds.tell(table, what, &format!("A GET ({floor_cpu:.0} µs of CPU)"), goal);
    Ok(())
}
