--[[
  keepRecord: keep what a saga has done with its job, for the attempt that holds the lock.

  KEYS[1]      job   HASH
  KEYS[2]      lock  STRING

  ARGV[1]      token of the lock
  ARGV[2]      the record, JSON

  Derives      no key beyond KEYS
  Returns      0, or -1 without a hash, -2 without a lock, -6 when another holds it
  Events       none
  Cost         O(1)
]]
if redis.call("EXISTS", KEYS[1]) == 0 then
  return -1
end
local holder = redis.call("GET", KEYS[2])
if holder ~= ARGV[1] then
  return holder and -6 or -2
end
redis.call("HSET", KEYS[1], "ox:saga", ARGV[2])
return 0
