//! Section `cookies`.

use super::Cors;
use crate::config::address::{cookie_domain, cookie_name};
use crate::config::key::Key;
use crate::config::reader::Reader;
use crate::config::section::section;

section! {
    /// Section `cookies`: what the two are called and who gets them.
    pub struct Cookies in "cookies" {
        /// Name of the access token cookie.
        ///
        /// `__Host-accessToken` is stricter: over TLS, from this host only.
        access_name: String = "accessToken", Key::text(cookie_name);

        /// Name of the refresh token cookie, another one than access_name.
        ///
        /// A `__Host-` name is sent to every path, as the prefix demands.
        refresh_name: String = "refreshToken", Key::text(cookie_name);

        /// Whether cookies travel over TLS only.
        ///
        /// Set it to false only for development over plain http.
        secure: bool = "true", Key::switch();

        /// Domain of both cookies, such as example.com, to share them with all its sub-domains; by default this host only.
        ///
        /// Without it is safer. After a change, cookies of the setting before are neither in the way nor left in the browser.
        domain: Option<String> = "", Key::text(cookie_domain);

        /// SameSite of the refresh token cookie.
        ///
        /// Change it where pages of another site must refresh by cookie; none demands secure = true and cors.allowed_origins,
        /// and lets those pages act for the user.
        same_site: SameSite = "strict", Key::one_of(&["strict", "lax", "none"], same_site);
    }
}

/// Which requests from other sites carry the refresh token cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Following a link.
    Lax,
    /// All.
    None,
}

/// The rules about more than one key.
pub(super) fn check(reader: &mut Reader<'_>) {
    let secure = reader.get(&Cookies::secure);
    let [access_name, refresh_name] = [&Cookies::access_name, &Cookies::refresh_name].map(|key| reader.get(key));
    if let (Some(access), Some(refresh)) = (&access_name, &refresh_name)
        && access.eq_ignore_ascii_case(refresh)
    {
        let problem = format!("is the same as {}: one cookie would overwrite the other", Cookies::access_name);
        reader.refuse(&Cookies::refresh_name, problem);
    }
    for (key, name) in [(&Cookies::access_name, access_name), (&Cookies::refresh_name, refresh_name)] {
        let Some(prefix) = name.as_deref().and_then(prefix) else { continue };
        if secure == Some(false) {
            reader
                .refuse(key, format!("begins with {prefix}, which browsers take with {} = true only", Cookies::secure));
        }
        if let ("__Host-", Some(Some(_))) = (prefix, reader.get(&Cookies::domain)) {
            reader.refuse(key, format!("begins with __Host-, which browsers take without {} only", Cookies::domain));
        }
    }
    if reader.get(&Cookies::same_site) == Some(SameSite::None) {
        if secure == Some(false) {
            let problem = format!("is none, which browsers take with {} = true only", Cookies::secure);
            reader.refuse(&Cookies::same_site, problem);
        }
        if reader.get(&Cors::allowed_origins).is_some_and(|origins| origins.is_empty()) {
            let origins = Cors::allowed_origins;
            let problem = format!("is none, so pages of other sites may use the cookie: name them in {origins}");
            reader.refuse(&Cookies::same_site, problem);
        }
    }
}

fn same_site(text: &str) -> Result<SameSite, String> {
    match text.to_ascii_lowercase().as_str() {
        "strict" => Ok(SameSite::Strict),
        "lax" => Ok(SameSite::Lax),
        "none" => Ok(SameSite::None),
        _ => Err("is none of strict, lax and none".to_owned()),
    }
}

/// The prefix with which `name` asks the browser for more; browsers read it in any case.
fn prefix(name: &str) -> Option<&'static str> {
    ["__Host-", "__Secure-", "__Http-"].into_iter().find(|prefix| {
        let start = name.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
mod tests {
    use super::super::SameSite;
    use crate::config::resolved as resolve;

    #[test]
    fn same_site_none_demands_secure_and_origins() {
        let none = ("cookies.same_site", "none");
        let origins = ("cors.allowed_origins", "https://app.example.com");
        assert_eq!(resolve(&[none, origins]).unwrap().cookies.same_site, SameSite::None);
        assert_eq!(resolve(&[("cookies.same_site", "Lax")]).unwrap().cookies.same_site, SameSite::Lax);
        for (keys, named) in [
            (vec![none], "cors.allowed_origins"),
            (vec![none, origins, ("cookies.secure", "false")], "cookies.secure"),
            (vec![("cookies.same_site", "loose")], "strict, lax and none"),
        ] {
            let refusal = resolve(&keys).unwrap_err();
            assert!(refusal.contains("cookies.same_site") && refusal.contains(named), "{refusal}");
        }
    }

    #[test]
    fn the_two_names_must_differ_whatever_their_case() {
        for (access, refresh) in [("a", "a"), ("Token", "tOKEN"), ("refreshToken", "refreshToken")] {
            let keys = [("cookies.access_name", access), ("cookies.refresh_name", refresh)];
            let refusal = resolve(&keys).unwrap_err();
            assert!(refusal.contains("cookies.access_name"), "{refusal}");
            assert!(refusal.contains("cookies.refresh_name"), "{refusal}");
        }
    }

    #[test]
    fn a_name_with_a_prefix_demands_secure() {
        for name in ["__Host-a", "__Secure-a", "__Http-a", "__host-a", "__SECURE-a"] {
            for key in ["cookies.access_name", "cookies.refresh_name"] {
                let refusal = resolve(&[(key, name), ("cookies.secure", "false")]).unwrap_err();
                assert!(refusal.starts_with(key), "{refusal}");
                assert!(resolve(&[(key, name)]).is_ok());
            }
        }
    }

    #[test]
    fn a_host_prefix_demands_no_domain() {
        let domain = ("cookies.domain", "example.com");
        for key in ["cookies.access_name", "cookies.refresh_name"] {
            let refusal = resolve(&[(key, "__Host-a"), domain]).unwrap_err();
            assert!(refusal.starts_with(key) && refusal.contains("cookies.domain"), "{refusal}");
            let config = resolve(&[(key, "__Secure-a"), domain]).unwrap();
            assert_eq!(config.cookies.domain.as_deref(), Some("example.com"));
        }
    }

    #[test]
    fn an_empty_domain_is_none_and_an_empty_name_is_refused() {
        assert_eq!(resolve(&[("cookies.domain", "")]).unwrap().cookies.domain, None);
        assert!(resolve(&[("cookies.access_name", "")]).is_err());
    }
}
