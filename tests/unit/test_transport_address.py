"""What a Redis URL means, and that its password never shows."""

from __future__ import annotations

import ssl

import pytest

from supervisor.errors import ConfigError
from supervisor.transport.address import Address, Tls


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
        ("sentinel://host/mymaster", "does not speak yet"),
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
    ["redis://ann@cache:6379/1", "redis://[::1]:7000", "unix:///run/redis.sock?db=2", "rediss://cache:6380"],
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
