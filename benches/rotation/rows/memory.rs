//! How much it takes: memory, time to start, and room on a disk.

use std::fs;
use std::process::Command;

use crate::Outcome;
use crate::load::{Crowd, What};
use crate::options::Options;
use crate::rows::{Bench, refresh};
use crate::server::{BINARY, Server, folder};
use crate::stats::{float, median, millis};
use crate::table::{Goal, Table};

/// Sessions that are there before the load.
const SESSIONS: u32 = 100_000;

/// All of it.
pub fn all(options: &Options, table: &mut Table) -> Outcome<()> {
    start(options, table)?;
    load(options, table)?;
    refresh::growth(options, table)?;
    binary(table)
}

fn start(options: &Options, table: &mut Table) -> Outcome<()> {
    let home = folder()?;
    Server::start(home.path(), &[])?.stop()?;
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(3) {
        let server = Server::start(home.path(), &[])?;
        starts.push(millis(server.start));
        idle.push(server.memory()?);
        server.stop()?;
    }
    let ready = median(&starts);
    table.add("start to ready, existing SQLite database", "–", format!("{ready:.0} ms"), ready, Goal::AtMost(100.0));
    let memory = median(&idle);
    table.add("memory (PSS), idle, SQLite", "–", format!("{memory:.1} MB"), memory, Goal::AtMost(15.0));
    Ok(())
}

/// Half of the clients refresh, half ask who they are.
fn load(options: &Options, table: &mut Table) -> Outcome<()> {
    let Bench { server, mut crowd, runtime, home } = refresh::crowded(SESSIONS)?;
    let count = runtime.block_on(async {
        let mut others = Crowd::open(server.address, What::Me, 32, 1).await?;
        let refreshes = crowd.run(What::Refresh, "", options.long, None);
        let reads = others.run(What::Me, "", options.long, None);
        let (refreshes, reads) = tokio::join!(refreshes, reads);
        let (refreshes, reads) = (refreshes?.sound()?, reads?.sound()?);
        Ok::<_, crate::Fault>(refreshes.latencies.count() + reads.latencies.count())
    })?;
    let memory = server.memory()?;
    let what = format!("memory (PSS) after 10⁵ sessions and {:.0} s of full load", options.long.as_secs_f64());
    let measured = format!("{memory:.1} MB after {:.1} million requests", float(count) / 1e6);
    table.add(&what, "–", measured, memory, Goal::AtMost(40.0));
    drop(server);
    drop(home);
    Ok(())
}

fn binary(table: &mut Table) -> Outcome<()> {
    let megabytes = float(usize::try_from(fs::metadata(BINARY)?.len())?) / 1e6;
    let libraries = Command::new("ldd").arg(BINARY).output().map_or_else(
        |_no_ldd| "libraries unknown".to_owned(),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let names =
                text.lines().filter_map(|line| line.trim().split(".so").next()).filter(|name| !name.contains('/'));
            names.collect::<Vec<_>>().join(", ")
        },
    );
    table.add(
        "release binary, stripped",
        "–",
        format!("{megabytes:.1} MB; {libraries}"),
        megabytes,
        Goal::AtMost(20.0),
    );
    Ok(())
}
