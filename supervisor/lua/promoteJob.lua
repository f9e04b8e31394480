--[[
  promoteJob: a delayed job waits at once.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id

  Derives      every key of the queue
  Returns      0, -3 when it is not delayed, or [-100, what is wrong]
  Events       waiting
  Cost         O(log delayed)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local prefix, id = ARGV[1], ARGV[2]
local trouble = wrong_waiting_types(queue) or wrong_type(prefix .. id, "hash")
if trouble then
  return { -100, trouble }
end
if redis.call("ZREM", prefix .. "delayed", id) == 0 then
  return -3
end
put_waiting(queue, id, tonumber(redis.call("HGET", prefix .. id, "priority")) or 0, "LPUSH")
wake(queue)
redis.call("XADD", prefix .. "events", "*", "event", "waiting", "jobId", id, "prev", "delayed")
redis.call("HSET", prefix .. id, "delay", "0")
return 0
