//! How a section of the configuration is declared: a struct whose fields are its keys.

use super::key::KeyInfo;

/// A section, for what goes through all keys.
pub(super) struct Section {
    /// As in TOML, without brackets.
    pub(super) name: &'static str,
    /// In the order in which they are shown.
    pub(super) keys: &'static [&'static KeyInfo],
}

/// Declares the section `NAME` as a struct. A field `FIELD: TYPE = DEFAULT, KEY;` is the key `NAME.FIELD`, which the rest
/// of the room calls `Struct::FIELD`: a name that is no key does not compile. Its doc comment is all that is written about
/// it: what it does, then when to change it. The example file and the page of documentation are made from that.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $Struct:ident in $section:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:tt, $key:expr; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        $vis struct $Struct {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\n", "Key `", $section, ".", stringify!($field), "`", section!(@default $default), ".")]
                pub $field: $type,
            )+
        }

        #[expect(non_upper_case_globals, reason = "a key has the name that it has in the file")]
        #[allow(clippy::allow_attributes, dead_code, reason = "most keys are only read")]
        impl $Struct {
            $(
                pub(crate) const $field: $crate::config::key::Key<$type> = $key.declared(
                    concat!($section, ".", stringify!($field)),
                    $default,
                    concat!($($doc, "\n"),+),
                );
            )+

            pub(in crate::config) const SECTION: $crate::config::section::Section = $crate::config::section::Section {
                name: $section,
                keys: &[$( &Self::$field.info ),+],
            };

            /// Every value, or none if one is wrong.
            pub(in crate::config) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                $( let $field = reader.read(&Self::$field); )+
                Some(Self { $( $field: $field? ),+ })
            }
        }
    };
    (@default "") => { "" };
    (@default $default:literal) => { concat!(", by default `", $default, "`") };
}

pub(super) use section;
