--[[
  nextIteration: a job of a scheduler was fetched: add the job of the run after it.

  Only the scheduler's pending run does that, so that a retry, a stalled run, a second worker or this same call
  sent again adds nothing.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      scheduler id
  ARGV[3]      id of the job that was fetched
  ARGV[4]      now, epoch milliseconds
  ARGV[5]      the next time by the cron pattern; empty with every
  ARGV[6]      every as that job has it, where the scheduler's hash has none; empty with a cron pattern
  ARGV[7]      end date; empty for none
  ARGV[8..11]  of the next job: opts JSON without id and delay, JSON text of the id up to the time, priority,
               1 for lifo

  Derives      every key of the queue from the prefix
  Returns      the id of the job that was added; 0 when there is nothing to add; -10 when that run's job is there
               already (cron: ask for a later one), -11 (every: all the next ones are), or [-100, what is wrong]
  Events       added, then delayed or waiting
  Cost         O(log(schedulers))
]]
--- include lib/queue
--- include lib/store
--- include lib/place
--- include lib/scheduler
local NOTHING, COLLISION, SLOTS_BUSY, GUILTY = 0, -10, -11, -100

local queue = open_queue(ARGV[1])
local prefix, scheduler, producer, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local cron_next, last = tonumber(ARGV[5]), tonumber(ARGV[7])
local key = prefix .. "repeat:" .. scheduler

local function time_after(prev, record)
  if cron_next then
    if redis.call("EXISTS", prefix .. iteration_id(scheduler, cron_next)) == 1 then
      return nil, COLLISION
    end
    return cron_next
  end
  local every = tonumber(record[3]) or tonumber(ARGV[6])
  if not every or every < 1 then
    return nil, NOTHING
  end
  local next = next_slot(prev, every, tonumber(record[5]) or 0, tonumber(record[4]), now)
  next = free_slot(queue, scheduler, next, every)
  return next, SLOTS_BUSY
end

local function iterate()
  local score = redis.call("ZSCORE", prefix .. "repeat", scheduler)
  local prev = score and tonumber(score)
  if not prev or producer ~= iteration_id(scheduler, prev) then
    return NOTHING
  end
  local record = redis.call("HMGET", key, "name", "data", "every", "startDate", "offset")
  local next, refusal = time_after(prev, record)
  if not next then
    return refusal
  end
  if last and next > last then
    return NOTHING
  end
  local of_producer = redis.call("HMGET", prefix .. producer, "name", "data", "deid")
  local data = record[2]
  if not data then
    -- A repeatable of BullMQ 5 keeps its data in its jobs alone: a scheduler's hash has an offset.
    data = not record[5] and of_producer[2] or "{}"
  end
  redis.call("ZADD", prefix .. "repeat", millis_text(next), scheduler)
  redis.call("HINCRBY", key, "ic", 1)
  return (add_iteration(queue, scheduler, next, {
    name = record[1] or of_producer[1] or "", data = data, opts = ARGV[8], id_json = ARGV[9],
    priority = ARGV[10], lifo = ARGV[11] == "1", cron = cron_next ~= nil, deduplication = of_producer[3],
  }, now))
end

local trouble = scheduler_trouble(queue, scheduler) or wrong_type(prefix .. producer, "hash")
if trouble then
  return { GUILTY, trouble }
end
return iterate()
