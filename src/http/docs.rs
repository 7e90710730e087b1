//! `GET /docs`: a page to read and try the API. Everything it is made of is in the binary.

use std::io::Read as _;
use std::sync::OnceLock;

use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, Encoding, Header as _, VARY,
};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use flate2::read::GzDecoder;

use crate::problem::{Code, Problem};

/// Asked for anew each time, so that a page is never older than the files it names.
pub(super) const ALWAYS_ASK: &str = "no-cache";
/// The name changes with the content.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// The page may load and speak to this server only, and run and style itself by files only.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../assets/docs/index.html");

const LICENCES: &str = concat!(
    include_str!("../../assets/swagger-ui/NOTICE"),
    "\n\n",
    include_str!("../../assets/swagger-ui/LICENSE"),
    "\n\n",
    include_str!("../../assets/swagger-ui/swagger-ui-bundle.js.LICENSE.txt"),
);

/// `GET /docs`.
pub(crate) async fn show() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CACHE_CONTROL, ALWAYS_ASK))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}

/// Mounts what the page loads, below it.
pub(super) fn mount_files(scope: &mut ServiceConfig) {
    let plain = |path, kind, text: &'static str| {
        let show = move || async move { file(kind, ALWAYS_ASK).body(text) };
        web::resource(path).route(web::get().to(show)).route(web::head().to(show))
    };
    let packed = |path, packed: &'static Packed| {
        let show = move |req: HttpRequest| async move { packed.show(&req) };
        web::resource(path).route(web::get().to(show)).route(web::head().to(show))
    };
    scope
        .service(plain("/page.js", "text/javascript; charset=utf-8", include_str!("../../assets/docs/page.js")))
        .service(plain("/page.css", "text/css; charset=utf-8", include_str!("../../assets/docs/page.css")))
        .service(plain("/icon.svg", "image/svg+xml", include_str!("../../assets/docs/icon.svg")))
        .service(plain("/licences.txt", "text/plain; charset=utf-8", LICENCES))
        .service(packed("/swagger-ui-5.35.0.js", &SCRIPT))
        .service(packed("/swagger-ui-5.35.0.css", &STYLE));
}

fn file(kind: &str, cache: &str) -> actix_web::HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, kind)).insert_header((CACHE_CONTROL, cache));
    answer
}

/// A file that is kept compressed.
struct Packed {
    kind: &'static str,
    gzip: &'static [u8],
    /// For whoever does not take it compressed, which no browser does: made when first asked for.
    plain: OnceLock<Bytes>,
}

static SCRIPT: Packed = Packed {
    kind: "text/javascript; charset=utf-8",
    gzip: include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz"),
    plain: OnceLock::new(),
};

static STYLE: Packed = Packed {
    kind: "text/css; charset=utf-8",
    gzip: include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz"),
    plain: OnceLock::new(),
};

impl Packed {
    fn show(&'static self, req: &HttpRequest) -> Result<HttpResponse, Problem> {
        let mut answer = file(self.kind, FOR_GOOD);
        answer.insert_header((VARY, "Accept-Encoding"));
        if takes_gzip(req) {
            return Ok(answer.insert_header((CONTENT_ENCODING, "gzip")).body(Bytes::from_static(self.gzip)));
        }
        Ok(answer.body(self.plain()?))
    }

    fn plain(&self) -> Result<Bytes, Problem> {
        if let Some(plain) = self.plain.get() {
            return Ok(plain.clone());
        }
        let mut plain = Vec::new();
        let unpacked = GzDecoder::new(self.gzip).read_to_end(&mut plain);
        unpacked.map_err(|error| Problem::new(Code::Internal).caused_by(error))?;
        Ok(self.plain.get_or_init(|| plain.into()).clone())
    }
}

/// RFC 9110 section 12.5.3.
fn takes_gzip(req: &HttpRequest) -> bool {
    let ours = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(req).is_ok_and(|accepted| accepted.negotiate(ours.iter()) == Some(Encoding::gzip()))
}
