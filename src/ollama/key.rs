//! The secret a hosted server wants. It goes into one header and nowhere else.

use std::fmt;

use reqwest::header::HeaderValue;

use crate::error::{Code, Error, Result};

/// A bearer token. Neither debug prints nor reqwest's own show it.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// Reads a token, white space around it ignored.
    ///
    /// # Errors
    /// [`Code::Config`] for one that is empty or holds what no token does; it is not repeated.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_from("OLLAMA_API_KEY", text)
    }

    /// Reads the same from another source, which the error names.
    ///
    /// # Errors
    /// As [`ApiKey::parse`].
    pub fn parse_from(source: &str, text: &str) -> Result<Self> {
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::new(
                Code::Config,
                format!("{source} is no API key: it must be visible ASCII without spaces"),
            ));
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .expect("visible ASCII is a valid header value");
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// Returns the value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_never_shown() {
        let key = ApiKey::parse(" s3cret\n").expect("a key");
        assert_eq!(key.header().as_bytes(), b"Bearer s3cret");
        assert!(!format!("{key:?} {:?}", key.header()).contains("s3cret"));
        for bad in ["", "  ", "two words", "line\nbreak", "naïve"] {
            let error = ApiKey::parse(bad).expect_err(bad);
            assert_eq!(error.code, Code::Config, "{bad:?}");
            assert!(
                bad.trim().is_empty() || !error.to_string().contains(bad),
                "{bad:?}"
            );
        }
    }
}
