-- moves: where an active job goes that has not ended: it is retried, postponed, handed back, waits for children;
-- and what an outcome meets that could not be written. Needs lib/queue, lib/promote and lib/stacktrace.

local function store_failure(outcome, fields)
  redis.call("HSET", outcome.key, "atm", (tonumber(fields[2]) or 0) + 1, "failedReason", outcome.text,
    "stacktrace", push_stack(fields[7], outcome.stack, outcome.stack_limit))
end

local function to_delayed(call, queue, outcome)
  local due = call.now + outcome.delay
  local score = delayed_score(queue, due)
  redis.call("HSET", outcome.key, "delay", string.format("%.0f", outcome.delay))
  redis.call("ZADD", queue.prefix .. "delayed", score, outcome.id)
  redis.call("XADD", queue.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "delayed", "jobId", outcome.id, "delay", string.format("%.0f", due))
  call.delayed = true
end

local function tell_waiting(queue, id)
  redis.call("XADD", queue.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "waiting", "jobId", id, "prev", "active")
end

local function retry(call, queue, outcome, fields)
  store_failure(outcome, fields)
  if outcome.delay > 0 then
    to_delayed(call, queue, outcome)
    return
  end
  if not call.promoted then
    call.promoted = true
    promote_due(queue, call.now, call.dropped) -- so that those due before us also wait before us
  end
  put_waiting(queue, outcome.id, tonumber(fields[6]) or 0, outcome.lifo and "RPUSH" or "LPUSH")
  call.wake = true
  tell_waiting(queue, outcome.id)
end

-- Back to where it came from, to be the next: of the queue, or of its own priority.
local function give_back(call, queue, outcome, fields)
  local priority = tonumber(fields[6]) or 0
  if outcome.kind == "H" then
    redis.call("HSET", outcome.key, "ats", math.max((tonumber(fields[8]) or 0) - 1, 0))
    redis.call("HDEL", outcome.key, "processedOn")
  elseif outcome.kind == "L" and outcome.hold > 0 then
    redis.call("SET", queue.prefix .. "limiter", "9007199254740991", "PX", outcome.hold)
  end
  if priority > 0 then
    redis.call("ZADD", queue.prefix .. "prioritized", priority * 4294967296, outcome.id)
  else
    redis.call("RPUSH", waiting_list(queue), outcome.id)
  end
  call.wake = true
  tell_waiting(queue, outcome.id)
  if outcome.kind == "L" then
    call.rate_limited = true
  end
end

-- The processor waits for its children; when none is pending it runs again at once.
local function to_waiting_children(call, queue, outcome, fields)
  if redis.call("EXISTS", outcome.key .. ":dependencies") == 0 then
    give_back(call, queue, outcome, fields)
    return
  end
  redis.call("ZADD", queue.prefix .. "waiting-children", call.now, outcome.id)
  redis.call("XADD", queue.prefix .. "events", "*",
    "event", "waiting-children", "jobId", outcome.id, "prev", "active")
end

-- What an outcome of this kind touches in its queue, beyond `active`.
local function wrong_move_types(queue, outcome)
  local prefix, kind = queue.prefix, outcome.kind
  if kind == "P" or (kind == "R" and outcome.delay > 0) then
    return wrong_type(prefix .. "delayed", "zset") or wrong_type(prefix .. "events", "stream")
      or wrong_type(prefix .. "marker", "zset")
  elseif kind == "W" then
    return wrong_waiting_types(queue) or first_wrong_type({
      prefix .. "waiting-children", "zset",
      outcome.key .. ":dependencies", "set", outcome.key .. ":unsuccessful", "zset",
    })
  end
  return wrong_waiting_types(queue) or wrong_type(prefix .. "delayed", "zset")
end

local MOVES = { R = retry, L = give_back, H = give_back, P = to_delayed, W = to_waiting_children }

-- An error in the middle, which nothing above foresaw: the job is made active again under its own lock, so
-- that it is in one state and its owner can try another outcome.
local function undo(call, queue, outcome)
  if outcome.let_go then
    redis.pcall("LPUSH", queue.active, outcome.id)
    redis.pcall("SET", outcome.key .. ":lock", outcome.token, "PX", call.lock_ms)
    outcome.let_go = false
  end
end

-- The same in the middle of a run: those that are written stay so, the others are each as if it had met the error.
local function give_up_run(call, queue, problem)
  for _, outcome in ipairs(call.run) do
    if not outcome.written then
      undo(call, queue, outcome)
      call.codes[outcome.position] = CODE.GUILTY
      call.texts[#call.texts + 1] = outcome.position - 1
      call.texts[#call.texts + 1] = text_of(problem)
    end
  end
end
