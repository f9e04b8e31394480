"""The only room that speaks to Redis: addresses, connections, scripts, lost replies.

    address    where Redis is, parsed from a URL
    aio        `Redis` for asyncio: one connection, pipelined by itself (imports hiredis only)
    blocking   `Redis` for code without `await` (imports redis-py)
    marker     the waiting pop on a queue's marker, on a connection of its own
    subscription  what others publish on channels, on a connection of its own
    embedded   the private server of one user

It runs commands (`supervisor.protocol.commands.base`) and knows none of them by name.
"""
