//! Horizontal bars, each with its label, its interval and its number.

use crate::text::{escaped, number, shortened};
use crate::{Plot, colour, frame::frame, ticks};
use std::fmt::Write;

/// One bar.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    /// What stands behind the number, such as `n=20`.
    pub note: String,
    /// Which of the colours.
    pub series: usize,
}

const LABELS: f64 = 210.0;
const FIELD: f64 = 320.0;
const WIDTH: f64 = 700.0;
const ROW: f64 = 22.0;
const TOP: f64 = 34.0;

/// Bars from zero (or the range's low end) to their values, with intervals over them.
pub fn bars(title: &str, rows: &[Bar], range: [f64; 2]) -> Plot {
    let [low, high] = range;
    let px = |value: f64| LABELS + (value.clamp(low, high) - low) / (high - low) * FIELD;
    let bottom = TOP + ROW * rows.len() as f64;
    let mut body = frame(
        title,
        LABELS,
        TOP,
        bottom,
        ticks(low, high).into_iter().map(|tick| (tick, px(tick))),
    );
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + ROW * place as f64;
        let from = px(0f64.clamp(low, high));
        let to = if row.value.is_finite() { px(row.value) } else { from };
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"12\"><title>{}</title>{}</text>\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{}\" fill-opacity=\"0.75\"/>",
            LABELS - 8.0,
            y + 15.0,
            escaped(&row.label),
            escaped(&shortened(&row.label, 30)),
            from.min(to),
            y + 4.0,
            (to - from).abs(),
            colour(row.series)
        );
        if let Some((lower, upper)) = row.interval.filter(|(a, b)| a.is_finite() && b.is_finite()) {
            let middle = y + 11.0;
            let _ = writeln!(
                body,
                "<path d=\"M{0:.1} {1:.1}v8M{0:.1} {middle:.1}H{2:.1}m0 -4v8\" fill=\"none\" class=\"axis\" stroke=\"#333\"/>",
                px(lower),
                middle - 4.0,
                px(upper)
            );
        }
        let words = match row.note.is_empty() {
            true => number(row.value),
            false => format!("{} {}", number(row.value), row.note),
        };
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"12\">{}</text>",
            LABELS + FIELD + 10.0,
            y + 15.0,
            escaped(&words)
        );
    }
    Plot::new(WIDTH, bottom + 26.0, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_reaches_its_value_and_has_its_interval() {
        let bar = Bar {
            label: "a<b".to_owned(),
            value: 0.5,
            interval: Some((0.25, 0.75)),
            note: "n=8".to_owned(),
            series: 0,
        };
        let text = bars("acc", &[bar], [0.0, 1.0]).document();
        assert!(text.contains("width=\"160.0\" height=\"14\""), "{text}");
        assert!(text.contains("M290.0 41.0v8M290.0 45.0H450.0"), "{text}");
        assert!(text.contains("0.5 n=8") && text.contains("a&lt;b"), "{text}");
    }

    #[test]
    fn a_value_that_is_no_number_has_no_bar() {
        let bar = Bar {
            value: f64::NAN,
            ..Bar::default()
        };
        let text = bars("acc", &[bar], [0.0, 1.0]).inline("acc");
        assert!(
            text.contains("width=\"0.0\" height=\"14\"") && text.contains(">NaN<"),
            "{text}"
        );
    }
}
