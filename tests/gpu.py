"""All that needs a real GPU, in under four minutes: `python -m tests.gpu`.

Correctness first, then figures, one JSON line each, so that what a time limit cuts off is the last:

1. every family's candidates against the CPU's; every sampler's masks with `nano`;
2. the fused kernels against PyTorch's operations, on the card;
3. kernel launches (by the profiler), waits, peak memory and milliseconds of an image;
4. the image encoder as CUDA graphs, against itself;
5. the same image by segment_anything's SamAutomaticMaskGenerator, in turns.

`--smoke` runs the same on the pretended GPU of tests/pretended.py, small, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--smoke", action="store_true", help="on the pretended GPU, with little work")
parser.add_argument("--seconds", type=float, default=220, help="begin nothing after this")
STARTED = time.monotonic()


def report(**what: Any) -> None:
    """Print one line of results."""
    print(json.dumps(what, default=str), flush=True)


def attempt(name: str, step: Callable[[], Any], seconds: float) -> None:
    """Run a step; its failure is reported, and the others go on."""
    if time.monotonic() - STARTED > seconds:
        report(step=name, left_out="out of time")
        return
    start = time.monotonic()
    try:
        found = step()
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"[:500]}
    report(step=name, seconds=round(time.monotonic() - start, 2), **(found or {}))


@contextmanager
def device(smoke: bool) -> Iterator[Any]:
    """Give the pretended GPU, switched on, or None for the real one."""
    if not smoke:
        yield None
        return
    from tests.pretended import switched_on

    with switched_on() as gpu:
        yield gpu


def family(name: str, smoke: bool) -> dict[str, Any]:
    """Compare a family's candidates on both devices, with each implementation of the passes."""
    from everything.config import Compute
    from tests.pipeline.test_on_device import CLICKS, answers
    from tests.variants.test_contract import build

    cpu = Compute(device="cpu", precision="fp32", kernels="torch")
    with torch.inference_mode():
        expected, masks = answers(build(name, compute=cpu), CLICKS, True)
        found: dict[str, Any] = {}
        for kernels in ("torch",) if smoke else ("torch", "auto"):
            with device(smoke):
                compute = Compute(device="cuda:0", precision="fp32", kernels=kernels)
                candidates, drawn = answers(build(name, compute=compute), CLICKS, True)
                drawn = drawn.cpu()
            found[f"logits_{kernels}"] = float((drawn - masks).abs().max() / masks.abs().max())
            difference = (candidates.scores - expected.scores).abs().max()
            found[f"scores_{kernels}"] = float(difference)
    return found


def sampler(name: str, smoke: bool) -> dict[str, Any]:
    """Compare a sampler's masks on both devices: how many have a counterpart at IoU .999."""
    from everything.core import rle
    from everything.pipeline.pipeline import segment
    from everything.recipes.build import load
    from tests.photos import photo

    pixels = photo("chelsea", 96 if smoke else 451)
    settings: dict[str, Any] = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.8}
    if smoke:
        settings |= {"kernels": "torch"}
        settings |= {"points_per_side": 4} if name in ("grid-32", "hierarchical") else {}
    with torch.inference_mode():
        here = segment(pixels, load("nano", name, device="cpu", precision="fp32", **settings))
        with device(smoke):
            there = segment(
                pixels, load("nano", name, device="cuda:0", precision="fp32", **settings)
            )
    best = rle.iou(there.rles, here.rles).amax(1) if len(here) and len(there) else torch.zeros(0)
    return {"cpu": len(here), "gpu": len(there), "same": int((best >= 0.999).sum())}


def measuring() -> dict[str, Any]:
    """Compare the kernel that measures masks with PyTorch's operations, on the card."""
    from everything.core.geometry import padded_frame
    from everything.core.mask_ops import Cuts
    from everything.pipeline.device_masks import DeviceMasks, Place

    size = (480, 640)
    frame, place = padded_frame(size, 1024), Place((0, 0), size)
    logits = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.interpolate(logits * 4, (256, 256), mode="bicubic")[:, 0].cuda()
    cuts = Cuts.of(1.0, 0.3)
    plain, fused = (DeviceMasks.of(logits, frame, cuts, place, 2**30, by) for by in (False, True))
    return {
        "pixels": int((plain.areas - fused.areas).abs().sum()),
        "boxes": float((plain.boxes - fused.boxes).abs().max()),
        "stability": float((plain.stability - fused.stability).abs().max()),
        "of_pixels": int(plain.areas.sum()),
    }


def figures(variant: str, side: int, smoke: bool) -> dict[str, Any]:
    """Measure one image: launches, peak memory, the median of five runs."""
    from everything.pipeline.pipeline import segment
    from everything.recipes.build import load
    from tests.photos import photo

    pixels = photo("chelsea", 96 if smoke else 451)
    settings: dict[str, Any] = {"points_per_side": 2 if smoke else side, "pred_iou_thresh": 0.5}
    settings |= {"kernels": "torch"} if smoke else {}
    found: dict[str, Any] = {}
    with device(smoke) as gpu:
        pipeline = load(variant, "grid", device="cuda:0", **settings)
        segment(pixels, pipeline)
        if gpu is not None:
            gpu.launches.clear()
            with gpu.counting() as waits:
                masks = len(segment(pixels, pipeline))
            return {"launches": gpu.launches.total(), "waits": waits.total(), "masks": masks}
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            found["masks"] = len(segment(pixels, pipeline))
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
        found |= {"ms": round(float(np.median(times)), 1)}
        found["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        found |= profiled(lambda: segment(pixels, pipeline))
    return found


def graphs(variant: str, smoke: bool) -> dict[str, Any]:
    """Compare an image encoder as CUDA graphs with the same without, and time both."""
    from everything.core.geometry import whole
    from everything.recipes.build import load
    from tests.photos import photo

    if smoke:
        return {"left_out": "a pretended GPU has no graphs"}
    view, found, embeddings = whole(photo("chelsea", 451)), dict[str, Any](), []
    for on in (False, True):
        model = load(variant, device="cuda:0", cuda_graphs=on).model
        with torch.inference_mode():
            first = model.features(model.encode(view)).clone()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(10):
                again = model.encode(view)
            torch.cuda.synchronize()
            found[f"ms_{'graph' if on else 'plain'}"] = 100 * (time.perf_counter() - start)
            embeddings += [first, model.features(again)]
            found |= profiled(lambda model=model: model.encode(view)) if on else {}
    found["differ"] = max(float((e - embeddings[0]).abs().max()) for e in embeddings)
    return found


def profiled(run: Callable[[], Any]) -> dict[str, Any]:
    """Count launches, and waits, of a run by the profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    events = profiler.key_averages()
    busy = sum(event.self_device_time_total for event in events) / 1000
    return {
        "launches": sum(event.count for event in events if "LaunchKernel" in event.key),
        "waits": sum(e.count for e in events if "Synchronize" in e.key) - 1,
        "busy_ms": round(busy, 1),
    }


def against_amg(smoke: bool) -> dict[str, Any]:
    """Time the same SAM by segment_anything and by this program, in turns.

    The small network of tests/blob_sam.py: its survival is like SAM's, its encoder is not.
    """
    from segment_anything import SamAutomaticMaskGenerator

    from everything.config import Compute
    from everything.pipeline.pipeline import Pipeline, segment
    from everything.recipes.resolve import resolve
    from everything.samplers.grid import Grid
    from everything.variants.networks.sam import SamModel
    from tests.blob_sam import blob_sam
    from tests.photos import photo

    if smoke:
        return {"left_out": "segment_anything waits on a pretended GPU in ways of its own"}
    pixels = photo("chelsea", 451)
    sets = ["filters.pred_iou_thresh=0.5", "filters.stability_score_thresh=0.5"]
    recipe = resolve("sam-vit-b", sampler="grid", sets=[*sets, "sampler.points_per_side=32"])
    model = SamModel(blob_sam(), Compute(device="cuda:0"))
    ours = Pipeline(model, Grid(points_per_side=32), recipe)
    amg = SamAutomaticMaskGenerator(
        blob_sam().to("cuda:0"), 32, 64, 0.5, 0.5, output_mode="coco_rle"
    )
    times: dict[str, list[float]] = {"ours": [], "amg": []}
    for _ in range(3):
        for name, run in (
            ("ours", lambda: segment(pixels, ours)),
            ("amg", lambda: amg.generate(pixels)),
        ):
            start = time.perf_counter()
            masks = len(run())
            torch.cuda.synchronize()
            times[name].append(1000 * (time.perf_counter() - start))
    ms = {name: round(float(np.median(each)), 1) for name, each in times.items()}
    return ms | {"ratio": round(ms["amg"] / ms["ours"], 2), "masks": masks}


def main() -> None:
    """Run all steps."""
    options = parser.parse_args()
    smoke: bool = options.smoke
    if not smoke:
        os.environ.pop("TRITON_INTERPRET", None)
        report(device=torch.cuda.get_device_name(0), torch=torch.__version__)
    from tests.pipeline.test_on_device import FAMILIES

    for name in FAMILIES[:1] if smoke else FAMILIES:
        attempt(f"family {name}", lambda name=name: family(name, smoke), options.seconds)
    names = ["grid-32", "hierarchical", "object-aware", "auto-ppn", "all-instance"]
    for name in names[:3] if smoke else names:
        attempt(f"sampler {name}", lambda name=name: sampler(name, smoke), options.seconds)
    if not smoke:
        attempt("measuring", measuring, options.seconds)
    for side in (32,) if smoke else (32, 64):
        attempt(
            f"nano grid-{side}", lambda side=side: figures("nano", side, smoke), options.seconds
        )
    attempt("CUDA graphs", lambda: graphs("nano", smoke), options.seconds)
    attempt("segment_anything", lambda: against_amg(smoke), options.seconds)


if __name__ == "__main__":
    main()
