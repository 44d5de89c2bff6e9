"""A mask built block by block is the mask that counts every position out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.modules.masks import valid_prefix


@given(length=st.integers(1, 20_000), share=st.floats(0.0, 1.2))
def test_the_first_positions_are_valid_at_any_length(length: int, share: float) -> None:
    count = int(share * length)
    valid = valid_prefix(torch.full((1, 1, 1), float(count)), length)
    assert valid.mask.shape == (1, 1, length)
    assert torch.equal(valid.mask.view(-1), (torch.arange(length) < count).float())
    assert valid.total.item() == min(count, length)


def test_every_edge_of_a_block() -> None:
    for length in (2_047, 2_048, 2_049, 4_096, 4_097):
        for count in (0, 1, 2_047, 2_048, 2_049, length - 1, length):
            mask = valid_prefix(torch.full((1, 1, 1), float(count)), length).mask
            assert int(mask.sum()) == min(count, length)
            assert mask[..., :count].all()
