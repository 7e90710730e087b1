//! The service manager: what it tells this process (systemd.exec(5)), what it hands over (sd_listen_fds(3)), and what it is
//! told (sd_notify(3)).

mod manager;
mod sockets;

use std::env;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::fstat;

pub use self::manager::Manager;
pub use self::sockets::Passed;

/// Whether `stream`, which is standard error, is the journal: `$JOURNAL_STREAM` names the file that it would be then, as
/// `DEVICE:INODE`. A program in between, such as a shell with a redirection, may have made it another one.
pub fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else { return false };
    let is = || -> io::Result<String> {
        let file = fstat(stream)?;
        Ok(format!("{}:{}", file.st_dev, file.st_ino))
    };
    is().is_ok_and(|file| file == named)
}
