-- parent: who waits for whom, and what a child's end does to the job that waits (core.md 9.3 and 9.4).
-- Needs lib/queue. A `parent` is a table: key, id, queue, policy.

local POLICIES = { "fpof", "cpof", "idof", "rdof" }

-- From the child's own fields. Returns the parent, or nil and a sentence when they cannot be understood;
-- nil alone when there is none.
local function parent_of(parent_key, parent_json)
  if not parent_key and not parent_json then
    return nil
  end
  if not parent_json then
    local prefix, id = parent_key:match("^(.*:)([^:]*)$")
    if not prefix then
      return nil, "the job's parentKey cannot be understood"
    end
    return { key = parent_key, id = id, prefix = prefix }
  end
  local readable, told = pcall(cjson.decode, parent_json)
  if not readable or type(told) ~= "table"
    or type(told.id) ~= "string" or type(told.queueKey) ~= "string" then
    return nil, "the job's parent field cannot be understood"
  end
  local parent = { id = told.id, prefix = told.queueKey .. ":" }
  parent.key = parent_key or (parent.prefix .. parent.id)
  for _, name in ipairs(POLICIES) do
    if told[name] == true then
      parent.policy = name
      break
    end
  end
  return parent
end

-- Every key of the parent and its queue that a child's end may touch.
local function wrong_parent_types(parent)
  local key, prefix = parent.key, parent.prefix
  return first_wrong_type({
    key, "hash", key .. ":dependencies", "set", key .. ":processed", "hash",
    key .. ":unsuccessful", "zset", key .. ":failed", "hash",
    prefix .. "meta", "hash", prefix .. "waiting-children", "zset", prefix .. "delayed", "zset",
    prefix .. "failed", "zset", prefix .. "active", "list",
  }) or wrong_waiting_types({ prefix = prefix })
end

local CYCLE, PARENT_ENDED = -101, -102
local LONGEST_LINE = 1000

local function has_ended(parent)
  return type(redis.pcall("ZSCORE", parent.prefix .. "completed", parent.id)) == "string"
    or type(redis.pcall("ZSCORE", parent.prefix .. "failed", parent.id)) == "string"
end

-- Whether `wanted` is `key` itself or waits for it: its parents are followed upwards.
-- `links` knows parents that are not written yet.
local function is_below(key, wanted, links)
  for _ = 1, LONGEST_LINE do
    if key == wanted then
      return true
    end
    local above = links[key] or redis.pcall("HGET", key, "parentKey")
    if type(above) ~= "string" then
      return false
    end
    key = above
  end
  return false
end

-- Why `parent` cannot get the child `child_key` (nil when it has no key yet); nil when it can.
local function refused_child(parent, child_key, links)
  if has_ended(parent)
    and (not child_key or redis.pcall("HGET", child_key, "parentKey") ~= parent.key) then
    return PARENT_ENDED
  end
  if child_key and is_below(parent.key, child_key, links) then
    return CYCLE
  end
  return nil
end

-- The parent has left waiting-children (or delayed); put it where it goes next.
local function place_parent(parent, now)
  local fields = redis.call("HMGET", parent.key, "delay", "priority")
  local delay, priority = tonumber(fields[1]) or 0, tonumber(fields[2]) or 0
  local queue = open_queue(parent.prefix)
  local events = parent.prefix .. "events"
  if delay > 0 then
    local due = now + delay
    redis.call("ZADD", parent.prefix .. "delayed", due * 4096, parent.id)
    redis.call("XADD", events, "*", "event", "delayed", "jobId", parent.id,
      "delay", string.format("%.0f", due))
    mark_delay(queue)
    return
  end
  put_waiting(queue, parent.id, priority, "RPUSH")
  wake(queue)
  redis.call("XADD", events, "*", "event", "waiting", "jobId", parent.id, "prev", "waiting-children")
end

local function release_parent(parent, now)
  if redis.call("EXISTS", parent.key) == 1
    and redis.call("ZREM", parent.prefix .. "waiting-children", parent.id) == 1 then
    place_parent(parent, now)
  end
end

local function release_if_last(parent, now)
  if redis.call("EXISTS", parent.key .. ":dependencies") == 0 then
    release_parent(parent, now)
  end
end

local function child_completed(parent, child_key, value, now)
  if redis.call("SREM", parent.key .. ":dependencies", child_key) == 1 then
    redis.call("HSET", parent.key .. ":processed", child_key, value)
    release_if_last(parent, now)
  end
end

-- failParentOnFailure: the parent fails too, by the next worker that fetches it.
local function fail_parent(parent, child_key, now)
  redis.call("ZADD", parent.key .. ":unsuccessful", now, child_key)
  if redis.call("EXISTS", parent.key) == 0 then
    return
  end
  local reason = "child " .. child_key .. " failed"
  local was_waiting = redis.call("ZREM", parent.prefix .. "waiting-children", parent.id) == 1
  local was_delayed = not was_waiting and redis.call("ZREM", parent.prefix .. "delayed", parent.id) == 1
  if was_delayed then
    redis.call("HSET", parent.key, "delay", "0")
  end
  if was_waiting or was_delayed then
    redis.call("HSET", parent.key, "defa", reason)
    place_parent(parent, now)
  elseif not redis.call("ZSCORE", parent.prefix .. "failed", parent.id) then
    redis.call("HSET", parent.key, "defa", reason)
  end
end

local function child_failed(parent, child_key, reason, now)
  local policy = parent.policy
  if not policy or redis.call("SREM", parent.key .. ":dependencies", child_key) == 0 then
    return
  end
  if policy == "fpof" then
    fail_parent(parent, child_key, now)
  elseif policy == "cpof" then
    redis.call("HSET", parent.key .. ":failed", child_key, reason)
    release_parent(parent, now) -- at once, even with other children pending
  else
    release_if_last(parent, now)
    if policy == "idof" then
      redis.call("HSET", parent.key .. ":failed", child_key, reason)
    end
  end
end

-- A child's hash goes away: nobody shall wait for it. Delay and priority of the parent do not count here.
local function detach_child(parent, child_key)
  if redis.call("SREM", parent.key .. ":dependencies", child_key) == 0
    or redis.call("EXISTS", parent.key .. ":dependencies") == 1
    or redis.call("ZREM", parent.prefix .. "waiting-children", parent.id) == 0 then
    return
  end
  local queue = open_queue(parent.prefix)
  local delay = redis.call("HGET", parent.key, "delay")
  if delay and delay ~= "0" then
    redis.call("HSET", parent.key, "delay", "0") -- else it would be delayed when it has waited for others
  end
  redis.call("RPUSH", waiting_list(queue), parent.id)
  wake(queue)
  redis.call("XADD", parent.prefix .. "events", "*",
    "event", "waiting", "jobId", parent.id, "prev", "waiting-children")
end
