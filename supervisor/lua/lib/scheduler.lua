-- scheduler: when a job scheduler runs next, and the job of that run (management.md sections 1.3 to 1.5).
-- Needs lib/queue and lib/store.

local SLOTS_TRIED = 33

local function millis_text(millis)
  return string.format("%.0f", millis)
end

local function iteration_id(scheduler, millis)
  return "repeat:" .. scheduler .. ":" .. millis_text(millis)
end

-- The next of the times that lie `every` milliseconds apart. `prev` is the time before it, or nil at first;
-- then `start` counts. Times that were missed are left out.
local function next_slot(prev, every, offset, start, now)
  if prev then
    local next = prev + every
    if next < now then
      local slot = math.floor(now / every) * every + offset
      next = slot <= now and slot + every or slot
    end
    return math.floor(next)
  end
  if start then
    return math.floor(math.max(start, now))
  end
  if offset > 0 then
    local slot = math.floor(now / every) * every + offset
    return math.floor(slot <= now and slot + every or slot)
  end
  return now
end

-- The first of the times from `next` on whose job is not there yet; nil when too many in a row are.
local function free_slot(queue, scheduler, next, every)
  for _ = 1, SLOTS_TRIED do
    if redis.call("EXISTS", queue.prefix .. iteration_id(scheduler, next)) == 0 then
      return next
    end
    next = next + every
  end
  return nil
end

local function scheduler_trouble(queue, scheduler)
  local prefix = queue.prefix
  return queue.trouble or wrong_waiting_types(queue) or first_wrong_type({
    prefix .. "repeat", "zset", prefix .. "repeat:" .. scheduler, "hash", prefix .. "id", "string",
    prefix .. "delayed", "zset", prefix .. "active", "list",
  })
end

-- Stores the job of the run at `next` and puts it in line. `run` is a table: name, data, opts (JSON that lacks id
-- and delay), id_json (JSON text of its id up to the time), priority, lifo, cron. Returns its id and its delay.
local function add_iteration(queue, scheduler, next, run, now)
  local delay = math.max(0, next - now)
  local millis = millis_text(next)
  local parts = {
    string.sub(run.opts, 1, -2), ',"jobId":', run.id_json, millis, '","delay":', millis_text(delay),
    run.cron and ',"prevMillis":' .. millis or "", "}",
  }
  local job = {
    id = iteration_id(scheduler, next), name = run.name, data = run.data, opts = table.concat(parts),
    timestamp = millis_text(now), delay = millis_text(delay), priority = run.priority, lifo = run.lifo,
    scheduler = scheduler, deduplication = run.deduplication,
  }
  job.key = queue.prefix .. job.id
  redis.call("INCR", queue.prefix .. "id")
  keep_max_events(queue)
  store_job(queue, job)
  if place_job(queue, job) == "delayed" then
    mark_delay(queue)
  else
    wake(queue)
  end
  return job.id, delay
end
