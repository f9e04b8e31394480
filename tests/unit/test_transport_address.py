"""What a Redis URL means, and that its password never shows."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from supervisor.errors import ConfigError
from supervisor.transport.address import Address, Tls
from supervisor.transport.slots import hash_tag, slot_of


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://cache", Address(host="cache")),
        ("redis://cache:6380/3", Address(host="cache", port=6380, db=3)),
        ("redis://cache/?db=4", Address(host="cache", db=4)),
        ("redis://:s%2Fe%40@cache", Address(host="cache", password="s/e@")),
        ("redis://ann:pw@cache", Address(host="cache", user="ann", password="pw")),
        ("redis://cache?username=ann&password=pw", Address(host="cache", user="ann", password="pw")),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        (" redis://cache\n", Address(host="cache")),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        ("unix://:pw@/run/a%20b.sock?db=2", Address(path="/run/a b.sock", password="pw", db=2)),
        ("rediss://cache", Address(host="cache", tls=Tls())),
        ("redis://:6380", Address(port=6380)),
        ("redis://cache?password_file=/run/pw", Address(host="cache", password_file="/run/pw")),
        (
            "sentinel://ann:pw@one,two:7000,[::1]:7001/my%20master/2?sentinel_password=x",
            Address(
                user="ann",
                password="pw",
                seeds=(("one", 26379), ("two", 7000), ("::1", 7001)),
                master="my master",
                db=2,
                sentinel_password="x",
            ),
        ),
        ("rediss+sentinel://one/m", Address(seeds=(("one", 26379),), master="m", tls=Tls())),
        ("cluster://one,two:7000", Address(seeds=(("one", 6379), ("two", 7000)), cluster=True)),
        ("rediss+cluster://one", Address(seeds=(("one", 6379),), cluster=True, tls=Tls())),
        (
            "rediss://cache?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=/ca.pem",
            Address(host="cache", tls=Tls(cert_reqs="none", check_hostname=False, ca_certs="/ca.pem")),
        ),
    ],
)
def test_a_url_is_understood(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:6379", "is not one of redis://"),
        ("http://cache", "is not one of redis://"),
        ("", "is not one of redis://"),
        ("redis:cache", "is not one of redis://"),
        ("redis://one,two/0", "names several hosts"),
        ("sentinel://host", "names no master"),
        ("redis+sentinel:///mymaster", "names no master"),
        ("sentinel://host/mymaster/one", "number of a database"),
        ("sentinel://host:port/mymaster", "malformed"),
        ("redis+sentinel://host/mymaster?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("redis://host?sentinel_password=x", "'sentinel_password'"),
        ("cluster://one,,two", "malformed"),
        ("cluster://one/1", "names a database; a Redis Cluster has only one"),
        ("redis://:one@host?password_file=/two", "both a password and a password_file"),
        ("redis://cache:port", "malformed"),
        ("redis://cache:99999", "malformed"),
        ("redis://cache/one", "number of a database"),
        ("redis://cache/-1", "number of a database"),
        ("redis://cache/²", "number of a database"),
        ("redis://cache?timeout=3", "'timeout'"),
        ("redis://cache?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("rediss://cache?ssl_cert_reqs=maybe", "required, optional or none"),
        ("rediss://cache?ssl_check_hostname=maybe", "true or false"),
        ("unix://", "names no socket"),
        ("unix://run/redis.sock", "names no socket"),
    ],
)
def test_a_wrong_url_is_refused_with_a_sentence(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        Address.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:hushhush@cache:6379/1",
        "unix://:hushhush@/run/redis.sock",
        "redis://cache?password=hushhush",
        "rediss://:hushhush@cache",
        "sentinel://:hushhush@cache/m?sentinel_password=hushhush",
        "cluster://:hushhush@cache",
    ],
)
def test_no_text_of_an_address_shows_its_password(url: str) -> None:
    address = Address.parse(url)

    assert address.password == "hushhush"
    assert "hushhush" not in f"{address} {address!r} {address.display}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush/hush@cache",
        "redis://:hush?hush@cache",
        "redis://:hush#hush@cache",
        "redis://ann/hush@cache",
        "redis//:hush@cache",
        "http://:hush@cache",
        "redis://cache/one?password=hush",
        "redis://:hush@cache?nonsense=hush",
        "unix://:hush@",
    ],
)
def test_the_sentence_about_a_wrong_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(url)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann@cache:6379/1",
        "redis://[::1]:7000",
        "unix:///run/redis.sock?db=2",
        "rediss://cache:6380",
        "redis+sentinel://one:1,two:2/m/3",
        "rediss+cluster://one:1,[::1]:2",
    ],
)
def test_what_is_displayed_can_be_parsed_again(url: str) -> None:
    assert Address.parse(url).display == url


def test_tls_judges_the_certificate_and_the_name_unless_told_otherwise() -> None:
    strict = Tls().context()
    lax = Tls(cert_reqs="none").context()

    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


def test_a_certificate_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="TLS files"):
        Tls(ca_certs="/no/such/file").context()


def test_the_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    address = Address.parse(f"redis://cache?password_file={file}")
    with pytest.raises(ConfigError, match="cannot be read"):
        address.secret()

    for password in ("first", "sec\u00f6nd"):
        file.write_text(f"{password}\n", encoding="utf-8")
        assert address.secret() == password

    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        address.secret()


@pytest.mark.parametrize(
    ("key", "tag", "slot"),
    [  # the slots are Redis' own answers to CLUSTER KEYSLOT
        ("bull", None, 9263),
        ("{bull}:paint:wait", "bull", 9263),
        ("a{bull}b", "bull", 9263),
        ("{}bull", None, 7917),
        ("{bull", None, 5462),
        ("{\u00fc}", "\u00fc", 9552),
        ("123456789", None, 12739),
    ],
)
def test_a_key_lives_in_the_slot_of_its_hash_tag(key: str, tag: str | None, slot: int) -> None:
    assert (hash_tag(key), slot_of(key)) == (tag, slot)


@pytest.mark.parametrize(("prefix", "better"), [("bull", "{bull}"), ("{}", "{bull}"), ("my{app", "{myapp}")])
def test_a_cluster_takes_no_prefix_without_a_hash_tag(prefix: str, better: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"use the prefix {better!r}")):
        Address.parse("cluster://one").for_prefix(prefix)

    assert Address.parse("cluster://one").for_prefix(better).guard == f"{better}:ox:never"
    assert Address.parse("redis://one").for_prefix(prefix).guard is None
