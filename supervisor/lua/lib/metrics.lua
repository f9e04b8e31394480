-- metrics: one point a minute of jobs that ended (core.md section 7.4). `kind` is completed or failed.

local function count_metric(queue, kind, points, now)
  local key = queue.prefix .. "metrics:" .. kind
  local before = redis.call("HINCRBY", key, "count", 1) - 1
  local last = redis.call("HMGET", key, "prevTS", "prevCount")
  local last_on = tonumber(last[1])
  if not last_on then
    redis.call("HSET", key, "prevTS", now, "prevCount", 0)
    return
  end
  local minutes = math.min(math.floor(now / 60000) - math.floor(last_on / 60000), points)
  if minutes <= 0 then
    return
  end
  local list = key .. ":data"
  redis.call("LPUSH", list, before - (tonumber(last[2]) or 0))
  for _ = 2, minutes do
    redis.call("LPUSH", list, 0)
  end
  redis.call("LTRIM", list, 0, points - 1)
  redis.call("HSET", key, "prevCount", before, "prevTS", now)
end
