//! `--show N`: prints lessons with the trained tokens marked.

use super::options::Output;
use super::source::Source;
use crate::failure::Result;
use plugin_api::client::ModelClient;
use serde_json::json;

/// Prints the first lessons.
pub fn show(client: &ModelClient, source: &dyn Source, count: usize, output: &Output) -> Result<()> {
    for index in 0..count.min(source.len()) {
        let mut lesson = source.lesson(index)?;
        lesson.with_texts = true;
        let tokens = client.lesson_tokens(&lesson)?;
        let name = source.name(index);
        if output.json {
            let line = json!({
                "id": name, "input_ids": tokens.ids, "learn": tokens.learn, "texts": tokens.texts, "clips": lesson.clips.len(),
            });
            (output.print)(&format!("{line}\n"));
            continue;
        }
        let learnt = tokens.learn.iter().skip(1).filter(|learn| **learn).count();
        let mut text = format!("lesson `{name}`: {} tokens, {learnt} learnt\n", tokens.ids.len());
        for piece in &tokens.texts {
            match piece.learn {
                true => text.push_str(&format!("⟦{}⟧", piece.text)),
                false => text.push_str(&piece.text),
            }
        }
        if tokens.texts.is_empty() {
            // If the model gives no texts, the token ids are shown.
            let marked = tokens.ids.iter().zip(&tokens.learn);
            let words: Vec<String> = marked
                .map(|(id, learn)| if *learn { format!("⟦{id}⟧") } else { id.to_string() })
                .collect();
            text.push_str(&words.join(" "));
        }
        (output.print)(&format!("{text}\n\n"));
    }
    Ok(())
}
