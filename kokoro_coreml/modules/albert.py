"""ALBERT without the library's mask code.

Source: Lan et al. 2019 (arXiv 1909.11942) as `transformers.AlbertModel` computes it in inference;
attribute names are the library's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.config import AlbertConfig
from kokoro_coreml.errors import CheckpointError

MASKED_SCORE = -1e4
"""Added to scores of padded keys; exp of it is 0 in float32 and it fits half precision."""


class _Embeddings(nn.Module):
    def __init__(self, config: AlbertConfig, n_token: int) -> None:
        super().__init__()
        size = config.embedding_size
        self.word_embeddings = nn.Embedding(n_token, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        tokens = input_ids.shape[1]
        place = self.position_embeddings.weight[:tokens] + self.token_type_embeddings.weight[0]
        result: Tensor = self.LayerNorm(self.word_embeddings(input_ids) + place.unsqueeze(0))
        return result


class _Attention(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.dense = nn.Linear(size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, size = x.shape
        return x.view(batch, tokens, self.heads, size // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (self._split(f(x)) for f in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        context = torch.softmax(scores, dim=-1) @ value
        result: Tensor = self.LayerNorm(x + self.dense(context.transpose(1, 2).reshape(x.shape)))
        return result


class _Layer(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.ffn = nn.Linear(config.hidden_size, config.intermediate_size)
        self.ffn_output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.full_layer_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention(x, bias)
        hidden = F.gelu(self.ffn(x), approximate="tanh")
        result: Tensor = self.full_layer_layer_norm(self.ffn_output(hidden) + x)
        return result


class _LayerGroup(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.albert_layers = nn.ModuleList(_Layer(config) for _ in range(config.inner_group_num))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        for layer in self.albert_layers:
            x = layer(x, bias)
        return x


class _Transformer(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.layers = config.num_hidden_layers
        self.embedding_hidden_mapping_in = nn.Linear(config.embedding_size, config.hidden_size)
        self.albert_layer_groups = nn.ModuleList(
            _LayerGroup(config) for _ in range(config.num_hidden_groups)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.embedding_hidden_mapping_in(x)
        groups = len(self.albert_layer_groups)
        for layer in range(self.layers):
            x = self.albert_layer_groups[layer * groups // self.layers](x, bias)
        return x


def require_known_activation(config: AlbertConfig) -> None:
    """Refuse a network whose activation is not the one computed here; `CheckpointError`."""
    if config.hidden_act != "gelu_new":
        raise CheckpointError(
            f"plbert.hidden_act is {config.hidden_act!r}; only 'gelu_new' is known"
        )


class Albert(nn.Module):
    """Rewrite of `kokoro.modules.CustomAlbert`."""

    def __init__(self, config: AlbertConfig, n_token: int) -> None:
        super().__init__()
        require_known_activation(config)
        self.embeddings = _Embeddings(config, n_token)
        self.encoder = _Transformer(config)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Encode tokens.

        Args:
            input_ids: int32 or int64 [1, T].
            mask: float32 [1, T], 1 where valid.

        Returns:
            [1, T, hidden_size]; what stands in the padding has no meaning.
        """
        bias = (1.0 - mask).view(1, 1, 1, -1) * MASKED_SCORE
        result: Tensor = self.encoder(self.embeddings(input_ids), bias)
        return result
