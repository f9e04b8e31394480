"""Typed job data: made by whoever is there, refused for good with the path of the wrong member."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec
import pydantic
import pytest

from sandbox import typed
from sandbox.alarm import SoftLimit
from sandbox.attempt import Attempts
from sandbox.errors import LoadError
from sandbox.job import Job
from sandbox.policy import Policy
from sandbox.processors import Processor
from sandbox.typed import WrongData, with_reader
from sandbox.wire import Kind


@dataclass
class Size:
    width: int
    height: int = 64


@dataclass
class Resize:
    path: str
    sizes: list[Size]
    how: Literal["fit", "crop"] = "fit"
    quality: float | None = None
    more: dict[str, int] = field(default_factory=dict)
    below: Resize | None = None

    def __post_init__(self) -> None:
        if self.path.startswith("/"):
            raise ValueError("the path must be relative")


def annotated(job: Job[Resize]) -> list[Any]:
    return [type(job.data).__name__, [size.width for size in job.data.sizes], job.data.how]


def named(job):
    return job.data.width * job.data.height


def plain(job: Job[dict[str, int]]) -> Any:
    return job.data


def reader(function: Any = None, data_type: Any = None) -> Any:
    made = with_reader(
        Processor(
            queue="q", name=None, function=function or (lambda job: None), target="m:f", data_type=data_type
        )
    )
    return made.read_data


@pytest.fixture(params=["alone", "msgspec"])
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Dataclasses are validated by msgspec when it was imported, and else by us."""
    hidden = {"alone": ["msgspec", "pydantic"], "msgspec": ["pydantic"]}[request.param]
    present = {name: module for name, module in typed.sys.modules.items() if name not in hidden}
    monkeypatch.setattr(typed, "sys", type("sys", (), {"modules": present}))
    return request.param


def test_data_become_the_dataclass_of_the_annotation(beside):
    read = reader(annotated)
    made = read({"path": "a.jpg", "sizes": [{"width": 1}], "quality": 3, "below": {"path": "b", "sizes": []}})
    assert made.sizes == [Size(1, 64)]
    assert isinstance(made.below, Resize)
    assert (made.how, made.quality, made.more) == ("fit", 3, {})
    assert read({"path": "a", "sizes": [], "unknown": 1}).path == "a"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"sizes": []}, r"\$"),
        ({"path": 1, "sizes": []}, r"\$\.path"),
        ({"path": "a", "sizes": [{"width": 1}, {"width": "2"}]}, r"\$\.sizes\[1\]\.width"),
        ({"path": "a", "sizes": [{"width": True}]}, r"\$\.sizes\[0\]\.width"),
        ({"path": "a", "sizes": {}}, r"\$\.sizes"),
        ({"path": "a", "sizes": [], "how": "stretch"}, r"\$\.how"),
        ({"path": "a", "sizes": [], "quality": "high"}, r"\$\.quality"),
        ({"path": "a", "sizes": [], "more": {"x": None}}, r"\$\.more"),
        ({"path": "a", "sizes": [], "below": {"path": "b", "sizes": 3}}, r"\$\.below\.sizes"),
        ({"path": "/a", "sizes": []}, r"\$.*the path must be relative"),
        ([], r"\$"),
        (None, r"\$"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(beside, data, path):
    with pytest.raises(WrongData, match=f"^{path}"):
        reader(annotated)(data)


def test_the_sentence_says_what_was_expected_and_what_was_there(monkeypatch):
    monkeypatch.setattr(typed, "sys", type("sys", (), {"modules": {}}))
    with pytest.raises(WrongData) as told:
        reader(annotated)({"path": "a", "sizes": [{"width": "2"}]})
    assert str(told.value) == "$.sizes[0].width: expected a whole number, got text"
    with pytest.raises(WrongData, match=r"^\$\.path: it is missing$"):
        reader(annotated)({"sizes": []})


class Struct(msgspec.Struct):
    n: int


def test_a_struct_is_made_by_msgspec():
    assert reader(data_type=Struct)({"n": 1}) == Struct(1)
    with pytest.raises(WrongData, match=r"^\$\.n: Expected `int`, got `str`$"):
        reader(data_type=Struct)({"n": "1"})


def test_a_model_is_made_by_pydantic():
    class Model(pydantic.BaseModel):
        n: int
        inside: tuple[int, ...] = ()

    assert reader(data_type=Model)({"n": 1}).n == 1
    with pytest.raises(WrongData, match=r"^\$\.inside\[0\]: Input should be"):
        reader(data_type=Model)({"n": 1, "inside": ["x"]})


def test_other_annotations_are_for_type_checkers_alone():
    assert reader(plain) is None
    assert reader(lambda job: None) is None
    assert reader(Size) is None


@dataclass
class WithDate:
    when: datetime


class Elsewhere:
    pass


def absent(job: Job[NotThere]) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def test_a_type_that_cannot_be_kept_stops_the_start(monkeypatch):
    with pytest.raises(LoadError, match="m:f: data=Elsewhere is no type for job data"):
        reader(data_type=Elsewhere)
    with pytest.raises(LoadError, match=r"name 'NotThere' is not defined.*TYPE_CHECKING"):
        reader(absent)
    monkeypatch.setattr(typed, "sys", type("sys", (), {"modules": {}}))
    with pytest.raises(LoadError, match=r"WithDate\.when is of type datetime.*import msgspec or pydantic"):
        reader(data_type=WithDate)


class Silent:
    """A channel that nothing is sent over."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


def attempt(name: str, data: Any) -> tuple[Kind, Any]:
    functions = (annotated, None), (named, Size)
    ours = [
        with_reader(Processor(queue="typed", name=each.__name__, function=each, target="m:f", data_type=kind))
        for each, kind in functions
    ]
    meta = {"id": "1", "name": name, "queue": "typed"}
    raw = json.dumps(data).encode()
    kind, body, _ = Attempts(ours, Policy(), SoftLimit()).run(meta, raw, Silent())
    return kind, json.loads(body)


def test_a_processor_gets_its_type_and_a_bad_payload_fails_for_good():
    assert attempt("annotated", {"path": "a", "sizes": [{"width": 3}]}) == (
        Kind.COMPLETED,
        ["Resize", [3], "fit"],
    )
    assert attempt("named", {"width": 2, "height": 4}) == (Kind.COMPLETED, 8)
    kind, failure = attempt("named", {"width": "2"})
    assert (kind, failure["kind"]) == (Kind.FAILED, "bad_data")
    assert failure["reason"].startswith("the data of the job are no Size: $.width: ")
