-- removal: jobs go away in bulk (management.md section 0.2). Needs lib/queue, lib/parent and lib/retention.

-- The iteration for which a job scheduler waits: without it there would be no next one.
local function is_scheduled(queue, id)
  local scheduler, due = id:match("^repeat:(.*):(%d+)$")
  local score = scheduler and redis.pcall("ZSCORE", queue.prefix .. "repeat", scheduler)
  return type(score) == "string" and tonumber(score) == tonumber(due)
end

local function let_claim_go(queue, id, deduplication)
  local owner_key = queue.prefix .. "de:" .. deduplication
  if redis.pcall("GET", owner_key) == id then
    redis.call("DEL", owner_key, queue.prefix .. "dn:" .. deduplication)
  end
end

-- Nobody shall wait for a child that is gone. A parent of the same queue whose last child it was goes with it;
-- one of another queue goes on.
local function leave_parent(queue, parent, child_key, now)
  while parent and not wrong_parent_types(parent) do
    if redis.call("EXISTS", parent.key) == 0
      or redis.call("SREM", parent.key .. ":dependencies", child_key) == 0
      or redis.call("EXISTS", parent.key .. ":dependencies") == 1
      or redis.call("ZREM", parent.prefix .. "waiting-children", parent.id) == 0 then
      return
    end
    if parent.prefix ~= queue.prefix then
      place_parent(parent, now)
      return
    end
    local fields = redis.call("HMGET", parent.key, "parentKey", "parent", "deid")
    if fields[3] then
      let_claim_go(queue, parent.id, fields[3])
    end
    delete_job(parent.key)
    child_key = parent.key
    parent = parent_of(fields[1], fields[2])
  end
end

-- Everything of the job but its place in a list, which is the caller's.
local function remove_job(queue, id, now)
  local key = queue.prefix .. id
  local fields = redis.pcall("HMGET", key, "parentKey", "parent", "deid")
  if fields.err then
    return -- no job: not ours to remove
  end
  if fields[1] then
    leave_parent(queue, parent_of(fields[1], fields[2]), key, now)
  end
  if fields[3] then
    let_claim_go(queue, id, fields[3])
  end
  delete_job(key)
end

-- Lua hands at most some thousand values to a call.
local function in_parts(values, call)
  for first = 1, #values, 1000 do
    call(unpack(values, first, math.min(first + 999, #values)))
  end
end
