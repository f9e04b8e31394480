--[[
  updateProgress: store a job's progress and tell it.

  KEYS[1]      meta  HASH
  ARGV[1..3]   prefix of the queue's keys, job id, progress JSON

  Derives      the job's hash, events
  Returns      0, or -1 without a hash
  Events       progress
  Cost         O(1)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local key = ARGV[1] .. ARGV[2]
if redis.call("EXISTS", key) == 0 then
  return -1
end
redis.call("HSET", key, "progress", ARGV[3])
keep_max_events(queue)
redis.call("XADD", ARGV[1] .. "events", "MAXLEN", "~", queue.max_events, "*",
  "event", "progress", "jobId", ARGV[2], "data", ARGV[3])
return 0
