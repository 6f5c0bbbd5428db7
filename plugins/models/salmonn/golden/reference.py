"""The parts of SALMONN that no library holds: Kaldi filter banks, BEATs, the window-level Q-Former.

Written from the published computation, with the published parameter names, so that the official
checkpoints load as they are.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


def kaldi_fbank(wave: torch.Tensor, bins: int = 128, rate: int = 16_000) -> torch.Tensor:
    """Log mel energies as Kaldi defines them: 25 ms frames every 10 ms, whole frames only.

    wave: samples scaled to the int16 range, one axis, float32 or float64; the result keeps its type.
    """
    size, shift, padded = rate * 25 // 1000, rate // 100, 512
    frames = wave.unfold(0, size, shift)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = frames - 0.97 * before
    povey = torch.hann_window(size, periodic=False, dtype=wave.dtype).pow(0.85)
    power = torch.fft.rfft(frames * povey, n=padded).abs().square()[:, : padded // 2]  # no Nyquist bin

    def mel(hertz):
        return 1127.0 * torch.log1p(torch.as_tensor(hertz, dtype=torch.float32) / 700.0)

    low, high = 1127.0 * math.log(1 + 20.0 / 700.0), 1127.0 * math.log(1 + rate / 2 / 700.0)
    step = (high - low) / (bins + 1)
    index = torch.arange(bins, dtype=torch.float32)[:, None]
    left, centre, right = low + index * step, low + (index + 1) * step, low + (index + 2) * step
    at = mel(torch.arange(padded // 2) * (rate / padded))[None]
    bank = torch.minimum((at - left) / (centre - left), (right - at) / (right - centre)).clamp_min(0.0)
    energy = power @ bank.to(wave.dtype).T
    return energy.clamp_min(torch.finfo(torch.float32).eps).log()


@dataclass
class BeatsConfig:
    """The fields of the "cfg" entry of a BEATs checkpoint that change the computation."""

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    deep_norm: bool = True
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    finetuned_model: bool = True
    predictor_class: int = 527

    def published(self) -> dict:
        dropouts = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.05,
                    "dropout_input": 0.0, "predictor_dropout": 0.0, "layer_wise_gradient_decay_ratio": 0.6}
        return {**asdict(self), **dropouts}


def bucket(distance: torch.Tensor, buckets: int, farthest: int) -> torch.Tensor:
    """T5's two-sided buckets: half of them exact, the rest logarithmic up to `farthest`."""
    half = buckets // 2
    exact = half // 2
    far = distance.abs()
    log = exact + (torch.log(far.float().clamp_min(1) / exact) / math.log(farthest / exact) * (half - exact)).long()
    return torch.where(far < exact, far, log.clamp_max(half - 1)) + (distance > 0).long() * half


class BeatsAttention(nn.Module):
    def __init__(self, cfg: BeatsConfig, owns_table: bool) -> None:
        super().__init__()
        width, self.heads = cfg.encoder_embed_dim, cfg.encoder_attention_heads
        self.size = width // self.heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        if owns_table:
            self.relative_attention_bias = nn.Embedding(cfg.num_buckets, self.heads)
        self.grep_linear = nn.Linear(self.size, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, steps, width = x.shape

        def split(y):
            return y.view(batch, steps, self.heads, self.size).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        # Each query decides, from its unscaled projection, how much of the shared bias it takes.
        gates = self.grep_linear(q).view(batch, self.heads, steps, 2, 4).sum(-1).sigmoid()
        take = gates[..., :1] * (gates[..., 1:] * self.grep_a - 1.0) + 2.0
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.size) + take * bias
        mixed = scores.softmax(-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, steps, width))


class BeatsLayer(nn.Module):
    def __init__(self, cfg: BeatsConfig, first: bool) -> None:
        super().__init__()
        width = cfg.encoder_embed_dim
        self.self_attn = BeatsAttention(cfg, first)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, cfg.encoder_ffn_embed_dim), nn.Linear(cfg.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.keep = (2 * cfg.encoder_layers) ** 0.25 if cfg.deep_norm else 1.0

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.self_attn_layer_norm(self.keep * x + self.self_attn(x, bias))
        return self.final_layer_norm(self.keep * x + self.fc2(F.gelu(self.fc1(x))))


class PositionConv(nn.Module):
    """A grouped convolution whose kernel is stored as direction (weight_v) and length per tap (weight_g)."""

    def __init__(self, cfg: BeatsConfig) -> None:
        super().__init__()
        width, self.groups, self.pad = cfg.encoder_embed_dim, cfg.conv_pos_groups, cfg.conv_pos // 2
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_g = nn.Parameter(torch.ones(1, 1, cfg.conv_pos))
        self.weight_v = nn.Parameter(torch.zeros(width, width // self.groups, cfg.conv_pos))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        out = F.conv1d(x, weight, self.bias, padding=self.pad, groups=self.groups)
        return out[..., : x.shape[-1]]  # an even kernel gives one step too many


class BeatsEncoder(nn.Module):
    def __init__(self, cfg: BeatsConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.pos_conv = nn.ModuleList([PositionConv(cfg)])
        self.layers = nn.ModuleList(BeatsLayer(cfg, i == 0) for i in range(cfg.encoder_layers))
        self.layer_norm = nn.LayerNorm(cfg.encoder_embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer_norm(x + F.gelu(self.pos_conv[0](x.transpose(1, 2))).transpose(1, 2))
        where = torch.arange(x.shape[1])
        table = self.layers[0].self_attn.relative_attention_bias
        bias = table(bucket(where[None] - where[:, None], self.cfg.num_buckets, self.cfg.max_distance)).permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x, bias)
        return x


class Beats(nn.Module):
    """BEATs without its classifier: waveform in, one vector for every 16 frames by 16 bins out."""

    def __init__(self, cfg: BeatsConfig) -> None:
        super().__init__()
        self.cfg = cfg
        patch = cfg.input_patch_size
        self.patch_embedding = nn.Conv2d(1, cfg.embed_dim, patch, patch, bias=cfg.conv_bias)
        self.layer_norm = nn.LayerNorm(cfg.embed_dim)
        self.post_extract_proj = nn.Linear(cfg.embed_dim, cfg.encoder_embed_dim)
        self.encoder = BeatsEncoder(cfg)
        if cfg.finetuned_model:  # stored in the checkpoint, not used by SALMONN
            self.predictor = nn.Linear(cfg.encoder_embed_dim, cfg.predictor_class)

    def fbank(self, wave: torch.Tensor) -> torch.Tensor:
        banks = torch.stack([kaldi_fbank(row * 2**15) for row in wave])
        return ((banks - 15.41663) / (2 * 6.55582)).to(torch.float32)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(self.fbank(wave)[:, None])  # time down, frequency across
        x = self.layer_norm(patches.flatten(2).transpose(1, 2))  # all frequencies of a time step together
        return self.encoder(self.post_extract_proj(x))

    def published_state(self) -> dict[str, torch.Tensor]:
        """With the shared bias table repeated for every layer, as the published file has it."""
        state = dict(self.state_dict())
        table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
        for i in range(1, self.cfg.encoder_layers):
            state[f"encoder.layers.{i}.self_attn.relative_attention_bias.weight"] = table
        return state


class QformerAttention(nn.Module):
    """BERT attention with its output block; keys and values from `source` wide vectors."""

    def __init__(self, width: int, source: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict({"query": nn.Linear(width, width), "key": nn.Linear(source, width),
                                   "value": nn.Linear(source, width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        def split(y):
            return y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)

        q, k, v = (split(self.self[n](s)) for n, s in (("query", x), ("key", source), ("value", source)))
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return self.output["LayerNorm"](x + self.output["dense"](mixed.transpose(1, 2).reshape(x.shape)))


class QformerLayer(nn.Module):
    def __init__(self, width: int, source: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.attention = QformerAttention(width, width, heads, eps)
        self.crossattention = QformerAttention(width, source, heads, eps)
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output_query = nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, eps=eps)})

    def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        x = self.crossattention(self.attention(x, x), source)
        grown = F.gelu(self.intermediate_query["dense"](x))
        return self.output_query["LayerNorm"](x + self.output_query["dense"](grown))


class Connector(nn.Module):
    """Everything between the two encoders and the language model."""

    def __init__(self, speech: int, audio: int, width: int, heads: int, inner: int, llama: int, *, layers: int = 2,
                 queries: int = 1, eps: float = 1e-12, seconds: float = 0.333333) -> None:
        super().__init__()
        self.window = round(1500 * seconds / 30.0)
        self.ln_speech, self.ln_audio = nn.LayerNorm(speech), nn.LayerNorm(audio)
        self.speech_query_tokens = nn.Parameter(torch.zeros(1, queries, width))
        bert = nn.Module()
        bert.embeddings = nn.ModuleDict({"LayerNorm": nn.LayerNorm(width, eps=eps)})
        bert.encoder = nn.Module()
        bert.encoder.layer = nn.ModuleList(
            QformerLayer(width, speech + audio, heads, inner, eps) for _ in range(layers))
        self.speech_Qformer = nn.Module()
        self.speech_Qformer.bert = bert
        self.speech_llama_proj = nn.Linear(width, llama)

    def forward(self, speech: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        speech, audio = self.ln_speech(speech), self.ln_audio(audio)
        steps = max(speech.shape[1], audio.shape[1])  # the shorter one is filled up with zeros, after its norm
        both = torch.cat([F.pad(t, (0, 0, 0, steps - t.shape[1])) for t in (speech, audio)], dim=-1)
        whole = (steps - self.window) // self.window + 1  # windows do not overlap; a broken last one is dropped
        windows = both[:, : whole * self.window].reshape(-1, self.window, both.shape[-1])
        bert = self.speech_Qformer.bert
        x = bert.embeddings["LayerNorm"](self.speech_query_tokens).expand(windows.shape[0], -1, -1)
        for layer in bert.encoder.layer:
            x = layer(x, windows)
        return self.speech_llama_proj(x).reshape(both.shape[0], -1, self.speech_llama_proj.out_features)
