//! Log-ins, and what they leave for all other requests.

use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use crate::load::{Crowd, Report, What, runtime};
use crate::options::Options;
use crate::rows::{Bench, interleaved};
use crate::server::{Server, Settings, folder};
use crate::stats::{float, grouped, median, millis};
use crate::table::{Goal, Table};
use crate::{Outcome, floors};

/// Passwords as they should be.
pub const COST: Settings<'_> = &[("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "12")];
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
    // Those who refresh have come in before the passwords were dear.
    let Bench { server, mut crowd, runtime, home } =
        Bench::with(Server::start(home.path(), &[])?, home, What::Refresh, 16, 1)?;
    server.stop()?;
    let server = Server::start(home.path(), COST)?;
    crowd.move_to(server.address);
    weather(options, table, "SQLite", Bench { server, crowd, runtime, home })
}

/// The rows of a storm. Nothing that the bench's clients do takes a hash.
pub fn weather(options: &Options, table: &mut Table, database: &str, mut bench: Bench) -> Outcome<()> {
    let span = options.longer(5);
    let (mut calm, mut stormy) = (Vec::new(), Vec::new());
    bench.run(What::Refresh, "", options.span, Some(CALM))?;
    for _ in 0..options.rounds {
        calm.push(p99(&mut bench, span)?);
        stormy.push(amid(&mut bench, span)?);
    }
    let (calm, stormy) = (median(&calm), median(&stormy));
    let (without, with) = (format!("without: p99 {calm:.2} ms"), format!("p99 {stormy:.2} ms"));
    let what = format!("refresh at 40/s while 8 clients log in, cost 12, {database}: ms");
    table.add(&what, without, with, stormy, Goal::AtMost(10.0));
    Ok(())
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

/// Log-ins of ten addresses, alone and while one more sends seventy at once and sends each again as soon as it is
/// answered or turned away.
pub fn crowd(options: &Options, table: &mut Table) -> Outcome<()> {
    let home = folder()?;
    let server = Server::start(home.path(), COST)?;
    let runtime = runtime()?;
    let honest = (11..=20).map(|last| Ipv4Addr::new(127, 0, 0, last));
    let crowd = runtime.block_on(Crowd::open_from(honest, server.address, What::Login, 1))?;
    let mut bench = Bench { server, crowd, runtime, home };
    let span = options.longer(5);
    let turn = Duration::from_secs_f64(1.0 / floors::bcrypt(1, options.span)?);
    let (mut shares, mut quiet, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let alone = bench.run(What::Login, "", span, None)?.report.latencies;
        let bound = alone.permille(500) * 2 + turn;
        let report = beside_seventy(&mut bench, span)?;
        shares.push(float(report.latencies.within(bound)) / float(report.latencies.count() + report.failures));
        quiet.push(millis(alone.permille(500)));
        slow.push(millis(report.latencies.permille(950)));
    }
    let alone = format!("alone: p50 {:.0} ms", median(&quiet));
    let measured = format!("p95 {:.0} ms", median(&slow));
    let what =
        "log-ins of ten addresses while one sends 70 at once, cost 12: share answered in twice the time and a turn";
    table.add(what, alone, measured, median(&shares), Goal::AtLeast(0.95));
    Ok(())
}

fn beside_seventy(bench: &mut Bench, span: Duration) -> Outcome<Report> {
    let address = bench.server.address;
    let from = std::iter::repeat_n(Ipv4Addr::new(127, 0, 0, 66), 70);
    let second = Duration::from_secs(1);
    let greedy = thread::spawn(move || -> Outcome<Report> {
        let runtime = runtime()?;
        // One account for all of them: registering seventy would take as long as the measurement.
        runtime.block_on(async {
            let one = Crowd::open_from([Ipv4Addr::new(127, 0, 0, 66)], address, What::Login, 1).await?;
            let email = one.email()?;
            let mut seventy = Crowd::open_from(from, address, What::Get, 1).await?;
            seventy.log_in_as(&email);
            seventy.run(What::Login, "", span + second * 2, None).await
        })
    });
    thread::sleep(second * 2);
    let report = bench.runtime.block_on(bench.crowd.run(What::Login, "", span, None))?;
    let greedy = greedy.join().map_err(|_panic| "the seventy panicked")??;
    let (answered, refused) = (float(greedy.latencies.count()), float(greedy.failures));
    eprintln!("  beside {} log-ins of the one and {} refused", grouped(answered), grouped(refused));
    Ok(report)
}

/// One client that logs in, alone and beside two programs of others that compute without pause.
pub fn beside(options: &Options, table: &mut Table) -> Outcome<()> {
    let mut bench = Bench::sqlite(COST, What::Login, 1)?;
    let span = options.longer(2);
    let mut run =
        || Ok::<_, crate::Fault>(millis(bench.run(What::Login, "", span, None)?.report.latencies.permille(500)));
    run()?;
    let (mut quiet, mut busy, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let alone = run()?;
        let _programs = (BusyLoop::start()?, BusyLoop::start()?);
        let crowded = run()?;
        quiet.push(alone);
        busy.push(crowded);
        ratios.push(crowded / alone);
    }
    let (quiet, busy) = (format!("alone: p50 {:.0} ms", median(&quiet)), format!("p50 {:.0} ms", median(&busy)));
    table.add("log-in, 1 client, cost 12, beside two busy loops", quiet, busy, median(&ratios), Goal::AtMost(3.0));
    Ok(())
}

/// A program that computes until it is dropped.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> Outcome<Self> {
        Ok(Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?))
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}
