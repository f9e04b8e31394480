--[[
  changePriority: a waiting job gets another priority; a job in any other state keeps it for later.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id
  ARGV[3]      priority, 0 for none
  ARGV[4]      1 to stand before all others of that priority

  Derives      every key of the queue
  Returns      0, -1 without a hash, or [-100, what is wrong]
  Events       none
  Cost         O(waiting)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local prefix, id, priority, first = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == "1"
local key = prefix .. id
local trouble = wrong_waiting_types(queue)
if trouble then
  return { -100, trouble }
end
if redis.call("EXISTS", key) == 0 then
  return -1
end
if redis.call("ZREM", prefix .. "prioritized", id) == 1
  or redis.call("LREM", prefix .. "wait", -1, id) == 1
  or redis.call("LREM", prefix .. "paused", -1, id) == 1 then
  if priority > 0 and first then
    redis.call("ZADD", prefix .. "prioritized", priority * 4294967296, id)
  else
    put_waiting(queue, id, priority, first and "RPUSH" or "LPUSH")
    wake(queue)
  end
end
redis.call("HSET", key, "priority", ARGV[3])
return 0
