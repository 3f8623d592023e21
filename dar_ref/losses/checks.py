"""Shape and scalar checks of the torch layer. They read no tensor values, so a GPU never waits for them.

They do not check that values are finite. Only the functions that take rewards do (`advantages.finite_rewards`).
"""

import torch
from torch import Tensor


def per_sequence(**named: Tensor) -> None:
    """Raise unless every named tensor is floating point and all have one shape (B,) with B >= 1.

    Raises:
        TypeError: not a tensor, or not of a floating type.
        ValueError: another number of axes, empty, or different lengths.
    """
    _aligned("(B,), one value per sequence", 1, named)


def per_token(completion_mask: Tensor, **named: Tensor) -> None:
    """Raise unless every named tensor is floating point and all have the shape (B, T) of the mask, B and T >= 1.

    Raises:
        TypeError: not a tensor, not of a floating type, or a mask that is neither boolean nor numeric 0/1 by type.
        ValueError: another number of axes, empty, or different shapes.
    """
    _aligned("(B, T), one value per token", 2, named)
    shape = next(iter(named.values())).shape
    mask_type(completion_mask)
    if completion_mask.shape != shape:
        raise ValueError(
            f"completion_mask has shape {tuple(completion_mask.shape)}, {' and '.join(named)} {tuple(shape)};"
            " pass one flag and one value per token"
        )


def mask_type(completion_mask: object) -> None:
    """Raise TypeError unless it is a tensor of booleans or real numbers."""
    if not isinstance(completion_mask, Tensor) or completion_mask.is_complex():
        raise TypeError(
            f"completion_mask is {shown_type(completion_mask)}; pass a (B, T) tensor, bool or 0/1, 1 = keep"
        )


def groups(length: int, num_generations: int) -> int:
    """Return the number of groups N when `length` = N * K completions come in groups of K = `num_generations`.

    Raises:
        TypeError: `num_generations` is not an integer.
        ValueError: K < 2 (a group of one is its own mean, T10), or K does not divide the batch.
    """
    if isinstance(num_generations, bool) or not isinstance(num_generations, int):
        raise TypeError(f"num_generations = {num_generations!r} is a {type(num_generations).__name__}; pass an int")
    if num_generations < 2:
        raise ValueError(
            f"num_generations = {num_generations}: a group needs at least 2 completions. A single one is its own mean,"
            " so every advantage would be 0; raise num_generations or subtract a baseline over the batch instead"
        )
    if length % num_generations:
        raise ValueError(
            f"num_generations = {num_generations} does not divide the batch of {length} completions; pass whole groups"
        )
    return length // num_generations


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return `tensor` in float32 if its type is narrower, else unchanged: bfloat16 sums over many tokens drift."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _aligned(layout: str, axes: int, named: dict[str, Tensor]) -> None:
    first_name, first = next(iter(named.items()))
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise TypeError(f"{name} is {shown_type(tensor)}; pass a floating-point tensor {layout}")
        if tensor.ndim != axes or tensor.numel() == 0:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; pass a non-empty tensor {layout}")
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, {first_name} {tuple(first.shape)}; pass equal shapes {layout}"
            )


def shown_type(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype}"
    if isinstance(value, list | tuple) and None in value:
        return f"a {type(value).__name__} with None at index {value.index(None)}"
    return f"a {type(value).__name__}"
