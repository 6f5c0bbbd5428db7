//! A model's figures as a table for people and as an object for machines.

use super::model::{ModelFigures, Rate};
use super::report::{bytes, count, machine, machine_line, time};
use crate::table::{Align, Table};
use serde_json::{Value, json};

/// The table, in Markdown.
pub fn model_table(figures: &ModelFigures) -> String {
    let mut table = Table::new(&[
        ("What", Align::Left),
        ("Per second", Align::Right),
        ("Processor time each", Align::Right),
    ]);
    for (_, what, rate) in rates(figures) {
        let milliseconds = rate.processor_ms_each();
        table.row([
            what,
            format!("{:.2}", rate.per_second()),
            format!("{milliseconds:.2} ms"),
        ]);
    }
    let card = &figures.card;
    let load = &figures.load;
    let mut text = table.render() + "\n";
    text += &format!(
        "loaded in {}, {} of the processor's time",
        time(load.wall),
        time(load.processor)
    );
    if let Some(peak) = figures.peak_bytes {
        text += &format!("; peak memory {}", bytes(peak));
    }
    let words = [card.precision.as_deref(), card.device.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let parameters = card.parameters.map(|number| format!(", {} parameters", count(number)));
    text + &format!(
        "\n{}: {}{}\n{}\n",
        card.name,
        words.join(" on "),
        parameters.unwrap_or_default(),
        machine_line()
    )
}

/// The same for machines.
pub fn model_as_json(figures: &ModelFigures) -> Value {
    let card = &figures.card;
    let mut all = json!({
        "model": card.name, "precision": card.precision, "device": card.device, "parameters": card.parameters,
        "load_seconds": figures.load.wall.as_secs_f64(), "peak_memory_bytes": figures.peak_bytes, "machine": machine(),
    });
    for (key, _, rate) in rates(figures) {
        all[format!("{key}_per_second")] = rate.per_second().into();
        all[format!("{key}_processor_ms")] = rate.processor_ms_each().into();
    }
    all
}

/// Key, description and rate of each kind of work.
fn rates(figures: &ModelFigures) -> Vec<(&'static str, String, &Rate)> {
    let work = figures.work;
    let mut rates = vec![
        (
            "prefill_tokens",
            format!("Tokens read, of a prompt of {:.0}", figures.read.count),
            &figures.read,
        ),
        (
            "decode_1_tokens",
            "Tokens written, one answer".to_owned(),
            &figures.write,
        ),
        (
            "decode_batch_tokens",
            format!("Tokens written, {} answers at once", work.batch),
            &figures.write_batch,
        ),
    ];
    if let Some(choose) = &figures.choose {
        let what = format!("Prompts of {} tokens, four options scored", work.choice_prompt);
        rates.push(("choice_prompts", what, choose));
    }
    if let Some((rate, tokens)) = &figures.hear {
        let what = format!(
            "Seconds of sound heard and read, of a clip of {:.0} s ({tokens} tokens)",
            rate.count
        );
        rates.push(("heard_seconds", what, rate));
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::model::Work;
    use plugin_api::ModelCard;
    use std::time::Duration;

    #[test]
    fn every_rate_is_told_to_people_and_machines() {
        let rate = |count| Rate {
            count,
            wall: Duration::from_secs(2),
            processor: Duration::from_secs(4),
        };
        let figures = ModelFigures {
            card: ModelCard {
                parameters: Some(68_736),
                ..ModelCard::text("some")
            },
            work: Work::default(),
            load: rate(1.0),
            read: rate(510.0),
            write: rate(63.0),
            write_batch: rate(248.0),
            choose: Some(rate(16.0)),
            hear: Some((rate(30.0), 750)),
            peak_bytes: Some(3 << 20),
        };
        let json = model_as_json(&figures);
        for (key, expected) in [
            ("prefill_tokens_per_second", 255.0),
            ("decode_1_tokens_per_second", 31.5),
            ("decode_batch_tokens_per_second", 124.0),
            ("choice_prompts_per_second", 8.0),
            ("choice_prompts_processor_ms", 250.0),
            ("heard_seconds_per_second", 15.0),
            ("load_seconds", 2.0),
        ] {
            assert_eq!(json[key], expected, "{key}");
        }
        let table = model_table(&figures);
        for part in [
            "255.00",
            "31.50",
            "124.00",
            "8.00",
            "250.00 ms",
            "peak memory 3 MB",
            "prompt of 510",
            "68.7 K parameters",
            "clip of 30 s (750 tokens)",
        ] {
            assert!(table.contains(part), "{part} in {table}");
        }
    }
}
