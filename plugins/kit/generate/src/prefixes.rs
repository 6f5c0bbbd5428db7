//! Beginnings that several prompts share, such as examples in front of every question, read once.
//!
//! What is shared is found by comparing tokens and sounds, and not told by whoever asks: prompts that begin alike are
//! given the same beginning's cache, whatever it is that they share. A clip in such a beginning is not heard again.

use super::lane::Lane;
use nn::{Input, KvCache, LoraSet, Sound, common_beginning};
use std::collections::VecDeque;
use std::sync::Arc;

/// Shorter beginnings are not worth a copy of a cache.
const WORTH: usize = 32;
/// Nor is it worth one to have fewer tokens more than these. A sentence of a reasoning has about this many, and a sweep
/// over its sentences reads each of them once.
const GAIN: usize = 12;
/// The same behind a clip, where prompts are few and long.
const GAIN_BEHIND_CLIPS: usize = 4;
/// Room for an answer behind a prompt that begins with a copy, in tokens.
const SPARE: usize = 16;
/// How many prompts a new one is compared with.
const RECENT: usize = 32;

/// The caches of beginnings, and the prompts that were seen last.
#[derive(Default)]
pub(super) struct Prefixes {
    kept: Vec<Kept>,
    recent: VecDeque<Arc<Input>>,
    /// Bytes that the caches may take; with none, each prompt is read by itself.
    most_bytes: usize,
    clock: u64,
}

struct Kept {
    tokens: Vec<u32>,
    sounds: Vec<Sound>,
    loras: LoraSet,
    cache: KvCache,
    used: u64,
}

impl Prefixes {
    pub fn new(most_bytes: usize) -> Prefixes {
        Prefixes {
            most_bytes,
            ..Prefixes::default()
        }
    }

    pub fn clear(&mut self) {
        self.kept.clear();
    }

    pub fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.cache.bytes()).sum()
    }

    /// Remembers a prompt, for those that come to be compared with it.
    pub fn note(&mut self, lane: &Lane) {
        if self.most_bytes > 0 {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(lane.input.clone());
        }
    }

    /// Lets a prompt share its clips with those that were seen before.
    pub fn share_clips(&self, lane: &mut Lane) {
        if self.most_bytes > 0 && !lane.input.sounds.is_empty() {
            let kept = self.kept.iter().flat_map(|kept| &kept.sounds);
            let known = self.recent.iter().flat_map(|input| &input.sounds).chain(kept);
            Arc::make_mut(&mut lane.input).share_clips(known);
        }
    }

    /// Whether a choice's context, of which nothing has been read, shares more with one of these, which go into the
    /// next pass, than with what is kept: it goes with them then, and needs no copy of a cache.
    pub fn goes_with(&self, lane: &Lane, others: &[Arc<Input>]) -> bool {
        if self.most_bytes == 0 || !lane.cache.is_empty() || lane.keep_at.is_some() {
            return false;
        }
        let alike = others.iter().filter(|other| other.loras == lane.input.loras);
        let shared = alike.map(|other| lane.input.common(other)).max().unwrap_or(0);
        let own = (&lane.input.tokens[..], &lane.input.sounds[..]);
        let kept = self.kept.iter().filter(|kept| kept.loras == lane.input.loras);
        let known = kept.map(|kept| common_beginning(own, (&kept.tokens, &kept.sounds)));
        shared >= WORTH && shared > known.max().unwrap_or(0) && shared >= lane.input.sounds_end()
    }

    /// Prepares a lane of which nothing has been read. False if it should wait for what one of `others` is reading.
    pub fn begin(&mut self, lane: &mut Lane, others: &[Reading]) -> bool {
        if self.most_bytes == 0 || !lane.cache.is_empty() || lane.keep_at.is_some() {
            return true;
        }
        // The last token is always read: what follows it is asked of the model.
        let most = lane.input.tokens.len().saturating_sub(1);
        let own = (&lane.input.tokens[..], &lane.input.sounds[..]);
        let shared = |tokens: &[u32], sounds: &[Sound], loras: &LoraSet| match *loras == lane.input.loras {
            // A beginning ends before a clip or behind it, and not within.
            true => before_sounds(common_beginning(own, (tokens, sounds)).min(most), own.1),
            false => 0,
        };
        let kept = self
            .kept
            .iter()
            .map(|kept| shared(&kept.tokens, &kept.sounds, &kept.loras))
            .enumerate();
        let (best, known) = kept.max_by_key(|(_, shared)| *shared).unwrap_or((0, 0));
        let gain = if own.1.is_empty() { GAIN } else { GAIN_BEHIND_CLIPS };
        let enough = (known + gain).max(WORTH);
        let soon = |other: &&Reading| {
            let Input {
                tokens, sounds, loras, ..
            } = &*other.input;
            let shared = shared(&tokens[..other.keep_at], sounds, loras);
            // Prompts about other clips are heard and read together, whatever words stand before the clips.
            shared >= enough && shared >= lane.input.sounds_end()
        };
        if others.iter().any(|other| soon(&other)) {
            return false;
        }
        let alike = self.recent.iter().filter(|other| !Arc::ptr_eq(other, &lane.input));
        let alike = alike
            .map(|other| shared(&other.tokens, &other.sounds, &other.loras))
            .max()
            .unwrap_or(0);
        // Who asks about a clip often asks about it again, and to hear and read it takes longer than any copy.
        let kept = if own.1.is_empty() {
            alike
        } else {
            before_sounds(most, own.1)
        };
        if kept >= enough {
            lane.keep_at = Some(kept);
        }
        if known >= WORTH {
            self.clock += 1;
            self.kept[best].used = self.clock;
            // Where there is no memory for a copy, it is read.
            let room = lane.input.tokens.len() + SPARE;
            lane.cache = self.kept[best].cache.first(known, room).unwrap_or_default();
            lane.reused = lane.cache.len();
        }
        true
    }

    /// Takes a copy of a lane's cache if it has come to the beginning that is to be kept.
    pub fn keep(&mut self, lane: &mut Lane) -> candle_core::Result<()> {
        if let Some(tokens) = self.makes_room_for(lane) {
            let cache = lane.cache.first(tokens, tokens)?;
            self.take(&lane.input, tokens, cache);
        }
        Ok(())
    }

    /// The same of a lane that is done with its cache, which is taken as it is.
    pub fn keep_of(&mut self, mut lane: Lane) {
        if let Some(tokens) = self.makes_room_for(&mut lane) {
            lane.cache.truncate(tokens);
            self.take(&lane.input, tokens, lane.cache);
        }
    }

    /// How many of a lane's tokens are to be kept now, if any, and if there is room for them.
    fn makes_room_for(&mut self, lane: &mut Lane) -> Option<usize> {
        let tokens = lane.keep_at.filter(|tokens| lane.cache.len() >= *tokens)?;
        lane.keep_at = None;
        let bytes = lane.cache.bytes_of(tokens + SPARE);
        if bytes > self.most_bytes {
            return None;
        }
        // Beginnings of this one are no longer needed: it serves wherever they do.
        let own = (&lane.input.tokens[..tokens], &lane.input.sounds[..]);
        self.kept.retain(|kept| {
            kept.loras != lane.input.loras || common_beginning(own, (&kept.tokens, &kept.sounds)) < kept.tokens.len()
        });
        while self.bytes() + bytes > self.most_bytes {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, kept)| kept.used);
            match oldest.map(|(number, _)| number) {
                Some(number) => drop(self.kept.swap_remove(number)),
                None => break,
            }
        }
        Some(tokens)
    }

    fn take(&mut self, input: &Input, tokens: usize, cache: KvCache) {
        self.clock += 1;
        self.kept.push(Kept {
            tokens: input.tokens[..tokens].to_vec(),
            sounds: input.sounds.clone(),
            loras: input.loras.clone(),
            cache,
            used: self.clock,
        });
    }
}

/// A beginning that is being read, and will be kept.
pub(super) struct Reading {
    input: Arc<Input>,
    keep_at: usize,
}

impl Reading {
    pub fn of(lane: &Lane) -> Option<Reading> {
        let keep_at = lane.keep_at?;
        Some(Reading {
            input: lane.input.clone(),
            keep_at,
        })
    }
}

/// This many tokens, or fewer where they would end within a clip.
fn before_sounds(tokens: usize, sounds: &[Sound]) -> usize {
    let within = sounds
        .iter()
        .find(|sound| (sound.tokens.start + 1..sound.tokens.end).contains(&tokens));
    within.map_or(tokens, |sound| sound.tokens.start)
}
