"""Where Redis is: a URL, checked once and carried as a value.

It decides what a URL means and refuses, with a sentence, what it does not understand. It opens nothing.
A password never shows: not in `str()`, not in `repr()`, not in the sentence about a wrong URL.

    redis://[user:password@]host[:port][/db]
    unix://[user:password@]/path/of/socket[?db=N]
    redis+sentinel://[user:password@]host[:port][,host[:port]...]/name of the master[/db]
                         options `sentinel_username`, `sentinel_password`, `sentinel_password_file`
    redis+cluster://[user:password@]host[:port][,host[:port]...]
    rediss://, rediss+sentinel://, rediss+cluster://
                         the same over TLS; options `ssl_cert_reqs`, `ssl_ca_certs`, `ssl_certfile`,
                         `ssl_keyfile`, `ssl_check_hostname`

`db`, `username` and `password` may also stand in the query, as redis-py has them; so may `password_file`,
which is read at each login. `sentinel://` and `cluster://` are short for the forms without TLS.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
from msgspec import structs

from supervisor.errors import ConfigError
from supervisor.transport.slots import check_tagged, slot_of

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

Place: TypeAlias = tuple[str, int]
"""A host and a port."""

_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_LOGIN_OPTIONS: Final = frozenset({"db", "username", "password", "password_file"})
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password", "sentinel_password_file"})
_TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)
# scheme -> whether it is over TLS; the second half of it says what it leads to
_SCHEMES: Final = {
    "redis": False,
    "rediss": True,
    "unix": False,
    "sentinel": False,
    "redis+sentinel": False,
    "rediss+sentinel": True,
    "cluster": False,
    "redis+cluster": False,
    "rediss+cluster": True,
}
_FORMS: Final = (
    "redis://[user:password@]host[:port][/db], rediss://..., unix:///path/of/socket, "
    "redis+sentinel://host[:port],.../name or redis+cluster://host[:port],..."
)
_HOST_AND_PORT: Final = re.compile(r"(\[[^\]]+\]|[^:,\[\]]+)(?::([0-9]{1,5}))?")


class Tls(msgspec.Struct, frozen=True):
    """How the server's certificate is judged, and which of ours is shown."""

    cert_reqs: str = "required"
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """A new context. Raises `ConfigError` when a file named in the URL cannot be used."""
        named = [each for each in (self.ca_certs, self.certfile, self.keyfile) if each is not None]
        try:
            for each in named:  # the library does not say which of them it could not read
                with open(each, "rb"):
                    pass
            context = ssl.create_default_context(cafile=self.ca_certs)
            context.check_hostname = self.check_hostname and self.cert_reqs == "required"
            context.verify_mode = _CERT_REQS[self.cert_reqs]
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile)
        except OSError as error:  # ssl.SSLError is one
            why = error.reason if isinstance(error, ssl.SSLError) else error
            raise ConfigError(f"the TLS files {', '.join(named)} cannot be used ({why})") from error
        return context


class Address(msgspec.Struct, frozen=True):
    """One Redis: `path` (a unix socket), or `host` and `port`; or whom to ask where it is now.

    seeds          Sentinels, or nodes of the cluster.
    master         what the Sentinels call it; None where there are none.
    cluster        it is a Redis Cluster, and `prefix` tells which of its nodes is meant; see `for_prefix`.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    db: int = 0
    user: str | None = None
    password: str | None = None
    password_file: str | None = None
    tls: Tls | None = None
    seeds: tuple[Place, ...] = ()
    master: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    sentinel_password_file: str | None = None
    cluster: bool = False
    prefix: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in `url`. Raises `ConfigError` with a sentence that shows no password."""
        parts = _split(url)
        options = parts.options
        password, password_file = (
            options.pop("password", None) or parts.password,
            options.pop("password_file", None),
        )
        if password and password_file:
            raise ConfigError(f"the Redis URL {_hidden(url)} has both a password and a password_file")
        login: dict[str, Any] = {
            "user": options.pop("username", None) or parts.user,
            "password": password,
            "password_file": password_file,
            "tls": _tls(url, options) if _SCHEMES[parts.scheme] else None,
        }
        kind = parts.scheme.rpartition("+")[2]
        if kind == "unix":
            if not parts.path or parts.hosts:
                raise ConfigError(
                    f"the Redis URL {_hidden(url)} names no socket; write unix:///path/of/socket"
                )
            return cls(path=unquote(parts.path), db=_db(url, options.get("db"), ""), **login)
        if kind == "sentinel":
            return cls(**_behind_sentinels(url, parts), **login)
        if kind == "cluster":
            if parts.path.strip("/") or options.get("db", "0") != "0":
                raise ConfigError(
                    f"the Redis URL {_hidden(url)} names a database; a Redis Cluster has only one"
                )
            return cls(seeds=_places(url, parts.hosts, DEFAULT_PORT), cluster=True, **login)
        places = _places(url, parts.hosts or "localhost", DEFAULT_PORT)
        if len(places) > 1:
            raise ConfigError(
                f"the Redis URL {_hidden(url)} names several hosts; for Sentinels write "
                "redis+sentinel://host,host/name of the master, for a cluster redis+cluster://host,host"
            )
        return cls(places[0][0], places[0][1], db=_db(url, options.get("db"), parts.path), **login)

    def for_prefix(self, prefix: str) -> Address:
        """The same for keys that start with `prefix`: in a cluster that tells the node.

        Raises `ConfigError` for a prefix that no cluster can take.
        """
        if not self.cluster:
            return self
        check_tagged(prefix)
        return structs.replace(self, prefix=prefix)

    def at(self, place: Place) -> Address:
        """One node of it, reached with the same login."""
        host, port = place
        return structs.replace(self, host=host, port=port, seeds=(), master=None, cluster=False, prefix=None)

    def sentinel(self, place: Place) -> Address:
        """One of its Sentinels, which have users of their own."""
        return Address(
            *place,
            user=self.sentinel_user,
            password=self.sentinel_password,
            password_file=self.sentinel_password_file,
            tls=self.tls,
        )

    @property
    def guard(self) -> str | None:
        """In a cluster a key that nobody ever writes; it lives where all the others do. Else None."""
        return None if self.prefix is None else f"{self.prefix}:ox:never"

    @property
    def slot(self) -> int | None:
        return None if self.prefix is None else slot_of(self.prefix)

    def secret(self) -> str | None:
        """The password; a file is read now. Raises `ConfigError` when it cannot be."""
        if self.password_file is None:
            return self.password
        try:
            text = Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"the password file {self.password_file} cannot be read ({why})") from error
        if not text:
            raise ConfigError(f"the password file {self.password_file} is empty")
        return text

    def known_secret(self) -> str | None:
        """The password as far as it can be told now: for keeping it out of other texts."""
        try:
            return self.secret()
        except ConfigError:
            return None

    @property
    def display(self) -> str:
        """The URL without its password, for logs and sentences."""
        user = f"{quote(self.user)}@" if self.user else ""
        if self.path is not None:
            return f"unix://{user}{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = "redis" if self.tls is None else "rediss"
        places = ",".join(map(shown, self.seeds or ((self.host, self.port),)))
        db = f"/{self.db}" if self.db else ""
        if self.master is not None:
            return f"{scheme}+sentinel://{user}{places}/{quote(self.master)}{db}"
        if self.cluster:
            return f"{scheme}+cluster://{user}{places}"
        return f"{scheme}://{user}{places}{db}"

    def __str__(self) -> str:
        return self.display

    def __repr__(self) -> str:
        return f"Address({self.display!r})"


def shown(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Parts(NamedTuple):
    scheme: str
    user: str | None
    password: str | None
    hosts: str
    path: str
    options: dict[str, str]


def _split(url: str) -> _Parts:
    """The parts of a URL, its options known ones; everything but `path` and `hosts` decoded."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # its text may quote a part of the password
        raise _malformed(url) from None
    if "://" not in url or parts.scheme not in _SCHEMES:
        raise ConfigError(f"the Redis URL {_hidden(url)} is not one of {_FORMS}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts = f"localhost{hosts}" if hosts.startswith(":") else hosts
    if hosts:
        _places(
            url, hosts, DEFAULT_PORT
        )  # before anything of the URL is said: it may be a part of a password
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = _LOGIN_OPTIONS | (_TLS_OPTIONS if _SCHEMES[parts.scheme] else frozenset())
    if parts.scheme.endswith("sentinel"):
        known |= _SENTINEL_OPTIONS
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(
            f"the Redis URL {_hidden(url)} has an option {unknown[0]!r} that is not known here; "
            f"known are {', '.join(sorted(known))}"
        )
    return _Parts(parts.scheme, _decoded(user), _decoded(password), hosts, parts.path, options)


def _places(url: str, hosts: str, default_port: int) -> tuple[Place, ...]:
    places = []
    for each in hosts.split(","):
        match = _HOST_AND_PORT.fullmatch(each.rstrip(":"))
        if match is None or int(match[2] or default_port) > 65_535:
            raise _malformed(url)
        places.append((unquote(match[1].strip("[]")), int(match[2] or default_port)))
    return tuple(places)


def _behind_sentinels(url: str, parts: _Parts) -> dict[str, Any]:
    name, _, db = parts.path.strip("/").partition("/")
    if not name or not parts.hosts:
        raise ConfigError(
            f"the Redis URL {_hidden(url)} names no master; write redis+sentinel://host[:port],.../name, "
            "with the name that the Sentinels know it by"
        )
    options = parts.options
    return {
        "seeds": _places(url, parts.hosts, SENTINEL_PORT),
        "master": unquote(name),
        "db": _db(url, options.get("db"), db),
        **{each.replace("username", "user"): options.get(each) for each in _SENTINEL_OPTIONS},
    }


def _malformed(url: str) -> ConfigError:
    return ConfigError(
        f"the Redis URL {_hidden(url)} is malformed; write {_FORMS}, "
        "with %2F for a / in a password and so on for @ : ? #"
    )


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


def _decoded(text: str) -> str | None:
    return unquote(text) if text else None


def _hidden(url: str) -> str:
    """The URL as it may be shown: dots for the login, and nothing of the query."""
    scheme, mark, rest = url.strip().partition("://")
    _, at, place = (rest if mark else scheme).rpartition("@")
    place = place.partition("?")[0]
    return repr(f"{scheme + mark if mark else ''}{'...@' if at else ''}{place}")
