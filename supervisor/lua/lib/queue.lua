-- queue: a queue's scores, its marker and where its jobs are put; what an error says, and which types are wrong.
--- include lib/view

local function text_of(problem)
  -- Redis 7 raises tables, Redis 6 strings
  return type(problem) == "table" and problem.err or tostring(problem)
end

-- A replica, a full disk, too few replicas: while one of these holds every write is refused, so a call that meets
-- one has written nothing. It is refused as a whole, and the client sends the same call again.
local REFUSED_TO_ALL = { "READONLY ", "MISCONF ", "NOREPLICAS " }

local function refused_to_all(text)
  for _, word in ipairs(REFUSED_TO_ALL) do
    local at = string.find(text, word, 1, true)
    if at then
      return string.sub(text, at)
    end
  end
  return nil
end

-- Paused, or as many jobs active as may be.
local function is_held(queue)
  return queue.paused
    or (queue.concurrency ~= nil and redis.call("LLEN", queue.prefix .. "active") >= queue.concurrency)
end

-- The list that takes waiting jobs. BullMQ 5 moves them to `paused` while the queue is paused, and its
-- resume renames that list over `wait`: beside it we must push where it looks (core.md section 12.4).
local function waiting_list(queue)
  if queue.paused and redis.call("EXISTS", queue.prefix .. "paused") == 1 then
    return queue.prefix .. "paused"
  end
  return queue.prefix .. "wait"
end

local function wake(queue)
  if not is_held(queue) then
    redis.call("ZADD", queue.prefix .. "marker", 0, "0")
  end
end

local function mark_delay(queue)
  local first = redis.call("ZRANGE", queue.prefix .. "delayed", 0, 0, "WITHSCORES")
  if first[2] then
    redis.call("ZADD", queue.prefix .. "marker", tonumber(first[2]) / 4096, "1")
  end
end

-- The back of the line within one priority. The counter only keeps the order, so a corrupt one begins anew.
local function priority_score(queue, priority)
  local counter = queue.prefix .. "pc"
  local count = redis.pcall("INCR", counter)
  if type(count) == "table" then
    redis.call("DEL", counter)
    count = redis.call("INCR", counter)
  end
  return priority * 4294967296 + count % 4294967296
end

-- 4,096 places within each millisecond, so that jobs due together keep their order.
local function delayed_score(queue, due)
  local low = due * 4096
  local high = low + 4095
  local last = redis.call("ZREVRANGEBYSCORE", queue.prefix .. "delayed", high, low,
    "WITHSCORES", "LIMIT", 0, 1)
  if not last[2] then
    return low
  end
  return math.min(tonumber(last[2]) + 1, high)
end

-- Put a job where it waits its turn: `push` is LPUSH for the back of the line, RPUSH for the front.
-- Does not wake anybody.
local function put_waiting(queue, id, priority, push)
  if priority ~= 0 then
    redis.call("ZADD", queue.prefix .. "prioritized", priority_score(queue, priority), id)
  else
    redis.call(push, waiting_list(queue), id)
  end
end

-- wrong_type for pairs of key and wanted type; the first trouble found.
local function first_wrong_type(pairs_of)
  for i = 1, #pairs_of, 2 do
    local trouble = wrong_type(pairs_of[i], pairs_of[i + 1])
    if trouble then
      return trouble
    end
  end
  return nil
end

-- What a push to the waiting jobs of a queue touches.
local function wrong_waiting_types(queue)
  local prefix = queue.prefix
  return first_wrong_type({
    prefix .. "wait", "list", prefix .. "prioritized", "zset", prefix .. "paused", "list",
    prefix .. "marker", "zset", prefix .. "events", "stream",
  })
end
