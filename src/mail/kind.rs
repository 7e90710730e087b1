//! What a mail is about.

/// What a mail is about. Each has texts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A forgotten password.
    Reset,
    /// The proof of an address that was registered.
    Verify,
    /// The proof of an address that is to take the place of another; goes to the new one.
    Change,
    /// The address was changed: how to take it back; goes to the old one.
    Undo,
    /// An address that has an account was registered again.
    Known,
    /// Something has happened to the account.
    Notice,
    /// Shows that mail arrives.
    Test,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Reset, Self::Verify, Self::Change, Self::Undo, Self::Known, Self::Notice, Self::Test];

    /// The name in the names of files, and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Verify => "verify",
            Self::Change => "change",
            Self::Undo => "undo",
            Self::Known => "known",
            Self::Notice => "notice",
            Self::Test => "test",
        }
    }

    /// By its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The placeholders that have a value in mails of this kind.
    pub const fn placeholders(self) -> &'static [&'static str] {
        match self {
            Self::Reset | Self::Verify => &["link", "code", "minutes", "email", "issuer", "name"],
            Self::Change => &["link", "code", "minutes", "email", "new_email", "issuer", "name"],
            Self::Undo => &["link", "email", "new_email", "issuer", "name"],
            Self::Known => &["link", "email", "issuer", "name"],
            Self::Notice => &["event", "email", "issuer", "name"],
            Self::Test => &["email", "issuer"],
        }
    }

    /// Whether a mail of this kind is of no use without its link.
    pub const fn needs_link(self) -> bool {
        matches!(self, Self::Reset | Self::Verify | Self::Change | Self::Undo)
    }

    /// The built-in texts, in English: plain and HTML.
    pub(super) const fn built_in(self) -> (&'static str, &'static str) {
        macro_rules! texts {
            ($name:literal) => {
                (
                    include_str!(concat!("templates/", $name, ".en.txt")),
                    include_str!(concat!("templates/", $name, ".en.html")),
                )
            };
        }
        match self {
            Self::Reset => texts!("reset"),
            Self::Verify => texts!("verify"),
            Self::Change => texts!("change"),
            Self::Undo => texts!("undo"),
            Self::Known => texts!("known"),
            Self::Notice => texts!("notice"),
            Self::Test => texts!("test"),
        }
    }
}
