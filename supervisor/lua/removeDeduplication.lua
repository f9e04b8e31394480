--[[
  removeDeduplication: let a deduplication id go, so that the next job of it is added.

  A job that was held back for the id's owner stays held back.

  KEYS[1]      owner  STRING  de:<deduplication id>
  ARGV[1]      the job that must own it, or empty for any

  Derives      no key beyond KEYS
  Returns      1 when it was there and is gone, else 0
  Events       none
  Cost         O(1)
]]
if ARGV[1] ~= "" and redis.call("GET", KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call("DEL", KEYS[1])
