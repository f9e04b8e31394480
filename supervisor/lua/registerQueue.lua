--[[
  registerQueue: what a queue tells of itself. Nothing that another client wrote is replaced.

  KEYS[1]      meta  HASH
  ARGV[1]      how many events to keep, about
  ARGV[2]      version, `<product>:<number>`

  Derives      no key beyond KEYS
  Returns      0
  Events       none
  Cost         O(1)
]]
local meta = redis.call("HMGET", KEYS[1], "opts.maxLenEvents", "version")
local product = ARGV[2]:match("^[^:]*:")
if not meta[1] then
  redis.call("HSET", KEYS[1], "opts.maxLenEvents", ARGV[1])
end
if not meta[2] or (meta[2] ~= ARGV[2] and meta[2]:sub(1, #product) == product) then
  redis.call("HSET", KEYS[1], "version", ARGV[2])
end
return 0
