-- deduplication: what the end of a job does to its deduplication id (management.md section 2).
-- Needs lib/queue and lib/store.

-- With keepLastIfActive the latest job that was held back becomes a job of its own now.
local function start_next(queue, held_key, owner_key, deduplication, now)
  local held = redis.call("HMGET", held_key, "name", "data", "opts", "jid", "pk", "pd", "pdk", "rjk")
  local readable, opts = pcall(cjson.decode, held[3] or "{}")
  if not held[1] or not held[4] or not readable or type(opts) ~= "table" then
    redis.call("DEL", held_key) -- nothing a job could be made of
    return
  end
  local job = {
    id = held[4], key = queue.prefix .. held[4],
    name = held[1], data = held[2] or "{}", opts = held[3] or "{}", timestamp = now,
    delay = tostring(tonumber(opts.delay) or 0), priority = tostring(tonumber(opts.priority) or 0),
    lifo = opts.lifo == true,
    parent_key = held[5], parent = held[6], scheduler = held[8], deduplication = deduplication,
  }
  redis.call("INCR", queue.prefix .. "id")
  redis.call("SET", owner_key, job.id)
  store_job(queue, job)
  if place_job(queue, job) == "delayed" then
    mark_delay(queue)
  else
    wake(queue)
  end
  if held[7] then
    redis.call("SADD", held[7], job.key)
  end
  redis.call("DEL", held_key)
end

-- A deduplication id with a time to live is left to expire; one without goes with its owner.
local function release_deduplication(queue, id, deduplication, now)
  local owner_key = queue.prefix .. "de:" .. deduplication
  local held_key = queue.prefix .. "dn:" .. deduplication
  local ttl = redis.call("PTTL", owner_key)
  if ttl == 0 or (ttl == -1 and redis.pcall("GET", owner_key) == id) then
    redis.call("DEL", owner_key)
  end
  if redis.call("TYPE", held_key).ok == "hash" then
    start_next(queue, held_key, owner_key, deduplication, now)
  end
end
