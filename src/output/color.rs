//! Colour, for what people read: the one place that decides whether there is any.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};

use crate::cli::Color;

/// The colours of one stream; none of them where it is not to have any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    is_colored: bool,
}

impl Palette {
    /// Returns the colours of standard output: those of tables and of transcripts.
    #[must_use]
    pub fn of_stdout(asked: Color) -> Self {
        Self::new(asked, || io::stdout().is_terminal())
    }

    /// Returns the colours of standard error: those of failures and warnings.
    #[must_use]
    pub fn of_stderr(asked: Color) -> Self {
        Self::new(asked, || io::stderr().is_terminal())
    }

    fn new(asked: Color, is_terminal: impl FnOnce() -> bool) -> Self {
        let is_colored = match asked {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal(),
        };
        Self { is_colored }
    }

    /// Returns a text in the colour of failures.
    #[must_use]
    pub fn error(self, text: &str) -> String {
        self.styled(AnsiColor::Red.on_default().bold(), text)
    }

    /// Returns a text in the colour of warnings.
    #[must_use]
    pub fn warning(self, text: &str) -> String {
        self.styled(AnsiColor::Yellow.on_default().bold(), text)
    }

    /// Returns a text in the colour of what to do next.
    #[must_use]
    pub fn hint(self, text: &str) -> String {
        self.styled(AnsiColor::Cyan.on_default().bold(), text)
    }

    /// Returns a text as a heading: the first row of a table, a role.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// Returns a text that is less important than what is around it.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self.is_colored {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_unless_it_is_said_otherwise() {
        let rows = [
            (Color::Auto, true, true),
            (Color::Auto, false, false),
            (Color::Always, false, true),
            (Color::Never, true, false),
        ];
        for (asked, is_terminal, expected) in rows {
            let palette = Palette::new(asked, || is_terminal);
            let is_plain = palette.error("x") == "x";
            assert_eq!(!is_plain, expected, "{asked:?} {is_terminal}");
        }
        let palette = Palette::new(Color::Always, || false);
        assert_eq!(palette.error("e"), "\u{1b}[1m\u{1b}[31me\u{1b}[0m");
    }
}
