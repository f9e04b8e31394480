--[[
  recoverStalled: bring back active jobs whose lock is gone; at most once an interval for all workers.

  In two passes: what is active now is only suspected, and renewing a lock takes a job off the suspects. What
  was suspected a pass ago and has no lock is put back to run next. A job that stalled too often is put back
  too, marked so that whoever fetches it fails it.

  A suspect without a hash is taken off `active` and no more: nothing could be run. A `stalled` key of another
  type is deleted and the check goes on.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      now, epoch milliseconds
  ARGV[3]      interval, milliseconds
  ARGV[4]      how many times a job may stall

  Derives      stalled, stalled-check, active, wait, paused, marker, events, repeat; each suspect's hash and lock
  Returns      array of the job ids that were put back
  Events       waiting, then stalled, for each
  Cost         O(active)
]]
--- include lib/queue

local AT_ONCE = 1000
local TOO_OFTEN = "job stalled more than allowable limit"
local now, interval, max_stalled = ARGV[2], ARGV[3], tonumber(ARGV[4])
local prefix = ARGV[1]

-- A job of a living scheduler is the only one of its kind: it may stall for ever.
local function of_living_scheduler(scheduler)
  return scheduler and (redis.call("EXISTS", prefix .. "repeat:" .. scheduler) == 1
    or redis.pcall("ZSCORE", prefix .. "repeat", scheduler) ~= false)
end

local function take_suspects()
  local stalled = prefix .. "stalled"
  local suspects = {}
  if redis.call("TYPE", stalled).ok == "set" then
    suspects = redis.call("SMEMBERS", stalled)
  end
  redis.call("DEL", stalled)
  return suspects
end

-- True when the job was put back.
local function put_back(queue, id)
  local key = prefix .. id
  if redis.call("EXISTS", key .. ":lock") == 1
    or redis.call("LREM", prefix .. "active", 1, id) == 0
    or redis.call("TYPE", key).ok ~= "hash" then
    return false
  end
  local fields = redis.call("HMGET", key, "stc", "rjk")
  local count = (tonumber(fields[1]) or 0) + 1
  redis.call("HSET", key, "stc", count)
  if count > max_stalled and not of_living_scheduler(fields[2]) then
    redis.call("HSET", key, "defa", TOO_OFTEN)
  end
  redis.call("RPUSH", waiting_list(queue), id)
  redis.call("XADD", prefix .. "events", "*", "event", "waiting", "jobId", id, "prev", "active")
  redis.call("XADD", prefix .. "events", "*", "event", "stalled", "jobId", id)
  return true
end

local function suspect_all_active()
  local ids = redis.call("LRANGE", prefix .. "active", 0, -1)
  for first = 1, #ids, AT_ONCE do
    redis.call("SADD", prefix .. "stalled", unpack(ids, first, math.min(first + AT_ONCE - 1, #ids)))
  end
end

if redis.call("EXISTS", prefix .. "stalled-check") == 1 then
  return {}
end
local queue = open_queue(prefix)
local trouble = wrong_waiting_types(queue) or wrong_type(prefix .. "active", "list")
if trouble then
  return redis.error_reply("WRONGTYPE " .. trouble)
end
local recovered = {}
local suspects = take_suspects() -- the first write, and one that is not refused when memory is short
redis.call("SET", prefix .. "stalled-check", now, "PX", interval)
keep_max_events(queue)
redis.call("XTRIM", prefix .. "events", "MAXLEN", "~", queue.max_events)
for _, id in ipairs(suspects) do
  if put_back(queue, id) then
    recovered[#recovered + 1] = id
  end
end
if #recovered > 0 then
  wake(queue)
end
suspect_all_active()
return recovered
