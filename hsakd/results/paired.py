"""Tables of runs from several starts over the same seeds."""

import re
from collections.abc import Sequence

from .tables import mean_std

#: Metrics in percent by start and seed.
Measured = dict[str, dict[int, dict[str, float]]]


def metric_keys(measured: Measured) -> list[str]:
    """Metrics in the order of the tests, without VOC's AP50 where that is mAP, rounded.

    It is where 0.5 is the only threshold.
    """
    results = [metrics for by_seed in measured.values() for metrics in by_seed.values()]
    keys = dict.fromkeys(key for metrics in results for key in metrics)

    def is_rounded(key: str) -> bool:
        mean = re.sub(r'/AP\d+$', '/mAP', key)
        return mean != key and all(
            key in m and mean in m and abs(m[key] - m[mean]) < 0.0501 for m in results
        )

    return [key for key in keys if not is_rounded(key)]


def paired_tables(
    measured: Measured, seeds: Sequence[int], reference: str
) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the figures, and of the differences to the reference seed by seed; headers first.

    Means come with the sample standard deviation over seeds.
    """
    keys = metric_keys(measured)
    rows, differences = [['initialization', 'seeds', *keys]], [['initialization', 'pairs', *keys]]
    for name, by_seed in measured.items():
        count = f'{len(by_seed)} of {len(seeds)}' if len(by_seed) < len(seeds) else f'{len(seeds)}'
        values = ([m[key] for m in by_seed.values() if key in m] for key in keys)
        rows.append([name, count, *(mean_std(v) or '–' for v in values)])
        pairs = [(m, measured[reference].get(seed, {})) for seed, m in by_seed.items()]
        paired = [[m[key] - r[key] for m, r in pairs if key in m and key in r] for key in keys]
        if name != reference:
            count = str(max(map(len, paired), default=0))
            differences.append([name, count, *(mean_std(v, '+.2f') or '–' for v in paired)])
    return rows, differences


def lacking(measured: Measured, seeds: Sequence[int]) -> str:
    """Which seeds are still to do; empty if none are."""
    parts = [
        f'{name} lacks seed{"s" if len(left) > 1 else ""} {", ".join(left)}'
        for name, by_seed in measured.items()
        if (left := [str(seed) for seed in seeds if seed not in by_seed])
    ]
    return f'A partial comparison: {"; ".join(parts)}.' if parts else ''
