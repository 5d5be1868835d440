//! The address of a database, as it is given and as it may be shown.
//!
//! An address may hold a password, so it is a type of its own that has no way of being printed
//! whole: what is shown are hosts and database, and only where they can be told from the rest.
//! A password with an unescaped `/`, `@` or `:` must not be shown as part of a host either.

use std::fmt;

/// The database that is used where the address names none.
pub const DEFAULT_DATABASE: &str = "ollama_prompt";

const PLAIN: &str = "mongodb://";
const BY_DNS: &str = "mongodb+srv://";

/// The address of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    text: String,
    shown: String,
    database: String,
    secrets: Vec<String>,
}

impl Uri {
    /// Reads an address.
    ///
    /// # Errors
    /// Why it is none, as the end of a sentence, and without it.
    pub fn new(text: String) -> Result<Self, &'static str> {
        let by_dns = text.starts_with(BY_DNS);
        let rest = text
            .strip_prefix(PLAIN)
            .or_else(|| text.strip_prefix(BY_DNS))
            .ok_or("it begins with neither mongodb:// nor mongodb+srv://")?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        // The last @ there is: whatever stands before it may be a password.
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        // The ? may be one of a password, which then goes on behind it.
        let is_password_cut = |user: Option<&str>| user.is_none() && options.contains('@');
        if is_password_cut(user) || !options.split('&').all(is_option) {
            return Err(
                "there is an @ behind its ?: write @ as %40 in its options, and @ and ? as %40 and %3F in user and password",
            );
        }
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        if !hosts.split(',').all(is_host) {
            return Err(
                "it names no host, or a user or password in it has a character that must be escaped",
            );
        }
        if !database
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        {
            return Err("the name of its database has more than letters, digits, - and _");
        }
        if user.is_some_and(|user| user.contains(['/', '@', '?'])) {
            return Err("user or password have a character that must be escaped");
        }
        let database = if database.is_empty() {
            DEFAULT_DATABASE
        } else {
            database
        };
        let scheme = if by_dns { BY_DNS } else { PLAIN };
        Ok(Self {
            shown: format!("{scheme}{hosts}/{database}"),
            database: database.to_owned(),
            secrets: secrets(user.unwrap_or_default(), options),
            text,
        })
    }

    /// Returns the whole of it, for whoever connects.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        &self.text
    }

    /// Returns the name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns `text` without anything of the address that is secret.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        let cover = |text: String, secret: &String| text.replace(secret, "***");
        self.secrets.iter().fold(text.to_owned(), cover)
    }

    /// Tells whether the servers are to be asked of the name service.
    #[must_use]
    pub fn is_by_dns(&self) -> bool {
        self.text.starts_with(BY_DNS)
    }

    /// Tells whether the address asks for TLS.
    #[must_use]
    pub fn asks_for_tls(&self) -> bool {
        let asked = self.option("tls").or_else(|| self.option("ssl"));
        asked.map_or(self.is_by_dns(), |asked| asked == "true")
    }

    fn option(&self, name: &str) -> Option<&str> {
        let (_, options) = self.text.split_once('?')?;
        let mut options = options
            .split('&')
            .filter_map(|option| option.split_once('='));
        let found = options.find(|(option, _)| option.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// Tells whether a text is meant to be an address, however it is misspelt: it may hold a password.
#[must_use]
pub fn is_meant(text: &str) -> bool {
    let scheme = text.trim_start().split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        let schemes = ["mongodb", "mongodb+srv"].iter();
        schemes
            .into_iter()
            .any(|one| scheme.eq_ignore_ascii_case(one))
    })
}

/// As it may be shown: hosts and database.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uri").field(&self.shown).finish()
    }
}

/// Tells whether this is a host, with or without a port, and cannot be a user and a password.
fn is_host(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let is_port = port.strip_prefix(':').is_none_or(is_port);
        return is_port
            && address
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_name) && is_port(port)
}

/// Tells whether this is an option, as far as an @ in it is one of its value.
fn is_option(text: &str) -> bool {
    let (name, _) = text.split_once('=').unwrap_or((text, ""));
    !name.contains('@')
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Returns what must never be shown: passwords as they are written and as they are meant.
fn secrets(user: &str, options: &str) -> Vec<String> {
    let password = user.split_once(':').map_or("", |(_, password)| password);
    let of_options = options.split('&').filter_map(|option| {
        let (name, value) = option.split_once('=')?;
        let name = name.to_ascii_lowercase();
        (name.contains("password") || name == "authmechanismproperties").then_some(value)
    });
    let mut secrets = Vec::new();
    for secret in std::iter::once(password).chain(of_options) {
        if !secret.is_empty() {
            secrets.push(secret.to_owned());
            secrets.push(unescaped(secret));
        }
    }
    // A longer one may have a shorter one in it.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Returns a text with its percent escapes undone; what is none stays.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_hosts_and_a_database_and_no_more() {
        for (given, shown) in [
            ("mongodb://localhost", "mongodb://localhost/ollama_prompt"),
            (
                "mongodb://u:secret@h1:1,h2:2/db?replicaSet=rs",
                "mongodb://h1:1,h2:2/db",
            ),
            (
                "mongodb://u:sec%40ret@[::1]:27017/?tls=true",
                "mongodb://[::1]:27017/ollama_prompt",
            ),
            (
                "mongodb://secret@host?tls=true",
                "mongodb://host/ollama_prompt",
            ),
            (
                "mongodb://u:secret@h/db?tlsCAFile=/x@y.pem&appName=a@b",
                "mongodb://h/db",
            ),
            ("mongodb://h/db?appName=a%40b", "mongodb://h/db"),
        ] {
            let uri = Uri::new(given.to_owned()).expect(given);
            assert_eq!(uri.to_string(), shown);
            assert!(!format!("{uri:?}").contains("secret"), "{uri:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_told() {
        for given in [
            "",
            "secret",
            "postgres://u:secret@host/db",
            "mongodb://u:sec/ret@host/db",
            "mongodb://u:sec@ret@host/db",
            "mongodb://u:sec?ret@host/db",
            "mongodb://u:sec?r=et@host/db",
            "mongodb://u:s@sec?ret@host/db",
            "mongodb://u:s@sec?a=b&ret@host/db",
            "mongodb://h/?appName=sec@ret",
            "mongodb://u:secret",
            "mongodb://u:secret/host",
            "mongodb://u:secret@host/a b",
            "mongodb://u:secret@",
            "mongodb://host:secret@host:port",
        ] {
            let why = Uri::new(given.to_owned()).expect_err(given);
            assert!(
                !why.contains("sec") && !why.contains("ret@"),
                "{given}: {why}"
            );
        }
    }

    #[test]
    fn an_at_sign_in_the_options_is_to_be_escaped_where_it_may_end_a_password() {
        for given in ["mongodb://h/?appName=a@b", "mongodb://u:p?w@h/db"] {
            let why = Uri::new(given.to_owned()).expect_err(given);
            assert!(why.contains("%40"), "{given}: {why}");
        }
    }

    #[test]
    fn an_address_is_known_however_it_is_misspelt() {
        for text in [
            "mongodb://h",
            "mongodb:/u:p@h",
            "MongoDB+SRV://h",
            " mongodb:h",
        ] {
            assert!(is_meant(text), "{text}");
        }
        for text in ["", "mongodb", "mongodb/x:y", "x/mongodb:", "mongodbs:"] {
            assert!(!is_meant(text), "{text}");
        }
    }

    #[test]
    fn a_password_is_covered_as_it_is_written_and_as_it_is_meant() {
        let uri =
            Uri::new("mongodb://u:p%40ss@h/?tlsCertificateKeyFilePassword=k3y&tls=true".to_owned());
        let uri = uri.expect("an address");
        let told = uri.without_secrets("p%40ss, p@ss and k3y, at h");
        assert_eq!(told, "***, *** and ***, at h");
        assert!(uri.asks_for_tls());
        for (given, expected) in [
            ("mongodb://h", false),
            ("mongodb://h/?TLS=true", true),
            ("mongodb://h/?ssl=true", true),
            ("mongodb://h/?tls=false", false),
        ] {
            let uri = Uri::new(given.to_owned()).expect(given);
            assert_eq!(uri.asks_for_tls(), expected, "{given}");
        }
    }
}
