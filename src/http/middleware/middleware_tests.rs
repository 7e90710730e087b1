//! What becomes of a panic, over real HTTP: wherever a request's own code panics, it is answered.

use std::future::Ready;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::{Payload, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App, FromRequest, HttpRequest, HttpServer, Responder, guard, rt, web};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::panic::Panicked;
use super::*;

/// Panics while it is made from the request.
struct Explosive;

impl FromRequest for Explosive {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        panic!("a canary in an extractor")
    }
}

/// Panics while it is made from the request, a little later.
struct Delayed;

impl FromRequest for Delayed {
    type Error = Problem;
    type Future = futures_util::future::LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(async {
            rt::time::sleep(Duration::from_millis(5)).await;
            panic!("a canary in an extractor")
        })
    }
}

/// Panics while it is made an answer.
struct Unspeakable;

impl Responder for Unspeakable {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse<BoxBody> {
        panic!("a canary in an answer")
    }
}

async fn after_a_while(body: web::Bytes) -> HttpResponse {
    rt::time::sleep(Duration::from_millis(5)).await;
    assert!(body.is_empty(), "a canary in a handler");
    HttpResponse::Ok().finish()
}

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The lines about a request.
    fn of(&self, id: &str) -> Vec<Value> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = String::from_utf8(bytes).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["span"]["id"] == id).collect()
    }
}

fn serve() -> (SocketAddr, ServerHandle) {
    let (started, start) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        rt::System::new().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = HttpServer::new(|| {
                let scope = web::scope("/ours")
                    .route("/fine", web::get().to(|| async { "fine" }))
                    .route("/handler", web::post().to(after_a_while))
                    .route("/extractor", web::get().to(|_: Explosive| async { "never" }))
                    .route("/delayed", web::get().to(|_: Delayed| async { "never" }))
                    .route("/answer", web::get().to(|| async { Unspeakable }))
                    .service(
                        web::resource("/guard")
                            .guard(guard::fn_guard(|_| panic!("a canary in a guard")))
                            .to(|| async { "never" }),
                    );
                App::new()
                    .service(scope.wrap(from_fn(stack)))
                    // Not in our stack: a handler of another application.
                    .route("/theirs", web::get().to(|_: Explosive| async { "never" }))
            });
            let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
            started.send((address, server.handle())).unwrap();
            server.await.unwrap();
        });
    });
    start.recv().unwrap()
}

/// Status, head and body of one answer.
fn ask(stream: &mut BufReader<TcpStream>, method: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}", path.trim_start_matches("/ours/"));
    write!(stream.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, head, String::from_utf8(body).unwrap()))
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    BufReader::new(stream)
}

/// HTT-02.
#[test]
fn a_panic_is_a_500_with_one_line_in_the_log_and_the_connection_goes_on() {
    let log = Log::default();
    tracing_subscriber::fmt().json().with_writer(log.clone()).init();
    let (address, server) = serve();
    let mut kept = connect(address);
    for (path, method, body) in [
        ("handler", "POST", "anything"),
        ("extractor", "GET", ""),
        ("delayed", "GET", ""),
        ("answer", "GET", ""),
        ("guard", "GET", ""),
    ] {
        let (status, head, text) = ask(&mut kept, method, &format!("/ours/{path}"), body).expect("an answer");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, &problem["code"], &problem["request_id"]),
            (500, &"internal".into(), &path.into()),
            "{text}"
        );
        assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
        assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{head}");
        assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
        assert!(!text.contains("canary") && !text.contains("panic"), "{text}");
        let lines = log.of(path);
        let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!(errors.len(), 1, "{lines:?}");
        assert_eq!(
            (&errors[0]["fields"]["code"], &errors[0]["fields"]["cause"]),
            (&"internal".into(), &"a handler panicked".into())
        );
        assert_eq!(lines.len(), 2, "and the access line: {lines:?}");
        let (status, _, text) = ask(&mut kept, "GET", "/ours/fine", "").expect("the connection lives");
        assert_eq!((status, text.as_str()), (200, "fine"));
    }
    // What an application's own handlers do is its own affair, but the process lives.
    assert!(ask(&mut connect(address), "GET", "/theirs", "").is_none());
    assert_eq!(ask(&mut connect(address), "GET", "/ours/fine", "").unwrap().0, 200);
    rt::System::new().block_on(server.stop(false));
}

#[actix_web::test]
async fn a_failure_is_logged_once_however_it_was_raised() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(file.reopen().unwrap());
    let _log = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
    let ours = async || Err::<&str, Problem>(Problem::new(Code::Unavailable).caused_by(Panicked));
    let foreign = async || Err::<&str, _>(actix_web::error::ErrorInternalServerError("text of another crate"));
    let panics = async || -> &str { panic!("this") };
    let app = App::new()
        .wrap(from_fn(stack))
        .route("/ours", web::get().to(ours))
        .route("/foreign", web::get().to(foreign))
        .route("/panics", web::get().to(panics));
    let app = actix_web::test::init_service(app).await;
    for (told_before, (path, status)) in [("/ours", 503), ("/foreign", 500), ("/panics", 500)].iter().enumerate() {
        let answer =
            actix_web::test::try_call_service(&app, actix_web::test::TestRequest::get().uri(path).to_request()).await;
        let answer = answer.map_or_else(|error| error.error_response().status(), |answer| answer.status());
        assert_eq!(answer.as_u16(), *status, "{path}");
        let log = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(log.matches("a request failed").count(), told_before + 1, "{path}: {log}");
    }
}
