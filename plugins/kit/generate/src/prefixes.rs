//! Prefix cache: a beginning that several prompts share, such as worked examples, is read once.
//!
//! Shared prefixes are found by comparing tokens and clips; callers need not declare them. A clip in such a prefix is
//! not encoded again.

use super::lane::Lane;
use nn::{Input, KvCache, LoraSet, Sound, common_beginning};
use std::collections::VecDeque;
use std::sync::Arc;

/// Shorter prefixes are not worth a copy of a cache.
const WORTH: usize = 32;
/// Nor is a prefix that is at most this many tokens longer than a cached one. A sentence of a reasoning has about this
/// many, and a sweep over its sentences reads each of them once.
const GAIN: usize = 12;
/// The same after a clip, where prompts are few and long.
const GAIN_BEHIND_CLIPS: usize = 4;
/// Tokens of room for an answer, when a prompt begins with a copy.
const SPARE: usize = 16;
/// How many recent prompts a new one is compared with.
const RECENT: usize = 32;

/// The caches of prefixes, and the most recent prompts.
#[derive(Default)]
pub(super) struct Prefixes {
    kept: Vec<Kept>,
    recent: VecDeque<Arc<Input>>,
    /// Bytes for the caches; 0 reads each prompt separately.
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

    /// Remembers a prompt, to compare later ones with it.
    pub fn note(&mut self, lane: &Lane) {
        if self.most_bytes > 0 {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(lane.input.clone());
        }
    }

    /// Lets a prompt share its clips with equal ones of earlier prompts.
    pub fn share_clips(&self, lane: &mut Lane) {
        if self.most_bytes > 0 && !lane.input.sounds.is_empty() {
            let kept = self.kept.iter().flat_map(|kept| &kept.sounds);
            let known = self.recent.iter().flat_map(|input| &input.sounds).chain(kept);
            Arc::make_mut(&mut lane.input).share_clips(known);
        }
    }

    /// Whether the unread context of a choice shares more with one of the contexts in the next pass than with any
    /// cached prefix. Then it joins them, and needs no copy of a cache.
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

    /// Prepares a lane that has not been read. False if it should wait for a prefix that one of `others` is reading.
    pub fn begin(&mut self, lane: &mut Lane, others: &[Reading]) -> bool {
        if self.most_bytes == 0 || !lane.cache.is_empty() || lane.keep_at.is_some() {
            return true;
        }
        // The last token is always read, since the model predicts what follows it.
        let most = lane.input.tokens.len().saturating_sub(1);
        let own = (&lane.input.tokens[..], &lane.input.sounds[..]);
        let shared = |tokens: &[u32], sounds: &[Sound], loras: &LoraSet| match *loras == lane.input.loras {
            // A prefix ends before a clip or after it, never inside.
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
            // Prompts about different clips are encoded and read together, whatever words they share before the clips.
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
        // Another prompt about the same clip is likely, and encoding and reading a clip takes longer than any copy.
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
            // Without memory for a copy, the prefix is read again.
            let room = lane.input.tokens.len() + SPARE;
            lane.cache = self.kept[best].cache.first(known, room).unwrap_or_default();
            lane.reused = lane.cache.len();
        }
        true
    }

    /// Keeps a copy of a lane's cache if the lane has just read the prefix to keep.
    pub fn keep(&mut self, lane: &mut Lane) -> candle_core::Result<()> {
        if let Some(tokens) = self.makes_room_for(lane) {
            let cache = lane.cache.first(tokens, tokens)?;
            self.take(&lane.input, tokens, cache);
        }
        Ok(())
    }

    /// The same for a lane that is done with its cache, which is taken without a copy.
    pub fn keep_of(&mut self, mut lane: Lane) {
        if let Some(tokens) = self.makes_room_for(&mut lane) {
            lane.cache.truncate(tokens);
            self.take(&lane.input, tokens, lane.cache);
        }
    }

    /// How many of a lane's tokens are to be kept now, if any, once there is memory for them.
    fn makes_room_for(&mut self, lane: &mut Lane) -> Option<usize> {
        let tokens = lane.keep_at.filter(|tokens| lane.cache.len() >= *tokens)?;
        lane.keep_at = None;
        let bytes = lane.cache.bytes_of(tokens + SPARE);
        if bytes > self.most_bytes {
            return None;
        }
        // Cached prefixes of this one are no longer needed: it serves wherever they do.
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

/// A prefix that is being read, and will be kept.
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

/// This many tokens, or fewer if they would end inside a clip.
fn before_sounds(tokens: usize, sounds: &[Sound]) -> usize {
    let within = sounds
        .iter()
        .find(|sound| (sound.tokens.start + 1..sound.tokens.end).contains(&tokens));
    within.map_or(tokens, |sound| sound.tokens.start)
}
