--[[
  addFlow: add trees of jobs, over any queues, all of them or none.

  Everything is looked at before the first write: the parents that are to be there, those that another parent
  holds, those that have ended, lines that would close to a circle, the types of all keys. A child that was
  there before is taken into the tree; one that has completed counts as done. After the last job each parent
  of which no child is pending is released. A parent may name a child that a later call will add: it waits for
  that one from now on, so it cannot run before all calls are made, nor when the producer dies before the last.

  KEYS[1..]    meta  HASH  of each queue

  ARGV[1]      now, epoch milliseconds: a released parent's delay counts from it
  ARGV[2]      how many events to keep, about; stored where a queue says nothing yet
  ARGV[3..]    jobs, parents before their children, fourteen texts each: prefix of its queue's keys with its
               last colon, name, data JSON, opts JSON, timestamp, delay ms, priority, 1 for lifo, id,
               parent key or empty, parent JSON or empty, 1 when it has children, deduplication JSON or
               empty (of a job alone), and of a parent the key of a child to come or empty, of a child 1
               when it is left alone once its parent knows how it ended

  Derives      every key of the queues from the prefixes; de:* and dn:* of a deduplication; a parent's keys and
               its queue's from the parent
  Returns      [[position, id]..], the jobs (from 0) for which another of the same deduplication id stands;
               or [position, code, text]: nothing was written, and the job at this position is why. -5 no
               parent, -7 has another parent, -101 a circle, -102 it or its parent has ended, -100 with what
               is wrong
  Events       added, then waiting-children, waiting or delayed; duplicated; deduplicated, removed; of a
               released parent waiting, delayed
  Cost         O(jobs x depth)
]]
--- include lib/queue
--- include lib/parent
--- include lib/store
--- include lib/place
--- include lib/retention
--- include lib/claim

local WIDTH = 14
local NO_PARENT, OTHER_PARENT, GUILTY = -5, -7, -100

local now, max_events = tonumber(ARGV[1]), ARGV[2]
local queues = {}
local links = {} -- by a job's key its parent's, for the jobs of this call

local function queue_of(prefix)
  if not queues[prefix] then
    queues[prefix] = open_queue(prefix)
    queues[prefix].placed = {}
    if queues[prefix].unset_max_events then
      queues[prefix].max_events = max_events
    end
  end
  return queues[prefix]
end

local function read_job(at)
  local function given(offset)
    local text = ARGV[at + offset]
    return text ~= "" and text or nil
  end
  local job = {
    prefix = ARGV[at], name = ARGV[at + 1], data = ARGV[at + 2], opts = ARGV[at + 3],
    timestamp = ARGV[at + 4], delay = ARGV[at + 5], priority = ARGV[at + 6], lifo = ARGV[at + 7] == "1",
    id = ARGV[at + 8], parent_key = given(9), parent = given(10), has_children = ARGV[at + 11] == "1",
    claim = given(12) and cjson.decode(given(12)),
  }
  job.to_come = job.has_children and given(13) or nil
  job.once = not job.has_children and given(13) ~= nil
  job.key = job.prefix .. job.id
  return job
end

local function trouble_of(job)
  local queue, prefix = queue_of(job.prefix), job.prefix
  return queue.trouble or wrong_waiting_types(queue)
    or first_wrong_type({
      prefix .. "id", "string", prefix .. "delayed", "zset", prefix .. "completed", "zset",
      prefix .. "waiting-children", "zset", job.key, "hash",
    })
    or (job.above and wrong_parent_types(job.above))
    or (job.claim and wrong_claim_types(queue, job.claim))
end

-- What speaks against a job that is there already.
local function refused_again(job)
  if job.has_children and has_ended({ prefix = job.prefix, id = job.id }) then
    return PARENT_ENDED
  end
  if job.above then
    local old = redis.call("HGET", job.key, "parentKey")
    if old and old ~= job.above.key and redis.call("EXISTS", old) == 1 then
      return OTHER_PARENT
    end
  end
  return nil
end

-- The code, and a text for GUILTY, that speaks against this job; nil when it can be added.
-- `added` are the keys of the jobs before it.
local function refused(job, added)
  local trouble
  job.above, trouble = parent_of(job.parent_key, job.parent)
  trouble = trouble or trouble_of(job)
  if trouble then
    return GUILTY, trouble
  end
  job.is_there = redis.call("EXISTS", job.key) == 1
  local above = job.above
  if above and not added[above.key] and redis.call("EXISTS", above.key) == 0 then
    return NO_PARENT
  end
  local code = job.is_there and refused_again(job)
  return code or (above and refused_child(above, job.is_there and job.key or nil, links))
end

local function look_at_all(jobs)
  local added = {}
  for position, job in ipairs(jobs) do
    local code, text = refused(job, added)
    if code then
      return { position - 1, code, text or "" }
    end
    added[job.key] = true
    links[job.key] = job.parent_key
  end
  return nil
end

local function meet_again(queue, job)
  local above = job.above
  if above then
    if redis.call("ZSCORE", job.prefix .. "completed", job.id) then
      redis.call("HSET", above.key .. ":processed", job.key,
        redis.call("HGET", job.key, "returnvalue") or "null")
      redis.call("SREM", above.key .. ":dependencies", job.key)
    else
      redis.call("SADD", above.key .. ":dependencies", job.key)
    end
    redis.call("HSET", job.key, "parentKey", job.parent_key, "parent", job.parent)
  end
  redis.call("XADD", job.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "duplicated", "jobId", job.id)
end

-- Its parent knows how it ended, though its hash may be gone since.
local function is_settled(job)
  local key = job.above.key
  return redis.call("HEXISTS", key .. ":processed", job.key) == 1
    or redis.call("HEXISTS", key .. ":failed", job.key) == 1
    or redis.call("ZSCORE", key .. ":unsuccessful", job.key)
end

-- The id of the job that stands for this one; nil when it was added, or was there.
local function add(job)
  if job.once and is_settled(job) then
    return nil
  end
  local queue = queue_of(job.prefix)
  redis.call("INCR", job.prefix .. "id")
  keep_max_events(queue)
  if job.is_there then
    meet_again(queue, job)
    return nil
  end
  if job.claim then
    local owner = claimed_by(queue, job.claim, job)
    if owner then
      return owner
    end
    job.deduplication = job.claim.id
  end
  store_job(queue, job)
  if job.to_come then
    redis.call("SADD", job.key .. ":dependencies", job.to_come)
  end
  if job.has_children then
    redis.call("ZADD", job.prefix .. "waiting-children", job.timestamp, job.id)
    redis.call("XADD", job.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
      "event", "waiting-children", "jobId", job.id)
  else
    queue.placed[place_job(queue, job)] = true
  end
  if job.above then
    redis.call("SADD", job.above.key .. ":dependencies", job.key)
  end
  return nil
end

local jobs, stand_ins = {}, {}
for at = 3, #ARGV, WIDTH do
  jobs[#jobs + 1] = read_job(at)
end
local refusal = look_at_all(jobs)
if refusal then
  return refusal
end
for position, job in ipairs(jobs) do
  local owner = add(job)
  if owner then
    stand_ins[#stand_ins + 1] = { position - 1, owner }
  end
end
for _, queue in pairs(queues) do
  if queue.placed.delayed then
    mark_delay(queue)
  end
  if queue.placed.waiting then
    wake(queue)
  end
end
for _, job in ipairs(jobs) do
  if job.above then
    release_if_last(job.above, now) -- deferred to here, where all children of a parent are known
  end
end
return stand_ins
