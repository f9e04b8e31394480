-- store: write the hash of a new job (core.md section 4.2). Needs lib/view.
-- A `job` is a table: id, key, name, data, opts, timestamp, delay, priority (text), lifo,
-- parent_key, parent, deduplication, scheduler.

local function store_also(job)
  local fields = {}
  local function also(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  also("parentKey", job.parent_key)
  also("parent", job.parent)
  also("rjk", job.scheduler)
  also("deid", job.deduplication)
  redis.call("HSET", job.key, unpack(fields))
end

-- Writes the hash and the event `added`.
local function store_job(queue, job)
  redis.call("HSET", job.key, "name", job.name, "data", job.data, "opts", job.opts,
    "timestamp", job.timestamp, "delay", job.delay, "priority", job.priority)
  if job.parent_key or job.parent or job.scheduler or job.deduplication then
    store_also(job)
  end
  redis.call("XADD", queue.events, "*", "event", "added", "jobId", job.id, "name", job.name)
end
