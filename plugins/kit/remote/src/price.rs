//! The prices of calls. Prices are data with dates and sources. A model without a price costs an unknown sum, never
//! zero.

use plugin_api::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The list that comes with the program.
const SHIPPED: &str = include_str!("../prices.toml");

/// The tokens of one call, by price.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Input tokens, including cached ones.
    pub prompt: u64,
    /// Input tokens that the service had cached.
    pub cached: u64,
    /// Output tokens without reasoning.
    pub answer: u64,
    /// Tokens of reasoning.
    pub thoughts: u64,
}

/// The price of a model over some days, in US dollars per million tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The model's name; a `*` at its end stands for any ending.
    pub model: String,
    pub from: Option<toml::value::Datetime>,
    pub until: Option<toml::value::Datetime>,
    pub input: f64,
    pub cached: Option<f64>,
    pub output: f64,
    pub audio_input: Option<f64>,
    pub input_long: Option<f64>,
    pub output_long: Option<f64>,
    /// Prompts above this many tokens cost the `long` prices.
    pub long_above: Option<u64>,
    /// The share of the price that a batch costs.
    pub batch: Option<f64>,
    #[serde(default)]
    pub source: String,
}

impl Price {
    /// What these tokens cost.
    pub fn dollars(&self, tokens: &Tokens) -> f64 {
        let long = self.long_above.is_some_and(|above| tokens.prompt > above);
        let input = self.input_long.filter(|_| long).unwrap_or(self.input);
        let output = self.output_long.filter(|_| long).unwrap_or(self.output);
        let cached = tokens.cached.min(tokens.prompt);
        let read = (tokens.prompt - cached) as f64 * input + cached as f64 * self.cached.unwrap_or(input);
        (read + (tokens.answer + tokens.thoughts) as f64 * output) / 1e6
    }

    /// The first day of the price and its source.
    pub fn in_words(&self) -> String {
        let from = self.from.map(|day| day.to_string()).unwrap_or_default();
        format!("{from}, {}", self.source)
    }

    /// The most that a call can cost: nothing cached, audio at its own price if that is higher, all output tokens
    /// used.
    pub fn most(&self, prompt: u64, written: u64) -> f64 {
        let highest = [Some(self.input), self.input_long, self.audio_input];
        let input = highest.into_iter().flatten().fold(0.0, f64::max);
        let output = self.output_long.unwrap_or(self.output).max(self.output);
        (prompt as f64 * input + written as f64 * output) / 1e6
    }
}

#[derive(Debug, Clone, Deserialize)]
struct List {
    as_of: Option<toml::value::Datetime>,
    #[serde(default)]
    price: Vec<Price>,
}

/// Price lists; the user's comes before the shipped one.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    entries: Vec<Price>,
    /// The date of the shipped list.
    pub as_of: String,
}

impl Prices {
    /// The shipped list with the user's before it.
    pub fn load(own: Option<&Path>) -> Result<Prices> {
        let wrong = |place: &str, why: String| {
            Error::new(Code::SETTINGS, format!("cannot read the prices in `{place}`")).cause(why)
        };
        let mut prices = Prices::default();
        if let Some(path) = own {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|why| wrong(&place, why.to_string()))?;
            prices.add(&text).map_err(|why| wrong(&place, why))?;
        }
        prices.add(SHIPPED).map_err(|why| wrong("the program", why))?;
        Ok(prices)
    }

    fn add(&mut self, text: &str) -> std::result::Result<(), String> {
        let list: List = toml::from_str(text).map_err(|why| why.to_string())?;
        self.as_of = list.as_of.map(|day| day.to_string()).unwrap_or_default();
        // Newest first, so that the first match counts.
        let mut entries = list.price;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.from.map(|day| day.to_string())));
        self.entries.extend(entries);
        Ok(())
    }

    /// The price of a model on a day such as `2026-10-07`.
    pub fn on(&self, model: &str, day: &str) -> Option<&Price> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        self.entries.iter().find(|entry| {
            let named = match entry.model.strip_suffix('*') {
                Some(start) => model.starts_with(start),
                None => model == entry.model,
            };
            let from = entry.from.is_none_or(|from| from.to_string().as_str() <= day);
            named && from && entry.until.is_none_or(|until| until.to_string().as_str() >= day)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the specification's example.
    #[test]
    fn a_call_costs_what_was_read_and_written() {
        let prices = Prices::load(None).unwrap();
        let tokens = Tokens {
            prompt: 1200,
            cached: 800,
            answer: 90,
            thoughts: 410,
        };
        let price = prices.on("gemini-3.8-flash", "2026-10-07").unwrap();
        assert!((price.dollars(&tokens) - 0.002235).abs() < 1e-12);
        let later = prices.on("gemini-3.8-flash", "2027-01-01").unwrap();
        assert!((later.dollars(&tokens) - 0.00447).abs() < 1e-12);
        assert!(price.dollars(&tokens) <= price.most(1200, 500));
    }

    #[test]
    fn a_model_without_an_entry_has_no_price() {
        let prices = Prices::load(None).unwrap();
        assert_eq!(prices.on("some-model", "2026-10-07"), None);
        assert_eq!(prices.on("gemini-3.8-flash", "2020-01-01"), None);
    }

    #[test]
    fn the_users_list_counts_before_the_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prices.toml");
        std::fs::write(&file, "price = [{ model = \"gemini-3.8-*\", input = 1.0, output = 2.0 }, { model = \"local\", input = 0, output = 0 }]").unwrap();
        let prices = Prices::load(Some(&file)).unwrap();
        assert_eq!(prices.on("gemini-3.8-flash", "2026-10-07").unwrap().input, 1.0);
        assert_eq!(prices.on("local", "2026-10-07").unwrap().most(9, 9), 0.0);
        std::fs::write(&file, "price = [{ model = \"x\", inptu = 1.0, output = 2.0 }]").unwrap();
        assert!(Prices::load(Some(&file)).unwrap_err().to_string().contains("inptu"));
    }
}
