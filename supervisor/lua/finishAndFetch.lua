--[[
  finishAndFetch: write what became of some jobs of one queue, then take the next ones, in one call.

  Outcomes come first and each stands alone: what could go wrong is looked at before its first write, and an
  error caught all the same is the answer for that one only. Then due delayed jobs are promoted, and for each
  job the limiter, the pause and the global concurrency are asked. An error of the fetching half never hides
  the answers to the outcomes.

  Sent again after a lost reply (again = 1), the same call finds the jobs it took by their locks, and writes an
  outcome only where its lock still holds.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      now, epoch milliseconds; with a sign: so many microseconds more than Redis' own clock says, for
               a call that waits at the server before it runs
  ARGV[3]      lock token of every job taken by this call
  ARGV[4]      lock duration, milliseconds
  ARGV[5]      how many jobs to take at most
  ARGV[6..7]   the worker's limiter: jobs, milliseconds; 0 0 for none
  ARGV[8]      worker name, or empty
  ARGV[9]      data points of metrics to keep; 0 for none
  ARGV[10]     1 when this call was sent before
  ARGV[11..]   outcomes, each a letter, the job id, its token, and by the letter
                 D  done         result JSON: completed, and as many are kept as there are
                 C  completed    result JSON, keep count, keep age s, keep limit
                 F  failed       reason, stack entry JSON, keep count, keep age s, keep limit,
                                 attempts, stack limit, 1 to spare the parent, prefix of the keys of the
                                 queue that gets a copy with its last colon, or empty, told
                 R  retried      reason, stack entry JSON, delay ms, 1 for lifo, stack limit, told
                 P  postponed    delay ms
                 L  rate limited hold ms
                 H  handed back  told
                 W  waiting for its children
               before a D, C, F or R may stand U and what was measured of the attempt, JSON
               told is what lib/verdict.lua keeps; an empty text stands for "not given"

  Derives      every key of the queue from the prefix; the parent's keys and its queue's from the job's hash;
               those of the queue that gets copies from its prefix
  Returns      [codes, [position, text, ..], jobs, [dropped id, reason, ..],
                limited ms, held 0|1, next due epoch ms, fetch error or empty]
               a code is 0, BullMQ's negative one, or -100 with a text; positions count from 0; the text of
               a 0 tells why there is no copy (the job is kept then);
               a job is [id, name, data, opts, timestamp, priority, ats], and behind that, when it has one of
               these, [.., atm, attemptsMade, stc, defa, parent, rjk, ox:crashes, ox:bigger]
               or an error that says READONLY, MISCONF or NOREPLICAS: nothing was written
  Events       completed, failed, retries-exhausted, delayed, waiting, waiting-children, active, drained; added
               of a held-back deduplicated job; of a parent's queue waiting, delayed; of the queue that gets
               copies added, waiting
  Cost         O(outcomes + jobs), besides what keepJobs removes; LREM is O(active)
]]
--- include lib/view
--- include lib/codes
--- include lib/completed
--- include lib/record
--- include lib/seldom

local FIRST_OUTCOME = 11

-- Lua makes the functions of a script anew in every call. A call that brings outcomes may ask for nothing, and one
-- that asks may bring none.
local function make_settle_all()
--- include lib/outcomes
--- include lib/settling
  return settle_all
end

local function make_take()
--- include lib/fetch
  return take
end

local function fetch_all(call, queue)
  if call.again then
    seldom().find_taken(call, queue)
  end
  if call.rate_limited then
    -- A processor asked for the hold: nothing is taken by this call, whatever limiter is configured.
    call.limited_ms = math.max(redis.call("PTTL", queue.prefix .. "limiter"), 0)
  end
  if call.count > #call.jobs and call.limited_ms == 0 then
    make_take()(call, queue)
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

local now_text, first_byte = ARGV[2], ARGV[2]:byte()
if first_byte == 43 or first_byte == 45 then -- + or -
  local clock = redis.call("TIME")
  now_text = string.format("%.0f", math.floor((clock[1] * 1000000 + clock[2] + tonumber(now_text)) / 1000))
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
  make_settle_all()(call, queue)
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
