//! Where the server is: `OLLAMA_HOST` as Ollama's own client reads it (`Host` and
//! `ConnectableHost` in its envconfig/config.go).
//!
//! Two differences, both because a wrong address should be named rather than replaced: a port
//! that is none is an error here, where that client warns and takes the default; so is a scheme
//! other than http and https, which fails there only when the request is made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::error::{Code, Error, Result};

const DEFAULT_PORT: u16 = 11434;

/// The address of an Ollama server, something a client can connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    https: bool,
    /// `user:password`, percent-encoded; for proxies that ask for it, never shown.
    userinfo: Option<String>,
    /// As it stands in a URL: an IPv6 address has its brackets.
    name: String,
    port: u16,
    /// Empty, or with a slash at its beginning and none at its end.
    path: String,
}

impl Host {
    /// Reads the value of `OLLAMA_HOST`; an empty one is `http://127.0.0.1:11434`.
    ///
    /// # Errors
    /// [`Code::Config`] for what is no address, without the user name and password in it.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|why| {
            let shown: String = without_userinfo(bare(text)).escape_debug().collect();
            let sentence = format!("OLLAMA_HOST is no server address: `{shown}`");
            Error::new(Code::Config, sentence)
                .because(why)
                .hint("an address looks like `127.0.0.1:11434` or `https://example.com/ollama`")
        })
    }

    /// Reads the same from anywhere.
    ///
    /// # Errors
    /// Why it is no address.
    pub fn read(text: &str) -> std::result::Result<Self, String> {
        let value = bare(text);
        let (https, default_port, rest) = match value.split_once("://") {
            None if value == "ollama.com" => (true, 443, value),
            None => (false, DEFAULT_PORT, value),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" => (false, 80, rest),
                "https" => (true, 443, rest),
                _ => return Err("its scheme is neither http nor https".to_owned()),
            },
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hostport) = match authority.rsplit_once('@') {
            Some((userinfo, hostport)) => (Some(userinfo), hostport),
            None => (None, authority),
        };
        let (name, port) = split_port(hostport, default_port)?;
        let base = format!(
            "http://{}{}{name}/{path}",
            userinfo.unwrap_or(""),
            if userinfo.is_some() { "@" } else { "" }
        );
        let url = Url::parse(&base).map_err(|error| error.to_string())?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a path cannot hold `?` or `#`".to_owned());
        }
        Ok(Self {
            https,
            userinfo: userinfo.map(|_| match url.password() {
                Some(password) => format!("{}:{password}", url.username()),
                None => url.username().to_owned(),
            }),
            name: connectable(url.host_str().unwrap_or_default()),
            port,
            path: url
                .path()
                .split('/')
                .filter(|segment| !segment.is_empty())
                .flat_map(|segment| ["/", segment])
                .collect(),
        })
    }

    /// Returns the URL of `endpoint` (`/api/chat`), user name and password included.
    #[must_use]
    pub fn url(&self, endpoint: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let (userinfo, at) = match &self.userinfo {
            Some(userinfo) => (userinfo.as_str(), "@"),
            None => ("", ""),
        };
        let endpoint = endpoint.trim_start_matches('/');
        let Self {
            name, port, path, ..
        } = self;
        format!("{scheme}://{userinfo}{at}{name}:{port}{path}/{endpoint}")
    }

    /// Tells whether the server is spoken to in TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Tells whether the server is on this machine, where no proxy is between.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_localhost() || address(&self.name).is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Tells whether the server is called by the name every machine has for itself; RFC 6761
    /// says what that resolves to, so nobody needs to be asked.
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        self.name == "localhost"
    }
}

/// Splits `name:port`. What looks like an IPv6 address gets its brackets.
fn split_port(text: &str, default: u16) -> std::result::Result<(String, u16), String> {
    if let Some(ip) = address(text) {
        return Ok((in_url(ip), default));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port),
        None => (text, ""),
    };
    let port = match port {
        "" => default,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("the port {digits} is not between 1 and 65535")),
        },
        other => return Err(format!("`{other}` is no port")),
    };
    if name.contains(':') && !name.starts_with('[') {
        return Err("it has too many colons".to_owned());
    }
    // Only a port was given: this machine.
    let name = if name.is_empty() { "127.0.0.1" } else { name };
    Ok((name.to_owned(), port))
}

/// Reads an IP address, with or without the brackets of a URL.
fn address(text: &str) -> Option<IpAddr> {
    text.trim_matches(['[', ']']).parse().ok()
}

fn in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Servers are told to listen on every address with the same variable; a client takes this
/// machine's own instead, as not every system lets it connect to "every address".
fn connectable(name: &str) -> String {
    match address(name).map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => "127.0.0.1".to_owned(),
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => "[::1]".to_owned(),
        _ => name.to_owned(),
    }
}

/// Takes off what shells and files leave around a value.
fn bare(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'']).trim()
}

/// Takes out whatever may be a password, also where the rest is no address.
fn without_userinfo(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    match rest.rsplit_once('@') {
        Some((_, rest)) if scheme.is_empty() => format!("…@{rest}"),
        Some((_, rest)) => format!("{scheme}://…@{rest}"),
        None => value.to_owned(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        let Self {
            name, port, path, ..
        } = self;
        write!(f, "{scheme}://{name}:{port}{path}")
    }
}

/// As [`fmt::Display`]: what is printed for debugging holds no password either.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_read_as_ollama_reads_it() {
        // Up to "ollama.com" the rows of TestHost in Ollama's envconfig/config_test.go, what
        // listens everywhere made connectable.
        let rows = [
            ("empty", "", "http://127.0.0.1:11434"),
            ("only address", "1.2.3.4", "http://1.2.3.4:11434"),
            ("only port", ":1234", "http://127.0.0.1:1234"),
            ("address and port", "1.2.3.4:1234", "http://1.2.3.4:1234"),
            ("hostname", "example.com", "http://example.com:11434"),
            (
                "hostname and port",
                "example.com:1234",
                "http://example.com:1234",
            ),
            ("ipv6 localhost", "[::1]", "http://[::1]:11434"),
            ("ipv6 world open", "[::]", "http://[::1]:11434"),
            ("ipv6 no brackets", "::1", "http://[::1]:11434"),
            ("ipv6 half bracketed", "[::1", "http://[::1]:11434"),
            ("ipv6 + port", "[::1]:1337", "http://[::1]:1337"),
            ("extra space", " 1.2.3.4 ", "http://1.2.3.4:11434"),
            ("extra quotes", "\"1.2.3.4\"", "http://1.2.3.4:11434"),
            (
                "extra space+quotes",
                " \" 1.2.3.4 \" ",
                "http://1.2.3.4:11434",
            ),
            ("extra single quotes", "'1.2.3.4'", "http://1.2.3.4:11434"),
            ("http", "http://1.2.3.4", "http://1.2.3.4:80"),
            ("http port", "http://1.2.3.4:4321", "http://1.2.3.4:4321"),
            ("https", "https://1.2.3.4", "https://1.2.3.4:443"),
            ("https port", "https://1.2.3.4:4321", "https://1.2.3.4:4321"),
            (
                "proxy path",
                "https://example.com/ollama",
                "https://example.com:443/ollama",
            ),
            ("ollama.com", "ollama.com", "https://ollama.com:443"),
            ("listening everywhere", "0.0.0.0", "http://127.0.0.1:11434"),
            ("everywhere, port", "0.0.0.0:80", "http://127.0.0.1:80"),
            (
                "everywhere, all",
                "https://0.0.0.0:8/x",
                "https://127.0.0.1:8/x",
            ),
            ("everywhere, v6", "http://[::]:8", "http://[::1]:8"),
            ("everywhere, v6 bare", "::", "http://[::1]:11434"),
            (
                "everywhere, mapped",
                "[::ffff:0.0.0.0]",
                "http://127.0.0.1:11434",
            ),
            ("full v6", "2001:db8::5", "http://[2001:db8::5]:11434"),
            ("only scheme", "http://", "http://127.0.0.1:80"),
            (
                "upper case",
                "HTTPS://Example.COM",
                "https://example.com:443",
            ),
            ("empty port", "example.com:", "http://example.com:11434"),
            ("slash", "http://h/", "http://h:80"),
            ("doubled slashes", "http://h//a//b/", "http://h:80/a/b"),
            ("path only", "/ollama", "http://127.0.0.1:11434/ollama"),
            ("dots", "http://h/a/../b", "http://h:80/b"),
            ("path with space", "http://h/a b", "http://h:80/a%20b"),
            ("password", "https://me:s3cret@h:1/p", "https://h:1/p"),
            (
                "not ascii",
                "http://bücher.example",
                "http://xn--bcher-kva.example:80",
            ),
        ];
        for (name, value, expected) in rows {
            let host = Host::parse(value).expect(name);
            assert_eq!(host.to_string(), expected, "{name}");
            assert!(!format!("{host:?}").contains("s3cret"), "{name}");
        }
    }

    #[test]
    fn what_is_no_address_is_named_without_its_password() {
        let rows = [
            ("too large port", ":66000", ":66000"),
            ("too small port", ":-1", ":-1"),
            ("zero port", ":0", ":0"),
            ("signed port", "h:+80", "h:+80"),
            ("port is a word", "h:http", "h:http"),
            ("scheme", "ftp://h", "ftp://h"),
            ("colons", "a:b:1", "a:b:1"),
            ("space", "two words", "two words"),
            ("query", "http://h/?a=b", "http://h/?a=b"),
            ("fragment", "http://h/#a", "http://h/#a"),
            ("query without path", "http://h?a", "http://h?a"),
            ("zone", "[fe80::1%eth0]", "[fe80::1%eth0]"),
            ("password", "http://me:s3cret@h:x", "http://…@h:x"),
            ("password, no scheme", "me:s3cret@h:x", "…@h:x"),
            ("control", "h\u{1b}[2J", "h\\u{1b}[2J"),
        ];
        for (name, value, shown) in rows {
            let error = Host::parse(value).expect_err(name);
            assert_eq!(error.code, Code::Config, "{name}");
            let text = error.to_string();
            let start = format!("OLLAMA_HOST is no server address: `{shown}`: ");
            assert!(text.starts_with(&start), "{name}: {text}");
            assert!(!text.contains("s3cret"), "{name}: {text}");
        }
    }

    #[test]
    fn an_endpoint_is_joined_with_one_slash() {
        let rows = [
            ("h:1", "http://h:1/api/chat"),
            ("h:1/", "http://h:1/api/chat"),
            ("https://h/a/b/", "https://h:443/a/b/api/chat"),
            ("http://me:s3cret@h", "http://me:s3cret@h:80/api/chat"),
            ("http://me@h", "http://me@h:80/api/chat"),
            ("http://p@ss:w@h", "http://p%40ss:w@h:80/api/chat"),
        ];
        for (value, expected) in rows {
            let host = Host::parse(value).expect(value);
            assert_eq!(host.url("/api/chat"), expected, "{value}");
            assert_eq!(host.url("api/chat"), expected, "{value}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        let rows = [
            ("", true),
            ("localhost", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("0.0.0.0", true),
            ("10.0.0.1", false),
            ("localhost.example.com", false),
            ("ollama.com", false),
        ];
        for (value, expected) in rows {
            let host = Host::parse(value).expect(value);
            assert_eq!(host.is_loopback(), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error_and_an_address_reads_the_same_again(text in "[a-z0-9:/@.\\[\\]%# \"-]{0,24}") {
            if let Ok(host) = Host::parse(&text) {
                let again = Host::parse(&host.to_string()).expect("it was printed by a host");
                prop_assert_eq!(again.to_string(), host.to_string());
                prop_assert!(reqwest::Url::parse(&host.url("/api/chat")).is_ok());
            }
        }
    }
}
