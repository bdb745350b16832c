//! Who may ask: a web page must not reach the cache by DNS rebinding (`Host`) or from its own origin (`Origin`).

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HeaderValue;

use super::fields::{Field, Fields};
use super::problem::{Problem, ProblemType};

/// Hosts and origins that are let in.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    /// Lets in this host itself and what the settings add.
    pub(crate) fn new(settings: &sidegrid_config::Http) -> Guard {
        Guard { hosts: settings.allowed_hosts.clone(), origins: settings.allowed_origins.clone() }
    }

    /// Checks a request that came in at `local` (none: through the Unix socket, which no web page reaches, so that
    /// its `Host` says nothing). Gives the origin that it was let in from.
    ///
    /// # Errors
    /// A foreign host (421), any origin that is not allowed (403), or no `Host` (400).
    pub(crate) fn check<'a>(
        &self,
        fields: &Fields<'a>,
        uri: &Uri,
        local: Option<IpAddr>,
    ) -> Result<Option<&'a HeaderValue>, Problem> {
        if let Some(local) = local {
            self.check_host(fields, uri, local)?;
        }
        let Some(origin) = fields.line(Field::Origin) else { return Ok(None) };
        let allowed = |text: &str| self.origins.iter().any(|o| o.eq_ignore_ascii_case(text));
        if origin.to_str().is_ok_and(allowed) {
            return Ok(Some(origin));
        }
        Err(Problem::new(
            ProblemType::ForeignOrigin,
            "requests with an Origin are refused unless http.allowedOrigins has it",
        ))
    }

    fn check_host(&self, fields: &Fields<'_>, uri: &Uri, local: IpAddr) -> Result<(), Problem> {
        // HTTP/2 and absolute targets name the host in the target; both are checked when both are there.
        let named = uri.authority().map(|a| a.as_str());
        let field = fields.line(Field::Host).map(|h| h.to_str().unwrap_or_default());
        if named.is_none() && field.is_none() {
            return Err(Problem::header("Host", "is missing"));
        }
        if [named, field].into_iter().flatten().all(|authority| self.is_ours(authority, local)) {
            return Ok(());
        }
        Err(Problem::new(ProblemType::WrongHost, "the Host is neither this host nor in http.allowedHosts"))
    }

    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let host = without_port(authority);
        if host == "127.0.0.1" || host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            // An attacker's page has a name; whoever knows the address itself is no page.
            Ok(address) if address.is_loopback() || address == local => true,
            Ok(address) => self.hosts.iter().any(|h| h.parse::<IpAddr>() == Ok(address)),
            Err(_) => self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)),
        }
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod unit {
    use hyper::HeaderMap;
    use hyper::header::{HOST, ORIGIN};

    use super::*;

    fn check(host: &'static str, local: &str) -> Result<(), ProblemType> {
        let settings = sidegrid_config::Http {
            allowed_hosts: vec!["cache.example".into(), "10.9.9.9".into()],
            ..sidegrid_config::Http::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        let local = local.parse().unwrap();
        Guard::new(&settings)
            .check(&Fields::of(&headers).unwrap(), &Uri::from_static("/"), Some(local))
            .map(|_| ())
            .map_err(|p| p.kind)
    }

    #[test]
    fn this_host_and_allowed_ones_pass() {
        for host in [
            "localhost",
            "LOCALHOST:7080",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:7080",
            "127.8.8.8",
            "10.0.0.7:7080",
            "cache.example",
            "Cache.Example:80",
            "10.9.9.9:1",
        ] {
            assert_eq!(check(host, "10.0.0.7"), Ok(()), "{host}");
        }
    }

    #[test]
    fn foreign_hosts_do_not() {
        for host in [
            "evil.example",
            "10.0.0.8:7080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::2]",
            "::1:80x",
            "cache.example.evil",
            "user@localhost",
            "localhost:80:90",
            "0.0.0.0",
        ] {
            assert_eq!(check(host, "10.0.0.7"), Err(ProblemType::WrongHost), "{host}");
        }
    }

    #[test]
    fn any_origin_is_foreign_unless_allowed_whatever_the_socket() {
        let settings = sidegrid_config::Http {
            allowed_origins: vec!["https://app.example".into()],
            ..sidegrid_config::Http::default()
        };
        let guard = Guard::new(&settings);
        for (origin, fine) in [
            ("https://app.example", true),
            ("https://app.example:444", false),
            ("http://localhost:7080", false),
            ("null", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(
                guard.check(&Fields::of(&headers).unwrap(), &Uri::from_static("/"), None).is_ok(),
                fine,
                "{origin}"
            );
        }
    }
}
