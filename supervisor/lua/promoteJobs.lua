--[[
  promoteJobs: one slice of the delayed jobs waits at once, those due first at first.

  Each goes where promoteJob would put it: BullMQ's own bulk form forgets their priority and keeps their delay.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, how many

  Derives      every key of the queue
  Returns      [how many were looked at, how many wait now], or [-100, what is wrong]
  Events       waiting
  Cost         O(jobs log delayed)
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local prefix = ARGV[1]
local trouble = queue.trouble or wrong_waiting_types(queue) or wrong_type(prefix .. "delayed", "zset")
if trouble then
  return { -100, trouble }
end
local ids = redis.call("ZRANGE", prefix .. "delayed", 0, ARGV[2] - 1)
redis.call("ZREMRANGEBYRANK", prefix .. "delayed", 0, #ids - 1)
local promoted = 0
for _, id in ipairs(ids) do
  local fields = redis.pcall("HMGET", prefix .. id, "priority", "timestamp")
  if not fields.err and (fields[1] or fields[2]) then -- an id without a job is nothing that could run
    put_waiting(queue, id, tonumber(fields[1]) or 0, "LPUSH")
    redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
      "event", "waiting", "jobId", id, "prev", "delayed")
    redis.call("HSET", prefix .. id, "delay", "0")
    promoted = promoted + 1
  end
end
if promoted > 0 then
  wake(queue)
end
return { #ids, promoted }
