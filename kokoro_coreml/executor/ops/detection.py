"""Detection of objects. Source: MIL operation documentation, iOS 15 and 17, `tensor_operation`, and
the reference that coremltools' runtime test of `non_maximum_suppression` compares a Mac with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.gather import IOS17
from kokoro_coreml.executor.ops.registry import Opset, op


@op("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    opset: Opset,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> tuple[Tensor, ...]:
    """Boxes in the order of their best score, without those that overlap one chosen before.

    Up to iOS 16: boxes [n, B, 4] (centre x, y, width, height) and scores [n, B, K] give both for
    `max_boxes` boxes, their indices [n, max_boxes], and how many were chosen [n]. From iOS 17 the
    last two axes are swapped, the last result and `score_threshold` are gone. What is not chosen is
    0, its index -1. If no score reaches the threshold, the box of the best one is chosen.
    """
    swapped = opset >= IOS17
    if swapped != (score_threshold is None):
        raise ValueError("score_threshold is needed up to iOS 16, and does not exist from iOS 17")
    if swapped:
        boxes, scores = boxes.transpose(1, 2), scores.transpose(1, 2)
    rows = []
    for item_boxes, item_scores in zip(boxes, scores, strict=True):
        best, classes = item_scores.max(1)
        groups = classes if per_class_suppression else torch.zeros_like(classes)
        overlaps = (_overlap(item_boxes) > iou_threshold) & (groups == groups.unsqueeze(1))
        rows.append(_choose(best, overlaps, score_threshold, max_boxes))
    indices = torch.stack(rows)
    chosen = indices.clamp(min=0).unsqueeze(2)
    found = [
        torch.where(indices.unsqueeze(2) < 0, 0.0, t.gather(1, chosen.expand(-1, -1, t.shape[2])))
        for t in (boxes, scores)
    ]
    counts = (indices >= 0).sum(1).to(torch.int32)
    if swapped:
        return (*(t.transpose(1, 2) for t in found), indices.to(torch.int32))
    return (*found, indices.to(torch.int32), counts)


def _overlap(boxes: Tensor) -> Tensor:
    """Intersection over union of all pairs of [B, 4] boxes; 0 where neither has an area."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    low, high = centre - size / 2, centre + size / 2
    shared = torch.minimum(high.unsqueeze(1), high) - torch.maximum(low.unsqueeze(1), low)
    intersection = shared.clamp(min=0).prod(2)
    area = size.prod(1)
    union = area.unsqueeze(1) + area - intersection
    return torch.where(union > 0, intersection / union, torch.zeros(()))


def _choose(best: Tensor, overlaps: Tensor, threshold: float | None, count: int) -> Tensor:
    """Indices [count] of the boxes chosen, then -1."""
    free = torch.ones_like(best, dtype=torch.bool) if threshold is None else best >= threshold
    if not free.any():
        free[best.argmax()] = True
    chosen: list[int] = []
    for index in best.argsort(descending=True, stable=True).tolist():
        if len(chosen) == count:
            break
        if free[index]:
            chosen.append(index)
            free &= ~overlaps[index]
    return torch.tensor(chosen + [-1] * (count - len(chosen)), dtype=torch.int64)
