//! Statistics: the shape, a table with bars, and a chart of use over time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{Datelike, Days, NaiveDate};
use plotters::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::table::{Column, Page, bytes, table};
use super::{Report, text};
use crate::cli::Output;
use crate::json;
use crate::session::usage::{Sum, Use};

/// `session stats`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Stats {
    /// Sessions that have a turn that counts; all, where all turns count.
    pub sessions: usize,
    /// In all.
    #[serde(flatten)]
    pub total: Figures,
    /// Bytes of the files of these sessions.
    pub bytes: u64,
    /// Turns that failed or were killed, as far as their drafts are still there.
    pub failures: Failures,
    /// By model, the one with the most turns first.
    pub models: Vec<OfModel>,
    /// By day, in UTC, the oldest first; days without a turn are left out.
    pub days: Vec<OfDay>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(skip)]
    model: Option<String>,
}

/// Figures of turns, added up.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Figures {
    /// Turns; one that several sessions have counts once.
    pub turns: u64,
    /// Turns whose tokens the server did not count.
    pub uncounted_turns: u64,
    /// Tokens the server read, each as often as it was sent.
    pub tokens_in: u64,
    /// Tokens the server wrote.
    pub tokens_out: u64,
    /// Tokens written in a second, of the turns that were timed; null where none was.
    pub tokens_per_second: Option<f64>,
    /// Nanoseconds from request to reply.
    pub total_duration: u64,
}

impl From<&Sum> for Figures {
    fn from(sum: &Sum) -> Self {
        Self {
            turns: sum.turns,
            uncounted_turns: sum.uncounted,
            tokens_in: sum.tokens_in,
            tokens_out: sum.tokens_out,
            tokens_per_second: sum.tokens_per_second(),
            total_duration: sum.duration,
        }
    }
}

/// Turns that are not stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Failures {
    /// How many.
    pub total: usize,
    /// By the code of the error; `killed` where there was no time for one.
    pub by_code: BTreeMap<String, usize>,
}

/// The figures of a model.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct OfModel {
    /// The model.
    pub model: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of a day.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct OfDay {
    /// The day, as in `2025-11-20`.
    #[schemars(with = "String")]
    pub day: NaiveDate,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Stats {
    /// Makes the report. `model` is the one that was asked for, if only that was.
    #[must_use]
    pub fn new(
        used: &Use,
        sessions: usize,
        bytes: u64,
        failures: Failures,
        model: Option<String>,
    ) -> Self {
        let models = used.models.iter().map(|(model, sum)| OfModel {
            model: model.clone(),
            figures: sum.into(),
        });
        let mut models: Vec<OfModel> = models.collect();
        models.sort_by_key(|of| std::cmp::Reverse(of.figures.turns));
        let days = used.days.iter().map(|(day, sum)| OfDay {
            day: *day,
            figures: sum.into(),
        });
        Self {
            sessions,
            total: (&used.total).into(),
            bytes,
            failures,
            models,
            days: days.collect(),
            warnings: Vec::new(),
            model,
        }
    }
}

impl Report for Stats {
    super::report::as_json!();

    fn for_people(&self, form: Output, page: Page) -> Option<String> {
        match form {
            Output::Table => Some(tables(self, page)),
            Output::Svg => Some(chart(self)),
            _ => None,
        }
    }
}

/// The widest bar, in columns.
const WIDEST_BAR: usize = 40;

fn tables(stats: &Stats, page: Page) -> String {
    let mut shown = format!(
        "{} sessions, {} turns, {}",
        stats.sessions,
        stats.total.turns,
        bytes(stats.bytes)
    );
    if stats.failures.total > 0 {
        let codes = stats.failures.by_code.iter();
        let codes: Vec<String> = codes.map(|(code, n)| format!("{n} {code}")).collect();
        write!(
            shown,
            ", {} failed ({})",
            stats.failures.total,
            codes.join(", ")
        )
        .expect("memory");
    }
    let shown = text::harmless(&shown).into_owned();
    let models = stats
        .models
        .iter()
        .map(|of| (of.model.clone(), &of.figures));
    let days = stats
        .days
        .iter()
        .map(|of| (of.day.to_string(), &of.figures));
    let sections = [
        ("MODEL", models.collect::<Vec<_>>()),
        ("DAY", days.collect()),
    ];
    let sections = sections.into_iter().filter(|(_, rows)| !rows.is_empty());
    let sections = sections.map(|(name, rows)| section(name, &rows, page));
    let all: Vec<String> = [shown].into_iter().chain(sections).collect();
    all.join("\n\n")
}

fn section(name: &str, rows: &[(String, &Figures)], page: Page) -> String {
    let heads = [
        (name, Column::Text),
        ("TURNS", Column::Number),
        ("", Column::Whole),
        ("TOKENS IN", Column::Number),
        ("OUT", Column::Number),
        ("OUT/S", Column::Number),
    ];
    let most = rows
        .iter()
        .map(|(_, figures)| figures.turns)
        .max()
        .unwrap_or(1);
    // Half of a narrow page is for the figures.
    let widest = page.width.map_or(WIDEST_BAR, |width| {
        usize::from(width).saturating_sub(60).clamp(8, WIDEST_BAR)
    });
    let rows = rows.iter().map(|(name, figures)| {
        let rate = figures.tokens_per_second;
        vec![
            name.clone(),
            figures.turns.to_string(),
            bar(figures.turns, most, widest),
            figures.tokens_in.to_string(),
            figures.tokens_out.to_string(),
            rate.map(|rate| format!("{rate:.1}")).unwrap_or_default(),
        ]
    });
    table(page, &heads, rows)
}

/// Returns a bar as long as `part` of `whole`, to an eighth of a column.
fn bar(part: u64, whole: u64, widest: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let widest = widest as u64 * 8;
    let eighths = (u128::from(part) * u128::from(widest)).div_ceil(u128::from(whole.max(1)));
    let eighths = usize::try_from(eighths).unwrap_or(0);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// The size of the chart in pixels.
const CHART: (u32, u32) = (960, 480);

/// The longest time that is drawn by the day, in days; a longer one is drawn by its end.
const LONGEST: usize = 3660;

/// Draws turns and tokens over time. The letters are the viewer's own, so nothing has to be
/// measured or loaded here.
fn chart(stats: &Stats) -> String {
    let mut svg = String::new();
    draw(stats, &mut svg).expect("drawing to memory does not fail");
    svg.trim_end().to_owned()
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(stats: &Stats, svg: &mut String) -> Drawn {
    let root = SVGBackend::with_string(svg, CHART).into_drawing_area();
    root.fill(&WHITE)?;
    let days = every_day(&stats.days);
    let of = stats
        .model
        .as_ref()
        .map(|model| format!(" of {}", printable(model)));
    let caption = format!("Turns a day{}", of.unwrap_or_default());
    let (Some(first), Some(last)) = (days.first(), days.last()) else {
        let style = ("sans-serif", 24).into_text_style(&root);
        root.draw_text(&format!("{caption}: none yet"), &style, (40, 40))?;
        root.present()?;
        return Ok(());
    };
    let most_turns = days.iter().map(|day| day.turns).max().unwrap_or(0).max(1);
    let most_tokens = days.iter().map(|day| day.tokens).max().unwrap_or(0).max(1);
    // Days are counted, as chrono does.
    let number = |day: &Day| day.day.num_days_from_ce();
    let (begin, end) = (number(first), number(last) + 1);
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .right_y_label_area_size(80)
        .build_cartesian_2d(begin..end, 0..most_turns + most_turns.div_ceil(10))?
        .set_secondary_coord(begin..end, 0..most_tokens + most_tokens.div_ceil(10));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .x_label_formatter(&|number| {
            let day = NaiveDate::from_num_days_from_ce_opt(*number);
            day.map(|day| day.to_string()).unwrap_or_default()
        })
        .y_desc("turns")
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("tokens written")
        .draw()?;
    let blue = RGBColor(52, 101, 164);
    let orange = RGBColor(206, 92, 0);
    chart
        .draw_series(days.iter().filter(|day| day.turns > 0).map(|day| {
            let at = number(day);
            Rectangle::new([(at, 0), (at + 1, day.turns)], blue.filled())
        }))?
        .label("turns")
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], blue.filled()));
    chart
        .draw_secondary_series(LineSeries::new(
            days.iter().map(|day| (number(day), day.tokens)),
            orange.stroke_width(2),
        ))?
        .label("tokens written")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], orange.stroke_width(2)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

struct Day {
    day: NaiveDate,
    turns: u64,
    tokens: u64,
}

/// Returns every day from the first to the last, those without a turn too.
fn every_day(days: &[OfDay]) -> Vec<Day> {
    let known: BTreeMap<NaiveDate, &Figures> =
        days.iter().map(|of| (of.day, &of.figures)).collect();
    let Some(last) = known.keys().next_back() else {
        return Vec::new();
    };
    let oldest = last
        .checked_sub_days(Days::new(LONGEST as u64))
        .unwrap_or(NaiveDate::MIN);
    let first = known.range(oldest..).next().map_or(*last, |(day, _)| *day);
    let every = first.iter_days().take_while(|day| day <= last);
    let figures = every.map(|day| {
        let figures = known.get(&day);
        Day {
            day,
            turns: figures.map_or(0, |figures| figures.turns),
            tokens: figures.map_or(0, |figures| figures.tokens_out),
        }
    });
    figures.collect()
}

/// Returns a text without the characters that XML has no way to write.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if json::is_unsafe(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_what_is_not_nothing_is_seen() {
        let rows = [
            (0, 100, ""),
            (100, 100, "████"),
            (50, 100, "██"),
            (1, 1000, "▏"),
            (3, 32, "▍"),
            (9, 32, "█▏"),
        ];
        for (part, whole, expected) in rows {
            assert_eq!(bar(part, whole, 4), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn days_without_a_turn_are_part_of_the_time() {
        let of = |day: &str, turns| OfDay {
            day: day.parse().expect("a day"),
            figures: Figures {
                turns,
                ..Figures::from(&Sum::default())
            },
        };
        let days = every_day(&[of("2025-12-30", 3), of("2026-01-02", 5)]);
        let turns: Vec<u64> = days.iter().map(|day| day.turns).collect();
        assert_eq!(turns, [3, 0, 0, 5]);
        let far = every_day(&[
            of("0001-01-01", 3),
            of("2026-01-01", 1),
            of("2026-01-02", 5),
        ]);
        assert_eq!(
            far.len(),
            2,
            "one slip of a clock does not fill the chart with nothing"
        );
    }
}
