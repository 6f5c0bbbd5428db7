//! Self-contained pages: one HTML file that can be opened from disk and mailed.
//!
//! A page's policy allows its own style and script by their hashes, and sound from blobs, and nothing else: no network,
//! frames or forms, and no markup in an answer can load or run anything. Samples are in blocks of compressed JSON that
//! the script unpacks when somebody opens them, so that a page with 100,000 of them appears at once.

mod blocks;

pub use blocks::Blocks;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("page.css");
/// The sample browser, and the button that changes the theme.
const SCRIPT: &str = include_str!("samples.js");

/// Text that can't become markup. Marks that reverse text, or that are invisible, are spelt out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}' => {
                out.push_str(&format!("[U+{:04X}]", char as u32))
            }
            '\n' | '\t' => out.push(char),
            char if char.is_control() => out.push_str(&format!("[U+{:04X}]", char as u32)),
            char => out.push(char),
        }
    }
    out
}

/// Everything before a page's content. With `refresh` the page reloads itself after that many seconds.
pub fn head(title: &str, refresh: Option<u64>) -> String {
    let hash = |text: &str| BASE64.encode(Sha256::digest(text.as_bytes()));
    let refresh = refresh.map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-{}'; \
         style-src 'sha256-{}'; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n{}\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>{STYLE}</style>\n<script>{SCRIPT}</script>\n\
         </head>\n<body>\n<button id=\"theme\" title=\"dark or light\">◐</button>\n",
        hash(SCRIPT),
        hash(STYLE),
        refresh.unwrap_or_default(),
        escape(title),
    )
}

/// The end of a page.
pub const TAIL: &str = "</body>\n</html>\n";

/// A section that is folded until it is opened.
pub fn folded(name: &str, text: &str) -> String {
    format!(
        "<details><summary>{}</summary><pre>{}</pre></details>\n",
        escape(name),
        escape(text)
    )
}

/// A table. Cells are escaped; columns from `numbers` on are aligned right.
pub fn table(heads: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let class = |place: usize| if place >= numbers { " class=\"n\"" } else { "" };
    let cells = |cells: &mut dyn Iterator<Item = &str>, tag: &str| -> String {
        let cell = |(place, text): (usize, &str)| format!("<{tag}{}>{}</{tag}>", class(place), escape(text));
        cells.enumerate().map(cell).collect()
    };
    let mut out = format!(
        "<div class=\"wide\"><table><tr>{}</tr>\n",
        cells(&mut heads.iter().copied(), "th")
    );
    for row in rows {
        out += &format!("<tr>{}</tr>\n", cells(&mut row.iter().map(String::as_str), "td"));
    }
    out + "</table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        assert_eq!(
            escape("<script>alert('1')</script>\u{202e}\u{0}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;[U+202E][U+0000]"
        );
        assert!(table(&["<b>"], &[vec!["<i>".to_owned()]], 1).contains("<td>&lt;i&gt;</td>"));
    }

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_and_nothing_else() {
        let head = head("t", None);
        let hash = BASE64.encode(Sha256::digest(SCRIPT.as_bytes()));
        assert!(head.contains(&format!("script-src 'sha256-{hash}';")), "{head}");
        assert!(
            head.contains("default-src 'none'") && !head.contains("unsafe"),
            "{head}"
        );
    }

    #[test]
    fn the_script_never_writes_markup() {
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "</script",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }
}
