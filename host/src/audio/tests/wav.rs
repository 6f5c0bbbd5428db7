//! Wav files written byte by byte: every sample format, and every way their header can be wrong.

use super::super::{AudioFault, Decoded, Source, Wanted, decode};

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

pub(super) struct Wav {
    pub format: u16,
    pub channels: u16,
    pub rate: u32,
    pub bits: u16,
    pub data: Vec<u8>,
    /// What the header says; the length of `data` unless a test lies.
    pub claimed: Option<u32>,
}

impl Wav {
    pub fn new(format: u16, bits: u16, data: Vec<u8>) -> Self {
        Wav {
            format,
            channels: 1,
            rate: 16_000,
            bits,
            data,
            claimed: None,
        }
    }

    pub fn pcm16(samples: &[i16]) -> Self {
        Wav::new(
            PCM,
            16,
            samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
        )
    }

    pub fn float(samples: &[f32]) -> Self {
        Wav::new(
            FLOAT,
            32,
            samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        let frame = self.channels * self.bits / 8;
        let mut format = Vec::new();
        format.extend(self.format.to_le_bytes());
        format.extend(self.channels.to_le_bytes());
        format.extend(self.rate.to_le_bytes());
        format.extend((self.rate * u32::from(frame)).to_le_bytes());
        format.extend(frame.to_le_bytes());
        format.extend(self.bits.to_le_bytes());
        if self.format == EXTENSIBLE {
            format.extend(22_u16.to_le_bytes());
            format.extend(self.bits.to_le_bytes());
            format.extend(((1_u32 << self.channels) - 1).to_le_bytes());
            format.extend([1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
        }
        let length = self.claimed.unwrap_or(self.data.len() as u32);
        let mut file = b"RIFF".to_vec();
        file.extend(length.saturating_add(20 + format.len() as u32).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend((format.len() as u32).to_le_bytes());
        file.extend(format);
        file.extend(b"data");
        file.extend(length.to_le_bytes());
        file.extend(&self.data);
        file
    }

    pub fn decode(&self) -> Result<Decoded, AudioFault> {
        let bytes = self.bytes();
        decode(
            Source::Bytes {
                name: "clip.wav",
                bytes: &bytes,
            },
            &Wanted::default(),
        )
        .map_err(|error| error.fault)
    }
}

#[track_caller]
fn check(wav: &Wav, expected: &[f32]) {
    let clip = wav.decode().unwrap();
    assert_eq!(clip.samples(), expected);
    assert_eq!((clip.rate, clip.source_channels), (16_000, wav.channels));
}

#[test]
fn every_sample_format_keeps_its_values() {
    check(
        &Wav::new(PCM, 8, vec![0, 64, 128, 255]),
        &[-1.0, -0.5, 0.0, 127.0 / 128.0],
    );
    check(
        &Wav::pcm16(&[i16::MIN, -1, 0, 1, i16::MAX]),
        &[-1.0, -1.0 / 32_768.0, 0.0, 1.0 / 32_768.0, 32_767.0 / 32_768.0],
    );
    check(
        &Wav::new(PCM, 24, vec![0, 0, 0x80, 1, 0, 0, 0xff, 0xff, 0x7f]),
        &[-1.0, 1.0 / 8_388_608.0, 8_388_607.0 / 8_388_608.0],
    );
    check(
        &Wav::new(EXTENSIBLE, 24, vec![0, 0, 0x80, 1, 0, 0]),
        &[-1.0, 1.0 / 8_388_608.0],
    );
    let integers = [i32::MIN, 0, 1 << 30].iter().flat_map(|sample| sample.to_le_bytes());
    check(&Wav::new(PCM, 32, integers.collect()), &[-1.0, 0.0, 0.5]);
    // Beyond full scale stays as it is: a float clip may be mixed hot, and clipping it is the model's choice.
    check(&Wav::float(&[0.1, -1.5, 0.0]), &[0.1, -1.5, 0.0]);
    let doubles = [0.25_f64, -0.1].iter().flat_map(|sample| sample.to_le_bytes());
    check(&Wav::new(FLOAT, 64, doubles.collect()), &[0.25, -0.1]);
}

#[test]
fn channels_are_mixed_to_their_mean() {
    let stereo = Wav {
        channels: 2,
        ..Wav::float(&[1.0, 0.5, -1.0, 1.0])
    };
    check(&stereo, &[0.75, 0.0]);
    let three = Wav {
        channels: 3,
        ..Wav::float(&[0.25, 0.5, 0.75])
    };
    check(&three, &[0.5]);
}

#[test]
fn a_length_that_the_writer_could_not_fill_in_means_to_the_end() {
    for claimed in [u32::MAX, 0x7fff_ffff - 36, 0x7fff_0000] {
        let wav = Wav {
            claimed: Some(claimed),
            ..Wav::pcm16(&[1, 2, 3])
        };
        assert_eq!(wav.decode().unwrap().samples().len(), 3, "{claimed:#x}");
    }
}

#[test]
fn a_wav_with_fewer_frames_than_its_header_says_is_cut_short() {
    let wav = Wav {
        claimed: Some(20_000),
        ..Wav::pcm16(&[7; 4_321])
    };
    assert_eq!(
        wav.decode(),
        Err(AudioFault::CutShort {
            expected: 10_000,
            got: 4_321
        })
    );
    // Cut in the middle of a sample.
    let mut torn = Wav {
        claimed: Some(20_000),
        ..Wav::pcm16(&[7; 4_321])
    };
    torn.data.pop();
    let Err(AudioFault::CutShort { expected: 10_000, got }) = torn.decode() else {
        panic!("{:?}", torn.decode());
    };
    assert!(got < 4_321, "{got}");
}

#[test]
fn a_whole_slice_of_a_wav_that_is_cut_short_later_is_whole() {
    let bytes = Wav {
        claimed: Some(20_000),
        ..Wav::pcm16(&[7; 4_321])
    }
    .bytes();
    let wanted = Wanted {
        start: Some(0.1),
        end: Some(0.2),
        ..Wanted::default()
    };
    let clip = decode(
        Source::Bytes {
            name: "clip.wav",
            bytes: &bytes,
        },
        &wanted,
    )
    .unwrap();
    assert_eq!(clip.samples().len(), 1_600);
}

#[test]
fn a_clip_without_samples_is_empty() {
    assert_eq!(Wav::pcm16(&[]).decode(), Err(AudioFault::Empty));
    assert_eq!(Wav::float(&[]).decode(), Err(AudioFault::Empty));
}

#[test]
fn a_sample_that_is_no_number_is_found() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let fault = Wav::float(&[0.0, 0.5, bad, bad]).decode();
        assert_eq!(fault, Err(AudioFault::NotFinite { frame: 2 }));
    }
}

#[test]
fn a_rate_that_no_recording_has_is_refused() {
    for rate in [0, 7, 999, 768_001, u32::MAX / 4] {
        let wav = Wav {
            rate,
            ..Wav::pcm16(&[1, 2, 3])
        };
        assert!(
            matches!(wav.decode(), Err(AudioFault::Rate(_) | AudioFault::Damaged(_))),
            "{rate}"
        );
    }
}
