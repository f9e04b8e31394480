--[[
  rateLimitQueue: hold the queue's limiter for a while, or let it go.

  It binds workers with a limiter and queues with a global rate limit; the others never look at it.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys
  ARGV[2]      milliseconds; 0 lets go

  Derives      limiter, active, marker
  Returns      0
  Events       none
  Cost         O(1)
]]
--- include lib/queue
if ARGV[2] == "0" then
  if redis.call("DEL", ARGV[1] .. "limiter") == 1 then
    wake(open_queue(ARGV[1]))
  end
else
  redis.call("SET", ARGV[1] .. "limiter", "9007199254740991", "PX", ARGV[2])
end
return 0
