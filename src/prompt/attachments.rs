//! What a turn carries besides its text, read in and checked before anybody is asked: images,
//! the format of the reply, tools and the results of their calls.
//!
//! An image is a regular file of a kind Ollama takes, told by its first bytes; a pipe or a device in
//! its place is refused before it is read, so that nothing waits for it. Definitions and results may also come from a pipe that
//! has a path, as the prompt may.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::{Source, read_text, unreadable};
use crate::digest::sha256;
use crate::error::{Code, Error, Result};
use crate::platform::open_without_waiting;
use crate::session::attachment::{Attachments, Blob, Image, ToolResult};

/// The largest image that is sent, in bytes.
pub const LARGEST_IMAGE: u64 = 20 << 20;

/// Bytes of all images of a message together: with its text they fit a draft.
pub const LARGEST_IMAGES: u64 = 40 << 20;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attached {
    /// The files of the images.
    pub images: Vec<PathBuf>,
    /// What the reply is to be.
    pub format: Option<Format>,
    /// How long the model stays loaded, as it is sent.
    pub keep_alive: Option<Value>,
    /// The file of the tools.
    pub tools: Option<PathBuf>,
    /// The names of tools, and where their results come from.
    pub tool_results: Vec<(String, Source)>,
}

impl Attached {
    /// Tells whether reading it may last: something comes from a file that may be a pipe.
    #[must_use]
    pub fn may_last(&self) -> bool {
        let is_file = |(_, source): &(String, Source)| matches!(source, Source::File(_));
        let has_schema = matches!(self.format, Some(Format::Schema(_)));
        has_schema || self.tools.is_some() || self.tool_results.iter().any(is_file)
    }
}

/// What a reply is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Any JSON.
    Json,
    /// JSON that follows the schema in a file.
    Schema(PathBuf),
}

/// Reads what is attached.
///
/// # Errors
/// `usage` for what cannot be read, is too large or is not what it should be.
pub fn read(attached: &Attached) -> Result<Attachments> {
    let mut images = Vec::with_capacity(attached.images.len());
    let mut bytes = 0;
    for path in &attached.images {
        let image = read_image(path)?;
        bytes += image.blob.bytes;
        if bytes > LARGEST_IMAGES {
            return Err(usage("the images are too large together").because(format!(
                "they may have {LARGEST_IMAGES} bytes in one message"
            )));
        }
        images.push(image);
    }
    let result = |(name, source): &(String, Source)| {
        let content = read_text(source, &format!("result of `{name}`"))?;
        Ok(ToolResult {
            name: name.clone(),
            id: None,
            content,
        })
    };
    Ok(Attachments {
        images,
        format: match &attached.format {
            None => None,
            Some(Format::Json) => Some("json".into()),
            Some(Format::Schema(path)) => Some(schema(path)?),
        },
        keep_alive: attached.keep_alive.clone(),
        tools: attached.tools.as_deref().map(tools).transpose()?,
        tool_results: attached
            .tool_results
            .iter()
            .map(result)
            .collect::<Result<_>>()?,
    })
}

fn read_image(path: &Path) -> Result<Image> {
    let what = format!("the image `{}`", path.display());
    let bytes = read_regular(path, &what)?;
    let Some(media_type) = media_type(&bytes) else {
        return Err(usage(format!("{what} is none that can be sent"))
            .because("its first bytes are not those of a PNG, JPEG, WebP or GIF file")
            .hint("convert it first: to PNG or JPEG"));
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Image {
        blob: Blob {
            sha256: sha256(&bytes),
            bytes: bytes.len() as u64,
            media_type: media_type.to_owned(),
            name: name.into_owned(),
        },
        data: encode(&bytes),
    })
}

/// Returns bytes as they are sent.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Returns the bytes of an image.
///
/// # Errors
/// `usage` for data that is no base64: somebody changed the draft it is from.
pub fn decode(image: &Image) -> Result<Vec<u8>> {
    let what = format!("the image `{}`", image.blob.name);
    BASE64
        .decode(&image.data)
        .map_err(|cause| unreadable(&what, cause))
}

/// Reads a regular file. A pipe or a device is opened without waiting and then refused.
fn read_regular(path: &Path, what: &str) -> Result<Vec<u8>> {
    let file = open_without_waiting(path).map_err(|cause| unreadable(what, cause))?;
    let metadata = file.metadata().map_err(|cause| unreadable(what, cause))?;
    if !metadata.is_file() {
        return Err(unreadable(what, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = file.take(LARGEST_IMAGE + 1).read_to_end(&mut bytes);
    read.map_err(|cause| unreadable(what, cause))?;
    if bytes.len() as u64 > LARGEST_IMAGE {
        return Err(usage(format!("{what} is too large"))
            .because(format!("an image may have {LARGEST_IMAGE} bytes"))
            .hint("make it smaller: models scale images down anyway"));
    }
    Ok(bytes)
}

/// Tells what kind of image bytes are, by their beginning.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => None,
    }
}

fn read_json(path: &Path, what: &str) -> Result<Value> {
    let text = read_text(&Source::File(path.to_owned()), what)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map_err(|cause| {
        usage(format!("the {what} in `{}` is not JSON", path.display())).because(cause)
    })
}

fn schema(path: &Path) -> Result<Value> {
    let schema = read_json(path, "schema")?;
    if schema.is_object() {
        return Ok(schema);
    }
    Err(usage(format!(
        "the schema in `{}` is no JSON object",
        path.display()
    ))
    .hint(r#"as in {"type": "object", "properties": {"name": {"type": "string"}}}"#))
}

fn tools(path: &Path) -> Result<Value> {
    let tools = read_json(path, "tools")?;
    let is_tool = |tool: &Value| {
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        name.is_some_and(|name| !name.is_empty())
    };
    let defined = tools.as_array().filter(|tools| !tools.is_empty());
    if defined.is_some_and(|tools| tools.iter().all(is_tool)) {
        return Ok(tools);
    }
    Err(usage(format!("`{}` defines no tools", path.display()))
        .because("tools are a JSON array of objects, each with a `function` that has a `name`")
        .hint(r#"as in [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]"#))
}

fn usage(sentence: impl Into<String>) -> Error {
    Error::new(Code::Usage, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_first_bytes() {
        let rows: [(&str, &[u8], Option<&str>); 9] = [
            ("png", b"\x89PNG\r\n\x1a\n....", Some("image/png")),
            ("jpeg", b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            ("gif", b"GIF89a..", Some("image/gif")),
            ("webp", b"RIFF\x01\x02\x03\x04WEBPVP8 ", Some("image/webp")),
            ("sound", b"RIFF\x01\x02\x03\x04WAVEfmt ", None),
            ("svg", b"<svg xmlns=", None),
            ("pdf", b"%PDF-1.7", None),
            ("cut short", b"\x89PNG", None),
            ("nothing", b"", None),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(media_type(bytes), expected, "{name}");
        }
    }

    /// The hash is the name of a file that other programs check (FIPS 180-4, example "abc").
    #[test]
    fn a_hash_is_sha_256_in_lower_case() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
