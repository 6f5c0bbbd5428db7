//! The configuration of the four parts: BEATs' settings, the Q-Former's, and where the parts are.

use nn::{Error, Result, within};
use serde::{Deserialize, Serialize};

/// `salmonn_config.json`, which names the parts in a folder. Missing fields are as in the published model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Published {
    pub whisper_path: String,
    pub beats_path: String,
    pub llama_path: String,
    pub ckpt: String,
    pub num_speech_query_token: usize,
    pub second_per_window: f64,
    pub second_stride: f64,
    pub lora: bool,
    pub lora_alpha: f64,
    pub prompt_template: String,
    pub qformer: QformerConfig,
    #[serde(rename = "use_speech_Qformer")]
    pub use_speech_qformer: bool,
    #[serde(rename = "window_level_Qformer")]
    pub window_level_qformer: bool,
}

impl Default for Published {
    fn default() -> Self {
        Published {
            whisper_path: "whisper".to_owned(),
            beats_path: "beats.pt".to_owned(),
            llama_path: "vicuna".to_owned(),
            ckpt: "salmonn_v1.pth".to_owned(),
            num_speech_query_token: 1,
            second_per_window: 0.333_333,
            second_stride: 0.333_333,
            lora: true,
            lora_alpha: 32.0,
            prompt_template: "USER: {}\nASSISTANT:".to_owned(),
            qformer: QformerConfig::default(),
            use_speech_qformer: true,
            window_level_qformer: true,
        }
    }
}

/// The Q-Former's layers, with BERT's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QformerConfig {
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub hidden_act: String,
    pub layer_norm_eps: f64,
}

impl Default for QformerConfig {
    fn default() -> Self {
        QformerConfig {
            hidden_size: 768,
            num_attention_heads: 12,
            intermediate_size: 3072,
            num_hidden_layers: 2,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
        }
    }
}

/// How the encoders' outputs are divided into windows.
#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    pub queries: usize,
    /// Steps in a window, and from the beginning of one window to the next.
    pub window: usize,
    pub stride: usize,
    pub qformer: QformerConfig,
}

impl Published {
    pub fn connector(&self) -> Result<ConnectorConfig> {
        let qformer = &self.qformer;
        let steps = |what: &str, seconds: f64| {
            // Rounded as Python does, halves to even; 1500 steps are the 30 seconds that Whisper hears.
            let steps = (1500.0 * seconds / 30.0).round_ties_even();
            if (1.0..=1500.0).contains(&steps) {
                return Ok(steps as usize);
            }
            Err(wrong(what, seconds, "0.02 to 30 seconds"))
        };
        if !(self.use_speech_qformer && self.window_level_qformer) {
            return Err(wrong("window_level_Qformer", false, "true, as in the published models"));
        }
        if qformer.hidden_act != "gelu" {
            return Err(wrong("qformer.hidden_act", &qformer.hidden_act, "gelu"));
        }
        let (width, heads) = (qformer.hidden_size, qformer.num_attention_heads);
        within("qformer.hidden_size", width, 1..=65_536)?;
        within("qformer.num_attention_heads", heads, 1..=1024)?;
        within("qformer.hidden_size modulo its heads", width % heads, 0..=0)?;
        within("qformer.intermediate_size", qformer.intermediate_size, 1..=1_048_576)?;
        within("qformer.num_hidden_layers", qformer.num_hidden_layers, 1..=1024)?;
        Ok(ConnectorConfig {
            queries: within("num_speech_query_token", self.num_speech_query_token, 1..=1024)?,
            window: steps("second_per_window", self.second_per_window)?,
            stride: steps("second_stride", self.second_stride)?,
            qformer: qformer.clone(),
        })
    }
}

/// The `cfg` of a BEATs checkpoint: the fields that change what is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BeatsConfig {
    pub input_patch_size: usize,
    pub embed_dim: usize,
    pub conv_bias: bool,
    pub encoder_layers: usize,
    pub encoder_embed_dim: usize,
    pub encoder_ffn_embed_dim: usize,
    pub encoder_attention_heads: usize,
    pub activation_fn: String,
    pub layer_norm_first: bool,
    pub deep_norm: bool,
    pub conv_pos: usize,
    pub conv_pos_groups: usize,
    pub relative_position_embedding: bool,
    pub num_buckets: usize,
    pub max_distance: usize,
    pub gru_rel_pos: bool,
}

impl Default for BeatsConfig {
    /// The published values where they differ from the class's own defaults.
    fn default() -> Self {
        BeatsConfig {
            input_patch_size: 16,
            embed_dim: 512,
            conv_bias: false,
            encoder_layers: 12,
            encoder_embed_dim: 768,
            encoder_ffn_embed_dim: 3072,
            encoder_attention_heads: 12,
            activation_fn: "gelu".to_owned(),
            layer_norm_first: false,
            deep_norm: true,
            conv_pos: 128,
            conv_pos_groups: 16,
            relative_position_embedding: true,
            num_buckets: 320,
            max_distance: 800,
            gru_rel_pos: true,
        }
    }
}

impl BeatsConfig {
    /// Itself, if it is supported and its sizes are plausible.
    pub fn checked(self) -> Result<BeatsConfig> {
        let kinds = [
            ("layer_norm_first", self.layer_norm_first, false),
            ("relative_position_embedding", self.relative_position_embedding, true),
            ("gru_rel_pos", self.gru_rel_pos, true),
        ];
        for (what, got, expected) in kinds {
            if got != expected {
                return Err(wrong(what, got, &format!("{expected}, as in the published models")));
            }
        }
        if self.activation_fn != "gelu" {
            return Err(wrong("activation_fn", &self.activation_fn, "gelu"));
        }
        let (width, heads) = (self.encoder_embed_dim, self.encoder_attention_heads);
        within("input_patch_size", self.input_patch_size, 1..=128)?;
        within("128 modulo input_patch_size", 128 % self.input_patch_size, 0..=0)?;
        within("embed_dim", self.embed_dim, 1..=65_536)?;
        within("encoder_layers", self.encoder_layers, 1..=1024)?;
        within("encoder_embed_dim", width, 1..=65_536)?;
        within("encoder_ffn_embed_dim", self.encoder_ffn_embed_dim, 1..=1_048_576)?;
        within("encoder_attention_heads", heads, 1..=1024)?;
        within("encoder_embed_dim modulo its heads", width % heads, 0..=0)?;
        within("conv_pos", self.conv_pos, 1..=4096)?;
        within("conv_pos_groups", self.conv_pos_groups, 1..=width)?;
        within(
            "encoder_embed_dim modulo conv_pos_groups",
            width % self.conv_pos_groups,
            0..=0,
        )?;
        within("num_buckets", self.num_buckets, 4..=65_536)?;
        within("max_distance", self.max_distance, self.num_buckets / 4 + 1..=1 << 20)?;
        Ok(self)
    }
}

fn wrong(what: &str, got: impl ToString, expected: &str) -> Error {
    Error::Config {
        what: format!("`{what}`"),
        got: got.to_string(),
        expected: expected.to_owned(),
    }
}
