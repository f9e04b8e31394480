--[[
  resumeQueue: fetching goes on. Jobs that BullMQ 5 put aside into `paused` come back to the end that runs
  first, a part of them in each call; nothing is ever renamed over.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys
  ARGV[2]      1 to tell it: in the first call only

  Derives      wait, paused, prioritized, delayed, marker, events
  Returns      how many jobs are still in `paused`: call again until 0
  Events       resumed
  Cost         O(2000) at most
]]
--- include lib/queue
local AT_ONCE = 2000
local PUSH_AT_ONCE = 1000
local prefix = ARGV[1]
local wait, paused = prefix .. "wait", prefix .. "paused"

local function merge_paused()
  if redis.call("EXISTS", paused) == 0 then
    return 0
  end
  if redis.call("EXISTS", wait) == 0 then
    redis.call("RENAME", paused, wait)
    return 0
  end
  local ids = redis.call("LRANGE", paused, 0, AT_ONCE - 1)
  for first = 1, #ids, PUSH_AT_ONCE do
    redis.call("RPUSH", wait, unpack(ids, first, math.min(first + PUSH_AT_ONCE - 1, #ids)))
  end
  redis.call("LTRIM", paused, #ids, -1)
  return redis.call("LLEN", paused)
end

if ARGV[2] == "1" then
  redis.call("HDEL", KEYS[1], "paused")
end
local queue = open_queue(prefix)
local left = merge_paused()
if redis.call("LLEN", wait) + redis.call("ZCARD", prefix .. "prioritized") > 0 then
  redis.call("ZADD", prefix .. "marker", 0, "0")
else
  mark_delay(queue)
end
if ARGV[2] == "1" then
  redis.call("XADD", prefix .. "events", "*", "event", "resumed")
end
return left
