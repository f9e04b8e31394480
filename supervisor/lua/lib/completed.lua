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

local function store_completed(call, outcome, attempts_made)
  local key, text = outcome.key, outcome.text
  if outcome.used then
    redis.call("HSET", key, "atm", attempts_made, "returnvalue", text, "finishedOn", call.now_text,
      "ox:used", outcome.used)
  else
    redis.call("HSET", key, "atm", attempts_made, "returnvalue", text, "finishedOn", call.now_text)
  end
end

local function tell_completed(call, queue, outcome)
  if call.trimmed then
    redis.call("XADD", queue.events, "*",
      "event", "completed", "jobId", outcome.id, "returnvalue", outcome.text, "prev", "active")
  else
    redis.call("XADD", queue.events, "MAXLEN", "~", queue.max_events, "*",
      "event", "completed", "jobId", outcome.id, "returnvalue", outcome.text, "prev", "active")
    call.trimmed = true
  end
end

-- Writes a run of such outcomes, which are taken off `active` already.
local function finish_run(call, queue)
  local ended = {}
  for _, outcome in ipairs(call.run) do
    ended[#ended + 1] = call.now_text
    ended[#ended + 1] = outcome.id
  end
  redis.call("ZADD", queue.prefix .. "completed", unpack(ended))
  for _, outcome in ipairs(call.run) do
    store_completed(call, outcome, outcome.attempts_made)
    tell_completed(call, queue, outcome)
    outcome.written = true
  end
  call.finished = true
end
