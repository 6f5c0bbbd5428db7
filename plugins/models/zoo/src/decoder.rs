//! Adapts a family's model to the kit's generator.
//!
//! The generator keeps a cache for each text and wants logits at places of its choice. Candle's models keep the keys
//! and values of one text inside and return the logits of the last token only. So the generator's caches here hold the
//! text itself: its token ids in place of keys, and the number of the pass in which each came in place of values. A
//! pass computes only the requested logits, from the state of the same text if there is one and from its beginning
//! otherwise.
//!
//! A text's numbers are the same to the bit whatever happened to its state: it always goes through the model in the
//! same pieces, which are the whole prompt and each later token alone, and a state is used only after the pieces that
//! it has processed.

use crate::family::{Entry, Model};
use crate::fields::Fields;
use crate::weights::Files;
use candle_core::{DType, Device, Result, Tensor};
use nn::{Step, Weights};
use std::sync::{Mutex, PoisonError};

/// The pass counter starts again here: neighbouring passes must differ, and fp32 must represent each number.
const PASSES: u32 = 1 << 20;

pub struct Decoder {
    states: Mutex<States>,
    device: Device,
    context: usize,
}

/// A text and the ends of the pieces in which it goes through a model.
#[derive(Clone, PartialEq)]
struct Text {
    tokens: Vec<u32>,
    ends: Vec<usize>,
}

/// A text in a pass. Its first `own` tokens came in earlier passes; the places of the others in this pass begin at
/// `first`.
struct Asked {
    text: Text,
    own: usize,
    first: usize,
    /// Places within `text` whose logits are requested.
    wanted: Vec<usize>,
}

struct States {
    fresh: Box<dyn Fn() -> Result<Box<dyn Model>> + Send>,
    kept: Vec<Kept>,
    /// The texts of the current pass.
    asked: Vec<Asked>,
    pass: u32,
}

/// A model that has processed a text, and the logits (vocabulary) after it.
struct Kept {
    text: Text,
    model: Box<dyn Model>,
    logits: Tensor,
    pass: u32,
}

impl Decoder {
    pub fn load(entry: &'static Entry, fields: &Fields, weights: &Weights) -> nn::Result<Decoder> {
        let files = Files::of(weights, fields.is_tied());
        let first = (entry.load)(fields, files.builder());
        let first = first.map_err(|error| files.reason().unwrap_or_else(|| fields.malformed(&error)))?;
        let own = fields.clone();
        // Most models can be copied; the others are built again from the tensors that were read.
        let fresh = move || match first.fork() {
            Some(copy) => Ok(copy),
            None => (entry.load)(&own, files.builder()),
        };
        Ok(Decoder {
            states: Mutex::new(States {
                fresh: Box::new(fresh),
                kept: Vec::new(),
                asked: Vec::new(),
                pass: 0,
            }),
            device: weights.device().clone(),
            context: fields.context(),
        })
    }
}

impl nn::Decoder for Decoder {
    /// The ids as they are: (tokens, 1).
    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        ids.to_dtype(DType::F32)?.unsqueeze(1)
    }

    /// Places in the pass (tokens, 1), which [`nn::Decoder::logits`] receives.
    fn forward(&self, x: &Tensor, step: &mut Step) -> Result<Tensor> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = (states.pass + 1) % PASSES;
        let ids = x.unsqueeze(2)?;
        let passes = Tensor::full(pass as f32, ids.shape(), x.device())?;
        let (mut asked, mut first) = (Vec::new(), 0);
        for seen in step.texts(&ids, &passes)? {
            let (mut text, mut before) = (
                Text {
                    tokens: Vec::new(),
                    ends: Vec::new(),
                },
                0,
            );
            for (ids, passes) in &seen.seen {
                let values = |of: &Tensor| of.flatten_all()?.to_vec1::<f32>();
                let (ids, passes) = (values(ids)?, values(passes)?);
                for run in passes.chunk_by(|one, next| one == next) {
                    before += run.len();
                    text.ends.push(before);
                }
                text.tokens.extend(ids.into_iter().map(|id| id as u32));
            }
            let own = text.tokens.len() - seen.tokens;
            text.ends.retain(|end| *end <= own);
            let tokens = seen.tokens;
            asked.push(Asked {
                text,
                own,
                first,
                wanted: Vec::new(),
            });
            first += tokens;
        }
        // States of the last pass are continued by this one; older texts have ended.
        let last = states.pass;
        states.kept.retain(|kept| kept.pass == last);
        (states.asked, states.pass) = (asked, pass);
        Tensor::arange(0, first as u32, x.device())?
            .to_dtype(DType::F32)?
            .unsqueeze(1)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let places = hidden.flatten_all()?.to_vec1::<f32>()?;
        let rows = places.into_iter().map(|place| states.at(place as usize, &self.device));
        Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn context(&self) -> usize {
        self.context
    }
}

impl States {
    /// The logits at a place in the pass.
    fn at(&mut self, place: usize, device: &Device) -> Result<Tensor> {
        let asked = self.asked.iter_mut().rfind(|asked| asked.first <= place);
        let Some(asked) = asked else {
            candle_core::bail!("place {place} is not in the pass")
        };
        let end = asked.own + place - asked.first + 1;
        let Some(tokens) = asked.text.tokens.get(..end) else {
            candle_core::bail!("place {place} is not in the pass")
        };
        let wanted = asked.wanted.iter().copied().filter(|wanted| *wanted < end);
        let ends = asked.text.ends.iter().copied().chain(wanted).chain([end]);
        let text = Text {
            tokens: tokens.to_vec(),
            ends: ends.collect(),
        };
        asked.wanted.push(end);
        let own = asked.own;
        self.behind(text, own, device)
    }

    /// The logits after a text, whose first `shared` tokens may begin other texts.
    fn behind(&mut self, text: Text, shared: usize, device: &Device) -> Result<Tensor> {
        let pass = self.pass;
        if let Some(same) = self.kept.iter_mut().find(|kept| kept.text == text) {
            same.pass = pass;
            return Ok(same.logits.clone());
        }
        let begun = (0..self.kept.len()).filter(|&number| text.goes_on_from(&self.kept[number].text));
        let begun = begun.max_by_key(|&number| self.kept[number].text.ends.len());
        let (mut model, done) = match begun {
            None => ((self.fresh)()?, 0),
            Some(number) => {
                let kept = &self.kept[number];
                let done = kept.text.ends.len();
                let copy = kept.model.fork().filter(|_| kept.text.tokens.len() <= shared);
                (copy.unwrap_or_else(|| self.kept.swap_remove(number).model), done)
            }
        };
        let mut logits = None;
        for piece in done..text.ends.len() {
            let start = piece.checked_sub(1).map_or(0, |before| text.ends[before]);
            let tokens = Tensor::new(&text.tokens[start..text.ends[piece]], device)?.unsqueeze(0)?;
            logits = Some(model.step(&tokens, start)?);
        }
        let Some(logits) = logits else {
            candle_core::bail!("a text without tokens has no logits")
        };
        let logits = logits.flatten_all()?.to_dtype(DType::F32)?;
        self.kept.push(Kept {
            text,
            model,
            logits: logits.clone(),
            pass,
        });
        Ok(logits)
    }
}

impl Text {
    /// Whether its first pieces are those of another text.
    fn goes_on_from(&self, other: &Text) -> bool {
        self.ends.len() > other.ends.len()
            && self.ends.starts_with(&other.ends)
            && self.tokens.starts_with(&other.tokens)
    }
}
