//! A chart with two axes: lines, bands, marks, a legend.

use crate::text::{escaped, number, shortened};
use crate::{Plot, STYLE};
use std::fmt::Write;

pub const WIDTH: f64 = 640.0;
pub const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A chart with two axes, in the making.
pub struct Chart {
    body: String,
    x: [f64; 2],
    y: [f64; 2],
    legend: usize,
}

impl Chart {
    /// A chart of these ranges, with a tick at each of these places.
    pub fn new(title: &str, x: ([f64; 2], &[f64], &str), y: ([f64; 2], &[f64], &str)) -> Chart {
        let mut chart = Chart {
            body: String::new(),
            x: x.0,
            y: y.0,
            legend: 0,
        };
        chart.text(WIDTH / 2.0, 22.0, "middle", 15, title);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        chart.put(format_args!(
            r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" class="axis" stroke="#333"/>"##
        ));
        for tick in x.1 {
            let at = chart.px(*tick);
            chart.put(format_args!(
                r##"<path d="M{at:.1} {bottom}v5" class="axis" stroke="#333"/>"##
            ));
            chart.text(at, bottom + 18.0, "middle", 11, &number(*tick));
        }
        for tick in y.1 {
            let at = chart.py(*tick);
            chart.put(format_args!(
                r##"<path d="M{LEFT} {at:.1}H{right}" class="grid" stroke="#ddd"/>"##
            ));
            chart.text(LEFT - 8.0, at + 4.0, "end", 11, &number(*tick));
        }
        chart.text((LEFT + right) / 2.0, HEIGHT - 12.0, "middle", 12, x.2);
        chart.put(format_args!(
            r#"<text transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle" font-size="12">{}</text>"#,
            (TOP + bottom) / 2.0,
            escaped(y.2)
        ));
        chart
    }

    fn put(&mut self, piece: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = self.body.write_fmt(piece);
        self.body.push('\n');
    }

    pub fn px(&self, x: f64) -> f64 {
        LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
    }

    pub fn py(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, words: &str) {
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{}</text>"#,
            escaped(words)
        ));
    }

    /// A line through points, with a mark at each.
    pub fn line(&mut self, points: &[(f64, f64)], colour: &str, dash: &str, mark: char) {
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1} {:.1}", self.px(*x), self.py(*y)))
            .collect();
        if path.is_empty() {
            return;
        }
        self.put(format_args!(
            r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>"#,
            path.join("L")
        ));
        for (x, y) in points {
            self.mark(*x, *y, colour, mark);
        }
    }

    /// A mark as matplotlib names them: `o`, `s`, `^`, `D`, `v`, `p`; none for a blank.
    pub fn mark(&mut self, x: f64, y: f64, colour: &str, mark: char) {
        let (x, y) = (self.px(x), self.py(y));
        let shape = match mark {
            ' ' => return,
            's' => "m-4 -4h8v8h-8z",
            '^' => "m0 -5l5 9h-10z",
            'D' => "m0 -5l5 5l-5 5l-5 -5z",
            'v' => "m0 5l5 -9h-10z",
            'p' => "m0 -5l5 4l-2 5h-6l-2 -5z",
            _ => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        };
        self.put(format_args!(r#"<path d="M{x:.1} {y:.1}{shape}" fill="{colour}"/>"#));
    }

    /// The area between two lines over the same places.
    pub fn band(&mut self, points: &[(f64, f64, f64)], colour: &str) {
        let low = points.iter().map(|(x, low, _)| (*x, *low));
        let high = points.iter().rev().map(|(x, _, high)| (*x, *high));
        let path: Vec<String> = low
            .chain(high)
            .map(|(x, y)| format!("{:.1} {:.1}", self.px(x), self.py(y)))
            .collect();
        if points.len() > 1 {
            self.put(format_args!(
                r#"<path d="M{}z" fill="{colour}" fill-opacity="0.15"/>"#,
                path.join("L")
            ));
        }
    }

    pub fn rectangle(&mut self, x: [f64; 2], y: [f64; 2], colour: &str) {
        let (left, right) = (self.px(x[0]), self.px(x[1]));
        let (top, bottom) = (self.py(y[1]), self.py(y[0]));
        self.put(format_args!(
            r#"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
            (right - left).max(0.0),
            (bottom - top).max(0.0)
        ));
    }

    pub fn legend(&mut self, colour: &str, words: &str) {
        let y = TOP + 10.0 + 18.0 * self.legend as f64;
        self.legend += 1;
        let x = WIDTH - RIGHT + 12.0;
        self.put(format_args!(
            r#"<rect x="{x}" y="{:.1}" width="12" height="4" fill="{colour}"/>"#,
            y - 5.0
        ));
        self.text(x + 18.0, y, "start", 11, &shortened(words, 22));
    }

    /// The chart as a file.
    pub fn finish(self) -> String {
        self.plot().document()
    }

    /// The chart as a picture.
    pub fn plot(self) -> Plot {
        Plot::new(WIDTH, HEIGHT, self.body)
    }
}

/// An SVG file around shapes.
pub fn document(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"sans-serif\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" class=\"paper\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points_and_a_band_around_them() {
        let mut chart = Chart::new("t", ([0.0, 1.0], &[0.0, 1.0], "x"), ([0.0, 1.0], &[0.5], "y"));
        chart.line(&[(0.0, 0.0), (1.0, 1.0)], "#123456", "", 'o');
        chart.band(&[(0.0, 0.0, 0.5), (1.0, 0.5, 1.0)], "#123456");
        let text = chart.finish();
        assert!(text.contains("M60.0 370.0L490.0 40.0"), "{text}");
        assert!(
            text.contains("M60.0 370.0L490.0 205.0L490.0 40.0L60.0 205.0z"),
            "{text}"
        );
    }
}
