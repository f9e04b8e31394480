-- retry: a finished job waits again (core.md section 11.1). Needs lib/queue and lib/parent.
-- Its crashes are forgotten, so that it may have as many again; its verdicts stay, as its stack traces do.

-- The parent hears of this child's end a second time, so it forgets the first.
local function wait_for_again(parent, child_key, state)
  local forgotten
  if state == "failed" then
    forgotten = redis.call("ZREM", parent.key .. ":unsuccessful", child_key) == 1
      or redis.call("HDEL", parent.key .. ":failed", child_key) == 1
  else
    forgotten = redis.call("HDEL", parent.key .. ":processed", child_key) == 1
  end
  if forgotten then
    redis.call("SADD", parent.key .. ":dependencies", child_key)
  end
end

-- Returns 0, -1 without a hash, -3 when it is not in `state`, or nil and what is wrong. Wakes nobody.
local function retry_job(queue, id, state, resets)
  local prefix, key = queue.prefix, queue.prefix .. id
  if redis.call("EXISTS", key) == 0 then
    return -1
  end
  local fields = redis.pcall("HMGET", key, "priority", "opts", "parentKey", "parent")
  if fields.err then
    return nil, "the key " .. key .. " is not a hash"
  end
  local parent = parent_of(fields[3], fields[4])
  local trouble = wrong_waiting_types(queue) or (parent and wrong_parent_types(parent))
  if trouble then
    return nil, trouble
  end
  if redis.call("ZREM", prefix .. state, id) == 0 then
    return -3
  end
  redis.call("HDEL", key, "finishedOn", "processedOn", state == "failed" and "failedReason" or "returnvalue",
    "ox:crashes", "ox:bigger")
  if resets.made then
    redis.call("HDEL", key, "atm", "attemptsMade")
  end
  if resets.started then
    redis.call("HDEL", key, "ats")
  end
  local readable, opts = pcall(cjson.decode, fields[2] or "{}")
  local lifo = readable and type(opts) == "table" and opts.lifo == true
  put_waiting(queue, id, tonumber(fields[1]) or 0, lifo and "RPUSH" or "LPUSH")
  if parent and redis.call("EXISTS", parent.key) == 1 then
    wait_for_again(parent, key, state)
  end
  keep_max_events(queue)
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "waiting", "jobId", id, "prev", state)
  return 0
end
