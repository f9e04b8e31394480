-- The state of one circuit breaker, for its three scripts.
--
--   failed      the failures that count, oldest first: "ms-token ms-token ..."; while it is closed
--   until       epoch ms when it lets a trial in; while it is open or half open. Absent: closed
--   open_ms     how long it was opened for, this time
--   trips       how often it was opened since it was last closed
--   trial:<t>   "lock token, a space, lock key" of the job that is the trial t
--   changed_by  the token of the call that opened or closed it last; `change` says which
--   opened_on   epoch ms, of the first opening since it was last closed
--   failures, within_ms  the rule of the last failure, for people
local function forget_trials(key)
  for _, field in ipairs(redis.call("HKEYS", key)) do
    if string.sub(field, 1, 6) == "trial:" then
      redis.call("HDEL", key, field)
    end
  end
end

-- The key lives for `keep_ms` longer than it is open; the list of all breakers as long as one of them.
local function keep_breaker(key, all, name, now, open_ms, keep_ms)
  local ttl = keep_ms + open_ms
  redis.call("PEXPIRE", key, ttl)
  redis.call("ZADD", all, now + ttl, name)
  redis.call("ZREMRANGEBYSCORE", all, "-inf", "(" .. now)
  if redis.call("PTTL", all) < ttl then
    redis.call("PEXPIRE", all, ttl)
  end
end

local function open_breaker(key, now, open_ms, trips, token)
  forget_trials(key)
  redis.call("HDEL", key, "failed")
  redis.call("HSET", key, "until", string.format("%.0f", now + open_ms), "open_ms", open_ms, "trips", trips,
    "changed_by", token, "change", "opened")
  if trips == 1 then
    redis.call("HSET", key, "opened_on", string.format("%.0f", now))
  end
end
