//! Checks that a model uses its clips: replacing the clips of a prompt by silence must change something.
//!
//! It catches what no score shows: audio that is decoded, encoded and then lost on its way into the model. The first
//! samples are asked separately from the run, briefly and greedily, until one changes. If the model can score options,
//! the scores are compared, since a text may stay the same although the model uses the clip.

use super::pool::Pool;
use crate::failure::{Failure, Result};
use crate::run::prompts::{PromptBuilder, WorkItem};
use plugin_api::{Clip, Code, Error, ModelCard, Prompt, Reply, Sampling, Want};
use serde::{Deserialize, Serialize};

/// The most prompts that are asked twice.
const MOST_SAMPLES: usize = 3;
/// How many samples are searched for clips that are not silent.
const MOST_LOOKS: usize = 20;
const MOST_TOKENS: u32 = 32;
/// The most seconds of a clip that are used.
const MOST_SECONDS: f64 = 30.0;
/// Below this a clip is silent, also for a model: 16 bits can't distinguish it from zero.
const SILENT: f32 = 1.0 / 65536.0;
/// The relative difference that floating point sums may have between two runs.
const NOISE: f64 = 1e-5;

/// What the test found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Silence changed something.
    Heard,
    /// Silence changed nothing.
    Ignored,
    /// The test was impossible, or was skipped.
    NotTested,
}

/// The test, as `hearing.json` and `results.json` have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioCheck {
    pub finding: Finding,
    /// The samples that were asked twice.
    pub samples: Vec<String>,
    /// `option scores` or `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl AudioCheck {
    pub fn not_tested(why: impl Into<String>) -> Self {
        AudioCheck {
            finding: Finding::NotTested,
            samples: Vec::new(),
            compared: None,
            why: Some(why.into()),
        }
    }

    /// Why the run's numbers should not be trusted, if the model ignores the audio.
    pub fn suspicion(&self) -> Option<String> {
        let count = self.samples.len();
        let compared = self.compared.as_deref().unwrap_or("text");
        (self.finding == Finding::Ignored).then(|| {
            format!("the audio seems to be ignored: silence in its place changed no {compared} in {count} samples")
        })
    }
}

/// Asks the first samples of a selection with their clips and with silence. None when the run is to be stopped.
pub fn check(
    pool: &Pool,
    card: &ModelCard,
    builder: &PromptBuilder,
    selection: &[usize],
    stop_asked: &dyn Fn() -> bool,
) -> Result<Option<AudioCheck>> {
    let asker = Asker { pool, card, stop_asked };
    let mut done = AudioCheck::not_tested(format!(
        "the clips of the first {} samples are all silent",
        selection.len().min(MOST_LOOKS)
    ));
    let mut tried = 0;
    for index in selection.iter().take(MOST_LOOKS) {
        let Some((mut item, outcome)) = builder.chains_of(*index).into_iter().next() else {
            continue;
        };
        // The test uses the unchanged clips: a run may play silence on purpose.
        if let Err(error) = outcome.and_then(|()| builder.clips.unchanged().resolve(&mut item)) {
            // The run itself will report this sample.
            done.why = Some(error.to_string());
            continue;
        }
        if item.prompt.clips.iter().map(beginning).all(|clip| is_silent(&clip)) {
            continue;
        }
        tried += 1;
        match asker.compare(&item)? {
            Compared::Stopped => return Ok(None),
            Compared::Failed(error) => {
                done.why = Some(error.to_string());
                if [Code::DIED, Code::PANIC, Code::DEADLINE, Code::MEMORY].contains(&error.code) {
                    break;
                }
            }
            Compared::Answers { what, differ } => {
                done.samples.push(item.record.sample_id);
                done.compared = Some(what.to_owned());
                done.finding = if differ { Finding::Heard } else { Finding::Ignored };
                done.why = None;
            }
        }
        if done.finding == Finding::Heard || tried == MOST_SAMPLES {
            break;
        }
    }
    if done.finding != Finding::NotTested {
        done.why = None;
    }
    Ok(Some(done))
}

/// As much of a clip as the test needs: hours of audio would cost as much as the run itself.
fn beginning(clip: &Clip) -> Clip {
    let most = (f64::from(clip.rate) * MOST_SECONDS) as usize;
    match clip.samples().get(..most) {
        Some(samples) => Clip::new(clip.rate, samples.to_vec()),
        None => clip.clone(),
    }
}

fn is_silent(clip: &Clip) -> bool {
    clip.samples().iter().all(|sample| sample.abs() < SILENT)
}

enum Compared {
    Stopped,
    Failed(Error),
    Answers { what: &'static str, differ: bool },
}

struct Asker<'a> {
    pool: &'a Pool,
    card: &'a ModelCard,
    stop_asked: &'a dyn Fn() -> bool,
}

impl Asker<'_> {
    fn compare(&self, item: &WorkItem) -> Result<Compared> {
        let mut ways = Vec::new();
        if self.card.scores_choices {
            let options = [" yes", " no"].map(str::to_owned).to_vec();
            ways.push(("option scores", Want::Choice { options }));
        }
        let sampling = Sampling::greedy(MOST_TOKENS);
        ways.push(("text", Want::Text { sampling }));
        let mut failed = Error::msg("the model can answer nothing");
        for (what, want) in ways {
            let with = |clips: Vec<Clip>| Prompt {
                want: want.clone(),
                clips,
                ..item.prompt.clone()
            };
            let heard = with(item.prompt.clips.iter().map(beginning).collect());
            let silence = |clip: &Clip| Clip::new(clip.rate, vec![0.0; clip.samples().len()]);
            let silent = with(heard.clips.iter().map(silence).collect());
            let both = match self.ask(heard)? {
                Ok(heard) => self.ask(silent)?.map(|silent| (heard, silent)),
                Err(error) => Err(error),
            };
            match both {
                Ok((heard, silent)) => {
                    let differ = differ(&heard, &silent);
                    return Ok(Compared::Answers { what, differ });
                }
                Err(error) if error.code == Code::CANCELLED => return Ok(Compared::Stopped),
                Err(error) if error.code == Code::UNSUPPORTED => failed = error,
                Err(error) => return Ok(Compared::Failed(error)),
            }
        }
        Ok(Compared::Failed(failed))
    }

    /// The outer failure ends the run: the model hangs and can't be stopped.
    fn ask(&self, prompt: Prompt) -> Result<plugin_api::Result<Reply>> {
        let answered = self.pool.ask(prompt, self.stop_asked);
        match self.pool.failure() {
            Some(why) => Err(Failure::from(why)),
            None => Ok(answered),
        }
    }
}

fn differ(one: &Reply, other: &Reply) -> bool {
    if one.options.len() != other.options.len() || one.text != other.text || one.thinking != other.thinking {
        return true;
    }
    let pairs = one.options.iter().zip(&other.options);
    // Two values that are not numbers can't be compared.
    let apart = |(one, other): (f64, f64)| (one - other).abs() > NOISE * (1.0 + one.abs());
    pairs.map(|(one, other)| (one.loglik, other.loglik)).any(apart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::OptionScore;

    fn scored(logliks: &[f64]) -> Reply {
        let option = |loglik: &f64| OptionScore {
            loglik: *loglik,
            ..OptionScore::default()
        };
        Reply::scored(logliks.iter().map(option).collect())
    }

    #[test]
    fn a_difference_is_more_than_noise() {
        for (one, other, expected) in [
            (&[-1.5, -2.0], &[-1.5, -2.0], false),
            (&[-1.5, -2.0], &[-1.5, -2.000_000_1], false),
            (&[-1.5, -2.0], &[-1.5, -2.001], true),
            (&[f64::NAN, -2.0], &[f64::NAN, -2.0], false),
        ] {
            assert_eq!(differ(&scored(one), &scored(other)), expected, "{one:?} {other:?}");
        }
        assert!(differ(&Reply::text("a dog"), &Reply::text("nothing")));
        assert!(!differ(&Reply::text("a dog"), &Reply::text("a dog")));
    }

    #[test]
    fn silence_is_what_16_bits_call_so() {
        assert!(is_silent(&Clip::new(16_000, vec![0.0; 9])));
        assert!(is_silent(&Clip::new(16_000, Vec::new())));
        assert!(!is_silent(&Clip::new(16_000, vec![0.0, 1.0 / 32768.0])));
    }
}
