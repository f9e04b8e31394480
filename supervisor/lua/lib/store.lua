-- store: write a new job and put it where it begins (core.md sections 4.2 and 4.3). Needs lib/queue.
-- A `job` is a table: id, key, name, data, opts, timestamp, delay, priority (text), lifo,
-- parent_key, parent, deduplication, scheduler.

-- Writes the hash and the event `added`.
local function store_job(queue, job)
  local fields = {
    "name", job.name, "data", job.data, "opts", job.opts, "timestamp", job.timestamp,
    "delay", job.delay, "priority", job.priority,
  }
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
  redis.call("XADD", queue.prefix .. "events", "*", "event", "added", "jobId", job.id, "name", job.name)
end

-- Puts it in line. Returns "waiting" or "delayed": the caller marks once, after the last job.
local function place_job(queue, job)
  local prefix = queue.prefix
  local delay = tonumber(job.delay) or 0
  if delay > 0 then
    local due = tonumber(job.timestamp) + delay
    redis.call("ZADD", prefix .. "delayed", delayed_score(queue, due), job.id)
    redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
      "event", "delayed", "jobId", job.id, "delay", string.format("%.0f", due))
    return "delayed"
  end
  put_waiting(queue, job.id, tonumber(job.priority) or 0, job.lifo and "RPUSH" or "LPUSH")
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "waiting", "jobId", job.id)
  return "waiting"
end
