--[[
  setBreaker: open a breaker by hand, or forget all about it.

  KEYS[1]      breaker   HASH
  KEYS[2]      breakers  ZSET  names by the epoch ms until when they are kept

  ARGV[1]      now, epoch milliseconds
  ARGV[2]      open it for so many milliseconds; 0 to forget it, which closes it
  ARGV[3]      the breaker's name
  ARGV[4]      for how many milliseconds it is kept after that

  Derives      no key beyond KEYS
  Returns      1 if anything was known of it, 0 if not
  Events       none
  Cost         O(trials)
]]
--- include lib/breaker
local key, now, open_ms = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call("EXISTS", key)
if open_ms == 0 then
  redis.call("DEL", key)
  redis.call("ZREM", KEYS[2], ARGV[3])
  return known
end
open_breaker(key, now, open_ms, 1, "by hand")
keep_breaker(key, KEYS[2], ARGV[3], now, open_ms, tonumber(ARGV[4]))
return known
