//! The address of a service, checked before a key is sent there.

use plugin_api::{Code, Error, Result};
use ureq::http::Uri;

/// The common beginning of a service's URLs, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub base: String,
    /// The host with the port, if it is not the default one.
    pub host: String,
    pub loopback: bool,
    /// Whether it is neither encrypted nor within this machine or a private network.
    pub exposed: bool,
}

impl Address {
    /// Parses one address. `path` is the default path.
    pub fn parse(text: &str, path: &str) -> Result<Address> {
        let shown = crate::secret::redact(text);
        let wrong = |why: &str| {
            let error = Error::new(Code::SETTINGS, format!("setting `base_url` holds `{shown}`, {why}"));
            error.help("as in `base_url=http://127.0.0.1:8000/v1`; several are separated by commas")
        };
        let text = text.trim().trim_end_matches('/');
        let uri: Uri = text.parse().map_err(|_| wrong("which is not an address"))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(wrong("expected it to begin with `http://` or `https://`"));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| wrong("which names no host"))?
            .as_str()
            .to_ascii_lowercase();
        if authority.contains('@') || uri.query().is_some() {
            return Err(wrong(
                "which holds more than a host and a path; a key or password has no place there",
            ));
        }
        let name = uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let host = authority.strip_suffix(usual).unwrap_or(&authority).to_owned();
        let own_path = uri.path().trim_end_matches('/');
        let path = if own_path.is_empty() { path } else { own_path };
        let loopback = is_loopback(&name);
        Ok(Address {
            base: format!("{scheme}://{host}{path}"),
            exposed: scheme == "http" && !loopback && !is_private(&name),
            host,
            loopback,
        })
    }

    /// Several addresses, separated by commas.
    pub fn parse_all(text: &str, path: &str) -> Result<Vec<Address>> {
        let pieces = text.split(',').filter(|piece| !piece.trim().is_empty());
        let all: Vec<Address> = pieces.map(|piece| Address::parse(piece, path)).collect::<Result<_>>()?;
        match all.is_empty() {
            true => Err(Error::new(Code::SETTINGS, "setting `base_url` is empty")),
            false => Ok(all),
        }
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name == "::1" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the address is in a private network: by its number, or because its name has no dot.
fn is_private(name: &str) -> bool {
    match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
        Ok(std::net::IpAddr::V6(ip)) => (ip.segments()[0] & 0xfe00) == 0xfc00 || (ip.segments()[0] & 0xffc0) == 0xfe80,
        Err(_) => !name.contains('.') || [".local", ".internal", ".lan"].iter().any(|end| name.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_looked_at() {
        let read = |text: &str| Address::parse(text, "/v1").unwrap();
        assert_eq!(read("http://127.0.0.1:8000").base, "http://127.0.0.1:8000/v1");
        assert_eq!(
            read("https://Example.com:443/api/v1/").base,
            "https://example.com/api/v1"
        );
        assert_eq!(read("https://example.com:444/v1").host, "example.com:444");
        assert!(read("http://localhost:1").loopback && read("http://[::1]:1").loopback);
        assert!(read("http://example.com").exposed && !read("https://example.com").exposed);
        assert!(!read("http://gpu-1:8000/v1").exposed && !read("http://10.0.0.7:8000").exposed);
        assert_eq!(Address::parse_all("http://a/v1, http://b/v1", "").unwrap().len(), 2);
        for wrong in [
            "",
            "ftp://x",
            "http://",
            "http://user:word@x/",
            "http://x/?key=abcdefgh",
            "x",
        ] {
            let error = Address::parse_all(wrong, "/v1").unwrap_err().to_string();
            assert!(error.contains("base_url") && !error.contains("abcdefgh"), "{error}");
        }
    }
}
