-- plain: the call that most are. Its outcomes are completed jobs that nobody waits for and of which as many are kept
-- as there are; nothing that was delayed is due, nothing has a priority, and nothing holds the queue back. Needs lib/record.
--
-- Everything is looked at before the first write. Any other call is left to the careful way, and nothing is written.
-- What both do stands in both: Lua makes the functions of a script anew in every call, and those that they would
-- share cost a call for one job a quarter of its time. tests/redis/test_wire_plain.py compares the two.

local GUILTY, NOT_ACTIVE = -100, -3 -- in lib/codes, too; what was active is GUILTY until it is written

-- Is the key there, and of another type?
local function is_no(wanted, key)
  local found = redis.call("TYPE", key).ok
  return found ~= wanted and found ~= "none"
end

-- The outcomes, a list for each of their parts; nothing when one is not plain, or its job is not as it should be.
local function plain_outcomes(prefix)
  local ids, keys, locks, texts, used, attempts = {}, {}, {}, {}, {}, {}
  local tokens, oddities, number, at = {}, { prefix .. "ox:cancel" }, 0, 11
  while ARGV[at] do
    number = number + 1
    if ARGV[at] == "U" then
      used[number], at = ARGV[at + 1], at + 2
    end
    if ARGV[at] ~= "D" then
      return nil
    end
    local key = prefix .. ARGV[at + 1]
    ids[number], keys[number], locks[number] = ARGV[at + 1], key, key .. ":lock"
    tokens[number], texts[number] = ARGV[at + 2], ARGV[at + 3]
    oddities[2 * number], oddities[2 * number + 1] = key .. ":dependencies", key .. ":unsuccessful"
    at = at + 4
  end
  if redis.call("EXISTS", unpack(oddities)) > 0 then -- children, or who waits for the end of one cancelled
    return nil
  end
  local held = redis.call("MGET", unpack(locks))
  for i = 1, number do
    local fields = redis.pcall("HMGET", keys[i], "timestamp", "atm", "deid", "parentKey", "parent")
    if held[i] ~= tokens[i] or fields.err or not fields[1] or fields[3] or fields[4] or fields[5] then
      return nil
    end
    local made = fields[2]
    attempts[i] = made and made ~= "0" and (tonumber(made) or 0) + 1 or "1" -- mostly the first: as text
  end
  if is_no("zset", prefix .. "completed") then
    return nil
  end
  return {
    ids = ids, keys = keys, locks = locks, tokens = tokens, texts = texts, used = used, attempts = attempts,
    codes = {}, told = false,
  }
end

-- Those that are off `active`: completed, one after the other.
local function write_ends(prefix, now, max_events, outcomes)
  local events, ids, codes, texts, used = prefix .. "events", outcomes.ids, outcomes.codes, outcomes.texts, outcomes.used
  local ended = {}
  for i, id in ipairs(ids) do
    if codes[i] == GUILTY then
      ended[#ended + 1] = now
      ended[#ended + 1] = id
    end
  end
  if ended[1] then
    redis.call("ZADD", prefix .. "completed", unpack(ended))
  end
  for i, key in ipairs(outcomes.keys) do
    if codes[i] == GUILTY then
      local text, made = texts[i], outcomes.attempts[i]
      if used[i] then
        redis.call("HSET", key, "atm", made, "returnvalue", text, "finishedOn", now, "ox:used", used[i])
      else
        redis.call("HSET", key, "atm", made, "returnvalue", text, "finishedOn", now)
      end
      if outcomes.told then
        redis.call("XADD", events, "*",
          "event", "completed", "jobId", ids[i], "returnvalue", text, "prev", "active")
      else
        redis.call("XADD", events, "MAXLEN", "~", max_events, "*",
          "event", "completed", "jobId", ids[i], "returnvalue", text, "prev", "active")
        outcomes.told = true
      end
      codes[i] = 0
    end
  end
end

-- An error in the middle, which nothing above foresaw: those that are written stay so, the others are active again
-- under their own locks. Returns what is to be told of them.
local function active_again(prefix, outcomes, problem)
  local told, text = {}, type(problem) == "table" and problem.err or tostring(problem)
  for i, code in ipairs(outcomes.codes) do
    if code == GUILTY then
      redis.pcall("LPUSH", prefix .. "active", outcomes.ids[i])
      redis.pcall("SET", outcomes.locks[i], outcomes.tokens[i], "PX", ARGV[4])
      told[#told + 1] = i - 1
      told[#told + 1] = text
    end
  end
  return told
end

-- What is told of the codes; nothing when not even the first could be written.
local function complete(prefix, now, max_events, outcomes)
  for i, id in ipairs(outcomes.ids) do
    local was_active = redis.pcall("LREM", prefix .. "active", "-1", id)
    if type(was_active) ~= "number" then
      return nil
    end
    outcomes.codes[i] = was_active == 1 and GUILTY or NOT_ACTIVE
  end
  local ran, problem = pcall(write_ends, prefix, now, max_events, outcomes)
  redis.pcall("DEL", unpack(outcomes.locks))
  redis.pcall("SREM", prefix .. "stalled", unpack(outcomes.ids)) -- the stalled check replaces a corrupt key
  return ran and {} or active_again(prefix, outcomes, problem)
end

-- Adds to `jobs` those that were in line, and to `dropped` the ids of what was none, with why. Returns what Redis
-- said when it refused the first write.
local function take(prefix, now, count, in_line, jobs, dropped)
  local wait, active, events, drops = prefix .. "wait", prefix .. "active", prefix .. "events", 0
  while #jobs < count and in_line > 0 and drops < 1000 do
    local most = math.min(count - #jobs, in_line)
    in_line = in_line - most
    -- The first by a command that is refused when memory is short. RPOP is not, nor is anything behind it.
    local ids = { redis.pcall("RPOPLPUSH", wait, active) }
    if type(ids[1]) == "table" then
      return ids[1].err
    elseif most > 1 then
      local others = redis.call("RPOP", wait, most - 1)
      redis.call("LPUSH", active, unpack(others))
      ids = { ids[1], unpack(others) }
    end
    for _, id in ipairs(ids) do
      local key = prefix .. id
      local row, useless = read_job(key, id)
      if row then
        local started = row[7] and row[7] ~= "0" and (tonumber(row[7]) or 0) + 1 or "1"
        redis.call("SET", key .. ":lock", ARGV[3], "PX", ARGV[4])
        redis.call("XADD", events, "*", "event", "active", "jobId", id, "prev", "waiting")
        if ARGV[8] ~= "" then
          redis.call("HSET", key, "processedOn", now, "ats", started, "pb", ARGV[8])
        else
          redis.call("HSET", key, "processedOn", now, "ats", started)
        end
        row[7] = tonumber(started)
        jobs[#jobs + 1] = row
      else
        drops = drops + 1
        redis.call("LREM", active, 1, id)
        if id:sub(1, 2) ~= "0:" then -- a marker of BullMQ 4 is no news
          dropped[#dropped + 1] = id
          dropped[#dropped + 1] = useless
        end
      end
    end
  end
  if #jobs >= count or drops >= 1000 then -- there may be more
    redis.call("ZADD", prefix .. "marker", "0", "0")
  else
    redis.call("DEL", prefix .. "pc")
  end
  return nil
end

-- How many are in line, and when the first delayed one is due; nothing when jobs cannot be taken as plainly.
local function plain_line(prefix, now, count)
  local next_due = 0
  if redis.call("EXISTS", prefix .. "delayed", prefix .. "prioritized") > 0 then
    local first = redis.pcall("ZRANGE", prefix .. "delayed", "0", "0", "WITHSCORES")
    local due = first[2] and tonumber(first[2])
    if not due or due < (tonumber(now) + 1) * 4096 or redis.call("EXISTS", prefix .. "prioritized") > 0 then
      return nil
    end
    next_due = math.floor(due / 4096)
  end
  local in_line = redis.pcall("LLEN", prefix .. "wait")
  if type(in_line) ~= "number" or in_line >= count and is_no("zset", prefix .. "marker") then
    return nil
  end
  return in_line, next_due
end

-- The reply; nothing, with nothing written, when this call is not plain.
local function plain(now)
  if ARGV[6] ~= "0" or ARGV[9] ~= "0" or ARGV[10] ~= "0" then -- a limiter, metrics, sent before
    return nil
  end
  local prefix, count, finishes = ARGV[1], tonumber(ARGV[5]), ARGV[11] ~= nil
  local meta = redis.pcall("HMGET", prefix .. "meta", "opts.maxLenEvents", "paused", "concurrency", "max")
  local max_events = meta[1]
  if meta.err or meta[2] or meta[3] or meta[4] or not max_events
    or max_events ~= "10000" and not max_events:match("^%d+$") then
    return nil
  end
  local in_line, next_due = 0, 0
  if count > 0 then
    in_line, next_due = plain_line(prefix, now, count)
  end
  local outcomes = finishes and in_line and plain_outcomes(prefix)
  if not in_line or finishes and not outcomes
    or (finishes or in_line > 0) and is_no("stream", prefix .. "events") then
    return nil
  end
  local texts, jobs, dropped, fetch_error = {}, {}, {}, nil
  if finishes then
    texts = complete(prefix, now, max_events, outcomes)
    if not texts then
      return nil
    end
  end
  if count > 0 then
    local ran, problem = pcall(take, prefix, now, count, in_line, jobs, dropped)
    if problem and ran and not finishes then
      return nil
    end
    fetch_error = type(problem) == "table" and problem.err or problem
    next_due = (#jobs >= count or fetch_error) and 0 or next_due
  end
  if finishes and outcomes.told and not (jobs[1] or fetch_error) and next_due == 0 and redis.call("LLEN", prefix .. "wait") == 0
    and redis.call("LLEN", prefix .. "active") == 0 and redis.call("ZCARD", prefix .. "prioritized") == 0 then
    redis.call("XADD", prefix .. "events", "*", "event", "drained")
  end
  return { finishes and outcomes.codes or {}, texts, jobs, dropped, 0, 0, next_due, fetch_error or "" }
end
