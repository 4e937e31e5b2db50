"""A pretended GPU: tensors that say they are on cuda:0, keep their numbers on the processor, and
behave towards the host as a GPU's do.

Operations that mix devices are errors, as with a GPU, and whatever makes the host wait for the
device is written down. So what runs under it runs on real numbers, to be compared with those of a
processor, with no GPU at hand. It knows nothing of a GPU's own kernels, nor of time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda:0")
aten = torch.ops.aten
# What has a result whose size, or whose value in Python, only the device knows.
WAITS = {
    aten._local_scalar_dense: "item",
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten._unique2: "unique",
    aten.unique_consecutive: "unique",
    aten.unique_dim: "unique",
    aten.equal: "equal",
}
NO_KERNEL = (aten.empty, aten.empty_like, aten.new_empty, aten.empty_strided, aten.detach,
             aten.new_empty_strided, aten._unsafe_view, aten._local_scalar_dense)  # fmt: skip
# By what a processor has, or, as a GPU has them, by one kernel.
WHOLE = (aten.scaled_dot_product_attention, aten.batch_norm, aten.upsample_bilinear2d,
         aten.upsample_bicubic2d, aten.gelu)  # fmt: skip
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)


class OnGpu(Tensor):
    """A tensor on the pretended GPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=GPU,
        )
        made.numbers = numbers
        return made

    def tolist(self) -> Any:
        """Return the numbers, as torch does of its own tensors only."""
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise AssertionError(f"{func}: on the pretended GPU, which is not switched on")


class Gpu(TorchDispatchMode):
    """The pretended GPU, while it is switched on. waits: why the host waited for it, and how
    often. sent: blocking and other copies to it. launches: operations that start at least one
    kernel, by name; what only looks at memory in another way, or reserves it, is none."""

    # Only so does torch leave the driver alone when a device is named.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.dtypes: set[torch.dtype] = set()  # of all that has been computed
        self.refused = 0  # for want of memory
        self.memory: int | None = None  # elements that a tensor may have, or any number

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Give the waits of what runs inside."""
        before, found = self.waits.copy(), Counter[str]()
        yield found
        found.update(self.waits - before)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        kind = func.overloadpacket
        leaves = tree_leaves((args, kwargs))
        if kind is aten._has_compatible_shallow_copy_type:
            return False
        named = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        here = [leaf for leaf in leaves if isinstance(leaf, OnGpu)]
        if named is None and not here:
            return func(*args, **kwargs)
        if kind not in WHOLE and func._can_decompose():
            # As outside of inference_mode, where they never get here whole.
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        if kind is aten._to_copy:
            goes_to_gpu = bool(here) if named is None else named.type == "cuda"
            self._copied(bool(here), goes_to_gpu, kwargs.get("non_blocking", False))
        elif kind is aten.copy_:
            goes_to_gpu = isinstance(args[0], OnGpu)
            self._copied(isinstance(args[1], OnGpu), goes_to_gpu, bool([*args, False][2]))
        else:
            goes_to_gpu = bool(here) or named.type == "cuda"
            self._check(func, args, leaves)
        if kind in WAITS:
            self.waits[WAITS[kind]] += 1
        if not (func.is_view or kind in NO_KERNEL):
            self.launches[str(kind)] += 1
        if str(kind) == "torchvision.nms":  # loaded when it is first used
            self.waits["nms"] += 1
        if kind is aten.repeat_interleave and kwargs.get("output_size") is None:
            self.waits["repeat_interleave"] += 1
        found = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
        if not goes_to_gpu:
            return found
        self.dtypes |= {x.dtype for x in tree_leaves(found) if isinstance(x, Tensor)}
        if self.memory is not None and any(_size(x) > self.memory for x in tree_leaves(found)):
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot")
        same = {id(x.numbers): x for x in here}  # what an operation in place returns
        return tree_map(lambda x: same[id(x)] if id(x) in same else _on_gpu(x), found)

    def _copied(self, from_gpu: bool, to_gpu: bool, non_blocking: bool) -> None:
        if from_gpu and not to_gpu:
            self.waits["copy to host"] += 1
        elif to_gpu and not from_gpu:
            self.sent["non-blocking" if non_blocking else "blocking"] += 1
            if not non_blocking:
                self.waits["copy to GPU"] += 1

    def _check(self, func: Any, args: Any, leaves: list[Any]) -> None:
        executor = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnGpu)]
        if func.overloadpacket in INDEXED:
            indices = [x for x in args[1] if x is not None]
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                self.waits["boolean index"] += 1
            if any(not isinstance(x, OnGpu) for x in indices):
                self.waits["copy to GPU"] += 1
            if not isinstance(args[0], OnGpu):
                raise RuntimeError("indices should be on the CPU, as the indexed tensor is")
            executor = [x for x in executor if all(x is not index for index in indices)]
        if any(isinstance(x, OnGpu) for x in leaves) and any(x.dim() for x in executor):
            raise RuntimeError(f"{func}: Expected all tensors to be on the same device")


def _numbers(x: Any) -> Any:
    """What the processor gets in place of an argument."""
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.numbers if isinstance(x, OnGpu) else x


def _on_gpu(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    # Weights are no tensors of inference_mode; nor, then, may be what is seen of them inside it.
    with torch.inference_mode(False):
        return OnGpu(x)


def _size(x: Any) -> int:
    return x.numel() if isinstance(x, Tensor) else 0


@contextmanager
def switched_on() -> Iterator[Gpu]:
    """Give the pretended GPU, switched on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        # torch.tensor(..., device=) makes a processor's tensor and sends it, seen by this mode.
        torch._C._set_only_lift_cpu_tensors(True)
        torch._C._ensureCUDADeviceGuardSet()  # one that does nothing, where there is no driver
        # Modules get new parameters when they move: old ones cannot become another class.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with Gpu() as mode:
                yield mode
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)
            torch._C._set_only_lift_cpu_tensors(False)
