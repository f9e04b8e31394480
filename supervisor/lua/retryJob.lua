--[[
  retryJob: a finished job waits again.

  A parent that still waits for children waits for this one again; one that went on is left where it is.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys, job id
  ARGV[3]      the state it is taken from: failed or completed
  ARGV[4..5]   1 to forget the attempts made, 1 to forget the attempts started

  Derives      every key of the queue; the parent's keys from the job's hash
  Returns      0, -1 without a hash, -3 when it is not in that state, or [-100, what is wrong]
  Events       waiting
  Cost         O(log finished)
]]
--- include lib/queue
--- include lib/parent
local queue = open_queue(ARGV[1])
local prefix, id, state = ARGV[1], ARGV[2], ARGV[3]
local key = prefix .. id

-- The parent hears of this child's end a second time, so it forgets the first.
local function wait_for_again(parent)
  local forgotten
  if state == "failed" then
    forgotten = redis.call("ZREM", parent.key .. ":unsuccessful", key) == 1
      or redis.call("HDEL", parent.key .. ":failed", key) == 1
  else
    forgotten = redis.call("HDEL", parent.key .. ":processed", key) == 1
  end
  if forgotten then
    redis.call("SADD", parent.key .. ":dependencies", key)
  end
end

if redis.call("EXISTS", key) == 0 then
  return -1
end
local fields = redis.call("HMGET", key, "priority", "opts", "parentKey", "parent")
local parent = parent_of(fields[3], fields[4])
local trouble = wrong_waiting_types(queue) or (parent and wrong_parent_types(parent))
if trouble then
  return { -100, trouble }
end
if redis.call("ZREM", prefix .. state, id) == 0 then
  return -3
end
redis.call("HDEL", key, "finishedOn", "processedOn", state == "failed" and "failedReason" or "returnvalue")
if ARGV[4] == "1" then
  redis.call("HDEL", key, "atm", "attemptsMade")
end
if ARGV[5] == "1" then
  redis.call("HDEL", key, "ats")
end
local readable, opts = pcall(cjson.decode, fields[2] or "{}")
local lifo = readable and type(opts) == "table" and opts.lifo == true
put_waiting(queue, id, tonumber(fields[1]) or 0, lifo and "RPUSH" or "LPUSH")
wake(queue)
if parent and redis.call("EXISTS", parent.key) == 1 then
  wait_for_again(parent)
end
keep_max_events(queue)
redis.call("XADD", prefix .. "events", "MAXLEN", "~", queue.max_events, "*",
  "event", "waiting", "jobId", id, "prev", state)
return 0
