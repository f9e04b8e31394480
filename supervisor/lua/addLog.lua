--[[
  addLog: append one row to a job's log.

  KEYS[1]      job   HASH
  KEYS[2]      logs  LIST   oldest left
  ARGV[1]      the row
  ARGV[2]      how many rows stay; 0 for all

  Derives      no key beyond KEYS
  Returns      how many rows there are now, or -1 without a hash
  Events       none
  Cost         O(1)
]]
if redis.call("EXISTS", KEYS[1]) == 0 then
  return -1
end
local rows = redis.call("RPUSH", KEYS[2], ARGV[1])
local keep = tonumber(ARGV[2])
if keep > 0 and rows > keep then
  redis.call("LTRIM", KEYS[2], -keep, -1)
  return keep
end
return rows
