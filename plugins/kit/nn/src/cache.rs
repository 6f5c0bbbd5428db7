//! The cache of keys and values of a conversation's tokens.

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use kernels::rowwise;
use rayon::prelude::*;

/// The first size of a row's buffers, in tokens; it doubles as needed.
const SMALLEST: usize = 64;
/// The least values of a head for a task.
const TASK: usize = 1 << 12;

/// The cache of one row, for all layers.
///
/// Each row has a cache of its own length, so rows are added and removed independently, and nothing is computed or
/// stored for padding. Not `Clone`, because buffers are written in place: [`KvCache::fork`] copies.
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

    /// Bytes of this many tokens.
    pub fn bytes_of(&self, tokens: usize) -> usize {
        let of_one = |t: &Tensor| t.dims()[0] * t.dims()[2] * t.dtype().size_in_bytes();
        let layers = self.layers.iter().flatten();
        layers.map(|b| (of_one(&b.keys) + of_one(&b.values)) * tokens).sum()
    }

    /// A copy of the first tokens, with room for `room` tokens without another copy.
    pub fn first(&self, tokens: usize, room: usize) -> candle_core::Result<KvCache> {
        let tokens = tokens.min(self.length);
        let room = room.max(tokens);
        let copy = |old: &Tensor| {
            let (heads, _, size) = old.dims3()?;
            let new = Tensor::zeros((heads, room, size), old.dtype(), old.device())?;
            put(&new, &old.narrow(1, 0, tokens)?.transpose(0, 1)?, 0)?;
            Ok::<_, candle_core::Error>(new)
        };
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

    /// A copy that grows independently, for several answers to one prompt.
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

    /// Becomes a fork of another cache, whose first `common` tokens it has already.
    pub fn follow(&mut self, other: &KvCache, common: usize) -> candle_core::Result<()> {
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

    /// Appends keys and values (new, heads, head size) after the row's tokens and those that this step added before,
    /// and returns all that the layer has now.
    ///
    /// The row's length changes only in [`KvCache::advance`], when all layers have the new tokens.
    pub fn append(
        &mut self,
        layer: usize,
        joined: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, || None);
        }
        let (new, heads, size) = keys.dims3()?;
        let before = self.length + joined;
        let total = before + new;
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
        put(&buffers.keys, keys, before)?;
        put(&buffers.values, values, before)?;
        let all = |buffer: &Tensor| buffer.narrow(1, 0, total)?.transpose(0, 1);
        Ok((all(&buffers.keys)?, all(&buffers.values)?))
    }

    pub fn advance(&mut self, new: usize) {
        self.length += new;
    }

    /// Drops all but the first tokens. The buffers keep their size.
    pub fn truncate(&mut self, tokens: usize) {
        self.length = self.length.min(tokens);
    }
}

/// Writes tokens (new, heads, head size) into a buffer (heads, room, head size) from place `at` on.
fn put(buffer: &Tensor, new: &Tensor, at: usize) -> candle_core::Result<()> {
    match rowwise::suits(&[buffer, new]) {
        true => buffer.inplace_op2(new, &Put { at }),
        false => buffer.slice_set(&new.transpose(0, 1)?.contiguous()?, 1, at),
    }
}

/// [`put`], for values in main memory.
struct Put {
    at: usize,
}

impl InplaceOp2 for Put {
    fn name(&self) -> &'static str {
        "put-tokens"
    }

    fn cpu_fwd(
        &self,
        buffer: &mut CpuStorage,
        to: &Layout,
        new: &CpuStorage,
        from: &Layout,
    ) -> candle_core::Result<()> {
        let ((_, room, size), (tokens, _, _)) = (to.shape().dims3()?, from.shape().dims3()?);
        let (CpuStorage::F32(buffer), CpuStorage::F32(new)) = (buffer, new) else {
            candle_core::bail!("put-tokens supports fp32 only")
        };
        let (Some((start, end)), &[token, head, 1]) = (to.contiguous_offsets(), from.stride()) else {
            candle_core::bail!("put-tokens needs a contiguous buffer and contiguous heads")
        };
        let new = &new[from.start_offset()..];
        let heads = buffer[start..end].par_chunks_exact_mut(room * size).enumerate();
        // A single token is not worth several cores.
        let together = if tokens * size < TASK { usize::MAX } else { 1 };
        heads.with_min_len(together).for_each(|(number, buffer)| {
            if token == size {
                // From another buffer: in both, the tokens of a head are consecutive.
                let all = tokens * size;
                buffer[self.at * size..][..all].copy_from_slice(&new[number * head..][..all]);
                return;
            }
            let places = buffer[self.at * size..].chunks_exact_mut(size).take(tokens);
            for (place, to) in places.enumerate() {
                to.copy_from_slice(&new[place * token + number * head..][..size]);
            }
        });
        Ok(())
    }
}
