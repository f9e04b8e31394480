--[[
  upsertScheduler: store a job scheduler and the job of its next run, in place of those that were there.

  The pending job of the same scheduler is replaced, wherever it waits; one that runs is let alone. While `every`
  stays as it was the pending time stays too. No event tells of the job that was replaced.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      scheduler id
  ARGV[3]      now, epoch milliseconds
  ARGV[4]      every, milliseconds; empty with a cron pattern
  ARGV[5]      the next time by the cron pattern; empty with every
  ARGV[6..7]   offset in milliseconds, start date; empty when not given
  ARGV[8..13]  of the jobs: name, data JSON, opts JSON without id and delay, JSON text of the id up to the time,
               priority, 1 for lifo
  ARGV[14..]   fields of the scheduler's hash, name and value

  Derives      every key of the queue from the prefix
  Returns      [job id, delay in milliseconds, the next time], or -10 (cron: that run's job is there already),
               -11 (every: all the next ones are), or [-100, what is wrong]
  Events       added, then delayed or waiting
  Cost         O(waiting), and O(log(schedulers))
]]
--- include lib/queue
--- include lib/store
--- include lib/place
--- include lib/scheduler
local COLLISION, SLOTS_BUSY, GUILTY = -10, -11, -100

local queue = open_queue(ARGV[1])
local prefix, scheduler, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local every, cron_next = tonumber(ARGV[4]), tonumber(ARGV[5])
local offset, start = tonumber(ARGV[6]), tonumber(ARGV[7])
local key = prefix .. "repeat:" .. scheduler

-- Takes the pending job away; false when there is none that waits.
local function replace_pending(id)
  local job = prefix .. id
  if redis.call("EXISTS", job) == 0 then
    return false
  end
  local found = redis.call("ZREM", prefix .. "delayed", id) + redis.call("ZREM", prefix .. "prioritized", id)
  if found == 0 then
    -- BullMQ 5 moves them to `paused` while the queue is paused, BullMQ 6 does not.
    found = redis.call("LREM", prefix .. "wait", 1, id) + redis.call("LREM", prefix .. "paused", 1, id)
  end
  if found == 0 then
    return false
  end
  redis.call("DEL", job, job .. ":logs", job .. ":dependencies", job .. ":processed", job .. ":failed",
    job .. ":unsuccessful")
  return true
end

local function upsert()
  local score = redis.call("ZSCORE", prefix .. "repeat", scheduler)
  local old = redis.call("HMGET", key, "every", "ic", "offset")
  local prev = score and tonumber(score)
  local same = prev and every and tonumber(old[1]) == every
  local next = cron_next or next_slot(same and prev or nil, every, offset or 0, start, now)
  local replaced = prev and replace_pending(iteration_id(scheduler, prev))
  local kept_offset = offset or tonumber(old[3])
  if replaced and same then
    next = prev
  elseif not replaced then
    local phase = every and next % every or 0
    kept_offset = offset and offset ~= 0 and offset or phase
  end
  if every then
    next = free_slot(queue, scheduler, next, every)
    if not next then
      return SLOTS_BUSY
    end
  elseif redis.call("EXISTS", prefix .. iteration_id(scheduler, next)) == 1 then
    return COLLISION
  end
  redis.call("ZADD", prefix .. "repeat", millis_text(next), scheduler)
  redis.call("DEL", key)
  redis.call("HSET", key, "ic", old[2] or "1", "offset", millis_text(kept_offset or 0), unpack(ARGV, 14))
  local run = {
    name = ARGV[8], data = ARGV[9], opts = ARGV[10], id_json = ARGV[11], priority = ARGV[12],
    lifo = ARGV[13] == "1", cron = cron_next ~= nil,
  }
  local id, delay = add_iteration(queue, scheduler, next, run, now)
  return { id, delay, millis_text(next) }
end

local trouble = scheduler_trouble(queue, scheduler)
if trouble then
  return { GUILTY, trouble }
end
return upsert()
