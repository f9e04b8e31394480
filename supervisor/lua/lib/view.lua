-- view: one queue as the scripts see it.
-- A `queue` is a table: prefix, two of its keys (active, events), paused, concurrency, max, duration, max_events,
-- unset_max_events, and trouble when its meta is no hash: nothing is taken from it then, but what is under way
-- can end.

local DEFAULT_MAX_EVENTS = "10000"

local function open_queue(prefix)
  local meta = redis.pcall("HMGET", prefix .. "meta",
    "paused", "concurrency", "max", "duration", "opts.maxLenEvents")
  if meta.err then
    return {
      prefix = prefix, active = prefix .. "active", events = prefix .. "events",
      paused = false, max_events = DEFAULT_MAX_EVENTS,
      trouble = "the key " .. prefix .. "meta is not a hash",
    }
  end
  local max_events = meta[5]
  if not max_events or not max_events:match("^%d+$") then
    max_events = DEFAULT_MAX_EVENTS
  end
  return {
    prefix = prefix,
    active = prefix .. "active",
    events = prefix .. "events",
    paused = meta[1] ~= false,
    concurrency = tonumber(meta[2]),
    max = tonumber(meta[3]),
    duration = tonumber(meta[4]),
    max_events = max_events,
    unset_max_events = not meta[5],
  }
end

-- Not part of open_queue: as a script's first write it would be refused when memory is short.
local function keep_max_events(queue)
  if queue.unset_max_events then
    redis.call("HSET", queue.prefix .. "meta", "opts.maxLenEvents", queue.max_events)
    queue.unset_max_events = false
  end
end

-- Types are looked at before the first write, because an error in the middle leaves half a job behind.
local known_types = {}

-- nil when `key` is absent or of the wanted type, else a sentence.
local function wrong_type(key, wanted)
  local found = known_types[key]
  if found == nil then
    found = redis.call("TYPE", key).ok
    known_types[key] = found
  end
  if found == "none" or found == wanted then
    return nil
  end
  return "the key " .. key .. " is a " .. found .. ", not a " .. wanted
end
