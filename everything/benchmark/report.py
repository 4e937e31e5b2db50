"""The result of a benchmark: all samples, and the figures computed from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from everything.benchmark.flops import Work
from everything.benchmark.interleaved_runs import Sample
from everything.benchmark.mask_agreement import Agreement
from everything.benchmark.memory import Peak
from everything.benchmark.types import OWN_PROGRAM, Key
from everything.core.stage_timer import STAGES
from everything.errors import InputError, reason_of

SHOWN = (*(stage for stage in STAGES if stage != "write"), "other")
FUNNEL = ("prompts", "candidates", "promising", "stable", "masks")
COUNTED = ("decoder_calls", *FUNNEL)


@dataclass(frozen=True)
class Spread:
    """Median and the 10th and 90th percentile, linearly interpolated."""

    median: float
    p10: float
    p90: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        p10, median, p90 = np.quantile(list(values), [0.1, 0.5, 0.9])
        return Spread(float(median), float(p10), float(p90))


@dataclass(frozen=True)
class Row:
    """Figures of one case over all images and rounds.

    Args:
        key: The case.
        failure: "", or why it dropped out; then all else is empty.
        samples: Number of samples.
        latency: Seconds from pixels to masks; its p90 is MLPerf's single-stream figure.
        throughput: Images/s, one at a time, as in MLPerf's offline scenario.
        seconds: Medians by stage.
        counts: Means per image.
    """

    key: Key
    failure: str
    samples: int
    latency: Spread | None = None
    throughput: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """Another program's or mode's time and memory, divided by this program's default.

    Args:
        key: The case that is compared.
        image: Time of a whole image, over pairs of the same image and round.
        after_encoder: Time without the image encoder.
        per_prompt: Time of the decoder per prompt.
        memory: Peak memory.
        working: Peak memory above that of the loaded model.
        agreement: How far the masks agree.
    """

    key: Key
    image: Spread
    after_encoder: Spread | None
    per_prompt: Spread | None
    memory: float | None
    working: float | None
    agreement: Agreement | None


@dataclass(frozen=True)
class Report:
    """Everything that a benchmark measured.

    Args:
        machine: What it was measured on.
        settings: How it was measured.
        samples: All samples, in order of time.
        memory: Peak memory by case.
        work: Floating-point operations by case.
        agreement: How far the masks of other programs and modes agree with the default's.
        notes: What readers must know besides.
        recall: COCO's AR@1000 by case, where there is ground truth.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    samples: list[Sample]
    memory: dict[Key, Peak] = field(default_factory=dict)
    work: dict[Key, Work] = field(default_factory=dict)
    agreement: dict[Key, Agreement] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    recall: dict[Key, float] = field(default_factory=dict)

    def cases(self) -> list[Key]:
        """Return the cases: by variant, sampler and program, in the order they were named."""
        keys = {sample.key: None for sample in self.samples}
        rank = {name: i for i, name in enumerate(self.settings["order"])}
        return sorted(keys, key=lambda key: [rank[name] for name in key])

    def rows(self) -> list[Row]:
        """Return one row for each case."""
        return [_row(key, self._of(key)) for key in self.cases()]

    def ratios(self) -> list[Ratio]:
        """Return one for each case of another program or mode whose default was measured, too."""
        rows = {row.key: row for row in self.rows() if not row.failure}
        pairs = [(key, key._replace(by=OWN_PROGRAM)) for key in rows if key.by != OWN_PROGRAM]
        return [self._ratio(theirs, ours) for theirs, ours in pairs if ours in rows]

    def _of(self, key: Key) -> list[Sample]:
        return [sample for sample in self.samples if sample.key == key]

    def _ratio(self, theirs: Key, ours: Key) -> Ratio:
        place = {(s.photo, s.round): s for s in self._of(ours)}
        pairs = [(s, place[s.photo, s.round]) for s in self._of(theirs)]
        memory = [self.memory.get(key, Peak()) for key in (theirs, ours)]
        peaks, working = [m.peak for m in memory], [m.peak - m.ready for m in memory]
        return Ratio(
            theirs,
            Spread.of(t.latency / o.latency for t, o in pairs),
            _spread((_after_encoder(t), _after_encoder(o)) for t, o in pairs),
            _spread((_per_prompt(t), _per_prompt(o)) for t, o in pairs),
            peaks[0] / peaks[1] if all(peaks) else None,
            working[0] / working[1] if all(working) else None,
            self.agreement.get(theirs),
        )

    def to_json(self) -> str:
        """Return everything as JSON, rows and ratios included."""
        content = {
            "machine": self.machine,
            "settings": self.settings,
            "notes": self.notes,
            "rows": [asdict(row) | _memory_of(self, row.key) for row in self.rows()],
            "ratios": [asdict(ratio) for ratio in self.ratios()],
            "samples": [asdict(sample) for sample in self.samples],
            "memory": [_keyed(key, asdict(peak)) for key, peak in self.memory.items()],
            "work": [_keyed(key, asdict(work)) for key, work in self.work.items()],
            "agreement": [_keyed(k, asdict(v)) for k, v in self.agreement.items()],
            "recall": [_keyed(key, {"ar_1000": value}) for key, value in self.recall.items()],
        }
        return json.dumps(_named(content), indent=1)

    @staticmethod
    def from_json(text: str) -> Report:
        """Return the report that `to_json` wrote.

        Raises:
            InputError: If the text is something else.
        """
        try:
            content = json.loads(text)
            return Report(
                machine=content["machine"],
                settings=content["settings"],
                samples=[Sample(**(s | {"key": _key(s["key"])})) for s in content["samples"]],
                memory={_key(m.pop("key")): Peak(**m) for m in content["memory"]},
                work={_key(w.pop("key")): Work(**w) for w in content["work"]},
                agreement={_key(a.pop("key")): Agreement(**a) for a in content["agreement"]},
                notes=content["notes"],
                recall={_key(r["key"]): r["ar_1000"] for r in content.get("recall", [])},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"not a benchmark report ({reason_of(error)}): name a bench.json"
            ) from error

    def to_csv(self) -> str:
        """Return one line per sample, with a column for each stage (s) and each count."""
        text = io.StringIO()
        columns = [*Key._fields, "photo", "round", "failure", "latency", *SHOWN, *COUNTED]
        writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
        writer.writeheader()
        for s in self.samples:
            where = {"photo": s.photo, "round": s.round, "failure": s.failure}
            times = {"latency": s.latency, **{k: v for k, v in s.seconds.items() if k in SHOWN}}
            counts = {name: n for name, n in s.counts.items() if name in COUNTED}
            writer.writerow(s.key._asdict() | where | ({} if s.failure else times) | counts)
        return text.getvalue()


def _row(key: Key, samples: Sequence[Sample]) -> Row:
    failures = [sample.failure for sample in samples if sample.failure]
    if failures:
        return Row(key, failures[0], len(samples))
    latencies = [sample.latency for sample in samples]
    stages = dict.fromkeys(stage for sample in samples for stage in sample.seconds)
    counts = dict.fromkeys(name for sample in samples for name in sample.counts)
    return Row(
        key=key,
        failure="",
        samples=len(samples),
        latency=Spread.of(latencies),
        throughput=len(latencies) / sum(latencies),
        seconds={s: float(np.median([x.seconds.get(s, 0.0) for x in samples])) for s in stages},
        counts={c: float(np.mean([x.counts.get(c, 0) for x in samples])) for c in counts},
    )


def _after_encoder(sample: Sample) -> float:
    return sample.latency - sample.seconds.get("encode", 0.0)


def _per_prompt(sample: Sample) -> float:
    return sample.seconds.get("decode", 0.0) / max(1, sample.counts.get("prompts", 0))


def _spread(pairs: Iterable[tuple[float, float]]) -> Spread | None:
    """Return the spread of the quotients, or None if a side is 0: it has no such stage."""
    both = list(pairs)
    if not all(a > 0 and b > 0 for a, b in both):
        return None
    return Spread.of(a / b for a, b in both)


def _memory_of(report: Report, key: Key) -> dict[str, Any]:
    peak = report.memory.get(key)
    return {} if peak is None else {"memory": asdict(peak)}


def _keyed(key: Key, content: dict[str, Any]) -> dict[str, Any]:
    return {"key": key} | content


def _key(fields: dict[str, str]) -> Key:
    return Key(**fields)


def _named(content: Any) -> Any:
    """JSON has no named tuples: keys become mappings."""
    if isinstance(content, Key):
        return content._asdict()
    if isinstance(content, dict):
        return {name: _named(value) for name, value in content.items()}
    return [_named(value) for value in content] if isinstance(content, list) else content
