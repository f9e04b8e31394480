-- claim: a job that is added claims its deduplication id (management.md section 2).
-- Needs lib/queue and lib/retention. A `claim` is the option as it is stored: id, ttl, extend, replace,
-- keepLastIfActive, reschedule.

local function wrong_claim_types(queue, claim)
  local prefix = queue.prefix
  return first_wrong_type({
    prefix .. "de:" .. claim.id, "string", prefix .. "dn:" .. claim.id, "hash", prefix .. "active", "list",
  })
end

-- With keepLastIfActive the id is held as long as its owner runs, so it does not expire.
local function own_id(claim, owner_key, id)
  local ttl = tonumber(claim.ttl) or 0
  if ttl > 0 and not claim.keepLastIfActive then
    redis.call("SET", owner_key, id, "PX", ttl)
  else
    redis.call("SET", owner_key, id)
  end
end

local function tell_deduplicated(queue, claim, job_id, other_id)
  redis.call("XADD", queue.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "deduplicated", "jobId", job_id, "deduplicationId", claim.id, "deduplicatedJobId", other_id)
end

-- The delayed owner makes room for the new job.
local function replace_owner(queue, claim, owner_key, owner, job)
  delete_job(queue.prefix .. owner)
  redis.call("XADD", queue.prefix .. "events", "*", "event", "removed", "jobId", owner, "prev", "delayed")
  tell_deduplicated(queue, claim, job.id, owner)
  redis.call("DEL", queue.prefix .. "dn:" .. claim.id)
  if (tonumber(claim.ttl) or 0) > 0 and not claim.extend and not claim.keepLastIfActive then
    redis.call("SET", owner_key, job.id, "KEEPTTL")
  else
    own_id(claim, owner_key, job.id)
  end
end

-- The owner runs: the latest job that came meanwhile becomes one of its own when it ends.
local function hold_back(queue, claim, owner_key, job)
  local held_key = queue.prefix .. "dn:" .. claim.id
  redis.call("DEL", held_key)
  redis.call("HSET", held_key, "name", job.name, "data", job.data, "opts", job.opts, "jid", job.id)
  redis.call("PERSIST", owner_key)
end

-- The delayed owner keeps its id and data and becomes due when the new job would have been.
local function move_owner(queue, owner, job)
  local prefix = queue.prefix
  local delay = tonumber(job.delay) or 0
  local due = tonumber(job.timestamp) + math.max(delay, 0)
  redis.call("HSET", prefix .. owner, "delay", job.delay)
  redis.call("ZADD", prefix .. "delayed", delayed_score(queue, due), owner)
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "delayed", "jobId", owner, "delay", string.format("%.0f", due))
  mark_delay(queue)
end

-- nil when the job is to be added; else the id of the one that stands for it.
local function claimed_by(queue, claim, job)
  local prefix = queue.prefix
  local owner_key = prefix .. "de:" .. claim.id
  local owner = redis.call("GET", owner_key)
  if not owner then
    own_id(claim, owner_key, job.id)
    return nil
  end
  if claim.replace and redis.call("ZREM", prefix .. "delayed", owner) == 1 then
    replace_owner(queue, claim, owner_key, owner, job)
    return nil
  end
  if redis.call("PTTL", owner_key) == -1 and redis.call("EXISTS", prefix .. owner) == 0 then
    redis.call("DEL", prefix .. "dn:" .. claim.id) -- the owner was removed by hand
    own_id(claim, owner_key, job.id)
    return nil
  end
  if claim.keepLastIfActive and redis.call("LPOS", prefix .. "active", owner) then
    hold_back(queue, claim, owner_key, job)
  elseif claim.extend and not claim.replace and (tonumber(claim.ttl) or 0) > 0 then
    own_id(claim, owner_key, owner)
  end
  tell_deduplicated(queue, claim, owner, job.id)
  if claim.reschedule and not claim.replace and redis.call("ZSCORE", prefix .. "delayed", owner) then
    move_owner(queue, owner, job)
  end
  return owner
end
