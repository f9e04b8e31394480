-- ends: the end of a job in full, and what it brings with it for others. Needs lib/queue, lib/codes, lib/completed,
-- lib/parent, lib/retention, lib/deduplication, lib/stacktrace, lib/metrics and lib/dead_letter.

-- Sets the outcome's parent; or returns why it cannot be told of this end.
local function find_parent(outcome, fields)
  local trouble
  outcome.parent, trouble = parent_of(fields[4], fields[5])
  return trouble or (outcome.parent and wrong_parent_types(outcome.parent))
end

-- A queue of dead letters that cannot take one must not keep the job from its end; the job itself stays then.
local function copy_or_keep(call, queue, outcome, attempts_made)
  local ran, trouble = pcall(copy_to_dead_letters, queue, outcome, attempts_made, call.now_text)
  if not ran or trouble then
    outcome.not_copied = ran and trouble or text_of(trouble)
    if outcome.keep.count == 0 then
      outcome.keep = {}
    end
  end
end

-- Those who wait for this end are told: by the deduplication id, the parent, the queue of dead letters.
local function tell_others(call, queue, outcome, fields, attempts_made)
  local parent = outcome.parent
  if fields[3] then
    pcall(release_deduplication, queue, outcome.id, fields[3], call.now) -- must not be this job's affair
  end
  if parent and outcome.kind == "F" then
    child_failed(parent, outcome.key, outcome.text, call.now)
  elseif parent then
    child_completed(parent, outcome.key, outcome.text, call.now)
  end
  if outcome.dead_letter then
    copy_or_keep(call, queue, outcome, attempts_made)
  end
  call.plain = false -- a child or a parent of one of these jobs may have come or gone
end

local function trim_events(call, queue)
  if not call.trimmed then
    redis.call("XTRIM", queue.events, "MAXLEN", "~", queue.max_events)
    call.trimmed = true
  end
end

local function delete_ended(outcome)
  delete_job(outcome.key)
  if outcome.parent then
    detach_child(outcome.parent, outcome.key)
  end
end

local function store_failed(call, outcome, fields, attempts_made)
  redis.call("HSET", outcome.key, "atm", attempts_made, "failedReason", outcome.text,
    "stacktrace", push_stack(fields[7], outcome.stack, outcome.stack_limit), "finishedOn", call.now_text)
  redis.call("HDEL", outcome.key, "defa")
end

-- Who asked for its end need not wait any longer; and the job may be run again one day, unasked.
local function forget_cancel(call, queue, id)
  local requests = queue.prefix .. "ox:cancel"
  if call.cancels == nil then
    call.cancels = redis.call("EXISTS", requests) == 1
  end
  if call.cancels then
    redis.pcall("HDEL", requests, id)
  end
end

-- The code by which the job's children keep it from its end, or nothing.
local function kept_by_children(outcome)
  local key, kind = outcome.key, outcome.kind
  if kind == "C" and redis.call("EXISTS", key .. ":dependencies", key .. ":unsuccessful") > 0 then
    return redis.call("SCARD", key .. ":dependencies") > 0 and CODE.PENDING_CHILDREN or CODE.FAILED_CHILDREN
  elseif kind == "W" and redis.call("EXISTS", key .. ":unsuccessful") == 1 then
    return CODE.FAILED_CHILDREN
  end
  return nil
end

-- Kept with what became of it, or deleted.
local function keep_or_delete(call, queue, outcome, fields, attempts_made)
  local keep = outcome.keep
  if keep.count == 0 then
    delete_ended(outcome)
    return
  end
  local finished = queue.prefix .. (outcome.kind == "F" and "failed" or "completed")
  redis.call("ZADD", finished, call.now_text, outcome.id)
  if outcome.kind == "F" then
    store_failed(call, outcome, fields, attempts_made)
  else
    store_completed(call, outcome, attempts_made)
  end
  if keep.count or keep.age then
    pcall(trim_finished, queue, finished, keep, call.now) -- what is wrong with old ones must not stop this one
  end
end

local function tell_failed(queue, outcome, attempts_made)
  redis.call("XADD", queue.events, "*",
    "event", "failed", "jobId", outcome.id, "failedReason", outcome.text, "prev", "active")
  if tonumber(attempts_made) >= outcome.attempts then
    redis.call("XADD", queue.events, "*",
      "event", "retries-exhausted", "jobId", outcome.id, "attemptsMade", attempts_made)
  end
end

-- The last step of a job's life. `call` holds what is common to the whole script call.
local function finish(call, queue, outcome, fields)
  local attempts_made = one_more(fields[2])
  trim_events(call, queue)
  if fields[3] or outcome.parent or outcome.dead_letter then
    tell_others(call, queue, outcome, fields, attempts_made)
  end
  keep_or_delete(call, queue, outcome, fields, attempts_made)
  if outcome.kind == "C" then
    tell_completed(call, queue, outcome)
  else
    tell_failed(queue, outcome, attempts_made)
  end
  if call.metrics > 0 then
    pcall(count_metric, queue, outcome.kind == "C" and "completed" or "failed", call.metrics, call.now)
  end
  if not call.plain then
    forget_cancel(call, queue, outcome.id)
  end
  call.finished = true
end
