--[[
  changeDelay: a delayed job becomes due at another time, counted from now.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id
  ARGV[3..4]   now, epoch milliseconds; delay, milliseconds

  Derives      the job's hash, delayed, marker, events
  Returns      0, -1 without a hash, -3 when it is not delayed
  Events       delayed
  Cost         O(log delayed)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local prefix, id = ARGV[1], ARGV[2]
local due = tonumber(ARGV[3]) + tonumber(ARGV[4])
if redis.call("EXISTS", prefix .. id) == 0 then
  return -1
end
if redis.call("ZREM", prefix .. "delayed", id) == 0 then
  return -3
end
local score = delayed_score(queue, due)
redis.call("HSET", prefix .. id, "delay", ARGV[4])
redis.call("ZADD", prefix .. "delayed", score, id)
keep_max_events(queue)
redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
  "event", "delayed", "jobId", id, "delay", string.format("%.0f", due))
mark_delay(queue)
return 0
