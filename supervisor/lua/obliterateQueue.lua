--[[
  obliterateQueue: remove one slice of everything a paused queue has; the last slice removes the queue itself.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, how many jobs to remove
  ARGV[3..4]   1 to remove jobs although workers hold them, now in milliseconds

  Derives      every key of the queue, of its jobs and schedulers; a parent's keys from the job's hash
  Returns      1 when there is more to do, 0 when all is gone, -1 when the queue is not paused, -2 when jobs are
               active, or [-100, what is wrong]
  Events       of a parent's queue waiting, delayed
  Cost         O(jobs removed)
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/removal
local queue = open_queue(ARGV[1])
local prefix, left = ARGV[1], tonumber(ARGV[2])
local force, now = ARGV[3] == "1", tonumber(ARGV[4])
local LISTS = { "active", "wait", "paused" }
local ZSETS = { "delayed", "completed", "prioritized", "failed", "waiting-children" }
local OTHERS = {
  "repeat", "events", "delay", "priority", "stalled-check", "stalled", "id", "pc", "marker", "limiter", "meta",
  "metrics:completed", "metrics:completed:data", "metrics:failed", "metrics:failed:data",
  "ox:room", "ox:cancel",
}

local function remove_all(ids)
  for _, id in ipairs(ids) do
    redis.call("DEL", prefix .. id .. ":lock")
    remove_job(queue, id, now)
  end
  left = left - #ids
end

-- What stands under a name of ours and is of another type holds no jobs.
local function empty_list(key)
  if left > 0 and not wrong_type(key, "list") then
    local ids = redis.call("LRANGE", key, -left, -1)
    redis.call("LTRIM", key, 0, -(#ids + 1))
    remove_all(ids)
  end
end

local function empty_zset(key)
  if left > 0 and not wrong_type(key, "zset") then
    local ids = redis.call("ZRANGE", key, 0, left - 1)
    redis.call("ZREMRANGEBYRANK", key, 0, #ids - 1)
    remove_all(ids)
  end
end

local function remove_schedulers(key)
  if left > 0 and not wrong_type(key, "zset") then
    local ids = redis.call("ZRANGE", key, 0, left - 1)
    redis.call("ZREMRANGEBYRANK", key, 0, #ids - 1)
    for _, id in ipairs(ids) do
      redis.call("UNLINK", key .. ":" .. id)
    end
    left = left - #ids
  end
end

if queue.trouble then
  return { -100, queue.trouble }
end
if not queue.paused then
  return -1
end
if not force and not wrong_type(prefix .. "active", "list") and redis.call("LLEN", prefix .. "active") > 0 then
  return -2
end
remove_schedulers(prefix .. "repeat") -- first, so that none of their jobs is taken for one that must stay
for _, name in ipairs(LISTS) do
  empty_list(prefix .. name)
end
for _, name in ipairs(ZSETS) do
  empty_zset(prefix .. name)
end
if left <= 0 then
  return 1
end
for _, name in ipairs(LISTS) do
  redis.call("UNLINK", prefix .. name)
end
for _, name in ipairs(ZSETS) do
  redis.call("UNLINK", prefix .. name)
end
for _, name in ipairs(OTHERS) do
  redis.call("UNLINK", prefix .. name)
end
return 0
