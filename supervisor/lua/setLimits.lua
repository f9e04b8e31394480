--[[
  setLimits: change what a queue says of its concurrency and rate, and wake a worker for whom that opened the way.

  BullMQ wakes nobody here; its idle workers find out when their wait ends. A marker more is safe.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys
  ARGV[2..]    pairs: field of meta, value; an empty value removes the field

  Derives      wait, prioritized, active, marker
  Returns      0
  Events       none
  Cost         O(fields)
]]
--- include lib/queue
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == "" then
    redis.call("HDEL", KEYS[1], ARGV[i])
  else
    redis.call("HSET", KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
local prefix = ARGV[1]
if redis.call("LLEN", prefix .. "wait") + redis.call("ZCARD", prefix .. "prioritized") > 0 then
  wake(open_queue(prefix))
end
return 0
