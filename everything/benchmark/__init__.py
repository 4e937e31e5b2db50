"""Speed, measured so that it can be believed: `bench` times variants, samplers and peers.

    report = bench(photos, variants=["ucm"], samplers=["grid-16", "grid-32"], repeats=5)
    print(report.markdown())

`run` puts the parts together: `contenders` are what is compared, `peers` the other programs,
`contest` takes turns and measures, `memory` and `flops` look at each contender alone, `report`
holds what came out, `tables` and `plots` show it, `random_weights` stands in for weights that
are not there. docs/bench.md says what is measured and how.
"""

from everything.benchmark.report import Report
from everything.benchmark.run import bench

__all__ = ["Report", "bench"]
