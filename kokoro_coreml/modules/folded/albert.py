"""ALBERT and `bert_encoder` in the layout (1, channels, 1, tokens).

Source of the layout and of attention by channels: Apple, "Deploying Transformers on the Apple
Neural Engine" (2022). Attribute names are those of `modules.albert`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.config import AlbertConfig
from kokoro_coreml.modules.albert import MASKED_SCORE, require_known_activation
from kokoro_coreml.modules.folded.norm import ChannelNorm


def _dense(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1)


class _Table(nn.Module):
    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, size))


class _Embeddings(nn.Module):
    def __init__(self, config: AlbertConfig, n_token: int) -> None:
        super().__init__()
        size = config.embedding_size
        self.n_token = n_token
        self.word_embeddings = _Table(n_token, size)
        self.position_embeddings = _Table(config.max_position_embeddings, size)
        self.token_type_embeddings = _Table(config.type_vocab_size, size)
        self.LayerNorm = ChannelNorm(size, config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up by a product with 1 in the row of the id and 0 elsewhere, without a gather."""
        tokens = input_ids.shape[3]
        known = torch.arange(self.n_token, dtype=torch.float32).view(1, -1, 1, 1)
        one_hot = F.relu(1.0 - torch.abs(input_ids - known))
        words = F.conv2d(one_hot, self.word_embeddings.weight.t()[:, :, None, None])
        place = self.position_embeddings.weight[:tokens] + self.token_type_embeddings.weight[0]
        result: Tensor = self.LayerNorm(words + place.t().view(1, -1, 1, tokens))
        return result


class _Attention(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.query, self.key, self.value = (_dense(size, size) for _ in range(3))
        self.dense = _dense(size, size)
        self.LayerNorm = ChannelNorm(size, config.layer_norm_eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        shape = (1, self.heads, -1, x.shape[3])
        query, key, value = (f(x).view(shape) for f in (self.query, self.key, self.value))
        # scaled in front of the product, which half precision then holds
        scores = (query / math.sqrt(query.shape[2])).transpose(2, 3) @ key + bias
        context = value @ torch.softmax(scores, dim=-1).transpose(2, 3)
        result: Tensor = self.LayerNorm(x + self.dense(context.reshape(x.shape)))
        return result


class _Layer(nn.Module):
    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.ffn = _dense(config.hidden_size, config.intermediate_size)
        self.ffn_output = _dense(config.intermediate_size, config.hidden_size)
        self.full_layer_layer_norm = ChannelNorm(config.hidden_size, config.layer_norm_eps)

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
        self.embedding_hidden_mapping_in = _dense(config.embedding_size, config.hidden_size)
        self.albert_layer_groups = nn.ModuleList(
            _LayerGroup(config) for _ in range(config.num_hidden_groups)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.embedding_hidden_mapping_in(x)
        groups = len(self.albert_layer_groups)
        for layer in range(self.layers):
            x = self.albert_layer_groups[layer * groups // self.layers](x, bias)
        return x


class AlbertByChannels(nn.Module):
    """`kokoro.modules.CustomAlbert`, computing what `modules.albert.Albert` computes."""

    def __init__(self, config: AlbertConfig, n_token: int) -> None:
        super().__init__()
        require_known_activation(config)
        self.embeddings = _Embeddings(config, n_token)
        self.encoder = _Transformer(config)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Encode tokens.

        Args:
            input_ids: whole numbers in floating point, [1, 1, 1, T].
            mask: [1, 1, 1, T], 1 where valid.

        Returns:
            [1, hidden_size, 1, T]; what stands in the padding has no meaning.
        """
        bias = (1.0 - mask) * MASKED_SCORE
        result: Tensor = self.encoder(self.embeddings(input_ids), bias)
        return result
