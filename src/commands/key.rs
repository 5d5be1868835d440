//! The idempotency key of a turn, and the request it stands for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::digest::sha256;
use crate::json;
use crate::session::attachment::ToolResult;
use crate::session::event::{Key, Settings};

/// What a caller asked under a key: neither the history nor what the session knows.
///
/// Absent keys are left out, so that the hash of a request stays what it is when a version to
/// come knows more to ask for.
#[derive(Debug, Serialize)]
pub(super) struct KeyedRequest<'a> {
    pub(super) key: &'a str,
    pub(super) prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) system: Option<&'a str>,
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub(super) template: &'a Settings,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) options: BTreeMap<&'a String, &'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) think: Option<&'a Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) tool_results: &'a [ToolResult],
}

impl KeyedRequest<'_> {
    /// Returns the key with the hash of the request.
    pub(super) fn key(&self) -> Key {
        Key {
            key: self.key.to_owned(),
            request: sha256(json::line(self)),
        }
    }
}
