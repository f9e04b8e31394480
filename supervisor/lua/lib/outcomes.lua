-- outcomes: what becomes of an active job (core.md sections 7.1, 7.6 to 7.8 and 9.5).
-- Needs lib/queue, lib/promote, lib/parent, lib/retention, lib/store, lib/deduplication, lib/stacktrace,
-- lib/metrics, lib/dead_letter, lib/verdict.
--
-- Each outcome is looked at before its first write: the hash, the children, the lock, the types of all it will
-- touch. The first write is one that Redis does not refuse when memory is short (LREM), and with it the rest
-- of the script is allowed.

local DONE, NO_JOB, NO_LOCK, NOT_IN_STATE = 0, -1, -2, -3
local PENDING_CHILDREN, OTHER_LOCK, FAILED_CHILDREN, GUILTY = -4, -6, -9, -100

local function tell_parent(call, outcome)
  if outcome.kind == "F" then
    child_failed(outcome.parent, outcome.key, outcome.text, call.now)
  else
    child_completed(outcome.parent, outcome.key, outcome.text, call.now)
  end
end

-- Kept with what became of it, or deleted.
local function keep_or_delete(call, queue, outcome, fields, attempts_made)
  local key, keep = outcome.key, outcome.keep
  if keep.count == 0 then
    delete_job(key)
    if outcome.parent then
      detach_child(outcome.parent, key)
    end
    return
  end
  local finished = queue.prefix .. outcome.state
  redis.call("ZADD", finished, call.now, outcome.id)
  if outcome.kind == "F" then
    redis.call("HSET", key, "atm", attempts_made, "failedReason", outcome.text,
      "stacktrace", push_stack(fields[7], outcome.stack, outcome.stack_limit), "finishedOn", call.now_text)
    redis.call("HDEL", key, "defa")
  else
    redis.call("HSET", key, "atm", attempts_made, "returnvalue", outcome.text, "finishedOn", call.now_text)
  end
  if keep.count or keep.age then
    pcall(trim_finished, queue, finished, keep, call.now) -- what is wrong with old ones must not stop this one
  end
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

-- The last step of a job's life. `call` holds what is common to the whole script call.
local function finish(call, queue, outcome, fields)
  local id, events = outcome.id, queue.prefix .. "events"
  local failed = outcome.kind == "F"
  local attempts_made = (tonumber(fields[2]) or 0) + 1
  outcome.state = failed and "failed" or "completed"
  if not call.trimmed then
    redis.call("XTRIM", events, "MAXLEN", "~", queue.max_events)
    call.trimmed = true
  end
  if fields[3] then
    pcall(release_deduplication, queue, id, fields[3], call.now) -- neither must another job's affair
  end
  if outcome.parent then
    tell_parent(call, outcome)
  end
  if outcome.dead_letter then
    copy_or_keep(call, queue, outcome, attempts_made)
  end
  keep_or_delete(call, queue, outcome, fields, attempts_made)
  redis.call("XADD", events, "*", "event", outcome.state, "jobId", id,
    failed and "failedReason" or "returnvalue", outcome.text, "prev", "active")
  if failed and attempts_made >= outcome.attempts then
    redis.call("XADD", events, "*",
      "event", "retries-exhausted", "jobId", id, "attemptsMade", attempts_made)
  end
  if call.metrics > 0 then
    pcall(count_metric, queue, outcome.state, call.metrics, call.now)
  end
  forget_cancel(call, queue, id)
  call.finished = true
end

local function store_failure(outcome, fields)
  redis.call("HSET", outcome.key, "atm", (tonumber(fields[2]) or 0) + 1, "failedReason", outcome.text,
    "stacktrace", push_stack(fields[7], outcome.stack, outcome.stack_limit))
end

local function to_delayed(call, queue, outcome)
  local due = call.now + outcome.delay
  local score = delayed_score(queue, due)
  redis.call("HSET", outcome.key, "delay", string.format("%.0f", outcome.delay))
  redis.call("ZADD", queue.prefix .. "delayed", score, outcome.id)
  redis.call("XADD", queue.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "delayed", "jobId", outcome.id, "delay", string.format("%.0f", due))
  call.delayed = true
end

local function tell_waiting(queue, id)
  redis.call("XADD", queue.prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "waiting", "jobId", id, "prev", "active")
end

local function retry(call, queue, outcome, fields)
  store_failure(outcome, fields)
  if outcome.delay > 0 then
    to_delayed(call, queue, outcome)
    return
  end
  if not call.promoted then
    call.promoted = true
    promote_due(queue, call.now, call.dropped) -- so that those due before us also wait before us
  end
  put_waiting(queue, outcome.id, tonumber(fields[6]) or 0, outcome.lifo and "RPUSH" or "LPUSH")
  call.wake = true
  tell_waiting(queue, outcome.id)
end

-- Back to where it came from, to be the next: of the queue, or of its own priority.
local function give_back(call, queue, outcome, fields)
  local priority = tonumber(fields[6]) or 0
  if outcome.kind == "H" then
    redis.call("HSET", outcome.key, "ats", math.max((tonumber(fields[8]) or 0) - 1, 0))
    redis.call("HDEL", outcome.key, "processedOn")
  elseif outcome.kind == "L" and outcome.hold > 0 then
    redis.call("SET", queue.prefix .. "limiter", "9007199254740991", "PX", outcome.hold)
  end
  if priority > 0 then
    redis.call("ZADD", queue.prefix .. "prioritized", priority * 4294967296, outcome.id)
  else
    redis.call("RPUSH", waiting_list(queue), outcome.id)
  end
  call.wake = true
  tell_waiting(queue, outcome.id)
  if outcome.kind == "L" then
    call.rate_limited = true
  end
end

-- The processor waits for its children; when none is pending it runs again at once.
local function to_waiting_children(call, queue, outcome, fields)
  if redis.call("EXISTS", outcome.key .. ":dependencies") == 0 then
    give_back(call, queue, outcome, fields)
    return
  end
  redis.call("ZADD", queue.prefix .. "waiting-children", call.now, outcome.id)
  redis.call("XADD", queue.prefix .. "events", "*",
    "event", "waiting-children", "jobId", outcome.id, "prev", "active")
end

-- What an outcome of this kind touches in its queue, beyond `active`.
local function wrong_queue_types(queue, outcome)
  local prefix, kind = queue.prefix, outcome.kind
  if kind == "C" or kind == "F" then
    return wrong_type(prefix .. (kind == "C" and "completed" or "failed"), "zset")
      or wrong_type(prefix .. "events", "stream")
  elseif kind == "P" or (kind == "R" and outcome.delay > 0) then
    return wrong_type(prefix .. "delayed", "zset") or wrong_type(prefix .. "events", "stream")
      or wrong_type(prefix .. "marker", "zset")
  elseif kind == "W" then
    return wrong_waiting_types(queue) or first_wrong_type({
      prefix .. "waiting-children", "zset",
      outcome.key .. ":dependencies", "set", outcome.key .. ":unsuccessful", "zset",
    })
  end
  return wrong_waiting_types(queue) or wrong_type(prefix .. "delayed", "zset")
end

-- The code of a refusal, with a text for GUILTY, or nothing and the job's fields.
local function look(queue, outcome)
  local key = outcome.key
  local fields
  if outcome.kind == "C" then
    fields = redis.call("HMGET", key, "timestamp", "atm", "deid", "parentKey", "parent")
  else
    fields = redis.call("HMGET", key, "timestamp", "atm", "deid", "parentKey", "parent",
      "priority", "stacktrace", "ats")
  end
  if not fields[1] and redis.call("EXISTS", key) == 0 then
    return NO_JOB
  end
  if outcome.kind == "C" and redis.call("EXISTS", key .. ":dependencies", key .. ":unsuccessful") > 0 then
    if redis.call("SCARD", key .. ":dependencies") > 0 then
      return PENDING_CHILDREN
    end
    return FAILED_CHILDREN
  end
  if outcome.kind == "W" and redis.call("EXISTS", key .. ":unsuccessful") == 1 then
    return FAILED_CHILDREN
  end
  if outcome.held ~= outcome.token then
    return outcome.held and OTHER_LOCK or NO_LOCK
  end
  local trouble = wrong_queue_types(queue, outcome)
  if not trouble and (outcome.kind == "C" or outcome.kind == "F") and not outcome.spare_parent then
    outcome.parent, trouble = parent_of(fields[4], fields[5])
    if outcome.parent then
      trouble = wrong_parent_types(outcome.parent)
    end
  end
  if trouble then
    return GUILTY, trouble
  end
  return nil, fields
end

local ACTS = {
  C = finish, F = finish, R = retry, L = give_back, H = give_back, P = to_delayed, W = to_waiting_children,
}

-- Write one outcome; returns its code, and a text for GUILTY or for what is missing of what is DONE.
local function settle(call, queue, outcome)
  local refusal, fields = look(queue, outcome)
  if refusal then
    return refusal, fields
  end
  local was_active = redis.call("LREM", queue.prefix .. "active", -1, outcome.id) == 1
  redis.call("DEL", outcome.key .. ":lock")
  call.released[#call.released + 1] = outcome.id
  if not was_active then
    return NOT_IN_STATE
  end
  outcome.taken_off = true
  keep_max_events(queue)
  if outcome.used then
    redis.pcall("HSET", outcome.key, "ox:used", outcome.used)
  end
  if outcome.told then
    keep_verdict(outcome.key, outcome.told) -- before the copy for the dead letters, which takes it along
  end
  ACTS[outcome.kind](call, queue, outcome, fields)
  return DONE, outcome.not_copied
end

-- An error in the middle, which nothing above foresaw: the job is made active again under its own lock, so
-- that it is in one state and its owner can try another outcome.
local function undo(call, queue, outcome)
  if outcome.taken_off then
    redis.pcall("LPUSH", queue.prefix .. "active", outcome.id)
    redis.pcall("SET", outcome.key .. ":lock", outcome.token, "PX", call.lock_ms)
  end
end

-- What a repeated call sees of an outcome that it may not write.
local function seen_instead(call, outcome, code)
  if code == NO_JOB then
    return "gone"
  end
  if outcome.kind == "C" or outcome.kind == "F" then
    local fields = redis.pcall("HMGET", outcome.key, "finishedOn")
    if fields[1] == call.now_text then
      return "written"
    end
  end
  return "not ours"
end
