//! Loads the layers of a checkpoint for training.

use super::adapter::Adapter;
use super::counted::is_learnt;
use super::draws::Stream;
use super::net::{Head, Net};
use super::parameters::{Parameters, Vector, Weight};
use super::read::Reader;
use super::stored::{Form, Stored};
use super::{EngineSettings, Method, failed};
use crate::backward::attention::Rule;
use crate::backward::decoder::Layer;
use crate::backward::head::Loss;
use crate::backward::linear::{Factors, Linear};
use crate::backward::norm::{LayerNorm, RmsNorm};
use crate::backward::tower::{self, Tower};
use crate::lora::folder::WRAPPED;
use crate::lora::module_name;
use crate::lora::targets::Targets;
use audio::MelExtractor;
use nn::encoder::{EPS, sinusoid_values};
use nn::{AudioBlueprint, Blueprint, Hearing, Rope, Weights};
use plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Loader<'s> {
    pub settings: &'s EngineSettings,
    pub parameters: Parameters,
    /// The targets of a LoRA.
    pub targets: Option<Targets>,
    /// The factors of an adapter that training starts from, by module.
    adapter: Option<Adapter>,
    /// Factors of LoRAs that stay as they are, by plain layer name.
    added: BTreeMap<String, Vec<nn::Factors>>,
    /// Modules with learnt factors, in the order of their layers.
    pub hit: Vec<String>,
    /// The last parts of the names of all linear layers, for the error about a target that none has.
    linear: BTreeSet<String>,
    /// All tensors that could be learnt.
    tensors: Vec<String>,
    /// The number of values in the whole model.
    pub values: u64,
    /// Bytes of frozen weights by type.
    pub frozen: BTreeMap<&'static str, u64>,
    reader: Reader,
}

impl<'s> Loader<'s> {
    pub fn new(settings: &'s EngineSettings, model: &Weights) -> Result<Loader<'s>> {
        let targets = (settings.method != Method::Full).then(|| Targets::read(&settings.lora));
        Ok(Loader {
            settings,
            parameters: Parameters::default(),
            targets: targets.transpose()?,
            adapter: settings.adapter.as_deref().map(Adapter::open).transpose()?,
            added: BTreeMap::new(),
            hit: Vec::new(),
            linear: BTreeSet::new(),
            tensors: Vec::new(),
            values: 0,
            frozen: BTreeMap::new(),
            reader: Reader {
                // What the makers of a base in four bits left out stays as it is, as in PEFT.
                four_bits: settings.method == Method::Qlora && !model.any_in_four_bits(),
                double: settings.bnb_4bit_use_double_quant,
            },
        })
    }

    /// What PEFT calls a module of the checkpoint: the adapter that training starts from may be of older classes.
    fn module(&self, name: &str) -> String {
        let known = self.adapter.as_ref().and_then(|adapter| adapter.module(name));
        known.unwrap_or_else(|| module_name(name))
    }

    /// Whether the tensor of this full name is learnt itself, not by factors.
    fn learns(&mut self, tensor: &str) -> bool {
        self.tensors.push(tensor.to_owned());
        let module = self.module(tensor.rsplit_once('.').map_or(tensor, |(module, _)| module));
        is_learnt(self.settings, self.targets.as_ref(), tensor, &module)
    }

    /// The name under which a learnt tensor is saved.
    fn saved_name(&self, tensor: &str) -> String {
        match &self.targets {
            None => tensor.to_owned(),
            Some(targets) => {
                let (module, what) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
                let module = self.module(module);
                let inside = if targets.has(&module, false) { ".base_layer" } else { "" };
                format!("{WRAPPED}{module}{inside}.{what}")
            }
        }
    }

    fn learn(&mut self, tensor: &str, shape: &[usize], values: Vec<f32>) -> Result<std::ops::Range<usize>> {
        let (module, what) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
        let module = self.module(module);
        let known = match &mut self.adapter {
            Some(adapter) => adapter.take(&module, what, shape)?,
            None => None,
        };
        let name = self.saved_name(tensor);
        self.parameters.add(name, shape, known.unwrap_or(values))
    }

    pub fn vector(&mut self, at: &Weights, name: &str, size: usize) -> Result<Vector> {
        let tensor = at.path(name);
        let values = self.reader.vector(at, name, &[size])?;
        self.values += size as u64;
        if self.learns(&tensor) {
            return self.learn(&tensor, &[size], values).map(Vector::Learnt);
        }
        *self.frozen.entry("fp32").or_default() += 4 * size as u64;
        Ok(Vector::Frozen(values))
    }

    /// A matrix, learnt or frozen. `shape` is the file's, with the number of rows first.
    fn weight(&mut self, at: &Weights, shape: &[usize], linear: bool) -> Result<Weight> {
        let tensor = at.path("weight");
        let columns: usize = shape[1..].iter().product();
        self.values += (shape[0] * columns) as u64;
        if self.learns(&tensor) {
            let values = self.reader.learnt(at, shape)?;
            return self.learn(&tensor, shape, values).map(Weight::Learnt);
        }
        let stored = self.reader.matrix(at, shape, linear)?;
        *self.frozen.entry(stored.name()).or_default() += stored.bytes();
        Ok(Weight::Frozen(stored))
    }

    fn linear(&mut self, at: &Weights, inputs: usize, outputs: usize, bias: bool, is_head: bool) -> Result<Linear> {
        let weight = self.weight(at, &[outputs, inputs], !is_head)?;
        let bias = bias.then(|| self.vector(at, "bias", outputs)).transpose()?;
        let mut factors = self.added_to(&at.path(""))?;
        factors.extend(self.factors(at, inputs, outputs, is_head)?);
        Ok(Linear {
            weight,
            bias,
            factors,
            inputs,
            outputs,
        })
    }

    /// What LoRAs that stay as they are add to a layer.
    fn added_to(&mut self, layer: &str) -> Result<Vec<Factors>> {
        let added = self.added.remove(checkpoint::plain_name(layer)).unwrap_or_default();
        let mut frozen = |tensor: &candle_core::Tensor| -> nn::Result<Weight> {
            let (rows, columns) = tensor.dims2()?;
            let stored = Stored::new(Form::F32(tensor.flatten_all()?.to_vec1()?), rows, columns);
            *self.frozen.entry(stored.name()).or_default() += stored.bytes();
            Ok(Weight::Frozen(stored))
        };
        let factors = added.iter().map(|factors| {
            Ok(Factors {
                a: frozen(&factors.a)?,
                b: frozen(&factors.b)?,
                rank: factors.a.dim(0)?,
                scale: factors.scale as f32,
                dropout: 0.0,
                number: 0,
            })
        });
        factors.collect::<nn::Result<_>>().map_err(failed)
    }

    /// The learnt factors of a layer, if it is a target.
    fn factors(&mut self, at: &Weights, inputs: usize, outputs: usize, is_head: bool) -> Result<Option<Factors>> {
        let module = self.module(&at.path(""));
        if let Some(last) = module.rsplit('.').next() {
            self.linear.insert(last.to_owned());
        }
        let Some(targets) = self.targets.as_ref().filter(|targets| targets.has(&module, is_head)) else {
            return Ok(None);
        };
        let (rank, scale) = (targets.rank(&module), targets.scale(&module));
        let (a_shape, b_shape) = ([rank, inputs], [outputs, rank]);
        let (a, b) = match &mut self.adapter {
            Some(adapter) => {
                let mut need = |factor: &str, shape: &[usize]| {
                    let missing = || {
                        let message =
                            format!("the LoRA has no `lora_{factor}` for `{module}`, though its settings name it");
                        Error::new(Code::DATA, message)
                    };
                    adapter.take(&module, factor, shape)?.ok_or_else(missing)
                };
                (need("A.weight", &a_shape)?, need("B.weight", &b_shape)?)
            }
            None => self.drawn(&module, a_shape, b_shape)?,
        };
        let name = |factor: &str| format!("{WRAPPED}{module}.lora_{factor}.weight");
        let a = self.parameters.add(name("A"), &a_shape, a)?;
        let b = self.parameters.add(name("B"), &b_shape, b)?;
        if let Some(last) = self.parameters.learnt.last_mut() {
            last.ratio *= self.settings.optim.loraplus_lr_ratio;
        }
        self.hit.push(module);
        Ok(Some(Factors {
            a: Weight::Learnt(a),
            b: Weight::Learnt(b),
            rank,
            scale: scale as f32,
            dropout: self.settings.lora.lora_dropout as f32,
            number: self.hit.len() as u64,
        }))
    }

    /// The initial factors.
    fn drawn(&self, module: &str, a: [usize; 2], b: [usize; 2]) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut stream = Stream::of(self.settings.seed, module);
        let mut uniform = |[rows, columns]: [usize; 2]| -> Vec<f32> {
            let bound = 1.0 / (columns as f64).sqrt();
            (0..rows * columns)
                .map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32)
                .collect()
        };
        match &self.settings.lora.init_lora_weights {
            Value::Bool(true) | Value::Null => Ok((uniform(a), vec![0.0; b[0] * b[1]])),
            Value::Bool(false) => Ok((uniform(a), uniform(b))),
            Value::String(name) if name.eq_ignore_ascii_case("true") => Ok((uniform(a), vec![0.0; b[0] * b[1]])),
            Value::String(name) if name.eq_ignore_ascii_case("false") => Ok((uniform(a), uniform(b))),
            Value::String(name) if name == "gaussian" => {
                let deviation = 1.0 / a[0] as f64;
                let normal = (0..a[0] * a[1]).map(|_| (stream.normal() * deviation) as f32);
                Ok((normal.collect(), vec![0.0; b[0] * b[1]]))
            }
            other => Err(Error::new(
                Code::SETTINGS,
                format!("setting `init_lora_weights` is {other}, expected true, false or gaussian"),
            )),
        }
    }

    /// Refuses an adapter with tensors that fit no layer.
    fn finish(&self) -> Result<()> {
        if let Some(name) = self.adapter.as_ref().and_then(Adapter::left) {
            let message = format!("tensor `{name}` of the LoRA fits no layer of this model");
            return Err(Error::new(Code::DATA, message).help("it may be a LoRA for another model"));
        }
        if let Some(targets) = self.targets.as_ref().filter(|_| self.adapter.is_none()) {
            let without = targets.without_a_layer(&self.hit);
            if !without.is_empty() {
                let without = without.join("`, `");
                let there: Vec<&str> = self.linear.iter().map(String::as_str).collect();
                let message = format!("no layer of this model fits `{without}` in `lora_target_modules`");
                let help = format!("its linear layers are `{}`", there.join("`, `"));
                return Err(Error::new(Code::SETTINGS, message).help(help));
            }
        }
        self.check_names()?;
        if self.parameters.learnt.is_empty() {
            let what = "all parameters are frozen, so nothing can be trained";
            return Err(Error::new(Code::SETTINGS, what));
        }
        Ok(())
    }

    /// Refuses names of parameters and modules that the model does not have: what they are for would not happen.
    fn check_names(&self) -> Result<()> {
        let tensors = &self.tensors;
        let there = |part: &&String| !tensors.iter().any(|tensor| tensor.contains(part.as_str()));
        let of = |setting: &'static str, names: &[String]| -> Vec<(&'static str, String)> {
            names.iter().filter(there).map(|name| (setting, name.clone())).collect()
        };
        let mut strange = of("freeze", self.settings.freeze.as_deref().unwrap_or_default());
        strange.extend(of("unfreeze", &self.settings.unfreeze));
        if let Some(targets) = self.targets.as_ref().filter(|_| self.adapter.is_none()) {
            let module =
                |tensor: &String| module_name(tensor.rsplit_once('.').map_or(tensor.as_str(), |(module, _)| module));
            let mut modules: Vec<String> = tensors.iter().map(module).collect();
            // A head that is the table of tokens has no tensor of its own.
            modules.push("lm_head".to_owned());
            let whole = targets.whole_without(&modules).into_iter();
            strange.extend(whole.map(|name| ("modules_to_save", name)));
        }
        let Some((setting, name)) = strange.first() else {
            return Ok(());
        };
        let message = format!("`{setting}` names `{name}`, which is in no parameter that this model can learn");
        let some: Vec<&str> = tensors
            .iter()
            .take(2)
            .chain(tensors.last())
            .map(String::as_str)
            .collect();
        Err(Error::new(Code::SETTINGS, message).help(format!("those are called `{}` and the like", some.join("`, `"))))
    }

    fn rms_norm(&mut self, at: &Weights, size: usize, from_one: bool, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: self.vector(at, "weight", size)?,
            from_one,
            eps: eps as f32,
        })
    }

    fn layer_norm(&mut self, at: &Weights, size: usize) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: self.vector(at, "weight", size)?,
            bias: self.vector(at, "bias", size)?,
            eps: EPS as f32,
        })
    }

    /// The whole model.
    pub fn net(&mut self, blueprint: &Blueprint) -> Result<Net> {
        let (hidden, eps) = (blueprint.hidden, blueprint.eps);
        let model = &blueprint.model;
        let added = blueprint.added.iter();
        self.added = added
            .map(|(layer, factors)| (checkpoint::plain_name(layer).to_owned(), factors.clone()))
            .collect();
        let (tower, ears) = match &blueprint.audio {
            None => (None, None),
            Some(Hearing::Tower(audio)) => (Some(self.tower(audio)?), None),
            Some(Hearing::Fixed(ears)) => (None, Some(ears.clone())),
        };
        // All that is learnt so far: the tower's.
        self.parameters.learnt.iter_mut().for_each(|learnt| learnt.hears = true);
        let table = model.at("embed_tokens");
        let embed = self.weight(&table, &[blueprint.vocabulary, hidden], false)?;
        if let (Weight::Learnt(_), Some(last)) = (&embed, self.parameters.learnt.last_mut()) {
            last.wide_states = true;
        }
        let mut ropes: Vec<Rope> = Vec::new();
        let mut layers = Vec::with_capacity(blueprint.layers.len());
        for (number, attention) in blueprint.layers.iter().enumerate() {
            let known = ropes.iter().position(|rope| rope.is(&attention.rope));
            let rope = known.unwrap_or_else(|| {
                ropes.push(attention.rope.clone());
                ropes.len() - 1
            });
            layers.push(self.layer(blueprint, &model.at("layers").at(number), attention, rope)?);
        }
        let norm = self.rms_norm(&model.at("norm"), hidden, blueprint.norms_from_one, eps)?;
        let head = match &blueprint.head {
            Some(head) => Head::Own(self.linear(head, hidden, blueprint.vocabulary, false, true)?),
            None => self.tied_head(blueprint, &embed)?,
        };
        if let Some(layer) = self.added.keys().next() {
            let message = format!("a LoRA of this model changes `{layer}`, which is not known in training");
            return Err(Error::unsupported(message));
        }
        self.finish()?;
        for (pattern, ratio) in &self.settings.optim.lr_ratios {
            let pattern = fancy_regex::Regex::new(pattern).map_err(|why| {
                Error::new(Code::SETTINGS, format!("`lr_ratios` has `{pattern}`")).cause(why.to_string())
            })?;
            for learnt in &mut self.parameters.learnt {
                if pattern.is_match(&learnt.parameter.name).unwrap_or(false) {
                    learnt.ratio *= ratio;
                }
            }
        }
        Ok(Net {
            embed,
            embed_scale: blueprint.embed_scale as f32,
            logit_scale: blueprint.logit_scale as f32,
            layers,
            norm,
            head,
            loss: Loss {
                softcap: blueprint.softcap.map(|cap| cap as f32),
                smoothing: self.settings.label_smoothing_factor as f32,
            },
            ropes,
            tower,
            ears,
            vocabulary: blueprint.vocabulary,
            hidden,
            context: blueprint.context,
        })
    }

    /// A tied head, unless it or the table is learnt beside a LoRA: as in PEFT, that learns a copy, and the other of both
    /// keeps the original.
    fn tied_head(&mut self, blueprint: &Blueprint, embed: &Weight) -> Result<Head> {
        let table = blueprint.model.at("embed_tokens");
        let shape = [blueprint.vocabulary, blueprint.hidden];
        let is_whole = |module: &str| self.targets.as_ref().is_some_and(|targets| targets.is_whole(module));
        let weight = match (is_whole("lm_head"), is_whole(&self.module(&table.path("")))) {
            (true, _) => {
                let values = self.reader.learnt(&table, &shape)?;
                Weight::Learnt(self.learn("lm_head.weight", &shape, values)?)
            }
            (false, true) => {
                let stored = self.reader.matrix(&table, &shape, false)?;
                *self.frozen.entry(stored.name()).or_default() += stored.bytes();
                Weight::Frozen(stored)
            }
            (false, false) => embed.clone(),
        };
        Ok(Head::Own(Linear {
            weight,
            bias: None,
            factors: self.added_to("lm_head")?,
            inputs: blueprint.hidden,
            outputs: blueprint.vocabulary,
        }))
    }

    fn layer(&mut self, of: &Blueprint, at: &Weights, attention: &nn::Attention, rope: usize) -> Result<Layer> {
        let (hidden, heads, inner) = (of.hidden, of.heads, of.inner);
        let [qkv, o, mlp] = of.biases;
        let own = at.at("self_attn");
        let (queries, keys) = (heads.queries * heads.size, heads.keys * heads.size);
        let norm = |loader: &mut Self, at: Weights, size| loader.rms_norm(&at, size, of.norms_from_one, of.eps);
        let named =
            |loader: &mut Self, name: Option<&str>| name.map(|name| norm(loader, at.at(name), hidden)).transpose();
        let of_heads = |loader: &mut Self, name, count| {
            let size = of.head_norms.size(count, heads.size);
            size.map(|size| norm(loader, own.at(name), size)).transpose()
        };
        let [fused_qkv, fused_mlp] = of.fused;
        let [q_proj, k_proj, v_proj] = match fused_qkv {
            true => self
                .linear(&own.at("qkv_proj"), hidden, queries + 2 * keys, qkv, false)?
                .parts([queries, keys, keys]),
            false => [
                self.linear(&own.at("q_proj"), hidden, queries, qkv, false)?,
                self.linear(&own.at("k_proj"), hidden, keys, qkv, false)?,
                self.linear(&own.at("v_proj"), hidden, keys, qkv, false)?,
            ],
        };
        let o_proj = self.linear(&own.at("o_proj"), queries, hidden, o, false)?;
        let q_norm = of_heads(self, "q_norm", heads.queries)?;
        let k_norm = of_heads(self, "k_norm", heads.keys)?;
        let [gate_proj, up_proj] = match fused_mlp {
            true => self
                .linear(&at.at("mlp.gate_up_proj"), hidden, 2 * inner, mlp, false)?
                .parts([inner; 2]),
            false => [
                self.linear(&at.at("mlp.gate_proj"), hidden, inner, mlp, false)?,
                self.linear(&at.at("mlp.up_proj"), hidden, inner, mlp, false)?,
            ],
        };
        Ok(Layer {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            gate_proj,
            up_proj,
            down_proj: self.linear(&at.at("mlp.down_proj"), inner, hidden, mlp, false)?,
            before_attention: named(self, of.norms.before_attention)?,
            behind_attention: named(self, of.norms.behind_attention)?,
            before_mlp: named(self, of.norms.before_mlp)?,
            behind_mlp: named(self, of.norms.behind_mlp)?,
            residual_scale: of.residual_scale as f32,
            activation: of.activation,
            rule: Rule {
                scale: attention.scale as f32,
                window: attention.window,
                softcap: attention.softcap.map(|cap| cap as f32),
                ahead: false,
                group: heads.queries / heads.keys,
                size: heads.size,
            },
            rope,
        })
    }

    fn tower(&mut self, of: &AudioBlueprint) -> Result<Tower> {
        let (config, at) = (&of.encoder, &of.tower);
        let width = config.width;
        let conv1 = self.convolution(&at.at("conv1"), config.bins, width)?;
        let conv2 = self.convolution(&at.at("conv2"), width, width)?;
        let positions = match config.stored_positions {
            true => {
                let shape = [config.positions, width];
                self.reader.vector(&at.at("embed_positions"), "weight", &shape)?
            }
            false => sinusoid_values(config.positions, width),
        };
        let mut layers = Vec::with_capacity(config.layers);
        for number in 0..config.layers {
            let at = at.at("layers").at(number);
            let own = at.at("self_attn");
            layers.push(tower::Layer {
                k_proj: self.linear(&own.at("k_proj"), width, width, false, false)?,
                v_proj: self.linear(&own.at("v_proj"), width, width, true, false)?,
                q_proj: self.linear(&own.at("q_proj"), width, width, true, false)?,
                out_proj: self.linear(&own.at("out_proj"), width, width, true, false)?,
                attention_norm: self.layer_norm(&at.at("self_attn_layer_norm"), width)?,
                fc1: self.linear(&at.at("fc1"), width, config.inner, true, false)?,
                fc2: self.linear(&at.at("fc2"), config.inner, width, true, false)?,
                mlp_norm: self.layer_norm(&at.at("final_layer_norm"), width)?,
                heads: config.heads,
            });
        }
        let projector = of.projector.iter();
        Ok(Tower {
            mel: MelExtractor::new(config.bins),
            conv1,
            conv2,
            positions,
            layers,
            norm: self.layer_norm(&of.norm, width)?,
            projector: projector
                .map(|layer| self.linear(&layer.at, layer.inputs, layer.outputs, layer.bias, false))
                .collect::<Result<_>>()?,
            between: of.activation,
            window: of.window,
            longest: of.longest,
            block: of.block,
        })
    }

    /// A convolution over three frames, as a product of rows (channels, 3): its weight in files has this order.
    fn convolution(&mut self, at: &Weights, inputs: usize, outputs: usize) -> Result<Linear> {
        Ok(Linear {
            weight: self.weight(at, &[outputs, inputs, 3], false)?,
            bias: Some(self.vector(at, "bias", outputs)?),
            factors: Vec::new(),
            inputs: inputs * 3,
            outputs,
        })
    }
}
