//! The mails that a server has written into files.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a mail may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of mails, and those that have been read.
pub struct Mailbox {
    folder: PathBuf,
    read: Vec<PathBuf>,
}

/// A mail that has arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    /// Headers and body, decoded.
    pub text: String,
}

impl Mail {
    fn parse(bytes: &[u8]) -> Self {
        let raw = String::from_utf8_lossy(bytes).replace("=\r\n", "");
        let header = |name: &str| {
            let line = raw.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let (to, subject) = (header("To:"), header("Subject:"));
        Self { to, subject, text: raw.replace("=3D", "=").replace("=3d", "=") }
    }

    /// The token of the link.
    #[track_caller]
    pub fn token(&self) -> String {
        let (_, rest) = self.text.split_once("token=").unwrap_or_else(|| panic!("no link in {}", self.text));
        let is_token = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        rest.chars().take_while(is_token).collect()
    }

    /// The eight digits.
    #[track_caller]
    pub fn code(&self) -> String {
        let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit());
        let code = self.text.lines().map(str::trim).find(is_code);
        code.unwrap_or_else(|| panic!("no code in {}", self.text)).to_owned()
    }
}

impl Mailbox {
    /// Of a server that writes mails into this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), read: Vec::new() }
    }

    /// All that have arrived and have not been read.
    pub fn unread(&mut self) -> Vec<Mail> {
        let mut paths: Vec<PathBuf> = match fs::read_dir(&self.folder) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.retain(|path| path.extension().is_some_and(|end| end == "eml") && !self.read.contains(path));
        paths.sort();
        let mails = paths.iter().map(|path| Mail::parse(&fs::read(path).unwrap())).collect();
        self.read.extend(paths);
        mails
    }

    /// So many, which is waited for, in the order of their recipients and subjects.
    #[track_caller]
    pub fn wait_for(&mut self, count: usize) -> Vec<Mail> {
        let (began, mut mails) = (Instant::now(), Vec::new());
        loop {
            mails.extend(self.unread());
            if mails.len() >= count {
                assert_eq!(mails.len(), count, "{mails:?}");
                mails.sort_by(|a, b| (&a.to, &a.subject).cmp(&(&b.to, &b.subject)));
                return mails;
            }
            assert!(began.elapsed() < PATIENCE, "{} of {count} mails: {mails:?}", mails.len());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The next one, which is waited for.
    #[track_caller]
    pub fn receive(&mut self) -> Mail {
        self.wait_for(1).remove(0)
    }
}
