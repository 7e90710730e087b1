//! The OpenAPI document, and a page to read and try what it describes. Everything that is made of is in the binary.

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::json;

use crate::http::openapi::{self, Operation, PUBLIC, empty, page, public, with_header};
use crate::http::route::Route;
use crate::problem::Code;

/// Where the page is.
pub(crate) const PATH: &str = "/docs";
/// What leads to it.
pub(crate) const FIRST_PAGE: &str = "/";

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::GET, openapi::PATH, || web::to(document), describe_document),
    Route::new(Method::GET, PATH, || web::to(show), describe_show),
    Route::new(Method::GET, FIRST_PAGE, || web::to(first_page), describe_first_page),
];

/// Asked for anew each time, so that a page is never older than the files it names.
pub(crate) const ALWAYS_ASK: &str = "no-cache";
/// The name changes with the content.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// The page may load and speak to this server only, and run and style itself by files only.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const PAGE: &str = include_str!("../../../assets/docs/index.html");

const LICENCES: &str = concat!(
    include_str!("../../../assets/swagger-ui/NOTICE"),
    "\n\n",
    include_str!("../../../assets/swagger-ui/LICENSE"),
    "\n\n",
    include_str!("../../../assets/swagger-ui/swagger-ui-bundle.js.LICENSE.txt"),
);

async fn document() -> HttpResponse {
    let mut answer = file("application/json", PUBLIC);
    answer.body(openapi::text())
}

fn describe_document() -> Operation {
    let example = json!({ "openapi": "3.1.0", "info": { "title": "Countersign", "version": "…" }, "paths": {} });
    Operation::new("Machines", "document", "This document")
        .about("Made from the code that answers; `countersign openapi` prints it too.")
        .answers("200", public("The document.", "Document", example))
}

async fn show() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, ALWAYS_ASK))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}

fn describe_show() -> Operation {
    Operation::new("Machines", "docs", "A page to read this document, sign in and try calls")
        .about("Nothing of it comes from anywhere else. Not found where `docs.enabled` is false.")
        .answers("200", page("The page."))
        .fails(&[Code::NotFound])
}

/// The address alone leads to where everything is explained.
async fn first_page() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, PATH)).finish()
}

fn describe_first_page() -> Operation {
    Operation::new("Machines", "firstPage", "Leads to the page that describes all this")
        .about("Not found where `docs.enabled` is false.")
        .answers("303", with_header(empty("To `/docs`."), "Location", "Location"))
        .fails(&[Code::NotFound])
}

/// Mounts what the page loads, below it. The names of large files change with their content, and they are served as they are
/// stored: every browser takes gzip.
pub(crate) fn mount_files(scope: &mut ServiceConfig) {
    let plain = |path, kind, text: &'static str| {
        let show = move || async move { file(kind, ALWAYS_ASK).body(text) };
        web::resource(path).route(web::get().to(show)).route(web::head().to(show))
    };
    let packed = |path, kind, gzip: &'static [u8]| {
        let show = move || async move { file(kind, FOR_GOOD).insert_header((CONTENT_ENCODING, "gzip")).body(gzip) };
        web::resource(path).route(web::get().to(show)).route(web::head().to(show))
    };
    scope
        .service(plain("/page.js", SCRIPT, include_str!("../../../assets/docs/page.js")))
        .service(plain("/page.css", STYLE, include_str!("../../../assets/docs/page.css")))
        .service(plain("/icon.svg", "image/svg+xml", include_str!("../../../assets/docs/icon.svg")))
        .service(plain("/licences.txt", "text/plain; charset=utf-8", LICENCES))
        .service(packed(
            "/swagger-ui-5.35.0.js",
            SCRIPT,
            include_bytes!("../../../assets/swagger-ui/swagger-ui-bundle.js.gz"),
        ))
        .service(packed(
            "/swagger-ui-5.35.0.css",
            STYLE,
            include_bytes!("../../../assets/swagger-ui/swagger-ui.css.gz"),
        ));
}

fn file(kind: &str, cache: &str) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, kind)).insert_header((CACHE_CONTROL, cache));
    answer
}
