--[[
  removeScheduler: forget a job scheduler, and the job of its next run while that is delayed.

  A job of it that waits already, or runs, is let alone: it runs, and adds no other.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      scheduler id

  Derives      repeat, delayed, events, the scheduler's hash, the keys of its pending job
  Returns      1 when there was one, 0 when there was none, or [-100, what is wrong]
  Events       removed, of the pending job
  Cost         O(log(delayed))
]]
--- include lib/queue
local queue = open_queue(ARGV[1])
local prefix, scheduler = ARGV[1], ARGV[2]

local function remove()
  local score = redis.call("ZSCORE", prefix .. "repeat", scheduler)
  if score then
    local id = "repeat:" .. scheduler .. ":" .. string.format("%.0f", tonumber(score))
    if redis.call("ZREM", prefix .. "delayed", id) == 1 then
      local job = prefix .. id
      redis.call("DEL", job, job .. ":logs", job .. ":dependencies", job .. ":processed", job .. ":failed",
        job .. ":unsuccessful")
      redis.call("XADD", prefix .. "events", "*", "event", "removed", "jobId", id, "prev", "delayed")
    end
  end
  if redis.call("ZREM", prefix .. "repeat", scheduler) == 0 then
    return 0
  end
  redis.call("DEL", prefix .. "repeat:" .. scheduler)
  return 1
end

local trouble = first_wrong_type({
  prefix .. "repeat", "zset", prefix .. "repeat:" .. scheduler, "hash", prefix .. "delayed", "zset",
  prefix .. "events", "stream",
}) or queue.trouble
if trouble then
  return { -100, trouble }
end
return remove()
