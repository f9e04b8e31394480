--[[
  trimEvents: forget one slice of a queue's oldest events, until about so many are left.

  Redis forgets whole nodes of a stream and at most some thousand entries a call.

  KEYS[1]      events  STREAM
  ARGV[1]      how many to keep, about

  Derives      no key beyond KEYS
  Returns      how many are forgotten; 0 when there is no more to do
  Events       none
  Cost         O(events forgotten)
]]
return redis.call("XTRIM", KEYS[1], "MAXLEN", "~", ARGV[1])
