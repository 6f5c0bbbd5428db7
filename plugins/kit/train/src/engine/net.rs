//! The whole model, forwards and backwards.

use super::parameters::{Gradients, Pass, Weight};
use super::row::{Row, Sound};
use crate::backward::Texts;
use crate::backward::decoder::{Earlier, Kept, Layer, Tokens, select};
use crate::backward::head::Loss;
use crate::backward::linear::Linear;
use crate::backward::norm::RmsNorm;
use crate::backward::rope::Angles;
use crate::backward::tower::{self, Tower};
use nn::{Ears, Rope};
use plugin_api::{Clip, Code, Error, Result};
use rayon::prelude::*;
use std::sync::Arc;

pub(crate) struct Net {
    pub embed: Weight, // (vocabulary, hidden)
    pub embed_scale: f32,
    pub logit_scale: f32,
    pub layers: Vec<Layer>,
    pub norm: RmsNorm,
    pub head: Head,
    pub loss: Loss,
    pub ropes: Vec<Rope>,
    pub tower: Option<Tower>,
    /// What hears in place of a tower, and is never learnt.
    pub ears: Option<Arc<dyn Ears>>,
    pub vocabulary: usize,
    pub hidden: usize,
    pub context: usize,
}

/// The output layer; if tied, over the table of tokens.
pub(crate) enum Head {
    Own(Linear),
}

impl Head {
    pub fn linear(&self) -> &Linear {
        let Head::Own(linear) = self;
        linear
    }
}

/// The input of the layers for some rows.
struct Input {
    texts: Texts,
    ids: Vec<u32>,
    x: Vec<f32>, // (tokens, hidden)
    /// Tokens whose vectors come from audio.
    heard: Vec<usize>,
    /// Those of them that are encoded in this pass, and what the tower keeps.
    tower: Option<(Vec<usize>, tower::Kept)>,
}

fn deaf() -> Error {
    Error::unsupported("this model cannot be trained with audio")
}

impl Net {
    /// Whether the input of the layers is learnt: token vectors, or the audio tower.
    fn learns_input(&self) -> bool {
        matches!(self.embed, Weight::Learnt(_)) || self.learns_to_hear()
    }

    pub fn learns_to_hear(&self) -> bool {
        self.tower.as_ref().is_some_and(|tower| tower.learns(true))
    }

    /// Whether clips become vectors that do not change while it learns.
    pub fn hears_alike(&self) -> bool {
        self.ears.is_some() || self.tower.as_ref().is_some_and(|tower| !tower.learns(true))
    }

    /// The vectors of a clip, if [they do not change](Self::hears_alike).
    pub fn hear(&self, pass: &Pass, clip: &Clip) -> Result<Option<Vec<f32>>> {
        match (&self.ears, &self.tower) {
            (Some(ears), _) => ears.hear(clip).map(Some),
            (None, Some(tower)) if tower.learns(true) => Ok(None),
            (None, Some(tower)) => Ok(Some(tower.forward(pass, &[clip])?.0)),
            (None, None) => Err(deaf()),
        }
    }

    /// How many vectors a clip becomes.
    pub fn places(&self, clip: &Clip) -> Result<usize> {
        match (&self.ears, &self.tower) {
            (Some(ears), _) => ears.places(clip),
            (None, Some(tower)) => tower.places(clip),
            (None, None) => Err(deaf()),
        }
    }

    fn embedded(&self, pass: &Pass, ids: &[u32]) -> Vec<f32> {
        let mut x = vec![0.0; ids.len() * self.hidden];
        let rows = x.par_chunks_mut(self.hidden).zip(ids);
        rows.for_each(|(x, &id)| {
            let id = id as usize;
            match &self.embed {
                Weight::Frozen(stored) => stored.read(id, 0..self.hidden, x),
                Weight::Learnt(range) => {
                    x.copy_from_slice(&pass.values[range.clone()][id * self.hidden..][..self.hidden])
                }
            }
            if self.embed_scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= self.embed_scale);
            }
        });
        x
    }

    /// Refuses rows that the model cannot take.
    fn check(&self, row: &Row) -> Result<()> {
        let refused = |why: String| Err(Error::new(Code::DATA, format!("a row {why}")));
        if row.labels.len() != row.ids.len() {
            return refused(format!("has {} tokens and {} labels", row.ids.len(), row.labels.len()));
        }
        if row.ids.len() > self.context {
            return refused(format!(
                "has {} tokens, the model's context is {}",
                row.ids.len(),
                self.context
            ));
        }
        let all = row.ids.iter().chain(row.labels.iter().flatten());
        match all.max() {
            Some(&id) if id as usize >= self.vocabulary => {
                refused(format!("has the token {id}, the model's table has {}", self.vocabulary))
            }
            _ => Ok(()),
        }
    }

    fn input(&self, pass: &Pass, rows: &[&Row], placeholder: Option<u32>) -> Result<Input> {
        rows.iter().try_for_each(|row| self.check(row))?;
        let texts = Texts::of(rows.iter().map(|row| row.ids.len()));
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.ids.iter().copied()).collect();
        let mut input = Input {
            x: self.embedded(pass, &ids),
            texts,
            ids,
            heard: Vec::new(),
            tower: None,
        };
        if rows.iter().all(|row| row.sounds.is_empty()) {
            return Ok(input);
        }
        let placeholder =
            placeholder.ok_or_else(|| Error::unsupported("this model takes text only, and a row has a clip"))?;
        let clips: Vec<&Clip> = rows
            .iter()
            .flat_map(|row| &row.sounds)
            .filter_map(Sound::clip)
            .collect();
        let tower = self.tower.as_ref().filter(|_| !clips.is_empty());
        let heard_now = match (tower, clips.is_empty()) {
            (None, false) => {
                return Err(Error::unsupported(
                    "the tower is frozen, so clips must be given as vectors",
                ));
            }
            (Some(tower), _) => Some(tower.forward(pass, &clips)?),
            (None, true) => None,
        };
        let mut fresh = heard_now.as_ref().map_or(&[][..], |(vectors, _)| vectors);
        let mut of_tower = Vec::new();
        let hidden = self.hidden;
        for (row, text) in rows.iter().zip(input.texts.each()) {
            let mut places = text.filter(|&token| input.ids[token] == placeholder);
            let mut count = 0;
            for sound in &row.sounds {
                let vectors = match sound {
                    Sound::Heard(vectors) => &vectors[..],
                    Sound::Clip(clip) => {
                        let tokens = self.tower.as_ref().map_or(Ok(0), |tower| tower.places(clip))?;
                        let (now, later) = fresh.split_at_checked(tokens * hidden).unwrap_or((fresh, &[]));
                        fresh = later;
                        now
                    }
                };
                for vector in vectors.chunks_exact(hidden) {
                    count += 1;
                    if let Some(token) = places.next() {
                        input.x[token * hidden..][..hidden].copy_from_slice(vector);
                        input.heard.push(token);
                        if matches!(sound, Sound::Clip(_)) {
                            of_tower.push(token);
                        }
                    }
                }
            }
            let more = places.count();
            let placed = row.ids.iter().filter(|&&id| id == placeholder).count();
            if more > 0 || placed != count {
                let message =
                    format!("a row has {placed} placeholders for audio, and its clips become {count} vectors");
                return Err(Error::new(Code::DATA, message));
            }
        }
        input.tower = heard_now.map(|(_, kept)| (of_tower, kept));
        Ok(input)
    }

    /// The sum of each row's losses. With a gradient, that of their total divided by `items` is added to it.
    pub fn learn(
        &self,
        pass: &Pass,
        rows: &[&Row],
        placeholder: Option<u32>,
        checkpointing: bool,
        learning: Option<(f64, &mut [f32])>,
    ) -> Result<Vec<f64>> {
        let input = self.input(pass, rows, placeholder)?;
        let (mut asking, mut labels, mut of_row) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (row, text)) in rows.iter().zip(input.texts.each()).enumerate() {
            for (token, label) in text.zip(row.labels.iter().skip(1)) {
                if let Some(label) = label {
                    asking.push(token);
                    labels.push(*label);
                    of_row.push(number);
                }
            }
        }
        let mut sums = vec![0.0; rows.len()];
        if asking.is_empty() {
            return Ok(sums);
        }
        let positions = input.texts.positions();
        let angles: Vec<Angles> = self.ropes.iter().map(|rope| Angles::at(rope, &positions)).collect();
        let all: Vec<usize> = (0..positions.len()).collect();
        let tokens = Tokens {
            texts: &input.texts,
            angles: &angles,
            all: &all,
        };
        // Below the first layer that is learnt, or whose input is learnt, nothing is kept.
        let first = match self.learns_input() {
            true => 0,
            false => self.layers.iter().position(Layer::learns).unwrap_or(self.layers.len()),
        };
        let last = self.layers.len().saturating_sub(1);
        let mut x = input.x;
        let mut kept: Vec<Kept> = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let asking = if number == last { &asking } else { &all };
            let (y, own) = layer.forward(pass, &tokens, x, asking, !checkpointing);
            if learning.is_some() && number >= first {
                kept.push(own);
            }
            x = y;
        }
        let normed = self.normed(pass, &x);
        let head = self.head.linear();
        let Some((items, gradient)) = learning else {
            let losses = self.loss.through(head, pass, &normed, &labels, None);
            of_row.iter().zip(losses).for_each(|(&row, loss)| sums[row] += loss);
            return Ok(sums);
        };
        let mut gradients = Gradients(gradient);
        let mut dnormed = vec![0.0; normed.len()];
        let learning = Some((items, &mut dnormed[..], &mut gradients));
        let losses = self.loss.through(head, pass, &normed, &labels, learning);
        of_row.iter().zip(losses).for_each(|(&row, loss)| sums[row] += loss);
        dnormed.iter_mut().for_each(|x| *x *= self.logit_scale);
        let mut dx = vec![0.0; x.len()];
        self.norm.backward(pass, &x, &dnormed, &mut dx, &mut gradients);
        drop((x, normed, dnormed));
        let mut dx = Some(dx);
        for number in (first..self.layers.len()).rev() {
            let asking = if number == last { &asking } else { &all };
            let wanted = number > first || self.learns_input();
            let (Some(kept), Some(dy)) = (kept.pop(), dx.take()) else {
                break;
            };
            dx = self.layers[number].backward(pass, &tokens, kept, dy, asking, wanted, &mut gradients);
        }
        if let Some(dx) = dx {
            self.input_backward(pass, &input.ids, &input.heard, input.tower, dx, &mut gradients);
        }
        Ok(sums)
    }

    /// The input of the head: logits are its products with the head's weights.
    fn normed(&self, pass: &Pass, x: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; x.len()];
        self.norm.forward(pass, x, &mut normed);
        if self.logit_scale != 1.0 {
            normed.iter_mut().for_each(|x| *x *= self.logit_scale);
        }
        normed
    }

    fn input_backward(
        &self,
        pass: &Pass,
        ids: &[u32],
        heard: &[usize],
        tower: Option<(Vec<usize>, tower::Kept)>,
        dx: Vec<f32>,
        gradients: &mut Gradients,
    ) {
        let hidden = self.hidden;
        if let Some(gradient) = gradients.weight(&self.embed) {
            let mut heard = heard.iter().peekable();
            for (token, (dx, &id)) in dx.chunks_exact(hidden).zip(ids).enumerate() {
                if heard.next_if(|heard| **heard == token).is_some() {
                    continue;
                }
                let row = &mut gradient[id as usize * hidden..][..hidden];
                row.iter_mut()
                    .zip(dx)
                    .for_each(|(row, dx)| *row += dx * self.embed_scale);
            }
        }
        if let (Some(layers), Some((tokens, kept))) = (&self.tower, tower)
            && layers.learns(true)
        {
            layers.backward(pass, kept, select(&dx, hidden, &tokens), gradients);
        }
    }

    /// The logits of all positions of a row.
    pub fn logits(&self, pass: &Pass, row: &Row, placeholder: Option<u32>) -> Result<Vec<f32>> {
        let input = self.input(pass, &[row], placeholder)?;
        let positions = input.texts.positions();
        let angles: Vec<Angles> = self.ropes.iter().map(|rope| Angles::at(rope, &positions)).collect();
        let all: Vec<usize> = (0..positions.len()).collect();
        let tokens = Tokens {
            texts: &input.texts,
            angles: &angles,
            all: &all,
        };
        let mut x = input.x;
        for layer in &self.layers {
            x = layer.forward(pass, &tokens, x, &all, false).0;
        }
        Ok(self.loss.logits(self.head.linear(), pass, &self.normed(pass, &x)))
    }
    /// Goes on behind the first tokens of a row for as long as `next` gives a token for the logits of the last one.
    ///
    /// Keys and values of what was read are kept, so that each token costs a pass of its own and no more.
    pub fn answer(
        &self,
        pass: &Pass,
        prompt: &Row,
        placeholder: Option<u32>,
        next: &mut dyn FnMut(&mut [f32]) -> Result<Option<u32>>,
    ) -> Result<()> {
        let mut x = self.input(pass, &[prompt], placeholder)?.x;
        let mut earlier: Vec<Earlier> = self.layers.iter().map(|_| Earlier::default()).collect();
        let last = self.layers.len().saturating_sub(1);
        for count in prompt.ids.len()..=self.context {
            let texts = Texts::of(std::iter::once(count));
            let positions = texts.positions();
            let angles: Vec<Angles> = self.ropes.iter().map(|rope| Angles::at(rope, &positions)).collect();
            let all: Vec<usize> = (0..count).collect();
            let tokens = Tokens {
                texts: &texts,
                angles: &angles,
                all: &all,
            };
            let new = &all[count - x.len() / self.hidden..];
            for (number, (layer, earlier)) in self.layers.iter().zip(&mut earlier).enumerate() {
                let asking = if number == last { &all[count - 1..] } else { new };
                x = layer.go_on(pass, &tokens, x, asking, earlier);
            }
            let mut logits = self.loss.logits(self.head.linear(), pass, &self.normed(pass, &x));
            let Some(token) = next(&mut logits)? else { break };
            x = self.embedded(pass, &[token]);
        }
        Ok(())
    }

    /// The first tokens of a row, with the sounds among them.
    pub fn beginning(&self, row: &Row, tokens: usize, placeholder: Option<u32>) -> Result<Row> {
        let ids = row.ids[..tokens.min(row.ids.len())].to_vec();
        let mut places = ids.iter().filter(|id| Some(**id) == placeholder).count();
        let mut sounds = Vec::new();
        for sound in &row.sounds {
            if places == 0 {
                break;
            }
            let own = match sound {
                Sound::Heard(vectors) => vectors.len() / self.hidden,
                Sound::Clip(clip) => self.places(clip)?,
            };
            places = places.saturating_sub(own);
            sounds.push(sound.clone());
        }
        Ok(Row {
            labels: vec![None; ids.len()],
            ids,
            sounds,
        })
    }
}
