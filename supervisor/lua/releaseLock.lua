--[[
  releaseLock: give up the lock of one job, if it is ours.

  KEYS[1]      lock  STRING
  ARGV[1]      token

  Derives      no key beyond KEYS
  Returns      1, or 0 when the lock is not ours
  Events       none
  Cost         O(1)
]]
if redis.pcall("GET", KEYS[1]) == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
