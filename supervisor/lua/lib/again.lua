-- again: what a call finds that was sent before and whose reply was lost. Needs lib/codes and lib/record.

-- Jobs that the earlier sending took: their locks hold our token. Their time starts anew.
local function find_taken(call, queue)
  for _, id in ipairs(redis.call("LRANGE", queue.active, 0, -1)) do
    local key = queue.prefix .. id
    local lock = key .. ":lock"
    if redis.pcall("GET", lock) == call.token then
      local row = read_job(key, id)
      if row then
        redis.call("SET", lock, call.token, "PX", call.lock_ms)
        call.jobs[#call.jobs + 1] = row
      end
    end
  end
end

-- What is seen of an outcome that may not be written.
local function seen_instead(call, outcome, code)
  if code == CODE.NO_JOB then
    return "gone"
  end
  if outcome.ends then
    local fields = redis.pcall("HMGET", outcome.key, "finishedOn")
    if fields[1] == call.now_text then
      return "written"
    end
  end
  return "not ours"
end
