//! Estimates with their intervals, a row each, around a line that says "no difference".

use crate::text::{escaped, shortened};
use crate::{Plot, colour, frame::frame, ticks};
use std::fmt::Write;

/// One row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub label: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    /// What stands at the end of the row.
    pub note: String,
    pub series: usize,
}

const LABELS: f64 = 330.0;
const FIELD: f64 = 260.0;
const WIDTH: f64 = 760.0;
const ROW: f64 = 22.0;
const TOP: f64 = 34.0;

/// A forest. The range covers all intervals and the line, unless one is given.
pub fn forest(title: &str, rows: &[Row], line: f64, range: Option<[f64; 2]>) -> Plot {
    let [low, high] = range.unwrap_or_else(|| spread(rows, line));
    let px = |value: f64| LABELS + (value.clamp(low, high) - low) / (high - low) * FIELD;
    let bottom = TOP + ROW * rows.len() as f64;
    let mut body = frame(
        title,
        LABELS,
        TOP,
        bottom,
        ticks(low, high).into_iter().map(|tick| (tick, px(tick))),
    );
    let _ = writeln!(
        body,
        "<path d=\"M{:.1} {TOP}V{bottom:.1}\" class=\"axis\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>",
        px(line)
    );
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + ROW * place as f64 + 11.0;
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\"><title>{}</title>{}</text>",
            LABELS - 10.0,
            y + 4.0,
            escaped(&row.label),
            escaped(&shortened(&row.label, 54))
        );
        if let Some((lower, upper)) = row.interval.filter(|(a, b)| a.is_finite() && b.is_finite()) {
            let _ = writeln!(
                body,
                "<path d=\"M{:.1} {y:.1}H{:.1}\" stroke=\"{}\" stroke-width=\"2\"/>",
                px(lower),
                px(upper),
                colour(row.series)
            );
        }
        if row.value.is_finite() {
            let (x, fill) = (px(row.value), colour(row.series));
            let _ = writeln!(body, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\"/>");
        }
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{}</text>",
            LABELS + FIELD + 12.0,
            y + 4.0,
            escaped(&row.note)
        );
    }
    Plot::new(WIDTH, bottom + 26.0, body)
}

/// A range around all values, intervals and the line.
fn spread(rows: &[Row], line: f64) -> [f64; 2] {
    let ends = rows.iter().flat_map(|row| {
        let (low, high) = row.interval.unwrap_or((row.value, row.value));
        [row.value, low, high]
    });
    let (mut low, mut high) = (line, line);
    for end in ends.filter(|end| end.is_finite()) {
        (low, high) = (low.min(end), high.max(end));
    }
    let gap = ((high - low) * 0.05).max(1e-6);
    [low - gap, high + gap]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_and_all_intervals_are_in_sight() {
        let row = |value: f64, low: f64, high: f64| Row {
            value,
            interval: Some((low, high)),
            ..Row::default()
        };
        let rows = [row(0.1, 0.05, 0.15), row(f64::NAN, f64::NAN, 0.0)];
        let [low, high] = spread(&rows, 0.0);
        assert!(low < 0.0 && high > 0.15);
        let text = forest("difference", &rows, 0.0, Some([0.0, 0.2])).document();
        assert!(text.contains("<circle cx=\"460.0\" cy=\"45.0\""), "{text}");
        assert!(text.contains("M395.0 45.0H525.0"), "{text}");
        assert_eq!(text.matches("<circle").count(), 1);
    }
}
