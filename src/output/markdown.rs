//! Markdown: what is said of a session as lines that are no markup, and what was said in it as
//! blocks. That is Markdown itself most often, so it stands as it is; only a fence that it leaves
//! open is closed, or the rest of the page would be code.

use super::table::one_line;
use super::text::harmless;

/// Returns a text as one harmless line in which nothing is Markdown or HTML.
pub(super) fn plain(text: &str) -> String {
    let line = one_line(text);
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' | '|' | '~'
        ) {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

/// Returns a heading and what was said under it, set off from what stands before.
pub(super) fn section(heading: &str, said: &str) -> String {
    format!("\n## {}\n\n{}\n", plain(heading), block(said))
}

/// Returns what was said, as a block whose fences are closed.
pub(super) fn block(said: &str) -> String {
    let said = harmless(said);
    let said = said.trim_start_matches('\n').trim_end();
    match open_fence(said) {
        Some(fence) => format!("{said}\n{fence}"),
        None => said.to_owned(),
    }
}

/// Returns what was said as a quotation, which ends where its lines do.
pub(super) fn quoted(said: &str) -> String {
    let said = harmless(said);
    let lines = said
        .lines()
        .map(|line| format!("> {line}").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the fence that closes the block of code a text leaves open, by CommonMark's rule: three
/// backticks or tildes or more, indented by three spaces at the most, closed by at least as many
/// of the same and nothing else on the line.
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let unindented = line.trim_start_matches(' ');
        if line.len() - unindented.len() > 3 {
            continue;
        }
        let Some(mark) = unindented.chars().next().filter(|c| matches!(c, '`' | '~')) else {
            continue;
        };
        let rest = unindented.trim_start_matches(mark);
        let length = unindented.len() - rest.len();
        open = match open {
            // A line with a backtick behind it is code within a line of text.
            None if length >= 3 && !(mark == '`' && rest.contains('`')) => Some((mark, length)),
            Some((by, at_least)) if by == mark && length >= at_least && rest.trim().is_empty() => {
                None
            }
            as_before => as_before,
        };
    }
    open.map(|(mark, length)| mark.to_string().repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_that_is_left_open_is_closed() {
        let rows = [
            ("text", "text"),
            ("```rust\ncode", "```rust\ncode\n```"),
            ("```\ncode\n```", "```\ncode\n```"),
            ("```rust\nfn main() {}\n```", "```rust\nfn main() {}\n```"),
            ("````\n```\ncode", "````\n```\ncode\n````"),
            ("~~~\n```\n", "~~~\n```\n~~~"),
            ("~~~~\n~~~\n", "~~~~\n~~~\n~~~~"),
            ("``` inline ``` text", "``` inline ``` text"),
            ("```\na\n``` no end", "```\na\n``` no end\n```"),
            ("    ```\nindented code", "    ```\nindented code"),
            ("   ```\nx", "   ```\nx\n```"),
            ("```\na\n    ```\nb", "```\na\n    ```\nb\n```"),
            ("\n\na\n\n", "a"),
        ];
        for (markdown, expected) in rows {
            assert_eq!(block(markdown), expected, "{markdown:?}");
        }
    }

    #[test]
    fn a_title_is_no_markdown() {
        assert_eq!(plain("a <b>\n*c* #d `e`"), "a \\<b\\> \\*c\\* \\#d \\`e\\`");
    }

    #[test]
    fn what_was_said_moves_no_cursor_and_stands_apart() {
        assert_eq!(
            section("a\nb", "\n\u{1b}[2Ja\n```\nb\n\n"),
            "\n## a b\n\n\\u{1b}[2Ja\n```\nb\n```\n"
        );
        assert_eq!(quoted("a\n\n\u{7}b"), "> a\n>\n> \\u{7}b");
    }
}
