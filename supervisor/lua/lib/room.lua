-- room: no more jobs wait than a producer allows (`max_waiting`). Needs lib/queue.
-- A bulk of several calls is promised its room by the first, in the hash ox:room: token to how many are still
-- to come and until when, so that all of its jobs are added or none.

local PROMISED_FOR_S = 60

local function promised(key, now)
  local sum = 0
  local entries = redis.call("HGETALL", key)
  for i = 1, #entries, 2 do
    local count, until_s = entries[i + 1]:match("^(%d+) (%d+)$")
    if count and tonumber(until_s) > now then
      sum = sum + tonumber(count)
    else
      redis.call("HDEL", key, entries[i]) -- its producer never came back
    end
  end
  return sum
end

-- `wish`: most, token, needed (jobs of this call and those of the bulk to come; 0 in the calls after the first),
-- here (jobs of this call). nil when there is room, else how many wait.
local function without_room(queue, wish)
  local prefix = queue.prefix
  local key = prefix .. "ox:room"
  if wrong_waiting_types(queue) then
    return nil -- each job is refused for that
  elseif wrong_type(key, "hash") then
    redis.call("DEL", key)
  end
  local now = tonumber(redis.call("TIME")[1])
  local waiting = redis.call("LLEN", prefix .. "wait") + redis.call("LLEN", prefix .. "paused")
    + redis.call("ZCARD", prefix .. "prioritized")
  local to_come
  if wish.needed == 0 then
    local count = (redis.call("HGET", key, wish.token) or ""):match("^(%d+) ")
    if not count then
      return waiting
    end
    to_come = tonumber(count) - wish.here
  else
    waiting = waiting + promised(key, now)
    if waiting + wish.needed > wish.most then
      return waiting
    end
    to_come = wish.needed - wish.here
  end
  if to_come > 0 then
    redis.call("HSET", key, wish.token, string.format("%d %d", to_come, now + PROMISED_FOR_S))
    redis.call("EXPIRE", key, PROMISED_FOR_S)
  elseif wish.needed == 0 then
    redis.call("HDEL", key, wish.token)
  end
  return nil
end
