--[[
  pauseQueue: nothing more is fetched. No list is moved.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys

  Derives      marker, events
  Returns      0
  Events       paused
  Cost         O(1)
]]
redis.call("HSET", KEYS[1], "paused", 1)
redis.call("DEL", ARGV[1] .. "marker")
redis.call("XADD", ARGV[1] .. "events", "*", "event", "paused")
return 0
