-- record: a job's hash as a row of the reply.

-- Places in the row. Behind the seventh stands what few jobs have; a row without any of it ends there.
local PLACES = {
  name = 2, data = 3, opts = 4, timestamp = 5, priority = 6, ats = 7,
  atm = 8, attemptsMade = 9, stc = 10, defa = 11, parent = 12, rjk = 13, ["ox:crashes"] = 14, ["ox:bigger"] = 15,
}
local COMMON, ALL, DEFERRED = 7, 15, 11

-- The row; or nothing and why the job cannot be used.
local function read_job(queue, id)
  -- All of the hash: of what HMGET were asked for most is not there, and each such field costs more than one that is.
  local flat = redis.pcall("HGETALL", queue.prefix .. id)
  if flat.err then
    return nil, "its key is not a hash"
  end
  local row, last = { id, false, false, false, false, false, false }, COMMON
  for i = 1, #flat, 2 do
    local place = PLACES[flat[i]]
    if place then
      row[place] = flat[i + 1]
      last = place > COMMON and ALL or last
    end
  end
  if not row[2] and not row[3] and not row[4] then
    return nil, "it has no hash"
  end
  for place = COMMON + 1, last do
    row[place] = row[place] or false
  end
  return row
end
