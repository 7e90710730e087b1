//! A process like `examples/own_app.rs`: an application with Countersign mounted in it, and one route of its own that
//! only [`Principal`] stands before. The server itself has no such route: each of its own asks the database as well.
//!
//! It is an ordinary `HttpServer`, as floor A is. What the server's own socket, envelope and access line cost on top is
//! in the row of the key set, which asks nothing of any server.

use actix_web::{App, HttpResponse, HttpServer, web};
use countersign::guard::Principal;
use countersign::{Config, Countersign};

use crate::Outcome;
use crate::floors::announce;

/// The guarded path.
pub const PATH: &str = "/guarded";

/// Serves, with its configuration from the environment and its data in the working directory.
///
/// # Errors
///
/// If it cannot start.
pub fn serve() -> Outcome<()> {
    actix_web::rt::System::new().block_on(async {
        let countersign = Countersign::open(&Config::load()?)?;
        let app =
            move || App::new().configure(|routes| countersign.configure(routes)).route(PATH, web::get().to(small));
        let server = HttpServer::new(app).disable_signals().bind(("127.0.0.1", 0))?;
        announce(&server.addrs())?;
        Ok(server.run().await?)
    })
}

async fn small(caller: Principal) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "id": caller.user_id(), "ok": true }))
}
