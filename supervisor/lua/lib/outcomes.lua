-- outcomes: what becomes of an active job (core.md sections 7.1, 7.6 to 7.8 and 9.5).
-- Needs lib/view, lib/codes, lib/completed and lib/seldom.
--
-- Each outcome is looked at before its first write: the hash, the children, the lock, the types of all it will
-- touch. The first write is one that Redis does not refuse when memory is short (LREM), and with it the rest
-- of the script is allowed. Most outcomes are plain ones: completed, and nobody waits for that. They come in runs,
-- and a run is written together.

-- Before anything else is written, so that all is told in the order of the outcomes.
local function end_run(call, queue)
  if call.run[1] then
    local ran, problem = pcall(finish_run, call, queue)
    if not ran then
      seldom().give_up_run(call, queue, problem)
    end
    call.run = {}
  end
end

-- What an outcome of this kind touches in its queue, beyond `active`.
local function wrong_queue_types(call, queue, outcome)
  if not outcome.ends then
    return seldom().wrong_move_types(queue, outcome)
  elseif call.sound == outcome.kind then
    return nil
  end
  local trouble = wrong_type(queue.prefix .. (outcome.kind == "C" and "completed" or "failed"), "zset")
    or wrong_type(queue.events, "stream")
  call.sound = not trouble and outcome.kind
  return trouble
end

-- The code of a refusal, with a text for GUILTY, or nothing and the job's fields.
local function look(call, queue, outcome)
  local key, fields = outcome.key, nil
  if outcome.kind == "C" then
    fields = redis.call("HMGET", key, "timestamp", "atm", "deid", "parentKey", "parent")
  else
    fields = redis.call("HMGET", key, "timestamp", "atm", "deid", "parentKey", "parent",
      "priority", "stacktrace", "ats")
  end
  if not fields[1] and redis.call("EXISTS", key) == 0 then
    return CODE.NO_JOB
  end
  local refusal = not call.plain and seldom().kept_by_children(outcome)
  if refusal then
    return refusal
  end
  if outcome.held ~= outcome.token then
    return outcome.held and CODE.OTHER_LOCK or CODE.NO_LOCK
  end
  local trouble = wrong_queue_types(call, queue, outcome)
  if not trouble and outcome.ends and (fields[4] or fields[5]) and not outcome.spare_parent then
    trouble = seldom().find_parent(outcome, fields)
  end
  if trouble then
    return CODE.GUILTY, trouble
  end
  return nil, fields
end

-- Write one outcome; returns its code, and a text for GUILTY or for what is missing of what is DONE.
-- The lock of one that is `let_go` stands until all outcomes of the call are written.
local function settle(call, queue, outcome)
  local refusal, fields = look(call, queue, outcome)
  if refusal then
    return refusal, fields
  end
  local was_active = redis.call("LREM", queue.active, "-1", outcome.id) == 1
  outcome.let_go = true
  if not was_active then
    return CODE.NOT_IN_STATE
  end
  keep_max_events(queue)
  if outcome.keep == KEEP_ALL and call.plain and call.metrics == 0 and not (fields[3] or outcome.parent) then
    outcome.attempts_made = one_more(fields[2])
    call.run[#call.run + 1] = outcome
    return CODE.DONE
  end
  end_run(call, queue)
  if outcome.used and outcome.kind ~= "C" then -- what completes is written with it
    redis.pcall("HSET", outcome.key, "ox:used", outcome.used)
  end
  if outcome.told then
    -- before the copy for the dead letters, which takes it along
    seldom().keep_verdict(outcome.key, outcome.told)
  end
  if outcome.ends then
    seldom().finish(call, queue, outcome, fields)
  else
    seldom().MOVES[outcome.kind](call, queue, outcome, fields)
  end
  return CODE.DONE, outcome.not_copied
end
