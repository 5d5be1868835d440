//! Blobs: bytes that are no text, named by the SHA-256 of them, so that the same image is stored once
//! in a session however often it is sent.

use crate::digest::sha256;
use crate::session::attachment::Blob;

/// The most that is read of a blob of which only the name is known, in bytes.
const LARGEST: u64 = 1 << 30;

/// What is said of bytes that are not what their name says.
pub const DAMAGED: &str = "its bytes are damaged";

/// Returns a blob of which only the name is known.
#[must_use]
pub fn named(name: &str) -> Blob {
    Blob {
        sha256: name.to_owned(),
        bytes: LARGEST,
        media_type: String::new(),
        name: String::new(),
    }
}

/// Bytes that are to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The hash of the bytes.
    pub sha256: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Tells whether this may be the name of a blob: SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn is_blob_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the bytes of a blob if they are what its name says.
///
/// # Errors
/// [`DAMAGED`].
pub fn sound(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, String> {
    if sha256(&bytes) == name {
        Ok(bytes)
    } else {
        Err(DAMAGED.to_owned())
    }
}

/// Returns the blobs that the line of an event names.
///
/// Any word of it that could be a blob's name counts, whatever the event is: one of a newer
/// program may name them in another way.
pub fn names_in(line: &[u8]) -> impl Iterator<Item = &str> {
    line.split(|byte| !byte.is_ascii_hexdigit())
        .filter_map(|word| str::from_utf8(word).ok())
        .filter(|word| is_blob_name(word))
}
