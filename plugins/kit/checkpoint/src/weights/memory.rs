//! Estimates the memory of weights from the headers of their files.

use super::source::Source;
use super::{Weights, blocks};
use crate::{Result, memory};
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use kernels::packed::{self, Blocks};
use kernels::precision::{block_name, dense_name};
use kernels::{device, fitting};
use std::collections::BTreeMap;

impl Weights {
    /// Refuses weights that do not fit into memory together with the caches of one answer, `cache_bytes`. Weights
    /// whose names begin with one of `left_out` do not count: they will not be loaded.
    pub fn fitting(self, left_out: &[&str], cache_bytes: u64) -> Result<Weights> {
        let (bytes, stored_as) = self.estimate(left_out);
        memory::check(&self.store.folder, bytes, stored_as, cache_bytes, &self.device)?;
        Ok(self)
    }

    /// The memory of a model with these weights, without loading it, as [`Weights::fitting`] would check it.
    ///
    /// `cache_bytes` is the size of the caches of one answer of `planned_tokens`; `batch` answers are computed at a
    /// time.
    pub fn memory_estimate(
        &self,
        left_out: &[&str],
        cache_bytes: u64,
        planned_tokens: usize,
        batch: usize,
    ) -> plugin_api::Estimate {
        let (weights_bytes, stored_as) = self.estimate(left_out);
        plugin_api::Estimate {
            weights_bytes,
            stored_as: stored_as.to_owned(),
            answer_bytes: cache_bytes,
            planned_tokens: planned_tokens as u32,
            batch: batch as u32,
            device: device::name(&self.device),
            available_bytes: memory::available_on(&self.device),
        }
    }

    /// The bytes of these weights in memory, and the type of most of their values.
    pub fn estimate(&self, left_out: &[&str]) -> (u64, &'static str) {
        let kept = |name: &&String| !left_out.iter().any(|start| name.starts_with(start));
        let (mut bytes, mut stored) = (0, BTreeMap::new());
        for (name, &place) in self.store.places.iter().filter(|(name, _)| kept(name)) {
            let source = &*self.store.files[place].1;
            let Some(shape) = self.shape_in_memory(name, source) else {
                continue;
            };
            let values: u64 = shape.iter().map(|&size| size as u64).product();
            let (of_tensor, stored_as) = match (self.blocks_in_memory(name, source, &shape), shape.len()) {
                (Some((block, outputs, inputs)), _) => {
                    (bytes_in_blocks(block, outputs, inputs, &self.device), block_name(block))
                }
                (None, 2) => (values * self.matrices.size_in_bytes() as u64, dense_name(self.matrices)),
                (None, _) => (values * self.dtype.size_in_bytes() as u64, dense_name(self.dtype)),
            };
            bytes += of_tensor;
            *stored.entry(stored_as).or_insert(0) += values;
        }
        let most = stored.iter().max_by_key(|(_, values)| **values).map(|(name, _)| *name);
        (bytes, most.unwrap_or("nothing"))
    }

    /// The shape of a tensor in memory; none if it is not loaded as such, or damaged.
    fn shape_in_memory(&self, name: &str, source: &Source) -> Option<Vec<usize>> {
        if self.belongs_to_four_bits(name) {
            return None;
        }
        match self.root().four_bits(name).transpose() {
            Some(found) => found.ok().map(|found| found.shape),
            None => source.shape(name).ok().map(|(_, shape)| shape),
        }
    }

    /// The block type, outputs and inputs of a tensor in memory; none if it is not a matrix or stays plain.
    fn blocks_in_memory(&self, name: &str, source: &Source, shape: &[usize]) -> Option<(GgmlDType, usize, usize)> {
        let &[outputs, inputs] = shape else { return None };
        if let Some(block) = blocks::kind(name) {
            return Some((block, outputs, inputs / block.type_size() * block.block_size())); // rows are bytes
        }
        let block = match (self.quant_of(name), source) {
            (Some(quant), _) => {
                let table = name.ends_with("embed_tokens.weight"); // as `table` asks for it
                fitting(if table { GgmlDType::Q8_0 } else { quant }, inputs)?
            }
            (None, Source::Gguf(tensors)) if !self.unpack => tensors.block_type(name)?,
            _ => return None,
        };
        Some((block, outputs, inputs))
    }
}

fn bytes_in_blocks(block: GgmlDType, outputs: usize, inputs: usize, device: &Device) -> u64 {
    match packed::suits_blocks(block, device) {
        true => Blocks::room(block, (outputs, inputs)),
        false => (inputs / block.block_size() * block.type_size()) as u64 * outputs as u64,
    }
}
