--[[
  enterBreaker: may this job use the dependency now?

  Closed: yes. Open: no, and when to come back. Half open, which is what an open one becomes when its time is
  over: yes for so many trials at once, no for all others. A trial's permission ends with the lock of its job, so
  that a runner or a master that died holds nobody up. Said again with the same token, it is the same trial.

  KEYS[1]      breaker  HASH

  ARGV[1]      now, epoch milliseconds
  ARGV[2]      token of this call
  ARGV[3]      key of the job's lock
  ARGV[4]      token of the job's lock
  ARGV[5]      how many trials at once
  ARGV[6]      a random number from 0 to 1, so that those who wait do not come back together

  Derives      the locks of the jobs that are trials, as they were told by this script
  Returns      {1} come in, {2} come in as a trial, {0, ms} come back so much later
  Events       none
  Cost         O(trials)
]]
--- include lib/breaker
local key, now, token = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local state = redis.call("HMGET", key, "until", "open_ms")
if not state[1] then
  return { 1 }
end
local left, open_ms = tonumber(state[1]) - now, tonumber(state[2])
local spread = math.floor(tonumber(ARGV[6]) * open_ms / 2)
if left > 0 then
  return { 0, left + spread }
end

local fields = redis.call("HGETALL", key)
local trials = 0
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 6) == "trial:" then
    local lock_token, lock = string.match(fields[i + 1], "^(%S+) (.*)$")
    if redis.call("GET", lock) ~= lock_token then
      redis.call("HDEL", key, fields[i]) -- its job is not run any more, and it told nothing
    elseif fields[i] == "trial:" .. token then
      return { 2 }
    else
      trials = trials + 1
    end
  end
end
if trials >= tonumber(ARGV[5]) then
  return { 0, math.ceil(open_ms / 10) + spread }
end
redis.call("HSET", key, "trial:" .. token, ARGV[4] .. " " .. ARGV[3])
return { 2 }
