"""Vision transformer that hands out patch features at any grid and trains only its last blocks on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from mmwsss.models.utils.position import INTERPOLATIONS, resize_position_embedding
from mmwsss.models.utils.vit_weights import load_vit_weights
from mmwsss.ops import use_onednn_linear
from mmwsss.registry import MODELS

from .attention_tap import AttentionTap
from .conv_stem import ConvStem

ARCHITECTURES = {
    'vit-xt': dict(embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=256),  # small enough for a CPU demo
    'vit-t': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
    'vit-s': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    'vit-b': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    'vit-l': dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
}


class Encoding(NamedTuple):
    """What the network makes of images (B, 3, H, W), on a grid of h x w patches.

    Args:
        tokens: one (B, 1 + h*w, D) per entry of ``out_indices``, the class token first.
        grid: (h, w).
        attention: softmax weights (B, heads, 1 + h*w, 1 + h*w) of the layers that were asked for, in their order.
    """

    tokens: list[Tensor]
    grid: tuple[int, int]
    attention: list[Tensor]

    @property
    def features(self) -> tuple[Tensor, ...]:
        """Patch features (B, D, h, w) per entry of ``out_indices``."""
        return tuple(t[:, 1:].transpose(1, 2).unflatten(2, self.grid) for t in self.tokens)  # B N D -> B D h w


@MODELS.register_module()
class TokenViT(VisionTransformer):
    """mmpretrain's ViT, with the details that weakly supervised methods depend on.

    Differences from the parent: position embeddings are interpolated by the rule of the original framework, there is no
    dropout after them, rows and columns that fill no whole patch are dropped instead of padded (linear patches only),
    and freezing leaves dropout active inside frozen blocks (``requires_grad=False``, no ``eval()``), as in the official
    ViT-PCM.

    Args:
        arch: 'vit-xt', 'vit-t', 'vit-s', 'vit-b', 'vit-l', or a dict of mmpretrain's four sizes. mmpretrain's own
            'small' is another network and therefore not offered.
        num_trainable_blocks: how many of the last blocks train, together with the final norm; embeddings train only
            with None, which trains everything.
        drop_rate: dropout after the attention projection, after GELU and after the second MLP layer.
        pos_interp: a key of :data:`~mmwsss.models.utils.position.INTERPOLATIONS`.
        stem: 'linear' patches, 'conv' for :class:`~mmwsss.models.backbones.conv_stem.ConvStem`, or the config of
            another patch embedding such as :class:`~mmwsss.models.backbones.hybrid_stem.HybridStem`.
        norm_eval: keep the batch norms of the stem in inference mode, with the statistics they were pretrained with;
            views of other scales (mosaics) would drag them along.
        freeze_pos_embed: position embeddings do not train, whatever else does (CoSA).
        onednn_linear: let the linear layers of the blocks multiply with oneDNN on the CPU, see
            :func:`~mmwsss.ops.linear.linear`: AMD's CPUs gain, about twofold in these layers; where torch's own BLAS is
            fast there is nothing to gain. GPUs and mixed precision are untouched. Second derivatives need False.
        out_indices: blocks whose patch features are returned; the last one passes the final norm.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` reads mmpretrain, timm/DeiT (``.pth``) and original
            ViT/AugReg (``.npz``) files, local or by URL.

    Raises:
        ValueError: unknown ``arch``, ``pos_interp`` or ``stem``, more trainable blocks than there are, or an option of
            the parent that is not supported here.
    """

    def __init__(
        self,
        arch: str | dict = 'vit-b',
        img_size: int | tuple[int, int] = 384,
        patch_size: int = 16,
        num_trainable_blocks: int | None = None,
        drop_rate: float = 0.0,
        pos_interp: str = 'tf',
        stem: str | dict = 'linear',
        norm_eval: bool = False,
        freeze_pos_embed: bool = False,
        onednn_linear: bool = True,
        out_indices: int | Sequence[int] = -1,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        if isinstance(arch, str) and arch not in ARCHITECTURES:
            raise ValueError(f'unknown arch {arch!r}; choose from {", ".join(ARCHITECTURES)} or give a dict of sizes')
        if pos_interp not in INTERPOLATIONS:
            raise ValueError(f'pos_interp has to be one of {INTERPOLATIONS}, got {pos_interp!r}')
        for name, supported in (('pre_norm', False), ('with_cls_token', True)):
            if kwargs.get(name, supported) != supported:
                raise ValueError(f'TokenViT does not support {name}={kwargs[name]}; leave it out')
        kwargs['patch_cfg'] = {'padding': 0, **kwargs.get('patch_cfg', {})}
        super().__init__(
            arch=ARCHITECTURES[arch] if isinstance(arch, str) else arch,
            img_size=img_size,
            patch_size=patch_size,
            drop_rate=drop_rate,
            out_type='featmap',
            out_indices=out_indices if isinstance(out_indices, int) else list(out_indices),
            init_cfg=init_cfg,
            **kwargs,
        )
        self.patch_size = patch_size
        self.drop_rate = drop_rate
        self.drop_path_rate = kwargs.get('drop_path_rate', 0.0)
        self.pos_interp = pos_interp
        self.norm_eval = norm_eval
        self.drop_after_pos = nn.Identity()
        sizes = dict(img_size=self.img_size, patch_size=patch_size, embed_dims=self.embed_dims)
        if stem == 'conv':
            self.patch_embed = ConvStem(**sizes)
        elif isinstance(stem, dict):
            self.patch_embed = MODELS.build(stem | sizes)
        elif stem != 'linear':
            raise ValueError(f"stem has to be 'linear', 'conv' or a config, got {stem!r}")
        for layer in self.layers:
            layer.attn.scaled_dot_product_attention = AttentionTap()
        if num_trainable_blocks is not None:
            self._freeze_all_but(num_trainable_blocks)
        if freeze_pos_embed:
            self.pos_embed.requires_grad_(False)
        if onednn_linear:
            use_onednn_linear(self.layers)

    @property
    def is_deterministic(self) -> bool:
        """Whether training and inference mode give the same features: no random drop and no batch norm."""
        batch_norm = self.batch_norms and not self.norm_eval
        return self.drop_rate == 0 and self.drop_path_rate == 0 and not batch_norm

    @property
    def batch_norms(self) -> list[nn.Module]:
        """Modules that normalise over the batch; only the convolutional stem has any."""
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> TokenViT:
        """Switch to training or inference mode; batch norms stay in inference mode with ``norm_eval``."""
        super().train(mode)
        for module in self.batch_norms if self.norm_eval else ():
            module.training = False
        return self

    def encode(self, images: Tensor, attention_layers: Sequence[int] | str = (), probe: bool = False) -> Encoding:
        """Encode ``images`` (B, 3, H, W) and hand out the attention of chosen layers.

        Args:
            attention_layers: indices of the layers whose softmax weights are wanted, negative ones count from the end,
                or 'all'. Only these pay for an explicit softmax; the others use the fused product.
            probe: make these weights variables to differentiate by, also where the network is frozen.

        Raises:
            ValueError: there is no such layer.
        """
        wanted = self.layer_indices(attention_layers)
        x, grid = self.embed(images)
        outputs, attention = [], []
        for i in range(self.num_layers):
            x, weights = self.run_blocks(x, i, i + 1, wanted, probe)
            attention += weights
            if i in self.out_indices:
                outputs.append(x)
        return Encoding(outputs, grid, attention)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, 1 + h*w, D) that enter the first block, and the grid (h, w), of ``images`` (B, 3, H, W)."""
        x, grid = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        return x + resize_position_embedding(self.pos_embed, self.patch_resolution, grid, self.pos_interp), grid

    def run_blocks(
        self, x: Tensor, start: int, stop: int, attention_layers: Sequence[int] = (), probe: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens (B, 1 + N, D) after the blocks from ``start`` to before ``stop``, and the attention asked for.

        The final norm belongs to the last block. ``attention_layers`` are indices from 0.
        """
        attention = []
        for i in range(start, stop):
            tap = self.layers[i].attn.scaled_dot_product_attention
            if i not in attention_layers:
                x = self.layers[i](x)
                continue
            tap.open(probe)
            try:
                x = self.layers[i](x)
            finally:  # weights are not kept where the block fails
                weights = tap.close()
            attention.append(weights)
        if stop == self.num_layers and self.final_norm:
            x = self.ln1(x)
        return x, attention

    def layer_indices(self, layers: Sequence[int] | str) -> list[int]:
        """Ascending indices from 0 of ``layers``, which may be negative, or 'all'.

        Raises:
            ValueError: there is no such layer.
        """
        if layers == 'all':
            return list(range(self.num_layers))
        depth = self.num_layers
        if isinstance(layers, str) or any(not -depth <= i < depth for i in layers):
            raise ValueError(f"layers of a ViT of {depth} blocks are {-depth}..{depth - 1} or 'all', got {layers!r}")
        return sorted({i % depth for i in layers})

    def forward_tokens(self, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Tokens (B, 1 + h*w, D) of ``images`` (B, 3, H, W), one per entry of ``out_indices``, and the grid (h, w)."""
        encoded = self.encode(images)
        return encoded.tokens, encoded.grid

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode ``images`` (B, 3, H, W) into patch features (B, D, h, w), one per entry of ``out_indices``."""
        return self.encode(images).features

    def init_weights(self) -> None:
        """Initialise, or load the checkpoint named by ``init_cfg``; see the class for the formats."""
        if not (isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained'):
            super().init_weights()
            return
        state = load_vit_weights(self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix'))
        if not self.final_norm:
            state = {name: value for name, value in state.items() if not name.startswith('ln1.')}
        self._prepare_pos_embed(state, '')
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        missing = [name for name in shapes if name not in state]
        unexpected = [name for name in state if name not in shapes]
        uneven = [name for name, shape in shapes.items() if name in state and state[name].shape != shape]
        if missing or unexpected or uneven:
            raise RuntimeError(
                f'{self.init_cfg["checkpoint"]} does not fit this TokenViT: missing {missing[:3]} ({len(missing)}), '
                f'unexpected {unexpected[:3]} ({len(unexpected)}), of another shape {uneven[:3]} ({len(uneven)}); '
                'check arch and patch_size'
            )
        self.load_state_dict(state)
        self._is_init = True

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args, **kwargs) -> None:
        """Bring the position embeddings of a checkpoint, a square grid, to this grid; called before every loading."""
        stored = state_dict.get(f'{prefix}pos_embed')
        if stored is not None and stored.shape[1] != self.pos_embed.shape[1]:
            side = round((stored.shape[1] - 1) ** 0.5)
            state_dict[f'{prefix}pos_embed'] = resize_position_embedding(
                stored, (side, side), self.patch_resolution, self.pos_interp
            )

    def _freeze_all_but(self, num_blocks: int) -> None:
        if not 0 <= num_blocks <= self.num_layers:
            raise ValueError(f'num_trainable_blocks={num_blocks} does not fit a ViT of {self.num_layers} blocks')
        self.requires_grad_(False)
        trained = [*self.layers[self.num_layers - num_blocks :], *([self.ln1] if self.final_norm else [])]
        for module in trained:
            module.requires_grad_(True)
