"""The address of Redis with what stands beside it in `[redis]`: user, password file, certificates.

It decides how the two are put together and where a file without a directory is; it reads no secret. Only the
names of files get into the URL, so a URL made here shows no password that was not in it before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote

from supervisor.config.model import RedisConfig
from supervisor.errors import ConfigError

# option of [redis] -> the URL's own
_LOGIN: Final = {"user": "username", "password_file": "password_file"}
_SENTINEL: Final = {"sentinel_user": "sentinel_username", "sentinel_password_file": "sentinel_password_file"}
_TLS: Final = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile", "key_file": "ssl_keyfile"}


def named_url(redis: RedisConfig, env: Mapping[str, str]) -> str | None:
    """The address that is named, by `url` or in the file `url_file`; None if neither is set.

    Raises `ConfigError` for a file that holds none.
    """
    if redis.url is not None or redis.url_file is None:
        return redis.url
    path = _found("url_file", redis.url_file, env)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"[redis] url_file: {path} is no text") from None
    if not text or "\n" in text:
        raise ConfigError(f"[redis] url_file: {path} must hold one line, an address like redis://host:6379")
    return text


def whole_url(redis: RedisConfig, env: Mapping[str, str], url: str) -> str:
    """`url` with the login and the certificates of `[redis]`. Raises `ConfigError` where they do not fit."""
    scheme, _, rest = url.partition("://")
    given = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    more: dict[str, str] = {}
    for option, name in {**_LOGIN, **_SENTINEL, **_TLS}.items():
        value = getattr(redis, option)
        if value is None:
            continue
        if option in _TLS and not scheme.startswith("rediss"):
            raise ConfigError(f"[redis] {option} is for TLS, and the address starts with {scheme}://")
        if option in _SENTINEL and not scheme.endswith("sentinel"):
            raise ConfigError(f"[redis] {option} is for Sentinels, and the address starts with {scheme}://")
        if name in given:
            raise ConfigError(f"[redis] {option} is set and the address has {name}; leave one of them out")
        more[name] = str(_found(option, value, env)) if isinstance(value, Path) else value
    if not more:
        return url
    options = "&".join(f"{name}={quote(value, safe='/')}" for name, value in more.items())
    return f"{url}{'&' if '?' in rest else '?'}{options}"


def credential(path: Path, env: Mapping[str, str]) -> Path | None:
    """Systemd's credential of that name, if it is a name without a directory and there is one."""
    credentials = env.get("CREDENTIALS_DIRECTORY")
    if credentials and len(path.parts) == 1 and (Path(credentials) / path).exists():
        return Path(credentials) / path
    return None


def _found(option: str, path: Path, env: Mapping[str, str]) -> Path:
    """The file, or the credential of that name."""
    path = credential(path, env) or path
    try:
        with path.open("rb"):
            return Path(os.path.abspath(path))  # the working directory may change before it is read again
    except OSError as error:
        raise ConfigError(f"[redis] {option}: {path} cannot be read ({error.strerror})") from None
