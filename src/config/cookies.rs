//! The rules about cookies.

use super::address::{cookie_domain, cookie_name};
use super::parse::switch;
use super::reader::Reader;
use super::{Cookies, SameSite};

/// Reads the section `cookies`.
pub(super) fn cookies(reader: &mut Reader) -> Option<Cookies> {
    let access_name = reader.read("cookies.access_name", cookie_name);
    let refresh_name = reader.read("cookies.refresh_name", cookie_name);
    let secure = reader.read("cookies.secure", switch);
    let domain = reader.optional("cookies.domain", cookie_domain);
    if let (Some(access), Some(refresh)) = (&access_name, &refresh_name)
        && access.eq_ignore_ascii_case(refresh)
    {
        reader
            .refuse("cookies.refresh_name", "is the same as cookies.access_name: one cookie would overwrite the other");
    }
    for (key, name) in [("cookies.access_name", &access_name), ("cookies.refresh_name", &refresh_name)] {
        let Some(name) = name else { continue };
        if let (Some(prefix), Some(false)) = (prefix(name), secure) {
            let problem = format!("begins with {prefix}, which browsers take with cookies.secure = true only");
            reader.refuse(key, problem);
        }
        if let (Some("__Host-"), Some(Some(_))) = (prefix(name), &domain) {
            let problem = "begins with __Host-, which browsers take without cookies.domain only";
            reader.refuse(key, problem);
        }
    }
    let same_site = reader.read("cookies.same_site", same_site);
    if same_site == Some(SameSite::None) {
        if secure == Some(false) {
            reader.refuse("cookies.same_site", "is none, which browsers take with cookies.secure = true only");
        }
        if reader.parts("cors.allowed_origins").is_empty() {
            reader.refuse(
                "cookies.same_site",
                "is none, so pages of other sites may use the cookie: name them in cors.allowed_origins",
            );
        }
    }
    Some(Cookies {
        access_name: access_name?,
        refresh_name: refresh_name?,
        secure: secure?,
        domain: domain?,
        same_site: same_site?,
    })
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
    use super::super::resolved as resolve;

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
