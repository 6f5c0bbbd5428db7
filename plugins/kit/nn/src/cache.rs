//! Keys and values of the tokens that a conversation has so far.

use candle_core::Tensor;

/// What a row's first buffers hold, in tokens; they double from there.
const SMALLEST: usize = 64;

/// The cache of one row, for all layers.
///
/// Each row has its own, of its own length. So rows come and go without disturbing others, and nothing is computed
/// or stored for padding. Not `Clone`, because buffers are written in place: [`KvCache::fork`] copies.
#[derive(Default)]
pub struct KvCache {
    layers: Vec<Option<Buffers>>,
    length: usize,
}

struct Buffers {
    keys: Tensor,   // (heads, room, head size)
    values: Tensor, // the same
}

impl KvCache {
    /// Tokens that every layer has.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of the buffers, used or not.
    pub fn bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        self.layers
            .iter()
            .flatten()
            .map(|b| bytes(&b.keys) + bytes(&b.values))
            .sum()
    }

    /// Bytes of so many tokens.
    pub(crate) fn bytes_of(&self, tokens: usize) -> usize {
        let of_one = |t: &Tensor| t.dims()[0] * t.dims()[2] * t.dtype().size_in_bytes();
        let layers = self.layers.iter().flatten();
        layers.map(|b| (of_one(&b.keys) + of_one(&b.values)) * tokens).sum()
    }

    /// A copy of the first tokens alone, that grows on its own.
    pub(crate) fn first(&self, tokens: usize) -> candle_core::Result<KvCache> {
        let tokens = tokens.min(self.length);
        let copy = |t: &Tensor| t.narrow(1, 0, tokens)?.contiguous()?.copy();
        let layer = |buffers: &Option<Buffers>| match buffers {
            Some(b) => Ok(Some(Buffers {
                keys: copy(&b.keys)?,
                values: copy(&b.values)?,
            })),
            None => Ok::<_, candle_core::Error>(None),
        };
        Ok(KvCache {
            layers: self.layers.iter().map(layer).collect::<candle_core::Result<_>>()?,
            length: tokens,
        })
    }

    /// A copy that grows on its own: several answers to one prompt.
    pub fn fork(&self) -> candle_core::Result<KvCache> {
        let copy = |buffers: &Option<Buffers>| match buffers {
            Some(b) => Ok(Some(Buffers {
                keys: b.keys.copy()?,
                values: b.values.copy()?,
            })),
            None => Ok(None),
        };
        let layers = self.layers.iter().map(copy).collect::<candle_core::Result<_>>()?;
        Ok(KvCache {
            layers,
            length: self.length,
        })
    }

    /// Becomes a fork of another cache, of which it has the first `common` tokens already.
    pub(crate) fn follow(&mut self, other: &KvCache, common: usize) -> candle_core::Result<()> {
        let room = |layer: &Option<Buffers>| layer.as_ref().map_or(0, |b| b.keys.dims()[1]);
        let alike = self.layers.len() == other.layers.len();
        if !alike || common > self.length || self.layers.iter().any(|layer| room(layer) < other.length) {
            *self = other.fork()?;
            return Ok(());
        }
        let tokens = other.length.saturating_sub(common);
        for (own, other) in self.layers.iter().zip(&other.layers) {
            if let (Some(own), Some(other), true) = (own, other, tokens > 0) {
                let copy = |to: &Tensor, from: &Tensor| {
                    to.slice_set(&from.narrow(1, common, tokens)?.contiguous()?, 1, common)
                };
                copy(&own.keys, &other.keys)?;
                copy(&own.values, &other.values)?;
            }
        }
        self.length = other.length;
        Ok(())
    }

    /// Adds keys and values (heads, new, head size) behind the row's tokens and returns all that the layer has now.
    ///
    /// The row counts as longer only after [`KvCache::advance`], when all layers have the new tokens.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, || None);
        }
        let (heads, new, size) = keys.dims3()?;
        let total = self.length + new;
        let slot = &mut self.layers[layer];
        let room = slot.as_ref().map_or(0, |b| b.keys.dims()[1]);
        if total > room {
            let grown = total.max(2 * room).max(SMALLEST);
            let bigger = |old: Option<&Tensor>| {
                let new = Tensor::zeros((heads, grown, size), keys.dtype(), keys.device())?;
                if let Some(old) = old {
                    new.slice_set(old, 1, 0)?;
                }
                Ok::<_, candle_core::Error>(new)
            };
            let old = slot.as_ref();
            *slot = Some(Buffers {
                keys: bigger(old.map(|b| &b.keys))?,
                values: bigger(old.map(|b| &b.values))?,
            });
        }
        let Some(buffers) = slot else {
            candle_core::bail!("a cache without buffers")
        };
        buffers.keys.slice_set(keys, 1, self.length)?;
        buffers.values.slice_set(values, 1, self.length)?;
        Ok((buffers.keys.narrow(1, 0, total)?, buffers.values.narrow(1, 0, total)?))
    }

    pub(crate) fn advance(&mut self, new: usize) {
        self.length += new;
    }
}
