--[[
  extendLocks: renew the locks of many jobs of one queue in one round trip.

  A lock is renewed only while it still holds our token. A job whose lock is
  gone, or holds another token, may already belong to another worker; its id
  is returned and nothing of it is touched.

  KEYS[1]      stalled   SET     ids suspected by the last stalled check
  KEYS[2..]    lock      STRING  one per job, in the order of the pairs below

  ARGV[1]      lock duration, milliseconds
  ARGV[2..]    pairs: token, job id

  Derives      no key beyond KEYS
  Returns      array of the job ids whose lock is lost; empty when all is well
  Events       none
  Cost         O(jobs)
]]
local stalled = KEYS[1]
local duration = ARGV[1]
local lost = {}

for i = 2, #KEYS do
  local token, id = ARGV[2 * i - 2], ARGV[2 * i - 1]
  if redis.pcall("GET", KEYS[i]) == token then
    redis.call("SET", KEYS[i], token, "PX", duration)
    redis.pcall("SREM", stalled, id) -- renewed, so no longer suspected; a corrupt key must not cost a lock
  else
    lost[#lost + 1] = id
  end
end

return lost
