"""`bench`: compares the speed of variants, samplers and other programs, in interleaved runs.

    report = bench(photos, variants=["ucm"], samplers=["grid-16", "grid-32"], repeats=5)
    print(report.markdown())

`run` is the entry point: `cases` are what is compared (a variant with a sampler, by this program
or by one of `reference_tools`), `interleaved_runs` times them in turns, `memory` and `flops`
measure each case alone, `report` holds the results, `output` writes tables and plots.
`random_weights` replaces weights that are not available. docs/bench.md describes the method.
"""

from everything.benchmark.report import Report
from everything.benchmark.run import bench

__all__ = ["Report", "bench"]
