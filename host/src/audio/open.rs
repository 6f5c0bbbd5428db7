//! Opening a clip: which container and codec it is, and what its header says of it.

use std::io::{Read, Seek, SeekFrom};

use symphonia::core::codecs::audio::well_known::{CODEC_ID_ALAC, CODEC_ID_OPUS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::well_known::{
    FORMAT_ID_AIFF, FORMAT_ID_FLAC, FORMAT_ID_ISOMP4, FORMAT_ID_MP3, FORMAT_ID_OGG, FORMAT_ID_WAVE,
};
use symphonia::core::formats::{FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};

use super::edits::{Edit, first_edit};
use super::error::{AudioFault, MAX_RATE, MIN_RATE};

pub(super) struct Opened<'a> {
    pub format: Box<dyn FormatReader + 'a>,
    pub decoder: Box<dyn AudioDecoder>,
    pub track_id: u32,
    pub rate: u32,
    /// Damage in it is an error, not a warning.
    pub lossless: bool,
    /// Its packets stand alone, so that reading may start at any of them and give the same samples.
    pub seekable: bool,
    /// How many frames the header says there are, where it says so; never an estimate.
    pub promised: Option<u64>,
    /// The same, or in ogg how many frames the last page counts, which holds unless a page is missing.
    pub counted: Option<u64>,
    /// A wrong count is an error, not a warning.
    pub promise_binds: bool,
    pub edit: Option<Edit>,
    /// It has pages to check.
    pub paged: bool,
}

impl Opened<'_> {
    /// Where the recording starts in the decoded stream.
    pub fn origin(&self) -> u64 {
        self.edit.map_or(0, |edit| edit.start)
    }
}

/// `again` reads the same bytes once more, for what symphonia leaves out or cannot open.
pub(super) fn open<'a>(
    media: Box<dyn MediaSource + 'a>,
    mut again: &mut (impl Read + Seek),
    extension: Option<&str>,
) -> Result<Opened<'a>, AudioFault> {
    let mut hint = Hint::new();
    if let Some(extension) = extension {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(media, Default::default());
    let format = symphonia::default::get_probe()
        .probe(&hint, stream, Default::default(), Default::default())
        .map_err(|error| match error {
            SymphoniaError::Unsupported(_) | SymphoniaError::IoError(_) => unknown(&mut again),
            other => AudioFault::Damaged(other.to_string()),
        })?;

    let kind = format.format_info().format;
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| AudioFault::NotAudio("a file with no audio track".to_owned()))?
        .clone();
    let params = track
        .codec_params
        .as_ref()
        .and_then(|params| params.audio())
        .ok_or_else(|| AudioFault::Unsupported("its codec".to_owned()))?;
    let rate = params
        .sample_rate
        .ok_or_else(|| AudioFault::Damaged("its header has no sample rate".to_owned()))?;
    if !(MIN_RATE..=MAX_RATE).contains(&rate) {
        return Err(AudioFault::Rate(rate));
    }

    // Without LAME's header symphonia guesses the length of an mp3 from its first 16 packets and would
    // trim to that guess; a file whose bit rate falls later on would lose its end.
    let guessed = kind == FORMAT_ID_MP3 && track.delay.is_none();
    let decoder = make_decoder(params, !guessed)?;
    let edit = if kind == FORMAT_ID_ISOMP4 {
        first_edit(&mut again, track.id, rate).map_err(|error| AudioFault::Unreadable(error.to_string()))?
    } else {
        None
    };
    let plain = kind == FORMAT_ID_WAVE || kind == FORMAT_ID_AIFF || kind == FORMAT_ID_FLAC;
    let counted = plain || kind == FORMAT_ID_ISOMP4;
    let promised = track
        .num_frames
        .filter(|_| !length_left_open(&track, params) && (counted || (kind == FORMAT_ID_MP3 && !guessed)));
    Ok(Opened {
        lossless: plain || params.codec == CODEC_ID_ALAC,
        // In blocks of several frames (adpcm) symphonia seeks to the wrong block.
        seekable: plain && params.frames_per_block.is_none_or(|frames| frames == 1),
        promised,
        counted: promised.or(track.num_frames.filter(|_| kind == FORMAT_ID_OGG)),
        promise_binds: counted,
        track_id: track.id,
        format,
        decoder,
        rate,
        edit,
        paged: kind == FORMAT_ID_OGG,
    })
}

fn make_decoder(params: &AudioCodecParameters, gapless: bool) -> Result<Box<dyn AudioDecoder>, AudioFault> {
    symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default().gapless(gapless))
        .map_err(|error| match error {
            SymphoniaError::Unsupported(_) if params.codec == CODEC_ID_OPUS => {
                AudioFault::Unsupported("the opus codec".to_owned())
            }
            SymphoniaError::Unsupported(why) => AudioFault::Unsupported(format!("its codec ({why})")),
            other => AudioFault::Damaged(other.to_string()),
        })
}

/// Whether a wav header's length is what a program writes that cannot go back to fill it in.
///
/// Those that write into a pipe leave the largest number, which symphonia knows, or 2 GiB less a little.
fn length_left_open(track: &Track, params: &AudioCodecParameters) -> bool {
    const NEARLY_2_GIB: u64 = 0x7fff_0000;
    let bytes_per_frame = params.channels.as_ref().map_or(1, |channels| channels.count() as u64)
        * u64::from(params.bits_per_sample.unwrap_or(8).div_ceil(8));
    track
        .num_frames
        .is_some_and(|frames| frames.saturating_mul(bytes_per_frame) >= NEARLY_2_GIB)
}

/// Says what an unreadable file is, since the usual causes look alike: a download that saved an error page, a Git LFS
/// pointer, a transcript under the wrong name.
fn unknown(file: &mut (impl Read + Seek)) -> AudioFault {
    let mut head = Vec::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.by_ref().take(64).read_to_end(&mut head));
    if let Err(error) = read {
        return AudioFault::Unreadable(error.to_string());
    }
    if head.is_empty() {
        return AudioFault::Empty;
    }
    if let Some(format) = format_of(&head) {
        return AudioFault::Damaged(format!("it starts as {format}, but what must follow is missing"));
    }
    let text = String::from_utf8_lossy(&head);
    let is_text = head.iter().all(|byte| *byte >= b' ' || byte.is_ascii_whitespace())
        && !text
            .trim_end_matches(char::REPLACEMENT_CHARACTER)
            .contains(char::REPLACEMENT_CHARACTER);
    AudioFault::NotAudio(if text.starts_with("version https://git-lfs") {
        "a Git LFS pointer".to_owned()
    } else if is_text {
        let start: String = text.trim().chars().take(24).collect();
        format!("text that starts {start:?}")
    } else {
        let start: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("bytes that start {}", start.join(" "))
    })
}

/// The format that the first bytes indicate.
fn format_of(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    [
        (0, "RIFF", "wav"),
        (0, "fLaC", "flac"),
        (0, "OggS", "ogg"),
        (0, "ID3", "mp3"),
        (0, "FORM", "aiff"),
        (4, "ftyp", "m4a"),
    ]
    .into_iter()
    .find(|(offset, magic, _)| at(*offset, magic.as_bytes()))
    .map(|(_, _, format)| format)
}
