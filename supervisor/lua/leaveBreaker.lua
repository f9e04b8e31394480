--[[
  leaveBreaker: what became of the use of a dependency; opens or closes its breaker.

  Closed: failures within the window are counted, and the last of so many opens it. Half open: the first trial
  that tells decides; a success closes it, a failure opens it for twice as long as before, up to a bound. What
  those tell who came in before it opened changes nothing. Said again with the same token it changes nothing and
  returns the same.

  KEYS[1]      breaker   HASH
  KEYS[2]      breakers  ZSET  names by the epoch ms until when they are kept

  ARGV[1]      now, epoch milliseconds
  ARGV[2]      token of the call that let the job in
  ARGV[3]      "failed", "worked", or "nothing": the use tells nothing of the dependency
  ARGV[4]      how many failures open it
  ARGV[5]      within so many milliseconds
  ARGV[6]      for so many milliseconds
  ARGV[7]      for so many milliseconds at most, when trials go on failing
  ARGV[8]      the breaker's name
  ARGV[9]      for how many milliseconds it is kept after the last change

  Derives      no key beyond KEYS
  Returns      {change, ms it is open for, how often it was opened since it was closed}; change is "opened",
               "closed" or ""
  Events       none
  Cost         O(failures + trials)
]]
--- include lib/breaker
local key, all, now, token, said = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local function told()
  local is = redis.call("HMGET", key, "change", "open_ms", "trips")
  return { is[1], tonumber(is[2] or 0), tonumber(is[3] or 0) }
end

if redis.call("HGET", key, "changed_by") == token then
  return told()
end
local was_trial = redis.call("HDEL", key, "trial:" .. token) == 1
local is_closed = redis.call("HEXISTS", key, "until") == 0
if said == "nothing" or (not is_closed and not was_trial) or (is_closed and said == "worked") then
  return { "", 0, 0 }
end

if said == "worked" then
  forget_trials(key)
  redis.call("HDEL", key, "until", "open_ms", "trips", "opened_on", "failed")
  redis.call("HSET", key, "changed_by", token, "change", "closed")
  keep_breaker(key, all, ARGV[8], now, 0, tonumber(ARGV[9]))
  return told()
end

local most, within_ms, open_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call("HSET", key, "failures", most, "within_ms", within_ms)
local trips = 1
if is_closed then
  local kept = {}
  for ms, who in string.gmatch(redis.call("HGET", key, "failed") or "", "(%d+)-(%S+)") do
    if who ~= token and tonumber(ms) > now - within_ms then
      kept[#kept + 1] = ms .. "-" .. who
    end
  end
  kept[#kept + 1] = ARGV[1] .. "-" .. token
  if #kept < most then
    redis.call("HSET", key, "failed", table.concat(kept, " "))
    keep_breaker(key, all, ARGV[8], now, 0, tonumber(ARGV[9]))
    return { "", 0, 0 }
  end
else
  trips = tonumber(redis.call("HGET", key, "trips")) + 1
  open_ms = math.max(open_ms, math.min(open_ms * 2 ^ math.min(trips - 1, 40), tonumber(ARGV[7])))
end
open_breaker(key, now, open_ms, trips, token)
keep_breaker(key, all, ARGV[8], now, open_ms, tonumber(ARGV[9]))
return told()
