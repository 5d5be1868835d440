//! How full the context was, turn by turn, as a drawing within the page: one that loads nothing and
//! runs nothing.

use std::fmt::Write as _;

use super::grouped;

/// Units of the drawing: it is as wide as the page, these only set the proportions.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;

/// Room for the words at the top and the edges of the line.
const MARGIN: f64 = 20.0;

/// The most points that are drawn; of more turns the fullest of each stretch is.
const MOST_POINTS: usize = 600;

/// The most points that are told apart by a dot with its figures.
const MOST_DOTS: usize = 120;

/// The figures of a page so far.
#[derive(Debug, Default)]
pub(super) struct Chart {
    budget: Option<u64>,
    /// Tokens of each request.
    used: Vec<u64>,
    estimated: usize,
}

impl Chart {
    /// Makes a chart without turns; `budget` is drawn as a line.
    pub(super) fn new(budget: Option<u64>) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// Adds a turn: the tokens of its request, and whether the server counted them.
    pub(super) fn add(&mut self, tokens: u64, is_measured: bool) {
        self.used.push(tokens);
        self.estimated += usize::from(!is_measured);
    }

    /// Returns the drawing and what it says in words.
    pub(super) fn svg(&self) -> String {
        let (Some(first), Some(last)) = (self.used.first(), self.used.last()) else {
            return "<p>No turns yet.</p>\n".to_owned();
        };
        let fullest = self.used.iter().copied().max().unwrap_or_default();
        let budget = self.budget.map_or(String::new(), |tokens| {
            format!(", budget {}", grouped(tokens))
        });
        let words = format!(
            "Tokens of each request over {} turns: first {}, last {}, most {}{budget}.",
            self.used.len(),
            grouped(*first),
            grouped(*last),
            grouped(fullest)
        );
        let top = fullest.max(self.budget.unwrap_or_default()).max(1) as f64;
        let y = |tokens: u64| HEIGHT - MARGIN - tokens as f64 / top * (HEIGHT - 2.0 * MARGIN);
        let points = self.points();
        let step = (WIDTH - 2.0 * MARGIN) / points.len().max(2).saturating_sub(1) as f64;
        let x = |at: usize| MARGIN + step * at as f64;
        let mut line = String::new();
        let mut dots = String::new();
        for (at, (turn, tokens)) in points.iter().enumerate() {
            let (x, y) = (x(at), y(*tokens));
            let _ = write!(line, "{x:.1},{y:.1} ");
            if points.len() <= MOST_DOTS {
                let _ = writeln!(
                    dots,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>Turn {turn}: {} tokens</title></circle>",
                    grouped(*tokens)
                );
            }
        }
        let limit = self.budget.map_or(String::new(), |tokens| {
            let y = y(tokens);
            format!(
                "<line class=\"limit\" x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n",
                WIDTH - MARGIN
            )
        });
        let estimated = match self.estimated {
            0 => String::new(),
            n => format!(" For {n} of them the server gave no count."),
        };
        format!(
            "<figure>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"chart-title\">\n<title id=\"chart-title\">{words}</title>\n\
             {limit}<polyline points=\"{}\"/>\n{dots}</svg>\n<figcaption>{words}{estimated}</figcaption>\n</figure>\n",
            line.trim_end()
        )
    }

    /// Returns the points that are drawn: number of the turn and tokens.
    fn points(&self) -> Vec<(usize, u64)> {
        let stretch = self.used.len().div_ceil(MOST_POINTS).max(1);
        let numbered: Vec<(usize, u64)> = self
            .used
            .iter()
            .enumerate()
            .map(|(at, n)| (at + 1, *n))
            .collect();
        let fullest = |turns: &[(usize, u64)]| turns.iter().copied().max_by_key(|(_, n)| *n);
        numbered.chunks(stretch).filter_map(fullest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_a_point_within_the_drawing() {
        let mut chart = Chart::new(Some(1000));
        for n in [10, 500, 2000] {
            chart.add(n, true);
        }
        let svg = chart.svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(
            svg.contains("points=\"20.0,139.4 360.0,110.0 700.0,20.0\""),
            "{svg}"
        );
        assert!(svg.contains("y1=\"80.0\""), "{svg}");
        assert!(
            svg.contains("most 2\u{202f}000, budget 1\u{202f}000."),
            "{svg}"
        );
    }

    #[test]
    fn of_many_turns_the_fullest_are_drawn() {
        let mut chart = Chart::new(None);
        (0..5000).for_each(|n| chart.add(if n == 4321 { 9 } else { 1 }, false));
        let points = chart.points();
        assert!(points.len() <= MOST_POINTS);
        assert!(points.contains(&(4322, 9)));
        assert!(chart.svg().contains("For 5000 of them"));
    }

    #[test]
    fn one_turn_and_none_are_drawn_too() {
        assert!(Chart::new(Some(1)).svg().contains("No turns"));
        let mut one = Chart::new(None);
        one.add(0, true);
        assert!(one.svg().contains("points=\"20.0,140.0\""));
    }
}
