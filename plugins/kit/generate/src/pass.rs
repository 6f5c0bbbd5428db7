//! One pass through the model, over lanes and choices.

use super::choice::{Choice, Likelihood, Wanted, likelihoods};
use super::feed::Feed;
use super::lane::Lane;
use super::tree::Tree;
use candle_core::{DType, Tensor};
use kernels::device::among_workers;
use nn::{Decoder, LoraPlan, LoraSet, Loras, Past, Segment, Step};
use rayon::prelude::*;

/// Positions whose logits are computed at a time: with a large vocabulary each is half a megabyte.
const HEAD_BLOCK: usize = 64;

/// The results of a pass.
pub struct Found {
    /// For each lane, the logits after its last token, if all of it has been read.
    pub lanes: Vec<Option<Vec<f32>>>,
    /// For each choice, the answers to [`Choice::wanted`].
    pub choices: Vec<Vec<Vec<Likelihood>>>,
}

/// Puts this many tokens of each lane, and whole choices, through the model.
///
/// If it fails, nothing has changed: tokens in a cache count only when all layers have them.
pub fn pass<D: Decoder>(
    decoder: &D,
    loras: &Loras,
    lanes: &mut [(&mut Lane, usize)],
    choices: &mut [Choice],
) -> candle_core::Result<Found> {
    let (mut segments, mut feed) = (Vec::new(), Feed::default());
    let mut wanted = Vec::new();
    for (lane, tokens) in lanes.iter().filter(|(_, tokens)| *tokens > 0) {
        let past = Past::Row(segments.len());
        segments.push(Segment { tokens: *tokens, past });
        lane.feed(&mut feed, *tokens)?;
        if *tokens == lane.waiting() {
            wanted.push(Wanted {
                position: feed.count - 1,
                tokens: Vec::new(),
                loras: lane.input.loras.clone(),
            });
        }
    }
    let raw = wanted.len();
    let rows = segments.len();
    let tree = Tree::of(choices);
    // The cache of a context that is read in this pass lasts only as long as its options.
    let mut rows_of = vec![None; choices.len()];
    let cached = (0..choices.len()).filter(|&number| choices[number].has_cache());
    for (row, number) in cached.enumerate() {
        rows_of[number] = Some(rows + row);
    }
    // For each node, its segment and the position of its last token.
    let mut places = vec![(0, 0); tree.nodes.len()];
    for number in tree.in_order() {
        let node = &tree.nodes[number];
        let past = match (node.cache.and_then(|choice| rows_of[choice]), node.parent) {
            (Some(row), _) => Past::Row(row),
            (None, Some(parent)) => Past::Segment(places[parent].0),
            (None, None) => Past::Nothing,
        };
        let tokens = node.tokens.len();
        feed.input(&choices[node.owner].context.input, node.tokens.start, tokens)?;
        places[number] = (segments.len(), feed.count - 1);
        segments.push(Segment { tokens, past });
    }
    for (choice, end) in choices.iter().zip(&tree.ends) {
        let (context, last) = places[*end];
        wanted.extend(choice.wanted(last, feed.count));
        feed.ids(&choice.plan(&mut segments, context), &choice.context.input.loras);
    }

    let ends: Vec<bool> = lanes
        .iter()
        .map(|(lane, tokens)| *tokens > 0 && *tokens == lane.waiting())
        .collect();
    let moving = lanes.iter_mut().filter(|(_, tokens)| *tokens > 0);
    let contexts = choices.iter_mut().filter(|choice| choice.has_cache());
    let caches = moving.map(|(lane, _)| &mut lane.cache);
    let caches = caches.chain(contexts.map(|choice| &mut choice.context.cache));
    let mut step = Step::new(segments, caches.collect())?;
    let (logits, found) = among_workers(decoder.device(), || {
        let entered = loras.enter(LoraPlan::of_runs(&feed.loras, decoder.device())?);
        let hidden = decoder.forward(&feed.embedded(decoder)?, &mut step)?;
        drop(entered);
        look(decoder, loras, &hidden, &wanted, raw)
    })?;
    step.finish();

    let (mut logits, mut found) = (logits.into_iter(), found.into_iter());
    Ok(Found {
        lanes: ends.iter().map(|&ends| ends.then(|| logits.next()).flatten()).collect(),
        choices: choices
            .iter()
            .map(|choice| found.by_ref().take(choice.asks()).collect())
            .collect(),
    })
}

/// The logits at the needed positions: unchanged for the first `raw`, as likelihoods for the rest.
type Looked = (Vec<Vec<f32>>, Vec<Vec<Likelihood>>);

fn look<D: Decoder>(
    decoder: &D,
    loras: &Loras,
    hidden: &Tensor,
    wanted: &[Wanted],
    raw: usize,
) -> candle_core::Result<Looked> {
    let mut all = Vec::with_capacity(raw);
    let mut found = Vec::with_capacity(wanted.len() - raw);
    for (block, asks) in wanted.chunks(HEAD_BLOCK).enumerate() {
        let positions: Vec<u32> = asks.iter().map(|ask| ask.position as u32).collect();
        let chosen = hidden.index_select(&Tensor::new(positions, hidden.device())?, 0)?;
        let runs: Vec<(LoraSet, usize)> = asks.iter().map(|ask| (ask.loras.clone(), 1)).collect();
        let _entered = loras.enter(LoraPlan::of_runs(&runs, hidden.device())?);
        let logits = decoder.logits(&chosen)?.to_dtype(DType::F32)?;
        let vocabulary = logits.dim(1)?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let raw_here = raw.saturating_sub(block * HEAD_BLOCK).min(asks.len());
        if (raw_here, asks.len()) == (1, 1) {
            all.push(values); // an answer in progress: unchanged
            continue;
        }
        all.extend(values.chunks(vocabulary).take(raw_here).map(<[f32]>::to_vec));
        let rest = &values[raw_here * vocabulary..];
        let scored = rest.par_chunks(vocabulary).zip(&asks[raw_here..]);
        found.par_extend(scored.map(|(logits, ask)| likelihoods(logits, &ask.tokens)));
    }
    Ok((all, found))
}
