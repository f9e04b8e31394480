--[[
  removeOrphans: remove what is left of jobs that are in no state, one after the other.

  The caller has looked beforehand; here it is made sure of in one moment. What a worker holds stays, and so do
  a scheduler and whatever has a colon in its name and is no job.

  KEYS[1]      meta  HASH
  ARGV[1]      prefix of the queue's keys
  ARGV[2..]    job ids

  Derives      every key of the queue and of the jobs
  Returns      how many were removed
  Events       none
  Cost         O(jobs * (waiting + active))
]]
--- include lib/queue
--- include lib/retention
local prefix = ARGV[1]
local LISTS = { "wait", "active", "paused" }
local ZSETS = { "completed", "failed", "delayed", "prioritized", "waiting-children" }

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
  for _, name in ipairs(LISTS) do
    if wrong_type(prefix .. name, "list") or redis.call("LPOS", prefix .. name, id) then
      return true
    end
  end
  return false
end

local removed = 0
for i = 2, #ARGV do
  if not is_no_job(ARGV[i]) and not is_somewhere(ARGV[i]) and delete_job(prefix .. ARGV[i]) > 0 then
    removed = removed + 1
  end
end
return removed
