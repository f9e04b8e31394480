"""Numbers in Prometheus' text form (version 0.0.4).

Decides how a sample is written and nothing of what is measured. Names, kinds, labels and help come from the
catalogue; a sample that is not in it, or has other labels, is a `KeyError` or `ValueError`: a mistake of
ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from supervisor.observe.metric_catalogue import HISTOGRAM, METRICS
from supervisor.observe.metrics import Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """One text. Add samples in any order; each metric's stand together, in the order of the catalogue."""

    def __init__(self) -> None:
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, value: float | None, *labels: object) -> None:
        """One sample of a counter or a gauge; None is not known, and left out: it is not 0."""
        if value is not None:
            self._of(name).append(f"{name}{_labels(name, labels)} {_number(value)}\n")

    def histogram(self, name: str, values: Histogram, *labels: object) -> None:
        """A histogram without a value is left out."""
        if not any(values.counts):
            return
        assert METRICS[name].kind == HISTOGRAM
        lines, below = self._of(name), 0
        for bound, count in zip((*map(_number, values.bounds), "+Inf"), values.counts, strict=True):
            below += count
            lines.append(f"{name}_bucket{_labels(name, labels, le=bound)} {below}\n")
        own = _labels(name, labels)
        lines.append(f"{name}_sum{own} {_number(values.total)}\n{name}_count{own} {below}\n")

    def table(self, name: str, rows: Mapping[str, float | None]) -> None:
        """A metric of one label, by its values."""
        for label, value in rows.items():
            self.add(name, value, label)

    def __str__(self) -> str:
        return "".join(self._parts())

    def _parts(self) -> Iterable[str]:
        for name, metric in METRICS.items():
            if name in self._samples:
                about = metric.doc.replace("\\", r"\\")
                yield f"# HELP {name} {about}\n# TYPE {name} {metric.kind}\n"
                yield from self._samples[name]

    def _of(self, name: str) -> list[str]:
        METRICS[name]
        return self._samples.setdefault(name, [])


def _labels(name: str, values: tuple[object, ...], **more: str) -> str:
    named = [*zip(METRICS[name].labels, values, strict=True), *more.items()]
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in named) + "}" if named else ""


def _escaped(value: object) -> str:
    return str(value).translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
