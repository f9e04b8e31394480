-- replay: the job that a dead letter tells of waits again, and the letter goes.
-- Needs lib/queue, lib/parent, lib/store, lib/retention and lib/retry.

local TEXTS = { "queue", "id", "name", "data", "opts" }
local PLACES = {
  "wait", "list", "paused", "list", "failed", "zset", "delayed", "zset", "prioritized", "zset", "completed", "zset",
}

-- The letter that stands in a job's data, or nothing when it is none.
local function read_letter(text)
  local readable, letter = pcall(cjson.decode, text or "")
  if not readable or type(letter) ~= "table" then
    return nil
  end
  for _, name in ipairs(TEXTS) do
    if type(letter[name]) ~= "string" then
      return nil
    end
  end
  if not letter.queue:match("^[^:]+$") or letter.id == "" then
    return nil
  end
  return letter
end

local function options_of(letter)
  local readable, opts = pcall(cjson.decode, letter.opts)
  return readable and type(opts) == "table" and opts or {}
end

-- The job itself is still in failed: it is put back where it is, with its log and what its children returned.
local function put_back(queue, letter)
  local code, wrong = retry_job(queue, letter.id, "failed", { made = true, started = true })
  if code ~= 0 then
    return nil, wrong or "it is no longer failed"
  end
  redis.call("HDEL", queue.prefix .. letter.id, "stc")
  return letter.id
end

local function add_again(queue, letter, id, now_text)
  if not id then
    repeat
      id = string.format("%.0f", redis.call("INCR", queue.prefix .. "id"))
    until redis.call("EXISTS", queue.prefix .. id) == 0
  end
  local opts = options_of(letter)
  local priority = type(opts.priority) == "number" and math.max(opts.priority, 0) or 0
  local job = {
    id = id, key = queue.prefix .. id, name = letter.name, data = letter.data, opts = letter.opts,
    timestamp = now_text, delay = "0", priority = string.format("%.0f", priority), lifo = opts.lifo == true,
  }
  store_job(queue, job)
  keep_max_events(queue)
  place_job(queue, job)
  return id
end

-- What is to be done in `queue`: "back", or "add" with an id or none; else nothing and why it may not be done.
local function plan_of(queue, letter, at_home)
  local key = queue.prefix .. letter.id
  local own = not letter.id:match("^%d+$") and letter.id or nil
  local trouble = queue.trouble or wrong_waiting_types(queue)
    or first_wrong_type({ queue.prefix .. "failed", "zset", queue.prefix .. "id", "string", key, "hash" })
  if trouble then
    return nil, trouble
  end
  if redis.call("EXISTS", key) == 0 then
    return "add", own
  end
  local timestamp = tonumber(letter.timestamp)
  if at_home and timestamp and tonumber(redis.call("HGET", key, "timestamp") or "") == timestamp then
    if redis.call("ZSCORE", queue.prefix .. "failed", letter.id) then
      return "back"
    end
    return nil, "the job itself is no longer failed"
  elseif own then
    return nil, "another job has the id " .. letter.id .. " there"
  end
  return "add"
end

-- Where a letter stands that nobody works on.
local function place_of(dead, id)
  for i = 1, #PLACES, 2 do
    local key, kind = dead.prefix .. PLACES[i], PLACES[i + 1]
    if not wrong_type(key, kind) then
      local found
      if kind == "zset" then
        found = redis.call("ZSCORE", key, id)
      else
        found = redis.call("LPOS", key, id, "RANK", -1)
      end
      if found then
        return PLACES[i], kind
      end
    end
  end
  return nil
end

local function take_out(dead, id, place, kind)
  if kind == "zset" then
    redis.call("ZREM", dead.prefix .. place, id)
  else
    redis.call("LREM", dead.prefix .. place, -1, id)
  end
  delete_job(dead.prefix .. id)
  keep_max_events(dead)
  redis.call("XADD", dead.prefix .. "events", "MAXLEN", "~", dead.max_events, "*",
    "event", "removed", "jobId", id, "prev", place)
end

-- `place` is the list in which the letter stands last, or nil when that has to be found out.
-- Returns the queue's name and the job's id; or nil and why the letter is left as it is.
local function replay(dead, id, to, now_text, place)
  local key = dead.prefix .. id
  if redis.call("TYPE", key).ok ~= "hash" then
    return nil, "there is no such letter"
  end
  local letter = read_letter(redis.call("HGET", key, "data"))
  if not letter then
    return nil, "it is no dead letter"
  end
  local name = to or letter.queue
  local prefix = dead.prefix:match("^(.*:)[^:]*:$") .. name .. ":"
  if prefix == dead.prefix then
    return nil, "its job is one of this very queue"
  end
  local kind = "list"
  if not place then
    place, kind = place_of(dead, id)
  end
  if not place or redis.call("EXISTS", key .. ":lock") == 1 then
    return nil, "a worker has taken it"
  end
  local queue = open_queue(prefix)
  local what, own = plan_of(queue, letter, name == letter.queue)
  if not what then
    return nil, own
  end
  local job_id, refusal
  if what == "back" then
    job_id, refusal = put_back(queue, letter)
  else
    job_id = add_again(queue, letter, own, now_text)
  end
  if not job_id then
    return nil, refusal
  end
  wake(queue)
  take_out(dead, id, place, kind)
  return name, job_id
end
