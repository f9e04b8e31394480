--[[
  removeJob: delete one job in whatever state it is, unless a worker holds it. Its children stay.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id

  Derives      every key of the queue and of the job; the parent's keys from the job's hash
  Returns      1 also when there was none, 0 when its lock is held, -8 when it is the pending job of a
               scheduler, or [-100, what is wrong]
  Events       removed; of a parent's queue waiting
  Cost         O(waiting + active)
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
local queue = open_queue(ARGV[1])
local prefix, id = ARGV[1], ARGV[2]
local key = prefix .. id
local STATES = {
  "completed", "ZREM", "waiting-children", "ZREM", "delayed", "ZREM", "failed", "ZREM",
  "prioritized", "ZREM", "wait", "LREM", "paused", "LREM", "active", "LREM",
}

local function is_pending_of_scheduler(scheduler)
  local score = scheduler and redis.pcall("ZSCORE", prefix .. "repeat", scheduler)
  return type(score) == "string" and id == "repeat:" .. scheduler .. ":" .. score
end

local function take_off()
  for i = 1, #STATES, 2 do
    local state, verb = STATES[i], STATES[i + 1]
    local wanted = verb == "ZREM" and "zset" or "list"
    if not wrong_type(prefix .. state, wanted) then
      local removed
      if verb == "ZREM" then
        removed = redis.call("ZREM", prefix .. state, id)
      else
        removed = redis.call("LREM", prefix .. state, 0, id)
      end
      if removed > 0 then
        return state
      end
    end
  end
  return "unknown"
end

local function forget_deduplication(deduplication)
  local owner = prefix .. "de:" .. deduplication
  if redis.pcall("GET", owner) == id then
    redis.call("DEL", owner, prefix .. "dn:" .. deduplication)
  end
end

local fields = { false, false, false, false }
if redis.call("TYPE", key).ok == "hash" then
  fields = redis.call("HMGET", key, "rjk", "deid", "parentKey", "parent")
end
if is_pending_of_scheduler(fields[1]) then
  return -8
end
if redis.call("EXISTS", key .. ":lock") == 1 then
  return 0
end
local parent = parent_of(fields[3], fields[4])
if parent and redis.call("EXISTS", parent.key) == 1 and not wrong_parent_types(parent) then
  detach_child(parent, key)
end
local state = take_off()
if state == "active" then
  wake(queue) -- there may have been too many active for the global concurrency
end
if fields[2] then
  forget_deduplication(fields[2])
end
if delete_job(key) > 0 then
  keep_max_events(queue)
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "removed", "jobId", id, "prev", state)
end
return 1
