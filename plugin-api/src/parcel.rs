//! What one envelope carries: a JSON text, clips of sound, and bytes.

use crate::abi::Samples;
use crate::task::{Asked, NextAnswer};
use crate::{Case, Code, Error, Lesson, Prompt, Result, Sample};
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::fmt;

/// Decoded sound. Cloning it copies nothing.
///
/// ```
/// use plugin_api::Clip;
///
/// let second = Clip::new(16_000, vec![0.0; 16_000]);
/// assert_eq!(second.seconds(), 1.0);
/// assert_eq!(second.samples().len(), 16_000);
/// ```
#[derive(Clone, PartialEq)]
pub struct Clip {
    /// Samples a second.
    pub rate: u32,
    /// Channels; their samples alternate. The host sends one.
    pub channels: u32,
    pub(crate) samples: Samples,
}

impl Clip {
    /// A clip of one channel.
    pub fn new(rate: u32, samples: Vec<f32>) -> Self {
        Clip {
            rate,
            channels: 1,
            samples: Samples::new(samples),
        }
    }

    /// The samples, between -1 and 1.
    pub fn samples(&self) -> &[f32] {
        self.samples.as_slice()
    }

    /// How long it lasts.
    pub fn seconds(&self) -> f64 {
        let frames = self.samples().len() as f64 / f64::from(self.channels.max(1));
        frames / f64::from(self.rate.max(1))
    }
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clip({:.3} s at {} Hz)", self.seconds(), self.rate)
    }
}

/// What one envelope carries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parcel {
    /// The words of the vocabulary, as JSON.
    pub json: String,
    /// Sound, beside the JSON because it is large.
    pub clips: Vec<Clip>,
    /// Bytes, beside the JSON for the same reason.
    pub blobs: Vec<Vec<u8>>,
}

impl Parcel {
    /// A parcel of JSON alone.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let json = serde_json::to_string(value)
            .map_err(|why| Error::new(Code::ENVELOPE, format!("cannot write an envelope: {why}")))?;
        Ok(Parcel {
            json,
            ..Parcel::default()
        })
    }

    /// What the JSON says.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.json).map_err(|why| {
            let kind = std::any::type_name::<T>();
            Error::new(Code::ENVELOPE, format!("cannot read an envelope as `{kind}`: {why}"))
        })
    }
}

/// Something that travels in a parcel together with its sound or bytes.
pub(crate) trait Packed: Serialize + DeserializeOwned {
    /// Packs it, sound and bytes beside the JSON.
    fn pack(&mut self) -> Result<Parcel>;
    /// Unpacks it.
    fn unpack(parcel: Parcel) -> Result<Self>;
}

macro_rules! packed {
    ($type:ty, $take:expr, $put:expr) => {
        impl Packed for $type {
            fn pack(&mut self) -> Result<Parcel> {
                let mut parcel = Parcel::of(self)?;
                let take: fn(&mut $type, &mut Parcel) = $take;
                take(self, &mut parcel);
                Ok(parcel)
            }

            fn unpack(parcel: Parcel) -> Result<Self> {
                let mut value: $type = parcel.read()?;
                let put: fn(&mut $type, Parcel) = $put;
                put(&mut value, parcel);
                Ok(value)
            }
        }
    };
}

packed!(
    Prompt,
    |prompt, parcel| parcel.clips = std::mem::take(&mut prompt.clips),
    |prompt, parcel| prompt.clips = parcel.clips
);
packed!(
    Lesson,
    |lesson, parcel| parcel.clips = std::mem::take(&mut lesson.clips),
    |lesson, parcel| lesson.clips = parcel.clips
);
packed!(Case, |case, parcel| parcel.clips = case.take_clips(), |case, parcel| {
    case.put_clips(parcel.clips)
});
packed!(
    Sample,
    |sample, parcel| parcel.blobs = std::mem::take(&mut sample.blobs),
    |sample, parcel| sample.blobs = parcel.blobs
);
packed!(
    Asked,
    |asked, parcel| {
        parcel.clips = std::mem::take(&mut asked.prompt.clips);
        parcel.blobs = std::mem::take(&mut asked.sample.blobs);
    },
    |asked, parcel| {
        asked.prompt.clips = parcel.clips;
        asked.sample.blobs = parcel.blobs;
    }
);
packed!(
    NextAnswer,
    |answer, parcel| {
        let prompt = answer.prompt.as_mut();
        parcel.clips = prompt.map(|it| std::mem::take(&mut it.clips)).unwrap_or_default();
    },
    |answer, parcel| {
        if let Some(prompt) = &mut answer.prompt {
            prompt.clips = parcel.clips;
        }
    }
);
