-- fetch: take jobs that wait and make them active (core.md sections 5.2 and 5.3).
-- Needs lib/view, lib/completed, lib/record and lib/seldom.

local DROP_AT_ONCE = 1000

-- What a command tells of a key; or nothing and what is wrong with the key.
local function ask(wanted, command, key, ...)
  local told = redis.pcall(command, key, ...)
  if type(told) == "table" and told.err then
    return nil, wrong_type(key, wanted) or told.err
  end
  return told
end

-- The score of the first delayed job, or nil.
local function first_delayed(queue)
  local first, trouble = ask("zset", "ZRANGE", queue.prefix .. "delayed", "0", "0", "WITHSCORES")
  return first and tonumber(first[2]), trouble
end

-- What is due starts to wait. Returns what is in the way, or nil.
local function promote(call, queue)
  -- Mostly nothing is delayed and nothing has a priority: one question for both.
  call.only_in_line = redis.call("EXISTS", queue.prefix .. "delayed", queue.prefix .. "prioritized") == 0
  if call.only_in_line then
    return nil
  end
  local first, trouble = first_delayed(queue)
  if first and first < (call.now + 1) * 4096 and not call.promoted then
    trouble = seldom().wrong_waiting_types(queue)
    if not trouble then
      seldom().promote_due(queue, call.now, call.dropped)
      call.promoted = true
      first = first_delayed(queue)
    end
  end
  call.first_delayed = first
  return trouble
end

-- How many wait and, if it matters, how many are active. Returns what is wrong with one of the keys, or nil.
local function count(call, queue)
  local trouble
  call.by_priority = 0
  call.in_line, trouble = ask("list", "LLEN", queue.prefix .. "wait")
  if not (trouble or call.only_in_line) then
    call.by_priority, trouble = ask("zset", "ZCARD", queue.prefix .. "prioritized")
  end
  if not trouble and queue.concurrency then
    call.active, trouble = ask("list", "LLEN", queue.active)
  end
  return trouble
end

-- May the next worker have to be told that there is more?
local function may_mark(call)
  return call.in_line + call.by_priority >= call.count or call.limit or call.active or call.again
end

-- Whatever could make an activation fail half-way is found before anything is popped.
local function fetch_trouble(call, queue)
  local trouble = queue.trouble
    or (queue.max or call.limiter_max) and seldom().set_limit(call, queue)
    or promote(call, queue)
    or count(call, queue)
  if trouble or call.in_line + call.by_priority == 0 then
    return trouble
  end
  return wrong_type(queue.active, "list") or wrong_type(queue.events, "stream")
    or may_mark(call) and wrong_type(queue.prefix .. "marker", "zset")
end

-- The next ids, at most `most`, now in `active`; none when nothing waits.
local function pop_some(call, queue, most)
  local prefix, ids = queue.prefix, {}
  if call.in_line > 0 then
    most = math.min(most, call.in_line)
    call.in_line = call.in_line - most
    -- The first by a command that is refused when memory is short. RPOP is not, nor is anything behind it.
    ids[1] = redis.call("RPOPLPUSH", prefix .. "wait", queue.active)
    if most > 1 then
      local others = redis.call("RPOP", prefix .. "wait", most - 1)
      redis.call("LPUSH", queue.active, unpack(others))
      ids = { ids[1], unpack(others) }
    end
  elseif call.by_priority > 0 then
    local popped = redis.call("ZPOPMIN", prefix .. "prioritized", most)
    for i = 1, #popped, 2 do
      ids[#ids + 1] = popped[i]
    end
    call.by_priority = call.by_priority - #ids
    redis.call("LPUSH", queue.active, unpack(ids))
  else
    redis.call("DEL", prefix .. "pc")
  end
  return ids
end

local function activate(call, queue, key, row)
  local id, started = row[1], one_more(row[7])
  if call.limit and not row[DEFERRED] then -- a job that will only be failed takes no place in the window
    seldom().count_start(call, queue)
  end
  redis.call("SET", key .. ":lock", call.token, "PX", call.lock_ms)
  redis.call("XADD", queue.events, "*", "event", "active", "jobId", id, "prev", "waiting")
  if call.worker ~= "" then
    redis.call("HSET", key, "processedOn", call.now_text, "ats", started, "pb", call.worker)
  else
    redis.call("HSET", key, "processedOn", call.now_text, "ats", started)
  end
  row[7] = tonumber(started)
  call.jobs[#call.jobs + 1] = row
  call.took = true
end

-- Of a job that is in `active` now. False when it is none, and off the list again.
local function take_one(call, queue, id)
  local key = queue.prefix .. id
  local row, useless = read_job(key, id)
  if row then
    activate(call, queue, key, row)
    call.active = call.active and call.active + 1
    return true
  end
  redis.call("LREM", queue.active, 1, id)
  if id:sub(1, 2) ~= "0:" then -- a marker of BullMQ 4 is no news
    call.dropped[#call.dropped + 1] = id
    call.dropped[#call.dropped + 1] = useless
  end
  return false
end

-- How many may be popped now; 0 when the limiter or the queue holds them back.
local function room_for(call, queue)
  local room = call.count - #call.jobs
  if call.limit then
    call.limited_ms = seldom().limited_for(call, queue)
    room = call.limited_ms > 0 and 0 or 1 -- each counts, unless it will only be failed
  end
  if call.active then
    room = math.min(room, math.max(queue.concurrency - call.active, 0))
  end
  call.held = queue.paused or (call.active ~= nil and call.active >= queue.concurrency)
  return call.held and 0 or room
end

local function take_all(call, queue)
  local trouble = fetch_trouble(call, queue)
  if trouble then
    call.fetch_error = trouble
    return
  end
  local drops = 0
  while #call.jobs < call.count do
    local room = room_for(call, queue)
    if room == 0 then
      return
    elseif drops >= DROP_AT_ONCE then
      seldom().wake(queue) -- there may be jobs behind so many that are none
      return
    end
    local ids = pop_some(call, queue, room)
    for _, id in ipairs(ids) do
      drops = drops + (take_one(call, queue, id) and 0 or 1)
    end
    if not ids[1] then
      call.next_due = call.first_delayed and math.floor(call.first_delayed / 4096) or 0
      return
    end
  end
end
