//! What a server says of a model: the answer to `POST /api/show`, of which the window matters. It is
//! the only place that says how much a model can really read.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The window the model was trained for, in tokens.
    pub context_length: Option<u64>,
    /// When the model was changed last.
    pub modified_at: Option<String>,
}

impl Shown {
    /// Reads the answer. The window is under a key that begins with the architecture's name:
    /// `model_info["gemma3.context_length"]`.
    ///
    /// # Errors
    /// For what is no JSON object.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            model_info: Map<String, Value>,
            modified_at: Option<String>,
        }
        let Answer {
            model_info,
            modified_at,
        } = serde_json::from_slice(bytes)?;
        let mut lengths = model_info
            .iter()
            .filter(|(key, _)| key.ends_with(".context_length"));
        let context_length = lengths
            .find_map(|(_, value)| value.as_u64())
            .filter(|length| *length > 0);
        Ok(Self {
            context_length,
            modified_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_found_under_any_architecture() {
        let recorded = crate::ollama::fixtures::body("show");
        let shown = Shown::read(&recorded).expect("an answer");
        assert_eq!(shown.context_length, Some(32_768));
        let rows = [
            (
                r#"{"model_info":{"llama.context_length":131072,"llama.x":1}}"#,
                Some(131_072),
            ),
            (r#"{"model_info":{"llama.context_length":0}}"#, None),
            (r#"{"model_info":{}}"#, None),
            (r#"{"license":"MIT"}"#, None),
        ];
        for (answer, expected) in rows {
            let shown = Shown::read(answer.as_bytes()).expect(answer);
            assert_eq!(shown.context_length, expected, "{answer}");
        }
        assert!(Shown::read(b"<html>").is_err());
    }
}
