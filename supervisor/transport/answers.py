"""What Redis' refusals mean, how long to wait after one, and the sentences for not reaching it.

Pure: shared by the asyncio and the blocking client, so that both understand the same.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from supervisor.transport.address import Address, Place

# These pass by themselves. A script that met one of them inside had written nothing before: they hold from
# its first write to its end. The last four are a cluster's, and said before a script begins: the key that is
# never written sees to it while a slot moves (`requests.Scripts`).
DID_NOT_RUN: Final = frozenset(
    {"LOADING", "MASTERDOWN", "READONLY", "BUSY", "MISCONF", "NOREPLICAS"}
    | {"CLUSTERDOWN", "TRYAGAIN", "ASK", "MOVED"}  # ASK is followed where that is safe (asking.py)
)
NO_SCRIPT: Final = "NOSCRIPT"
READ_ONLY: Final = "READONLY"
MOVED: Final = "MOVED"
ASK: Final = "ASK"
CLUSTER_DOWN: Final = "CLUSTERDOWN"
# Another server is the right one now. A node that says CLUSTERDOWN sees too few of the others; where they see
# each other, one of them has its slots.
GONE_ELSEWHERE: Final = frozenset({READ_ONLY, MOVED, CLUSTER_DOWN})

FIRST_PAUSE_S: Final = 0.010
LONGEST_PAUSE_S: Final = 1.0

_NO_RIGHT_IN_A_SCRIPT: Final = ("ERR ACL failure in script", "ERR The user executing the script can't run")
_HINTS: Final = {
    "NOPERM": "The user of the Redis URL lacks that right; docs/how-to/redis.md has an ACL line that does.",
    "OOM": "Redis is full (maxmemory) and wrote nothing of this call: it needs memory, or fewer jobs.",
    "CROSSSLOT": "In a Redis Cluster all queues of a call need one hash tag in their prefix.",
    MOVED: "That is a node of a Redis Cluster: write redis+cluster://host:port and a prefix with a hash tag.",
}

# Before Redis 7 what a command inside a script was told comes wrapped:
# "ERR Error running script (...): -READONLY ...".
_WRAPPED: Final = re.compile(r"^ERR Error running script .*?: -?([A-Z]+) ", re.DOTALL)


def word_of(text: str) -> str:
    """The first word of an error reply, which tells its kind."""
    wrapped = _WRAPPED.match(text)
    return wrapped.group(1) if wrapped else text.partition(" ")[0]


def pause_s(tries: int, random: float) -> float:
    """How long to wait before try number `tries` (from 0): exponential to 1 s, with half of it by chance."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries, 10))
    return longest * (0.5 + random / 2)


def moved_to(text: str, asked: Place) -> tuple[int, Place]:
    """The slot and the node in `MOVED 3999 127.0.0.1:6381` or an ASK; without a host it is the one that was
    asked."""
    _, slot, place = text.split(" ")[:3]
    host, _, port = place.rpartition(":")
    return int(slot), (host or asked[0], int(port))


def passes(text: str, slot: int | None) -> bool:
    """Whether what was refused did not run and may later, on this server or the next.

    slot   the one of our keys: of the slots of others we know no node.
    """
    word = word_of(text)
    return word in DID_NOT_RUN and (word != MOVED or moved_to(text, ("", 0))[0] == slot)


def explained(text: str) -> str:
    """Redis' own words for a refusal, and what to do about it where they do not say."""
    word = word_of(text)
    hint = _HINTS.get(word)
    if hint is None and text.startswith(_NO_RIGHT_IN_A_SCRIPT):
        hint = f"{_HINTS['NOPERM']} ACL LOG on the server tells which right it is."
    return text if hint is None else f"{text.rstrip('.')}. {hint}"


_CANNOT: Final = "cannot reach Redis at "
_NOTHING_DONE: Final = ". Nothing was sent and no job was touched."


def cannot_reach(address: Address, why: str) -> str:
    return f"{_CANNOT}{address}: {why}{_NOTHING_DONE}"


def why_not(error: Exception) -> str:
    """What `cannot_reach` says of one server, to be said of several."""
    return str(error).removeprefix(_CANNOT).removesuffix(_NOTHING_DONE)


def why_unreachable(address: Address, error: BaseException, timeout_s: float) -> str:
    """The reason in words, for an error raised while connecting."""
    speaks_tls = "does the server speak TLS on this port?"
    match error:
        case TimeoutError():
            return f"no answer within {timeout_s:g} s" + (f"; {speaks_tls}" if address.tls else "")
        case ConnectionRefusedError():
            return "connection refused; nothing listens there (is the server running?)"
        case FileNotFoundError():
            return "there is no such socket (is the server running?)"
        case PermissionError():
            return "this user may not open the socket"
        case socket.gaierror():
            return f"the name cannot be resolved ({error.strerror})"
        case ssl.SSLCertVerificationError():
            vouched = "self-signed" in error.verify_message or "issuer" in error.verify_message
            hint = "; who vouches for it is named by [redis] ca_file or ssl_ca_certs" if vouched else ""
            return f"its certificate is not accepted ({error.verify_message}){hint}"
        case ConnectionResetError() | BrokenPipeError():
            return why_ended(address, str(error))
        case ssl.SSLError():
            return why_turned_away(f"TLS failed ({error.reason or error}); {speaks_tls}")
        case _:
            return str(error) or type(error).__name__


def why_turned_away(text: str) -> str:
    """The reason in words, for a connection that ended before the login was over."""
    if "max number of clients reached" in text:
        return f"it has as many clients as it takes, see its maxclients ({text})"
    if "CERTIFICATE_REQUIRED" in text:
        return "it wants to see a certificate of ours, as [redis] cert_file and key_file name one"
    if "ALERT_UNKNOWN_CA" in text or "ALERT_BAD_CERTIFICATE" in text:
        return "it does not accept our certificate ([redis] cert_file): another authority has made it"
    if "DENIED" in text:
        return f"it has no password and is closed to other hosts ({text.partition('.')[0]})"
    return text


def why_ended(address: Address, text: str) -> str:
    """The same, where it may have been for our certificate: not every server says so before it goes, and what
    it says is lost when it ends the connection before it has read all that we sent.
    """
    why = why_turned_away(text)
    if why != text or address.tls is None:
        return why
    if address.tls.certfile is None:
        return f"{why}; it may want to see a certificate of ours, as [redis] cert_file and key_file name one"
    return f"{why}; it may not accept our certificate ([redis] cert_file)"


def why_login_refused(text: str) -> str:
    """The reason in words, for an error reply to the login."""
    match text.partition(" ")[0]:
        case "NOAUTH":
            return (
                "it wants a password and the URL has none, as in redis://:password@host; nor is a file named "
                f"that has it ({text})"
            )
        case "WRONGPASS":
            return f"it refused the user or the password that was given ({text})"
        case "NOPERM":
            return f"this user lacks a right ({text}); docs/how-to/redis.md has an ACL line that does"
        case _:
            why = why_turned_away(text)
            return f"it refused the login ({text})" if why == text else why
