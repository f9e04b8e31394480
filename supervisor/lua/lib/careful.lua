-- careful: the call in full, whatever it brings and however the queue is: the inside of a function of `now_text`.
-- Needs lib/view, lib/codes, lib/record, lib/completed and lib/seldom.

local FIRST_OUTCOME = 11

--- include lib/outcomes
--- include lib/settling
--- include lib/fetch

local function fetch_all(call, queue)
  if call.again then
    seldom().find_taken(call, queue)
  end
  if call.rate_limited then
    -- A processor asked for the hold: nothing is taken by this call, whatever limiter is configured.
    call.limited_ms = math.max(redis.call("PTTL", queue.prefix .. "limiter"), 0)
  end
  if call.count > #call.jobs and call.limited_ms == 0 then
    take_all(call, queue)
  end
end

-- One job less is active, and we do not take the next: somebody else may, who waits since there were too many.
local function made_room(call, queue)
  return queue.concurrency ~= nil and call.count == 0 and call.released > 0
    and redis.call("EXISTS", queue.prefix .. "wait", queue.prefix .. "prioritized", queue.prefix .. "delayed") > 0
end

local function mark_and_tell(call, queue)
  -- Fewer than asked for, and nothing that holds them back: nothing waits, so nobody need be woken for it.
  if call.took and (#call.jobs >= call.count or call.limited_ms > 0 or call.held or call.again) then
    redis.call("ZADD", queue.prefix .. "marker", "0", "0")
  elseif call.wake or made_room(call, queue) then
    seldom().wake(queue)
  end
  if call.delayed then
    seldom().mark_delay(queue)
  end
  local nothing = #call.jobs == 0 and call.limited_ms == 0 and not call.held
    and call.next_due == 0 and call.fetch_error == ""
  if call.finished and nothing and redis.call("LLEN", queue.prefix .. "wait") == 0
    and redis.call("LLEN", queue.active) == 0
    and redis.call("ZCARD", queue.prefix .. "prioritized") == 0 then
    redis.call("XADD", queue.events, "*", "event", "drained")
  end
end

local call = {
  now_text = now_text, now = tonumber(now_text), token = ARGV[3], lock_ms = ARGV[4],
  count = tonumber(ARGV[5]),
  limiter_max = ARGV[6] ~= "0" and tonumber(ARGV[6]) or nil, limiter_ms = tonumber(ARGV[7]),
  worker = ARGV[8], metrics = tonumber(ARGV[9]), again = ARGV[10] == "1",
  run = {}, codes = {}, texts = {}, jobs = {}, dropped = {}, released = 0,
  limited_ms = 0, held = false, next_due = 0, fetch_error = "",
}
local queue = open_queue(ARGV[1])
if ARGV[FIRST_OUTCOME] then
  settle_all(call, queue)
end
for _, half in ipairs({ fetch_all, mark_and_tell }) do
  local ran, problem = true, nil
  if not call.refused then
    ran, problem = pcall(half, call, queue)
  end
  if not ran then
    call.fetch_error = seldom().text_of(problem)
    call.refused = seldom().refused_to_all(call.fetch_error)
  end
end
if call.refused then
  return { err = call.refused }
end
return {
  call.codes, call.texts, call.jobs, call.dropped,
  call.limited_ms, call.held and 1 or 0, call.next_due, call.fetch_error,
}
