-- limiter: at most so many jobs begin in so many milliseconds, over all workers of a queue (core.md section 5.2).
-- Needs lib/view.

local LONGEST_MS = 1e15

-- Sets the call's limit, when there is one. Returns why it cannot be counted, or nil.
-- The queue's own maximum goes before the worker's; the worker's duration goes before the queue's.
local function set_limit(call, queue)
  local key = queue.prefix .. "limiter"
  local limit, duration = queue.max or call.limiter_max, call.limiter_max and call.limiter_ms or queue.duration
  if not duration or not (math.abs(duration) < LONGEST_MS) then
    return nil -- a maximum without a duration that Redis takes is no limit
  end
  call.limit, call.limit_ms = limit, math.floor(math.abs(duration))
  local trouble = wrong_type(key, "string")
  local value = not trouble and redis.call("GET", key)
  if value and not (value:match("^%d+$") and #value < 19) then
    trouble = "the key " .. key .. " is not a number that Redis can count"
  end
  return trouble
end

-- Milliseconds until the limiter lets the next job start; 0 when it may start now.
local function limited_for(call, queue)
  local key = queue.prefix .. "limiter"
  call.started = call.started or tonumber(redis.call("GET", key)) or 0
  if call.started < call.limit then
    return 0
  end
  local left = redis.call("PTTL", key)
  if left == 0 then
    redis.call("DEL", key)
    call.started = 0
  end
  return math.max(left, 0) -- a key without an end never limits
end

local function count_start(call, queue)
  call.started = redis.call("INCR", queue.prefix .. "limiter")
  if call.started == 1 then
    redis.call("PEXPIRE", queue.prefix .. "limiter", call.limit_ms)
  end
end
