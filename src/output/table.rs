//! Tables for people. They fit the width of the terminal they are shown on, and no cell moves a
//! cursor, whatever a title or a file name says; wide characters take the two columns they have.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, presets};
use unicode_width::UnicodeWidthStr;

use super::Palette;
use super::text::harmless;
use crate::cli::Color;
use crate::platform::columns_of_stdout;
use crate::session::event::Timestamp;
use crate::session::id::SessionId;

/// What people look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its columns; `None` where lines may be of any length.
    pub width: Option<u16>,
    /// Its colours.
    pub palette: Palette,
}

impl Page {
    /// Returns the page that standard output is: as wide as the terminal, or as long as lines are.
    #[must_use]
    pub fn of_stdout(asked: Color) -> Self {
        Self {
            width: columns_of_stdout(),
            palette: Palette::of_stdout(asked),
        }
    }
}

/// What a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Text, which may be cut.
    Text,
    /// What means nothing when it is cut, such as an id.
    Whole,
    /// Numbers, which stand on the right.
    Number,
}

/// The least a column of text is cut to.
const LEAST: usize = 8;

/// What stands left and right of a cell.
const PADDING: usize = 2;

/// Returns a table of `rows` under `heads`, a line for each. Where the page is too narrow, text is
/// cut with `…` and then columns are left out, the last ones first.
#[must_use]
pub fn table(
    page: Page,
    heads: &[(&str, Column)],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let rows = rows
        .into_iter()
        .map(|cells| cells.iter().map(|cell| one_line(cell)).collect());
    let rows: Vec<Vec<String>> = rows.collect();
    let heads = &heads[..columns_on(page, heads, &rows)];
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = page.width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
    }
    let one_high = |cells: Vec<&str>| {
        let mut row = Row::from(cells);
        row.max_height(1);
        row
    };
    table.set_header(one_high(heads.iter().map(|(name, _)| *name).collect()));
    for row in &rows {
        let cells = row.iter().take(heads.len()).map(String::as_str);
        table.add_row(one_high(cells.collect()));
    }
    for (shown, (_, column)) in table.column_iter_mut().zip(heads) {
        if *column == Column::Number {
            shown.set_cell_alignment(CellAlignment::Right);
        }
        if *column != Column::Text && page.width.is_some() {
            shown.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let lines = table.lines().enumerate().map(|(n, line)| {
        let line = line.trim_end();
        if n == 0 {
            page.palette.heading(line)
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns how many columns the page has room for; the first is always there.
fn columns_on(page: Page, heads: &[(&str, Column)], rows: &[Vec<String>]) -> usize {
    let Some(room) = page.width else {
        return heads.len();
    };
    let widths = heads.iter().enumerate().map(|(n, (name, column))| {
        let cells = rows.iter().map(|row| row[n].width());
        let widest = cells.chain([name.width()]).max().unwrap_or(0);
        match column {
            Column::Text => widest.min(LEAST) + PADDING,
            Column::Whole | Column::Number => widest + PADDING,
        }
    });
    let ends = widths.scan(0, |end, width| {
        *end += width;
        Some(*end)
    });
    ends.take_while(|end| *end <= usize::from(room))
        .count()
        .max(1)
}

/// Returns a text as one harmless line.
#[must_use]
pub fn one_line(text: &str) -> String {
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

/// Returns the end of an id, which is enough to name a session.
#[must_use]
pub fn short_id(id: SessionId) -> String {
    let id = id.to_string();
    id[id.len() - 8..].to_owned()
}

/// Returns a moment to the minute.
#[must_use]
pub fn minute(moment: Timestamp) -> String {
    moment.0.format("%Y-%m-%d %H:%MZ").to_string()
}

/// Returns a number of bytes in the unit that suits it.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut amount = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 999.5 {
            break;
        }
        amount /= 1000.0;
        unit = next;
    }
    if amount < 9.95 {
        format!("{amount:.1} {unit}")
    } else {
        format!("{amount:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [(&str, Column); 3] = [
        ("ID", Column::Whole),
        ("TITLE", Column::Text),
        ("TURNS", Column::Number),
    ];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![
            row(["0c8f6b1f", "日本語の題名がここにあります、とても長い", "12"]),
            row(["1f2a3344", "short", "7"]),
            row(["1f2a3355", "\u{1b}]0;title\u{7} two\nlines 🦀", "1024"]),
        ]
    }

    #[test]
    fn a_table_fits_its_page_whatever_its_characters_take() {
        for width in [30, 40, 60, 200] {
            let page = Page {
                width: Some(width),
                palette: Palette::of_stdout(Color::Never),
            };
            let shown = table(page, &HEADS, rows());
            assert_eq!(shown.lines().count(), 4, "{shown}");
            for line in shown.lines() {
                assert!(line.width() <= usize::from(width), "{width}: {line:?}");
            }
            assert!(
                shown.contains("0c8f6b1f") && shown.contains("1024"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out_from_the_last_column_on() {
        let shown = |width| {
            let page = Page {
                width: Some(width),
                palette: Palette::of_stdout(Color::Never),
            };
            let shown = table(page, &HEADS, rows());
            shown
                .lines()
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .count()
        };
        assert_eq!([27, 26, 20, 19, 3].map(shown), [3, 2, 2, 1, 1]);
    }

    #[test]
    fn cells_are_whole_harmless_and_on_their_side_where_there_is_room() {
        let page = Page {
            width: None,
            palette: Palette::of_stdout(Color::Never),
        };
        let shown = table(page, &HEADS, rows());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with(" ID"), "{shown}");
        assert!(lines[1].contains("とても長い"), "{shown}");
        assert!(
            lines[3].contains("\\u{1b}]0;title\\u{7} two lines 🦀"),
            "{shown}"
        );
        assert!(
            lines[2].ends_with("    7") && lines[3].ends_with(" 1024"),
            "{shown}"
        );
    }

    #[test]
    fn only_the_head_is_bold_and_only_on_a_coloured_page() {
        let coloured = Page {
            width: None,
            palette: Palette::of_stdout(Color::Always),
        };
        let shown = table(coloured, &HEADS, rows());
        assert_eq!(shown.matches('\u{1b}').count(), 2, "{shown}");
        assert!(shown.starts_with("\u{1b}[1m"));
    }

    #[test]
    fn bytes_have_a_unit() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KB"),
            (9949, "9.9 KB"),
            (9951, "10 KB"),
            (999_499, "999 KB"),
            (999_500, "1.0 MB"),
            (12_345_678, "12 MB"),
            (5_000_000_000_000_000, "5000 TB"),
        ];
        for (count, expected) in rows {
            assert_eq!(bytes(count), expected);
        }
    }
}
