//! Floors A and E: the HTTP stack with nothing in it, and the password hash with nothing around it.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Deserialize;

use crate::Outcome;
use crate::stats::float;

/// The path of the floor's GET and POST.
pub const PATH: &str = "/floor";

const PASSWORD: &str = "an inimitable turnip";
const ANSWER_LENGTH: usize = 500;

#[derive(Deserialize)]
struct Presented {
    refresh_token: String,
}

/// Floor A, as a process of its own: a bare actix-web application with as many workers as Countersign has.
///
/// # Errors
///
/// If it cannot listen.
pub fn serve_http() -> Outcome<()> {
    actix_web::rt::System::new().block_on(async {
        let app = || {
            App::new()
                .service(web::resource(PATH).route(web::get().to(small)).route(web::post().to(five_hundred_bytes)))
        };
        let server = HttpServer::new(app).disable_signals().bind(("127.0.0.1", 0))?;
        announce(&server.addrs())?;
        Ok(server.run().await?)
    })
}

/// Says where a process of ours listens, for the one that started it.
///
/// # Errors
///
/// If it cannot be told.
pub fn announce(addresses: &[std::net::SocketAddr]) -> Outcome<()> {
    let address = addresses.first().ok_or("not listening")?;
    writeln!(std::io::stdout(), "{address}")?;
    Ok(std::io::stdout().flush()?)
}

async fn small() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "id": "01890a5d-ac96-774b-bcce-b302099a8057", "ok": true }))
}

async fn five_hundred_bytes(presented: web::Json<Presented>) -> HttpResponse {
    let mut answer = format!(r#"{{"length":{},"padding":""#, presented.refresh_token.len());
    while answer.len() < ANSWER_LENGTH - 2 {
        answer.push('x');
    }
    answer.push_str(r#""}"#);
    HttpResponse::Ok().content_type("application/json").body(answer)
}

/// Floor E: bcrypt verifications of cost 12 a second, on so many threads that do nothing else.
///
/// # Errors
///
/// If the hash fails.
pub fn bcrypt(threads: usize, span: Duration) -> Outcome<f64> {
    let hash = bcrypt::hash(PASSWORD, 12)?;
    let began = Instant::now();
    let count = thread::scope(|scope| {
        let verify = || {
            let mut count = 0;
            while began.elapsed() < span {
                count += usize::from(bcrypt::verify(PASSWORD, &hash).unwrap_or(false));
            }
            // Counted up to its own end, so that a hash that straddles the end does not count as none.
            float(count) / began.elapsed().as_secs_f64()
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(verify)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(0.0)).sum()
    });
    Ok(count)
}
