//! A text as rows of sentences, each coloured by its weight, with what is answered after it.

use crate::text::{escaped, number, shortened};
use crate::{Plot, colour};
use std::fmt::Write;

/// The most rows that are drawn; the others are counted.
const MOST: usize = 60;
const TOP: f64 = 60.0;
const ROW: f64 = 26.0;
const TEXT: f64 = 690.0;
const SHARES: f64 = 120.0;
const WIDTH: f64 = 900.0;

/// One sentence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sentence {
    pub text: String,
    /// How much it moves the answer, from 0 to 1.
    pub weight: f64,
    /// The answer after it.
    pub answer: String,
    /// How probable each option is after it; none where that is not known.
    pub shares: Vec<f64>,
}

/// The first row is the answer before any sentence.
pub fn sentences(title: &str, rows: &[Sentence]) -> Plot {
    let mut body = format!(
        "<text x=\"20\" y=\"24\" font-size=\"14\">{}</text>\n\
         <text x=\"20\" y=\"48\" font-size=\"11\">redder = moves the answer more</text>\n\
         <text x=\"722\" y=\"48\" font-size=\"11\">answer</text>\n",
        escaped(title)
    );
    if let Some(options) = rows
        .iter()
        .map(|row| row.shares.len())
        .max()
        .filter(|options| *options > 0)
    {
        let letters: String = ('A'..='Z').take(options).collect();
        for (place, letter) in letters.chars().enumerate() {
            let x = 768.0 + 14.0 * place as f64;
            let _ = writeln!(
                body,
                "<text x=\"{x}\" y=\"48\" font-size=\"12\" style=\"fill:{}\">{letter}</text>",
                colour(place)
            );
        }
    }
    for (place, row) in rows.iter().take(MOST).enumerate() {
        let y = TOP + ROW * place as f64;
        let _ = writeln!(
            body,
            "<rect x=\"16\" y=\"{y}\" width=\"{TEXT}\" height=\"22\" fill=\"#d62728\" fill-opacity=\"{:.2}\">\
             <title>{}</title></rect>\
             <text x=\"20\" y=\"{}\" font-size=\"12\">{}</text>\
             <text x=\"722\" y=\"{}\" font-size=\"12\">{}</text>",
            row.weight.clamp(0.0, 1.0) * 0.8,
            number(row.weight),
            y + 15.0,
            escaped(&shortened(&row.text, 110)),
            y + 15.0,
            escaped(&shortened(&row.answer, 6)),
        );
        let mut x = 768.0;
        for (option, share) in row.shares.iter().enumerate() {
            let wide = SHARES * share.clamp(0.0, 1.0);
            let _ = writeln!(
                body,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"14\" fill=\"{}\"><title>{}: {}</title></rect>",
                y + 4.0,
                colour(option),
                ('A'..='Z').nth(option).unwrap_or('?'),
                number(*share)
            );
            x += wide;
        }
    }
    let drawn = rows.len().min(MOST);
    let mut bottom = TOP + ROW * drawn as f64;
    if rows.len() > drawn {
        let more = rows.len() - drawn;
        let _ = writeln!(
            body,
            "<text x=\"20\" y=\"{}\" font-size=\"12\">and {more} more</text>",
            bottom + 15.0
        );
        bottom += ROW;
    }
    Plot::new(WIDTH, bottom + 20.0, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_colour_and_shares_fill_the_bar() {
        let row = Sentence {
            text: "A <bell> rings.".to_owned(),
            weight: 0.5,
            answer: "B".to_owned(),
            shares: vec![0.25, 0.75],
        };
        let rows: Vec<Sentence> = std::iter::repeat_n(row, 61).collect();
        let text = sentences("q/0", &rows).document();
        assert!(
            text.contains("fill-opacity=\"0.40\"") && text.contains("A &lt;bell&gt; rings."),
            "{text}"
        );
        assert!(
            text.contains("width=\"30.0\"") && text.contains("x=\"798.0\""),
            "{text}"
        );
        assert!(text.contains("and 1 more"), "{text}");
    }
}
