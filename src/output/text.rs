//! Text for a terminal: whatever a model, a transcript or a file name says, it moves no cursor,
//! sets no title and colours nothing.

use std::borrow::Cow;

/// Returns the text with every control character but newline and tab shown as `\u{…}` instead of
/// sent. A carriage return could overwrite what stands before it on the line, so it counts as
/// one; so do the characters that turn the direction of the text around them.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_harmful(c: char) -> bool {
    let turns_direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns_direction || (crate::json::is_unsafe(c) && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_shown_and_text_is_not_touched() {
        let rows = [
            ("plain\n\ttext é 日 🦀", "plain\n\ttext é 日 🦀"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("safe\rfake", "safe\\u{d}fake"),
            ("\u{7}\u{0}", "\\u{7}\\u{0}"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ];
        for (text, expected) in rows {
            assert_eq!(harmless(text), expected);
        }
    }
}
