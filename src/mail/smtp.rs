//! Mail to a server (RFC 5321, RFC 3207, RFC 8314).

use std::error::Error as _;
use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::format::Letter;
use super::stream::BoundedStream;
use super::transport::{shown, wait_for};
use super::{Patience, SendError, TransportError};
use crate::config::{Mail, MailServer};

/// The end of a conversation, which changes nothing, may take this long.
const FAREWELL: Duration = Duration::from_secs(1);
/// Of one host, so many addresses are tried.
const MOST_ADDRESSES: usize = 4;
/// "Authentication required", and its kin, wherever it is said (RFC 4954 section 6).
const WANTS_LOGIN: [u16; 4] = [530, 534, 535, 538];

/// A mail server.
pub struct Smtp {
    server: MailServer,
    tls: TlsParameters,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Smtp").field(&self.describe()).finish()
    }
}

/// Where in the conversation something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Over TLS, with the greeting.
    Connection,
    Greeting,
    Tls,
    Login,
    Sender,
    Recipient,
    Message,
}

impl Smtp {
    /// Trusts the authorities of `ca_file`, or else those of the system.
    pub fn new(server: &MailServer, ca_file: Option<&Path>) -> Result<Self, TransportError> {
        let key = Mail::ca_file.name;
        let mut builder = TlsParameters::builder(server.host.clone());
        if server.is_loopback {
            builder = builder
                .certificate_store(CertificateStore::None)
                .dangerous_accept_invalid_certs(true)
                .dangerous_accept_invalid_hostnames(true);
        } else if let Some(file) = ca_file {
            let problem = |problem: String| TransportError { key, problem: format!("{} {problem}", file.display()) };
            let pem = fs::read(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
            let none = || problem("holds no certificate: it must be PEM, with -----BEGIN CERTIFICATE-----".to_owned());
            if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
                return Err(none());
            }
            let certificates = Certificate::from_pem(&pem).map_err(|_unspecific| none())?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificates);
        }
        let key = if ca_file.is_some() { key } else { Mail::url.name };
        let failed = |error: smtp::Error| TransportError { key, problem: format!("cannot be used for TLS: {error}") };
        Ok(Self { server: server.clone(), tls: builder.build().map_err(failed)? })
    }

    /// The server, without user and password.
    pub fn describe(&self) -> String {
        let MailServer { host, port, implicit_tls, .. } = &self.server;
        let scheme = if *implicit_tls { "smtps" } else { "smtp" };
        if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
    }

    /// Hands `letter` over.
    pub fn send(&self, letter: &Letter, patience: Patience) -> Result<(), SendError> {
        wait_for(self.deliver(letter, patience))
    }

    async fn deliver(&self, letter: &Letter, patience: Patience) -> Result<(), SendError> {
        let mut opened = None;
        let delivering = async {
            let connection = opened.insert(self.connect(patience.answer).await?);
            self.converse(connection, letter, patience.answer).await
        };
        let Ok(delivered) = timeout(patience.whole, delivering).await else {
            return Err(SendError::Later(format!("{} took longer than {:?}", self.describe(), patience.whole)));
        };
        if let Some(mut connection) = opened {
            // The message is taken or not: what is said now changes nothing.
            let _farewell = timeout(FAREWELL, connection.quit()).await;
        }
        delivered
    }

    async fn connect(&self, answer: Duration) -> Result<AsyncSmtpConnection, SendError> {
        let addresses = self.addresses(answer).await?;
        // An address that does not answer leaves time for the others.
        let share = answer / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let hello = ClientId::default();
        if self.server.implicit_tls {
            let tls = Some(self.tls.clone());
            let connecting = AsyncSmtpConnection::connect_tokio1(addresses.as_slice(), Some(share), &hello, tls, None);
            return self.step(Step::Connection, answer, connecting).await;
        }
        let stream = Box::new(BoundedStream::new(self.open(&addresses, share).await?));
        let greeting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let mut connection = self.step(Step::Greeting, answer, greeting).await?;
        if connection.can_starttls() {
            self.step(Step::Tls, answer, connection.starttls(self.tls.clone(), &hello)).await?;
        } else if !self.server.is_loopback {
            return Err(SendError::Misconfigured(format!(
                "{} offers no STARTTLS, without which a password and every mail can be read on the way: enable it there, or \
                 write smtps:// in mail.url",
                self.describe()
            )));
        }
        Ok(connection)
    }

    /// Where the server is. What is called local must be.
    async fn addresses(&self, answer: Duration) -> Result<Vec<SocketAddr>, SendError> {
        let MailServer { host, port, is_loopback, .. } = &self.server;
        let found = timeout(answer, lookup_host((host.as_str(), *port))).await;
        let mut found: Vec<SocketAddr> =
            found.map_err(silence).and_then(|found| found).map_err(|error| self.lost(&error))?.collect();
        found.retain(|address| !is_loopback || address.ip().to_canonical().is_loopback());
        found.truncate(MOST_ADDRESSES);
        if found.is_empty() {
            return Err(SendError::Misconfigured(format!("{} has no address that can be used", self.describe())));
        }
        Ok(found)
    }

    /// A connection to the first of them that answers.
    async fn open(&self, addresses: &[SocketAddr], share: Duration) -> Result<TcpStream, SendError> {
        let mut last = io::Error::from(ErrorKind::NotFound);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await.map_err(silence).and_then(|opened| opened) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(self.lost(&last))
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &Letter,
        answer: Duration,
    ) -> Result<(), SendError> {
        if let Some(login) = &self.server.login {
            let password = String::from_utf8_lossy(login.password.expose()).into_owned();
            let credentials = Credentials::new(login.user.clone(), password);
            self.step(Step::Login, answer, connection.auth(DEFAULT_MECHANISMS, &credentials)).await?;
        }
        let options = self.options(connection, letter)?;
        let sender = MailFrom::new(Some(letter.from.clone()), options);
        self.step(Step::Sender, answer, connection.command(sender)).await?;
        self.step(Step::Recipient, answer, connection.command(Rcpt::new(letter.to.clone(), Vec::new()))).await?;
        self.step(Step::Message, answer, connection.command(Data)).await?;
        self.step(Step::Message, answer, connection.message(&letter.bytes)).await?;
        Ok(())
    }

    /// An address beyond ASCII needs a server that takes such addresses (RFC 6531), and the headers with it.
    fn options(&self, connection: &AsyncSmtpConnection, letter: &Letter) -> Result<Vec<MailParameter>, SendError> {
        if letter.bytes.is_ascii() && AsRef::<str>::as_ref(&letter.to).is_ascii() {
            return Ok(Vec::new());
        }
        let info = connection.server_info();
        if info.supports_feature(Extension::SmtpUtfEight) && info.supports_feature(Extension::EightBitMime) {
            return Ok(vec![MailParameter::SmtpUtfEight, MailParameter::Body(MailBodyParameter::EightBitMime)]);
        }
        let name = self.describe();
        Err(SendError::Refused(format!("{name} takes no address with letters beyond ASCII (it offers no SMTPUTF8)")))
    }

    async fn step<T>(
        &self,
        step: Step,
        answer: Duration,
        doing: impl Future<Output = Result<T, smtp::Error>>,
    ) -> Result<T, SendError> {
        match timeout(answer, doing).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.refusal(step, &error)),
            Err(_elapsed) => {
                Err(SendError::Later(format!("{} gave no answer within {answer:?} ({})", self.describe(), step.name())))
            }
        }
    }

    fn lost(&self, error: &io::Error) -> SendError {
        SendError::Later(shown(&format!("{} cannot be reached: {error}", self.describe())))
    }

    fn refusal(&self, step: Step, error: &smtp::Error) -> SendError {
        let hint = match step {
            _ if is_of_tls(error) && error.to_string().contains("certificate") => {
                "; the certificate must be valid for the host in mail.url, and from an authority that the system trusts, or of \
                 mail.ca_file"
            }
            Step::Connection if is_of_tls(error) => "; for a port with STARTTLS write smtp:// in mail.url",
            Step::Login => "; user and password are in mail.url",
            Step::Sender if error.is_permanent() => "; the sender is mail.from",
            _ => "",
        };
        let text = format!("{}{hint}", shown(&format!("{}, {}: {error}", self.describe(), step.name())));
        let code = error.status().map(u16::from);
        match step {
            _ if error.is_transient() => SendError::Later(text),
            _ if is_of_tls(error) || code.is_some_and(|code| WANTS_LOGIN.contains(&code)) => {
                SendError::Misconfigured(text)
            }
            Step::Recipient | Step::Message if error.is_permanent() => SendError::Refused(text),
            _ if error.is_permanent() || error.is_client() => SendError::Misconfigured(text),
            _ => SendError::Later(text),
        }
    }
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection over TLS",
            Self::Greeting => "greeting",
            Self::Tls => "TLS",
            Self::Login => "log-in",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Message => "message",
        }
    }
}

fn silence(_: Elapsed) -> io::Error {
    ErrorKind::TimedOut.into()
}

/// Whether TLS itself went wrong, and not the connection below it.
fn is_of_tls(error: &smtp::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        // What rustls finds wrong is told like this by tokio-rustls.
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::InvalidData) {
            return true;
        }
        source = error.source();
    }
    error.is_tls()
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the configuration is
#[path = "smtp_tests.rs"]
mod tests;
