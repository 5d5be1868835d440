//! Code in a transcript, coloured by classes of the page's own style: the highlighter would put
//! colours of its own into every word.

use std::fmt;
use std::sync::OnceLock;

use syntect::html::{ClassStyle, ClassedHTMLGenerator};
use syntect::parsing::SyntaxSet;
use syntect::util::LinesWithEndings;

use super::markup::{attribute, shown, text};

/// The longest block that is coloured, in bytes, and the longest line in one. Grammars are regular
/// expressions, and some take the square of a line's length.
const LONGEST_BLOCK: usize = 64 << 10;
const LONGEST_LINE: usize = 2000;

/// What the style's classes begin with.
const CLASSES: ClassStyle = ClassStyle::SpacedPrefixed { prefix: "c-" };

/// Colours code. The grammars are loaded with the first block that names a language.
#[derive(Default)]
pub(super) struct Highlighter {
    grammars: OnceLock<SyntaxSet>,
}

impl fmt::Debug for Highlighter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Highlighter").finish_non_exhaustive()
    }
}

impl Highlighter {
    /// Returns a block of code as markup, coloured where its language is known.
    pub(super) fn block(&self, language: &str, code: &str) -> String {
        let label = if language.is_empty() {
            "code".to_owned()
        } else {
            format!("code, {}", attribute(language))
        };
        let code = shown(code);
        let inner = self
            .coloured(language, &code)
            .unwrap_or_else(|| text(&code));
        format!(
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><code>{inner}</code></pre>\n"
        )
    }

    fn coloured(&self, language: &str, code: &str) -> Option<String> {
        let is_long =
            code.len() > LONGEST_BLOCK || code.lines().any(|line| line.len() > LONGEST_LINE);
        if language.is_empty() || is_long {
            return None;
        }
        let grammars = self.grammars.get_or_init(SyntaxSet::load_defaults_newlines);
        let grammar = grammars.find_syntax_by_token(language)?;
        let mut generator = ClassedHTMLGenerator::new_with_class_style(grammar, grammars, CLASSES);
        for line in LinesWithEndings::from(code) {
            generator
                .parse_html_for_line_which_includes_newline(line)
                .ok()?;
        }
        Some(generator.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_languages_are_coloured_and_no_code_is_markup() {
        let highlighter = Highlighter::default();
        let python = highlighter.block("python", "print(\"<b>\")\n");
        assert!(python.contains("class=\"c-"), "{python}");
        assert!(python.contains("&lt;b&gt;"), "{python}");
        let other = highlighter.block("nosuch\"x", "<b>");
        assert_eq!(
            other,
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"code, nosuch&quot;x\"><code>&lt;b&gt;</code></pre>\n"
        );
    }

    #[test]
    fn a_line_too_long_to_colour_is_shown_as_it_is() {
        let code = format!("{}\n", "(".repeat(LONGEST_LINE + 1));
        let block = Highlighter::default().block("python", &code);
        assert!(!block.contains("class="), "{}", &block[..200]);
    }
}
