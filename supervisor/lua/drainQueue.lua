--[[
  drainQueue: remove one slice of the jobs that wait in one of a queue's lists, those which run first at first.

  The iteration for which a job scheduler waits stays where it is. BullMQ trims its list by number and so
  keeps the wrong ids; here exactly what was removed leaves the list.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys; which list: wait, paused, delayed or prioritized
  ARGV[3..5]   how many to look at, how many of a scheduler the last slice has left, now in milliseconds

  Derives      every key of the queue and of the jobs; a parent's keys from the job's hash
  Returns      [how many were looked at, how many of a scheduler are left, how many are removed], or
               [-100, what is wrong]
  Events       of a parent's queue waiting, delayed
  Cost         O(jobs looked at)
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/removal
local queue = open_queue(ARGV[1])
local key = ARGV[1] .. ARGV[2]
local width = tonumber(ARGV[3]) + tonumber(ARGV[4])
local is_list = ARGV[2] == "wait" or ARGV[2] == "paused"
local trouble = wrong_type(key, is_list and "list" or "zset")
if trouble then
  return { -100, trouble }
end

local ids, kept, gone = {}, {}, {}
if is_list then
  ids = redis.call("LRANGE", key, -width, -1)
else
  ids = redis.call("ZRANGE", key, 0, width - 1)
end
for _, id in ipairs(ids) do
  local list = is_scheduled(queue, id) and kept or gone
  list[#list + 1] = id
end
if is_list and #gone > 0 then
  redis.call("LTRIM", key, 0, -(#ids + 1))
  in_parts(kept, function(...)
    redis.call("RPUSH", key, ...)
  end)
else
  in_parts(gone, function(...)
    redis.call("ZREM", key, ...)
  end)
end
for _, id in ipairs(gone) do
  remove_job(queue, id, tonumber(ARGV[5]))
end
return { math.max(#ids - tonumber(ARGV[4]), 0), #kept, #gone }
