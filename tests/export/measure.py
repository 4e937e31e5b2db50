"""How time and memory of exports and imports grow: `python -m tests.export.measure --out DIR`.

Each format is written by a process of its own, from results with few small masks each; a line of
JSON says what it took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from everything.export import EXPORTERS
from everything.io.results.manifest import Manifest
from everything.io.results.writer import Store
from everything.io.storage.local import Folder
from tests.labelled import disc, recipe, records, row_of

SIZE, MASKS = (60, 80), 4


def make(home: Path, photos: int) -> Path:
    """A results folder of so many photos, as `everything label` writes it; made once."""
    out = home / f"labels-{photos}"
    if out.is_dir():
        return out
    kinds = [
        records([disc(SIZE, (10 + 2 * n, 30), 4 + 2 * m) for m in range(MASKS)]) for n in range(30)
    ]
    store, ledger = Store(out, recipe()), Manifest(Folder(out))
    with store.opened():
        for number in range(photos):
            name = f"{number // 1000:04d}/{number:07d}.jpg"
            store.put(name, SIZE, kinds[number % len(kinds)], dict)
            ledger.append(row_of(store, Path("photos"), name))
        ledger.compact()
    return out


def measured(command: Sequence[str]) -> dict[str, float]:
    """What a command took: seconds, seconds of cores, the most memory that it had at once."""
    start = time.perf_counter()
    pid = subprocess.Popen(command, stdout=subprocess.DEVNULL).pid
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "seconds": time.perf_counter() - start,
        "core_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / scale,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", default="1000,10000,100000")
    parser.add_argument("--formats", default=",".join(EXPORTERS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for photos in map(int, arguments.photos.split(",")):
        labels = make(arguments.out, photos)
        for to in arguments.formats.split(","):
            out = arguments.out / f"{to}-{photos}"
            command = [sys.executable, "-m", "everything", "export", str(labels), "--to", to]
            command += ["--out", str(out), "--photos", "none", "--overwrite", "--json"]
            row = {"to": to, "photos": photos, "masks": photos * MASKS}
            print(json.dumps(row | measured(command)), flush=True)
        if (coco := arguments.out / f"coco-{photos}").is_dir():
            file = coco / "annotations" / "instances_default.json"
            back = arguments.out / f"back-{photos}"
            command = [sys.executable, "-m", "everything", "import", str(file), "--out", str(back)]
            row = {"from": "coco", "photos": photos, "bytes": file.stat().st_size}
            print(json.dumps(row | measured(command)), flush=True)


if __name__ == "__main__":
    main()
