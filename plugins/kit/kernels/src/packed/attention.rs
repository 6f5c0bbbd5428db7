//! Attention on the CPU: all texts of a pass and all heads at once.
//!
//! Scores and weighted values are computed by the same tiles as products with weights. A head's keys and values are
//! packed for them some hundred at a time, for all queries that see them, and results of the blocks are combined as
//! they come. So the matrix of scores is never stored, and what queries cannot see is not computed. A single new token
//! sees each key once, so its keys are read unpacked.
//!
//! If a rule asks for bf16, queries, keys, values and exponentials are rounded to it; sums, maxima and the softmax
//! denominator stay fp32.

mod few;

use super::output_block::OutputBlock;
use super::parallel_output::by_fields;
use super::{Kernel, Kind, LANES, Line, MOST_ROWS, PANEL, evenly};
use crate::exponential::{exp, exponentials};
use crate::packed::rounding::{bf16_bits, round};
use crate::packed::rows::{Rows, SomeRows, Words};
use crate::rowwise::Held;
use candle_core::{Result, Tensor};
use few::Few;
use pulp::{Arch, NullaryFnOnce};
use std::ops::Range;
use std::sync::OnceLock;

/// Keys that are packed at a time: with their values they leave room in the second-level cache. Blocks begin at
/// multiples of it, so that sums have the same order however a text was split.
const KEYS: usize = 512;
/// Words from one row of scores, or of rounded exponentials, to the next: an odd number of cache lines.
const STRIDE: usize = KEYS + LANES;
const ROUNDED_STRIDE: usize = KEYS / 2 + LANES;
/// For some rows and a panel.
type Tile = [[f32; PANEL]; MOST_ROWS];

/// Up to this many rows of queries, packing the keys does not pay.
const FEW: usize = 8;
/// Multiplications of one task.
const TASK: usize = 1 << 15;

/// How one kind of layer attends.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub scale: f64,
    /// A token sees itself and the `window - 1` tokens before it.
    pub window: Option<usize>,
    pub softcap: Option<f64>,
    /// Whether it also sees later tokens.
    pub ahead: bool,
    /// Whether inputs of products are rounded to bf16, if this crate's kernels run.
    pub bf16: bool,
}

/// The new tokens of one text, and all tokens that they may see.
pub struct Text {
    pub tokens: usize,
    /// Keys and values, each (tokens, key heads, size), in consecutive pieces. The new tokens' own are the last ones.
    pub seen: Vec<(Tensor, Tensor)>,
}

/// Queries (tokens of all texts, heads, size) to (tokens, heads * size).
pub fn attend(q: &Tensor, texts: &[Text], rule: Rule) -> Result<Tensor> {
    let (tokens, heads, size) = q.dims3()?;
    let held = Held::of(q);
    let q = View::of(&held)?;
    let guards: Vec<Vec<_>> = texts
        .iter()
        .map(|text| {
            let pieces = text.seen.iter();
            pieces
                .map(|(keys, values)| (Held::of(keys), Held::of(values)))
                .collect()
        })
        .collect();
    let mut start = 0;
    let mut key_heads = 1;
    let mut jobs = Vec::with_capacity(texts.len());
    for (text, guards) in texts.iter().zip(&guards) {
        let mut pieces = Vec::with_capacity(guards.len());
        let mut before = 0;
        for (keys, values) in guards {
            let (count, heads, _) = keys.layout.shape().dims3()?;
            key_heads = heads;
            let tokens = before..before + count;
            before += count;
            pieces.push(Piece {
                tokens,
                keys: View::of(keys)?,
                values: View::of(values)?,
            });
        }
        if before < text.tokens {
            candle_core::bail!("{} new tokens cannot be among the {before} that they see", text.tokens)
        }
        jobs.push(Job {
            start,
            first: before - text.tokens,
            tokens: text.tokens,
            pieces,
        });
        start += text.tokens;
    }
    if start != tokens || !heads.is_multiple_of(key_heads) {
        candle_core::bail!("{tokens} queries of {heads} heads, for {start} tokens of {key_heads} heads")
    }
    let shared = heads / key_heads;
    let work: usize = jobs
        .iter()
        .map(|job| job.tokens * (job.first + job.tokens) * heads * size)
        .sum();
    // Long texts are split over cores even if they have few heads.
    let enough = jobs.len() * key_heads >= 4 * rayon::current_num_threads();
    let most = if enough { usize::MAX } else { KEYS / 4 };
    let parts: Vec<Part> = jobs.iter().flat_map(|job| job.parts(most)).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.tokens.len()).collect();
    let fields = parts.len() * key_heads;
    let together = (TASK * fields).div_ceil(work.max(1));
    let layer = Layer { q, shared, size, rule };
    let out = by_fields(&lengths, heads * size, shared * size, together, |part, output_block| {
        let head = output_block.columns().start / (shared * size);
        layer.fill(&parts[part], head, output_block);
    });
    Tensor::from_vec(out, (tokens, heads * size), &candle_core::Device::Cpu)
}

/// A tensor (tokens, heads, size) in which each head is contiguous.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    token: usize,
    head: usize,
}

impl<'a> View<'a> {
    fn of(held: &'a Held) -> Result<View<'a>> {
        let [token, head, 1] = *held.layout.stride() else {
            candle_core::bail!("attention needs (tokens, heads, size) with contiguous heads")
        };
        Ok(View {
            values: held.rest()?,
            token,
            head,
        })
    }

    fn row(&self, token: usize, head: usize, size: usize) -> &'a [f32] {
        &self.values[token * self.token + head * self.head..][..size]
    }

    /// The values from this token and head on.
    fn from(&self, token: usize, head: usize) -> View<'a> {
        View {
            values: &self.values[token * self.token + head * self.head..],
            ..*self
        }
    }
}

/// Consecutive tokens of a text.
struct Piece<'a> {
    tokens: Range<usize>,
    keys: View<'a>,
    values: View<'a>,
}

/// A text. Its queries are those of its tokens from `first` on, and begin at `start` among all queries.
struct Job<'a> {
    start: usize,
    first: usize,
    tokens: usize,
    pieces: Vec<Piece<'a>>,
}

/// Some of a text's new tokens.
struct Part<'a> {
    job: &'a Job<'a>,
    tokens: Range<usize>,
}

impl Part<'_> {
    /// The position in the text of one of the tokens.
    fn token(&self, number: usize) -> usize {
        self.job.first + self.tokens.start + number
    }
}

impl Job<'_> {
    fn parts(&self, most: usize) -> impl Iterator<Item = Part<'_>> {
        let parts = (0..self.tokens).step_by(most.min(self.tokens.max(1)));
        parts.map(move |start| Part {
            job: self,
            tokens: start..self.tokens.min(start.saturating_add(most)),
        })
    }
}

/// Parameters that all texts share.
struct Layer<'a> {
    q: View<'a>,
    /// Queries for each key head.
    shared: usize,
    size: usize,
    rule: Rule,
}

impl Layer<'_> {
    /// The tokens that a token of the text sees.
    fn sight(&self, job: &Job, token: usize) -> Range<usize> {
        let first = self.rule.window.map_or(0, |window| (token + 1).saturating_sub(window));
        let end = if self.rule.ahead {
            job.first + job.tokens
        } else {
            token + 1
        };
        first..end
    }

    /// The union of what some rows of queries see.
    fn seen(&self, part: &Part, rows: Range<usize>) -> Range<usize> {
        let sight = |row| self.sight(part.job, part.token(row / self.shared));
        sight(rows.start).start..sight(rows.end - 1).end
    }

    fn fill(&self, part: &Part, head: usize, output_block: OutputBlock) {
        // Rounding to bf16 happens during packing only.
        match part.tokens.len() * self.shared <= FEW && !self.rule.bf16 {
            true => self.few(part, head, output_block),
            false => self.many(part, head, output_block),
        }
    }

    /// Rows are the queries that share a key head, token by token.
    fn query(&self, part: &Part, head: usize, row: usize) -> &[f32] {
        let token = part.job.start + part.tokens.start + row / self.shared;
        self.q.row(token, head * self.shared + row % self.shared, self.size)
    }

    /// A query, multiplied by the scale.
    fn scale(&self, query: &[f32], to: &mut [f32]) {
        let scale = self.rule.scale as f32;
        to.iter_mut().zip(query).for_each(|(to, q)| *to = q * scale);
    }

    fn few(&self, part: &Part, head: usize, mut output_block: OutputBlock) {
        let size = self.size;
        let rows = part.tokens.len() * self.shared;
        let (mut queries, mut sums) = (vec![0f32; rows * size], vec![0f32; rows * size]);
        for (row, to) in queries.chunks_exact_mut(size).enumerate() {
            self.scale(self.query(part, head, row), to);
        }
        let sight = |row| self.sight(part.job, part.token(row / self.shared));
        let sights: Vec<Range<usize>> = (0..rows).map(sight).collect();
        Arch::new().dispatch(Few {
            layer: self,
            job: part.job,
            head,
            all: self.seen(part, 0..rows),
            sights: &sights,
            queries: &queries,
            sums: &mut sums,
            fused: kernel(Kind::F32) != Kernel::Portable,
        });
        let (first, column) = (output_block.rows().start, output_block.columns().start);
        for (row, sums) in sums.chunks_exact(size).enumerate() {
            let column = column + row % self.shared * size;
            output_block
                .values(first + row / self.shared, column, size)
                .copy_from_slice(sums);
        }
    }

    fn many(&self, part: &Part, head: usize, mut output_block: OutputBlock) {
        let (job, size, shared) = (part.job, self.size, self.shared);
        let kind = if self.rule.bf16 { Kind::Bf16 } else { Kind::F32 };
        let (kernel, arch) = (kernel(kind), Arch::new());
        let (first_row, first_column) = (output_block.rows().start, output_block.columns().start);
        let rows = part.tokens.len() * shared;
        let seen = self.seen(part, 0..rows);
        // For each row, the largest score so far and the sum of exponentials relative to it.
        let mut states = vec![(f32::NEG_INFINITY, 0f32); rows];
        let mut q = Rows::room(MOST_ROWS, size, kind);
        let mut scaled = vec![0f32; size];
        let mut scores: Vec<Tile> = vec![[[0.0; PANEL]; MOST_ROWS]; KEYS / PANEL];
        let mut shares = vec![0f32; MOST_ROWS * STRIDE];
        let mut rounded = match kind {
            Kind::F32 => Vec::new(),
            Kind::Bf16 => vec![0u32; MOST_ROWS * ROUNDED_STRIDE],
        };
        let blocks = seen.start / KEYS * KEYS..seen.end;
        let mut laid_out = LaidOut::new(kind, size, KEYS.min(blocks.len()));
        for block in blocks.step_by(KEYS) {
            let block = block..seen.end.min(block + KEYS);
            arch.dispatch(LayOut {
                to: &mut laid_out,
                job,
                head,
                size,
                block: block.clone(),
            });
            for part_of_rows in evenly(0..rows, kernel.rows(kind)) {
                let (row, count) = (part_of_rows.start, part_of_rows.len());
                let some = within(&self.seen(part, row..row + count), &block);
                if some.is_empty() {
                    continue;
                }
                for below in 0..count {
                    self.scale(self.query(part, head, row + below), &mut scaled);
                    q.put(below, &scaled);
                }
                let panels = some.start / PANEL..some.end.div_ceil(PANEL);
                for panel in panels.clone() {
                    let x = q.some(0, count, 0);
                    kernel.tile(x, laid_out.keys(panel), &mut scores[panel][..count]);
                }
                // The number of keys, or whole panels if a word holds two keys.
                let columns = match kind {
                    Kind::F32 => panels.start * PANEL..some.end,
                    Kind::Bf16 => panels.start * PANEL..panels.end * PANEL,
                };
                for below in 0..count {
                    let seen = within(&self.sight(job, part.token((row + below) / shared)), &block);
                    let rounded = rounded.chunks_exact_mut(ROUNDED_STRIDE).nth(below);
                    let less = arch.dispatch(Shares {
                        tiles: &scores[panels.clone()],
                        row: below,
                        shares: &mut shares[below * STRIDE..][..panels.len() * PANEL],
                        seen: seen.start.saturating_sub(columns.start)..seen.end.saturating_sub(columns.start),
                        softcap: self.rule.softcap.map(|cap| cap as f32),
                        state: &mut states[row + below],
                        rounded,
                    });
                    if less != 1.0 {
                        let column = first_column + (row + below) % shared * size;
                        let out = output_block.values(first_row + (row + below) / shared, column, size);
                        out.iter_mut().for_each(|out| *out *= less);
                    }
                }
                let (words, stride) = match kind {
                    Kind::F32 => (Words::F32(&shares), STRIDE),
                    Kind::Bf16 => (Words::Bf16(&rounded), ROUNDED_STRIDE),
                };
                let x = SomeRows { words, count, stride };
                let mut tile: Tile = [[0.0; PANEL]; MOST_ROWS];
                for panel in 0..size.div_ceil(PANEL) {
                    kernel.tile(x, laid_out.values(panel, columns.clone()), &mut tile[..count]);
                    for (below, tile) in tile[..count].iter().enumerate() {
                        let row = row + below;
                        if within(&self.sight(job, part.token(row / shared)), &block).is_empty() {
                            continue;
                        }
                        let column = first_column + row % shared * size + panel * PANEL;
                        let width = PANEL.min(size - panel * PANEL);
                        let out = output_block.values(first_row + row / shared, column, width);
                        out.iter_mut().zip(tile).for_each(|(out, add)| *out += add);
                    }
                }
            }
        }
        for (row, (_, sum)) in states.iter().enumerate() {
            let out = output_block.values(first_row + row / shared, first_column + row % shared * size, size);
            let share = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= share);
        }
    }
}

/// The part of a range in a block, counted from the block's start.
fn within(range: &Range<usize>, block: &Range<usize>) -> Range<usize> {
    let start = range.start.max(block.start) - block.start;
    start..range.end.min(block.end).saturating_sub(block.start)
}

/// The best kernel of the processor except AMX, whose tiles are made for many more rows than there are here.
fn kernel(kind: Kind) -> Kernel {
    static BEST: OnceLock<[Kernel; 2]> = OnceLock::new();
    let most = || match Kernel::most() {
        Kernel::Amx => Kernel::Avx512,
        most => most,
    };
    BEST.get_or_init(|| [Kind::F32, Kind::Bf16].map(|kind| Kernel::choose(kind, most())))
        [usize::from(kind == Kind::Bf16)]
}

/// A head's keys and values of a block, packed as panels.
struct LaidOut {
    kind: Kind,
    /// Groups of one key's numbers.
    of_key: usize,
    /// Groups of the most keys.
    of_value: usize,
    /// The words of one key.
    words: Vec<u32>,
    /// For 32 keys, one group for each of their numbers, or for two.
    keys: Vec<Line>,
    /// For 32 numbers, one group for each value. In bf16, one for two values that are sixteen apart among 32, so that
    /// exponentials become words without moves between lanes.
    values: Vec<Line>,
}

impl LaidOut {
    fn new(kind: Kind, size: usize, room: usize) -> LaidOut {
        let lines = |count| vec![Line([0; LANES]); count];
        let of_key = size.div_ceil(kind.inputs());
        let of_value = match kind {
            Kind::F32 => room,
            Kind::Bf16 => room.div_ceil(PANEL) * LANES,
        };
        LaidOut {
            kind,
            of_key,
            of_value,
            words: vec![0; of_key],
            // Beyond the last number of a value they stay zero; beyond the last key they are not read.
            keys: lines(room.div_ceil(PANEL) * of_key * 2),
            values: lines(size.div_ceil(PANEL) * of_value * 2),
        }
    }

    fn keys(&self, panel: usize) -> &[Line] {
        &self.keys[panel * self.of_key * 2..(panel + 1) * self.of_key * 2]
    }

    /// Values of the keys from the start of a panel on.
    fn values(&self, panel: usize, keys: Range<usize>) -> &[Line] {
        let place = |key: usize| (panel * self.of_value + key / self.kind.inputs()) * 2;
        &self.values[place(keys.start)..place(keys.end)]
    }

    #[inline(always)]
    fn put(&mut self, place: usize, key: &[f32], value: &[f32]) {
        let (panel, half, lane) = (place / PANEL, place % PANEL / LANES, place % LANES);
        match self.kind {
            Kind::F32 => {
                let words = self.words.iter_mut().zip(key);
                words.for_each(|(word, x)| *word = x.to_bits());
            }
            Kind::Bf16 => round(key, &mut self.words),
        }
        let groups = &mut self.keys[panel * self.of_key * 2..(panel + 1) * self.of_key * 2];
        for (group, word) in groups.chunks_exact_mut(2).zip(&self.words) {
            group[half].0[lane] = *word;
        }
        let group = match self.kind {
            Kind::F32 => place,
            Kind::Bf16 => panel * LANES + lane,
        };
        let (whole, rest) = value.as_chunks::<LANES>();
        let mut last = [0f32; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let last = Some(&last).filter(|_| !rest.is_empty());
        for (number, values) in whole.iter().chain(last).enumerate() {
            let line = &mut self.values[(number / 2 * self.of_value + group) * 2 + number % 2].0;
            match (self.kind, half) {
                (Kind::F32, _) => *line = values.map(f32::to_bits),
                // The other half belongs to a later key, or to none.
                (Kind::Bf16, 0) => *line = values.map(bf16_bits),
                (Kind::Bf16, _) => (0..LANES).for_each(|lane| line[lane] |= bf16_bits(values[lane]) << 16),
            }
        }
    }
}

/// Packs a block of keys and values.
struct LayOut<'a> {
    to: &'a mut LaidOut,
    job: &'a Job<'a>,
    head: usize,
    size: usize,
    block: Range<usize>,
}

impl NullaryFnOnce for LayOut<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let LayOut {
            to,
            job,
            head,
            size,
            block,
        } = self;
        if to.kind == Kind::Bf16 {
            // The last panel has places without a key of this block. Their exponentials are zero, but values left from
            // the last block could be NaN, so clear them.
            let last = block.len() / PANEL * LANES;
            for panel in to.values.chunks_exact_mut(to.of_value * 2) {
                let lines = panel.iter_mut().skip(last * 2).take(LANES * 2);
                lines.for_each(|line| *line = Line([0; LANES]));
            }
        }
        for piece in &job.pieces {
            let (start, end) = (block.start.max(piece.tokens.start), block.end.min(piece.tokens.end));
            for token in start..end {
                let place = token - piece.tokens.start;
                let (key, value) = (piece.keys.row(place, head, size), piece.values.row(place, head, size));
                to.put(token - block.start, key, value);
            }
        }
    }
}

/// Turns a row's scores into exponentials relative to the largest so far. Returns the factor for earlier results.
struct Shares<'a> {
    /// Scores of some rows and panels of keys, and the number of this row.
    tiles: &'a [Tile],
    row: usize,
    shares: &'a mut [f32],
    /// Keys outside of this range become zero.
    seen: Range<usize>,
    softcap: Option<f32>,
    state: &'a mut (f32, f32),
    /// The same in bf16, if that is multiplied: of each 32, the first sixteen are the lower halves of words.
    rounded: Option<&'a mut [u32]>,
}

impl NullaryFnOnce for Shares<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let Shares {
            tiles,
            row,
            shares,
            seen,
            softcap,
            state,
            rounded,
        } = self;
        let (panels, _) = shares.as_chunks_mut::<PANEL>();
        for (panel, tile) in panels.iter_mut().zip(tiles) {
            *panel = tile[row];
        }
        let less = exponentials_of(shares, seen, softcap, state);
        if let Some(rounded) = rounded {
            let (panels, _) = shares.as_chunks::<PANEL>();
            let (lines, _) = rounded.as_chunks_mut::<LANES>();
            for (line, panel) in lines.iter_mut().zip(panels) {
                for lane in 0..LANES {
                    line[lane] = bf16_bits(panel[lane]) | bf16_bits(panel[LANES + lane]) << 16;
                }
            }
        }
        less
    }
}

#[inline(always)]
fn exponentials_of(scores: &mut [f32], seen: Range<usize>, softcap: Option<f32>, state: &mut (f32, f32)) -> f32 {
    let start = seen.start.min(scores.len());
    let end = seen.end.min(scores.len()).max(start);
    scores[..start].fill(0.0);
    scores[end..].fill(0.0);
    let scores = &mut scores[start..end];
    if scores.is_empty() {
        return 1.0;
    }
    if let Some(cap) = softcap {
        scores.iter_mut().for_each(|score| *score = (*score / cap).tanh() * cap);
    }
    let (largest, sum) = exponentials(scores, state.0);
    let less = if largest > state.0 { exp(state.0 - largest) } else { 1.0 };
    *state = (largest, state.1 * less + sum);
    less
}
