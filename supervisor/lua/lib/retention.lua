-- retention: how many finished jobs stay (core.md section 7.2). Needs lib/queue and lib/parent.

local TRIM_AT_ONCE = 1000

-- How many keys there were. UNLINK: a log of a million rows is freed by another thread.
local function delete_job(key)
  return redis.call("UNLINK", key, key .. ":logs", key .. ":dependencies", key .. ":processed",
    key .. ":failed", key .. ":unsuccessful")
end

-- Remove jobs that finished long ago. Whatever is wrong with one of them is no matter of the job that is
-- finishing now, so each goes as far as it can.
local function remove_old(queue, ids)
  for _, id in ipairs(ids) do
    local key = queue.prefix .. id
    local fields = redis.pcall("HMGET", key, "parentKey", "parent")
    if not fields.err then
      local parent = parent_of(fields[1], fields[2])
      if parent and not wrong_parent_types(parent) then
        detach_child(parent, key)
      end
    end
    delete_job(key)
  end
end

-- `keep`: count (nil or negative for all), age in seconds, limit by age.
local function trim_finished(queue, finished, keep, now)
  if keep.age then
    local limit = keep.limit or TRIM_AT_ONCE
    local old = redis.call("ZREVRANGEBYSCORE", finished, now - keep.age * 1000, "-inf", "LIMIT", 0, limit)
    if #old > 0 then
      remove_old(queue, old)
      for _, id in ipairs(old) do
        redis.call("ZREM", finished, id)
      end
    end
  end
  if keep.count and keep.count > 0 then
    -- The oldest first and a thousand at most: every finish after this one goes on where we stop.
    local excess = math.min(redis.call("ZCARD", finished) - keep.count, TRIM_AT_ONCE)
    if excess > 0 then
      remove_old(queue, redis.call("ZRANGE", finished, 0, excess - 1))
      redis.call("ZREMRANGEBYRANK", finished, 0, excess - 1)
    end
  end
end
