--[[
  updateData: replace a job's data.

  KEYS[1]      job  HASH
  ARGV[1]      data JSON

  Derives      no key beyond KEYS
  Returns      0, or -1 without a hash
  Events       none
  Cost         O(1)
]]
if redis.call("EXISTS", KEYS[1]) == 0 then
  return -1
end
redis.call("HSET", KEYS[1], "data", ARGV[1])
return 0
