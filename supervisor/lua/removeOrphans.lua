--[[
  removeOrphans: remove what is left of jobs that are in no state, one after the other.

  The caller has looked beforehand, and read the waiting jobs from end to end. What may have changed since is made
  sure of here, in one moment: an id is in no sorted set, not active, not among the jobs that came to either end
  of a list since it was read, and its hash is as it was, so that it has not been through another state
  meanwhile. What a worker holds stays, and so do a scheduler and whatever has a colon in its name and is no job.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys
  ARGV[2..3]   the ids that stood first in wait and in paused when they were read, empty for none
  ARGV[4..]    job ids, each with what its hash was: the values of MARKS, each with a newline behind it

  Derives      every key of the queue and of the jobs
  Returns      how many were removed, or -1 when a list has changed so much that it must be read again
  Events       none
  Cost         O(jobs * active), and 4,000 elements of the lists
]]
--- include lib/queue
--- include lib/retention
local prefix = ARGV[1]
local MARKS = { "timestamp", "delay", "priority", "processedOn", "finishedOn", "ats", "atm", "stc" }
local EDGE = 1000
local ZSETS = { "completed", "failed", "delayed", "prioritized", "waiting-children" }

local at_an_edge = {}

local function is_no_job(id)
  local scheduler = id:match("^repeat:(.*)$")
  local score = scheduler and redis.pcall("ZSCORE", prefix .. "repeat", scheduler)
  return score or (id:find(":", 1, true) and redis.pcall("HEXISTS", prefix .. id, "timestamp") ~= 1)
end

local function is_somewhere(id)
  if redis.call("EXISTS", prefix .. id .. ":lock") == 1 then
    return true
  end
  for _, name in ipairs(ZSETS) do
    -- of another type: who knows what it means, so nothing is removed
    if wrong_type(prefix .. name, "zset") or redis.call("ZSCORE", prefix .. name, id) then
      return true
    end
  end
  return at_an_edge[id] or wrong_type(prefix .. "active", "list") or redis.call("LPOS", prefix .. "active", id)
end

local function is_as_it_was(id, mark)
  local values = redis.pcall("HMGET", prefix .. id, unpack(MARKS))
  if values.err then
    return false
  end
  for i = 1, #MARKS do
    values[i] = (values[i] or "") .. "\n"
  end
  return table.concat(values) == mark
end

-- Whether what stood first then is still so near that everything before it is looked at.
local function look_at_edges(name, head)
  local key = prefix .. name
  if wrong_type(key, "list") then
    return false
  end
  local first, last = redis.call("LRANGE", key, 0, EDGE - 1), redis.call("LRANGE", key, -EDGE, -1)
  local is_near = redis.call("LLEN", key) <= EDGE
  for _, id in ipairs(first) do
    is_near = is_near or id == head
    at_an_edge[id] = true
  end
  for _, id in ipairs(last) do
    at_an_edge[id] = true
  end
  return is_near
end

if not look_at_edges("wait", ARGV[2]) or not look_at_edges("paused", ARGV[3]) then
  return -1
end
local removed = 0
for i = 4, #ARGV, 2 do
  local id, mark = ARGV[i], ARGV[i + 1]
  if not is_no_job(id) and not is_somewhere(id) and is_as_it_was(id, mark) and delete_job(prefix .. id) > 0 then
    removed = removed + 1
  end
end
return removed
