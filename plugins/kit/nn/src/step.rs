//! One pass through a model over tokens of any texts.

use crate::attend::attend;
use crate::cache::KvCache;
use crate::rope::{Angles, Rope};
use candle_core::{DType, Device, Tensor};
use kernels::attention::{self, Rule, Text};
use kernels::rowwise;

/// What the tokens of a segment attend to besides themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Nothing, and they are not cached: training, or a prompt that is only scored.
    Nothing,
    /// The cache of this row, to which they are added after earlier segments of the same step.
    Row(usize),
    /// An earlier segment of the same step and all that it attends to. They are not cached. So several continuations
    /// of one context are tried, and the context is computed once.
    Segment(usize),
}

/// Consecutive tokens of one text.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    pub tokens: usize,
    pub past: Past,
}

/// How the layers of one kind attend.
#[derive(Debug, Clone)]
pub struct Attention {
    pub rope: Rope,
    /// The factor of queries; one over the square root of the head size in most models.
    pub scale: f64,
    /// A token sees itself and the `window - 1` tokens before it, or all tokens before it if there is no window.
    pub window: Option<usize>,
    /// If set, scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f64>,
}

impl Attention {
    /// Without a window, scaled by the head size.
    pub fn plain(rope: Rope, head_size: usize) -> Attention {
        Attention {
            rope,
            scale: 1.0 / (head_size as f64).sqrt(),
            window: None,
            softcap: None,
        }
    }
}

/// The state of a pass: the current layer, and what the tokens attend to.
///
/// A pass takes tokens of any number of texts, concatenated without padding: whole prompts, single next tokens,
/// options to be scored. Linear layers see one long list of tokens; only the step knows which belong together.
pub struct Step<'a> {
    segments: Vec<Segment>,
    rows: Vec<&'a mut KvCache>,
    positions: Vec<u32>,
    layer: usize,
    kind: Option<(Attention, Angles)>,
    other_kinds: Vec<(Attention, Angles)>,
}

impl<'a> Step<'a> {
    /// Segments in the order of their tokens; `Past::Row` counts into `rows`.
    pub fn new(segments: Vec<Segment>, rows: Vec<&'a mut KvCache>) -> candle_core::Result<Step<'a>> {
        let mut ends: Vec<usize> = Vec::with_capacity(segments.len());
        let mut joined = vec![0; rows.len()];
        let mut positions = Vec::new();
        for segment in &segments {
            let start = match segment.past {
                Past::Nothing => 0,
                Past::Row(row) if row < rows.len() => {
                    joined[row] += segment.tokens;
                    rows[row].len() + joined[row] - segment.tokens
                }
                Past::Segment(earlier) if earlier < ends.len() => ends[earlier],
                past => candle_core::bail!("segment {} cannot follow {past:?}", ends.len()),
            };
            ends.push(start + segment.tokens);
            positions.extend((start..start + segment.tokens).map(|position| position as u32));
        }
        Ok(Step {
            segments,
            rows,
            positions,
            layer: 0,
            kind: None,
            other_kinds: Vec::new(),
        })
    }

    /// One text from its beginning, without a cache.
    pub fn whole(tokens: usize) -> candle_core::Result<Step<'static>> {
        Step::new(
            vec![Segment {
                tokens,
                past: Past::Nothing,
            }],
            Vec::new(),
        )
    }

    pub fn tokens(&self) -> usize {
        self.positions.len()
    }

    /// Announces the next layer, by number, and how it attends.
    pub fn enter(
        &mut self,
        layer: usize,
        attention: &Attention,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<()> {
        self.layer = layer;
        if let Some((current, _)) = &mut self.kind
            && current.rope.is(&attention.rope)
        {
            *current = attention.clone();
            return Ok(());
        }
        // Models alternate between few kinds of layer; their angles are computed once for each step.
        self.other_kinds.extend(self.kind.take());
        let known = self
            .other_kinds
            .iter()
            .position(|(other, _)| other.rope.is(&attention.rope));
        let angles = match known {
            Some(index) => self.other_kinds.swap_remove(index).1,
            None => attention.rope.angles(&self.positions, dtype, device)?,
        };
        self.kind = Some((attention.clone(), angles));
        Ok(())
    }

    /// Rotates queries or keys (tokens, heads, size) by their positions.
    pub fn rope(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.current()?.1.turn(x)
    }

    /// Attention of each token within its own text; (tokens, heads, size) in, (tokens, heads * size) out.
    pub fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor) -> candle_core::Result<Tensor> {
        let attention = &self.current()?.0;
        let rule = Rule {
            scale: attention.scale,
            window: attention.window,
            softcap: attention.softcap,
            ahead: false,
            // A token's result must not depend on whether it was read with others or generated alone.
            bf16: false,
        };
        if rowwise::suits(&[q, k, v]) {
            let texts = self.texts(k, v)?;
            return attention::attend(q, &texts, rule);
        }
        let mut outputs = Vec::with_capacity(self.segments.len());
        let mut start = 0;
        for text in self.texts(k, v)? {
            // The text's keys or values in one piece, (heads, tokens, size).
            let joined = |of: fn(&(Tensor, Tensor)) -> &Tensor| {
                let pieces: Vec<_> = text
                    .seen
                    .iter()
                    .map(|piece| of(piece).transpose(0, 1))
                    .collect::<candle_core::Result<_>>()?;
                match &pieces[..] {
                    [piece] => Ok(piece.clone()),
                    _ => Tensor::cat(&pieces, 1),
                }
            };
            let (keys, values) = (joined(|piece| &piece.0)?, joined(|piece| &piece.1)?);
            outputs.push(attend(&q.narrow(0, start, text.tokens)?, &keys, &values, rule)?);
            start += text.tokens;
        }
        if outputs.len() == 1 {
            Ok(outputs.remove(0))
        } else {
            Tensor::cat(&outputs, 0)
        }
    }

    /// What each segment's tokens attend to, once those of a row are in its cache. [`Step::attend`] uses it for
    /// layers; a model that keeps its own keys and values finds here which text each segment continues.
    pub fn texts(&mut self, k: &Tensor, v: &Tensor) -> candle_core::Result<Vec<Text>> {
        let mut texts: Vec<Text> = Vec::with_capacity(self.segments.len());
        let mut joined = vec![0; self.rows.len()];
        let mut start = 0;
        for segment in &self.segments {
            let own = |x: &Tensor| x.narrow(0, start, segment.tokens);
            let (k, v) = (own(k)?, own(v)?);
            let seen = match segment.past {
                Past::Nothing => vec![(k, v)],
                Past::Row(row) => {
                    let all = self.rows[row].append(self.layer, joined[row], &k, &v)?;
                    joined[row] += segment.tokens;
                    vec![all]
                }
                Past::Segment(earlier) => [&texts[earlier].seen[..], &[(k, v)]].concat(),
            };
            start += segment.tokens;
            texts.push(Text {
                tokens: segment.tokens,
                seen,
            });
        }
        Ok(texts)
    }

    /// Ends the pass: the rows now have their new tokens.
    pub fn finish(self) {
        let mut rows = self.rows;
        for segment in &self.segments {
            if let Past::Row(row) = segment.past {
                rows[row].advance(segment.tokens);
            }
        }
    }

    fn current(&self) -> candle_core::Result<&(Attention, Angles)> {
        match &self.kind {
            Some(kind) => Ok(kind),
            None => candle_core::bail!("`Step::enter` comes before a layer's attention"),
        }
    }
}
