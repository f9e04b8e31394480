--[[
  cancelJob: somebody wants that a job is not done. One that does not run fails at once and never will; of one
  that runs a request is kept, and told on the channel that has the name of the key.

  With an empty ARGV[7] a client asks. Else a master acts on a request that it has found: only if it is still
  that very text, and telling nobody; one about a job that has ended or is gone is forgotten.

  KEYS[1]      meta       HASH
  KEYS[2]      ox:cancel  HASH    job id to request
  ARGV[1..2]   prefix of the queue's keys, job id
  ARGV[3]      now, epoch milliseconds
  ARGV[4]      failed reason
  ARGV[5..6]   request, JSON text; how long requests are kept, milliseconds
  ARGV[7]      1 when a master acts

  Derives      every key of the queue and of the job; the parent's keys and its queue's from the job's hash
  Returns      1 when it is active: asked; 2 when it has failed by this; 0 when the request is another by now;
               -1 when there is none, -3 when it has ended, -8 when it is the pending job of a scheduler, or
               [-100, what is wrong]
  Events       failed; of a parent's queue waiting, delayed
  Cost         O(waiting + active)
]]
--- include lib/queue
--- include lib/codes
--- include lib/parent
--- include lib/retention
--- include lib/removal
--- include lib/completed
--- include lib/seldom
local ASKED, FAILED, CHANGED, OF_SCHEDULER = 1, 2, 0, -8
local queue = open_queue(ARGV[1])
local prefix, id, requests = ARGV[1], ARGV[2], KEYS[2]
local now, reason, request, keep_ms, of_master = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7] == "1"
local key = prefix .. id
local SETS = { "completed", "failed", "delayed", "prioritized", "waiting-children" }
local LISTS = { "active", "wait", "paused" }

local function forget()
  redis.call("HDEL", requests, id)
end

local function where()
  for _, state in ipairs(SETS) do
    if not wrong_type(prefix .. state, "zset") and redis.call("ZSCORE", prefix .. state, id) then
      return state
    end
  end
  for _, state in ipairs(LISTS) do
    if not wrong_type(prefix .. state, "list") and redis.call("LPOS", prefix .. state, id) then
      return state
    end
  end
  return "unknown"
end

-- What the job itself says of how it is kept, and how many stack traces.
local function read_opts(text)
  local readable, opts = pcall(cjson.decode, text or "{}")
  if not readable or type(opts) ~= "table" then
    return {}, nil
  end
  local keep = opts.removeOnFail
  if keep == true then
    keep = { count = 0 }
  elseif type(keep) == "number" then
    keep = { count = keep }
  elseif type(keep) ~= "table" then
    keep = {}
  end
  keep = { count = tonumber(keep.count), age = tonumber(keep.age), limit = tonumber(keep.limit) }
  return keep, tonumber(opts.stackTraceLimit)
end

local function fail(state, fields, parent)
  local waits = state == "wait" or state == "paused"
  if waits then
    redis.call("LREM", prefix .. state, 0, id)
  else
    redis.call("ZREM", prefix .. state, id)
  end
  keep_max_events(queue)
  local outcome = { kind = "F", id = id, key = key, state = "failed", text = reason, parent = parent }
  outcome.keep, outcome.stack_limit = read_opts(fields[8])
  local call = { now = now, now_text = ARGV[3] }
  local attempts_made = tonumber(fields[2]) or 0
  seldom().tell_others(call, queue, outcome, fields, attempts_made)
  seldom().keep_or_delete(call, queue, outcome, fields, attempts_made)
  redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
    "event", "failed", "jobId", id, "failedReason", reason, "prev", waits and "waiting" or state)
  forget()
  return FAILED
end

local function ask()
  if not of_master then
    redis.call("HSET", requests, id, request)
    redis.call("PEXPIRE", requests, keep_ms)
    redis.pcall("PUBLISH", requests, id) -- who may not is told by the key
  end
  return ASKED
end

local trouble = wrong_waiting_types(queue) or first_wrong_type({
  key, "hash", requests, "hash", prefix .. "failed", "zset", prefix .. "delayed", "zset",
})
if trouble then
  return { -100, trouble }
end
if of_master and redis.call("HGET", requests, id) ~= request then
  return CHANGED
end
local fields = redis.call("HMGET", key, "timestamp", "atm", "deid", "parentKey", "parent",
  "priority", "stacktrace", "opts")
if redis.call("EXISTS", key) == 0 then
  forget()
  return CODE.NO_JOB
end
local state = where()
if state == "active" then
  return ask()
elseif state == "completed" or state == "failed" or state == "unknown" then
  forget()
  return CODE.NOT_IN_STATE
elseif is_scheduled(queue, id) then
  forget()
  return OF_SCHEDULER
end
local parent
parent, trouble = parent_of(fields[4], fields[5])
if parent then
  trouble = wrong_parent_types(parent)
end
if trouble then
  return { -100, trouble }
end
return fail(state, fields, parent)
