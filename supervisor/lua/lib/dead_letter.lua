-- dead_letter: a copy of a job that failed for good, as a job of another queue for somebody to look at.
-- Needs lib/queue, lib/store and lib/stacktrace.
--
-- Data and options are carried as text and never parsed: what made a job fail may be that nobody can.

local DEAD_LETTER_OPTS = '{"attempts":0}'

-- JSON of a text; bytes that are no UTF-8 stay as they are, so that reading gives them back.
local function json_text(text)
  return cjson.encode(text or "")
end

local function json_whole(text)
  return text and text:match("^%-?%d+$") or "0"
end

-- The stack traces as a JSON array of texts, whatever was stored.
local function json_stack(stored)
  local readable, entries = pcall(cjson.decode, stored)
  if not readable or type(entries) ~= "table" then
    return "[" .. json_text(stored) .. "]"
  end
  local texts = {}
  for i, entry in ipairs(entries) do
    texts[i] = json_text(type(entry) == "string" and entry or cjson.encode(entry))
  end
  return "[" .. table.concat(texts, ",") .. "]" -- by hand: cjson writes an empty list as an object
end

-- Fields of our own in the job's hash, as a member of the envelope, or nothing.
local function json_extra(flat)
  local members = {}
  for i = 1, #flat, 2 do
    if flat[i]:sub(1, 3) == "ox:" then
      members[#members + 1] = json_text(flat[i]) .. ":" .. json_text(flat[i + 1])
    end
  end
  return #members > 0 and ',"ox":{' .. table.concat(members, ",") .. "}" or ""
end

local function envelope_of(queue, outcome, flat, attempts_made, now_text)
  local stored = {}
  for i = 1, #flat, 2 do
    stored[flat[i]] = flat[i + 1]
  end
  local stack = push_stack(stored.stacktrace, outcome.stack, outcome.stack_limit)
  return stored.name or "", table.concat({
    '{"queue":', json_text(queue.prefix:match("([^:]*):$")),
    ',"id":', json_text(outcome.id),
    ',"name":', json_text(stored.name),
    ',"data":', json_text(stored.data or "{}"),
    ',"opts":', json_text(stored.opts or "{}"),
    ',"failedReason":', json_text(outcome.text),
    ',"stacktrace":', json_stack(stack),
    ',"attemptsMade":', string.format("%.0f", attempts_made),
    ',"timestamp":', json_whole(stored.timestamp),
    ',"finishedOn":', now_text,
    json_extra(flat), "}",
  })
end

-- Returns nothing, or why there is no copy; then nothing of one is written.
local function copy_to_dead_letters(queue, outcome, attempts_made, now_text)
  local dead = open_queue(outcome.dead_letter)
  local trouble = dead.trouble or wrong_waiting_types(dead) or wrong_type(dead.prefix .. "id", "string")
  if trouble then
    return trouble
  end
  local name, data = envelope_of(queue, outcome, redis.call("HGETALL", outcome.key), attempts_made, now_text)
  local letter = {
    name = name, data = data, opts = DEAD_LETTER_OPTS, timestamp = now_text, delay = "0", priority = "0",
  }
  repeat
    letter.id = string.format("%.0f", redis.call("INCR", dead.prefix .. "id"))
    letter.key = dead.prefix .. letter.id
  until redis.call("EXISTS", letter.key) == 0
  keep_max_events(dead)
  store_job(dead, letter)
  place_job(dead, letter)
  wake(dead)
  return nil
end
