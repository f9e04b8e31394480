-- record: a job's hash as a row of the reply.

-- In the row. Behind the seventh place stands what few jobs have; a row without any of it ends there.
local COMMON, ALL, DEFERRED = 7, 15, 11

-- Any job's row; nothing of a hash that is no job's.
local function read_row(stored, id)
  local places = {
    name = 2, data = 3, opts = 4, timestamp = 5, priority = 6, ats = 7,
    atm = 8, attemptsMade = 9, stc = 10, defa = 11, parent = 12, rjk = 13, ["ox:crashes"] = 14, ["ox:bigger"] = 15,
  }
  local row, last = { id, false, false, false, false, false, false }, COMMON
  for i = 1, #stored, 2 do
    local place = places[stored[i]]
    if place then
      row[place] = stored[i + 1]
      last = place > COMMON and ALL or last
    end
  end
  if not row[2] and not row[3] and not row[4] then
    return nil
  end
  for place = COMMON + 1, last do
    row[place] = row[place] or false
  end
  return row
end

-- The row; or nothing and why the job cannot be used.
local function read_job(key, id)
  -- All of the hash: of what HMGET were asked for most is not there, and each such field costs more than one that is.
  local stored = redis.pcall("HGETALL", key)
  if stored.err then
    return nil, "its key is not a hash"
  end
  -- Added and never begun, by the order in which BullMQ and we write its hash: most are such when they are taken.
  if #stored == 12 and stored[1] == "name" and stored[3] == "data" and stored[5] == "opts"
    and stored[7] == "timestamp" and stored[9] == "delay" and stored[11] == "priority" then
    return { id, stored[2], stored[4], stored[6], stored[8], stored[12], false }
  end
  local row = read_row(stored, id)
  return row, not row and "it has no hash" or nil
end
