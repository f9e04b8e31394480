"""The demo, with a few files in place of the standard library: through the same commands to its end."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not Path(sys.executable).with_name("oxherd").exists():
        pytest.skip("the command oxherd is not installed here; ./scripts/test installs it")
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    spec = importlib.util.spec_from_file_location("demo", SCRIPTS / "lib/demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    return module


def test_a_batch_in_runners_gives_what_a_plain_loop_gives(
    demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = sorted((SCRIPTS.parent / "sandbox").glob("*.py"))
    batch = demo.in_runners(files, tmp_path)
    loop_s, plain = demo.in_a_loop(files)
    assert demo.summary(batch, loop_s, plain) == 0
    told = capfd.readouterr().out
    assert f"{len(files)} completed" in told and "the same in both" in told


def test_a_job_that_fails_stops_the_demo_with_a_sentence(demo: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(demo.Stopped, match="oxherd run ended with exit status 1"):
        demo.in_runners([tmp_path / "not there"], tmp_path)
