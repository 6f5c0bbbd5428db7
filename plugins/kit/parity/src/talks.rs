//! Recorded conversations as prompts, with their clips.

use nn::{Error, Result};
use plugin_api::{Clip, Message, Part, Prompt, Role};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Turn {
    role: Role,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Words(String),
    Parts(Vec<AudioChunk>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum AudioChunk {
    Text { text: String },
    Audio {},
}

/// The prompts of conversations, which take these clips in order.
pub(super) fn prompts(talks: Vec<serde_json::Value>, clips: Vec<Clip>) -> std::result::Result<Vec<Prompt>, String> {
    let mut clips = clips.into_iter();
    let mut prompts = Vec::with_capacity(talks.len());
    for talk in talks {
        let turns: Vec<Turn> = serde_json::from_value(talk).map_err(|e| format!("`messages`: {e}"))?;
        let mut prompt = Prompt::default();
        for turn in turns {
            let mut message = Message {
                role: turn.role,
                ..Message::default()
            };
            match turn.content {
                Content::Words(words) => message.parts.push(Part::text(words)),
                Content::Parts(pieces) => {
                    for piece in pieces {
                        message.parts.push(match piece {
                            AudioChunk::Text { text } => Part::text(text),
                            AudioChunk::Audio {} => {
                                prompt
                                    .clips
                                    .push(clips.next().ok_or("it uses more clips than `audio` names")?);
                                Part::clip(prompt.clips.len() - 1)
                            }
                        });
                    }
                }
            }
            prompt.messages.push(message);
        }
        prompts.push(prompt);
    }
    Ok(prompts)
}

/// A recorded clip: 16-bit PCM with one channel, as references write it. The host reads all other formats.
pub fn read_wav(path: &Path) -> Result<Clip> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_wav(&bytes).ok_or_else(|| Error::Malformed {
        path: path.to_owned(),
        reason: "expected a wav file of one channel, 16-bit PCM".to_owned(),
    })
}

fn parse_wav(bytes: &[u8]) -> Option<Clip> {
    let number = |at: &[u8]| Some(u32::from_le_bytes(at.get(..4)?.try_into().ok()?));
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let mut rate = None;
    loop {
        let (name, length) = (rest.get(..4)?, number(rest.get(4..)?)? as usize);
        let body = rest.get(8..)?;
        match name {
            // PCM, one channel; then the rate, and 16 bits at the end.
            b"fmt " if body.get(..4)? == [1, 0, 1, 0] && body.get(14..16)? == [16, 0] => rate = number(body.get(4..)?),
            b"fmt " => return None,
            b"data" => {
                let (pairs, _) = body.get(..length)?.as_chunks::<2>();
                // Divided by 32768, as in libsndfile.
                let samples = pairs.iter().map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0);
                return Some(Clip::new(rate?, samples.collect()));
            }
            _ => {}
        }
        rest = body.get(length + length % 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_is_read_and_what_is_cut_short_is_not() {
        let mut wav = b"RIFF\0\0\0\0WAVELIST\x01\0\0\0x\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(16_000u32.to_le_bytes());
        wav.extend(b"\0\x7d\0\0\x02\0\x10\0data\x04\0\0\0\0\x40\0\x80");
        let clip = parse_wav(&wav).unwrap();
        assert_eq!((clip.rate, clip.samples()), (16_000, [0.5, -1.0].as_slice()));
        for length in 0..wav.len() {
            assert!(parse_wav(&wav[..length]).is_none(), "{length}");
        }
    }
}
