"""`oxherd systemd`: what is written for which machine, and that nobody's edits are lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli import main
from supervisor.cli.units import Machine, files, not_reachable, shipped
from supervisor.config.load import load

ROOT = Path(__file__).parents[2]
PAGES = ("systemd", "containers")  # their settings and files, and the drop-ins; containers are not run here
UNITS = Path("etc/systemd/system")
OF_A_USER = Path("systemd/user")
OURS = Machine(("/opt/oxherd/bin/oxherd",), 252)


def unit(machine: Machine, *, instances: bool = False) -> str:
    name = "oxherd@.service" if instances else "oxherd.service"
    return files(machine, instances=instances)[UNITS / name]


def install(root: Path, *more: str) -> int:
    return main(["systemd", "install", "--root", str(root), *more])


def test_the_program_of_this_machine_is_in_every_command_line():
    text = unit(OURS)
    assert "ExecStart=/opt/oxherd/bin/oxherd run --config /etc/oxherd/oxherd.toml\n" in text
    assert "ExecReload=/opt/oxherd/bin/oxherd ctl reload" in text
    assert "/usr/bin/oxherd" not in text


def test_a_path_that_systemd_would_read_otherwise_is_quoted():
    text = unit(Machine(("/opt/my %/python", "-P", "-m", "supervisor"), 252))
    assert 'ExecStart="/opt/my %%/python" -P -m supervisor run' in text


def test_an_instance_differs_from_the_single_service_in_its_name_alone():
    shared = unit(OURS, instances=True)
    for here, there in (
        ("/etc/oxherd/%i.", "/etc/oxherd/oxherd."),
        ("RuntimeDirectory=oxherd/%i\n", "RuntimeDirectory=oxherd\n"),
        ("=oxherd-%i\n", "=oxherd\n"),
        ("Oxherd %i,", "Oxherd,"),
    ):
        assert here in shared
        shared = shared.replace(here, there)
    settings = [line for line in shared.splitlines() if not line.startswith("#")]
    alone = [line for line in unit(OURS).splitlines() if not line.startswith("#")]
    alone.remove("RuntimeDirectoryPreserve=yes")  # else a stop would remove what is below it: the instances'
    assert settings == alone


@pytest.mark.parametrize(
    ("version", "names"),
    [
        (252, []),
        (253, ["10-notify-reload.conf"]),
        (257, ["10-delegate-subgroup.conf", "10-notify-reload.conf"]),
    ],
)
def test_what_a_newer_systemd_knows_is_a_drop_in(version: int, names: list[str]):
    made = files(Machine(OURS.program, version), instances=False)
    assert sorted(path.name for path in made if path.parent.name == "oxherd.service.d") == names


def test_a_project_below_home_can_be_read():
    text = unit(Machine(OURS.program, 252, Path("/home/me/100%")))
    assert "WorkingDirectory=/home/me/100%%\n" in text
    assert "ProtectHome=read-only\n" in text
    assert "ProtectHome=yes\n" in unit(OURS)


def test_a_directory_that_lets_nobody_in_is_named(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    way = [
        each for each in (*reversed(tmp_path.parents), tmp_path, closed) if not each.stat().st_mode & 0o001
    ]
    assert not_reachable(closed / "bin" / "oxherd") == way[0]
    assert not_reachable(Path("/usr/bin/env")) is None


def test_it_may_be_installed_again_and_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert install(tmp_path) == 0
    service = tmp_path / UNITS / "oxherd.service"
    before = service.read_text()
    assert install(tmp_path) == 0
    assert service.read_text() == before
    assert "kept " in capsys.readouterr().out
    assert main(["systemd", "uninstall", "--root", str(tmp_path)]) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_that_an_earlier_release_has_written_is_renewed(tmp_path: Path):
    install(tmp_path)
    service = tmp_path / UNITS / "oxherd.service"
    renewed = service.read_text()
    assert install(tmp_path, "--directory", "/srv") == 0
    assert service.read_text() != renewed


def test_what_somebody_has_edited_is_left_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    install(tmp_path)
    service = tmp_path / UNITS / "oxherd.service"
    service.write_text(edited := service.read_text() + "Nice=5\n")
    assert install(tmp_path) == 1
    assert service.read_text() == edited
    told = capsys.readouterr()
    assert f"edited    {service}" in told.out
    assert "systemctl edit" in told.err
    assert main(["systemd", "uninstall", "--root", str(tmp_path)]) == 1
    assert service.read_text() == edited
    assert install(tmp_path, "--force") == 0
    assert "Nice=5" not in service.read_text()
    assert service.with_name("oxherd.service.old").read_text() == edited


def test_only_shown_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert install(tmp_path, "--print") == 0
    assert "# --- /etc/systemd/system/oxherd.service\n" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Seen: `--print` said nothing, and without it another sentence: that it lets no other user in."""
    absent = tmp_path / "absent"
    for words in (["--print"], []):
        assert install(tmp_path, *words, "--directory", str(absent)) == 0, "it may come later"
        told = capsys.readouterr().err
        assert f"there is no directory {absent};" in told
        assert "lets no other user in" not in told


def test_a_name_is_that_of_an_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert install(tmp_path, "mail") == 0
    assert (tmp_path / UNITS / "oxherd@.service").exists()
    assert not (tmp_path / UNITS / "oxherd.service").exists()
    assert "systemctl enable --now oxherd@mail.service" in capsys.readouterr().out


def test_a_config_is_that_of_the_single_service(tmp_path: Path):
    config = tmp_path / "my.toml"
    config.write_text("[redis]\nurl = 'redis://127.0.0.1'\n")
    assert install(tmp_path, "--config", str(config)) == 0
    assert f"run --config {config}\n" in (tmp_path / UNITS / "oxherd.service").read_text()


@pytest.mark.parametrize(
    "arguments", [["../mail"], ["a b"], ["--directory", "a\nExecStart=x"], ["--redis", "redis://h"]]
)
def test_what_cannot_be_in_a_unit_is_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert install(tmp_path, *arguments) == 2
    assert "Nothing was" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_config_with_a_mistake_is_refused(tmp_path: Path):
    (config := tmp_path / "my.toml").write_text("[redis]\nulr = 1\n")
    assert install(tmp_path, "--config", str(config)) == 2
    assert list(tmp_path.iterdir()) == [config]


# --- units of a user's own manager ------------------------------------------------------------------------


def settings_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if "=" in line and not line.startswith("#")]


@pytest.mark.parametrize("many", [True, False])
def test_a_users_units_are_the_systems_but_for_what_his_manager_cannot_do(many: bool):
    name = "oxherd@.service" if many else "oxherd.service"
    ours = settings_of(files(Machine(OURS.program, 252, user=True), instances=many)[OF_A_USER / name])
    theirs = settings_of(unit(OURS, instances=many))
    added = [line.replace("%E/oxherd/", "/etc/oxherd/") for line in ours]
    assert [line for line in added if line not in theirs] == [
        "WorkingDirectory=%h",
        "WantedBy=default.target",
    ]
    gone = {line.partition("=")[0] for line in theirs} - {line.partition("=")[0] for line in ours}
    assert {"User", "Group", "CapabilityBoundingSet", "ProtectSystem", "PrivateTmp", "StateDirectory"} <= gone
    kept = {
        "NoNewPrivileges",
        "SystemCallFilter",
        "RestrictNamespaces",
        "Delegate",
        "WatchdogSec",
        "KillMode",
    }
    assert not kept & gone
    assert "RuntimeDirectory" not in gone, "where the control socket is"
    assert not re.search("/(etc|var)/", "\n".join(ours)), "a user has no right there"


def test_a_users_project_and_config_are_named_as_the_systems_are():
    text = files(
        Machine(OURS.program, 257, Path("/home/me/100%"), Path("/home/me/my.toml"), user=True),
        instances=False,
    )[OF_A_USER / "oxherd.service"]
    assert "WorkingDirectory=/home/me/100%%\n" in text
    assert "run --config /home/me/my.toml\n" in text
    assert "ProtectHome" not in text


def test_a_user_may_install_and_take_away_without_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("supervisor.cli.systemd.os.geteuid", lambda: 1000)
    assert main(["systemd", "install", "--user", "mail"]) == 0
    told = capsys.readouterr()
    assert f"write {tmp_path}/oxherd/mail.toml: " in told.out
    assert "systemctl --user enable --now oxherd@mail.service" in told.out
    assert "loginctl enable-linger" in told.out and "sysusers" not in told.out
    assert "XDG_RUNTIME_DIR is not set" in told.err
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in written if "/10-" not in name] == [
        "systemd/user/oxherd.slice",
        "systemd/user/oxherd@.service",
    ]
    (service := tmp_path / OF_A_USER / "oxherd@.service").write_text(service.read_text() + "Nice=5\n")
    assert main(["systemd", "install", "--user", "mail"]) == 1
    assert "systemctl --user edit" in capsys.readouterr().err
    assert main(["systemd", "install", "--user", "--force", "mail"]) == 0
    assert main(["systemd", "uninstall", "--user"]) == 0
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["oxherd@.service.old"]


def test_a_place_that_cannot_be_written_to_is_named_with_what_else_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "etc").write_text("no directory")
    assert install(tmp_path) == 2
    assert "; root can, and --user makes units of your own" in capsys.readouterr().err
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    assert main(["systemd", "install", "--user"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/etc/systemd/user/oxherd.service cannot be written: " in said
    assert "XDG_CONFIG_HOME, or HOME" in said and "root can" not in said


def test_a_users_units_have_no_root_and_root_is_told_whose_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert install(tmp_path, "--user") == 2
    assert "give one of them" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("supervisor.cli.systemd.os.geteuid", lambda: 0)
    assert main(["systemd", "install", "--user", "--print"]) == 0
    assert f"# --- {tmp_path}/systemd/user/oxherd.service\n" in capsys.readouterr().out
    assert main(["systemd", "install", "--user"]) == 0
    assert "units of root's own manager" in capsys.readouterr().err


# --- the pages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_the_configs_of_the_pages_are_without_a_mistake(page: str, tmp_path: Path):
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    found = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert found
    for each in found:
        (path := tmp_path / "oxherd.toml").write_text(each)
        assert load(path, {}, {}).config.queues


def test_what_the_page_types_is_what_install_says_comes_next(tmp_path: Path):
    page = (ROOT / "docs" / "how-to" / "systemd.md").read_text()
    (typed,) = re.findall(r"^/opt/oxherd/bin/oxherd (systemd install .*)$", page, re.MULTILINE)
    command = [sys.executable, "-m", "supervisor", *typed.split(), "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    advice = done.stdout.partition("next:\n")[2].splitlines()
    assert [line for line in advice if line.strip() not in page and "write /etc/oxherd" not in line] == []
    assert "WorkingDirectory=/srv/thumbnails\n" in (tmp_path / UNITS / "oxherd.service").read_text()


def test_what_the_page_types_without_root_is_what_install_says_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    page = (ROOT / "docs" / "how-to" / "systemd.md").read_text().partition("## Without root")[2]
    typed, *after = page.partition("```sh\n")[2].partition("```")[0].splitlines()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main([*typed.replace("~", str(tmp_path)).split()[1:]]) == 0
    advice = capsys.readouterr().out.partition("next:\n")[2].splitlines()
    said = [line.strip().partition("    (")[0] for line in advice if "write " not in line]
    assert said == after
    left_out = {"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "CapabilityBoundingSet"}
    ours = files(Machine(OURS.program, 252, user=True), instances=False)[OF_A_USER / "oxherd.service"]
    for name in left_out:
        assert f"`{name}=`" in page and f"{name}=" not in ours
    for name in ("SystemCallFilter", "RestrictNamespaces", "NoNewPrivileges"):
        assert f"`{name}=`" in page and f"{name}=" in ours


def test_the_page_names_every_file_that_is_written_and_every_example():
    page = (ROOT / "docs" / "how-to" / "systemd.md").read_text()
    written = {path for many in (True, False) for path in files(OURS, instances=many)}
    assert [path for path in written if f"`/{path}`" not in page] == []
    examples = {path.name for path in (shipped() / "drop-ins").iterdir()}
    assert {name for name in examples if f"`{name}`" not in page} == {
        "notify-reload.conf",
        "delegate-subgroup.conf",
    }


def test_the_texts_are_those_of_the_checkout_and_go_with_the_package():
    assert shipped() == ROOT / "systemd"
    assert '"systemd" = "supervisor/units"' in (ROOT / "pyproject.toml").read_text()
    assert not list((ROOT / "systemd").rglob("__init__.py"))
