-- completed: the end that most jobs have: completed, nobody waits for that, and as many are kept as there are.
-- Needs lib/view.

-- One more than a stored number. Most are the first: as text, because Redis prints a number of Lua's with 17
-- digits, which takes it longer than many a command.
local function one_more(stored)
  if not stored or stored == "0" then
    return "1"
  end
  return (tonumber(stored) or 0) + 1
end

local function trim_events(call, queue)
  if not call.trimmed then
    redis.call("XTRIM", queue.events, "MAXLEN", "~", queue.max_events)
    call.trimmed = true
  end
end

local function store_completed(call, outcome, attempts_made)
  redis.call("HSET", outcome.key, "atm", attempts_made, "returnvalue", outcome.text, "finishedOn", call.now_text)
end

local function tell_completed(queue, outcome)
  redis.call("XADD", queue.events, "*",
    "event", "completed", "jobId", outcome.id, "returnvalue", outcome.text, "prev", "active")
end

-- Writes a run of such outcomes, which are taken off `active` already.
local function finish_run(call, queue)
  local ended = {}
  for _, outcome in ipairs(call.run) do
    ended[#ended + 1] = call.now_text
    ended[#ended + 1] = outcome.id
  end
  trim_events(call, queue)
  redis.call("ZADD", queue.prefix .. "completed", unpack(ended))
  for _, outcome in ipairs(call.run) do
    store_completed(call, outcome, outcome.attempts_made)
    tell_completed(queue, outcome)
    outcome.written = true
  end
  call.finished = true
end
