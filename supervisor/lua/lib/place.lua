-- place: put a new job, whose hash is there, where it begins (core.md sections 4.2 and 4.3). Needs lib/queue.

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
