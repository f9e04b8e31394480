--[[
  cleanJobs: remove one slice of the jobs in one state that are older than a moment.

  Finished jobs and those that wait for children are taken by their score, the oldest first. The others are looked
  at one after the other, the next to run first; what stays is told as a place, from which the next slice goes
  on. Workers take jobs from that end meanwhile, so the place is the last job that was looked at and stayed.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys; where: completed, failed, waiting-children, delayed, prioritized,
               wait, paused or active
  ARGV[3..5]   the moment and now in milliseconds, how many to look at
  ARGV[6..7]   how many may be removed, how many the slices before have removed
  ARGV[8..9]   the place: how many stayed, the last of them or empty

  Derives      every key of the queue and of the jobs; a parent's keys from the job's hash
  Returns      [ids removed, how many stayed so far, the last of them, how many were looked at], or
               [-100, what is wrong]
  Events       cleaned; of a parent's queue waiting, delayed
  Cost         O(jobs looked at); in a list also its shorter part from the place to an end
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/removal
local queue = open_queue(ARGV[1])
local state, key = ARGV[2], ARGV[1] .. ARGV[2]
local moment, now, width = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local most, removed_before = tonumber(ARGV[6]), tonumber(ARGV[7])
local stayed, last = tonumber(ARGV[8]), ARGV[9]
local is_first = removed_before == 0 and last == ""

-- What tells the age of a job; the first that is there counts.
local FINISHED, STARTED, MADE = "finishedOn", "processedOn", "timestamp"
local AGES = {
  delayed = { STARTED, MADE }, prioritized = { MADE },
  wait = { FINISHED, STARTED, MADE }, paused = { FINISHED, STARTED, MADE }, active = { FINISHED, STARTED, MADE },
}
local is_list = state == "wait" or state == "paused" or state == "active"
local FURTHER, TRIES = 512, 16

local function is_old(id)
  local job_key = queue.prefix .. id
  if is_scheduled(queue, id) or (state == "active" and redis.call("EXISTS", job_key .. ":lock") == 1) then
    return false
  end
  local times = redis.pcall("HMGET", job_key, unpack(AGES[state]))
  if times.err then
    return false
  end
  for _, time in ipairs(AGES[state]) do
    local value = table.remove(times, 1)
    if value then
      return (tonumber(value) or 0) <= moment
    end
  end
  return true
end

-- How many stand between the end of the list and the last one that stayed, itself counted.
local function place_in_list()
  local from = math.min(stayed, redis.call("LLEN", key))
  for _ = 1, TRIES do
    if from < 1 then
      return 0
    end
    local seen = redis.call("LRANGE", key, -from, -math.max(from - FURTHER + 1, 1))
    for i, id in ipairs(seen) do
      if id == last then
        return from - i + 1
      end
    end
    from = from - #seen
  end
  return stayed
end

-- Ids to look at, the next to run first.
local function window()
  if is_list then
    stayed = last ~= "" and place_in_list() or 0
    local found, ids = redis.call("LRANGE", key, -(stayed + width), -(stayed + 1)), {}
    for i = #found, 1, -1 do
      ids[#ids + 1] = found[i]
    end
    return ids
  end
  local rank = last ~= "" and redis.call("ZRANK", key, last)
  stayed = rank and rank + 1 or stayed
  return redis.call("ZRANGE", key, stayed, stayed + width - 1)
end

local function take_off(places, ids)
  if not is_list then
    in_parts(ids, function(...)
      redis.call("ZREM", key, ...)
    end)
    return
  end
  for _, place in ipairs(places) do
    redis.call("LSET", key, -place, "")
  end
  if #places > 0 then
    local from_end = places[#places] * 2 < redis.call("LLEN", key)
    redis.call("LREM", key, from_end and -#places or #places, "")
  end
end

local function look_through()
  local ids, places, gone, looked = window(), {}, {}, 0
  local before = stayed
  for i, id in ipairs(ids) do
    if #gone == most then
      break
    end
    looked = i
    if is_old(id) then
      gone[#gone + 1] = id
      places[#places + 1] = before + i
    else
      stayed, last = stayed + 1, id
    end
  end
  take_off(places, gone)
  return gone, looked
end

local function take_by_score()
  local gone = redis.call("ZRANGEBYSCORE", key, 0, moment, "LIMIT", 0, math.min(width, most))
  take_off({}, gone)
  return gone, #gone
end

local trouble = wrong_type(key, is_list and "list" or "zset") or wrong_type(queue.prefix .. "events", "stream")
if trouble then
  return { -100, trouble }
end
local by_score = AGES[state] == nil
local gone, looked = (by_score and take_by_score or look_through)()
for _, id in ipairs(gone) do
  remove_job(queue, id, now)
end
if #gone > 0 or is_first then
  redis.call("XADD", queue.prefix .. "events", "*", "event", "cleaned", "count", #gone)
end
return { gone, stayed, last, looked }
