//! Interventions as text: `mask:percent=50,mode=start`.

use super::{Fill, Intervention};
use crate::failure::{Failure, Result};
use crate::registry::nearest_hint;
use faithfulness::mask::Place;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The seed of the published masks.
const SEED: u64 = 42;
const KINDS: [&str; 7] = ["mask", "noise", "reverse", "silence", "swap", "concat", "overlay"];
const FORMS: &str = "there are mask:percent=P[,mode=start|end|random|scattered][,type=silence|noise][,snr=DB][,seed=N], \
                     noise:snr=DB[,seed=N], reverse, silence, swap[:seed=N], \
                     concat:file=WAV[,place=after|before][,gap=SECONDS], overlay:file=WAV[,snr=DB][,at=SECONDS]";

impl Intervention {
    /// Parses the text of a flag.
    pub fn parse(text: &str) -> Result<Intervention> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut given = Given::read(text, rest)?;
        let parsed = match kind.trim() {
            "mask" => Intervention::Mask {
                percent: given.number("percent", None, 0.0..=100.0)?,
                place: Place::ALL[given.one_of("mode", "random", &Place::NAMES)?],
                fill: {
                    let snr = given.number("snr", Some(0.0), -200.0..=200.0)?;
                    match given.one_of("type", "silence", &["silence", "noise"])? {
                        0 => Fill::Silence,
                        _ => Fill::Noise { snr },
                    }
                },
                seed: given.seed()?,
            },
            "noise" => Intervention::Noise {
                snr: given.number("snr", None, -200.0..=200.0)?,
                seed: given.seed()?,
            },
            "reverse" => Intervention::Reverse,
            "silence" => Intervention::Silence,
            "swap" => Intervention::Swap { seed: given.seed()? },
            "concat" => Intervention::Concat {
                file: given.file()?,
                before: given.one_of("place", "after", &["after", "before"])? == 1,
                gap: given.number("gap", Some(0.0), 0.0..=3600.0)?,
            },
            "overlay" => Intervention::Overlay {
                file: given.file()?,
                at: given.number("at", Some(0.0), 0.0..=3600.0)?,
                snr: given.number("snr", Some(0.0), -200.0..=200.0)?,
            },
            other => {
                let failure = Failure::usage(format!("unknown audio intervention `{other}`"));
                return Err(failure.help(nearest(other, &KINDS)));
            }
        };
        given.finish(parsed)
    }
}

/// The nearest known name if there is one, else all forms.
fn nearest(given: &str, known: &[&str]) -> String {
    let hint = nearest_hint(given, known.iter().copied());
    match hint.starts_with("did you mean") {
        true => hint,
        false => FORMS.to_owned(),
    }
}

/// The `key=value`s behind a colon; each is used once.
struct Given<'a> {
    text: &'a str,
    values: BTreeMap<&'a str, &'a str>,
    /// The keys that the intervention has.
    asked: Vec<&'static str>,
}

impl<'a> Given<'a> {
    fn read(text: &'a str, rest: &'a str) -> Result<Given<'a>> {
        let mut values = BTreeMap::new();
        for pair in rest.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::usage(format!("expected `key=value` in `{text}`, got `{pair}`")).help(FORMS));
            };
            if values.insert(key.trim(), value.trim()).is_some() {
                return Err(Failure::usage(format!("`{text}` says `{key}` twice")));
            }
        }
        let asked = Vec::new();
        Ok(Given { text, values, asked })
    }

    fn value(&mut self, key: &'static str) -> Option<&'a str> {
        self.asked.push(key);
        self.values.remove(key)
    }

    fn parsed<T: FromStr>(&mut self, key: &'static str, what: &str) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let wrong = || Failure::usage(format!("`{key}` of `{}` is `{value}`, expected {what}", self.text));
        value.parse().map(Some).map_err(|_| wrong())
    }

    fn number(&mut self, key: &'static str, default: Option<f64>, range: std::ops::RangeInclusive<f64>) -> Result<f64> {
        let what = format!("a number from {} to {}", range.start(), range.end());
        let number: Option<f64> = self.parsed(key, &what)?;
        match number.or(default) {
            Some(number) if range.contains(&number) => Ok(number),
            Some(number) => Err(Failure::usage(format!(
                "`{key}` of `{}` is {number}, expected {what}",
                self.text
            ))),
            None => Err(Failure::usage(format!("`{}` doesn't say its `{key}`", self.text)).help(FORMS)),
        }
    }

    fn seed(&mut self) -> Result<u64> {
        Ok(self.parsed("seed", "a whole number")?.unwrap_or(SEED))
    }

    fn file(&mut self) -> Result<PathBuf> {
        let file = self.value("file").map(PathBuf::from);
        file.ok_or_else(|| Failure::usage(format!("`{}` doesn't say its `file`", self.text)).help(FORMS))
    }

    /// Which of these words it is.
    fn one_of(&mut self, key: &'static str, default: &'static str, words: &[&str]) -> Result<usize> {
        let value = self.value(key).unwrap_or(default);
        words.iter().position(|word| *word == value).ok_or_else(|| {
            let failure = Failure::usage(format!("`{key}` of `{}` can't be `{value}`", self.text));
            failure.help(nearest_hint(value, words.iter().copied()))
        })
    }

    fn finish(self, parsed: Intervention) -> Result<Intervention> {
        match self.values.into_keys().next() {
            None => Ok(parsed),
            Some(key) => {
                let failure = Failure::usage(format!("`{}` has no setting `{key}`", self.text));
                Err(failure.help(nearest(key, &self.asked)))
            }
        }
    }
}

/// The text that makes the same intervention, with every default spelt out.
impl fmt::Display for Intervention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Intervention::Mask {
                percent,
                place,
                fill,
                seed,
            } => {
                write!(f, "mask:percent={percent},mode={}", place.name())?;
                match fill {
                    Fill::Silence => f.write_str(",type=silence")?,
                    Fill::Noise { snr } => write!(f, ",type=noise,snr={snr}")?,
                }
                write!(f, ",seed={seed}")
            }
            Intervention::Noise { snr, seed } => write!(f, "noise:snr={snr},seed={seed}"),
            Intervention::Reverse => f.write_str("reverse"),
            Intervention::Silence => f.write_str("silence"),
            Intervention::Swap { seed } => write!(f, "swap:seed={seed}"),
            Intervention::Concat { file, before, gap } => {
                let place = if *before { "before" } else { "after" };
                write!(f, "concat:file={},place={place},gap={gap}", file.display())
            }
            Intervention::Overlay { file, at, snr } => write!(f, "overlay:file={},snr={snr},at={at}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, whole: &str) {
        let parsed = Intervention::parse(text).unwrap();
        assert_eq!(parsed.to_string(), whole);
        assert_eq!(Intervention::parse(whole).unwrap(), parsed);
    }

    #[test]
    fn words_make_an_intervention_and_it_says_them_all() {
        check(
            "mask:percent=50,mode=start",
            "mask:percent=50,mode=start,type=silence,seed=42",
        );
        check(
            "mask:percent=12.5,type=noise",
            "mask:percent=12.5,mode=random,type=noise,snr=0,seed=42",
        );
        check("noise:snr=-10,seed=7", "noise:snr=-10,seed=7");
        check("reverse", "reverse");
        check("swap", "swap:seed=42");
        check("concat:file=a.wav", "concat:file=a.wav,place=after,gap=0");
        check("overlay:file=a.wav,snr=5", "overlay:file=a.wav,snr=5,at=0");
    }

    #[test]
    fn the_nearest_name_is_offered() {
        for (text, words) in [
            ("msk:percent=5", "did you mean `mask`?"),
            ("blur", "there are mask:percent=P"),
            ("mask:percent=5,mode=strat", "did you mean `start`?"),
            ("mask:percent=5,sede=1", "did you mean `seed`?"),
        ] {
            let failure = Intervention::parse(text).unwrap_err().render();
            assert!(failure.contains(words), "{text}: {failure}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("blur", "unknown audio intervention `blur`"),
            ("mask", "doesn't say its `percent`"),
            ("mask:percent=101", "is 101, expected a number from 0 to 100"),
            ("mask:percent=NaN", "expected a number"),
            ("mask:percent=5,mode=middle", "can't be `middle`"),
            ("mask:percent=5,sed=1", "has no setting `sed`"),
            ("noise:20", "expected `key=value`"),
        ] {
            let failure = Intervention::parse(text).unwrap_err();
            assert!(failure.to_string().contains(words), "{text}: {failure}");
        }
    }
}
