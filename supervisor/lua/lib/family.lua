-- family: a job goes away with the jobs it waits for (management.md section 3.5).
-- Needs lib/queue, lib/parent and lib/retention. A `job` is a table: prefix, id, key.

local STATES = {
  "completed", "ZREM", "waiting-children", "ZREM", "delayed", "ZREM", "failed", "ZREM",
  "prioritized", "ZREM", "wait", "LREM", "paused", "LREM", "active", "LREM",
}
local ALL_CHILDREN = { "processed", "failed", "unsuccessful", "dependencies" }
local PENDING_ONLY = { "dependencies" }

-- A child by its full key. Ids may have colons in them, and so may prefixes: a child whose keys begin as its
-- parent's is found by that, any other by its last two colons.
local function child_of(parent, key)
  local shared = parent.prefix:match("^(.*:)[^:]*:$")
  if shared and key:sub(1, #shared) == shared then
    local queue, id = key:sub(#shared + 1):match("^([^:]*:)(.+)$")
    if id and select(2, id:gsub(":", "")) ~= 1 then
      return { prefix = shared .. queue, id = id, key = key }
    end
  end
  local prefix, id = key:match("^(.*:)([^:]*)$")
  return { prefix = prefix or "", id = id or key, key = key }
end

local function children_of(job, groups)
  local found = {}
  for _, group in ipairs(groups) do
    local key = job.key .. ":" .. group
    local kind = redis.call("TYPE", key).ok
    local members = {}
    if kind == "set" then
      members = redis.call("SMEMBERS", key)
    elseif kind == "zset" then
      members = redis.call("ZRANGE", key, 0, -1)
    elseif kind == "hash" then
      members = redis.call("HKEYS", key)
    end
    for _, member in ipairs(members) do
      found[#found + 1] = child_of(job, member)
    end
  end
  return found
end

local function is_locked(job)
  return redis.call("EXISTS", job.key .. ":lock") == 1
end

-- Whether a worker holds the job or one below it. `seen` ends lines that close to a circle.
local function is_held_below(job, seen)
  if seen[job.key] then
    return false
  end
  seen[job.key] = true
  if is_locked(job) then
    return true
  end
  for _, child in ipairs(children_of(job, PENDING_ONLY)) do
    if is_held_below(child, seen) then
      return true
    end
  end
  return false
end

local function take_off(job)
  for i = 1, #STATES, 2 do
    local key, verb = job.prefix .. STATES[i], STATES[i + 1]
    if not wrong_type(key, verb == "ZREM" and "zset" or "list") then
      local removed
      if verb == "ZREM" then
        removed = redis.call("ZREM", key, job.id)
      else
        removed = redis.call("LREM", key, 1, job.id)
      end
      if removed > 0 then
        return STATES[i]
      end
    end
  end
  return "unknown"
end

local function fields_of(job)
  local fields = redis.pcall("HMGET", job.key, "parentKey", "parent", "deid")
  return fields.err and { false, false, false } or fields
end

-- Removes the job itself, wherever it is, and tells it. `was` is the state it was taken out of before, if it
-- was: then it is not looked for again, which in a long list takes long.
local function remove_alone(job, fields, was)
  local parent = parent_of(fields[1], fields[2])
  if parent and redis.call("EXISTS", parent.key) == 1 and not wrong_parent_types(parent) then
    detach_child(parent, job.key)
  end
  local state = was or take_off(job)
  if fields[3] then
    local owner = job.prefix .. "de:" .. fields[3]
    if redis.pcall("GET", owner) == job.id then
      redis.call("DEL", owner, job.prefix .. "dn:" .. fields[3])
    end
  end
  if delete_job(job.key) > 0 then
    local queue = open_queue(job.prefix)
    keep_max_events(queue)
    redis.call("XADD", job.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
      "event", "removed", "jobId", job.id, "prev", state)
    if state == "active" then
      wake(queue) -- there may have been too many active for the global concurrency
    end
  end
end

-- Whether the job and all below it are more than one call should remove: too many, or beside lists too long.
local function is_large(job, groups, room, seen)
  seen = seen or {}
  local jobs, elements = 0, 0
  local function count(one)
    seen[one.key] = true
    jobs = jobs + 1
    local wait = one.prefix .. "wait"
    if not wrong_type(wait, "list") then
      elements = elements + redis.call("LLEN", wait)
    end
    for _, group in ipairs(groups) do
      local key = one.key .. ":" .. group
      local kind = redis.call("TYPE", key).ok
      local size = kind == "set" and "SCARD" or kind == "hash" and "HLEN" or kind == "zset" and "ZCARD"
      if size and redis.call(size, key) > room.jobs then
        return true
      end
    end
    for _, child in ipairs(children_of(one, groups)) do
      if not seen[child.key] and (jobs > room.jobs or elements > room.elements or count(child)) then
        return true
      end
    end
    return jobs > 1 and (jobs > room.jobs or elements > room.elements)
  end
  return count(job)
end

local ONE_CALL = { jobs = 100, elements = 100000 }

-- Children first. With `spare_busy` those that a worker holds and those that failed stay where they are.
-- A child that another job has got since is that one's.
local function remove_children(job, groups, spare_busy, seen)
  for _, child in ipairs(children_of(job, groups)) do
    local fields = fields_of(child)
    local spared = spare_busy
      and (is_locked(child) or redis.pcall("ZSCORE", child.prefix .. "failed", child.id))
    if not seen[child.key] and not spared and fields[1] == job.key then
      seen[child.key] = true
      remove_children(child, groups, spare_busy, seen)
      remove_alone(child, fields)
    end
  end
end
