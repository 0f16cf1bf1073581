"""The network: an encoder that sees visible patches only, and a shallow decoder."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurizers.mae.config import MaeConfig
from featurizers.mae.masking import Masking, random_masking, select
from featurizers.vision import prepare_timm

prepare_timm()
from timm.models.vision_transformer import Block, ParallelScalingBlock  # noqa: E402

_Norm = partial(nn.LayerNorm, eps=1e-6)


def position_embedding(edge: int, dim: int) -> Tensor:
    """Return the fixed two-dimensional sine-cosine embedding (edge², D) of a square grid, row by row.

    Each position is [sin(h w), cos(h w), sin(v w), cos(v w)] with row h, column v and D/4 frequencies
    w_k = 10000^(-4k / D).

    Source: He et al. 2022; layout as in Kraus et al. 2024.
    """
    frequency = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(edge, dtype=torch.float64)[:, None] * frequency  # (edge, D/4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (edge, D/2)
    rows = axis[:, None].expand(edge, edge, -1)
    columns = axis[None].expand(edge, edge, -1)
    return torch.cat([rows, columns], dim=2).reshape(edge * edge, dim).to(torch.float32)


def _blocks(config: MaeConfig, dim: int, depth: int, heads: int) -> nn.ModuleList:
    kind = Block if config.blocks == "pre-norm" else ParallelScalingBlock
    return nn.ModuleList(
        kind(
            dim,
            heads,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.blocks == "pre-norm",  # the microscopy ViTs with parallel blocks have none
            qk_norm=config.qk_norm,
            init_values=config.layer_scale or None,
            norm_layer=_Norm,
        )
        for _ in range(depth)
    )


class Encoder(nn.Module):
    """Vision transformer over patch tokens and a class token, for any number of channels."""

    positions: Tensor

    def __init__(self, config: MaeConfig, channels: int) -> None:
        super().__init__()
        # A linear map of each flattened patch is the usual strided convolution, but spares hidden patches.
        self.embed = nn.Linear(channels * config.patch**2, config.dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.register_buffer(
            "positions", position_embedding(config.crop // config.patch, config.dim), persistent=False
        )
        self.blocks = _blocks(config, config.dim, config.depth, config.heads)
        self.norm = _Norm(config.dim)

    def forward(self, patches: Tensor, keep: Tensor | None = None, block: int = -1) -> Tensor:
        """Return tokens (N, 1 + K, D), the class token first.

        Parameters
        ----------
        patches
            (N, L, C, P, P), or with channel-agnostic tokens (N, C L, 1, P, P).
        keep
            (N, K) indices of the tokens to encode; None for all.
        block
            Index of the block after which to stop; the final LayerNorm is always applied.
        """
        # tokens of several channels share the positions of their patches
        positions = self.positions.repeat(patches.shape[1] // len(self.positions), 1)
        positions = positions[None].expand(len(patches), -1, -1)
        if keep is not None:
            patches, positions = select(patches, keep), select(positions, keep)
        tokens = self.embed(patches.flatten(2)) + positions  # (N, K, D)
        # the class token's position is zero
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        for layer in self.blocks[: block % len(self.blocks) + 1]:
            tokens = layer(tokens)
        return cast("Tensor", self.norm(tokens))


class Decoder(nn.Module):
    """Fill hidden places with a learned token and predict the pixels of every patch."""

    positions: Tensor

    def __init__(self, config: MaeConfig, channels: int) -> None:
        super().__init__()
        self.shape = (channels, config.patch, config.patch)
        self.project = nn.Linear(config.dim, config.decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_dim))
        self.register_buffer(
            "positions", position_embedding(config.crop // config.patch, config.decoder_dim), persistent=False
        )
        self.blocks = _blocks(config, config.decoder_dim, config.decoder_depth, config.decoder_heads)
        self.norm = _Norm(config.decoder_dim)
        self.predict = nn.Linear(config.decoder_dim, channels * config.patch**2)

    def forward(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Return predicted patches (N, L, C, P, P) from tokens (N, 1 + K, D) and the order (N, L)."""
        tokens = self.project(tokens)
        visible = tokens[:, 1:]
        hidden = self.mask_token.expand(len(tokens), restore.shape[1] - visible.shape[1], -1)
        patches = select(torch.cat([visible, hidden.to(visible.dtype)], dim=1), restore) + self.positions
        tokens = torch.cat([tokens[:, :1], patches], dim=1)
        for layer in self.blocks:
            tokens = layer(tokens)
        flat = cast("Tensor", self.predict(self.norm(tokens[:, 1:])))
        return flat.reshape(*flat.shape[:2], *self.shape)


class CrossAttention(nn.Module):
    """Tokens of one channel look at the tokens of all: x + attention(x, all), then x + MLP(x)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_all, self.norm_mlp = _Norm(dim), _Norm(dim), _Norm(dim)
        self.query, self.key_value, self.out = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor, everything: Tensor) -> Tensor:
        """Return (N, L, D) of tokens (N, L, D) and all tokens (N, M, D)."""
        query = self._heads(self.query(self.norm(tokens)))
        key, value = self.key_value(self.norm_all(everything)).chunk(2, dim=2)
        key, value = self._heads(key), self._heads(value)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(seen)
        return cast("Tensor", tokens + self.mlp(self.norm_mlp(tokens)))

    def _heads(self, rows: Tensor) -> Tensor:
        """Split (N, M, D) into heads (N, H, M, D / H)."""
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)


class ChannelDecoder(nn.Module):
    """Decode each channel apart: a learned token per channel, cross-attention, blocks of its own.

    Cross-attention and the last linear map are shared by the channels.

    Source: Kraus et al. 2024 (CA-MAE).
    """

    positions: Tensor

    def __init__(self, config: MaeConfig, channels: int) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.patch = config.patch
        self.project = nn.Linear(config.dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.channel_token = nn.Parameter(torch.zeros(channels, 1, dim))
        self.register_buffer(
            "positions", position_embedding(config.crop // config.patch, dim), persistent=False
        )
        self.attention = CrossAttention(dim, config.decoder_heads, config.mlp_ratio)
        self.stacks = nn.ModuleList(
            _blocks(config, dim, config.decoder_depth, config.decoder_heads) for _ in range(channels)
        )
        self.norm = _Norm(dim)
        self.predict = nn.Linear(dim, config.patch**2)

    def forward(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Return predicted patches (N, C L, 1, P, P) from tokens (N, 1 + K, D) and the order (N, C L)."""
        tokens = self.project(tokens)
        visible = tokens[:, 1:]
        hidden = self.mask_token.expand(len(tokens), restore.shape[1] - visible.shape[1], -1)
        filled = select(torch.cat([visible, hidden.to(visible.dtype)], dim=1), restore)
        n, _, dim = filled.shape
        channels = filled.reshape(n, len(self.stacks), -1, dim) + self.positions + self.channel_token
        everything = torch.cat([tokens[:, :1], channels.flatten(1, 2)], dim=1)
        decoded = []
        for own, stack in zip(channels.unbind(1), self.stacks, strict=True):
            rows = self.attention(own, everything)
            for layer in cast("nn.ModuleList", stack):
                rows = layer(rows)
            decoded.append(rows)
        flat = cast("Tensor", self.predict(self.norm(torch.cat(decoded, dim=1))))
        return flat.reshape(*flat.shape[:2], 1, self.patch, self.patch)


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder, initialised from one explicit generator."""

    def __init__(self, config: MaeConfig, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # torch's own initialisation must not move the global state
            agnostic = config.channel_tokens == "agnostic"
            self.encoder = Encoder(config, 1 if agnostic else channels)
            self.decoder = ChannelDecoder(config, channels) if agnostic else Decoder(config, channels)
        self.ratio = config.mask_ratio
        _initialise(self, generator)

    def forward(self, patches: Tensor, noise: Tensor) -> tuple[Tensor, Masking]:
        """Return predictions shaped as ``patches``, and the masking that ``noise`` (N, tokens) gives."""
        masking = random_masking(noise, self.ratio)
        return self.decoder(self.encoder(patches, masking.keep), masking.restore), masking


def _initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw matrices Glorot-uniform and tokens N(0, 0.02²), set biases to 0 (He et al. 2022, appendix A.1)."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in model.named_parameters():
            if name.endswith(("class_token", "mask_token", "channel_token")):
                parameter.normal_(0.0, 0.02, generator=generator)
