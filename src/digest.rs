//! SHA-256, as it is written down: in lower-case hexadecimal.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Returns the SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the SHA-256 of parts one after another.
#[must_use]
pub fn sha256_of_all<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// Returns the SHA-256 of all there is to be read, a piece at a time.
///
/// # Errors
/// As the system says.
pub fn sha256_of_all_in(source: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut piece = [0; 16 << 10];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    };
    digest.iter().flat_map(digits).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_sha256sum_says() {
        // FIPS 180-2, appendix B, and the empty message.
        let rows = [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(sha256(text), expected);
            assert_eq!(
                sha256_of_all(text.split("b").flat_map(|part| [part, "b"]).take(3)),
                {
                    let joined: String = text
                        .split("b")
                        .flat_map(|part| [part, "b"])
                        .take(3)
                        .collect();
                    sha256(joined)
                }
            );
            assert_eq!(
                sha256_of_all_in(&mut text.as_bytes()).expect("memory"),
                expected
            );
        }
        let long = vec![b'x'; 100_000];
        assert_eq!(
            sha256_of_all_in(&mut &*long).expect("memory"),
            sha256(&long)
        );
    }
}
