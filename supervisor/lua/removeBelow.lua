--[[
  removeBelow: a part of the removal of a large flow: some children of one job go away.

  A child that has children of its own is only taken out of its state, so that no worker gets it, and is told
  back: the caller removes what is below it first. Should the caller die, the same removal finds the rest.
  A child that a worker has taken meanwhile, or that another job has got, stays.

  KEYS[1]      meta  HASH
  ARGV[1..2]   prefix of the queue's keys with its last colon, id of the parent
  ARGV[3]      all, pending (failed ones stay) or begin (the job itself is only taken out of its state) or end
               (the job itself, of which nothing below is left, goes)
  ARGV[4]      with end the state it was in
  ARGV[5..]    full keys of children

  Derives      every key of the queue, of the job and of those below it in their own queues
  Returns      with begin the state, false when a worker holds it; with end nothing; else [how many of the keys
               are done, the keys of those that have children...]
  Events       removed of each; waiting of a parent that waited for the last of them
  Cost         O(children x (waiting + active) of their queues), of which a call stops after 100,000
]]
--- include lib/queue
--- include lib/parent
--- include lib/retention
--- include lib/family

local MOST_ELEMENTS = 100000
local job = { prefix = ARGV[1], id = ARGV[2], key = ARGV[1] .. ARGV[2] }
if ARGV[3] == "begin" then
  return not is_locked(job) and take_off(job)
elseif ARGV[3] == "end" then
  return remove_alone(job, fields_of(job), ARGV[4])
end

local function waiting_beside(child)
  local sum = 0
  for _, name in ipairs({ "wait", "paused" }) do
    local key = child.prefix .. name
    if redis.call("TYPE", key).ok == "list" then
      sum = sum + redis.call("LLEN", key)
    end
  end
  return sum
end

local spares_failed = ARGV[3] == "pending"
local groups = spares_failed and PENDING_ONLY or ALL_CHILDREN
local elements, answer = 0, { 0 }
for i = 5, #ARGV do
  local child = child_of(job, ARGV[i])
  local fields = fields_of(child)
  local stays = fields[1] ~= job.key or is_locked(child)
    or (spares_failed and redis.pcall("ZSCORE", child.prefix .. "failed", child.id))
  if not stays and #children_of(child, groups) > 0 then
    answer[#answer + 1] = ARGV[i]
  elseif not stays then
    elements = elements + waiting_beside(child)
    remove_alone(child, fields)
  end
  answer[1] = i - 4
  if elements >= MOST_ELEMENTS then
    break
  end
end
return answer
