"""How the address of Redis and what stands beside it in the config become one, without any secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.config.load import load
from supervisor.config.redis_login import named_url, whole_url
from supervisor.errors import ConfigError
from supervisor.transport.address import Address


def url_of(env: dict[str, str], **more: str) -> str:
    redis = load(
        None, env | {f"OXHERD_REDIS_{name.upper()}": value for name, value in more.items()}, {}
    ).config.redis
    named = named_url(redis, env)
    assert named is not None
    return whole_url(redis, env, named)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("hush/hush\n")
    return file


def test_the_password_of_a_file_is_used_and_never_in_the_url(secret: Path) -> None:
    url = url_of({}, url="redis://cache/2", user="ann", password_file=str(secret))
    address = Address.parse(url)

    assert "hush" not in url
    assert (address.user, address.secret(), address.db) == ("ann", "hush/hush", 2)


def test_a_name_without_a_directory_is_a_credential_of_systemd(secret: Path, tmp_path: Path) -> None:
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert Address.parse(url_of(env, url="redis://cache", password_file="secret")).secret() == "hush/hush"


def test_a_whole_address_may_stand_in_a_file(secret: Path) -> None:
    secret.write_text("redis://:hush@cache:7000\n")
    assert url_of({}, url_file=str(secret)) == "redis://:hush@cache:7000"
    assert url_of({}, url_file=str(secret), url="redis://other") == "redis://other"  # whoever says more

    secret.write_text("redis://one\nredis://two\n")
    with pytest.raises(ConfigError, match="must hold one line"):
        url_of({}, url_file=str(secret))


def test_certificates_and_sentinels_have_their_files(secret: Path) -> None:
    files: dict[str, Any] = dict.fromkeys(
        ("ca_file", "cert_file", "key_file", "sentinel_password_file"), str(secret)
    )
    address = Address.parse(url_of({}, url="rediss+sentinel://one/m", sentinel_user="sam", **files))

    assert address.tls is not None
    assert {address.tls.ca_certs, address.tls.certfile, address.tls.keyfile} == {str(secret)}
    assert (address.sentinel(("one", 1)).user, address.sentinel(("one", 1)).secret()) == ("sam", "hush/hush")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"password_file": "/no/such"}, r"\[redis\] password_file: /no/such cannot be read"),
        ({"ca_file": "/etc/passwd"}, "ca_file is for TLS, and the address starts with redis://"),
        ({"sentinel_user": "sam"}, "sentinel_user is for Sentinels"),
        ({"user": "ann", "url": "redis://cache?username=bob"}, "user is set and the address has username"),
    ],
)
def test_what_does_not_fit_together_is_a_sentence(options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        url_of({}, **{"url": "redis://cache"} | options)


def test_a_password_both_in_the_address_and_in_a_file_is_a_sentence(secret: Path) -> None:
    with pytest.raises(ConfigError, match="both a password and a password_file") as caught:
        Address.parse(url_of({}, url="redis://:hush@cache", password_file=str(secret)))

    assert "hush" not in str(caught.value)
