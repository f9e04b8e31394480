-- stacktrace: the field of that name, a JSON array with one entry for each failed attempt, oldest first.

-- `stored` with `entry` (JSON text) behind it, or none; at most the newest `limit` stay, all without a limit.
-- Whatever was stored, the answer is an array.
local function push_stack(stored, entry, limit)
  local whole = stored and stored:match("^%s*%[(.*)%]%s*$")
  local empty = not whole or not whole:find("%S")
  if not limit then
    if not entry then
      return empty and "[]" or stored
    end
    return empty and ("[" .. entry .. "]") or ("[" .. whole .. "," .. entry .. "]")
  end
  local kept = {}
  pcall(function()
    for _, old in ipairs(cjson.decode(empty and "[]" or stored)) do
      kept[#kept + 1] = cjson.encode(old)
    end
  end)
  kept[#kept + 1] = entry
  -- Joined by hand: cjson writes an empty list as an object.
  return "[" .. table.concat(kept, ",", math.max(#kept - limit + 1, 1)) .. "]"
end
