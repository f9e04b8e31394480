-- adding: jobs of any kind, one after the other, each standing alone. Needs lib/store.
--- include lib/queue
--- include lib/place
--- include lib/parent
--- include lib/retention
--- include lib/claim
--- include lib/room

local NO_PARENT, OTHER_PARENT, GUILTY, FULL = -5, -7, -100, -103

local function read_job(at)
  local function given(offset)
    local text = ARGV[at + offset]
    return text ~= "" and text or nil
  end
  return {
    name = ARGV[at], data = ARGV[at + 1], opts = ARGV[at + 2], timestamp = ARGV[at + 3],
    delay = ARGV[at + 4], priority = ARGV[at + 5], lifo = ARGV[at + 6] == "1",
    id = given(7), parent_key = given(8), parent = given(9),
    claim = given(10) and cjson.decode(given(10)),
  }
end

-- The job is there already. It may get a parent it did not have, or whose hash is gone.
local function meet_again(queue, job, parent)
  local prefix = queue.prefix
  if parent then
    local old = redis.call("HMGET", job.key, "parentKey", "returnvalue")
    if old[1] and old[1] ~= parent.key and redis.call("EXISTS", old[1]) == 1 then
      return OTHER_PARENT
    end
    if redis.call("ZSCORE", prefix .. "completed", job.id) then
      redis.call("HSET", parent.key .. ":processed", job.key, old[2] or "null")
      redis.call("SREM", parent.key .. ":dependencies", job.key)
      local clock = redis.call("TIME") -- only here: a release counts a parent's delay from now
      release_if_last(parent, clock[1] * 1000 + math.floor(clock[2] / 1000))
    else
      redis.call("SADD", parent.key .. ":dependencies", job.key)
    end
    redis.call("HSET", job.key, "parentKey", job.parent_key, "parent", job.parent)
  end
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "duplicated", "jobId", job.id)
  return job.id
end

local function trouble_of(queue, job, parent)
  local prefix = queue.prefix
  return queue.trouble or wrong_waiting_types(queue)
    or first_wrong_type({ prefix .. "id", "string", prefix .. "delayed", "zset" })
    or (parent and wrong_parent_types(parent))
    or (job.claim and wrong_claim_types(queue, job.claim))
    or (parent and job.id and first_wrong_type({ prefix .. "completed", "zset", prefix .. job.id, "hash" }))
end

-- One job's answer.
local function add(queue, job)
  local prefix = queue.prefix
  local parent, trouble = parent_of(job.parent_key, job.parent)
  trouble = trouble or trouble_of(queue, job, parent)
  if trouble then
    return { GUILTY, trouble }
  end
  if parent and redis.call("EXISTS", parent.key) == 0 then
    return NO_PARENT
  end
  local refusal = parent and refused_child(parent, job.id and prefix .. job.id, {})
  if refusal then
    return refusal
  end
  local counted = redis.call("INCR", prefix .. "id")
  keep_max_events(queue)
  job.id = job.id or string.format("%.0f", counted)
  job.key = prefix .. job.id
  if redis.call("EXISTS", job.key) == 1 then
    return meet_again(queue, job, parent)
  end
  if job.claim then
    local owner = claimed_by(queue, job.claim, job)
    if owner then
      return owner
    end
    job.deduplication = job.claim.id
  end
  store_job(queue, job)
  queue.placed[place_job(queue, job)] = true
  if parent then
    redis.call("SADD", parent.key .. ":dependencies", job.key)
  end
  return job.id
end

-- The answers to all, or an error that is one for all.
local function add_each(queue, first, width)
  local results = {}
  queue.placed = {}
  local full = ARGV[3] ~= "" and without_room(queue, {
    most = tonumber(ARGV[3]), needed = tonumber(ARGV[4]), token = ARGV[5], here = (#ARGV - first + 1) / width,
  })
  if full then
    for _ = first, #ARGV, width do
      results[#results + 1] = { FULL, tostring(full) }
    end
    return results
  end
  for at = first, #ARGV, width do
    local ran, result = pcall(add, queue, read_job(at))
    local refused = not ran and refused_to_all(text_of(result))
    if refused then
      return { err = refused }
    end
    results[#results + 1] = ran and result or { GUILTY, text_of(result) }
  end
  if queue.placed.delayed then
    mark_delay(queue)
  end
  if queue.placed.waiting then
    wake(queue)
  end
  return results
end
