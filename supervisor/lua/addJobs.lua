--[[
  addJobs: add jobs of one queue, each standing alone, in one call.

  Every job is checked before its first write, and an error caught all the same is the answer for that one
  only. Markers are set once, after the last job. Where all just wait for their turn (no delay, priority, id,
  parent nor deduplication), what they have in common is done once for all.

  KEYS[1]      meta  HASH

  ARGV[1]      prefix of the queue's keys, with its last colon
  ARGV[2]      how many events to keep, about; stored when the queue says nothing yet
  ARGV[3..5]   with a bound of the jobs that wait: how many, how many need room now (0 in the calls of a bulk
               after its first), a token for the bulk; else empty
  ARGV[6..]    jobs, eleven texts each: name, data JSON, opts JSON, timestamp, delay ms, priority, 1 for lifo,
               id or empty, parent key or empty, parent JSON or empty, deduplication JSON or empty

  Derives      every key of the queue from the prefix, de:* and dn:* of a deduplication and ox:room among
               them; a parent's dependencies, processed and its queue's keys from the parent
  Returns      one element a job: its id, or that of the job which was there before or holds its
               deduplication id; a negative code (-5 no parent, -7 has another parent, -101 a circle, -102 the
               parent has ended), [-103, how many wait] for all when there is no room, or [-100, what is wrong]
  Events       added, then waiting or delayed; duplicated; deduplicated, removed; of a parent's queue waiting,
               delayed
  Cost         O(jobs)
]]
--- include lib/view
--- include lib/store

local WIDTH, FIRST = 11, 6

-- Lua makes the functions of a script anew in every call, and most calls need none of these.
local function make_add_each()
--- include lib/adding
  return add_each
end

-- Most jobs just wait for their turn, at the back of the line.
local function is_plain(at)
  return ARGV[at + 4] == "0" and ARGV[at + 5] == "0" and ARGV[at + 6] == "0" and ARGV[at + 7] == ""
    and ARGV[at + 8] == "" and ARGV[at + 9] == "" and ARGV[at + 10] == ""
end

local function all_plain(queue)
  if queue.trouble or queue.paused or ARGV[3] ~= "" then
    return false
  end
  for at = FIRST, #ARGV, WIDTH do
    if not is_plain(at) then
      return false
    end
  end
  local prefix = queue.prefix
  return not (wrong_type(prefix .. "wait", "list") or wrong_type(queue.events, "stream")
    or wrong_type(prefix .. "marker", "zset"))
end

-- The jobs with the ids that were counted up for them; nil, and nothing is written, when that cannot be or one of
-- the ids is taken.
local function numbered(queue)
  local prefix, count = queue.prefix, (#ARGV - FIRST + 1) / WIDTH
  local last = redis.pcall("INCRBY", prefix .. "id", count)
  if type(last) ~= "number" then
    return nil
  end
  local jobs, keys = {}, {}
  for number = 1, count do
    local at, id = FIRST + (number - 1) * WIDTH, string.format("%.0f", last - count + number)
    keys[number] = prefix .. id
    jobs[number] = {
      id = id, key = keys[number], name = ARGV[at], data = ARGV[at + 1], opts = ARGV[at + 2],
      timestamp = ARGV[at + 3], delay = "0", priority = "0",
    }
  end
  if redis.call("EXISTS", unpack(keys)) > 0 then
    redis.call("DECRBY", prefix .. "id", count)
    return nil
  end
  return jobs
end

local function add_waiting(queue, jobs)
  local wait, ids = queue.prefix .. "wait", {}
  keep_max_events(queue)
  for number, job in ipairs(jobs) do
    store_job(queue, job)
    ids[number] = job.id
    if number < #jobs then
      redis.call("XADD", queue.events, "*", "event", "waiting", "jobId", job.id)
    else
      redis.call("XADD", queue.events, "MAXLEN", "~", queue.max_events, "*", "event", "waiting", "jobId", job.id)
    end
  end
  redis.call("LPUSH", wait, unpack(ids))
  if not queue.concurrency or redis.call("LLEN", queue.active) < queue.concurrency then
    redis.call("ZADD", queue.prefix .. "marker", "0", "0")
  end
  return ids
end

local queue = open_queue(ARGV[1])
if queue.unset_max_events then
  queue.max_events = ARGV[2]
end
local jobs = all_plain(queue) and numbered(queue)
return jobs and add_waiting(queue, jobs) or make_add_each()(queue, FIRST, WIDTH)
