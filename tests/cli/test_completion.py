"""What the shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

from everything.cli import completion

LINES = {
    "label --variant tinys": ["tinysam"],
    "bench --variants ucm,tinys": ["ucm,tinysam"],
    "bench --samplers grid-32,hier": ["grid-32,hierarchical"],
    "compare --time-on tinys": ["tinysam"],
    "settings --sampler hier": ["hierarchical"],
    "settings --config sa-": ["sa-1b"],
    "label --set nms.k": ["nms.kind="],
    "bench --set compute.kernels=f": ["compute.kernels=fused"],
    "label --set sampl": ["sampler."],
    "settings --sampler hierarchical --set sampler.points_per_s": ["sampler.points_per_side="],
}
# What bash runs for the last word of each line; all but the last one without PyTorch, which takes
# seconds to import.
CODE = """
import os, sys
from everything.cli.main import app
for line in sys.stdin.read().splitlines():
    words = len(line.split(" ")) - 1
    os.environ |= {"COMP_WORDS": line, "COMP_CWORD": str(words)}
    try:
        app(prog_name="everything")
    except SystemExit:
        print("|", "torch" in sys.modules)
"""


def test_names_are_completed() -> None:
    assert completion.variants("ucm") == ["ucm", "ucm-lite0"]
    assert completion.samplers("object-aware+grid-1") == ["object-aware+grid-16"]
    assert completion.formats("yo") == ["yolo-seg"]
    assert completion.configs("sa-") == ["sa-1b"]


def test_the_last_name_of_a_list_is_completed_with_one_that_is_not_there_yet() -> None:
    variants = completion.listed(completion.variants)
    assert variants("ucm,ucm") == ["ucm,ucm-lite0"]
    assert variants("tinys") == ["tinysam"]
    samplers = completion.listed(completion.samplers)
    assert samplers("grid-32,object-aware+grid-6") == ["grid-32,object-aware+grid-64"]


def test_the_shell_completes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input="\n".join(f"everything {line}" for line in LINES),
        env=os.environ | {"_EVERYTHING_COMPLETE": "complete_bash"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [part.split() for part in done.stdout.split("|")]
    completed = [[word for word in part if word not in ("True", "False")] for part in found]
    assert dict(zip(LINES, completed, strict=False)) == LINES
    assert done.stdout.split("|")[-2].split()[0] == "False"
