//! Plots as SVG text: axes, curves with bands, bars and forests with intervals, histograms.
//!
//! This crate draws every picture of the host, in pages and in separate files. The decision a newcomer would question:
//! it uses no plotting crate. One would bring fonts and rasters that no page needs, and fixed colours, while pages
//! need colours that follow their theme: here ink, axes and paper are CSS variables, with plain colours for viewers
//! without CSS.
//!
//! ```
//! let bar = plots::Bar { label: "dog".into(), value: 0.75, interval: Some((0.5, 0.9)), ..Default::default() };
//! assert!(plots::bars("accuracy", &[bar], [0.0, 1.0]).document().starts_with("<svg"));
//! ```

mod bars;
mod chart;
mod flow;
mod forest;
mod frame;
mod histogram;
mod sentences;
mod text;
mod ticks;

pub use bars::{Bar, bars};
pub use chart::{Chart, HEIGHT, WIDTH, document};
pub use flow::flow;
pub use forest::{Row, forest};
pub use histogram::{Histogram, histogram};
pub use sentences::{Sentence, sentences};
pub use text::{escaped, number};
pub use ticks::ticks;

/// Colours of series, readable on light and on dark paper.
pub const SERIES: [&str; 10] = [
    "#1f77b4", "#e07b1a", "#2ca02c", "#d62728", "#9467bd", "#a0665a", "#d667b5", "#7f7f7f", "#a5a620", "#17a2b8",
];

/// The colour of a series by its place; colours come round again.
pub fn colour(place: usize) -> &'static str {
    SERIES[place % SERIES.len()]
}

/// The variables and classes of plots. Pages with plots include it in their style; a separate file contains it.
pub const STYLE: &str = ":root{--ink:#222;--axis:#444;--grid:#ddd;--paper:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--axis:#aaa;--grid:#3a3a3a;--paper:#161616}}\
svg text{fill:var(--ink)}svg .axis{stroke:var(--axis)}svg .grid{stroke:var(--grid)}\
svg .ink{fill:var(--ink)}svg .paper{fill:var(--paper)}";

/// A finished picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    pub width: f64,
    pub height: f64,
    body: String,
}

impl Plot {
    pub fn new(width: f64, height: f64, body: String) -> Plot {
        Plot { width, height, body }
    }

    /// The picture as a file.
    pub fn document(&self) -> String {
        document(self.width, self.height, &self.body)
    }

    /// The picture as a part of a page that has [`STYLE`] in its own style. `words` say what it shows to those who
    /// can't see it.
    pub fn inline(&self, words: &str) -> String {
        format!(
            "<svg class=\"plot\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" \
             height=\"{h:.0}\" font-family=\"sans-serif\">\n{}</svg>\n",
            escaped(words),
            self.body,
            w = self.width,
            h = self.height,
        )
    }
}
