--[[
  replayDeadLetters: let the jobs that some dead letters tell of wait again, and remove these letters.

  A job that is still in failed is put back as it is, its attempts forgotten; else it is added anew from the
  letter, under the id it was given by who added it or under a new number. A letter whose job cannot wait is left
  as it is; in a slice of a list it goes to the back, so that the next slice comes to others.

  KEYS[1]      meta  HASH    of the queue of dead letters

  ARGV[1..2]   prefix of its keys, now in milliseconds
  ARGV[3]      the queue that gets the jobs, or empty for the one that each came from
  ARGV[4]      wait or paused: the letters that stand first there; or empty: the letters named below
  ARGV[5]      how many of the list at most; fewer when they are large
  ARGV[6..]    letters by id

  Derives      every key of the queue of dead letters, and of the queues whose jobs they tell of
  Returns      four texts a letter: its id, the queue, the job's id or empty, why it was left
  Events       removed of the letter; of the job added, waiting
  Cost         O(letters); a letter named by its id: O(waiting letters)
]]
--- include lib/queue
--- include lib/parent
--- include lib/store
--- include lib/place
--- include lib/retention
--- include lib/retry
--- include lib/replay
local LARGE = 262144 -- bytes of letters, after which a slice ends

local dead = open_queue(ARGV[1])
local to = ARGV[3] ~= "" and ARGV[3] or nil
local results = {}

local function take(id, place)
  local ran, name, said = pcall(replay, dead, id, to, ARGV[2], place)
  if not ran then
    local refused = refused_to_all(text_of(name))
    if refused then
      return false, refused
    end
    name, said = nil, text_of(name)
  end
  results[#results + 1] = id
  results[#results + 1] = name or ""
  results[#results + 1] = name and said or ""
  results[#results + 1] = name and "" or said
  return name ~= nil
end

if ARGV[4] == "" then
  for i = 6, #ARGV do
    local _, refused = take(ARGV[i])
    if refused then
      return { err = refused }
    end
  end
  return results
end

local key, bytes = dead.prefix .. ARGV[4], 0
if wrong_type(key, "list") then
  return { err = "WRONGTYPE " .. wrong_type(key, "list") }
end
for _ = 1, tonumber(ARGV[5]) do
  local id = redis.call("LINDEX", key, -1)
  if not id or bytes > LARGE then
    break
  end
  local size = redis.pcall("HSTRLEN", dead.prefix .. id, "data")
  bytes = bytes + (type(size) == "number" and size or 0)
  local taken, refused = take(id, ARGV[4])
  if refused then
    return { err = refused }
  elseif not taken then
    redis.call("RPOPLPUSH", key, key)
  end
end
return results
