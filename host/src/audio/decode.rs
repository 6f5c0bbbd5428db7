//! From encoded bytes to mono samples at the clip's own rate.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::errors::{Error as SymphoniaError, SeekErrorKind};
use symphonia::core::formats::{SeekMode, SeekTo};
use symphonia::core::io::MediaSource;
use symphonia::core::units::Timestamp;

use super::error::AudioFault;
use super::open::{Opened, open};
use super::pages::check_pages;
use super::{Source, Wanted};

/// The highest rate at which a clip may be as long as the limit allows; at a higher rate it may have as many frames.
const FULL_RATE: u32 = 48_000;

#[derive(Debug)]
pub(super) struct Mono {
    pub rate: u32,
    pub channels: u16,
    pub samples: Vec<f32>,
    pub warnings: Vec<String>,
}

/// A file or bytes that were opened, a second time for what symphonia leaves out, and the extension of its name.
struct Bytes<'a> {
    media: Box<dyn MediaSource + 'a>,
    again: Box<dyn ReadSeek + 'a>,
    extension: Option<String>,
}

trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

pub(super) fn decode_mono(source: Source<'_>, wanted: &Wanted) -> Result<Mono, AudioFault> {
    let bytes = bytes_of(source, wanted)?;
    guarded(|| read(bytes, wanted))
}

/// The rate of a clip, and how many of its frames are wanted as far as its header says that.
pub(super) fn count(source: Source<'_>, wanted: &Wanted) -> Result<(u32, Option<u64>), AudioFault> {
    let mut bytes = bytes_of(source, wanted)?;
    guarded(|| {
        let clip = open(bytes.media, &mut bytes.again, bytes.extension.as_deref())?;
        let kept = Kept::new(&clip, wanted);
        check_promise(&clip, &kept, wanted)?;
        let frames = clip
            .counted
            .map(|counted| counted.min(kept.to).saturating_sub(kept.from));
        Ok((clip.rate, frames.filter(|frames| *frames > 0)))
    })
}

fn bytes_of<'a>(source: Source<'a>, wanted: &Wanted) -> Result<Bytes<'a>, AudioFault> {
    let (start, end) = (wanted.start.unwrap_or(0.0), wanted.end.unwrap_or(f64::INFINITY));
    // Written so that a NaN fails too.
    if !(start >= 0.0 && start.is_finite() && end > start) {
        return Err(AudioFault::NotASlice { start, end });
    }
    match source {
        Source::File(path) => {
            let unreadable = |error: io::Error| AudioFault::Unreadable(error.to_string());
            let file = File::open(path).map_err(unreadable)?;
            if !file.metadata().map_err(unreadable)?.is_file() {
                return Err(AudioFault::Unreadable("it is not a regular file".to_owned()));
            }
            // Opened twice, not cloned: clones share one position.
            let again = File::open(path).map_err(unreadable)?;
            let extension = path.extension().and_then(|extension| extension.to_str());
            Ok(Bytes {
                media: Box::new(file),
                again: Box::new(again),
                extension: extension.map(str::to_owned),
            })
        }
        Source::Bytes { bytes, name } => {
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            Ok(Bytes {
                media: Box::new(Cursor::new(bytes)),
                again: Box::new(Cursor::new(bytes)),
                extension: extension.map(str::to_owned),
            })
        }
    }
}

/// The decoders are safe code, but on a hostile file their arithmetic can overflow, which is a panic
/// in a debug build. It then costs this clip, not the run.
fn guarded<T>(read: impl FnOnce() -> Result<T, AudioFault>) -> Result<T, AudioFault> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(AudioFault::Damaged("the decoder gave up on it".to_owned())))
}

fn read(bytes: Bytes<'_>, wanted: &Wanted) -> Result<Mono, AudioFault> {
    let mut again = bytes.again;
    let mut clip = open(bytes.media, &mut again, bytes.extension.as_deref())?;
    let mut kept = Kept::new(&clip, wanted);
    let (rate, origin) = (clip.rate, clip.origin());
    check_promise(&clip, &kept, wanted)?;
    if clip.seekable && kept.from > 0 {
        seek(&mut clip, &mut kept)?;
    }
    let lost_packets = decode_packets(&mut clip, &mut kept)?;

    if clip.paged && kept.at < kept.to {
        check_pages(again)?;
    }
    let mut warnings = Vec::new();
    if let Some(expected) = clip.promised
        && kept.at < kept.to.min(expected)
    {
        if clip.promise_binds {
            return Err(AudioFault::CutShort { expected, got: kept.at });
        }
        warnings.push(format!("its header promises {expected} frames, it holds {}", kept.at));
    }
    if lost_packets > 0 {
        warnings.push(format!("damaged packets replaced by silence: {lost_packets}"));
    }
    if kept.samples.is_empty() {
        return Err(if kept.at == 0 {
            AudioFault::Empty
        } else {
            outside(&clip, wanted, kept.at)
        });
    }
    if let Some(at) = kept.samples.iter().position(|sample| !sample.is_finite()) {
        return Err(AudioFault::NotFinite {
            frame: at as u64 + kept.from - origin,
        });
    }
    Ok(Mono {
        rate,
        channels: kept.channels,
        samples: kept.samples,
        warnings,
    })
}

/// Refuses what cannot be had of a clip by what its header says.
fn check_promise(clip: &Opened<'_>, kept: &Kept, wanted: &Wanted) -> Result<(), AudioFault> {
    match clip.promised {
        Some(0) => Err(AudioFault::Empty),
        Some(promised) if promised <= kept.from => Err(outside(clip, wanted, promised)),
        Some(promised) if promised.min(kept.to) - kept.from > kept.limit as u64 => Err(kept.too_long(clip.rate)),
        _ => Ok(()),
    }
}

fn outside(clip: &Opened<'_>, wanted: &Wanted, end: u64) -> AudioFault {
    AudioFault::OutsideClip {
        start: wanted.start.unwrap_or(0.0),
        seconds: end.saturating_sub(clip.origin()) as f64 / f64::from(clip.rate),
    }
}

/// The wanted part of the stream, as far as it has been decoded. Positions count decoded frames.
struct Kept {
    from: u64,
    to: u64,
    at: u64,
    limit: usize,
    samples: Vec<f32>,
    channels: u16,
}

impl Kept {
    fn new(clip: &Opened<'_>, wanted: &Wanted) -> Self {
        let origin = clip.origin();
        let frames = |seconds: f64| (seconds * f64::from(clip.rate)).round() as u64;
        let mut to = wanted.end.map_or(u64::MAX, |end| origin.saturating_add(frames(end)));
        if let Some(edit) = clip.edit {
            to = to.min(edit.frames.map_or(u64::MAX, |frames| origin.saturating_add(frames)));
            // The table of packet lengths knows the end to the frame, where the edit list may know it
            // to the millisecond only.
            to = to.min(clip.promised.unwrap_or(u64::MAX));
        }
        Kept {
            from: origin.saturating_add(frames(wanted.start.unwrap_or(0.0))),
            to,
            at: 0,
            limit: (wanted.max_seconds * f64::from(clip.rate.min(FULL_RATE))).round() as usize,
            samples: Vec::new(),
            channels: 0,
        }
    }

    fn too_long(&self, rate: u32) -> AudioFault {
        let limit = self.limit as f64 / f64::from(rate);
        AudioFault::TooLong {
            limit: (limit * 10.0).round() / 10.0,
        }
    }

    /// Takes the next frames of the stream and keeps what is wanted of them.
    /// False: they would make the clip longer than the limit.
    fn take(&mut self, mono: &[f32]) -> bool {
        let frames = mono.len() as u64;
        let end = self.to.saturating_sub(self.at).min(frames) as usize;
        let skip = self.from.saturating_sub(self.at).min(end as u64) as usize;
        self.at = self.at.saturating_add(frames);
        let wanted = &mono[skip..end];
        let fits = self.samples.len() + wanted.len() <= self.limit;
        if fits {
            self.samples.extend_from_slice(wanted);
        }
        fits
    }
}

fn seek(clip: &mut Opened<'_>, kept: &mut Kept) -> Result<(), AudioFault> {
    let to = SeekTo::Timestamp {
        ts: Timestamp::new(i64::try_from(kept.from).unwrap_or(i64::MAX)),
        track_id: clip.track_id,
    };
    match clip.format.seek(SeekMode::Accurate, to) {
        Ok(found) => {
            kept.at = u64::try_from(found.actual_ts.get()).unwrap_or(0);
            clip.decoder.reset();
            Ok(())
        }
        // A header without a frame count: reading from the start finds the place, or that there is none.
        Err(SymphoniaError::SeekError(SeekErrorKind::Unseekable)) => Ok(()),
        Err(error) => Err(AudioFault::Damaged(error.to_string())),
    }
}

/// Decodes to the end of the wanted part or of the clip, and returns how many packets were damaged.
fn decode_packets(clip: &mut Opened<'_>, kept: &mut Kept) -> Result<u64, AudioFault> {
    let (mut sound, mut lost) = (0_u64, 0_u64);
    let mut interleaved = Vec::new();
    while kept.at < kept.to {
        let packet = match clip.format.next_packet() {
            Ok(Some(packet)) if packet.track_id == clip.track_id => packet,
            Ok(Some(_)) => continue,
            Ok(None) => break,
            // The frame count decides whether an end in the middle of a packet is an error.
            Err(SymphoniaError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                break;
            }
            Err(SymphoniaError::IoError(error)) => {
                return Err(AudioFault::Unreadable(error.to_string()));
            }
            Err(SymphoniaError::ResetRequired) => {
                return Err(AudioFault::Unsupported("a chain of several streams".to_owned()));
            }
            Err(error) => return Err(AudioFault::Damaged(error.to_string())),
        };
        let fits = match clip.decoder.decode(&packet) {
            Ok(buffer) => {
                sound += 1;
                if buffer.frames() > 0 && buffer.spec().rate() != clip.rate {
                    return Err(AudioFault::Unsupported("a change of sample rate".to_owned()));
                }
                keep_mono(&buffer, &mut interleaved, kept)
            }
            Err(SymphoniaError::Unsupported(why)) if sound == 0 => {
                return Err(AudioFault::Unsupported(format!("its codec ({why})")));
            }
            Err(SymphoniaError::DecodeError(_) | SymphoniaError::IoError(_) | SymphoniaError::Unsupported(_))
                if !clip.lossless =>
            {
                lost += 1;
                // The clock of every lossy format read here ticks once a frame, m4a's nearly always.
                let frames = usize::try_from(packet.dur.get()).unwrap_or(usize::MAX);
                frames <= kept.limit && kept.take(&vec![0.0; frames])
            }
            // A wav cut in the middle of a frame: the frame count gives the better error.
            Err(SymphoniaError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                break;
            }
            Err(error) => return Err(AudioFault::Damaged(error.to_string())),
        };
        if !fits {
            return Err(kept.too_long(clip.rate));
        }
    }
    // Bytes that are no audio at all can look like the start of an mp3 here and there.
    if lost > sound {
        return Err(AudioFault::Damaged(format!("{lost} of its {} packets", lost + sound)));
    }
    Ok(lost)
}

/// Integers are divided by 2^(bits - 1), as libsndfile does, not by the largest value.
fn keep_mono(buffer: &GenericAudioBufferRef<'_>, interleaved: &mut Vec<f32>, kept: &mut Kept) -> bool {
    let channels = buffer.num_planes();
    if buffer.frames() == 0 || channels == 0 {
        return true;
    }
    kept.channels = u16::try_from(channels).unwrap_or(u16::MAX);
    buffer.copy_to_vec_interleaved(interleaved);
    if channels > 1 {
        mix_to_mono(interleaved, channels);
    }
    kept.take(interleaved)
}

/// Replaces each frame by the mean of its channels, in place.
///
/// Plain indices, because this is the one loop over every sample that a debug build does not optimise.
fn mix_to_mono(interleaved: &mut Vec<f32>, channels: usize) {
    let frames = interleaved.len() / channels;
    for frame in 0..frames {
        let mut sum = 0.0;
        for channel in 0..channels {
            sum += interleaved[frame * channels + channel];
        }
        interleaved[frame] = sum / channels as f32;
    }
    interleaved.truncate(frames);
}
