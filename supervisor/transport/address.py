"""Where Redis is: a URL, checked once and carried as a value.

It decides what a URL means and refuses, with a sentence, what it does not understand. It opens nothing.
A password never shows: not in `str()`, not in `repr()`, not in the sentence about a wrong URL.

    redis://[user:password@]host[:port][/db]
    rediss://...                               the same over TLS; options `ssl_cert_reqs`, `ssl_ca_certs`,
                                               `ssl_certfile`, `ssl_keyfile`, `ssl_check_hostname`
    unix://[user:password@]/path/of/socket[?db=N]

`db`, `username` and `password` may also stand in the query, as redis-py has them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from supervisor.errors import ConfigError

DEFAULT_PORT: Final = 6379

_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_LOGIN_OPTIONS: Final = frozenset({"db", "username", "password"})
_TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)
_LATER: Final = frozenset({"sentinel", "redis+sentinel", "rediss+sentinel", "cluster", "redis+cluster"})
_FORMS: Final = "redis://[user:password@]host[:port][/db], rediss://... or unix:///path/of/socket"


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server's certificate is judged, and which of ours is shown."""

    cert_reqs: str = "required"
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """A new context. Raises `ConfigError` when a file named in the URL cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            context.check_hostname = self.check_hostname and self.cert_reqs == "required"
            context.verify_mode = _CERT_REQS[self.cert_reqs]
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"the TLS files named in the Redis URL cannot be used: {error}") from error
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """One Redis. Either `path` (a unix socket) or `host` and `port`."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    db: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in `url`. Raises `ConfigError` with a sentence that shows no password."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:  # its text may quote a part of the password
            raise ConfigError(
                f"the Redis URL {_hidden(url)} is malformed; write {_FORMS}, "
                "with %2F for a / in a password and so on for @ : ? #"
            ) from None
        if "://" not in url or parts.scheme not in ("redis", "rediss", "unix"):
            raise _wrong_scheme(url, parts.scheme)
        options = _options(url, parts)
        user = options.pop("username", None) or _decoded(parts.username)
        password = options.pop("password", None) or _decoded(parts.password)
        db = _db(url, options.pop("db", None), "" if parts.scheme == "unix" else parts.path)
        if parts.scheme == "unix":
            path = unquote(parts.path)
            if not path or parts.hostname:
                raise ConfigError(
                    f"the Redis URL {_hidden(url)} names no socket; write unix:///path/of/socket"
                )
            return cls(path=path, db=db, user=user, password=password)
        tls = _tls(url, options) if parts.scheme == "rediss" else None
        host = unquote(parts.hostname or "localhost")
        return cls(
            host=host,
            port=DEFAULT_PORT if port is None else port,
            db=db,
            user=user,
            password=password,
            tls=tls,
        )

    @property
    def display(self) -> str:
        """The URL without its password, for logs and sentences."""
        user = f"{quote(self.user)}@" if self.user else ""
        if self.path is not None:
            return f"unix://{user}{self.path}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "redis" if self.tls is None else "rediss"
        return f"{scheme}://{user}{host}:{self.port}" + (f"/{self.db}" if self.db else "")

    def __str__(self) -> str:
        return self.display


def _wrong_scheme(url: str, scheme: str) -> ConfigError:
    if scheme in _LATER:
        return ConfigError(
            f"the Redis URL {_hidden(url)} asks for {scheme}, which this version does not speak yet; "
            "name the present master itself as redis://host:port"
        )
    return ConfigError(f"the Redis URL {_hidden(url)} is not one of {_FORMS}")


def _options(url: str, parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _LOGIN_OPTIONS | _TLS_OPTIONS if parts.scheme == "rediss" else _LOGIN_OPTIONS
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(
            f"the Redis URL {_hidden(url)} has an option {unknown[0]!r} that is not known here; "
            f"known are {', '.join(sorted(known))}"
        )
    return options


def _db(url: str, option: str | None, path: str) -> int:
    text = option if option is not None else path.strip("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(
            f"the Redis URL {_hidden(url)} has something else where the number of a database belongs"
        )
    return int(text)


def _tls(url: str, options: dict[str, str]) -> Tls:
    def checked(name: str, known: Callable[[str], bool], choices: str, default: str) -> str:
        value = options.get(name, default).lower()
        if not known(value):
            raise ConfigError(f"the Redis URL {_hidden(url)} has {name}={value}; it takes {choices}")
        return value

    reqs = checked("ssl_cert_reqs", _CERT_REQS.__contains__, "required, optional or none", "required")
    check = checked("ssl_check_hostname", (_TRUE | _FALSE).__contains__, "true or false", "true")
    return Tls(
        cert_reqs=reqs,
        ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        check_hostname=check in _TRUE,
    )


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _hidden(url: str) -> str:
    """The URL as it may be shown: dots for the login, and nothing of the query."""
    scheme, mark, rest = url.strip().partition("://")
    _, at, place = (rest if mark else scheme).rpartition("@")
    place = place.partition("?")[0]
    return repr(f"{scheme + mark if mark else ''}{'...@' if at else ''}{place}")
