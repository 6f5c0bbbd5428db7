//! What an audio tower needs while it learns, or hears for what follows it.

use nn::encoder::{EncoderConfig, EncoderFields};
use plugin_api::Workload;
use serde_json::Value;
use train::Counted;

/// Steps of the encoder in a second.
const STEPS_A_SECOND: f64 = 50.0;

/// The shape of an audio tower.
pub(super) struct TowerShape(EncoderConfig);

impl TowerShape {
    /// None without an audio tower.
    pub fn read(config: &Value) -> Option<TowerShape> {
        let own = config.get("audio_config");
        let own = own.or_else(|| config.get("thinker_config")?.get("audio_config"))?;
        let fields: EncoderFields = serde_json::from_value(own.clone()).ok()?;
        fields.settle().ok().map(TowerShape)
    }

    /// Bytes that are kept from the clips of a batch until the backward pass ends, and that the layer being computed
    /// needs, whose buffers wait for their next use meanwhile.
    pub fn activations(&self, work: &Workload, learnt: &Counted) -> u64 {
        let config = &self.0;
        let [width, inner, bins, heads, layers] =
            [config.width, config.inner, config.bins, config.heads, config.layers].map(|size| size as u64);
        // A frozen tower hears one clip at a time.
        let window = config.positions as f64 / STEPS_A_SECOND;
        let seconds = if learnt.hears {
            work.seconds
        } else {
            work.seconds.min(window)
        };
        let steps = (seconds * STEPS_A_SECOND).ceil() as u64;
        // Two frames, their windows of three, the windows of the second convolution, and what comes out of both.
        let of_convolutions = 2 * bins + 6 * bins + 3 * width + 3 * width;
        // Its input, queries, keys and values, the outputs of attention and of the first half, and the feed-forward.
        let of_layer = 6 * width + heads + inner;
        let at_work = 4 * width + 3 * inner;
        4 * steps
            * match (learnt.hears, learnt.tower) {
                (_, true) => of_convolutions + layers * of_layer + 6 * width + 5 * inner,
                (true, false) => of_convolutions + at_work,
                (false, false) => at_work,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_clips_take_depends_on_what_is_learnt() {
        let own = json!({ "num_mel_bins": 128, "d_model": 64, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 256 });
        let shape = TowerShape::read(&json!({ "audio_config": own })).unwrap();
        assert_eq!(
            shape.0,
            TowerShape::read(&json!({ "thinker_config": { "audio_config": own } }))
                .unwrap()
                .0
        );
        assert!(TowerShape::read(&json!({ "text_config": {} })).is_none());
        let take = |seconds: f64, hears: bool, tower: bool| {
            let work = Workload {
                seconds,
                ..Workload::default()
            };
            shape.activations(
                &work,
                &Counted {
                    hears,
                    tower,
                    ..Counted::default()
                },
            )
        };
        let (of_convolutions, of_layer) = (8 * 128 + 6 * 64, 6 * 64 + 4 + 256);
        let learnt = of_convolutions + 3 * of_layer + 6 * 64 + 5 * 256;
        assert_eq!(take(2.0, true, true), 4 * 100 * learnt);
        let at_work = 4 * 64 + 3 * 256;
        assert_eq!(take(45.0, true, false), 4 * 2250 * (of_convolutions + at_work));
        // A frozen tower hears 30 seconds at most at a time.
        assert_eq!(
            [2.0, 45.0, 90.0].map(|seconds| take(seconds, false, false)),
            [100, 1500, 1500].map(|steps| 4 * steps * at_work)
        );
        assert_eq!(take(0.0, true, true), 0);
    }
}
