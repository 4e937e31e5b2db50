from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from everything.benchmark.flops import Work
from everything.benchmark.interleaved_runs import OOM, Sample
from everything.benchmark.mask_agreement import Agreement
from everything.benchmark.memory import Peak
from everything.benchmark.output.report_files import save
from everything.benchmark.output.report_tables import markdown, print_to
from everything.benchmark.report import Report, Spread
from everything.benchmark.types import Key
from everything.errors import InputError

OWN_PROGRAM, THEIRS = Key("sam-vit-b", "grid-32"), Key("sam-vit-b", "grid-32", "segment-anything")
BOXES, MORE = Key("mobilesam", "boxes-10"), Key("mobilesam", "boxes-50")
HUNGRY = Key("mobilesam", "grid-32")
MACHINE = {
    "cpu": "a CPU", "cores": 2, "threads": 1, "memory_bytes": 2**34, "gpu": None, "system": "Linux",
    "python": "3.11", "versions": {"torch": "2"}, "environment": {"OMP_NUM_THREADS": "1"},
    "load": 0.5, "load_after": 0.6, "flops_per_second": 1e10,
}  # fmt: skip
SETTINGS = {
    "photos": [{"name": "a.png", "width": 4, "height": 3}],
    "repeats": 5,
    "warmup": 1,
    "order": ["sam-vit-b", "mobilesam", "grid-32", "boxes-10", "boxes-50", "everything",
              "segment-anything"],
}  # fmt: skip
RANDOM = np.random.default_rng(0)
TIMES = RANDOM.uniform(1, 2, (5, 2, 3))  # round, ours and theirs, read encode decode


def sample(key: Key, round_: int, times: np.ndarray) -> Sample:
    seconds = dict(zip(("read", "encode", "decode"), times.tolist(), strict=True))
    return Sample(key, "a.png", round_, seconds, {"prompts": 10, "masks": round_})


@pytest.fixture
def report() -> Report:
    samples = [
        sample(key, round_, TIMES[round_, who])
        for round_ in range(5)
        for who, key in enumerate((THEIRS, OWN_PROGRAM))
    ]
    samples += [sample(BOXES, 0, TIMES[0, 0]), sample(MORE, 0, TIMES[1, 0])]
    samples += [Sample(HUNGRY, "a.png", 0, failure=OOM)]
    return Report(
        MACHINE,
        SETTINGS,
        samples,
        {OWN_PROGRAM: Peak(2**20, 2**21), THEIRS: Peak(2**20, 2**23), HUNGRY: Peak(failure=OOM)},
        {OWN_PROGRAM: Work(2 * 10**9, {"decode": 10**9, "encode": 10**9})},
        {THEIRS: Agreement(0.75, 0.9)},
        ["a note"],
    )


def test_quantiles_are_numpys(report: Report):
    row = next(row for row in report.rows() if row.key == OWN_PROGRAM)
    latencies = TIMES[:, 1, 1:].sum(1)
    assert row.latency is not None
    assert row.latency.median == pytest.approx(np.median(latencies))
    assert row.latency.p10 == pytest.approx(np.quantile(latencies, 0.1))
    assert row.latency.p90 == pytest.approx(np.quantile(latencies, 0.9))
    assert row.throughput == pytest.approx(1 / latencies.mean())
    assert row.seconds["read"] == pytest.approx(np.median(TIMES[:, 1, 0]))
    assert row.counts == {"prompts": 10, "masks": 2}
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)


def test_ratios_are_of_pairs(report: Report):
    (ratio,) = report.ratios()
    theirs, ours = TIMES[:, 0], TIMES[:, 1]
    assert ratio.key == THEIRS
    assert ratio.image.median == pytest.approx(np.median(theirs[:, 1:].sum(1) / ours[:, 1:].sum(1)))
    assert ratio.after_encoder is not None
    assert ratio.after_encoder.p90 == pytest.approx(np.quantile(theirs[:, 2] / ours[:, 2], 0.9))
    # Equally many prompts, and nothing but decoding.
    assert ratio.per_prompt is not None
    assert ratio.per_prompt.p10 == pytest.approx(ratio.after_encoder.p10)
    assert ratio.memory == 4
    assert ratio.working == 7
    assert ratio.agreement == Agreement(0.75, 0.9)


def test_contenders_come_in_the_order_they_were_named(report: Report):
    assert [row.key for row in report.rows()] == [OWN_PROGRAM, THEIRS, HUNGRY, BOXES, MORE]


def test_json_comes_back_the_same(report: Report):
    assert Report.from_json(report.to_json()) == report
    content = json.loads(report.to_json())
    assert content["rows"][0]["key"] == OWN_PROGRAM._asdict()
    assert content["ratios"][0]["memory"] == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1}'])
def test_other_json_is_refused(text: str):
    with pytest.raises(InputError, match=r"bench\.json"):
        Report.from_json(text)


def test_csv_has_a_line_for_each_sample(report: Report):
    lines = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(lines) == len(report.samples)
    assert float(lines[0]["decode"]) == TIMES[0, 0, 2]
    assert lines[0]["by"] == "segment-anything"
    assert lines[-1]["failure"] == OOM
    assert lines[-1]["latency"] == ""


def test_markdown_is_in_the_shape_of_the_surveys_table_4(report: Report):
    lines = markdown(report).splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| model"))
    assert lines[header] == "| model | grid-32 | boxes-10 | boxes-50 |"
    median, p10, p90 = (1000 * np.quantile(TIMES[:, 1, 1:].sum(1), q) for q in (0.5, 0.1, 0.9))
    assert lines[header + 2] == f"| sam-vit-b | {median:.0f} ({p10:.0f}, {p90:.0f}) | - | - |"
    assert lines[header + 4].startswith("| mobilesam | OOM | ")
    cells = {line.count("|") for line in lines[header : header + 5]}
    assert cells == {5}
    assert "- a note" in lines


def test_survival_and_the_decoders_time_a_prompt_are_beside_each_other(report: Report):
    counts = {"prompts": 10, "candidates": 30, "promising": 12, "stable": 6, "masks": 3}
    one = Sample(OWN_PROGRAM, "a.png", 0, {"encode": 1.0, "decode": 0.25}, counts)
    text = markdown(Report(MACHINE, SETTINGS, [one]))
    assert "| sam-vit-b, grid-32 | 10 | 30 | 12 (40%) | 6 (20%) | 3 | 25.0 |" in text
    assert "| sam-vit-b | 1250 |" in text  # a single sample has no spread


def test_the_floor_is_beside_what_was_measured(report: Report):
    measured = 100 * np.median(TIMES[:, 1, 2])  # ms a prompt; 100 MFLOP of each take 10
    cells = f"| 100 | 10.00 | {measured:.2f} | {measured / 10:.2f} |"
    assert f"| sam-vit-b, grid-32 | 2.0 | 200 {cells}" in markdown(report)


def test_a_report_of_nothing_but_failures_can_be_shown(report: Report):
    alone = Report(MACHINE, SETTINGS, [Sample(HUNGRY, "a.png", 0, failure=OOM)])
    assert "| mobilesam | OOM |" in markdown(alone)
    assert alone.ratios() == []


def test_the_terminal_shows_every_contender(report: Report):
    console = Console(width=250, file=io.StringIO())
    print_to(console, report)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "sam-vit-b, grid-32, segment-anything" in text
    assert "75.0%" in text
    assert "a CPU, 2 usable cores, 1 threads, 16 GiB, on CPU" in text


def test_files_and_plots_are_saved(report: Report, tmp_path: Path):
    save(report, tmp_path / "new" / "folder")
    saved = tmp_path / "new" / "folder"
    assert {p.name for p in saved.iterdir()} == {
        "bench.json", "bench.csv", "bench.md", "stages.png", "prompts.png",
        ".everything.jsonl",
    }  # fmt: skip
    assert Report.from_json((saved / "bench.json").read_text()) == report
    for name in ("stages.png", "prompts.png"):
        pixels = np.asarray(Image.open(saved / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_recall_is_a_table_a_plot_and_comes_back(report: Report, tmp_path: Path):
    from dataclasses import replace

    assert "AR@1000" not in markdown(report)
    marked = replace(report, recall={OWN_PROGRAM: 0.5, THEIRS: 0.25})
    assert "| sam-vit-b, grid-32 |" in markdown(marked).split("Latency, ms, and recall")[1]
    assert Report.from_json(marked.to_json()).recall == marked.recall
    save(marked, tmp_path)
    with Image.open(tmp_path / "recall.png") as plot:
        assert plot.size[0] > 1000
    save(report, tmp_path / "without")
    assert not (tmp_path / "without" / "recall.png").exists()
