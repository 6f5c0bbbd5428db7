//! The input of a pass, as it is put together.

use candle_core::Tensor;
use nn::{Decoder, Input, LoraSet};

/// Tokens of a pass: ids, which are embedded together, and vectors.
#[derive(Default)]
pub struct Feed {
    pieces: Vec<AudioChunk>,
    pub count: usize,
    /// The LoRAs of each run of tokens.
    pub loras: Vec<(LoraSet, usize)>,
}

enum AudioChunk {
    Ids(Vec<u32>),
    Vectors(Tensor),
}

impl Feed {
    pub fn ids(&mut self, ids: &[u32], loras: &LoraSet) {
        self.take(ids.len(), loras);
        match self.pieces.last_mut() {
            Some(AudioChunk::Ids(last)) => last.extend_from_slice(ids),
            _ => self.pieces.push(AudioChunk::Ids(ids.to_vec())),
        }
    }

    pub fn input(&mut self, input: &Input, start: usize, tokens: usize) -> candle_core::Result<()> {
        match &input.embedded {
            None => self.ids(&input.tokens[start..start + tokens], &input.loras),
            Some(vectors) => {
                self.take(tokens, &input.loras);
                self.pieces.push(AudioChunk::Vectors(vectors.narrow(0, start, tokens)?));
            }
        }
        Ok(())
    }

    fn take(&mut self, tokens: usize, loras: &LoraSet) {
        self.count += tokens;
        self.loras.push((loras.clone(), tokens));
    }

    /// All tokens as vectors.
    pub fn embedded<D: Decoder>(self, decoder: &D) -> candle_core::Result<Tensor> {
        let vectors = |piece| match piece {
            AudioChunk::Ids(ids) => decoder.embed(&Tensor::new(ids, decoder.device())?),
            AudioChunk::Vectors(vectors) => Ok(vectors),
        };
        let mut all = self
            .pieces
            .into_iter()
            .map(vectors)
            .collect::<candle_core::Result<Vec<_>>>()?;
        if all.len() == 1 {
            Ok(all.remove(0))
        } else {
            Tensor::cat(&all, 0)
        }
    }
}
