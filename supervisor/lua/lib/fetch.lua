-- fetch: take jobs that wait and make them active (core.md sections 5.2 and 5.3).
-- Needs lib/queue and lib/promote.

local DROP_AT_ONCE = 1000
local LONGEST_MS = 1e15

-- In the order in which the Python side reads them; the id is put behind.
local function read_job(key)
  return redis.pcall("HMGET", key, "name", "data", "opts", "timestamp", "priority",
    "atm", "attemptsMade", "ats", "stc", "defa", "parent", "rjk", "ox:crashes", "ox:bigger")
end

-- Jobs that an earlier sending of this very call took: their locks hold our token. Their time starts anew.
local function find_taken(call, queue)
  local ids = redis.call("LRANGE", queue.prefix .. "active", 0, -1)
  for _, id in ipairs(ids) do
    local key = queue.prefix .. id
    if redis.pcall("GET", key .. ":lock") == call.token then
      local fields = read_job(key)
      if not fields.err then
        redis.call("SET", key .. ":lock", call.token, "PX", call.lock_ms)
        fields[15] = id
        call.jobs[#call.jobs + 1] = fields
      end
    end
  end
end

-- The next id, now in `active`, or nil.
local function pop_next(call, queue)
  local prefix = queue.prefix
  while not call.no_waiting do
    local id = redis.call("RPOPLPUSH", prefix .. "wait", prefix .. "active")
    if not id then
      call.no_waiting = true
    elseif id:sub(1, 2) == "0:" then
      redis.call("LREM", prefix .. "active", 1, id) -- a marker of BullMQ 4
    else
      return id
    end
  end
  local popped = redis.call("ZPOPMIN", prefix .. "prioritized")
  if popped[1] then
    redis.call("LPUSH", prefix .. "active", popped[1])
    return popped[1]
  end
  redis.call("DEL", prefix .. "pc")
  return nil
end

-- Why the job cannot be used, or nil.
local function useless(fields)
  if fields.err then
    return "its key is not a hash"
  end
  if not fields[1] and not fields[2] and not fields[3] then
    return "it has no hash"
  end
  return nil
end

local function activate(call, queue, id, fields)
  local prefix = queue.prefix
  local key = prefix .. id
  if call.limit and not fields[10] then -- a job that will only be failed takes no place in the window
    call.started = redis.call("INCR", prefix .. "limiter")
    if call.started == 1 then
      redis.call("PEXPIRE", prefix .. "limiter", call.limit_ms)
    end
  end
  redis.call("SET", key .. ":lock", call.token, "PX", call.lock_ms)
  redis.call("XADD", prefix .. "events", "*", "event", "active", "jobId", id, "prev", "waiting")
  local started = (tonumber(fields[8]) or 0) + 1
  if call.worker ~= "" then
    redis.call("HSET", key, "processedOn", call.now_text, "ats", started, "pb", call.worker)
  else
    redis.call("HSET", key, "processedOn", call.now_text, "ats", started)
  end
  fields[8] = started
  fields[15] = id
  call.jobs[#call.jobs + 1] = fields
  call.took = true
end

-- Milliseconds until the limiter lets the next job start; 0 when it may start now.
local function limited_for(call, queue)
  if not call.limit then
    return 0
  end
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

-- The queue's own maximum goes before the worker's; the worker's duration goes before the queue's.
local function set_limit(call, queue)
  local duration = call.limiter_max and call.limiter_ms or queue.duration
  call.limit = queue.max or call.limiter_max
  if call.limit and duration and math.abs(duration) < LONGEST_MS then
    call.limit_ms = math.floor(math.abs(duration))
  else
    call.limit = nil -- a maximum without a duration that Redis takes is no limit
  end
end

-- Whatever could make an activation fail half-way is found before anything is popped.
local function fetch_trouble(call, queue)
  local prefix = queue.prefix
  local trouble = queue.trouble or first_wrong_type({ prefix .. "active", "list", prefix .. "wait", "list",
    prefix .. "paused", "list", prefix .. "prioritized", "zset", prefix .. "delayed", "zset",
    prefix .. "events", "stream", prefix .. "marker", "zset" })
  if trouble or not call.limit then
    return trouble
  end
  trouble = wrong_type(prefix .. "limiter", "string")
  if not trouble then
    local value = redis.call("GET", prefix .. "limiter")
    if value and not (value:match("^%d+$") and #value < 19) then
      trouble = "the key " .. prefix .. "limiter is not a number that Redis can count"
    end
  end
  return trouble
end

local function take(call, queue)
  set_limit(call, queue)
  local trouble = fetch_trouble(call, queue)
  if trouble then
    call.fetch_error = trouble
    return
  end
  if not call.promoted then
    promote_due(queue, call.now, call.dropped)
    call.promoted = true
  end
  local active = queue.concurrency and redis.call("LLEN", queue.prefix .. "active")
  local drops = 0
  while #call.jobs < call.count and drops < DROP_AT_ONCE do
    call.limited_ms = limited_for(call, queue)
    call.held = queue.paused or (active and active >= queue.concurrency)
    if call.limited_ms > 0 or call.held then
      return
    end
    local id = pop_next(call, queue)
    if not id then
      break
    end
    local fields = read_job(queue.prefix .. id)
    local reason = useless(fields)
    if reason then
      redis.call("LREM", queue.prefix .. "active", 1, id)
      call.dropped[#call.dropped + 1] = id
      call.dropped[#call.dropped + 1] = reason
      drops = drops + 1
    else
      activate(call, queue, id, fields)
      active = active and active + 1
    end
  end
  if drops == DROP_AT_ONCE then
    wake(queue) -- there may be jobs behind so many that are none
  elseif #call.jobs < call.count then
    local first = redis.call("ZRANGE", queue.prefix .. "delayed", 0, 0, "WITHSCORES")
    call.next_due = first[2] and math.floor(tonumber(first[2]) / 4096) or 0
  end
end
