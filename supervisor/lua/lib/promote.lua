-- promote: due delayed jobs start to wait (core.md section 5.2 step 2). Needs lib/queue.

local PROMOTE_AT_ONCE = 1000

-- Ids without a usable hash are not put back anywhere; they are added to `dropped` with the reason.
local function promote_due(queue, now, dropped)
  local prefix = queue.prefix
  local due = redis.call("ZRANGEBYSCORE", prefix .. "delayed", 0, (now + 1) * 4096 - 1,
    "LIMIT", 0, PROMOTE_AT_ONCE)
  if #due == 0 then
    return
  end
  local waiting = waiting_list(queue)
  redis.call("ZREM", prefix .. "delayed", unpack(due))
  for _, id in ipairs(due) do
    local key = prefix .. id
    local fields = redis.pcall("HMGET", key, "priority", "name", "data")
    if fields.err then
      dropped[#dropped + 1] = id
      dropped[#dropped + 1] = "its key is not a hash"
    elseif not fields[1] and not fields[2] and not fields[3] then
      dropped[#dropped + 1] = id
      dropped[#dropped + 1] = "it has no hash"
    else
      local priority = tonumber(fields[1]) or 0
      if priority == 0 then
        redis.call("LPUSH", waiting, id)
      else
        redis.call("ZADD", prefix .. "prioritized", priority_score(queue, priority), id)
      end
      redis.call("XADD", prefix .. "events", "*", "event", "waiting", "jobId", id, "prev", "delayed")
      redis.call("HSET", key, "delay", "0")
    end
  end
  wake(queue)
end
