//! The frames that host and worker exchange: a head that says what it is about, and an envelope.
//!
//! A frame is four lengths (head, JSON, number of clips, number of blobs), the head, the JSON, the clips, each blob. A
//! clip that the other end still has is sent as its place among [those](KnownClips), counted from 1; another is sent
//! as 0, its rate, channels and samples. Numbers are little-endian. A length is trusted only as far as bytes follow
//! it, and never above a limit.

use super::known_clips::KnownClips;
use plugin_api::{Clip, Code, Envelope, Error, Level, Settings};
use serde::{Deserialize, Serialize};
use std::io::{self, BufReader, Read, Write};

/// Changes with the protocol. Both sides are the same program, so this is only a safeguard.
pub(super) const PROTOCOL: u32 = 4;

/// The largest frame: some hours of sound.
const MOST_BYTES: u64 = 1 << 31;

/// The call that makes the adapter.
pub(super) const MAKING: u64 = 0;

/// What a frame is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub(super) enum Head {
    /// To the worker, first: what to load and make. Answered like a call, under the number [`MAKING`].
    Start(Start),
    /// To the worker: calls the adapter.
    Call { call: u64, method: String },
    /// To the worker: this call should end.
    Cancel { call: u64 },
    /// To the worker: the answer to an `Ask`.
    Answer { id: u64, failed: Option<Failed> },
    /// To the worker: how many of a call's messages were received.
    Taken { call: u64, count: u64 },
    /// To the worker: no more messages of this name are wanted.
    Refused { call: u64, what: String },
    /// To the worker: drop the adapter and leave.
    Leave,
    /// To the host: the result of a call.
    Done { call: u64, failed: Option<Failed> },
    /// To the host, during a call: [`plugin_api::Callbacks::ask`].
    Ask { call: u64, id: u64, what: String },
    /// To the host, during a call: [`plugin_api::Callbacks::emit`]. The worker does not wait for an answer, since one
    /// that nearly always says "go on" is not worth a round trip. To stop the messages, the host later sends `Refused`
    /// or `Cancel`.
    Emit { call: u64, what: String },
    /// To the host: a message for its log, without an answer.
    Log { level: Level, message: String },
}

/// What a worker is started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub(super) protocol: u32,
    pub(super) api: String,
    /// The plugin, as the registry names it.
    pub plugin: String,
    /// Of the plugin's file.
    pub sha256: String,
    /// The kind, as layer 1 spells it: a kind of adapter, or a task's files.
    pub kind: String,
    /// The adapter's name inside the plugin.
    pub adapter: String,
    /// What it is made with.
    pub settings: Settings,
    pub(super) memory: Option<u64>,
}

/// An error with its code, which an error's own JSON leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Failed {
    code: u32,
    error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed {
            code: error.code.0,
            error: error.code(Code::OTHER),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error.code(Code(failed.code))
    }
}

/// The writing end of frames. Threads share it behind a lock, so that their frames don't mix.
pub(super) struct FrameWriter<W> {
    to: W,
    known: KnownClips,
}

impl<W: Write> FrameWriter<W> {
    pub fn new(to: W) -> Self {
        FrameWriter {
            to,
            known: KnownClips::default(),
        }
    }

    /// Sends a frame, unless it is too large. A closed connection is noticed by the reading end.
    pub fn send(&mut self, head: &Head, envelope: &Envelope) -> plugin_api::Result<()> {
        let bytes = encode(head, envelope, &mut self.known)?;
        let _ = self.to.write_all(&bytes).and_then(|()| self.to.flush());
        Ok(())
    }
}

fn encode(head: &Head, envelope: &Envelope, known: &mut KnownClips) -> plugin_api::Result<Vec<u8>> {
    let head = Envelope::of(head)?.json;
    let clips = envelope.clips.iter().map(|clip| 20 + 4 * clip.samples().len());
    let blobs = envelope.blobs.iter().map(|blob| 8 + blob.len());
    let rest = 16 + head.len() + envelope.json.len() + blobs.sum::<usize>();
    let total = rest + clips.sum::<usize>();
    if total as u64 > MOST_BYTES {
        let message = format!("an envelope of {total} bytes is too large for a worker, which takes {MOST_BYTES}");
        return Err(Error::new(Code::ENVELOPE, message));
    }
    // All four fit, since their sum is small enough.
    let lengths = [
        head.len(),
        envelope.json.len(),
        envelope.clips.len(),
        envelope.blobs.len(),
    ]
    .map(|length| length as u32);
    let mut bytes = Vec::with_capacity(rest);
    bytes.extend(lengths.into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(head.as_bytes());
    bytes.extend(envelope.json.as_bytes());
    for clip in &envelope.clips {
        let place = known.place_of(clip);
        bytes.extend(place.map_or(0, |place| place as u32 + 1).to_le_bytes());
        if place.is_none() {
            bytes.reserve(16 + 4 * clip.samples().len());
            bytes.extend(clip.rate.to_le_bytes());
            bytes.extend(clip.channels.to_le_bytes());
            bytes.extend((clip.samples().len() as u64).to_le_bytes());
            extend_with_samples(&mut bytes, clip.samples());
        }
    }
    for blob in &envelope.blobs {
        bytes.extend((blob.len() as u64).to_le_bytes());
        bytes.extend(blob);
    }
    Ok(bytes)
}

/// Adds samples in blocks: byte by byte, a long clip would take longer than a small model needs for it.
fn extend_with_samples(bytes: &mut Vec<u8>, samples: &[f32]) {
    let mut block = [0; 4 * 1024];
    for samples in samples.chunks(1024) {
        for (place, sample) in block.chunks_exact_mut(4).zip(samples) {
            place.copy_from_slice(&sample.to_le_bytes());
        }
        bytes.extend_from_slice(&block[..4 * samples.len()]);
    }
}

/// Where frames are read from.
pub(super) struct FrameReader<R> {
    from: BufReader<R>,
    known: KnownClips,
}

impl<R: Read> FrameReader<R> {
    pub fn new(from: R) -> Self {
        FrameReader {
            from: BufReader::with_capacity(1 << 16, from),
            known: KnownClips::default(),
        }
    }

    /// Reads a frame; none at the end of the stream.
    pub fn read(&mut self) -> io::Result<Option<(Head, Envelope)>> {
        let FrameReader { from, known } = self;
        let mut header = [0; 16];
        loop {
            match from.read(&mut header[..1]) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        from.read_exact(&mut header[1..])?;
        let length = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let mut reader = Limited { from, left: MOST_BYTES };
        let head = reader.bytes(u64::from(length(0)))?;
        let head =
            serde_json::from_slice(&head).map_err(|why| bad(format!("the head of a frame can't be read: {why}")))?;
        let json = reader.bytes(u64::from(length(4)))?;
        let json = String::from_utf8(json).map_err(|_| bad("the text of a frame is not UTF-8".to_owned()))?;
        let (clips, blobs) = (length(8), length(12));
        let mut envelope = Envelope {
            json,
            ..Envelope::default()
        };
        for _ in 0..clips {
            envelope.clips.push(reader.clip(known)?);
        }
        for _ in 0..blobs {
            let count = reader.u64()?;
            envelope.blobs.push(reader.bytes(count)?);
        }
        Ok(Some((head, envelope)))
    }
}

struct Limited<'a, R> {
    from: &'a mut R,
    left: u64,
}

impl<R: Read> Limited<'_, R> {
    fn spend(&mut self, count: u64) -> io::Result<()> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or_else(|| bad(format!("a frame is larger than {MOST_BYTES} bytes")))?;
        Ok(())
    }

    fn bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        self.spend(count)?;
        // Grows as bytes come, so a wrong length costs nothing.
        let mut bytes = Vec::with_capacity(usize::try_from(count.min(1 << 16)).unwrap_or_default());
        self.from.by_ref().take(count).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    fn clip(&mut self, known: &mut KnownClips) -> io::Result<Clip> {
        if let Some(place) = self.u32()?.checked_sub(1) {
            let clip = known.take(place as usize);
            return clip.ok_or_else(|| {
                bad(format!(
                    "a frame names clip {place} of those before it, which is not kept"
                ))
            });
        }
        let (rate, channels, count) = (self.u32()?, self.u32()?, self.u64()?);
        let bytes = self.bytes(count.saturating_mul(4))?;
        let samples = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut clip = Clip::new(rate, samples.collect());
        clip.channels = channels;
        known.keep(&clip);
        Ok(clip)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of some frames, one after the other.
    fn written(frames: &[(Head, Envelope)]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Vec::new());
        for (head, envelope) in frames {
            writer.send(head, envelope).expect("written");
        }
        writer.to
    }

    fn done(call: u64) -> Head {
        Head::Done { call, failed: None }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut stereo = Clip::new(48_000, vec![0.25, -1.0]);
        stereo.channels = 2;
        let envelope = Envelope {
            json: "\"grüße\"".to_owned(),
            clips: vec![
                Clip::new(16_000, (0..100_000).map(|number| number as f32 / 7.0).collect()),
                stereo,
                Clip::new(1, Vec::new()),
            ],
            blobs: vec![vec![7; 3], Vec::new()],
        };
        let failed = Failed::from(Error::new(Code::MEMORY, "too much").cause("weights").help("less"));
        let head = Head::Done {
            call: 7,
            failed: Some(failed.clone()),
        };
        let frames = [(head, envelope), (Head::Leave, Envelope::default())];
        let bytes = written(&frames);
        let mut reader = FrameReader::new(bytes.as_slice());
        for frame in frames {
            assert_eq!(reader.read().expect("read"), Some(frame));
        }
        assert_eq!(reader.read().expect("the end"), None);
        assert_eq!(Error::from(failed).code, Code::MEMORY);
    }

    #[test]
    fn a_clip_crosses_once_and_is_the_same_one_each_time() {
        let sound = |value: f32| Clip::new(16_000, vec![value; 50_000]);
        let holding = |clips: &[Clip]| Envelope {
            clips: clips.to_vec(),
            ..Envelope::default()
        };
        let (one, other) = (sound(0.5), sound(0.25));
        let frames: Vec<(Head, Envelope)> = [
            holding(std::slice::from_ref(&one)),
            holding(&[other.clone(), one.clone(), sound(0.25)]),
            holding(&[one.clone(), other.clone()]),
        ]
        .into_iter()
        .enumerate()
        .map(|(call, envelope)| (done(call as u64), envelope))
        .collect();
        let bytes = written(&frames);
        let once = 4 * (one.samples().len() + other.samples().len());
        assert!((once..once + 500).contains(&bytes.len()), "{} bytes", bytes.len());
        let mut reader = FrameReader::new(bytes.as_slice());
        let mut read = Vec::new();
        for frame in frames {
            let got = reader.read().expect("read").expect("a frame");
            assert_eq!(got, frame);
            read.extend(got.1.clips);
        }
        let places: Vec<*const f32> = read.iter().map(|clip| clip.samples().as_ptr()).collect();
        assert_eq!((places[2], places[4]), (places[0], places[0]));
        assert_eq!((places[3], places[5]), (places[1], places[1]));
    }

    #[track_caller]
    fn check_refused(bytes: &[u8]) {
        assert!(FrameReader::new(bytes).read().is_err(), "{bytes:?}");
    }

    #[test]
    fn garbage_and_lies_are_refused_without_their_memory() {
        let whole = written(&[(Head::Leave, Envelope::of("x").expect("an envelope"))]);
        for end in 1..whole.len() {
            check_refused(&whole[..end]);
        }
        check_refused(b"hello, this was printed by a plugin");
        check_refused(&[0xff; 64]);
        let mut many_clips = whole.clone();
        many_clips[8..12].copy_from_slice(&[0xff; 4]);
        check_refused(&many_clips);
        let mut unknown_clip = many_clips.clone();
        unknown_clip.extend([1, 0, 0, 0]);
        check_refused(&unknown_clip);
        let mut long_clip = many_clips;
        long_clip.extend([0; 4]);
        long_clip.extend([0xff; 16]);
        check_refused(&long_clip);
    }
}
