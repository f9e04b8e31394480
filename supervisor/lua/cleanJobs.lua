--[[
  cleanJobs: remove one slice of the jobs in one state that are older than a moment.

  Finished jobs and those that wait for children are taken by their score, the oldest first. The others are looked
  at one after the other, the next to run first; what stays is told as a place, from which the next slice goes
  on. Workers take jobs from that end meanwhile, so the place is the last job that was looked at and stayed.

  Redis takes nothing out of the middle of a long list but by walking there element by element. So what is to go
  is carried along, as a block next to the place: each job that stays changes places with the job of the block that
  stands nearest to the next to run. Those that stay keep their order, and after each slice every id is in the
  list exactly once. Near an end of the list the block is taken out.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys; where: completed, failed, waiting-children, delayed, prioritized,
               wait, paused or active
  ARGV[3..5]   the moment and now in milliseconds, how many to look at
  ARGV[6..7]   how many may be removed, how many the slices before have removed
  ARGV[8..10]  the place: how many stayed, the last of them or empty; how many are carried behind it

  Derives      every key of the queue and of the jobs; a parent's keys from the job's hash
  Returns      [ids removed, how many stayed so far, the last of them, how many were looked at, how many are
               carried], or [-100, what is wrong]
  Events       cleaned; of a parent's queue waiting, delayed
  Cost         O(jobs looked at), and at most 20,000 elements of a list
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/removal
local queue = open_queue(ARGV[1])
local state, key = ARGV[2], ARGV[1] .. ARGV[2]
local moment, now, width = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local most, removed_before = tonumber(ARGV[6]), tonumber(ARGV[7])
local stayed, last, carried = tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local is_first = removed_before == 0 and last == ""

-- What tells the age of a job; the first that is there counts.
local FINISHED, STARTED, MADE = "finishedOn", "processedOn", "timestamp"
local AGES = {
  delayed = { STARTED, MADE }, prioritized = { MADE },
  wait = { FINISHED, STARTED, MADE }, paused = { FINISHED, STARTED, MADE }, active = { FINISHED, STARTED, MADE },
}
local is_list = state == "wait" or state == "paused" or state == "active"
local FURTHER, TRIES = 512, 16
local NEAR = 20000 -- elements that are walked over to take some out: a millisecond

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

local known_old = {}

local function look_through_zset()
  local rank = last ~= "" and redis.call("ZRANK", key, last)
  stayed = rank and rank + 1 or stayed
  local ids, gone, looked = redis.call("ZRANGE", key, stayed, stayed + width - 1), {}, 0
  for _, id in ipairs(ids) do
    if #gone == most then
      break
    end
    looked = looked + 1
    if is_old(id) then
      gone[#gone + 1] = id
    else
      stayed, last = stayed + 1, id
    end
  end
  in_parts(gone, function(...)
    redis.call("ZREM", key, ...)
  end)
  return gone, looked
end

-- Elements of the list by their places from its end, which is 1.
local function standing(first, final)
  if first < 1 or final < first then
    return {}
  end
  local found, ids = redis.call("LRANGE", key, -final, -first), {}
  for i = #found, 1, -1 do
    ids[#ids + 1] = found[i]
  end
  return ids
end

-- Somebody may have taken some of the block, or the last before it: then it is looked at once more.
local function find_block()
  stayed = last ~= "" and place_in_list() or 0
  local first, final = standing(stayed + 1, stayed + 1)[1], standing(stayed + carried, stayed + carried)[1]
  if carried == 0 or (first and final and is_old(first) and is_old(final)) then
    return 0
  end
  local lost = carried
  carried = 0
  return lost
end

local function carry(ids)
  local first = stayed + carried
  local block = standing(stayed + 1, stayed + math.min(carried, #ids)) -- what changes places, in its order
  local next_of_block, changed = 1, {}
  for i, id in ipairs(ids) do
    if carried < most and is_old(id) then
      known_old[id] = true
      carried = carried + 1
      block[#block + 1] = id
    else
      stayed, last = stayed + 1, id
      if carried > 0 then
        local moved = block[next_of_block]
        next_of_block = next_of_block + 1
        block[#block + 1] = moved
        changed[stayed], changed[first + i] = id, moved
      end
    end
  end
  for place, id in pairs(changed) do
    redis.call("LSET", key, -place, id)
  end
end

-- Take some of the block out, from its side that is nearer to an end, when that is near enough.
local function let_block_go()
  local behind = redis.call("LLEN", key) - stayed - carried
  local from_end = stayed <= behind
  local gone = {}
  if carried == 0 or math.min(stayed, behind) > NEAR then
    return gone
  end
  local count = math.min(carried, width)
  local first = from_end and stayed + 1 or stayed + carried - count + 1
  for i, id in ipairs(standing(first, first + count - 1)) do
    if known_old[id] or is_old(id) then
      gone[#gone + 1] = id
      redis.call("LSET", key, -(first + i - 1), "")
    end
  end
  carried = carried - count
  if #gone > 0 then
    redis.call("LREM", key, from_end and -#gone or #gone, "")
  end
  return gone
end

local function look_through_list()
  local lost = find_block()
  local looked = 0
  if carried < width or math.min(stayed, redis.call("LLEN", key) - stayed - carried) > NEAR then
    local ids = standing(stayed + carried + 1, stayed + carried + width)
    looked = #ids
    carry(ids)
  end
  return let_block_go(), looked - lost
end

local function take_by_score()
  local gone = redis.call("ZRANGEBYSCORE", key, 0, moment, "LIMIT", 0, math.min(width, most))
  in_parts(gone, function(...)
    redis.call("ZREM", key, ...)
  end)
  return gone, #gone
end

local trouble = wrong_type(key, is_list and "list" or "zset") or wrong_type(queue.prefix .. "events", "stream")
if trouble then
  return { -100, trouble }
end
local by_score = AGES[state] == nil
local look_through = is_list and look_through_list or look_through_zset
local gone, looked = (by_score and take_by_score or look_through)()
for _, id in ipairs(gone) do
  remove_job(queue, id, now)
end
if #gone > 0 or is_first then
  redis.call("XADD", queue.prefix .. "events", "*", "event", "cleaned", "count", #gone)
end
return { gone, stayed, last, looked, carried }
