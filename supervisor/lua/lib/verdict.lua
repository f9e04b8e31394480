-- verdict: what is told of an attempt that did not end by its processor's word alone: a record in the hash
-- field ox:verdict, rows in the job's log, and one more in ox:crashes, or ox:bigger: it is run once more, with
-- more memory.
--
-- The field is a JSON array, oldest first, with one record on each line, so that none is parsed to keep it.
-- All of this but ox:bigger is best effort: what is wrong with an earlier record must not keep a job from its
-- end. Without ox:bigger the job would be run with as little memory as before, and so on for ever.

local MOST_RECORDS, MOST_RECORD_BYTES = 5, 32768

-- `stored` with `record` behind it: the newest, as many as have room.
local function push_record(stored, record)
  local old, kept, size = {}, { record }, #record + 4
  for line in (stored or ""):gmatch("{[^\n]*}") do
    old[#old + 1] = line
  end
  for i = #old, 1, -1 do
    size = size + #old[i] + 2
    if #kept == MOST_RECORDS or size > MOST_RECORD_BYTES then
      break
    end
    table.insert(kept, 1, old[i])
  end
  return "[\n" .. table.concat(kept, ",\n") .. "\n]"
end

-- `told` is a JSON array: 1 for a crash, 2 for one more run; how many rows stay (0 for all); the record; rows.
local function keep_verdict(key, told)
  local readable, parts = pcall(cjson.decode, told)
  if not readable then
    return
  end
  if parts[1] == 1 then
    redis.pcall("HINCRBY", key, "ox:crashes", 1)
  elseif parts[1] == 2 then
    redis.call("HSET", key, "ox:bigger", 1)
  end
  local stored = redis.pcall("HGET", key, "ox:verdict")
  redis.pcall("HSET", key, "ox:verdict", push_record(type(stored) == "string" and stored, parts[3]))
  if parts[4] then
    local rows = redis.pcall("RPUSH", key .. ":logs", unpack(parts, 4))
    if type(rows) == "number" and parts[2] > 0 and rows > parts[2] then
      redis.call("LTRIM", key .. ":logs", -parts[2], -1)
    end
  end
end
