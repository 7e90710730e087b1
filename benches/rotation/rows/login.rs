//! Log-ins, and what they leave for everybody else.

use std::thread;
use std::time::Duration;

use crate::load::{Crowd, What, runtime};
use crate::options::Options;
use crate::rows::{Bench, interleaved};
use crate::server::{Server, Settings, folder};
use crate::stats::{grouped, median, millis};
use crate::table::{Goal, Table};
use crate::{Outcome, floors};

/// Passwords as they should be.
const COST: Settings<'_> = &[("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "12")];
/// Refreshes a second of an ordinary day.
const CALM: f64 = 40.0;

/// Four clients that do nothing but log in.
pub fn rate(options: &Options, table: &mut Table) -> Outcome<()> {
    let mut bench = Bench::sqlite(COST, What::Login, 4)?;
    let span = options.longer(2);
    let rounds = interleaved(
        options.rounds,
        || floors::bcrypt(2, span),
        || {
            let measured = bench.run(What::Login, "", span, None)?;
            Ok((measured.rate(), measured.cpu))
        },
    )?;
    rounds.tell(table, "log-in, 4 clients, cost 12", "E on 2 threads", Goal::AtLeast(0.95));
    let alone = floors::bcrypt(1, span)?;
    let each = format!("{:.0} ms a hash", 1e3 / alone);
    table.note("for orientation: bcrypt alone", format!("E on 1 thread {}/s", grouped(alone)), each);
    Ok(())
}

/// Refreshes at an even pace, with and without eight clients that log in without pause.
pub fn storm(options: &Options, table: &mut Table) -> Outcome<()> {
    let home = folder()?;
    // Whoever refreshes has come in before the passwords were dear.
    let mut bench = Bench::with(Server::start(home.path(), &[])?, home, What::Refresh, 16, 1)?;
    bench = dear(bench)?;
    let span = options.longer(5);
    let (mut calm, mut stormy) = (Vec::new(), Vec::new());
    bench.run(What::Refresh, "", options.span, Some(CALM))?;
    for _ in 0..options.rounds {
        calm.push(p99(&mut bench, span)?);
        stormy.push(amid(&mut bench, span)?);
    }
    let (calm, stormy) = (median(&calm), median(&stormy));
    let (without, with) = (format!("without: p99 {calm:.2} ms"), format!("p99 {stormy:.2} ms"));
    let what = "refresh at 40/s while 8 clients log in, cost 12";
    // Twice as slow is allowed, and so is anything up to 5 ms.
    table.add(what, without, with, stormy / calm, Goal::AtMost(((5.0 / calm).max(2.0) * 100.0).round() / 100.0));
    Ok(())
}

fn dear(bench: Bench) -> Outcome<Bench> {
    let Bench { server, mut crowd, runtime, home } = bench;
    server.stop()?;
    let server = Server::start(home.path(), COST)?;
    crowd.move_to(server.address);
    Ok(Bench { server, crowd, runtime, home })
}

fn p99(bench: &mut Bench, span: Duration) -> Outcome<f64> {
    Ok(millis(bench.run(What::Refresh, "", span, Some(CALM))?.report.latencies.permille(990)))
}

/// The storm has a thread of its own, which mostly waits.
fn amid(bench: &mut Bench, span: Duration) -> Outcome<f64> {
    let address = bench.server.address;
    let mut crowd = runtime()?.block_on(Crowd::open(address, What::Login, 8, 1))?;
    let second = Duration::from_secs(1);
    let storm = thread::spawn(move || -> Outcome<f64> {
        let runtime = runtime()?;
        Ok(runtime.block_on(crowd.run(What::Login, "", span + second, None))?.sound()?.rate())
    });
    thread::sleep(second / 2);
    let slow = p99(bench, span)?;
    let rate = storm.join().map_err(|_panic| "the storm panicked")??;
    eprintln!("  amid {} log-ins a second", grouped(rate));
    Ok(slow)
}
