//! The place of a clip in the rendered text.

use plugin_api::Part;

/// Marks a clip's place in a rendered template. Texts of data sets never contain it; see [`unmarked`].
pub const CLIP: &str = "\u{fffc}";

/// A rendered text with its clip at the first mark, or at the beginning if there is none.
///
/// ```
/// use plugin_api::Part;
///
/// let text = format!("Listen: {} What is it?", template::CLIP);
/// let parts = template::with_clip(&text, Part::clip(0));
/// assert_eq!(parts, [Part::text("Listen: "), Part::clip(0), Part::text(" What is it?")]);
/// assert_eq!(template::with_clip("What is it?", Part::clip(0))[0], Part::clip(0));
/// ```
pub fn with_clip(text: &str, clip: Part) -> Vec<Part> {
    let (before, after) = text.split_once(CLIP).unwrap_or(("", text));
    let parts = [Part::text(before), clip, Part::text(unmarked(after))];
    let is_empty = |part: &Part| matches!(part, Part::Text { text } if text.is_empty());
    parts.into_iter().filter(|part| !is_empty(part)).collect()
}

/// A text of a data set without clip marks, for a template.
pub fn unmarked(text: &str) -> String {
    text.replace(CLIP, " ")
}
