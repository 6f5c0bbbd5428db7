//! The frame of bars and forests: a title, and a vertical line with its number for each tick.

use crate::text::{escaped, number};
use std::fmt::Write;

/// The title at `left`, and lines from `top` to `bottom`: the value of each tick, and where it lies.
pub(crate) fn frame(title: &str, left: f64, top: f64, bottom: f64, ticks: impl Iterator<Item = (f64, f64)>) -> String {
    let mut body = format!(
        "<text x=\"{left}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for (tick, x) in ticks {
        let _ = writeln!(
            body,
            "<path d=\"M{x:.1} {top}V{bottom:.1}\" class=\"grid\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{}</text>",
            bottom + 16.0,
            number(tick)
        );
    }
    body
}
