"""What Redis' refusals mean, how long to wait after one, and the sentences for not reaching it.

Pure: shared by the asyncio and the blocking client, so that both understand the same.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from supervisor.transport.address import Address

# These pass by themselves. A script that met one of them inside had written nothing before: they hold from
# its first write to its end.
DID_NOT_RUN: Final = frozenset(
    {"LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "BUSY", "TRYAGAIN", "MISCONF", "NOREPLICAS"}
)
NO_SCRIPT: Final = "NOSCRIPT"
READ_ONLY: Final = "READONLY"

FIRST_PAUSE_S: Final = 0.010
LONGEST_PAUSE_S: Final = 1.0

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


def cannot_reach(address: Address, why: str) -> str:
    return f"cannot reach Redis at {address}: {why}. Nothing was sent and no job was touched."


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
            return f"its certificate is not accepted ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error}); {speaks_tls}"
        case _:
            return str(error) or type(error).__name__


def why_login_refused(text: str) -> str:
    """The reason in words, for an error reply to the login."""
    match text.partition(" ")[0]:
        case "NOAUTH":
            return f"it wants a password and the URL has none, as in redis://:password@host ({text})"
        case "WRONGPASS":
            return f"it refused the user or the password of the URL ({text})"
        case _:
            return f"it refused the login ({text})"
