//! What one envelope carries: a JSON text, clips of sound, and bytes.

use super::samples::Samples;
use crate::{Code, Error, Result};
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

/// The contents of a call or of its answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Envelope {
    /// The JSON text.
    pub json: String,
    /// Sound, beside the JSON because it is large.
    pub clips: Vec<Clip>,
    /// Bytes, beside the JSON for the same reason.
    pub blobs: Vec<Vec<u8>>,
}

impl Envelope {
    /// An envelope with only JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let json = serde_json::to_string(value)
            .map_err(|why| Error::new(Code::ENVELOPE, format!("cannot write an envelope: {why}")))?;
        Ok(Envelope {
            json,
            ..Envelope::default()
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

/// Something that travels in an envelope together with its clips or bytes.
pub(crate) trait Packed: Serialize + DeserializeOwned {
    /// Packs it, sound and bytes beside the JSON.
    fn pack(&mut self) -> Result<Envelope>;
    /// Unpacks it.
    fn unpack(envelope: Envelope) -> Result<Self>;
}

/// How a type packs what is too large for JSON.
macro_rules! packed {
    ($type:ty, $take:expr, $put:expr) => {
        impl crate::wire::Packed for $type {
            fn pack(&mut self) -> crate::Result<crate::wire::Envelope> {
                let mut envelope = crate::wire::Envelope::of(self)?;
                let take: fn(&mut $type, &mut crate::wire::Envelope) = $take;
                take(self, &mut envelope);
                Ok(envelope)
            }

            fn unpack(envelope: crate::wire::Envelope) -> crate::Result<Self> {
                let mut value: $type = envelope.read()?;
                let put: fn(&mut $type, crate::wire::Envelope) = $put;
                put(&mut value, envelope);
                Ok(value)
            }
        }
    };
}

pub(crate) use packed;
