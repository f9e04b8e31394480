--[[
  extendLock: renew one lock in a call of one key.

  While a slot of a Redis Cluster moves, its keys are on two nodes and only
  calls of one key are served. Locks must be renewed all the same, so each is
  renewed by itself then; at all other times extendLocks does it for many.

  KEYS[1]      lock      STRING

  ARGV[1]      token
  ARGV[2]      lock duration, milliseconds

  Derives      no key beyond KEYS
  Returns      1 when the lock is renewed; 0 when it is gone or holds another
               token, and nothing of it was touched
  Events       none
  Cost         O(1)
]]
if redis.pcall("GET", KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return 1
