--[[
  addJobs: add jobs of one queue, each standing alone, in one call.

  Every job is checked before its first write, and an error caught all the same is the answer for that one
  only. Markers are set once, after the last job.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      how many events to keep, about; stored when the queue says nothing yet
  ARGV[3..5]   with a bound of the jobs that wait: how many, how many need room now (0 in the calls of a bulk
               after its first), a token for the bulk; else empty
  ARGV[6..]    jobs, eleven texts each: name, data JSON, opts JSON, timestamp, delay ms, priority, 1 for lifo,
               id or empty, parent key or empty, parent JSON or empty, deduplication JSON or empty

  Derives      every key of the queue from the prefix, de:* and dn:* of a deduplication and ox:room among
               them; a parent's dependencies, processed and its queue's keys from the parent
  Returns      one element a job: its id, or that of the job which was there before or holds its
               deduplication id; a negative code (-5 no parent, -7 has another parent, -101 a circle, -102 the
               parent has ended), [-103, how many wait] for all when there is no room, or [-100, what is wrong]
  Events       added, then waiting or delayed; duplicated; deduplicated, removed; of a parent's queue waiting,
               delayed
  Cost         O(jobs)
]]
--- include lib/queue
--- include lib/parent
--- include lib/store
--- include lib/retention
--- include lib/claim
--- include lib/room

local WIDTH, FIRST = 11, 6
local NO_PARENT, OTHER_PARENT, GUILTY, FULL = -5, -7, -100, -103

local queue = open_queue(ARGV[1])
local prefix = queue.prefix
local placed = {}
if queue.unset_max_events then
  queue.max_events = ARGV[2]
end

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
local function meet_again(job, parent)
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

local function trouble_of(job, parent)
  return queue.trouble or wrong_waiting_types(queue)
    or first_wrong_type({ prefix .. "id", "string", prefix .. "delayed", "zset" })
    or (parent and wrong_parent_types(parent))
    or (job.claim and wrong_claim_types(queue, job.claim))
    or (parent and job.id and first_wrong_type({ prefix .. "completed", "zset", prefix .. job.id, "hash" }))
end

local function add(job)
  local parent, trouble = parent_of(job.parent_key, job.parent)
  trouble = trouble or trouble_of(job, parent)
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
    return meet_again(job, parent)
  end
  if job.claim then
    local owner = claimed_by(queue, job.claim, job)
    if owner then
      return owner
    end
    job.deduplication = job.claim.id
  end
  store_job(queue, job)
  placed[place_job(queue, job)] = true
  if parent then
    redis.call("SADD", parent.key .. ":dependencies", job.key)
  end
  return job.id
end

local results = {}
local full = ARGV[3] ~= "" and without_room(queue, {
  most = tonumber(ARGV[3]), needed = tonumber(ARGV[4]), token = ARGV[5], here = (#ARGV - FIRST + 1) / WIDTH,
})
if full then
  for _ = FIRST, #ARGV, WIDTH do
    results[#results + 1] = { FULL, tostring(full) }
  end
  return results
end
for at = FIRST, #ARGV, WIDTH do
  local ran, result = pcall(add, read_job(at))
  local refused = not ran and refused_to_all(text_of(result))
  if refused then
    return { err = refused }
  end
  results[#results + 1] = ran and result or { GUILTY, text_of(result) }
end
if placed.delayed then
  mark_delay(queue)
end
if placed.waiting then
  wake(queue)
end
return results
