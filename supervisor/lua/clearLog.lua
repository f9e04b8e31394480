--[[
  clearLog: forget the rows of a job's log but the newest.

  A script for the one write that it is: clients send writes as scripts alone.

  KEYS[1]      logs  LIST   oldest left
  ARGV[1]      how many rows stay

  Derives      no key beyond KEYS
  Returns      0
  Events       none
  Cost         O(rows forgotten)
]]
if ARGV[1] == "0" then
  redis.call("UNLINK", KEYS[1])
else
  redis.call("LTRIM", KEYS[1], -tonumber(ARGV[1]), -1)
end
return 0
