//! An application of your own: Countersign's routes are mounted in it, and its guards open your routes.
use actix_web::{App, HttpServer, Responder, web};
use countersign::guard::{Principal, Role, RoleName};
use countersign::{Config, Countersign};

struct Admin;

impl RoleName for Admin {
    const NAME: &str = "admin";
}

/// For every signed-in user.
async fn orders(caller: Principal) -> impl Responder {
    format!("the orders of {}", caller.user_id())
}

/// For administrators.
async fn sales(admin: Role<Admin>) -> impl Responder {
    format!("all sales, for {}", admin.principal().user_id())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load()?;
    tracing_subscriber::fmt().with_env_filter(&config.log.level).init();
    let countersign = Countersign::open(&config)?;
    let app = move || {
        App::new()
            .configure(|routes| countersign.configure(routes))
            .route("/orders", web::get().to(orders))
            .route("/sales", web::get().to(sales))
    };
    HttpServer::new(app).bind((config.server.host.as_str(), config.server.port))?.run().await?;
    Ok(())
}
